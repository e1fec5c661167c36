#include "poller/sync.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "virtual_poller.h"

namespace leap {
namespace {

using test::VirtualPoller;
using Log = std::vector<int>;

Task<void> wait_for(AsyncEvent& event, Log& log, int id) {
  co_await event.wait();
  log.push_back(id);
}

TEST(AsyncEvent, LetsAllWaitersGoOnInOrderButNotFromInsideSet) {
  VirtualPoller sim;
  AsyncEvent event(sim.poller());
  Log log;
  for (int i = 0; i < 3; ++i) sim.poller().spawn(wait_for(event, log, i));
  sim.poller().run_once();
  EXPECT_TRUE(log.empty());
  event.set();
  EXPECT_TRUE(log.empty());
  sim.poller().run_once();
  EXPECT_EQ(log, (Log{0, 1, 2}));
  sim.poller().spawn(wait_for(event, log, 3));  // set already: does not wait
  EXPECT_EQ(log.back(), 3);
}

TEST(AsyncEvent, ResetMakesLaterWaitersWaitButHoldsNobodyBackWhoWasReleased) {
  VirtualPoller sim;
  AsyncEvent event(sim.poller());
  Log log;
  sim.poller().spawn(wait_for(event, log, 0));
  event.set();
  event.reset();
  sim.poller().spawn(wait_for(event, log, 1));
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(log, Log{0});
  event.set();
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(log, (Log{0, 1}));
}

Task<void> take(AsyncSemaphore& semaphore, std::size_t units, Log& log, int id) {
  co_await semaphore.acquire(units);
  log.push_back(id);
}

TEST(AsyncSemaphore, ServesFirstComeFirstServedWhateverTheSize) {
  VirtualPoller sim;
  AsyncSemaphore semaphore(sim.poller(), 3);
  Log log;
  sim.poller().spawn(take(semaphore, 2, log, 0));  // at once
  sim.poller().spawn(take(semaphore, 3, log, 1));  // has to wait
  sim.poller().spawn(take(semaphore, 1, log, 2));  // would fit, but must not overtake
  EXPECT_FALSE(semaphore.try_acquire(1));
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(log, Log{0});
  semaphore.release(2);
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(log, (Log{0, 1}));
  semaphore.release(3);
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(log, (Log{0, 1, 2}));
  EXPECT_EQ(semaphore.available(), 2U);
}

/// Several pollers' worth of awaiters cannot be destroyed one by one except by stopping their poller: one semaphore
/// shared by two pollers of this thread lets one of them go.
TEST(AsyncSemaphore, AWaiterThatIsDestroyedLetsThoseBehindItGoOn) {
  VirtualPoller stays;
  auto leaves = std::make_unique<VirtualPoller>();
  AsyncSemaphore semaphore(stays.poller(), 2);
  ASSERT_TRUE(semaphore.try_acquire(1));
  Log log;
  leaves->poller().spawn(take(semaphore, 2, log, 1));  // first in the queue, needs more than there is
  stays.poller().spawn(take(semaphore, 1, log, 2));
  ASSERT_TRUE(stays.settle());
  EXPECT_TRUE(log.empty());
  leaves.reset();
  ASSERT_TRUE(stays.settle());
  EXPECT_EQ(log, Log{2});
}

TEST(AsyncSemaphore, UnitsGrantedToATaskThatIsDestroyedBeforeItGoesOnComeBack) {
  VirtualPoller stays;
  auto leaves = std::make_unique<VirtualPoller>();
  AsyncSemaphore semaphore(leaves->poller(), 1);
  ASSERT_TRUE(semaphore.try_acquire(1));
  Log log;
  leaves->poller().spawn(take(semaphore, 1, log, 1));
  semaphore.release();  // granted, scheduled
  EXPECT_EQ(semaphore.available(), 0U);
  leaves->poller().stop();
  EXPECT_EQ(semaphore.available(), 1U);
  EXPECT_TRUE(log.empty());
}

TEST(AsyncSemaphore, MayBeDestroyedBeforeThoseWhoWaitForIt) {
  VirtualPoller sim;
  auto semaphore = std::make_unique<AsyncSemaphore>(sim.poller(), 1);
  Log log;
  ASSERT_TRUE(semaphore->try_acquire(1));
  sim.poller().spawn(take(*semaphore, 1, log, 1));
  sim.poller().spawn(take(*semaphore, 1, log, 2));
  semaphore->release();  // the first is granted but not resumed, the second waits
  semaphore.reset();
  sim.poller().stop();  // destroys both
  EXPECT_TRUE(log.empty());
}

Task<void> critical(NvmePoller& poller, AsyncMutex& mutex, int& inside, int& worst, Log& log, int id) {
  const AsyncMutex::Guard guard = co_await mutex.lock();
  ++inside;
  worst = std::max(worst, inside);
  co_await poller.yield();
  co_await poller.yield();
  --inside;
  log.push_back(id);
}

TEST(AsyncMutex, LetsOneTaskInAtATimeInArrivalOrder) {
  VirtualPoller sim;
  AsyncMutex mutex(sim.poller());
  int inside = 0;
  int worst = 0;
  Log log;
  for (int i = 0; i < 5; ++i) sim.poller().spawn(critical(sim.poller(), mutex, inside, worst, log, i));
  EXPECT_TRUE(mutex.locked());
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(worst, 1);
  EXPECT_EQ(log, (Log{0, 1, 2, 3, 4}));
  EXPECT_FALSE(mutex.locked());
}

Task<void> work(NvmePoller& poller, int turns, int& done) {
  for (int i = 0; i < turns; ++i) co_await poller.yield();
  ++done;
}

Task<void> spawner(NvmePoller& poller, TaskGroup& group, int& done) {
  co_await poller.yield();
  group.spawn(work(poller, 5, done));
  ++done;
}

Task<void> fan_out(NvmePoller& poller, int& done, std::optional<int>& seen) {
  TaskGroup group(poller);
  co_await group.wait();  // of nothing
  for (int i = 0; i < 4; ++i) group.spawn(work(poller, i, done));
  group.spawn(spawner(poller, group, done));
  co_await group.wait();
  seen = done;
  EXPECT_EQ(group.running(), 0U);
}

TEST(TaskGroup, WaitsForAllItsTasksThoseTheySpawnIncluded) {
  VirtualPoller sim;
  int done = 0;
  std::optional<int> seen;
  sim.poller().spawn(fan_out(sim.poller(), done, seen));
  ASSERT_TRUE(sim.settle());
  ASSERT_TRUE(seen.has_value());
  EXPECT_EQ(*seen, 6);
}

}  // namespace
}  // namespace leap
