#include "poller/tx_queue.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/scope_exit.h"

namespace leap {

TxQueue::TxQueue(std::size_t max_pieces, std::size_t header_bytes)
    : pieces_(max_pieces), headers_(std::bit_ceil(header_bytes)) {}

bool TxQueue::can_take(std::size_t pieces, std::size_t header_bytes) const {
  return pieces_.size() - pieces_used_ >= pieces && headers_.size() - (header_head_ - header_tail_) >= header_bytes;
}

void TxQueue::push(Piece added) {
  bytes_queued_ += added.size;
  if (pieces_used_ > 0) {
    // Adjacent copies go out as one piece.
    Piece& last = piece(pieces_used_ - 1);
    if (added.copied && last.copied && last.done == nullptr && last.data + last.size == added.data) {
      last.size += added.size;
      return;
    }
  }
  LEAP_CHECK(pieces_used_ < pieces_.size(), "transmit queue overrun: can_take() was not asked");
  piece(pieces_used_++) = added;
}

void TxQueue::copy(std::span<const std::byte> bytes) {
  LEAP_CHECK(headers_.size() - (header_head_ - header_tail_) >= bytes.size(),
             "transmit queue overrun: can_take() was not asked");
  while (!bytes.empty()) {
    const std::size_t at = header_head_ & (headers_.size() - 1);
    const std::size_t count = std::min(bytes.size(), headers_.size() - at);
    std::memcpy(headers_.data() + at, bytes.data(), count);
    push({headers_.data() + at, count, nullptr, true});
    header_head_ += count;
    bytes = bytes.subspan(count);
  }
}

void TxQueue::reference(std::span<const std::byte> bytes, TxDone* done) {
  push({bytes.data(), bytes.size(), done, false});
}

int TxQueue::flush(Stream& stream) {
  constexpr std::size_t kMaxIov = 256;
  // retire() may be in the middle of pieces that are sent already: sending now would send them twice.
  if (flushing_) return 0;
  flushing_ = true;
  const auto done = defer([this] { flushing_ = false; });
  for (;;) {
    retire(0);  // references to nothing need no system call
    if (pieces_used_ == 0) return 0;
    std::array<iovec, kMaxIov> iov;
    const std::size_t count = std::min(pieces_used_, kMaxIov);
    std::size_t offered = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Piece& next = piece(i);
      iov[i] = {const_cast<std::byte*>(next.data), next.size};
      offered += next.size;
    }
    const ssize_t sent = stream.writev(iov.data(), static_cast<int>(count));
    if (sent == -EINTR) continue;
    if (sent == -EAGAIN) return 0;
    if (sent < 0) return static_cast<int>(sent);
    retire(static_cast<std::size_t>(sent));
    // A short write means the socket buffer is full: asking again would only cost a system call.
    if (static_cast<std::size_t>(sent) < offered) return 0;
  }
}

/// Takes `bytes` off the front, and whatever is empty behind them.
void TxQueue::retire(std::size_t bytes) {
  bytes_sent_ += bytes;
  bytes_queued_ -= bytes;
  while (pieces_used_ > 0) {
    Piece& front = piece(0);
    const std::size_t part = std::min(bytes, front.size);
    front.data += part;
    front.size -= part;
    bytes -= part;
    if (front.copied) header_tail_ += part;
    if (front.size > 0) return;
    TxDone* done = front.done;
    if (++first_ == pieces_.size()) first_ = 0;
    --pieces_used_;
    if (done != nullptr) done->on_sent();  // may queue more: behind everything that is retired here
  }
}

void TxQueue::clear() {
  first_ = pieces_used_ = 0;
  header_head_ = header_tail_ = 0;
  bytes_queued_ = 0;
}

}  // namespace leap
