#include "bdev/chunked_channel.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>

#include "base/mutation.h"

namespace leap {
namespace {

constexpr std::size_t kBounceSize = 64 * 1024;

/// Gives the turn back when the task is over, however it ends.
class ScopedRelease {
 public:
  explicit ScopedRelease(AsyncSemaphore& semaphore) : semaphore_(semaphore) {}
  ScopedRelease(const ScopedRelease&) = delete;
  ScopedRelease& operator=(const ScopedRelease&) = delete;
  ~ScopedRelease() { semaphore_.release(); }

 private:
  AsyncSemaphore& semaphore_;
};

/// A power of two, like the block size, and so a multiple of it, halved or not.
std::size_t bounce_size(const BlockDeviceInfo& info) {
  return std::max<std::size_t>(std::bit_floor(std::min<std::size_t>(kBounceSize, info.optimal_io)), info.block_size);
}

/// The error of an operation that failed in one of its steps: "not executed" only when no step has changed the device.
Error whole_error(Error error, bool changed) {
  if (changed) return std::move(error).maybe_executed();
  return error;
}

}  // namespace

ChunkedChannel::ChunkedChannel(NvmePoller& poller, DmaPool& pool, const BlockDeviceInfo& info, RangeLock& lock,
                               std::uint32_t memory_alignment)
    : poller_(poller),
      pool_(pool),
      info_(info),
      lock_(lock),
      memory_alignment_(memory_alignment),
      bounce_turn_(poller, 1) {}

Result<> ChunkedChannel::check_range(const char* operation, std::uint64_t offset, std::uint64_t length) const {
  if (inside(offset, length)) return {};
  return Error(Errc::kInvalidArgument, fmt::format("{} {} bytes at {} on {}: the device has {} bytes", operation,
                                                   length, offset, info_.name, info_.size));
}

Task<Result<DmaBuf>> ChunkedChannel::read(std::uint64_t offset, DmaBuf buffer) {
  if (fits(offset, buffer)) return read_aligned(offset, std::move(buffer));
  return aligned(offset, buffer) ? read_split(offset, std::move(buffer)) : read_unaligned(offset, std::move(buffer));
}

Task<Result<>> ChunkedChannel::write(std::uint64_t offset, DmaBuf data, Sharing sharing) {
  if (sharing == Sharing::kShared || !aligned(offset, data)) return write_locked(offset, std::move(data));
  return fits(offset, data) ? write_aligned(offset, std::move(data)) : write_split(offset, std::move(data));
}

Task<void> ChunkedChannel::read_part(ChunkedChannel& self, std::uint64_t offset, DmaBuf part, Result<>& outcome) {
  Result<DmaBuf> read = co_await self.read_aligned(offset, std::move(part));
  if (!read.ok() && outcome.ok()) outcome = std::move(read).error();
}

Task<void> ChunkedChannel::write_part(ChunkedChannel& self, std::uint64_t offset, DmaBuf part, Parts& parts) {
  Result<> written = co_await self.write_aligned(offset, std::move(part));
  parts.changed = parts.changed || written.ok() || written.error().may_have_executed();
  if (written.ok() || LEAP_MUTATION(failed_part_forgotten)) co_return;
  const bool retryable = written.error().retryable() && (parts.outcome.ok() || parts.outcome.error().retryable());
  if (parts.outcome.ok()) parts.outcome = std::move(written).error();
  parts.outcome = Error(parts.outcome.error()).retryable_if(retryable);
}

Task<Result<DmaBuf>> ChunkedChannel::read_split(std::uint64_t offset, DmaBuf buffer) {
  LEAP_CO_TRY_VOID(check_range("read", offset, buffer.size()));
  Result<> outcome;
  TaskGroup parts(poller_);
  for (std::size_t at = 0; at < buffer.size(); at += info_.optimal_io) {
    const std::size_t length = std::min<std::size_t>(info_.optimal_io, buffer.size() - at);
    parts.spawn(read_part(*this, offset + at, buffer.slice(at, length), outcome));
  }
  co_await parts.wait();
  if (!outcome.ok()) co_return std::move(outcome).error();
  co_return std::move(buffer);
}

Task<Result<>> ChunkedChannel::write_split(std::uint64_t offset, DmaBuf data) {
  LEAP_CO_TRY_VOID(check_range("write", offset, data.size()));
  Parts parts;
  TaskGroup writing(poller_);
  for (std::size_t at = 0; at < data.size(); at += info_.optimal_io) {
    const std::size_t length = std::min<std::size_t>(info_.optimal_io, data.size() - at);
    writing.spawn(write_part(*this, offset + at, data.slice(at, length), parts));
  }
  co_await writing.wait();
  if (!parts.outcome.ok()) co_return whole_error(std::move(parts.outcome).error(), parts.changed);
  co_return Result<>{};
}

Result<DmaBuf> ChunkedChannel::take_bounce() {
  if (bounce_.valid()) return std::move(bounce_);
  // Not kept yet, or lost to an I/O whose end nobody knows. A small one is slow, but better than an error.
  for (std::size_t size = bounce_size(info_); size >= info_.block_size; size /= 2) {
    if (auto buffer = pool_.try_allocate(size)) return std::move(*buffer);
  }
  return Error(Errc::kExhausted, fmt::format("unaligned I/O on {}: no bounce buffer free", info_.name))
      .retryable_if(true);
}

void ChunkedChannel::keep_bounce(DmaBuf bounce) {
  if (bounce.size() == bounce_size(info_)) bounce_ = std::move(bounce);
}

Task<Result<DmaBuf>> ChunkedChannel::read_unaligned(std::uint64_t offset, DmaBuf buffer) {
  LEAP_CO_TRY_VOID(check_range("read", offset, buffer.size()));
  if (buffer.size() == 0) co_return std::move(buffer);
  co_await bounce_turn_.acquire();
  const ScopedRelease turn(bounce_turn_);
  LEAP_CO_TRY(DmaBuf bounce, take_bounce());
  const std::uint64_t end = offset + buffer.size();
  for (std::uint64_t begin = round_down(offset); begin < end;) {
    const std::uint64_t window = std::min<std::uint64_t>(bounce.size(), round_up(end) - begin);
    Result<DmaBuf> read = co_await read_aligned(begin, bounce.slice(0, window));
    if (!read.ok()) co_return std::move(read).error();
    const std::uint64_t from = std::max(begin, offset);
    const std::uint64_t to = std::min(begin + window, end);
    std::memcpy(buffer.data() + (from - offset), bounce.data() + (from - begin), to - from);
    begin += window;
  }
  keep_bounce(std::move(bounce));
  co_return std::move(buffer);
}

Task<Result<>> ChunkedChannel::write_locked(std::uint64_t offset, DmaBuf data) {
  LEAP_CO_TRY_VOID(check_range("write", offset, data.size()));
  if (data.size() == 0) co_return Result<>{};
  RangeLock::Guard guard(lock_, poller_, round_down(offset), round_up(offset + data.size()));
  co_await guard;
  if (fits(offset, data)) {
    Result<> written = co_await write_aligned(offset, std::move(data));
    co_return written;
  }
  if (aligned(offset, data)) {
    Result<> written = co_await write_split(offset, std::move(data));
    co_return written;
  }
  Result<> written = co_await modify(offset, data.size(), data.data());
  co_return written;
}

Task<Result<DmaBuf>> ChunkedChannel::fill_edges(std::uint64_t begin, std::uint64_t end, std::uint64_t keep_before,
                                                std::uint64_t keep_after, DmaBuf bounce) {
  // [begin, end) is one window in whole device blocks; what lies before keep_before and after keep_after must survive.
  const std::uint64_t block = info_.block_size;
  if (keep_before > begin) {
    Result<DmaBuf> head = co_await read_aligned(begin, bounce.slice(0, block));
    if (!head.ok()) co_return std::move(head).error();
  }
  const bool tail_read_already = keep_before > begin && (end - begin == block || LEAP_MUTATION(tail_block_not_read));
  if (keep_after < end && !tail_read_already) {
    Result<DmaBuf> tail = co_await read_aligned(end - block, bounce.slice(end - begin - block, block));
    if (!tail.ok()) co_return std::move(tail).error();
  }
  co_return std::move(bounce);
}

Task<Result<>> ChunkedChannel::modify(std::uint64_t offset, std::uint64_t length, const std::byte* source) {
  co_await bounce_turn_.acquire();
  const ScopedRelease turn(bounce_turn_);
  LEAP_CO_TRY(DmaBuf bounce, take_bounce());
  const std::uint64_t end = offset + length;
  const std::uint64_t first = round_down(offset);
  for (std::uint64_t begin = first; begin < end;) {
    const std::uint64_t window_end = begin + std::min<std::uint64_t>(bounce.size(), round_up(end) - begin);
    const std::uint64_t from = std::max(begin, offset);
    const std::uint64_t to = std::min(window_end, end);
    Result<DmaBuf> filled = co_await fill_edges(begin, window_end, from, to, std::move(bounce));
    // Reading changes nothing; the windows before have.
    if (!filled.ok()) co_return whole_error(std::move(filled).error().maybe_executed(false), begin > first);
    bounce = std::move(filled).value();
    std::byte* const into = bounce.data() + (from - begin);
    if (source != nullptr)
      std::memcpy(into, source + (from - offset), to - from);
    else
      std::memset(into, 0, to - from);
    Result<> written = co_await write_aligned(begin, bounce.slice(0, window_end - begin));
    if (!written.ok()) co_return whole_error(std::move(written).error(), begin > first);
    begin = window_end;
  }
  keep_bounce(std::move(bounce));
  co_return Result<>{};
}

Task<Result<>> ChunkedChannel::discard(std::uint64_t offset, std::uint64_t length) {
  LEAP_CO_TRY_VOID(check_range("discard", offset, length));
  // Only whole blocks can go; a partial one still holds somebody's bytes.
  const std::uint64_t begin = round_up(offset);
  const std::uint64_t end = round_down(offset + length);
  if (begin >= end || !info_.supports_discard) co_return Result<>{};
  Result<> discarded = co_await discard_aligned(begin, end - begin);
  co_return discarded;
}

Task<Result<>> ChunkedChannel::write_zeroes(std::uint64_t offset, std::uint64_t length) {
  LEAP_CO_TRY_VOID(check_range("write zeroes", offset, length));
  if (length == 0) co_return Result<>{};
  RangeLock::Guard guard(lock_, poller_, round_down(offset), round_up(offset + length));
  co_await guard;
  Result<> zeroed = co_await zero_range(offset, length);
  co_return zeroed;
}

Task<Result<>> ChunkedChannel::write_plain_zeroes(std::uint64_t offset, std::uint64_t length) {
  co_await bounce_turn_.acquire();
  const ScopedRelease turn(bounce_turn_);
  LEAP_CO_TRY(DmaBuf zeros, take_bounce());
  std::memset(zeros.data(), 0, zeros.size());
  for (std::uint64_t at = 0; at < length;) {
    const std::uint64_t part = std::min<std::uint64_t>(zeros.size(), length - at);
    Result<> written = co_await write_aligned(offset + at, zeros.slice(0, part));
    if (!written.ok()) co_return whole_error(std::move(written).error(), at > 0);
    at += part;
  }
  keep_bounce(std::move(zeros));
  co_return Result<>{};
}

Task<Result<>> ChunkedChannel::zero_range(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t begin = round_up(offset);
  const std::uint64_t end = round_down(offset + length);
  if (begin > end) {  // inside one block
    Result<> inside = co_await modify(offset, length, nullptr);
    co_return inside;
  }
  bool changed = false;
  if (offset < begin) {
    LEAP_CO_TRY_VOID(co_await modify(offset, begin - offset, nullptr));
    changed = true;
  }
  if (end < offset + length) {
    Result<> tail = co_await modify(end, offset + length - end, nullptr);
    if (!tail.ok()) co_return whole_error(std::move(tail).error(), changed);
    changed = true;
  }
  if (begin < end) {
    Result<> inner = co_await write_zeroes_aligned(begin, end - begin);
    if (!inner.ok()) co_return whole_error(std::move(inner).error(), changed);
  }
  co_return Result<>{};
}

}  // namespace leap
