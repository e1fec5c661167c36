// TxQueue: the sending half of a stream: many small headers and large payloads leave in one system call, in order.
//
// Headers are copied into the queue; payload is referenced and must stay untouched until its `done` has been called
// (after the kernel has taken the last byte) or the queue has been cleared. Nothing is allocated after construction.
// A full queue refuses: that is the back-pressure.
//
//   if (!tx.can_take(2, sizeof capsule)) return kQueueFull;
//   tx.copy(as_bytes(capsule));
//   tx.reference(payload.bytes(), &request);
//   tx.flush(stream);                          // at the end of the turn
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "poller/net.h"

namespace leap {

/// Told when referenced bytes are no longer needed.
class TxDone {
 public:
  virtual ~TxDone() = default;
  /// The kernel has a copy of everything up to and including this reference. May queue more, but neither clear nor
  /// destroy the queue; a flush() from here is left to the one that is going on.
  virtual void on_sent() = 0;
};

class TxQueue {
 public:
  /// `max_pieces` and `header_bytes` bound what can be queued; header_bytes is rounded up to a power of two.
  explicit TxQueue(std::size_t max_pieces = 1024, std::size_t header_bytes = 64 * 1024);

  /// Room for `pieces` more pieces (a copy counts as two: it may wrap) with `header_bytes` of copies among them?
  [[nodiscard]] bool can_take(std::size_t pieces, std::size_t header_bytes) const;

  void copy(std::span<const std::byte> bytes);
  void reference(std::span<const std::byte> bytes, TxDone* done);

  /// Sends until everything is out or the stream would block. 0: all sent or would block (then empty() says which, and
  /// whoever owns the stream waits for room to write); otherwise -errno, and what was not sent stays queued.
  int flush(Stream& stream);
  [[nodiscard]] bool empty() const { return pieces_used_ == 0; }
  [[nodiscard]] std::size_t bytes_queued() const { return bytes_queued_; }
  [[nodiscard]] std::uint64_t bytes_sent() const { return bytes_sent_; }

  /// Forgets everything queued without calling done: for a stream that is being torn down.
  void clear();

 private:
  struct Piece {
    const std::byte* data;
    std::size_t size;
    TxDone* done;
    bool copied;
  };
  Piece& piece(std::size_t index) {
    const std::size_t at = first_ + index;
    return pieces_[at < pieces_.size() ? at : at - pieces_.size()];
  }
  void push(Piece piece);
  void retire(std::size_t bytes);

  std::vector<Piece> pieces_;  // ring
  std::size_t first_ = 0;
  std::size_t pieces_used_ = 0;
  std::vector<std::byte> headers_;  // ring of copied bytes
  std::size_t header_head_ = 0;     // free-running
  std::size_t header_tail_ = 0;
  std::size_t bytes_queued_ = 0;
  std::uint64_t bytes_sent_ = 0;
  bool flushing_ = false;
};

}  // namespace leap
