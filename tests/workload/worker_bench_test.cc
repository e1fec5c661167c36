// The load against a real worker on a device in memory, over loopback: above all, what it leaves alone.
#include "workload/worker_bench.h"

#include <algorithm>

#include <gmock/gmock.h>

#include "base/units.h"
#include "client/transfer.h"
#include "worker/worker_fixture.h"

namespace leap::testing {
namespace {

using ::testing::HasSubstr;

class WorkerBench : public WorkerTest {
 protected:
  static WorkerBenchConfig config(IoPattern pattern) {
    WorkerBenchConfig config;
    config.worker = env().worker().rpc_address();
    config.pattern = pattern;
    config.block_size = 64 * 1024;
    config.connections = 3;
    config.store_block = 256 * 1024;
    config.duration = std::chrono::milliseconds(50);
    config.warmup = Nanos{0};
    config.verify = true;
    return config;
  }
  static Task<Result<std::uint64_t>> put(NvmePoller& poller, BlockId id) {
    const WorkerConnection::Config defaults;
    LEAP_CO_TRY(auto connection,
                co_await WorkerConnection::connect(poller, Net::system(), env().worker().rpc_address(), defaults));
    bool done = false;
    const BlockSource source = [&done](std::span<std::byte> out) -> Result<std::size_t> {
      if (std::exchange(done, true)) return std::size_t{0};
      std::fill_n(out.begin(), 100, std::byte{'x'});
      return std::size_t{100};
    };
    Result<std::uint64_t> stored = co_await put_block(*connection, {.id = id, .capacity = 100}, source);
    co_return stored;
  }
  static std::uint64_t blocks() { return env().store().space().blocks; }

  test::PollerThread client_{1U << 20U};
};

TEST_F(WorkerBench, MeasuresVerifiesAndLeavesNothing) {
  const std::uint64_t before = blocks();
  for (const IoPattern pattern : {IoPattern::kRead, IoPattern::kWrite, IoPattern::kRandRead}) {
    const auto report = run_worker_bench(config(pattern));
    ASSERT_TRUE(report.ok()) << report.error().to_string();
    EXPECT_TRUE(report->good()) << report->first_error;
    EXPECT_GT(report->ios(), 0u);
    EXPECT_EQ(report->verified_units > 0, pattern != IoPattern::kWrite);
    EXPECT_EQ(blocks(), before);
  }
}

TEST_F(WorkerBench, ChoosesIdsThatNoMasterGivesOut) {
  const std::int64_t one = unused_block_ids();
  const std::int64_t other = unused_block_ids();
  EXPECT_NE(one, other) << "two runs at a time do not meet";
  for (const std::int64_t id : {one, other}) {
    EXPECT_NE(id & (std::int64_t{1} << 62U), 0);
    EXPECT_GT(id + (std::int64_t{1} << 24U), id) << "room for the blocks of a run";
  }
}

TEST_F(WorkerBench, RefusesAnIdInUseAndRemovesOnlyItsOwn) {
  const std::int64_t first = new_id() << 24U;
  const BlockId foreign{first + 2};
  ASSERT_TRUE(client_.run([&](NvmePoller& poller) { return put(poller, foreign); }).ok());
  const std::uint64_t generation = env().store().stat(foreign)->info.generation;
  const std::uint64_t before = blocks();
  for (const IoPattern pattern : {IoPattern::kRead, IoPattern::kWrite, IoPattern::kRandRead}) {
    WorkerBenchConfig load = config(pattern);
    load.first_block_id = first;
    const auto report = run_worker_bench(load);
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().kind(), Errc::kAlreadyExists) << report.error().to_string();
    EXPECT_THAT(report.error().message(), HasSubstr(std::to_string(foreign.value())));
    const auto still = env().store().stat(foreign);
    ASSERT_TRUE(still.ok()) << "somebody else's block";
    EXPECT_EQ(still->info.generation, generation);
    EXPECT_FALSE(still->info.rewriting);
    EXPECT_EQ(blocks(), before);
  }
}

TEST_F(WorkerBench, RefusesWhatMakesNoSense) {
  const auto broken = [](auto change) {
    WorkerBenchConfig load = config(IoPattern::kRead);
    change(load);
    return load.validate();
  };
  EXPECT_FALSE(broken([](WorkerBenchConfig& c) { c.pattern = IoPattern::kRandWrite; }).ok());
  EXPECT_FALSE(broken([](WorkerBenchConfig& c) { c.block_size = 1000; }).ok());
  EXPECT_FALSE(broken([](WorkerBenchConfig& c) { c.store_block = 100 * 1024; }).ok());
  EXPECT_FALSE(broken([](WorkerBenchConfig& c) { c.connections = 0; }).ok());
  EXPECT_FALSE(broken([](WorkerBenchConfig& c) { c.first_block_id = INT64_MAX; }).ok());
  EXPECT_TRUE(broken([](WorkerBenchConfig&) {}).ok());
}

}  // namespace
}  // namespace leap::testing
