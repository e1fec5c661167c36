#include "poller/blocking_pool.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "memory/arena.h"
#include "poller/dma_await.h"
#include "poller/sync.h"
#include "virtual_poller.h"

namespace leap {
namespace {

using test::VirtualPoller;

std::unique_ptr<NvmePoller> started() {
  auto poller = NvmePoller::create({.name = "home"}).value();
  poller->start().value();
  return poller;
}

TEST(BlockingPool, RunsElsewhereAndGoesOnAtHome) {
  BlockingPool pool({.name = "elsewhere", .threads = 2});
  auto poller = started();
  struct Where {
    std::thread::id before, inside, after;
  };
  const Where where = poller->run([&pool](NvmePoller& p) -> Task<Where> {
    Where w;
    w.before = std::this_thread::get_id();
    w.inside = co_await pool.run(p, [] { return std::this_thread::get_id(); });
    w.after = std::this_thread::get_id();
    co_return w;
  });
  EXPECT_EQ(where.before, where.after);
  EXPECT_NE(where.before, where.inside);
  pool.stop();
  poller->stop();
}

TEST(BlockingPool, CarriesMoveOnlyResultsAndNothing) {
  BlockingPool pool({});
  auto poller = started();
  const int value = poller->run([&pool](NvmePoller& p) -> Task<int> {
    std::unique_ptr<int> result = co_await pool.run(p, [] { return std::make_unique<int>(7); });
    bool ran = false;
    co_await pool.run(p, [&ran] { ran = true; });
    co_return ran ? *result : 0;
  });
  EXPECT_EQ(value, 7);
  pool.stop();
  poller->stop();
}

Task<void> add_up(NvmePoller& poller, BlockingPool& pool, int value, std::int64_t& sum) {
  const int doubled = co_await pool.run(poller, [value] { return 2 * value; });
  sum += doubled;
}

TEST(BlockingPool, ServesManyTasksOfSeveralPollers) {
  BlockingPool pool({.threads = 3});
  std::vector<std::unique_ptr<NvmePoller>> pollers;
  for (int i = 0; i < 2; ++i) pollers.push_back(started());
  for (auto& poller : pollers) {
    const std::int64_t sum = poller->run([&pool](NvmePoller& p) -> Task<std::int64_t> {
      std::int64_t total = 0;
      TaskGroup group(p);
      for (int i = 0; i < 500; ++i) group.spawn(add_up(p, pool, i, total));
      co_await group.wait();
      co_return total;
    });
    EXPECT_EQ(sum, 500 * 499);
  }
  pool.stop();
  for (auto& poller : pollers) poller->stop();
}

TEST(BlockingPool, WithNoThreadsConfiguredStillAnswers) {
  BlockingPool pool({.threads = 0});
  auto poller = started();
  const int value = poller->run([&pool](NvmePoller& p) -> Task<int> {
    const int inner = co_await pool.run(p, [] { return 3; });
    co_return inner;
  });
  EXPECT_EQ(value, 3);
  pool.stop();
  poller->stop();
}

// --- DMA buffers ---

Task<void> take(NvmePoller& poller, DmaPool& pool, std::size_t size, std::vector<int>& log, std::vector<DmaBuf>& held,
                int id) {
  Result<DmaBuf> buffer = co_await allocate(poller, pool, size);
  log.push_back(buffer.ok() ? id : -id);
  if (buffer.ok()) held.push_back(std::move(buffer).value());
}

TEST(DmaAwait, ExhaustionIsBackPressureServedInOrder) {
  VirtualPoller sim;
  auto arena = HugePageArena::create({.size = 16384, .highest = PageKind::kSmall}).value();
  DmaPool pool(arena.memory().first(16384));
  std::vector<int> log;
  std::vector<DmaBuf> held;
  sim.poller().spawn(take(sim.poller(), pool, 12000, log, held, 1));  // all of it, rounded up
  EXPECT_EQ(log, std::vector<int>{1});
  sim.poller().spawn(take(sim.poller(), pool, 8192, log, held, 2));
  sim.poller().spawn(take(sim.poller(), pool, 16384, log, held, 3));
  sim.poller().spawn(take(sim.poller(), pool, 4096, log, held, 4));   // would fit beside 2, but 3 is before it
  sim.poller().spawn(take(sim.poller(), pool, 32768, log, held, 5));  // never: told at once
  EXPECT_EQ(log, (std::vector<int>{1, -5}));
  EXPECT_FALSE(pool.try_allocate(4096).has_value());
  held.clear();
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(log, (std::vector<int>{1, -5, 2}));
  held.clear();
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(log, (std::vector<int>{1, -5, 2, 3}));
  held.clear();
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(log, (std::vector<int>{1, -5, 2, 3, 4}));
  held.clear();
  EXPECT_EQ(pool.bytes_free(), pool.capacity());
  EXPECT_EQ(pool.probe().waits, 3U);
}

}  // namespace
}  // namespace leap
