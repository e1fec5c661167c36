#include "store/crc_cache.h"

#include <utility>

namespace leap {

std::size_t CrcCache::KeyHash::operator()(const Key& key) const noexcept {
  std::uint64_t h = static_cast<std::uint64_t>(key.id.value()) * 0x9e3779b97f4a7c15;
  h ^= (key.generation + key.index) * 0xbf58476d1ce4e5b9;
  return (h ^ (h >> 29)) * 0x94d049bb133111eb >> 8;
}

std::shared_ptr<const CrcSegment> CrcCache::find(BlockId id, std::uint64_t generation, std::uint32_t index) {
  const Key key{id, generation, index};
  Shard& shard = this->shard(key);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.map.find(key);
  if (found == shard.map.end()) return nullptr;
  shard.lru.splice(shard.lru.begin(), shard.lru, found->second);
  return *found->second;
}

void CrcCache::insert(std::shared_ptr<const CrcSegment> segment) {
  const Key key = key_of(*segment);
  Shard& shard = this->shard(key);
  const std::lock_guard lock(shard.mutex);
  if (shard.map.contains(key)) return;
  shard.bytes += cost(*segment);
  shard.lru.push_front(std::move(segment));
  shard.map.emplace(key, shard.lru.begin());
  while (shard.bytes > shard_capacity_ && !shard.lru.empty()) {
    shard.bytes -= cost(*shard.lru.back());
    shard.map.erase(key_of(*shard.lru.back()));
    shard.lru.pop_back();
  }
}

std::uint64_t CrcCache::bytes() const {
  std::uint64_t sum = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    sum += shard.bytes;
  }
  return sum;
}

}  // namespace leap
