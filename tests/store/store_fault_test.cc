// Full devices, failing devices, failing metadata, flipped bits: a clear error, nothing lost, the rest goes on.
#include <rocksdb/env.h>

#include "poller/sync.h"
#include "store/meta_store.h"
#include "store_fixture.h"

namespace leap::test {
namespace {

using testing::HasSubstr;

class StoreFault : public StoreFixture {};

TEST_F(StoreFault, EveryWriteThatFailsFailsItsBlockOnly) {
  make();
  put_stamped(1, 0, 300'000);
  for (int nth = 0; nth < 12; ++nth) {
    SCOPED_TRACE(nth);
    const std::uint64_t draining = store_->space().draining;
    device_->fail_writes(nth, false, nth % 3 == 0);
    const auto rewritten = run([](BlockStore& store, NvmePoller& poller) {
      return [](BlockStore& s, NvmePoller& p) -> Task<Result<BlockInfo>> {
        LEAP_CO_TRY(auto writer, co_await s.open_writer(p, BlockId{1}, {.capacity = 3 * kMi}));
        const Result<> written = co_await writer->write(stamped(1, 1, 0, 3 * kMi));
        Result<BlockInfo> done = co_await writer->complete(3 * kMi);
        EXPECT_TRUE(written.ok() || !done.ok()) << "a failed write was followed by a commit";
        if (!done) (co_await writer->cancel()).value();
        co_return done;
      }(store, poller);
    });
    device_->heal();
    if (rewritten.ok()) {
      expect_stamped(1, 1, 3 * kMi);
      EXPECT_GT(nth, 3);
      break;
    }
    EXPECT_EQ(rewritten.error().kind(), Errc::kIo);
    expect_stamped(1, 0, 300'000);
    EXPECT_EQ(store_->space().draining > draining, nth % 3 == 0) << "only what may still execute has to wait";
    expect_space_adds_up();
  }
  close();
  open();
  EXPECT_EQ(store_->space().draining, 0u);
  expect_space_adds_up();
}

TEST_F(StoreFault, AReadErrorIsReportedAndPassing) {
  make();
  put_stamped(1, 0, 3 * kMi);
  device_->fail_reads(1);
  EXPECT_EQ(get(1).error().kind(), Errc::kIo);
  device_->heal();
  expect_stamped(1, 0, 3 * kMi);
}

TEST_F(StoreFault, AFlippedBitIsAChecksumErrorThatNamesThePlace) {
  make();
  put_stamped(1, 0, 6 * kMi);
  put_stamped(2, 0, 5000);
  close();
  open();  // so that nothing is cached
  const auto page = stamped(1, 0, 5 * kMi, 4096);
  std::uint64_t where = 0;
  for (std::uint64_t at = kMi; at < 60 * kMi && where == 0; at += 4096) {
    if (device_->peek(at, 4096) == page) where = at;
  }
  ASSERT_NE(where, 0u);
  device_->flip_byte(where + 17);
  const auto damaged = get(1);
  ASSERT_FALSE(damaged.ok());
  EXPECT_EQ(damaged.error().kind(), Errc::kCorrupt);
  EXPECT_THAT(damaged.error().message(), HasSubstr("block 1 offset " + std::to_string(5 * kMi) +
                                                   ": checksum of the page at device offset " + std::to_string(where)));
  EXPECT_TRUE(store_->stat(BlockId{1})->damaged);
  EXPECT_EQ(store_->probe().checksum_errors.value(), 1u);
  expect_stamped(2, 0, 5000);
  // The rest of the block can still be read.
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto reader = (co_await s.open_reader(p, BlockId{1})).value();
      EXPECT_TRUE((co_await read_range(*reader, 0, 5 * kMi)).value() == stamped(1, 0, 0, 5 * kMi));
      // A rewrite that would have to merge with the damaged page must not make it look right.
      auto writer = (co_await s.open_writer(p, BlockId{1}, {.capacity = 6 * kMi, .offset = 5 * kMi + 100})).value();
      EXPECT_EQ((co_await writer->write(stamped(1, 1, 0, 10))).error().kind(), Errc::kCorrupt);
      (co_await writer->cancel()).value();
    }(store, poller);
  });
}

TEST_F(StoreFault, AFullDeviceRefusesAndServesOn) {
  make();
  std::int64_t id = 1;
  for (;; ++id) {
    const auto info = put(id, stamped(id, 0, 0, 5 * kMi));
    if (info.ok()) continue;
    EXPECT_EQ(info.error().kind(), Errc::kNoSpace);
    EXPECT_THAT(info.error().message(), HasSubstr("open block " + std::to_string(id)));
    break;
  }
  EXPECT_EQ(id, 13);
  for (std::int64_t other = 1; other < id; ++other) expect_stamped(other, 0, 5 * kMi);
  expect_space_adds_up();
  // An overwrite of a whole block needs its size again: refused half way, the old one stays.
  const auto overwrite = put(3, stamped(3, 1, 0, 5 * kMi));
  ASSERT_FALSE(overwrite.ok());
  EXPECT_EQ(overwrite.error().kind(), Errc::kNoSpace);
  expect_stamped(3, 0, 5 * kMi);
  ASSERT_TRUE(remove(1).ok());
  put_stamped(3, 1, 5 * kMi);
  expect_stamped(3, 1, 5 * kMi);
  expect_space_adds_up();
}

TEST_F(StoreFault, AScatteredDeviceStillTakesABlockThatFits) {
  make();
  std::int64_t id = 1;
  while (put(id, stamped(id, 0, 0, kMi)).ok()) ++id;
  for (std::int64_t odd = 1; odd < id; odd += 2) ASSERT_TRUE(remove(odd).ok());
  const std::uint64_t available = store_->space().available;
  EXPECT_LT(store_->space().largest_free_extent, 3 * kMi);
  EXPECT_GT(store_->space().fragmentation, 0.8);
  const std::size_t size = available / 4096 * 4096;
  put_stamped(1000, 1, size);
  expect_stamped(1000, 1, size);
  EXPECT_EQ(store_->space().available, 0u);
  crash();
  open();
  expect_stamped(1000, 1, size);
  EXPECT_EQ(store_->recovery().problem_count, 0u);
  expect_space_adds_up();
}

TEST_F(StoreFault, WhatIsReservedForAnOpenWriterIsNotGivenToAnother) {
  make();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto first = (co_await s.open_writer(p, BlockId{1}, {.capacity = 40 * kMi})).value();
      EXPECT_EQ((co_await s.open_writer(p, BlockId{2}, {.capacity = 40 * kMi})).error().kind(), Errc::kNoSpace);
      EXPECT_FALSE(s.contains(BlockId{2}));
      (co_await first->write(stamped(1, 0, 0, 10))).value();
      EXPECT_TRUE((co_await first->complete(10)).ok());
      EXPECT_TRUE((co_await s.open_writer(p, BlockId{2}, {.capacity = 40 * kMi})).ok());
      (co_await s.cancel(p, BlockId{2})).value();
    }(store, poller);
  });
}

TEST_F(StoreFault, IdleWritersGiveTheirBuffersBackWhenThePoolRunsDry) {
  make();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      // Each session stages a large buffer and then goes quiet; together they want several times the pool.
      std::vector<std::unique_ptr<BlockWriter>> writers;
      for (std::int64_t id = 1; id <= 40; ++id) {
        writers.push_back((co_await s.open_writer(p, BlockId{id}, {.capacity = kMi})).value());
        (co_await writers[static_cast<std::size_t>(id - 1)]->write(stamped(id, 0, 0, 400'000))).value();
        (co_await writers[static_cast<std::size_t>(id - 1)]->write(stamped(id, 0, 400'000, 400'001))).value();
      }
      for (std::int64_t id = 1; id <= 40; ++id) {
        EXPECT_TRUE((co_await writers[static_cast<std::size_t>(id - 1)]->complete(800'001)).ok());
      }
    }(store, poller);
  });
  for (std::int64_t id = 1; id <= 40; ++id) expect_stamped(id, 0, 800'001);
  expect_space_adds_up();
}

// Damage done to the metadata while nobody has it open.
class StoreDamage : public StoreFixture {
 protected:
  void damage(const std::function<void(BdevMetaStore&)>& how) {
    auto meta = BdevMetaStore::open({.dir = config_.meta_dir}).value();
    how(*meta);
  }
  static void spoil(BdevMetaStore& meta, MetaFamily family, const std::string& key) {
    std::string value = *meta.get(family, key).value();
    value[value.size() / 2] = static_cast<char>(value[value.size() / 2] ^ 0x10);
    MetaBatch batch;
    batch.put(family, key, value);
    meta.write(batch, true).value();
  }
  void make_three() {
    make();
    for (const std::int64_t id : {1, 2, 3}) put_stamped(id, 0, 100'000);
    device_before_ = store_->space().allocated;
    close();
  }
  void expect_quarantined(const char* problem) {
    ASSERT_GE(store_->recovery().problem_count, 1u);
    std::string all;
    for (const std::string& line : store_->recovery().problems) all += line + "\n";
    EXPECT_THAT(all, HasSubstr(problem));
    expect_space_adds_up();
    // New blocks never land on quarantined space.
    const std::uint64_t quarantined = store_->space().quarantined;
    std::int64_t id = 100;
    while (put(id, stamped(id, 0, 0, kMi)).ok()) ++id;
    EXPECT_EQ(store_->space().quarantined, quarantined);
    expect_space_adds_up();
  }
  std::uint64_t device_before_ = 0;
};

TEST_F(StoreDamage, ADamagedBlockRecordIsQuarantinedWithItsSpace) {
  make_three();
  damage([](BdevMetaStore& meta) { spoil(meta, MetaFamily::kBlocks, block_key(BlockId{2})); });
  open();
  expect_gone(2);
  expect_stamped(1, 0, 100'000);
  expect_stamped(3, 0, 100'000);
  EXPECT_EQ(store_->space().quarantined, page_round_up(100'000));
  expect_quarantined("block 2: block record: its checksum does not match; not served");
  // A new block of that id is a fresh start, and the next recovery takes the old space back.
  crash(false);
  open();
  EXPECT_EQ(store_->space().quarantined, page_round_up(100'000));
}

TEST_F(StoreDamage, WritingADamagedBlockAgainReleasesItsSpaceAtTheNextStart) {
  make_three();
  damage([](BdevMetaStore& meta) { spoil(meta, MetaFamily::kBlocks, block_key(BlockId{2})); });
  open();
  put_stamped(2, 1, 5000);
  close();
  open();
  expect_stamped(2, 1, 5000);
  EXPECT_EQ(store_->space().quarantined, 0u);
  expect_space_adds_up();
}

TEST_F(StoreDamage, TwoRecordsThatClaimTheSameSpaceAreBothRefused) {
  make_three();
  damage([](BdevMetaStore& meta) {
    BlockRecord record = meta.load_block(BlockId{2}).value();
    record.extents[0].device_offset = meta.load_block(BlockId{1}).value().extents[0].device_offset + 8 * 4096;
    MetaBatch batch;
    batch.put(MetaFamily::kBlocks, block_key(BlockId{2}), encode(record));
    meta.write(batch, true).value();
  });
  open();
  expect_gone(1);
  expect_gone(2);
  expect_stamped(3, 0, 100'000);
  expect_quarantined("blocks 1 and 2 both claim space");
}

TEST_F(StoreDamage, ARecordOutsideTheDeviceIsRefused) {
  make_three();
  damage([](BdevMetaStore& meta) {
    BlockRecord record = meta.load_block(BlockId{2}).value();
    record.extents[0].device_offset = 1ULL << 40;
    MetaBatch batch;
    batch.put(MetaFamily::kBlocks, block_key(BlockId{2}), encode(record));
    meta.write(batch, true).value();
  });
  open();
  expect_gone(2);
  expect_quarantined("outside the data area");
}

TEST_F(StoreDamage, LostAndDamagedExtentRecordsAreWrittenAgainFromTheBlocks) {
  make_three();
  damage([](BdevMetaStore& meta) {
    spoil(meta, MetaFamily::kExtents, extent_key(meta.load_block(BlockId{1}).value().extents[0].device_offset));
    MetaBatch batch;
    batch.erase(MetaFamily::kExtents, extent_key(meta.load_block(BlockId{3}).value().extents[0].device_offset));
    meta.write(batch, true).value();
  });
  open();
  EXPECT_EQ(store_->recovery().problem_count, 2u);
  EXPECT_EQ(store_->space().quarantined, 0u);
  for (const std::int64_t id : {1, 2, 3}) expect_stamped(id, 0, 100'000);
  close();
  open();
  EXPECT_EQ(store_->recovery().problem_count, 0u);
}

TEST_F(StoreDamage, AVanishedBlockRecordLeavesItsSpaceQuarantined) {
  make_three();
  damage([](BdevMetaStore& meta) {
    MetaBatch batch;
    batch.erase(MetaFamily::kBlocks, block_key(BlockId{2}));
    meta.write(batch, true).value();
  });
  open();
  expect_gone(2);
  EXPECT_EQ(store_->space().allocated, device_before_);
  expect_quarantined("belongs to block 2, which does not know it");
}

TEST_F(StoreDamage, ASnapshotThatKnowsOfMoreSpaceIsBelieved) {
  make_three();
  damage([](BdevMetaStore& meta) {
    const BlockRecord record = meta.load_block(BlockId{2}).value();
    MetaBatch batch;
    batch.erase(MetaFamily::kBlocks, block_key(BlockId{2}));
    batch.erase(MetaFamily::kExtents, extent_key(record.extents[0].device_offset));
    meta.write(batch, true).value();
  });
  open();
  EXPECT_FALSE(store_->recovery().clean_shutdown);
  EXPECT_EQ(store_->space().quarantined, page_round_up(100'000));
  expect_quarantined("was allocated at the clean shutdown and belongs to nobody now");
}

TEST_F(StoreDamage, MissingChecksumsAreCorruptionNotZeros) {
  make_three();
  damage([](BdevMetaStore& meta) {
    const BlockRecord record = meta.load_block(BlockId{2}).value();
    MetaBatch batch;
    batch.erase(MetaFamily::kCrcs, crc_key(BlockId{2}, record.generation, 0));
    meta.write(batch, true).value();
  });
  open();
  EXPECT_EQ(get(2).error().kind(), Errc::kCorrupt);
  expect_stamped(1, 0, 100'000);
}

}  // namespace
}  // namespace leap::test
