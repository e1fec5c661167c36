// FrameReader and FrameWriter: frames over an AsyncStream, for the tasks of sessions and clients.
//
//   rpc::FrameReader in(*stream, limits);
//   rpc::FrameWriter out(*stream);
//   for (;;) {
//     LEAP_CO_TRY(const bool more, co_await in.next());
//     if (!more) break;                                          // the peer closed
//     LEAP_CO_TRY_VOID(co_await in.read_data(destination));      // the payload, straight into its place
//     out.set_message(response);
//     out.add_data(chunk);
//     LEAP_CO_TRY_VOID(co_await out.send(rpc::reply_head(in.head(), rpc::ResponseStatus::kSuccess)));
//   }
//
// Threading: the stream's poller; one task reads, one writes. The stream outlives both objects.
// Memory: a header buffer that grows with the bytes that have arrived, never with the bytes that were announced, and
// shrinks again before the next frame. Frames without a large header allocate nothing after warm-up.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <span>
#include <vector>

#include "poller/async_stream.h"
#include "rpc/frame.h"
#include "rpc/messages.h"

namespace leap::rpc {

/// Bounds the memory of all large headers of a process together. Any thread.
class HeaderBudget {
 public:
  explicit HeaderBudget(std::size_t bytes) : free_(bytes) {}
  [[nodiscard]] bool try_take(std::size_t bytes);
  void give(std::size_t bytes) { free_.fetch_add(bytes, std::memory_order_relaxed); }
  [[nodiscard]] std::size_t available() const { return free_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::size_t> free_;
};

class FrameReader {
 public:
  /// Header memory that a reader keeps for the next frame; what goes beyond is charged to the budget.
  static constexpr std::size_t kKeptHeader = 64 * 1024;

  explicit FrameReader(AsyncStream& stream, FrameLimits limits = {}, HeaderBudget* budget = nullptr)
      : stream_(stream), limits_(limits), budget_(budget) {}
  ~FrameReader() { release_header(); }
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  /// Reads the prefix and header of the next frame; the data of the previous one must have been consumed (CHECK).
  /// False: the peer closed, before the frame or inside its prefix. Errors: kProtocol (see decode_prefix), kExhausted
  /// (the header budget), kClosed inside the header, kTimedOut, os. After an error only closing is left.
  Task<Result<bool>> next(TimePoint deadline = TimePoint::max());

  // Valid until the next next().
  [[nodiscard]] const FrameHead& head() const { return head_; }
  [[nodiscard]] std::span<const std::byte> header() const { return {header_.data(), head_.header_size}; }
  /// Data bytes of this frame not yet taken off the stream.
  [[nodiscard]] std::size_t data_left() const { return data_left_; }
  /// A read has failed: only closing is left.
  [[nodiscard]] bool failed() const { return failed_; }

  /// Fills `out` from the frame's data; at most data_left() bytes (CHECK). Errors: kClosed, kTimedOut, os.
  Task<Result<>> read_data(std::span<std::byte> out, TimePoint deadline = TimePoint::max());
  /// Throws the rest of the frame's data away, so that the connection stays in step.
  Task<Result<>> skip_data(TimePoint deadline = TimePoint::max());

 private:
  Task<Result<bool>> next_frame(TimePoint deadline);
  Task<Result<>> read_header(std::size_t size, TimePoint deadline);
  [[nodiscard]] bool grow_header(std::size_t size);
  void release_header();

  AsyncStream& stream_;
  const FrameLimits limits_;
  HeaderBudget* const budget_;
  FrameHead head_;
  std::size_t data_left_ = 0;
  std::size_t charged_ = 0;  // taken from the budget
  bool failed_ = false;
  std::array<std::byte, kPrefixSize> prefix_;
  std::vector<std::byte> header_;
  std::vector<std::byte> discard_;
};

class FrameWriter {
 public:
  explicit FrameWriter(AsyncStream& stream);
  FrameWriter(const FrameWriter&) = delete;
  FrameWriter& operator=(const FrameWriter&) = delete;

  // What the next frame carries. Without these calls it has neither header nor data.
  void set_message(const google::protobuf::MessageLite& message);
  /// References `bytes`, which stay untouched until send() is done. Order of calls is order on the wire.
  void add_data(std::span<const std::byte> bytes);
  [[nodiscard]] std::size_t data_size() const { return data_size_; }
  /// Forgets header and data that were set.
  void clear();

  /// Sends the frame, prefix, header and data in one system call if the socket takes them; sizes in `head` are filled
  /// in. Errors: kClosed, kTimedOut, os. After an error the stream is out of step: close it.
  Task<Result<>> send(FrameHead head, TimePoint deadline = TimePoint::max());
  /// For data that is not all in memory at once: the prefix announces `total` bytes, of which those added so far are
  /// sent. The rest must follow through add_data() and send_more(), or the connection must be closed.
  Task<Result<>> send_first(FrameHead head, std::size_t total, TimePoint deadline = TimePoint::max());
  Task<Result<>> send_more(TimePoint deadline = TimePoint::max());
  /// A send has failed, or announced data is missing: only closing is left.
  [[nodiscard]] bool failed() const { return failed_ || owed_ > 0; }

 private:
  AsyncStream& stream_;
  std::vector<std::byte> lead_;  // prefix and header
  std::vector<iovec> pieces_;    // the first one is lead_
  std::size_t data_size_ = 0;
  std::size_t owed_ = 0;  // announced and not sent yet
  bool failed_ = false;
};

}  // namespace leap::rpc
