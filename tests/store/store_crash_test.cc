// The process or the machine dies at any moment: what was acknowledged is there, the rest is not, the space adds up.
#include <map>

#include "poller/sync.h"
#include "store_fixture.h"

namespace leap::test {
namespace {

class StoreCrash : public StoreFixture {};

TEST_F(StoreCrash, FinalizedBlocksSurvivePowerLossUnfinishedOnesDoNot) {
  make();
  put_stamped(1, 0, 3 * kMi + 5);
  put_stamped(2, 0, 100);
  put_stamped(3, 0, 5000);
  ASSERT_TRUE(remove(3).ok());
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      auto fresh = (co_await s.open_writer(p, BlockId{4}, {.capacity = kMi})).value();
      (co_await fresh->write(stamped(4, 0, 0, 500'000))).value();
      (co_await fresh->flush()).value();
      co_await fresh->detach();
      auto rewrite = (co_await s.open_writer(p, BlockId{2}, {.capacity = kMi})).value();
      (co_await rewrite->write(stamped(2, 1, 0, 500'000))).value();
      (co_await rewrite->flush()).value();
      co_await rewrite->detach();
    }(store, poller);
  });
  const std::uint64_t free_before = store_->space().free;
  crash();
  open();
  EXPECT_FALSE(store_->recovery().clean_shutdown);
  EXPECT_EQ(store_->recovery().problem_count, 0u);
  expect_stamped(1, 0, 3 * kMi + 5);
  expect_stamped(2, 0, 100);
  expect_gone(3);
  expect_gone(4);
  EXPECT_FALSE(store_->contains(BlockId{4}));
  EXPECT_GT(store_->space().free, free_before);
  expect_space_adds_up();
}

TEST_F(StoreCrash, ACommitIsAcknowledgedOnlyAfterTheDeviceFlush) {
  make();
  const std::uint64_t flushes = device_->flushes();
  put_stamped(1, 0, 10'000);
  EXPECT_GT(device_->flushes(), flushes);
  device_->fail_flushes(0);
  const auto refused = put(2, stamped(2, 0, 0, 10'000));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kIo);
  EXPECT_FALSE(store_->contains(BlockId{2}));
  put_stamped(2, 1, 10'000);
  crash();
  open();
  expect_stamped(2, 1, 10'000);
}

// What a failed flush has dropped, the next successful one does not bring back.
TEST_F(StoreCrash, AFailedFlushIsRememberedByEverybodyWhoHadWrittenBefore) {
  make();
  run([this](BlockStore& store, NvmePoller& poller) {
    return [](TestDevice& device, BlockStore& s, NvmePoller& p) -> Task<void> {
      auto bystander = (co_await s.open_writer(p, BlockId{1}, {.capacity = 4 * kMi})).value();
      (co_await bystander->write(stamped(1, 0, 0, 2 * kMi))).value();
      auto durable = (co_await s.open_writer(p, BlockId{2}, {.capacity = 4 * kMi})).value();
      (co_await durable->write(stamped(2, 0, 0, 50'000))).value();
      (co_await durable->flush()).value();
      auto parked = (co_await s.open_writer(p, BlockId{3}, {.capacity = 4 * kMi})).value();
      (co_await parked->write(stamped(3, 0, 0, 50'000))).value();
      co_await parked->detach();
      auto victim = (co_await s.open_writer(p, BlockId{4}, {.capacity = 4 * kMi})).value();
      (co_await victim->write(stamped(4, 0, 0, 50'000))).value();
      device.fail_flushes(0);
      EXPECT_EQ((co_await victim->complete(50'000)).error().kind(), Errc::kIo);

      const auto forgotten = co_await bystander->complete(2 * kMi);
      EXPECT_FALSE(forgotten.ok()) << "its first chunks were in the cache that the failed flush dropped";
      const std::string why = forgotten.ok() ? "" : forgotten.error().message();
      EXPECT_THAT(why, testing::HasSubstr("a flush of the device failed"));
      EXPECT_FALSE((co_await s.complete(p, BlockId{3}, 50'000, 4 * kMi)).ok());
      EXPECT_TRUE((co_await durable->complete(50'000)).ok()) << "its data was durable before";
      (co_await victim->cancel()).value();
      (co_await bystander->cancel()).value();
    }(*device_, store, poller);
  });
  put_stamped(4, 1, 50'000);
  crash();
  open();
  expect_stamped(2, 0, 50'000);
  expect_stamped(4, 1, 50'000);
  expect_gone(1);
}

TEST_F(StoreCrash, WithoutAVolatileCacheNoFlushIsSent) {
  device_ = std::make_unique<TestDevice>(64 * kMi, false);
  make();
  const std::uint64_t flushes = device_->flushes();
  put_stamped(1, 0, 10'000);
  EXPECT_EQ(device_->flushes(), flushes);
  crash();
  open();
  expect_stamped(1, 0, 10'000);
}

TEST_F(StoreCrash, ACleanCloseLeavesASnapshotThatTheNextOpenChecks) {
  make();
  for (std::int64_t id = 1; id <= 20; ++id) put_stamped(id, 0, static_cast<std::size_t>(id) * 10'000);
  for (std::int64_t id = 1; id <= 20; id += 3) ASSERT_TRUE(remove(id).ok());
  const SpaceInfo before = store_->space();
  close();
  open();
  EXPECT_TRUE(store_->recovery().clean_shutdown);
  EXPECT_EQ(store_->recovery().epoch, 2u);
  EXPECT_EQ(store_->space().free, before.free);
  EXPECT_EQ(store_->space().largest_free_extent, before.largest_free_extent);
  expect_space_adds_up();
  crash();
  open();
  EXPECT_FALSE(store_->recovery().clean_shutdown);
  EXPECT_EQ(store_->recovery().problem_count, 0u);
}

TEST_F(StoreCrash, CloseRefusesNewWorkAndNamesWhatIsStillOpen) {
  config_.close_timeout = std::chrono::milliseconds(20);
  make();
  put_stamped(1, 0, 100);
  auto reader =
      run([](BlockStore& store, NvmePoller& poller) { return store.open_reader(poller, BlockId{1}); }).value();
  const Result<> refused = store_->close();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kTimedOut);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("1 readers, writers or operations"));
  EXPECT_EQ(put(2, stamped(2, 0, 0, 10)).error().kind(), Errc::kClosed);
  run([&](BlockStore& /*store*/, NvmePoller& /*poller*/) {
    return [](std::unique_ptr<BlockReader> gone) -> Task<void> {
      gone.reset();
      co_return;
    }(std::move(reader));
  });
  close();
}

// What the model knows about one block: the version that was acknowledged last, and what was under way at the crash.
struct Model {
  struct Version {
    std::uint64_t version = 0;
    std::size_t size = 0;
    bool exists = false;
  };
  std::map<std::int64_t, Version> acknowledged;
  std::map<std::int64_t, std::vector<Version>> possible;  // not acknowledged either way
};

Task<void> random_life(BlockStore& store, NvmePoller& poller, std::uint64_t seed, std::int64_t first_id, Model& model,
                       int steps) {
  Rng rng(seed);
  for (int i = 0; i < steps; ++i) {
    const std::int64_t id = first_id + static_cast<std::int64_t>(rng.below(8));
    const std::uint64_t version = 1 + rng.below(255);
    if (rng.chance(0.2)) {
      model.possible[id].push_back({0, 0, false});
      const Result<> removed = co_await store.remove(poller, BlockId{id});
      if (removed) model.acknowledged[id] = {0, 0, false};
      if (removed || removed.error().kind() == Errc::kNotFound)
        model.possible[id].clear();
      else
        co_return;
      continue;
    }
    const std::size_t size = 1 + rng.below(rng.chance(0.2) ? 900'000 : 20'000);
    auto writer = co_await store.open_writer(poller, BlockId{id}, {.capacity = kMi});
    if (!writer) co_return;
    Result<> written = co_await (*writer)->resize({.length = 0, .zero_range = true});
    if (written) written = co_await (*writer)->write(stamped(id, version, 0, size));
    if (!written) co_return;
    if (rng.chance(0.15)) {
      (co_await (*writer)->cancel()).value();
      continue;
    }
    model.possible[id].push_back({version, size, true});
    const Result<BlockInfo> info = co_await (*writer)->complete(size);
    if (!info) co_return;
    model.acknowledged[id] = {version, size, true};
    model.possible[id].clear();
  }
}

TEST_F(StoreCrash, RandomLivesWithPowerLossKeepEveryAcknowledgedBlock) {
  make();
  Model model, others;
  for (std::uint64_t round = 0; round < 25; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    // The device dies in the middle: from some write on nothing succeeds, and what was not flushed goes or stays as it
    // likes.
    if (round % 2 == 1) device_->fail_writes(static_cast<int>(rng_.below(60)), true);
    std::thread other(
        [&] { run([&](BlockStore& s, NvmePoller& p) { return random_life(s, p, round * 2, 100, others, 15); }, 1); });
    run([&](BlockStore& s, NvmePoller& p) {
      return [](BlockStore& st, NvmePoller& po, std::uint64_t seed, Model& m) -> Task<void> {
        TaskGroup group(po);
        for (std::int64_t lane = 0; lane < 3; ++lane) {
          group.spawn(random_life(st, po, seed + static_cast<std::uint64_t>(lane), 1 + lane * 10, m, 15));
        }
        co_await group.wait();
      }(s, p, round * 100, model);
    });
    other.join();
    for (const auto& [id, version] : others.acknowledged) model.acknowledged[id] = version;
    for (const auto& [id, versions] : others.possible) model.possible[id] = versions;
    others = {};
    if (round % 5 == 4) {
      device_->heal();
      close();
    } else {
      crash(true, 0.5);
      device_->heal();
    }
    open();
    ASSERT_EQ(store_->recovery().problem_count, 0u) << store_->recovery().problems.front();
    for (const auto& [id, version] : model.acknowledged) {
      const auto content = get(id);
      bool matches = version.exists ? content.ok() && *content == stamped(id, version.version, 0, version.size)
                                    : !content.ok() && content.error().kind() == Errc::kNotFound;
      for (const Model::Version& maybe : model.possible[id]) {
        const bool is =
            maybe.exists ? content.ok() && *content == stamped(id, maybe.version, 0, maybe.size) : !content.ok();
        if (is && !matches) model.acknowledged[id] = maybe;
        matches = matches || is;
      }
      ASSERT_TRUE(matches) << "block " << id << ", version " << version.version
                           << (content.ok() ? "" : ": " + content.error().to_string());
    }
    model.possible.clear();
    expect_space_adds_up();
  }
}

}  // namespace
}  // namespace leap::test
