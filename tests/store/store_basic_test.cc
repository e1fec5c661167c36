// Blocks are written, committed, read, removed; what is acknowledged is there, at every length and offset.
#include "poller/sync.h"
#include "store_fixture.h"

namespace leap::test {
namespace {

constexpr std::size_t kLength = 2'500'003;

class StoreBasic : public StoreFixture {};

TEST_F(StoreBasic, ABlockIsReadableOnlyAfterItsCommit) {
  make();
  const std::vector<std::byte> data = stamped(1, 0, 0, 300 * kKi);
  run([&](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p, const std::vector<std::byte>& bytes) -> Task<void> {
      auto writer = (co_await s.open_writer(p, BlockId{1}, {.capacity = kMi})).value();
      EXPECT_EQ(s.space().reserved, kMi);
      (co_await writer->write(bytes)).value();
      EXPECT_EQ(s.stat(BlockId{1})->state, BlockState::kWriting);
      EXPECT_EQ(s.stat(BlockId{1})->length, bytes.size());
      EXPECT_EQ((co_await s.open_reader(p, BlockId{1})).error().kind(), Errc::kNotFound);
      const BlockInfo info = (co_await writer->complete(bytes.size())).value();
      EXPECT_EQ(info.state, BlockState::kFinalized);
      EXPECT_EQ(info.allocated_bytes, 300 * kKi);
      EXPECT_EQ((co_await writer->complete(bytes.size()))->generation, info.generation);
      EXPECT_FALSE((co_await writer->complete(1)).ok());
    }(store, poller, data);
  });
  expect_stamped(1, 0, 300 * kKi);
  expect_space_adds_up();
  EXPECT_EQ(device_->violations(), 0u);
}

TEST_F(StoreBasic, EveryLengthAndSplitComesBackByteForByte) {
  make();
  std::int64_t id = 1;
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{511}, std::size_t{4095},
                                   std::size_t{4096}, std::size_t{4097}, std::size_t{65536}, std::size_t{65537},
                                   std::size_t{1} << 20, (std::size_t{1} << 20) + 1, std::size_t{3'000'001}}) {
    for (const std::size_t frame : {std::size_t{1} << 24, std::size_t{128 * kKi}, std::size_t{7777}}) {
      SCOPED_TRACE(testing::Message() << "length " << length << ", frames of " << frame);
      const auto info = put(id, stamped(id, 3, 0, length), frame);
      ASSERT_TRUE(info.ok()) << info.error().to_string();
      EXPECT_EQ(info->allocated_bytes, page_round_up(length));
      expect_stamped(id, 3, length);
      ++id;
    }
  }
  expect_space_adds_up();
  EXPECT_EQ(device_->violations(), 0u);
}

TEST_F(StoreBasic, ReadsAnyRangeAndZerosPastTheEnd) {
  make();
  put_stamped(5, 1, kLength);
  std::vector<std::byte> expected = stamped(5, 1, 0, kLength);
  expected.resize(kLength + 8 * kMi);  // zeros behind
  run([&](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p, const std::vector<std::byte>& all) -> Task<void> {
      auto reader = (co_await s.open_reader(p, BlockId{5})).value();
      EXPECT_EQ(reader->length(), kLength);
      Rng rng(9);
      for (int i = 0; i < 200; ++i) {
        const std::uint64_t offset = rng.below(kLength + 10'000);
        const std::size_t n = 1 + rng.below(rng.chance(0.1) ? 5 * kMi : 40'000);
        const ReadChunk chunk = (co_await reader->read(offset, n)).value();
        std::vector<std::byte> got;
        for (const DmaBuf& piece : chunk.pieces()) got.insert(got.end(), piece.bytes().begin(), piece.bytes().end());
        EXPECT_TRUE(std::equal(got.begin(), got.end(), all.begin() + static_cast<std::ptrdiff_t>(offset)) &&
                    got.size() == n)
            << n << " bytes at " << offset;
      }
      EXPECT_EQ((co_await reader->read(0, 0)).error().kind(), Errc::kInvalidArgument);
      EXPECT_EQ((co_await reader->read(0, ReadChunk::kMaxBytes + 1)).error().kind(), Errc::kInvalidArgument);
      const ReadChunk largest = (co_await reader->read(1, ReadChunk::kMaxBytes)).value();
      EXPECT_EQ(largest.pieces().size(), ReadChunk::kMaxPieces);
      EXPECT_EQ(largest.size(), ReadChunk::kMaxBytes);
    }(store, poller, expected);
  });
}

TEST_F(StoreBasic, SequentialWritesTouchEachPageOnce) {
  make();
  device_->forget_counts();
  const auto info = put(1, stamped(1, 0, 0, 9 * kMi + 123), 100'000);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(device_->most_writes_of_a_page(), 1u);
  EXPECT_EQ(device_->reads(), 0u);
  EXPECT_LT(device_->bytes_written(), page_round_up(9 * kMi + 123) + 8 * 4096);
  EXPECT_EQ(store_->probe().pages_merged.value(), 0u);
  // Growing in place: a lone large block is in one piece.
  EXPECT_EQ(store_->space().largest_free_extent, store_->space().free);
}

TEST_F(StoreBasic, HolesReadAsZerosOnADeviceFullOfOldBytes) {
  make();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto writer = (co_await s.open_writer(p, BlockId{1}, {.capacity = 4 * kMi, .offset = 0})).value();
      (co_await writer->write(stamped(1, 0, 0, 5000))).value();
      (co_await writer->seek(1'000'001)).value();
      (co_await writer->write(stamped(1, 0, 1'000'001, 100))).value();
      (co_await writer->seek(10'000)).value();
      (co_await writer->write(stamped(1, 0, 10'000, 1))).value();
      const BlockInfo info = (co_await writer->complete(1'000'101)).value();
      EXPECT_EQ(info.allocated_bytes, 4 * kStorePage);
    }(store, poller);
  });
  std::vector<std::byte> expected(1'000'101);
  const auto place = [&](std::uint64_t offset, std::size_t size) {
    const auto bytes = stamped(1, 0, offset, size);
    std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
  };
  place(0, 5000);
  place(10'000, 1);
  place(1'000'001, 100);
  EXPECT_TRUE(get(1).value() == expected);
}

TEST_F(StoreBasic, RandomOverwritesWithinASessionMatchAnOracle) {
  make();
  for (int round = 0; round < 12; ++round) {
    const std::int64_t id = 100 + round;
    SCOPED_TRACE(round);
    std::vector<std::byte> oracle;
    run([&](BlockStore& store, NvmePoller& poller) {
      return [](BlockStore& s, NvmePoller& p, std::int64_t block, std::vector<std::byte>& shadow) -> Task<void> {
        Rng rng(static_cast<std::uint64_t>(block));
        auto writer = (co_await s.open_writer(p, BlockId{block}, {.capacity = 400'000})).value();
        for (int i = 0; i < 60; ++i) {
          const std::uint64_t offset = rng.chance(0.4) ? writer->position() : rng.below(300'000);
          const std::size_t size = 1 + rng.below(rng.chance(0.3) ? 60'000 : 3000);
          (co_await writer->seek(offset)).value();
          const auto bytes = stamped(block, static_cast<std::uint64_t>(i), offset, size);
          if (shadow.size() < offset + size) shadow.resize(offset + size);
          if (offset + size > 400'000) co_return;
          (co_await writer->write(bytes)).value();
          std::copy(bytes.begin(), bytes.end(), shadow.begin() + static_cast<std::ptrdiff_t>(offset));
          if (rng.chance(0.1)) (co_await writer->flush()).value();
          if (rng.chance(0.1)) {
            const std::uint64_t length = rng.below(350'000);
            (co_await writer->resize({.length = length, .truncate = true})).value();
            shadow.resize(length);
          }
          if (rng.chance(0.05)) {
            (co_await writer->resize({.length = 1234, .zero_range = true})).value();
            shadow.assign(1234, std::byte{0});
          }
        }
        EXPECT_TRUE((co_await writer->complete(shadow.size())).ok());
      }(store, poller, id, oracle);
    });
    if (!store_->stat(BlockId{id}) || store_->stat(BlockId{id})->state != BlockState::kFinalized) continue;
    EXPECT_TRUE(get(id).value() == oracle);
  }
  EXPECT_EQ(device_->violations(), 0u);
}

TEST_F(StoreBasic, CompleteChecksTheLengthItIsGiven) {
  make();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto writer = (co_await s.open_writer(p, BlockId{1}, {.capacity = 8192})).value();
      (co_await writer->write(stamped(1, 0, 0, 5000))).value();
      EXPECT_EQ((co_await writer->complete(5001)).error().kind(), Errc::kInvalidArgument);
      EXPECT_EQ(s.stat(BlockId{1})->state, BlockState::kWriting);
      EXPECT_TRUE((co_await writer->complete(4990)).ok());

      auto resized = (co_await s.open_writer(p, BlockId{2}, {.capacity = 8192})).value();
      (co_await resized->resize({.length = 8000})).value();
      EXPECT_FALSE((co_await resized->resize({.length = 100})).ok());
      EXPECT_FALSE((co_await resized->complete(8000)).ok()) << "a failed request must not be followed by a commit";
      (co_await resized->cancel()).value();
      EXPECT_FALSE(s.contains(BlockId{2}));

      auto fallocated = (co_await s.open_writer(p, BlockId{3}, {.capacity = 8192, .offset = 10})).value();
      (co_await fallocated->resize({.length = 8000})).value();
      (co_await fallocated->write(stamped(3, 0, 10, 5))).value();
      EXPECT_EQ((co_await fallocated->complete(8000))->length, 8000u);

      auto over = (co_await s.open_writer(p, BlockId{4}, {.capacity = 100})).value();
      EXPECT_EQ((co_await over->complete(101)).error().kind(), Errc::kInvalidArgument);
      EXPECT_FALSE(s.contains(BlockId{4})) << "a length above the capacity aborts the block";
      EXPECT_EQ((co_await over->write(stamped(4, 0, 0, 1))).error().kind(), Errc::kWrongState);
    }(store, poller);
  });
  expect_stamped(1, 0, 4990);
  expect_space_adds_up();
}

TEST_F(StoreBasic, AWriteBeyondTheCapacityIsRefusedAndSpoilsTheSession) {
  make();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto writer = (co_await s.open_writer(p, BlockId{1}, {.capacity = 1000})).value();
      (co_await writer->write(stamped(1, 0, 0, 999))).value();
      const Result<> refused = co_await writer->write(stamped(1, 0, 999, 2));
      EXPECT_EQ(refused.error().kind(), Errc::kInvalidArgument);
      EXPECT_THAT(refused.error().message(), testing::HasSubstr("exceeds block size 1000"));
      EXPECT_EQ((co_await writer->complete(999)).error().kind(), Errc::kInvalidArgument);
      (co_await writer->cancel()).value();
      EXPECT_EQ((co_await s.open_writer(p, BlockId{1}, {.capacity = 10, .offset = 11})).error().kind(),
                Errc::kInvalidArgument);
      EXPECT_EQ((co_await s.open_writer(p, BlockId{0}, {.capacity = 10})).error().kind(), Errc::kInvalidArgument);
      EXPECT_EQ((co_await s.open_writer(p, BlockId{1}, {.capacity = UINT64_MAX})).error().kind(),
                Errc::kInvalidArgument);
    }(store, poller);
  });
  expect_space_adds_up();
}

TEST_F(StoreBasic, RemoveGivesTheSpaceBackAndForgetsTheBlock) {
  make();
  put_stamped(1, 0, 5 * kMi);
  put_stamped(2, 0, 100);
  EXPECT_TRUE(remove(1).ok());
  expect_gone(1);
  EXPECT_EQ(remove(1).error().kind(), Errc::kNotFound);
  expect_stamped(2, 0, 100);
  EXPECT_EQ(store_->space().allocated, 4096u);
  expect_space_adds_up();
  put_stamped(1, 7, 3 * kMi);
  expect_stamped(1, 7, 3 * kMi);
}

TEST_F(StoreBasic, ListShowsEveryBlockOnceInPages) {
  make();
  for (std::int64_t id = 1; id <= 50; ++id) put_stamped(id << 24, 0, static_cast<std::size_t>(id));
  std::map<std::int64_t, std::uint64_t> seen;
  BlockStore::ListPage page = store_->list(0, 7);
  for (;;) {
    for (const BlockInfo& info : page.blocks) EXPECT_TRUE(seen.emplace(info.id.value() >> 24, info.length).second);
    if (!page.next) break;
    page = store_->list(*page.next, 7);
  }
  ASSERT_EQ(seen.size(), 50u);
  for (const auto& [id, length] : seen) EXPECT_EQ(length, static_cast<std::uint64_t>(id));
}

TEST_F(StoreBasic, SmallFilesShareSyncsWhenTheyCommitTogether) {
  make();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      TaskGroup group(p);
      for (std::int64_t id = 1; id <= 64; ++id) {
        group.spawn([](BlockStore& st, NvmePoller& po, std::int64_t block) -> Task<void> {
          EXPECT_TRUE((co_await put_block(st, po, block, stamped(block, 0, 0, 1000))).ok());
        }(s, p, id));
      }
      co_await group.wait();
    }(store, poller);
  });
  EXPECT_EQ(store_->totals().meta_commits, 64u);
  EXPECT_LT(store_->totals().meta_syncs, 40u);
  EXPECT_LT(store_->probe().device_flushes.value(), 40u);
  for (std::int64_t id = 1; id <= 64; ++id) expect_stamped(id, 0, 1000);
}

TEST_F(StoreBasic, MetricsNameTheDirectory) {
  make();
  put_stamped(1, 0, 10);
  MetricsText page;
  store_->write_metrics(page);
  EXPECT_THAT(page.text(), testing::HasSubstr("leap_store_blocks{dir=\"store\"} 1"));
}

}  // namespace
}  // namespace leap::test
