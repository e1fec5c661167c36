// PageMap: which logical pages of a block live where on the device. Sorted, disjoint, merged where adjacent in both
// spaces.
//
//   logical   0        16K      24K              64K
//             |  e0    |  hole  |       e1       |
//   device    @1M               @9M
//
// Everything is a multiple of kStorePage. Lookup is O(log n) in the number of extents, appending at the end O(1).
//
// Threading: a value type; const use from any thread.
//
//   map.assign({.logical_offset = 0, .device_offset = 1 << 20, .length = 16384});
//   PageMap::Run run = map.at(8192, 65536);      // mapped, device 1 MiB + 8 KiB, 8 KiB long
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "store/types.h"

namespace leap {

class PageMap {
 public:
  /// A stretch that is either all mapped and contiguous on the device, or all hole.
  struct Run {
    std::uint64_t length = 0;
    std::optional<std::uint64_t> device_offset;  ///< nothing: a hole
  };

  PageMap() = default;
  /// Takes extents that are valid as decode_block_record() checks them: ascending, disjoint, aligned.
  explicit PageMap(std::vector<MappedExtent> extents) : extents_(std::move(extents)) {}

  [[nodiscard]] const std::vector<MappedExtent>& extents() const { return extents_; }
  [[nodiscard]] bool empty() const { return extents_.empty(); }
  [[nodiscard]] std::uint64_t mapped_bytes() const;
  /// One past the last mapped byte; 0 when empty.
  [[nodiscard]] std::uint64_t logical_end() const { return extents_.empty() ? 0 : extents_.back().logical_end(); }

  /// The run that starts at `logical`, at most `max` bytes long (max > 0).
  [[nodiscard]] Run at(std::uint64_t logical, std::uint64_t max) const;

  /// Maps extent, replacing what was there.
  void assign(MappedExtent extent);
  /// Unmaps everything from `logical` on.
  void truncate(std::uint64_t logical);
  /// assign() of every extent of `other`.
  void overlay(const PageMap& other);
  void clear() { extents_.clear(); }

  friend bool operator==(const PageMap&, const PageMap&) = default;

 private:
  [[nodiscard]] std::vector<MappedExtent>::const_iterator first_ending_after(std::uint64_t logical) const;

  std::vector<MappedExtent> extents_;
};

/// The device ranges of `map`, ascending by device offset.
std::vector<Extent> device_ranges(const PageMap& map);

/// What of `from` is not in `minus`; both ascending and disjoint.
std::vector<Extent> subtract(std::span<const Extent> from, std::span<const Extent> minus);

/// Sorts and merges extents that touch. They must not overlap.
void normalize(std::vector<Extent>& extents);

}  // namespace leap
