#include "store/page_map.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"

namespace leap {
namespace {

// Appends to a list that is being built in order, merging what continues the last one in both spaces.
void append_merged(std::vector<MappedExtent>& to, const MappedExtent& extent) {
  if (!to.empty()) {
    MappedExtent& last = to.back();
    if (last.logical_end() == extent.logical_offset && last.device_offset + last.length == extent.device_offset) {
      last.length += extent.length;
      return;
    }
  }
  to.push_back(extent);
}

}  // namespace

std::vector<MappedExtent>::const_iterator PageMap::first_ending_after(std::uint64_t logical) const {
  return std::partition_point(extents_.begin(), extents_.end(),
                              [logical](const MappedExtent& e) { return e.logical_end() <= logical; });
}

std::uint64_t PageMap::mapped_bytes() const {
  std::uint64_t sum = 0;
  for (const MappedExtent& extent : extents_) sum += extent.length;
  return sum;
}

PageMap::Run PageMap::at(std::uint64_t logical, std::uint64_t max) const {
  const auto it = first_ending_after(logical);
  if (it == extents_.end()) return {max, std::nullopt};
  if (it->logical_offset > logical) return {std::min(max, it->logical_offset - logical), std::nullopt};
  return {std::min(max, it->logical_end() - logical), it->device_offset + (logical - it->logical_offset)};
}

void PageMap::assign(MappedExtent extent) {
  LEAP_CHECK(extent.length != 0 && extent.logical_offset % kStorePage == 0 && extent.device_offset % kStorePage == 0 &&
                 extent.length % kStorePage == 0,
             fmt::format("map {}+{} to {}", extent.logical_offset, extent.length, extent.device_offset));
  if (extent.logical_offset >= logical_end()) {
    append_merged(extents_, extent);
    return;
  }
  const auto first = first_ending_after(extent.logical_offset) - extents_.begin();
  auto last = first;
  const auto count = static_cast<std::ptrdiff_t>(extents_.size());
  // The neighbour on each side takes part too: it may merge.
  while (last < count && extents_[static_cast<std::size_t>(last)].logical_offset < extent.logical_end()) ++last;
  const auto from = first > 0 ? first - 1 : first;
  const auto to = last < count ? last + 1 : last;
  std::vector<MappedExtent> pieces;
  bool placed = false;
  for (auto i = from; i < to; ++i) {
    const MappedExtent& old = extents_[static_cast<std::size_t>(i)];
    if (old.logical_offset < extent.logical_offset) {
      const std::uint64_t kept = std::min(old.length, extent.logical_offset - old.logical_offset);
      append_merged(pieces, {old.logical_offset, old.device_offset, kept});
    }
    if (!placed && old.logical_end() > extent.logical_offset) {
      append_merged(pieces, extent);
      placed = true;
    }
    if (old.logical_end() > extent.logical_end()) {
      const std::uint64_t start = std::max(old.logical_offset, extent.logical_end());
      append_merged(pieces, {start, old.device_offset + (start - old.logical_offset), old.logical_end() - start});
    }
  }
  const auto at = extents_.erase(extents_.begin() + from, extents_.begin() + to);
  extents_.insert(at, pieces.begin(), pieces.end());
}

void PageMap::truncate(std::uint64_t logical) {
  const auto it = first_ending_after(logical);
  const auto index = static_cast<std::size_t>(it - extents_.begin());
  if (index == extents_.size()) return;
  if (extents_[index].logical_offset >= logical) {
    extents_.resize(index);
    return;
  }
  extents_[index].length = logical - extents_[index].logical_offset;
  extents_.resize(index + 1);
}

void PageMap::overlay(const PageMap& other) {
  for (const MappedExtent& extent : other.extents_) assign(extent);
}

void normalize(std::vector<Extent>& extents) {
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.device_offset < b.device_offset; });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if (kept != 0 && extents[kept - 1].end() == extents[i].device_offset)
      extents[kept - 1].length += extents[i].length;
    else
      extents[kept++] = extents[i];
  }
  extents.resize(kept);
}

std::vector<Extent> device_ranges(const PageMap& map) {
  std::vector<Extent> ranges;
  ranges.reserve(map.extents().size());
  for (const MappedExtent& extent : map.extents()) ranges.push_back(extent.device());
  normalize(ranges);
  return ranges;
}

std::vector<Extent> subtract(std::span<const Extent> from, std::span<const Extent> minus) {
  std::vector<Extent> left;
  std::size_t m = 0;
  for (const Extent& extent : from) {
    std::uint64_t at = extent.device_offset;
    while (m < minus.size() && minus[m].end() <= at) ++m;
    for (std::size_t i = m; i < minus.size() && minus[i].device_offset < extent.end(); ++i) {
      if (minus[i].device_offset > at) left.push_back({at, minus[i].device_offset - at});
      at = std::max(at, minus[i].end());
    }
    if (at < extent.end()) left.push_back({at, extent.end() - at});
  }
  return left;
}

}  // namespace leap
