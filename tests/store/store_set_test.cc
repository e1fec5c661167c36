#include "store/store_set.h"

#include "store_fixture.h"

namespace leap::test {
namespace {

using testing::HasSubstr;

class StoreSetTest : public testing::Test {
 protected:
  void add(StorageType type, std::uint64_t size) {
    devices_.push_back(std::make_unique<TestDevice>(size));
    BlockStore::Config config;
    config.name = "dir" + std::to_string(devices_.size());
    config.meta_dir = dir_.path() + "/" + config.name;
    config.cluster_id = "c";
    const PollerContext context{&thread_.poller(), &thread_.pool()};
    ASSERT_TRUE(BlockStore::format(context, *devices_.back(), {.meta_dir = config.meta_dir, .cluster_id = "c"}).ok());
    ASSERT_TRUE(set_.add(type, BlockStore::open(config, *devices_.back(), {context}).value()).ok());
  }
  Result<StorageType> put(std::int64_t id, StorageType type, std::size_t size) {
    return thread_.run([&](NvmePoller& p) {
      return [](StoreSet& set, NvmePoller& poller, BlockId block, StorageType wanted,
                std::size_t n) -> Task<Result<StorageType>> {
        LEAP_CO_TRY(auto open, co_await set.open_writer(poller, block, {.capacity = n, .type = wanted}));
        LEAP_CO_TRY_VOID(co_await open.writer->write(stamped(block.value(), 0, 0, n)));
        LEAP_CO_TRY(const BlockInfo info, co_await open.writer->complete(n));
        EXPECT_EQ(info.length, n);
        co_return open.type;
      }(set_, p, BlockId{id}, type, size);
    });
  }

  TempDir dir_;
  PollerThread thread_{64 * kMi};
  std::vector<std::unique_ptr<TestDevice>> devices_;
  StoreSet set_;
};

TEST_F(StoreSetTest, PlacesByTypeInTurnsAndFallsBackToAnyDirectory) {
  add(StorageType::kSsd, 64 * kMi);
  add(StorageType::kHdd, 64 * kMi);
  add(StorageType::kSsd, 64 * kMi);
  for (std::int64_t id = 1; id <= 6; ++id) EXPECT_EQ(put(id, StorageType::kSsd, 1000).value(), StorageType::kSsd);
  EXPECT_EQ(set_.directories()[0].store->space().blocks, 3u);
  EXPECT_EQ(set_.directories()[1].store->space().blocks, 0u);
  EXPECT_EQ(set_.directories()[2].store->space().blocks, 3u);
  for (std::int64_t id = 11; id <= 16; ++id) ASSERT_TRUE(put(id, StorageType::kDisk, 1000).ok());
  for (const auto& directory : set_.directories()) EXPECT_GE(directory.store->space().blocks, 2u);
  EXPECT_TRUE(put(20, StorageType::kMem, 1000).ok()) << "no such directory: any will do";
  const auto refused = put(21, StorageType::kHdd, 70 * kMi);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kNoSpace);
  EXPECT_THAT(refused.error().message(), HasSubstr("Not enough HDD storage capacity for"));
  EXPECT_EQ(set_.space().blocks, 13u);
  EXPECT_TRUE(set_.close().ok());
}

TEST_F(StoreSetTest, FindsABlockWhereverItIs) {
  add(StorageType::kSsd, 16 * kMi);
  add(StorageType::kHdd, 16 * kMi);
  for (std::int64_t id = 1; id <= 8; ++id)
    ASSERT_TRUE(put(id, StorageType::kDisk, static_cast<std::size_t>(id) * 100).ok());
  std::size_t seen = 0;
  StoreSet::ListPage page = set_.list({}, 3);
  for (;;) {
    seen += page.blocks.size();
    for (const auto& listed : page.blocks) {
      EXPECT_EQ(set_.stat(listed.info.id)->type, listed.type);
      EXPECT_EQ(listed.info.length, static_cast<std::uint64_t>(listed.info.id.value()) * 100);
    }
    if (!page.next) break;
    page = set_.list(*page.next, 3);
  }
  EXPECT_EQ(seen, 8u);
  thread_.run([&](NvmePoller& p) {
    return [](StoreSet& set, NvmePoller& poller) -> Task<void> {
      for (std::int64_t id = 1; id <= 8; ++id) {
        auto open = (co_await set.open_reader(poller, BlockId{id})).value();
        EXPECT_EQ(open.reader->length(), static_cast<std::uint64_t>(id) * 100);
      }
      (co_await set.remove(poller, BlockId{3})).value();
      EXPECT_EQ((co_await set.open_reader(poller, BlockId{3})).error().kind(), Errc::kNotFound);
      EXPECT_EQ((co_await set.remove(poller, BlockId{3})).error().kind(), Errc::kNotFound);
      EXPECT_TRUE((co_await set.cancel(poller, BlockId{3})).ok());
      EXPECT_TRUE((co_await set.complete(poller, BlockId{4}, 400, 400)).ok());
    }(set_, p);
  });
  EXPECT_TRUE(set_.close().ok());
}

TEST_F(StoreSetTest, ABlockThatMayBeInAnOfflineDirectoryIsNotContinuedElsewhere) {
  add(StorageType::kSsd, 16 * kMi);
  set_.note_offline();
  thread_.run([&](NvmePoller& p) {
    return [](StoreSet& set, NvmePoller& poller) -> Task<void> {
      const auto refused = co_await set.open_writer(poller, BlockId{1}, {.capacity = kMi, .offset = 4096});
      EXPECT_FALSE(refused.ok());
      EXPECT_EQ(refused.ok() ? Errc::kInternal : refused.error().kind(), Errc::kIo);
      EXPECT_FALSE(set.stat(BlockId{1}).ok());
    }(set_, p);
  });
  EXPECT_TRUE(put(1, StorageType::kSsd, 1000).ok()) << "a block from its start is complete";
  EXPECT_TRUE(set_.close().ok());
}

TEST_F(StoreSetTest, RefusesACopiedDirectory) {
  add(StorageType::kSsd, 16 * kMi);
  const Uuid storage = set_.directories()[0].store->superblock().storage_id;
  TestDevice copy(16 * kMi);
  const PollerContext context{&thread_.poller(), &thread_.pool()};
  BlockStore::Config config;
  config.meta_dir = dir_.path() + "/copy";
  config.cluster_id = "c";
  ASSERT_TRUE(
      BlockStore::format(context, copy, {.meta_dir = config.meta_dir, .cluster_id = "c", .storage_id = storage}).ok());
  const Result<> refused = set_.add(StorageType::kSsd, BlockStore::open(config, copy, {context}).value());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kAlreadyExists);
}

}  // namespace
}  // namespace leap::test
