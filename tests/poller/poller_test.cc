#include "poller/poller.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/affinity.h"
#include "base/cpu.h"
#include "virtual_poller.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using test::VirtualPoller;

void increment(void* counter) { ++*static_cast<int*>(counter); }

Task<int> answer(NvmePoller& poller) {
  co_await poller.yield();
  co_return poller.on_this_thread() ? 42 : 0;
}

std::unique_ptr<NvmePoller> started(NvmePoller::Config config = {}) {
  auto poller = NvmePoller::create(std::move(config)).value();
  poller->start().value();
  return poller;
}

// --- configuration and start ---

TEST(NvmePollerConfig, RefusesValuesOutsideTheirRange) {
  for (const NvmePoller::Config& config :
       {NvmePoller::Config{.core = -2}, NvmePoller::Config{.mailbox_capacity = 0},
        NvmePoller::Config{.mailbox_capacity = (1U << 20) + 1}, NvmePoller::Config{.spin_max = Nanos{-1}},
        NvmePoller::Config{.spin_max = 2s}}) {
    const auto poller = NvmePoller::create(config);
    ASSERT_FALSE(poller.ok());
    EXPECT_EQ(poller.error().kind(), Errc::kInvalidArgument) << poller.error().to_string();
  }
}

TEST(NvmePoller, CannotBePinnedToACoreThatDoesNotExist) {
  for (const int core : {1023, 100'000}) {
    auto poller = NvmePoller::create({.name = "lost", .core = core}).value();
    const Result<> outcome = poller->start();
    ASSERT_FALSE(outcome.ok());
    EXPECT_NE(outcome.error().message().find("lost"), std::string::npos) << outcome.error().message();
    EXPECT_NE(outcome.error().message().find(std::to_string(core)), std::string::npos) << outcome.error().message();
    EXPECT_FALSE(poller->start().ok());  // and may be tried again
    poller->stop();
  }
}

TEST(NvmePoller, RunsOnTheCoreItIsPinnedTo) {
  const unsigned core = allowed_cores().back();
  auto poller = started({.core = static_cast<int>(core)});
  const int ran_on = poller->run([](NvmePoller&) -> Task<int> { co_return sched_getcpu(); });
  EXPECT_EQ(ran_on, static_cast<int>(core));
  poller->stop();
}

TEST(NvmePoller, CannotBeStartedAgainAfterStop) {
  auto poller = started();
  poller->stop();
  poller->stop();
  const Result<> outcome = poller->start();
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().kind(), Errc::kWrongState);
}

TEST(NvmePollerDeathTest, RefusesToRunATaskThatNobodyWouldRun) {
  auto poller = NvmePoller::create({}).value();
  EXPECT_DEATH(poller->run(&answer), "not started");
}

// --- run() ---

TEST(NvmePoller, RunReturnsWhatTheTaskReturns) {
  auto poller = started();
  EXPECT_EQ(poller->run(&answer), 42);
  int done = 0;
  poller->run([&done](NvmePoller& p) -> Task<void> {  // run() keeps the lambda, captures included
    co_await p.sleep_for(1ms);
    ++done;
  });
  EXPECT_EQ(done, 1);
  poller->stop();
}

TEST(NvmePoller, RunIsCancelledWhenThePollerStops) {
  auto poller = started();
  std::atomic<bool> waiting{false};
  std::thread stopper([&] {
    while (!waiting.load()) std::this_thread::yield();
    poller->stop();
  });
  const Result<int> outcome = poller->run([&waiting](NvmePoller& p) -> Task<Result<int>> {
    waiting.store(true);
    co_await p.sleep_for(1h);
    co_return 1;
  });
  stopper.join();
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().kind(), Errc::kCancelled);
  // And at once when it has stopped.
  const Result<int> late = poller->run([](NvmePoller&) -> Task<Result<int>> { co_return 1; });
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().kind(), Errc::kCancelled);
}

// --- mailbox ---

TEST(NvmePollerMailbox, RefusesWhenFullAndTakesAgainWhenDrained) {
  VirtualPoller sim({.mailbox_capacity = 8});
  int calls = 0;
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(sim.poller().try_post(&increment, &calls));
  EXPECT_FALSE(sim.poller().try_post(&increment, &calls));
  EXPECT_EQ(calls, 0);
  sim.poller().run_once();
  EXPECT_EQ(calls, 8);
  EXPECT_TRUE(sim.poller().try_post(&increment, &calls));
  sim.poller().run_once();
  EXPECT_EQ(calls, 9);
}

TEST(NvmePollerMailbox, PostWaitsForRoom) {
  auto poller = started({.mailbox_capacity = 2, .spin_iterations = 0});
  int calls = 0;  // poller's thread, read after stop
  for (int i = 0; i < 10'000; ++i) poller->post(&increment, &calls);
  poller->stop();
  EXPECT_EQ(calls, 10'000);
}

TEST(NvmePollerMailbox, KeepsTheOrderOfOneProducer) {
  auto poller = started();
  struct Item {
    std::vector<int>* log;
    int value;
  };
  std::vector<int> log;
  std::vector<Item> items;
  for (int i = 0; i < 1000; ++i) items.push_back({&log, i});
  for (Item& item : items) {
    poller->post([](void* p) { static_cast<Item*>(p)->log->push_back(static_cast<Item*>(p)->value); }, &item);
  }
  poller->stop();
  ASSERT_EQ(log.size(), 1000U);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(log[static_cast<std::size_t>(i)], i);
}

TEST(NvmePollerMailbox, StopRunsAllThatIsInItWithoutAThreadToo) {
  auto poller = NvmePoller::create({}).value();
  int calls = 0;
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(poller->try_post(&increment, &calls));
  poller->stop();
  EXPECT_EQ(calls, 3000);
  ASSERT_TRUE(poller->try_post(&increment, &calls));  // too late: dropped, also by a second stop
  poller->stop();
  EXPECT_EQ(calls, 3000);
}

TEST(NvmePollerDeathTest, WaitingForRoomInItsOwnMailboxIsAMistakeThatIsTold) {
  VirtualPoller sim({.mailbox_capacity = 2});
  struct Self {
    static void call(void* context) {
      auto& poller = *static_cast<NvmePoller*>(context);
      for (int i = 0; i < 3; ++i) poller.post(&call, context);
    }
  };
  EXPECT_DEATH(
      {
        static_cast<void>(sim.poller().try_post(&Self::call, &sim.poller()));
        sim.poller().run_once();
      },
      "own full mailbox");
}

// --- tasks ---

Task<void> log_when_due(NvmePoller& poller, std::vector<int>& log, int id, Nanos delay) {
  co_await poller.sleep_for(delay);
  log.push_back(id);
}

TEST(NvmePollerTasks, WakeAtTheirDeadlinesInOrder) {
  VirtualPoller sim;
  std::vector<int> log;
  const TimePoint start = sim.clock().now();
  sim.poller().spawn(log_when_due(sim.poller(), log, 3, 30ms));
  sim.poller().spawn(log_when_due(sim.poller(), log, 1, 10ms));
  sim.poller().spawn(log_when_due(sim.poller(), log, 2, 20ms));
  sim.poller().spawn(log_when_due(sim.poller(), log, 0, Nanos{-5}));
  ASSERT_TRUE(sim.run_until([&] { return log.size() == 4; }));
  EXPECT_EQ(log, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(sim.clock().now() - start, Nanos{30ms});
}

TEST(NvmePollerTasks, SleepingForEverIsNotOverByOverflow) {
  VirtualPoller sim;
  std::vector<int> log;
  sim.poller().spawn(log_when_due(sim.poller(), log, 1, Nanos::max()));
  EXPECT_TRUE(sim.settle());
  EXPECT_TRUE(log.empty());
}

Task<void> yield_often(NvmePoller& poller, std::vector<std::uint64_t>& turns, int times) {
  for (int i = 0; i < times; ++i) {
    co_await poller.yield();
    turns.push_back(poller.probe().turns.load());
  }
}

TEST(NvmePollerTasks, YieldLetsEverythingElseHaveATurn) {
  VirtualPoller sim;
  std::vector<std::uint64_t> turns;
  sim.poller().spawn(yield_often(sim.poller(), turns, 10));
  ASSERT_TRUE(sim.settle());
  ASSERT_EQ(turns.size(), 10U);
  for (std::size_t i = 1; i < turns.size(); ++i) EXPECT_EQ(turns[i], turns[i - 1] + 1);
}

// --- turn-end hooks ---

class Hook : public TurnEndHook {
 public:
  explicit Hook(NvmePoller& poller) : poller_(poller) {}
  void on_turn_end() override {
    turns.push_back(poller_.probe().turns.load());
    if (again > 0) {
      --again;
      poller_.at_turn_end(*this);
    }
    if (doomed != nullptr) doomed->reset();
  }
  std::vector<std::uint64_t> turns;
  int again = 0;
  std::unique_ptr<Hook>* doomed = nullptr;

 private:
  NvmePoller& poller_;
};

Task<void> ask_for_turn_end(NvmePoller& poller, Hook& hook, int times) {
  co_await poller.yield();
  for (int i = 0; i < times; ++i) poller.at_turn_end(hook);
}

TEST(NvmePollerTurnEnd, CallsAHookOnceInTheTurnInWhichItWasAskedFor) {
  VirtualPoller sim;
  Hook hook(sim.poller());
  sim.poller().spawn(ask_for_turn_end(sim.poller(), hook, 3));
  const std::uint64_t before = sim.turns();
  sim.poller().run_once();
  ASSERT_EQ(hook.turns.size(), 1U);
  EXPECT_EQ(hook.turns[0], before);  // still inside that turn
  sim.poller().run_once();
  EXPECT_EQ(hook.turns.size(), 1U);
}

TEST(NvmePollerTurnEnd, AHookThatAsksAgainIsCalledInTheNextTurnBeforeThePollerSleeps) {
  VirtualPoller sim;
  Hook hook(sim.poller());
  hook.again = 5;
  sim.poller().at_turn_end(hook);
  ASSERT_TRUE(sim.settle());
  ASSERT_EQ(hook.turns.size(), 6U);
  for (std::size_t i = 1; i < hook.turns.size(); ++i) EXPECT_EQ(hook.turns[i], hook.turns[i - 1] + 1);
  EXPECT_EQ(sim.backend().sleeps, 1U);
}

TEST(NvmePollerTurnEnd, AHookMayDestroyAnother) {
  VirtualPoller sim;
  auto second = std::make_unique<Hook>(sim.poller());
  Hook first(sim.poller());
  first.doomed = &second;
  sim.poller().at_turn_end(first);
  sim.poller().at_turn_end(*second);
  sim.poller().run_once();
  EXPECT_EQ(first.turns.size(), 1U);
  EXPECT_EQ(second, nullptr);
}

// --- driven by its owner ---

class Ready : public test::VirtualSource {
 public:
  bool readable(TimePoint) override { return ready; }
  bool writable(TimePoint) override { return false; }
  TimePoint next_change(TimePoint) override { return TimePoint::max(); }
  bool ready = true;
};

/// Asks for its turn's end whenever it is polled.
class Flusher : public Pollable, public TurnEndHook {
 public:
  Flusher(NvmePoller& poller, Ready& source) : poller_(poller), source_(source) {}
  std::size_t poll() override {
    if (!source_.ready) return 0;
    source_.ready = false;
    poller_.at_turn_end(*this);
    return 1;
  }
  void on_turn_end() override { ++flushed; }
  int flushed = 0;

 private:
  NvmePoller& poller_;
  Ready& source_;
};

TEST(NvmePollerRunOnce, ServesMailboxTimersDescriptorsTasksAndHooksWithoutSleeping) {
  VirtualPoller sim;
  Ready source;
  Flusher flusher(sim.poller(), source);
  const int fd = sim.backend().add(source);
  sim.poller().watch(fd, flusher).value();
  int calls = 0;
  int fired = 0;
  Timer timer(sim.poller().timers(), &increment, &fired);
  timer.arm(sim.clock().now());
  ASSERT_TRUE(sim.poller().try_post(&increment, &calls));
  std::vector<int> log;
  sim.poller().spawn(log_when_due(sim.poller(), log, 7, Nanos{0}));
  EXPECT_EQ(NvmePoller::current(), nullptr);
  EXPECT_GE(sim.poller().run_once(), 5U);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(fired, 1);
  EXPECT_EQ(log, std::vector<int>{7});
  EXPECT_EQ(flusher.flushed, 1) << "what a descriptor brought must leave in the same turn";
  EXPECT_EQ(sim.poller().run_once(), 0U);
  EXPECT_EQ(sim.backend().sleeps, 0U);
  sim.poller().unwatch(fd);
}

TEST(NvmePollerRunOnce, PollersOnOneThreadKnowWhichOneIsCurrent) {
  VirtualPoller outer;
  VirtualPoller inner;
  struct Both {
    NvmePoller& outer;
    NvmePoller& inner;
    bool inside = false;
    bool after = false;
    static void look(void* self) {
      static_cast<Both*>(self)->inside = static_cast<Both*>(self)->inner.on_this_thread();
    }
    static void nest(void* self) {
      auto& both = *static_cast<Both*>(self);
      both.inner.run_once();
      both.after = both.outer.on_this_thread();
    }
  } both{outer.poller(), inner.poller()};
  ASSERT_TRUE(inner.poller().try_post(&Both::look, &both));
  ASSERT_TRUE(outer.poller().try_post(&Both::nest, &both));
  outer.poller().run_once();
  EXPECT_TRUE(both.inside);
  EXPECT_TRUE(both.after);
  EXPECT_EQ(NvmePoller::current(), nullptr);
}

// --- idle ---

TEST(NvmePollerIdle, CostsLessThanOnePercentOfACore) {
  auto poller = started({.name = "idle"});
  struct Cost {
    Nanos cpu{0};
    Nanos wall{0};
  };
  const Cost cost = poller->run([](NvmePoller& p) -> Task<Cost> {
    const Nanos cpu = thread_cpu_time();
    const TimePoint begin = p.clock().now();
    co_await p.sleep_for(300ms);
    co_return Cost{thread_cpu_time() - cpu, p.clock().now() - begin};
  });
  poller->stop();
  EXPECT_GE(cost.wall, Nanos{300ms});
  EXPECT_LT(cost.cpu * 100, cost.wall) << cost.cpu.count() << " ns of CPU in " << cost.wall.count() << " ns";
}

}  // namespace
}  // namespace leap
