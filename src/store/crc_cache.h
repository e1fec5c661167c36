// CrcCache: checksum segments of recently read and written blocks, least recently used first out, bounded in bytes.
//
// A segment is immutable and named by (block, generation, index), so there is nothing to invalidate: those of
// superseded generations are never asked for again and age out.
//
// Threading: any thread; a mutex per shard, taken once per 4 MiB of block and reader, not per read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "store/record.h"

namespace leap {

class CrcCache {
 public:
  /// What a cached segment costs beside its checksums: list and map nodes, the control block.
  static constexpr std::size_t kOverheadBytes = 192;

  explicit CrcCache(std::uint64_t capacity_bytes) : shard_capacity_(capacity_bytes / kShards) {}

  [[nodiscard]] std::shared_ptr<const CrcSegment> find(BlockId id, std::uint64_t generation, std::uint32_t index);
  void insert(std::shared_ptr<const CrcSegment> segment);
  [[nodiscard]] std::uint64_t bytes() const;

 private:
  static constexpr std::size_t kShards = 16;

  struct Key {
    BlockId id;
    std::uint64_t generation = 0;
    std::uint32_t index = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const noexcept;
  };
  using Lru = std::list<std::shared_ptr<const CrcSegment>>;  // most recently used first
  struct Shard {
    mutable std::mutex mutex;
    Lru lru;
    std::unordered_map<Key, Lru::iterator, KeyHash> map;
    std::uint64_t bytes = 0;
  };

  static Key key_of(const CrcSegment& segment) { return {segment.id, segment.generation, segment.index}; }
  static std::uint64_t cost(const CrcSegment& segment) { return segment.crcs.size() * 4 + kOverheadBytes; }
  Shard& shard(const Key& key) { return shards_[KeyHash{}(key) % kShards]; }

  const std::uint64_t shard_capacity_;
  std::array<Shard, kShards> shards_;
};

}  // namespace leap
