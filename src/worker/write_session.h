// WriteSession: WriteBlock (code 80) on one connection.
//
//   state        Open          Running              Complete               Cancel
//   none         -> open       error                by the header alone    by the header alone
//   open         replaced      write, seek, flush   finalize -> none       abort -> none
//   failed       replaced      error                error                  abort -> none
//   aborted      replaced      error                error                  success -> none
//   taken over   replaced      error                error                  error
//
// open: has the block's writer. failed: a Running went wrong, so the block must not be committed. aborted: a Complete
// with an impossible length has dropped what was written; repeating that as a Cancel must not delete a committed block.
// taken over: another connection has opened the block since. Replaced or disconnected sessions abort nothing: the store
// keeps what they wrote for its grace time.
//
// Threading: its poller; one frame at a time, except that yield_writer() may come in between.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "rpc/frame_stream.h"
#include "worker/session_context.h"

namespace leap {

class WriteSession final : private WriterRegistry::Owner {
 public:
  /// `stream` is closed when its client falls silent in the middle of a frame while another one wants the block.
  WriteSession(SessionContext& context, ClientGate& gate, AsyncStream& stream)
      : context_(context),
        gate_(gate),
        stream_(stream),
        hang_up_timer_(context.poller.timers(), &WriteSession::hang_up, this) {}
  ~WriteSession() override;
  WriteSession(const WriteSession&) = delete;
  WriteSession& operator=(const WriteSession&) = delete;

  /// Does what the frame in `in` asks for; sets the header of a success reply in `out`. What it does not read of the
  /// frame's data is the caller's to skip. Any error is the reply, unless in.failed().
  Task<Result<>> handle(rpc::FrameReader& in, rpc::FrameWriter& out);
  /// Back to "none". Returns when others can open the block.
  Task<void> drop();
  [[nodiscard]] bool idle() const { return state_ == State::kNone; }

 private:
  enum class State : std::uint8_t { kNone, kOpen, kFailed, kAborted, kTakenOver };

  Task<Result<>> open(rpc::FrameReader& in, rpc::FrameWriter& out);
  Task<Result<>> open_block(BlockId id, StoreSet::OpenWrite options, const std::optional<ResizeRequest>& resize);
  Task<Result<StoreSet::OpenedWriter>> acquire(BlockId id, StoreSet::OpenWrite options);
  Task<Result<>> running(rpc::FrameReader& in);
  Task<Result<>> write(rpc::FrameReader& in);
  Task<Result<>> receive(rpc::FrameReader& in);
  Task<Result<>> complete(rpc::FrameReader& in);
  Task<Result<>> commit(BlockId id, std::int64_t length, std::int64_t capacity);
  Task<Result<>> cancel(rpc::FrameReader& in);
  [[nodiscard]] Result<> check_request(const rpc::FrameReader& in) const;
  [[nodiscard]] Result<> check_usable() const;

  void yield_writer() override;
  void forget_writer();
  void let_go();
  static void hang_up(void* self);
  [[nodiscard]] TimePoint now() const { return context_.poller.clock().now(); }

  SessionContext& context_;
  ClientGate& gate_;
  AsyncStream& stream_;
  State state_ = State::kNone;
  std::int64_t req_id_ = 0;
  BlockId id_{};
  StorageType type_ = StorageType::kDisk;
  std::unique_ptr<BlockWriter> writer_;               // kOpen and kFailed
  Result<> failure_;                                  // kFailed: what went wrong first
  std::optional<std::pair<BlockId, Error>> spoiled_;  // a failed session that was dropped: not to be completed by id
  bool serving_ = false;                              // a request is in progress
  bool yield_ = false;                                // let go of the writer when it is over
  bool awaiting_data_ = false;                        // of a frame, from the client
  Timer hang_up_timer_;
  Nanos receiving_{0};  // time of this request spent waiting for the client's data
};

}  // namespace leap
