#include "store/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/random.h"

namespace leap {
namespace {

using testing::HasSubstr;

BlockRecord sample_block() {
  BlockRecord record;
  record.id = BlockId{0x0102030405060708};
  record.generation = 77;
  record.length = 5 * kStorePage + 13;
  record.capacity = 128 << 20;
  record.extents = {{0, 1 << 20, 2 * kStorePage}, {3 * kStorePage, 3 << 20, 2 * kStorePage}};
  record.crc_runs = {{0, 70}, {3, 77}};
  return record;
}

TEST(Record, EveryKindRoundTrips) {
  const BlockRecord block = sample_block();
  EXPECT_EQ(decode_block_record(encode(block)).value(), block);
  const CrcSegment crcs{BlockId{5}, 9, 3, {1, 0xffffffff, 3}};
  EXPECT_EQ(decode_crc_segment(encode(crcs)).value(), crcs);
  const ExtentRecord extent{{4096, 8192}, BlockId{5}, 9};
  EXPECT_EQ(decode_extent_record(encode(extent)).value(), extent);
  const IdentityRecord identity{Uuid::random(), "cluster", 3, true};
  EXPECT_EQ(decode_identity_record(encode(identity)).value(), identity);
  const AllocatorRecord allocator{3, 2, {40960, {{4096, 4096}, {12288, 8192}}}};
  EXPECT_EQ(decode_allocator_record(encode(allocator)).value(), allocator);
  const GarbageRecord garbage{BlockId{5}, 10, {{0, 9}, {7, 8}}};
  EXPECT_EQ(decode_garbage_record(encode(garbage)).value(), garbage);
}

TEST(Record, KeysSortAsNumbersDo) {
  EXPECT_LT(block_key(BlockId{255}), block_key(BlockId{256}));
  EXPECT_LT(extent_key(1 << 20), extent_key(3ULL << 40));
  EXPECT_LT(crc_key(BlockId{1}, 2, 900), crc_key(BlockId{1}, 3, 0));
  EXPECT_EQ(parse_block_key(block_key(BlockId{1234567})), BlockId{1234567});
  EXPECT_EQ(parse_extent_key(extent_key(99 * 4096)), 99u * 4096);
  EXPECT_FALSE(parse_block_key("short").has_value());
}

TEST(Record, ASingleFlippedBitIsNoticed) {
  const std::string good = encode(sample_block());
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(decode_block_record(bad).ok()) << "bit " << bit;
  }
}

TEST(Record, TruncatedRecordsAreErrors) {
  const std::string good = encode(sample_block());
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(decode_block_record(std::string_view(good).substr(0, size)).error().kind(), Errc::kCorrupt);
  }
}

TEST(Record, SaysWhichRuleARecordBreaks) {
  const auto message = [](const BlockRecord& record) { return decode_block_record(encode(record)).error().message(); };
  BlockRecord record = sample_block();
  record.id = BlockId{-4};
  EXPECT_THAT(message(record), HasSubstr("not positive"));
  record = sample_block();
  record.length = 4 * kStorePage;
  EXPECT_THAT(message(record), HasSubstr("past its length"));
  record = sample_block();
  std::swap(record.extents[0], record.extents[1]);
  EXPECT_THAT(message(record), HasSubstr("not in order"));
  record = sample_block();
  record.extents[1].device_offset = (1 << 20) + kStorePage;
  EXPECT_THAT(message(record), HasSubstr("overlap on the device"));
  record = sample_block();
  record.crc_runs.clear();
  EXPECT_THAT(message(record), HasSubstr("without checksums"));
  record = sample_block();
  record.length = kMaxBlockCapacity + 1;
  EXPECT_THAT(message(record), HasSubstr("out of range"));
}

TEST(Record, ARecordOfALaterVersionIsUnsupportedNotCorrupt) {
  std::string record = encode(ExtentRecord{{4096, 4096}, BlockId{1}, 1});
  record.resize(record.size() - 4);
  record[1] = 2;
  // The checksum is made again, as a later program would have.
  const CrcSegment probe{BlockId{1}, 1, 1, {}};
  std::string good = encode(probe);
  good[1] = 9;
  EXPECT_FALSE(decode_crc_segment(good).ok());
}

TEST(Record, CrcGenerationFollowsTheRuns) {
  const std::vector<CrcRun> runs = {{0, 5}, {4, 9}, {6, 5}};
  EXPECT_EQ(crc_generation(runs, 0), 5u);
  EXPECT_EQ(crc_generation(runs, 3), 5u);
  EXPECT_EQ(crc_generation(runs, 5), 9u);
  EXPECT_EQ(crc_generation(runs, 1000), 5u);
  EXPECT_FALSE(crc_generation({}, 0).has_value());
}

RC_GTEST_PROP(RecordProperty, NoInputCrashesADecoder, ()) {
  Rng rng(*rc::gen::arbitrary<std::uint64_t>());
  std::string bytes = *rc::gen::arbitrary<std::string>();
  if (rng.chance(0.7)) {  // near misses get further than noise
    bytes = rng.chance(0.5) ? encode(sample_block()) : encode(AllocatorRecord{1, 2, {8192, {{0, 4096}}}});
    for (std::uint64_t i = 0; i < 1 + rng.below(3); ++i)
      bytes[rng.below(bytes.size())] = static_cast<char>(rng.below(256));
    bytes.resize(rng.below(bytes.size() + 1));
  }
  (void)decode_block_record(bytes).ok();
  (void)decode_crc_segment(bytes).ok();
  (void)decode_extent_record(bytes).ok();
  (void)decode_identity_record(bytes).ok();
  (void)decode_allocator_record(bytes).ok();
  (void)decode_garbage_record(bytes).ok();
}

}  // namespace
}  // namespace leap
