#include "store/block_index.h"

#include <utility>

namespace leap {
namespace {

constexpr std::size_t kFirstSlots = 8;
__extension__ using Wide = unsigned __int128;

// Ids of one file differ in their low bits only: every bit of the id must reach shard and slot.
std::uint64_t mix(std::int64_t id) {
  auto h = static_cast<std::uint64_t>(id);
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9;
  h = (h ^ (h >> 27)) * 0x94d049bb133111eb;
  return h ^ (h >> 31);
}

}  // namespace

void BlockEntry::set_committed(const BlockRecord& record) {
  generation = record.generation;
  length = record.length;
  capacity = record.capacity;
  flags &= ~std::uint32_t{kDamaged};  // that was the generation before
  std::uint64_t bytes = 0;
  for (const MappedExtent& extent : record.extents) bytes += extent.length;
  pages = static_cast<std::uint32_t>(bytes / kStorePage);
  // One extent from the start and one checksum run of this very generation: the entry says it all.
  const bool compact =
      record.extents.empty() || (record.extents.size() == 1 && record.extents[0].logical_offset == 0 &&
                                 record.crc_runs.size() == 1 && record.crc_runs[0].generation == record.generation);
  device_offset = kScattered;
  if (compact) device_offset = record.extents.empty() ? 0 : record.extents[0].device_offset;
}

std::optional<BlockRecord> BlockEntry::compact_record() const {
  if (device_offset == kScattered) return std::nullopt;
  BlockRecord record{BlockId{id}, generation, length, capacity, {}, {}};
  if (pages != 0) {
    record.extents.push_back({0, device_offset, std::uint64_t{pages} * kStorePage});
    record.crc_runs.push_back({0, generation});
  }
  return record;
}

BlockInfo BlockEntry::info() const {
  BlockInfo info;
  info.id = BlockId{id};
  info.generation = generation;
  info.capacity = capacity;
  info.damaged = (flags & kDamaged) != 0;
  info.allocated_bytes = std::uint64_t{pages} * kStorePage;
  const PendingWrite* const pending = live == nullptr ? nullptr : live->pending.get();
  if (generation != 0) {
    info.state = BlockState::kFinalized;
    info.length = length;
    info.rewriting = pending != nullptr;
  } else if (pending != nullptr) {
    info.length = pending->visible_length.load(std::memory_order_relaxed);
  }
  if (pending != nullptr) info.capacity = pending->capacity;
  return info;
}

// The shard takes the low bits of the hash, the slot the high ones: a fraction of the table, whatever its size.
std::size_t BlockIndex::Shard::home(std::int64_t id) const {
  return static_cast<std::size_t>((Wide{mix(id)} * slots.size()) >> 64);
}

std::size_t BlockIndex::Shard::find_slot(std::int64_t id) const {
  std::size_t slot = home(id);
  while (slots[slot].id != 0 && slots[slot].id != id) slot = after(slot);
  return slot;
}

void BlockIndex::Shard::grow() {
  // By a quarter: memory per block stays within 56 bytes / 0.64, and moving is still rare.
  const std::size_t size = slots.empty() ? kFirstSlots : slots.size() + slots.size() / 4;
  std::vector<BlockEntry> old = std::exchange(slots, std::vector<BlockEntry>(size));
  for (BlockEntry& entry : old) {
    if (entry.id != 0) slots[find_slot(entry.id)] = std::move(entry);
  }
}

// Without tombstones: what was pushed past the freed slot moves back, so that every entry stays reachable from its
// home.
void BlockIndex::Shard::erase_slot(std::size_t slot) {
  const auto distance = [this](std::size_t from, std::size_t to) {
    return to >= from ? to - from : to + slots.size() - from;
  };
  slots[slot] = BlockEntry{};
  std::size_t hole = slot;
  for (std::size_t next = after(hole); slots[next].id != 0; next = after(next)) {
    const std::size_t wants = home(slots[next].id);
    if (distance(wants, next) < distance(hole, next)) continue;
    slots[hole] = std::move(slots[next]);
    slots[next] = BlockEntry{};
    hole = next;
  }
  --used;
}

BlockEntry* BlockIndex::Locked::find() const {
  if (shard_.slots.empty()) return nullptr;
  BlockEntry& entry = shard_.slots[shard_.find_slot(id_.value())];
  return entry.id == 0 ? nullptr : &entry;
}

BlockEntry& BlockIndex::Locked::insert() {
  if (BlockEntry* entry = find()) return *entry;
  if ((shard_.used + 1) * 5 > shard_.slots.size() * 4) shard_.grow();
  BlockEntry& entry = shard_.slots[shard_.find_slot(id_.value())];
  entry.id = id_.value();
  ++shard_.used;
  return entry;
}

void BlockIndex::Locked::erase() {
  if (shard_.slots.empty()) return;
  const std::size_t slot = shard_.find_slot(id_.value());
  if (shard_.slots[slot].id != 0) shard_.erase_slot(slot);
}

BlockIndex::Locked BlockIndex::lock(BlockId id) const {
  Shard& shard = shards_[mix(id.value()) % kShards];
  return Locked(shard, std::unique_lock(shard.mutex), id);
}

void BlockIndex::collect(std::size_t shard, std::vector<BlockInfo>& out) const {
  const Shard& from = shards_[shard];
  const std::lock_guard lock(from.mutex);
  for (const BlockEntry& entry : from.slots) {
    if (entry.id == 0) continue;
    if (entry.live != nullptr && entry.live->removing) continue;
    out.push_back(entry.info());
  }
}

std::size_t BlockIndex::size() const {
  std::size_t sum = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    sum += shard.used;
  }
  return sum;
}

std::uint64_t BlockIndex::memory_bytes() const {
  std::uint64_t sum = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    sum += shard.slots.size() * sizeof(BlockEntry);
  }
  return sum;
}

}  // namespace leap
