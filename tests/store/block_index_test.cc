#include "store/block_index.h"

#include <unordered_map>

#include <gtest/gtest.h>

#include "base/random.h"

namespace leap {
namespace {

BlockRecord record_of(BlockId id, std::uint64_t generation, std::vector<MappedExtent> extents) {
  BlockRecord record{id, generation, 0, 1 << 20, std::move(extents), {}};
  record.length = record.extents.empty() ? 0 : record.extents.back().logical_end();
  if (!record.extents.empty()) record.crc_runs = {{0, generation}};
  return record;
}

TEST(BlockIndex, FindsWhatWasInsertedThroughGrowthAndErasure) {
  BlockIndex index;
  std::unordered_map<std::int64_t, std::uint64_t> oracle;
  Rng rng(1);
  for (int i = 0; i < 60'000; ++i) {
    // Ids as the master makes them: few files, many blocks each.
    const std::int64_t id = static_cast<std::int64_t>((1001 + rng.below(20)) << 24 | (1 + rng.below(1000)));
    BlockIndex::Locked block = index.lock(BlockId{id});
    BlockEntry* const found = block.find();
    ASSERT_EQ(found != nullptr, oracle.contains(id));
    if (found != nullptr) {
      ASSERT_EQ(found->generation, oracle[id]);
    }
    if (rng.chance(0.55)) {
      block.insert().generation = static_cast<std::uint64_t>(i) + 1;
      oracle[id] = static_cast<std::uint64_t>(i) + 1;
    } else {
      block.erase();
      oracle.erase(id);
    }
  }
  EXPECT_EQ(index.size(), oracle.size());
  std::vector<BlockInfo> all;
  for (std::size_t shard = 0; shard < BlockIndex::kShards; ++shard) index.collect(shard, all);
  ASSERT_EQ(all.size(), oracle.size());
  for (const BlockInfo& info : all) EXPECT_EQ(info.generation, oracle[info.id.value()]);
}

TEST(BlockIndex, KeepsABlockInOnePieceWithoutItsRecord) {
  BlockIndex index;
  BlockIndex::Locked block = index.lock(BlockId{7});
  BlockEntry& entry = block.insert();
  const BlockRecord single = record_of(BlockId{7}, 3, {{0, 1 << 20, 8192}});
  entry.set_committed(single);
  EXPECT_EQ(entry.compact_record(), single);
  const BlockRecord empty = record_of(BlockId{7}, 4, {});
  entry.set_committed(empty);
  EXPECT_EQ(entry.compact_record(), empty);

  entry.set_committed(record_of(BlockId{7}, 5, {{0, 1 << 20, 8192}, {8192, 5 << 20, 4096}}));
  EXPECT_FALSE(entry.compact_record().has_value());
  EXPECT_EQ(entry.info().allocated_bytes, 12288u);
  BlockRecord leading_hole = record_of(BlockId{7}, 6, {{4096, 1 << 20, 4096}});
  entry.set_committed(leading_hole);
  EXPECT_FALSE(entry.compact_record().has_value());
  BlockRecord older_checksums = single;
  older_checksums.generation = 9;
  entry.set_committed(older_checksums);
  EXPECT_FALSE(entry.compact_record().has_value());
}

TEST(BlockIndex, StaysBelowAHundredBytesABlock) {
  BlockIndex index;
  constexpr std::int64_t kBlocks = 200'000;
  for (std::int64_t id = 1; id <= kBlocks; ++id) index.lock(BlockId{id}).insert();
  EXPECT_LT(static_cast<double>(index.memory_bytes()) / kBlocks, 100.0);
}

TEST(BlockIndexEntry, ANewGenerationIsNotDamagedByTheOldOne) {
  BlockEntry entry;
  entry.flags = BlockEntry::kDamaged;
  entry.set_committed({BlockId{1}, 2, 0, 4096, {}, {}});
  EXPECT_FALSE(entry.info().damaged);
}

}  // namespace
}  // namespace leap
