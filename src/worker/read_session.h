// ReadSession: ReadBlock (code 81) on one connection.
//
//   state   Open       Running                        Complete           Cancel
//   none    -> open    error                          success            error
//   open    replaced   one chunk, maybe after a seek  success -> none    error
//
// The logical length is the client's: bytes that the block does not have are zeros. A chunk is min(chunk size, rest)
// bytes, sent straight from the buffers it was read into. A reader keeps the generation it opened, whatever happens to
// the block.
//
// Threading: its poller; one frame at a time.
#pragma once

#include <cstdint>
#include <memory>

#include "rpc/frame_stream.h"
#include "worker/session_context.h"

namespace leap {

class ReadSession {
 public:
  ReadSession(SessionContext& context, ClientGate& gate) : context_(context), gate_(gate) {}
  ReadSession(const ReadSession&) = delete;
  ReadSession& operator=(const ReadSession&) = delete;

  /// Does what the frame in `in` asks for. True: it has sent the reply itself. False: the caller sends success, with
  /// the header set in `out`. Any error is the reply, unless in.failed() or out.failed().
  Task<Result<bool>> handle(rpc::FrameReader& in, rpc::FrameWriter& out);
  /// Back to "none".
  void drop() { reader_.reset(); }
  [[nodiscard]] bool idle() const { return reader_ == nullptr; }

 private:
  Task<Result<>> open(rpc::FrameReader& in, rpc::FrameWriter& out);
  Task<Result<>> running(rpc::FrameReader& in, rpc::FrameWriter& out);
  Result<> seek(std::span<const std::byte> header);
  Task<Result<>> send(rpc::FrameReader& in, rpc::FrameWriter& out, std::size_t size);
  Result<> complete(const rpc::FrameReader& in);

  SessionContext& context_;
  ClientGate& gate_;
  std::unique_ptr<BlockReader> reader_;
  std::int64_t req_id_ = 0;
  std::uint64_t length_ = 0;  // logical
  std::uint64_t position_ = 0;
  std::uint32_t chunk_size_ = 0;
};

}  // namespace leap
