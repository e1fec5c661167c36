#include "store/allocator.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"

namespace leap {
namespace {

constexpr bool aligned(std::uint64_t value) { return value % BdevOffsetAllocator::kGranularity == 0; }

std::string name(Extent extent) { return fmt::format("[{}, {})", extent.device_offset, extent.end()); }

Error broken(std::string what) {
  return Error(Errc::kCorrupt, "allocator: " + std::move(what)).in(ErrorDomain::kStore);
}

}  // namespace

BdevOffsetAllocator::BdevOffsetAllocator(Config config) : config_(config), cursor_(config.begin) {
  LEAP_CHECK(aligned(config.begin) && aligned(config.end) && config.begin < config.end,
             fmt::format("data area [{}, {})", config.begin, config.end));
}

std::uint64_t BdevOffsetAllocator::usable_free() const {
  const std::uint64_t free = listed_ + (config_.end - cursor_);
  if (config_.limit == 0) return free;
  const std::uint64_t allocated = (config_.end - config_.begin) - free;
  return allocated >= config_.limit ? 0 : std::min(free, config_.limit - allocated);
}

Error BdevOffsetAllocator::no_space(std::uint64_t bytes, const char* why) const {
  return Error(Errc::kNoSpace,
               fmt::format("allocate {}: {}; {} free, {} of it reserved, largest free extent {}", format_bytes(bytes),
                           why, format_bytes(usable_free()), format_bytes(reserved_), format_bytes(largest())))
      .in(ErrorDomain::kStore);
}

Result<> BdevOffsetAllocator::admit(const Request& request, std::uint64_t bytes) const {
  if (request.bytes == 0 || bytes < request.bytes) {
    return Error(Errc::kInvalidArgument, fmt::format("allocate {} bytes", request.bytes)).in(ErrorDomain::kStore);
  }
  const std::uint64_t covered = std::min({request.from_reservation, bytes, reserved_});
  const std::uint64_t free = usable_free();
  const std::uint64_t promised_to_others = reserved_ - covered;
  if (bytes > free) return no_space(bytes, "the device is full");
  if (bytes > free - std::min(free, promised_to_others))
    return no_space(bytes, "the rest is reserved for open writers");
  return {};
}

std::uint64_t BdevOffsetAllocator::largest() const {
  const std::uint64_t listed = by_size_.empty() ? 0 : by_size_.rbegin()->first;
  return std::max(listed, config_.end - cursor_);
}

void BdevOffsetAllocator::insert_free(std::uint64_t offset, std::uint64_t length) {
  by_offset_.emplace(offset, length);
  by_size_.emplace(length, offset);
  listed_ += length;
}

void BdevOffsetAllocator::erase_free(ByOffset::iterator range) {
  by_size_.erase({range->second, range->first});
  listed_ -= range->second;
  by_offset_.erase(range);
}

Extent BdevOffsetAllocator::take_from(ByOffset::iterator range, std::uint64_t bytes) {
  const auto [offset, length] = *range;
  erase_free(range);
  if (length > bytes) insert_free(offset + bytes, length - bytes);
  return {offset, bytes};
}

Extent BdevOffsetAllocator::take_from_cursor(std::uint64_t bytes) {
  const Extent taken{cursor_, bytes};
  cursor_ += bytes;
  return taken;
}

bool BdevOffsetAllocator::take_one(std::uint64_t bytes, std::uint64_t hint, Extent& out) {
  const bool room_at_cursor = config_.end - cursor_ >= bytes;
  if (hint != 0) {
    if (hint == cursor_ && room_at_cursor) {
      out = take_from_cursor(bytes);
      return true;
    }
    const auto behind = by_offset_.find(hint);
    if (behind != by_offset_.end() && behind->second >= bytes) {
      out = take_from(behind, bytes);
      return true;
    }
  }
  // The smallest range that fits; among those of exactly this size, the next one behind the hint.
  auto fit = by_size_.lower_bound({bytes, hint});
  if (fit == by_size_.end() || fit->first > bytes) fit = by_size_.lower_bound({bytes, 0});
  if (fit != by_size_.end()) {
    out = take_from(by_offset_.find(fit->second), bytes);
    return true;
  }
  if (!room_at_cursor) return false;
  out = take_from_cursor(bytes);
  return true;
}

void BdevOffsetAllocator::account(std::uint64_t bytes, std::uint64_t from_reservation) {
  reserved_ -= std::min({from_reservation, bytes, reserved_});
}

Result<Extent> BdevOffsetAllocator::allocate(const Request& request) {
  const std::uint64_t bytes = page_round_up(request.bytes);
  const std::lock_guard lock(mutex_);
  LEAP_TRY_VOID(admit(request, bytes));
  Extent extent;
  if (!take_one(bytes, request.hint, extent)) return no_space(bytes, "no single extent is large enough");
  account(bytes, request.from_reservation);
  return extent;
}

Extent BdevOffsetAllocator::take_largest(std::uint64_t at_most) {
  const std::uint64_t bump = config_.end - cursor_;
  if (by_size_.empty() || bump > by_size_.rbegin()->first) return take_from_cursor(std::min(at_most, bump));
  const auto range = by_offset_.find(by_size_.rbegin()->second);
  return take_from(range, std::min(at_most, range->second));
}

Result<std::vector<Extent>> BdevOffsetAllocator::allocate_many(const Request& request, std::size_t max_extents) {
  const std::uint64_t bytes = page_round_up(request.bytes);
  std::vector<Extent> taken;
  const std::lock_guard lock(mutex_);
  LEAP_TRY_VOID(admit(request, bytes));
  std::uint64_t missing = bytes;
  std::uint64_t hint = request.hint;
  while (missing > 0) {
    Extent extent;
    if (taken.size() == max_extents) {
      for (const Extent& back : taken) put_back(back);
      return no_space(bytes, "free space is in too many pieces");
    }
    // admit() has seen enough free bytes, so there is always a largest range to take.
    if (!take_one(missing, hint, extent)) extent = take_largest(missing);
    missing -= extent.length;
    hint = extent.end();
    taken.push_back(extent);
  }
  account(bytes, request.from_reservation);
  return taken;
}

std::uint64_t BdevOffsetAllocator::extend(std::uint64_t at, const Request& request) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t covered = std::min(request.from_reservation, reserved_);
  const std::uint64_t free = usable_free();
  const std::uint64_t admitted = free - std::min(free, reserved_ - covered);
  std::uint64_t bytes = std::min(page_round_up(request.bytes), admitted);
  if (at == cursor_) {
    bytes = std::min(bytes, config_.end - cursor_);
    take_from_cursor(bytes);
  } else {
    const auto behind = by_offset_.find(at);
    if (behind == by_offset_.end()) return 0;
    bytes = std::min(bytes, behind->second);
    if (bytes != 0) take_from(behind, bytes);
  }
  account(bytes, request.from_reservation);
  return bytes;
}

void BdevOffsetAllocator::put_back(Extent extent) {
  auto after = by_offset_.lower_bound(extent.device_offset);
  if (after != by_offset_.end() && after->first == extent.end()) {
    extent.length += after->second;
    const auto merged = after++;
    erase_free(merged);
  }
  if (after != by_offset_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == extent.device_offset) {
      extent = {before->first, before->second + extent.length};
      erase_free(before);
    }
  }
  if (extent.end() == cursor_) {
    cursor_ = extent.device_offset;
    return;
  }
  insert_free(extent.device_offset, extent.length);
}

Result<> BdevOffsetAllocator::free(Extent extent) {
  const std::lock_guard lock(mutex_);
  if (extent.length == 0 || !aligned(extent.device_offset) || !aligned(extent.length)) {
    return broken("free " + name(extent) + ": not a whole number of pages");
  }
  if (extent.device_offset < config_.begin || extent.end() < extent.device_offset || extent.end() > cursor_) {
    return broken(fmt::format("free {}: outside the allocated range [{}, {})", name(extent), config_.begin, cursor_));
  }
  const auto after = by_offset_.lower_bound(extent.device_offset);
  if (after != by_offset_.end() && after->first < extent.end()) {
    return broken("free " + name(extent) + ": overlaps the free range " + name({after->first, after->second}));
  }
  if (after != by_offset_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second > extent.device_offset) {
      return broken("free " + name(extent) + ": overlaps the free range " + name({before->first, before->second}));
    }
  }
  put_back(extent);
  return {};
}

Result<> BdevOffsetAllocator::reserve(std::uint64_t bytes) {
  bytes = page_round_up(bytes);
  const std::lock_guard lock(mutex_);
  const std::uint64_t free = usable_free();
  if (bytes > free - std::min(free, reserved_)) {
    return Error(Errc::kNoSpace, fmt::format("reserve {}: {} free, {} of it reserved for open writers",
                                             format_bytes(bytes), format_bytes(free), format_bytes(reserved_)))
        .in(ErrorDomain::kStore);
  }
  reserved_ += bytes;
  return {};
}

void BdevOffsetAllocator::unreserve(std::uint64_t bytes) {
  bytes = page_round_up(bytes);
  const std::lock_guard lock(mutex_);
  LEAP_CHECK(bytes <= reserved_, fmt::format("unreserve {} of {}", bytes, reserved_));
  reserved_ -= bytes;
}

BdevOffsetAllocator::Stats BdevOffsetAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  const std::uint64_t area = config_.end - config_.begin;
  const std::uint64_t free = listed_ + (config_.end - cursor_);
  Stats stats;
  stats.allocated = area - free;
  stats.free = usable_free();
  stats.capacity = stats.allocated + stats.free;
  stats.reserved = reserved_;
  stats.largest_free = std::min(largest(), stats.free);
  stats.free_ranges = by_offset_.size();
  if (free != 0) stats.fragmentation = 1.0 - static_cast<double>(largest()) / static_cast<double>(free);
  return stats;
}

BdevOffsetAllocator::Snapshot BdevOffsetAllocator::snapshot() const {
  const std::lock_guard lock(mutex_);
  Snapshot snapshot{cursor_, {}};
  snapshot.free.reserve(by_offset_.size());
  for (const auto& [offset, length] : by_offset_) snapshot.free.push_back({offset, length});
  return snapshot;
}

Result<> BdevOffsetAllocator::restore(const Snapshot& snapshot) {
  if (!aligned(snapshot.cursor) || snapshot.cursor < config_.begin || snapshot.cursor > config_.end) {
    return broken(
        fmt::format("restore: cursor {} is not a page of [{}, {}]", snapshot.cursor, config_.begin, config_.end));
  }
  std::uint64_t previous_end = 0;  // of the range before; ranges that touch should have been one
  for (const Extent& range : snapshot.free) {
    if (range.length == 0 || !aligned(range.device_offset) || !aligned(range.length) ||
        range.device_offset < config_.begin || range.end() < range.device_offset || range.end() >= snapshot.cursor) {
      return broken(
          fmt::format("restore: free range {} does not fit before the cursor {}", name(range), snapshot.cursor));
    }
    if (previous_end != 0 && range.device_offset <= previous_end) {
      return broken(
          fmt::format("restore: free range {} overlaps or touches the one that ends at {}", name(range), previous_end));
    }
    previous_end = range.end();
  }
  const std::lock_guard lock(mutex_);
  by_offset_.clear();
  by_size_.clear();
  listed_ = reserved_ = 0;
  cursor_ = snapshot.cursor;
  for (const Extent& range : snapshot.free) insert_free(range.device_offset, range.length);
  return {};
}

Result<> BdevOffsetAllocator::rebuild(std::span<const Extent> allocated) {
  Snapshot state{config_.begin, {}};
  Extent previous{config_.begin, 0};
  for (const Extent& extent : allocated) {
    if (extent.length == 0 || !aligned(extent.device_offset) || !aligned(extent.length) ||
        extent.device_offset < config_.begin || extent.end() < extent.device_offset || extent.end() > config_.end) {
      return broken(fmt::format("rebuild: extent {} is not inside [{}, {}) or not aligned", name(extent), config_.begin,
                                config_.end));
    }
    if (extent.device_offset < previous.end()) {
      return broken("rebuild: extent " + name(extent) + " overlaps " + name(previous));
    }
    if (extent.device_offset > previous.end()) {
      state.free.push_back({previous.end(), extent.device_offset - previous.end()});
    }
    previous = extent;
    state.cursor = extent.end();
  }
  return restore(state);
}

Result<> BdevOffsetAllocator::verify() const {
  const std::lock_guard lock(mutex_);
  if (by_offset_.size() != by_size_.size()) return broken("the two indexes differ in size");
  std::uint64_t sum = 0;
  std::uint64_t previous_end = 0;
  for (const auto& [offset, length] : by_offset_) {
    if (!by_size_.contains({length, offset})) return broken(name({offset, length}) + " is in one index only");
    if (length == 0 || !aligned(offset) || !aligned(length)) return broken(name({offset, length}) + " is not aligned");
    if (offset < config_.begin || offset + length >= cursor_)
      return broken(name({offset, length}) + " is out of range");
    if (previous_end != 0 && offset <= previous_end) return broken(name({offset, length}) + " touches its neighbour");
    previous_end = offset + length;
    sum += length;
  }
  if (sum != listed_) return broken(fmt::format("{} bytes listed, {} counted", listed_, sum));
  return {};
}

}  // namespace leap
