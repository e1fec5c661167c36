// AsyncStream: a Stream for tasks: read exactly, write all, with deadlines. Used by sessions and clients, whose
// protocols are request and reply; queue pairs, which pipeline, drive RxBuffer and TxQueue themselves.
//
//   LEAP_CO_TRY(auto stream, co_await AsyncStream::connect(poller, Net::system(), address, poller.now() + 5s));
//   LEAP_CO_TRY_VOID(co_await stream->write_all(pieces));
//   LEAP_CO_TRY(const bool more, co_await stream->read_exact(header));   // false: the peer closed, cleanly, before
//   byte one
//
// A task that always finds its bytes there does not keep the poller to itself: after about a megabyte a turn it waits
// for the next one. With nobody reading, up to a buffer is read ahead, so that the end of the stream is noticed.
//
// Threading: one poller. At most one reading and one writing task at a time. Destroy it only when neither is suspended
// in it, or together with them. After an error or a passed deadline the position in the stream is unknown: close.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "poller/net.h"
#include "poller/rx_buffer.h"

namespace leap {

class AsyncStream final : private Pollable {
 public:
  static constexpr std::size_t kDefaultReceiveBuffer = 64 * 1024;

  /// For a stream that an Acceptor returned. Error: os (the poller cannot watch it).
  static Result<std::unique_ptr<AsyncStream>> open(NvmePoller& poller, std::unique_ptr<Stream> stream);
  ~AsyncStream() override;

  /// Errors: kUnreachable/os (refused, no route), kTimedOut.
  static Task<Result<std::unique_ptr<AsyncStream>>> connect(NvmePoller& poller, Net& net, SocketAddress address,
                                                            TimePoint deadline);

  /// Fills `out`. False: end of stream before its first byte. Errors: kClosed (end of stream inside), os, kTimedOut.
  Task<Result<bool>> read_exact(std::span<std::byte> out, TimePoint deadline = TimePoint::max());
  /// Reads at least `min` bytes and at most out.size(), returns how many; 0: end of stream before the first. For
  /// protocols without lengths. `min` must be in 1..out.size(). Errors as above.
  Task<Result<std::size_t>> read_some(std::span<std::byte> out, std::size_t min = 1,
                                      TimePoint deadline = TimePoint::max());
  /// Sends all pieces in order; `pieces` is consumed. Their memory must stay untouched until the task is done.
  Task<Result<>> write_all(std::span<iovec> pieces, TimePoint deadline = TimePoint::max());

  /// Ends both directions now; suspended readers and writers go on with kClosed.
  void close();
  [[nodiscard]] bool closed() const { return stream_ == nullptr; }
  [[nodiscard]] std::string peer() const { return peer_; }
  /// True once the peer has been seen to close or to fail; data received before it can still be read.
  [[nodiscard]] bool end_seen() const { return end_of_stream_; }

 private:
  // What a suspended task waits for, in its frame (async_stream.cc).
  class Operation;
  class ReadOperation;
  class WriteOperation;
  class ConnectOperation;

  AsyncStream(NvmePoller& poller, std::unique_ptr<Stream> stream, std::size_t receive_buffer, bool connected);

  std::size_t poll() override;
  std::size_t progress(Operation* operation);
  std::size_t read_ahead();
  /// One fill of the receive buffer; keeps how the stream ended. True: bytes came, or the end did.
  bool receive(std::span<std::byte> direct, RxBuffer::Filled& filled);
  [[nodiscard]] Interest interest() const;
  void update_interest();
  /// Counts work done in this turn; false when it was this stream's share.
  bool spend(std::size_t bytes);
  [[nodiscard]] Error read_error() const;

  NvmePoller& poller_;
  std::unique_ptr<Stream> stream_;
  std::string peer_;
  RxBuffer rx_;
  Operation* reading_ = nullptr;  // suspended; at most one each
  Operation* writing_ = nullptr;  // a connecting task waits here too
  bool connected_ = true;
  bool attached_ = false;
  bool end_of_stream_ = false;
  int receive_errno_ = 0;  // how it ended, if not cleanly
  int watch_errno_ = 0;    // the poller could not watch it
  std::uint64_t turn_ = 0;
  std::size_t spent_ = 0;  // in that turn
};

}  // namespace leap
