// The file system under the metadata fails: a clear error, nothing lost, nothing comes back, the service resumes.
#include "faulty_env.h"
#include "store_fixture.h"

namespace leap::test {
namespace {

using testing::HasSubstr;

class MetadataFault : public StoreFixture, public testing::WithParamInterface<FaultyEnv::What> {
 protected:
  MetadataFault() { config_.meta_env = &env_; }
  ~MetadataFault() override { store_.reset(); }

  [[nodiscard]] Errc expected() const { return GetParam() == FaultyEnv::What::kNoSpace ? Errc::kNoSpace : Errc::kIo; }
  Result<> cancel(std::int64_t id) {
    return run([&](BlockStore& s, NvmePoller& p) { return s.cancel(p, BlockId{id}); });
  }

  FaultyEnv env_;
};

TEST_P(MetadataFault, EveryFailedWriteIsAClearErrorAndLosesNothing) {
  make();
  put_stamped(1, 0, 300'000);
  std::uint64_t version = 0;
  bool all_passed = false;
  for (int nth = 0; nth < 20 && !all_passed; ++nth) {
    SCOPED_TRACE(nth);
    put_stamped(2, 0, 5000);
    env_.fail_from(GetParam(), nth);
    const auto fresh = put(3, stamped(3, 0, 0, 70'000));
    const auto rewritten = put(1, stamped(1, version + 1, 0, 300'000));
    const auto removed = remove(2);
    all_passed = fresh.ok() && rewritten.ok() && removed.ok();
    if (!removed.ok()) {
      EXPECT_EQ(removed.error().kind(), expected()) << removed.error().to_string();
      EXPECT_FALSE(store_->healthy());
      EXPECT_FALSE(put(4, stamped(4, 0, 0, 10)).ok()) << "nothing new is taken in meanwhile";
    }
    if (rewritten.ok()) ++version;
    expect_stamped(1, version, 300'000);
    if (!removed.ok()) expect_stamped(2, 0, 5000);
    env_.heal();
    // All of it works again, without a restart.
    if (!fresh.ok()) {
      const Result<> cancelled = cancel(3);
      EXPECT_TRUE(cancelled.ok()) << cancelled.error().to_string();
    }
    put_stamped(5, 1, 50'000);
    EXPECT_TRUE(store_->healthy());
    put_stamped(1, ++version, 300'000);
    EXPECT_TRUE(removed.ok() || remove(2).ok());
    EXPECT_EQ(store_->space().draining, 0u);
    expect_space_adds_up();
    crash();
    open();
    EXPECT_EQ(store_->recovery().problem_count, 0u);
    expect_stamped(1, version, 300'000);
    expect_gone(2);
    if (fresh.ok())
      expect_stamped(3, 0, 70'000);
    else
      expect_gone(3);
    ASSERT_TRUE(!fresh.ok() || remove(3).ok());
    expect_space_adds_up();
  }
  EXPECT_TRUE(all_passed) << "the loop must come to its end";
}

TEST_P(MetadataFault, ABlockWhoseCommitFailedStaysGoneAfterItsCancel) {
  make();
  env_.fail_from(GetParam(), 0);
  ASSERT_FALSE(put(1, stamped(1, 0, 0, 70'000)).ok());
  EXPECT_FALSE(cancel(1).ok()) << "it cannot be promised yet";
  expect_gone(1);
  EXPECT_EQ(store_->space().draining, page_round_up(70'000));
  env_.heal();
  EXPECT_TRUE(cancel(1).ok());
  EXPECT_FALSE(store_->contains(BlockId{1}));
  expect_space_adds_up();
  EXPECT_EQ(store_->space().draining, 0u);
  crash();
  open();
  expect_gone(1);
  EXPECT_EQ(store_->recovery().problem_count, 0u);
}

TEST_P(MetadataFault, TheStoreNoticesByItselfThatItIsOver) {
  config_.lease_heartbeat = std::chrono::milliseconds(5);
  make();
  env_.fail_from(GetParam(), 0);
  ASSERT_FALSE(put(1, stamped(1, 0, 0, 100)).ok());
  EXPECT_FALSE(store_->healthy());
  env_.heal();
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      for (int i = 0; i < 10'000 && !s.healthy(); ++i) co_await p.sleep_for(std::chrono::milliseconds(1));
    }(store, poller);
  });
  EXPECT_TRUE(store_->healthy());
  put_stamped(1, 1, 100);
  expect_stamped(1, 1, 100);
}

INSTANTIATE_TEST_SUITE_P(All, MetadataFault,
                         testing::Values(FaultyEnv::What::kAppend, FaultyEnv::What::kSync, FaultyEnv::What::kNoSpace),
                         [](const auto& param) {
                           switch (param.param) {
                             case FaultyEnv::What::kAppend: return "Append";
                             case FaultyEnv::What::kSync: return "Sync";
                             default: return "NoSpace";
                           }
                         });

}  // namespace
}  // namespace leap::test
