// RxBuffer: the receiving half of a stream: few, large reads, and payload straight into its destination.
//
// fill() does one readv. When the parser already knows that the next `direct` bytes are payload, it passes their
// destination: they land there without a copy, and whatever follows on the stream lands in the buffer.
//
//   const auto filled = rx.fill(stream);
//   if (filled.total > 0) rx.consume(parse(rx.data()));     // again only if !filled.drained
//
// Threading: one poller. Allocates only at construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "poller/net.h"

namespace leap {

class RxBuffer {
 public:
  explicit RxBuffer(std::size_t capacity) : storage_(capacity) {}

  struct Filled {
    ssize_t total = 0;       ///< bytes read, 0 at end of stream, or -errno
    std::size_t direct = 0;  ///< of these, into the direct destination
    std::size_t asked = 0;   ///< bytes there was room for
    bool drained = false;    ///< fewer came than that: asking again now would only say "would block"
  };

  /// One readv into `direct` (only when data() is empty, or bytes would overtake each other) and then the free space,
  /// of which at most `buffered_max` bytes are used: little when large payload is expected, which had better land in
  /// place.
  Filled fill(Stream& stream, std::span<std::byte> direct = {}, std::size_t buffered_max = SIZE_MAX);

  /// What has been received and not consumed, contiguous. Valid until the next fill().
  [[nodiscard]] std::span<const std::byte> data() const { return {storage_.data() + begin_, end_ - begin_}; }
  void consume(std::size_t count);
  /// Moves up to out.size() bytes out of the buffer; returns how many.
  std::size_t copy_out(std::span<std::byte> out);
  [[nodiscard]] std::size_t capacity() const { return storage_.size(); }

 private:
  std::vector<std::byte> storage_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace leap
