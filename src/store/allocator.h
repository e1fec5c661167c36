// BdevOffsetAllocator: who owns which bytes of the data area of a device.
//
//   begin                         cursor                      end
//   |AAAA..AA....AAAAAAA..AAAAAAAA|...........................|
//        ^^  ^^^^       ^^  free list         bump space
//
// The cursor is the end of the highest allocated extent: space behind it is taken in order; space freed before it goes
// to a free list held in two indexes (by offset for coalescing, by size for best fit). A freed extent that touches the
// cursor moves the cursor down, so two allocators with the same allocated bytes are in the same state. Everything is
// O(log n) in the number of free ranges, never in the number of blocks.
//
// Placement: directly behind `hint` if that is free (a growing block stays in one piece), else the smallest range that
// fits, else the bump space. allocate_many() falls back to several extents, so it succeeds whenever enough bytes are
// free.
//
// Reservations are accounting: bytes promised to open writers, not yet placed. Others' promises can't be allocated
// away.
//
// Units: bytes, all multiples of kGranularity. Threading: any thread; one mutex, held for O(log n). Never does I/O.
//
//   BdevOffsetAllocator space({.begin = 1 << 20, .end = 1 << 30});
//   LEAP_TRY(Extent e, space.allocate({.bytes = 128 * 1024, .hint = previous.end()}));
//   space.free(e);
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "store/types.h"

namespace leap {

class BdevOffsetAllocator {
 public:
  static constexpr std::uint64_t kGranularity = kStorePage;
  static constexpr std::size_t kMaxExtentsPerRequest = 64;

  struct Config {
    std::uint64_t begin = 0;  ///< first byte of the data area
    std::uint64_t end = 0;    ///< one past the last
    std::uint64_t limit = 0;  ///< bytes that may be allocated at a time; 0: all of them
  };

  struct Request {
    std::uint64_t bytes = 0;             ///< > 0
    std::uint64_t hint = 0;              ///< preferred device offset: the end of the block's last extent; 0: none
    std::uint64_t from_reservation = 0;  ///< how many of the bytes the caller has reserved before: consumed on success
  };

  struct Stats {
    std::uint64_t capacity = 0;
    std::uint64_t allocated = 0;
    std::uint64_t reserved = 0;
    std::uint64_t free = 0;
    std::uint64_t largest_free = 0;
    std::uint64_t free_ranges = 0;  ///< on the free list, the bump space not counted
    double fragmentation = 0;       ///< 1 - largest_free / all free bytes; 0 when full
  };

  /// The whole state: what is before the cursor and not in `free` is allocated.
  struct Snapshot {
    std::uint64_t cursor = 0;
    std::vector<Extent> free;  ///< ascending, not touching each other or the cursor
    friend bool operator==(const Snapshot&, const Snapshot&) = default;
  };

  /// CHECKs that the area is aligned and not empty.
  explicit BdevOffsetAllocator(Config config);

  /// One extent of exactly request.bytes (rounded up to the granularity). kNoSpace names the largest free extent.
  Result<Extent> allocate(const Request& request);
  /// As few extents as possible, at most `max_extents`, together exactly request.bytes; all or nothing.
  Result<std::vector<Extent>> allocate_many(const Request& request, std::size_t max_extents = kMaxExtentsPerRequest);
  /// Grows an allocated extent that ends at `at` in place, by at most request.bytes. The bytes gained, possibly 0.
  std::uint64_t extend(std::uint64_t at, const Request& request);

  /// Gives back a whole extent or any part of one. kCorrupt (and nothing changes) when a byte of it is not allocated.
  Result<> free(Extent extent);

  /// Promises `bytes`; kNoSpace when more is promised than is free.
  Result<> reserve(std::uint64_t bytes);
  void unreserve(std::uint64_t bytes);

  [[nodiscard]] Stats stats() const;
  [[nodiscard]] Snapshot snapshot() const;

  /// Replaces the state by a snapshot after checking it (order, bounds, alignment, coalescing). Reservations are
  /// dropped.
  Result<> restore(const Snapshot& snapshot);
  /// Replaces the state by "exactly these are allocated", given in ascending order. An overlap names both extents.
  Result<> rebuild(std::span<const Extent> allocated);

  /// Proves the invariants that the two indexes and the counters must hold; for tests and fsck. O(n).
  [[nodiscard]] Result<> verify() const;

 private:
  using ByOffset = std::map<std::uint64_t, std::uint64_t>;  // offset -> length

  [[nodiscard]] std::uint64_t usable_free() const;
  [[nodiscard]] Result<> admit(const Request& request, std::uint64_t bytes) const;
  [[nodiscard]] std::uint64_t largest() const;
  void insert_free(std::uint64_t offset, std::uint64_t length);
  void erase_free(ByOffset::iterator range);
  Extent take_from(ByOffset::iterator range, std::uint64_t bytes);
  Extent take_from_cursor(std::uint64_t bytes);
  [[nodiscard]] bool take_one(std::uint64_t bytes, std::uint64_t hint, Extent& out);
  Extent take_largest(std::uint64_t at_most);
  void put_back(Extent extent);
  void account(std::uint64_t bytes, std::uint64_t from_reservation);
  [[nodiscard]] Error no_space(std::uint64_t bytes, const char* why) const;

  const Config config_;
  mutable std::mutex mutex_;
  std::uint64_t cursor_;
  std::uint64_t listed_ = 0;  // bytes on the free list
  std::uint64_t reserved_ = 0;
  ByOffset by_offset_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_size_;  // (length, offset)
};

}  // namespace leap
