// The records of the metadata store, as bytes: versioned, each with its own CRC32C over key and value fields.
//
// Pure functions, made to be fuzzed: any input gives a record or an Error, never more memory than the input's size
// implies. All integers little-endian, except in keys, which are big-endian so that they sort.
//
//   family   key                                    value
//   blocks   id                                     BlockRecord: length, extents, where its checksums are
//   crcs     id, generation, segment                CrcSegment: one CRC32C per 4 KiB page, kPagesPerSegment pages
//   extents  device offset                          ExtentRecord: length, owner; one for each extent of a BlockRecord
//   system   'I'                                    IdentityRecord: which device this belongs to
//            'A'                                    AllocatorRecord: cursor and free list, only after a clean shutdown
//            'G', id, generation                    GarbageRecord: checksum segments that wait for their last reader
//
// The extents family says the same as the blocks family from the device's side: recovery compares the two, and space
// whose block record is damaged is still known to be taken.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/uuid.h"
#include "store/allocator.h"
#include "store/types.h"

namespace leap {

/// Generations grow with every commit of a store and never repeat: the epoch above, a counter below this bit.
inline constexpr unsigned kEpochShift = 40;
inline constexpr std::uint32_t kPagesPerSegment = 1024;  ///< 4 MiB of block, 4 KiB of checksums
inline constexpr std::uint64_t kSegmentBytes = kPagesPerSegment * kStorePage;
/// A block may be in this many pieces; more random overwrites than that fail with kNoSpace.
inline constexpr std::size_t kMaxBlockExtents = 65536;

/// From `first_segment` on, checksum segments carry this generation in their key.
struct CrcRun {
  std::uint32_t first_segment = 0;
  std::uint64_t generation = 0;
  friend bool operator==(const CrcRun&, const CrcRun&) = default;
};

struct BlockRecord {
  BlockId id;
  std::uint64_t generation = 0;       ///< of the commit that wrote this record
  std::uint64_t length = 0;           ///< bytes
  std::uint64_t capacity = 0;         ///< as given by the last open
  std::vector<MappedExtent> extents;  ///< ascending by logical offset, disjoint
  std::vector<CrcRun> crc_runs;       ///< ascending; first_segment of the first is 0; empty when nothing is mapped
  friend bool operator==(const BlockRecord&, const BlockRecord&) = default;
};

/// Checksums of the pages [index * kPagesPerSegment, ...) of a block. A page in a hole has 0.
struct CrcSegment {
  BlockId id;
  std::uint64_t generation = 0;
  std::uint32_t index = 0;
  std::vector<std::uint32_t> crcs;  ///< up to the last mapped page, at most kPagesPerSegment
  friend bool operator==(const CrcSegment&, const CrcSegment&) = default;
};

struct ExtentRecord {
  Extent extent;
  BlockId owner;
  std::uint64_t generation = 0;  ///< of the commit that wrote it
  friend bool operator==(const ExtentRecord&, const ExtentRecord&) = default;
};

struct IdentityRecord {
  Uuid device_uuid;
  std::string cluster_id;
  std::uint64_t epoch = 0;  ///< of the last open
  bool clean = false;       ///< closed in order; an AllocatorRecord exists
  friend bool operator==(const IdentityRecord&, const IdentityRecord&) = default;
};

struct AllocatorRecord {
  std::uint64_t epoch = 0;
  std::uint64_t blocks = 0;
  BdevOffsetAllocator::Snapshot state;
  friend bool operator==(const AllocatorRecord&, const AllocatorRecord&) = default;
};

struct GarbageRecord {
  struct Item {
    std::uint32_t segment = 0;
    std::uint64_t generation = 0;
    friend bool operator==(const Item&, const Item&) = default;
  };
  BlockId id;
  std::uint64_t generation = 0;  ///< of the commit that made it garbage
  std::vector<Item> items;
  friend bool operator==(const GarbageRecord&, const GarbageRecord&) = default;
};

std::string block_key(BlockId id);
std::string crc_key(BlockId id, std::uint64_t generation, std::uint32_t segment);
std::string extent_key(std::uint64_t device_offset);
std::string garbage_key(BlockId id, std::uint64_t generation);
inline constexpr std::string_view kIdentityKey = "I";
inline constexpr std::string_view kAllocatorKey = "A";
inline constexpr std::string_view kGarbagePrefix = "G";

/// The id in a key of the blocks family, the offset in one of the extents family; nothing when it has the wrong size.
std::optional<BlockId> parse_block_key(std::string_view key);
std::optional<std::uint64_t> parse_extent_key(std::string_view key);

std::string encode(const BlockRecord& record);
std::string encode(const CrcSegment& record);
std::string encode(const ExtentRecord& record);
std::string encode(const IdentityRecord& record);
std::string encode(const AllocatorRecord& record);
std::string encode(const GarbageRecord& record);

// Errors: kCorrupt (what is wrong, in which record), kUnsupported (a newer version of the record).
// decode_block_record checks everything that can be checked without the device: order, alignment, overlaps, limits.
Result<BlockRecord> decode_block_record(std::string_view value);
Result<CrcSegment> decode_crc_segment(std::string_view value);
Result<ExtentRecord> decode_extent_record(std::string_view value);
Result<IdentityRecord> decode_identity_record(std::string_view value);
Result<AllocatorRecord> decode_allocator_record(std::string_view value);
Result<GarbageRecord> decode_garbage_record(std::string_view value);

/// The generation in the key of `segment`; nothing when the runs do not cover it.
std::optional<std::uint64_t> crc_generation(std::span<const CrcRun> runs, std::uint32_t segment);

}  // namespace leap
