#include "poller/rx_buffer.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace leap {

RxBuffer::Filled RxBuffer::fill(Stream& stream, std::span<std::byte> direct, std::size_t buffered_max) {
  LEAP_CHECK(direct.empty() || begin_ == end_, "direct receive while buffered bytes come first");
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (begin_ > 0 && storage_.size() - end_ <= storage_.size() / 4) {
    std::memmove(storage_.data(), storage_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  iovec iov[2];
  int count = 0;
  if (!direct.empty()) iov[count++] = {direct.data(), direct.size()};
  const std::size_t room = std::min(storage_.size() - end_, buffered_max);
  if (room > 0) iov[count++] = {storage_.data() + end_, room};
  LEAP_CHECK(count > 0, "receive buffer is full: the parser must bound what it waits for");
  Filled filled;
  filled.asked = direct.size() + room;
  filled.total = stream.readv(iov, count);
  if (filled.total > 0) {
    const auto received = static_cast<std::size_t>(filled.total);
    filled.direct = std::min(received, direct.size());
    end_ += received - filled.direct;
    filled.drained = received < filled.asked;
  }
  return filled;
}

void RxBuffer::consume(std::size_t count) {
  LEAP_CHECK(count <= end_ - begin_, fmt::format("consume {} of {} received bytes", count, end_ - begin_));
  begin_ += count;
}

std::size_t RxBuffer::copy_out(std::span<std::byte> out) {
  const std::size_t count = std::min(out.size(), end_ - begin_);
  if (count > 0) std::memcpy(out.data(), storage_.data() + begin_, count);
  begin_ += count;
  return count;
}

}  // namespace leap
