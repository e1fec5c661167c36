// BlockIndex: every block of a store, in memory. Compact for the millions that are at rest, with a BlockLive for those
// in use.
//
//   shard 0..255: mutex + open-addressed table of BlockEntry (56 bytes, load at most 4/5)
//
// An entry of a block in one piece holds its extent; for one in several pieces the extents are read from the metadata
// when it is opened. BlockLive exists only while a block is open, being written, or being removed.
//
// Threading: any thread. lock() holds one shard; never suspend a task or take another lock but the allocator's under
// it.
//
//   auto block = index.lock(id);
//   if (BlockEntry* entry = block.find()) ...
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "store/generation.h"
#include "store/pending_write.h"
#include "store/types.h"

namespace leap {

struct BlockLive {
  std::weak_ptr<Generation> committed;    ///< set while somebody holds the current generation
  std::shared_ptr<PendingWrite> pending;  ///< the write session, attached or parked
  bool removing = false;                  ///< its deletion is on the way to the disk: invisible to new openers
};

struct BlockEntry {
  static constexpr std::uint64_t kScattered = UINT64_MAX;

  enum Flag : std::uint32_t {
    kDamaged = 1,    ///< a read failed its checksum
    kUncertain = 2,  ///< a commit or delete of it failed half way: see store_settle.cc
  };

  std::int64_t id = 0;           ///< 0: the slot is empty
  std::uint64_t generation = 0;  ///< 0: never committed
  std::uint64_t length = 0;
  std::uint64_t capacity = 0;
  std::uint64_t device_offset = 0;  ///< of its only extent, which starts at logical 0; kScattered: ask the metadata
  std::uint32_t pages = 0;          ///< allocated
  std::uint32_t flags = 0;
  std::unique_ptr<BlockLive> live;

  /// Describes a committed generation.
  void set_committed(const BlockRecord& record);
  /// The record again, without asking the metadata; nothing when it is scattered. Checksum runs: one, of this
  /// generation.
  [[nodiscard]] std::optional<BlockRecord> compact_record() const;
  [[nodiscard]] BlockInfo info() const;
  BlockLive& need_live() {
    if (live == nullptr) live = std::make_unique<BlockLive>();
    return *live;
  }
  /// Drops BlockLive when it says nothing any more.
  void tidy() {
    if (live != nullptr && live->pending == nullptr && !live->removing && live->committed.expired()) live.reset();
  }
};
static_assert(sizeof(BlockEntry) == 56, "the memory per block is a promise");

class BlockIndex {
  struct Shard;

 public:
  static constexpr std::size_t kShards = 256;

  /// Exclusive access to one block (and its shard) until destroyed. Pointers are valid until insert() or erase().
  class Locked {
   public:
    [[nodiscard]] BlockEntry* find() const;
    /// The entry, new and empty if there was none.
    BlockEntry& insert();
    void erase();

   private:
    friend class BlockIndex;
    Locked(Shard& shard, std::unique_lock<std::mutex> lock, BlockId id)
        : shard_(shard), lock_(std::move(lock)), id_(id) {}
    Shard& shard_;
    std::unique_lock<std::mutex> lock_;
    const BlockId id_;
  };

  BlockIndex() = default;

  [[nodiscard]] Locked lock(BlockId id) const;
  /// Appends the blocks of one shard (0..kShards-1).
  void collect(std::size_t shard, std::vector<BlockInfo>& out) const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::uint64_t memory_bytes() const;

 private:
  struct Shard {
    mutable std::mutex mutex;
    std::vector<BlockEntry> slots;
    std::size_t used = 0;

    [[nodiscard]] std::size_t home(std::int64_t id) const;
    [[nodiscard]] std::size_t after(std::size_t slot) const { return slot + 1 == slots.size() ? 0 : slot + 1; }
    [[nodiscard]] std::size_t find_slot(std::int64_t id) const;  // its slot, or the empty one where it belongs
    void grow();
    void erase_slot(std::size_t slot);
  };

  mutable std::array<Shard, kShards> shards_;
};

}  // namespace leap
