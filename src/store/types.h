// The words of the store: block ids, extents, what is known about a block and about the space of a device.
//
// Value types, no I/O, no threads. Offsets and lengths are bytes unless a name says pages; a page is kPageSize.
//
//   BlockInfo info = store.stat(BlockId{42}).value();     // state, committed length, capacity, generation
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/strong_id.h"
#include "base/uuid.h"

namespace leap {

/// Curvine's block id: an opaque positive number that the master never reuses for other data.
using BlockId = StrongId<struct BlockIdTag, std::int64_t>;

/// The unit of allocation, of checksums and of copy-on-write.
inline constexpr std::uint64_t kStorePage = 4096;
/// The largest block a client may open (the master's own limit).
inline constexpr std::uint64_t kMaxBlockCapacity = 100ULL << 30;

constexpr std::uint64_t pages_for(std::uint64_t bytes) { return (bytes + kStorePage - 1) / kStorePage; }
constexpr std::uint64_t page_round_up(std::uint64_t bytes) { return pages_for(bytes) * kStorePage; }

/// A contiguous piece of the device.
struct Extent {
  std::uint64_t device_offset = 0;
  std::uint64_t length = 0;

  [[nodiscard]] constexpr std::uint64_t end() const { return device_offset + length; }
  friend constexpr bool operator==(const Extent&, const Extent&) = default;
};

/// Where [logical_offset, logical_offset + length) of a block lives. What no mapped extent covers is a hole: zeros.
struct MappedExtent {
  std::uint64_t logical_offset = 0;
  std::uint64_t device_offset = 0;
  std::uint64_t length = 0;

  [[nodiscard]] constexpr std::uint64_t logical_end() const { return logical_offset + length; }
  [[nodiscard]] constexpr Extent device() const { return {device_offset, length}; }
  friend constexpr bool operator==(const MappedExtent&, const MappedExtent&) = default;
};

enum class BlockState : std::uint8_t {
  kWriting,    ///< never committed: not readable, gone after a restart
  kFinalized,  ///< has a committed generation (which stays readable while it is being rewritten)
};
std::string_view to_string(BlockState state);

struct BlockInfo {
  BlockId id;
  BlockState state = BlockState::kWriting;
  std::uint64_t length = 0;           ///< committed length; kWriting: the bytes written so far
  std::uint64_t capacity = 0;         ///< as given by the last open
  std::uint64_t generation = 0;       ///< commit sequence number of the committed generation; 0: none
  std::uint64_t allocated_bytes = 0;  ///< of the committed generation
  bool rewriting = false;             ///< kFinalized with an uncommitted rewrite
  bool damaged = false;               ///< a read of it failed its checksum in this run
};

/// The space of one device (or the sum over several). free + allocated == capacity.
struct SpaceInfo {
  std::uint64_t capacity = 0;   ///< bytes that blocks can use, metadata areas excluded
  std::uint64_t allocated = 0;  ///< bytes in extents, including draining and quarantined ones
  std::uint64_t reserved = 0;   ///< promised to open writers and not allocated yet
  std::uint64_t free = 0;       ///< not allocated
  std::uint64_t available = 0;  ///< what the next open may ask for: free - reserved - set aside by configuration
  std::uint64_t largest_free_extent = 0;
  std::uint64_t draining =
      0;  ///< allocated, owned by nobody, may still be written by a lost command: back after a restart
  std::uint64_t quarantined = 0;  ///< allocated, claimed by damaged metadata
  std::uint64_t blocks = 0;       ///< finalized
  std::uint64_t blocks_writing = 0;
  double fragmentation = 0;  ///< 0: all free space in one piece; towards 1: in dust
};

/// Curvine's storage types, with its numbers.
enum class StorageType : std::uint8_t { kMem = 0, kSsd = 1, kHdd = 2, kUfs = 3, kDisk = 4, kSpdkDisk = 5 };
std::string_view to_string(StorageType type);

/// What recovery found wrong. Nothing in it was dropped silently; the rest is served.
struct RecoveryReport {
  std::uint64_t blocks = 0;  ///< served
  std::uint64_t extents = 0;
  std::uint64_t epoch = 0;           ///< how often the device has been opened
  bool clean_shutdown = false;       ///< the last owner closed it and its snapshot agrees
  bool superblock_repaired = false;  ///< one of the two copies was damaged
  std::uint64_t quarantined_bytes = 0;
  std::vector<std::string> problems;  ///< one line each, at most kMaxProblems, then a count
  std::uint64_t problem_count = 0;
  static constexpr std::size_t kMaxProblems = 100;

  void add(std::string problem);
};

}  // namespace leap
