// Real threads against a real poller that really sleeps: no call may be left lying, and the eventfd is written only for
// a poller that sleeps. A lost wake-up is found by a deadline, not by a hang.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/random.h"
#include "base/sys.h"
#include "poller/poller.h"

namespace leap {
namespace {

using std::chrono::seconds;

constexpr seconds kPatience{5};

std::unique_ptr<NvmePoller> started(NvmePoller::Config config) {
  auto poller = NvmePoller::create(std::move(config)).value();
  poller->start().value();
  return poller;
}

/// One thread that posts bursts and waits for each: with everybody waiting, nobody's post makes up for a lost wake-up.
class Producer {
 public:
  Producer(NvmePoller& poller, std::uint64_t seed) : poller_(poller), rng_(seed) {}

  /// False: a call was not run although the poller had nothing else to do.
  [[nodiscard]] bool run(int bursts) {
    for (int i = 0; i < bursts; ++i) {
      const std::uint64_t burst = rng_.chance(0.7) ? 1 : 1 + rng_.below(20);
      for (std::uint64_t n = 0; n < burst; ++n) poller_.post(&Producer::on_poller, this);
      sent_ += burst;
      if (!answered()) return false;
      pause();
    }
    return true;
  }
  [[nodiscard]] std::uint64_t sent() const { return sent_; }

 private:
  static void on_poller(void* self) { static_cast<Producer*>(self)->run_.fetch_add(1, std::memory_order_release); }

  [[nodiscard]] bool answered() const {
    // Tight at first: the next post has to come while the poller is falling asleep.
    for (int i = 0; i < 500; ++i) {
      if (run_.load(std::memory_order_acquire) == sent_) return true;
      cpu_relax();
    }
    const TimePoint give_up = Clock::system().now() + kPatience;
    while (run_.load(std::memory_order_acquire) != sent_) {
      if (Clock::system().now() > give_up) return false;
      std::this_thread::yield();
    }
    return true;
  }
  /// Hits the moments around falling asleep: nothing, a few instructions, now and then some microseconds.
  void pause() {
    const std::uint64_t relax = rng_.below(8) == 0 ? rng_.below(400) : rng_.below(30);
    for (std::uint64_t i = 0; i < relax; ++i) cpu_relax();
  }

  NvmePoller& poller_;
  Rng rng_;
  std::uint64_t sent_ = 0;
  std::atomic<std::uint64_t> run_{0};
};

struct StressCase {
  std::uint32_t spin_iterations;
  int threads;
};

class WakeupStress : public ::testing::TestWithParam<StressCase> {};

TEST_P(WakeupStress, NoCallIsLeftLyingWhenPostsRaceWithSleep) {
  auto poller = started({.name = "stress", .mailbox_capacity = 64, .spin_iterations = GetParam().spin_iterations});
  std::vector<std::unique_ptr<Producer>> producers;
  std::atomic<int> lost{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < GetParam().threads; ++i) {
      producers.push_back(std::make_unique<Producer>(*poller, static_cast<std::uint64_t>(i) + 1));
      threads.emplace_back([&lost, producer = producers.back().get()] {
        if (!producer->run(6000)) lost.fetch_add(1);
      });
    }
  }
  EXPECT_EQ(lost.load(), 0) << "a wake-up was lost: the poller slept with calls in its mailbox";
  poller->stop();
  std::uint64_t sent = 0;
  for (const auto& producer : producers) sent += producer->sent();
  EXPECT_EQ(poller->probe().mailbox_calls.load(), sent);
  EXPECT_GT(poller->probe().sleeps.load(), 100U) << "the poller hardly slept: this run proves little";
}

INSTANTIATE_TEST_SUITE_P(Shapes, WakeupStress,
                         ::testing::Values(StressCase{0, 1}, StressCase{0, 2}, StressCase{0, 4}, StressCase{3, 2}),
                         [](const auto& shape) {
                           return "Spin" + std::to_string(shape.param.spin_iterations) + "Threads" +
                                  std::to_string(shape.param.threads);
                         });

Task<void> keep_busy(NvmePoller& poller, const std::atomic<bool>& enough) {
  while (!enough.load(std::memory_order_relaxed)) co_await poller.yield();
}

struct BusyWork {
  NvmePoller& poller;
  std::atomic<bool> running{false};
  std::atomic<bool> enough{false};
  std::atomic<std::uint64_t> calls{0};

  static void begin(void* context) {
    auto& self = *static_cast<BusyWork*>(context);
    self.poller.spawn(keep_busy(self.poller, self.enough));
    self.running.store(true);
  }
  static void count(void* context) { static_cast<BusyWork*>(context)->calls.fetch_add(1); }
};

TEST(Wakeup, WritesNoEventWhileThePollerIsBusy) {
  auto poller = started({.name = "busy"});
  BusyWork work{*poller};
  poller->post(&BusyWork::begin, &work);
  while (!work.running.load()) std::this_thread::yield();
  const std::uint64_t before = sys::counters().wake;
  constexpr std::uint64_t kPosts = 20'000;
  for (std::uint64_t i = 0; i < kPosts; ++i) poller->post(&BusyWork::count, &work);
  EXPECT_EQ(sys::counters().wake - before, 0U);
  work.enough.store(true);
  poller->stop();
  EXPECT_EQ(work.calls.load(), kPosts);
}

TEST(Wakeup, WritesFarFewerEventsThanCallsUnderLoad) {
  auto poller = started({.name = "load"});
  BusyWork work{*poller};
  const std::uint64_t before = sys::counters().wake;
  constexpr std::uint64_t kPosts = 100'000;
  for (std::uint64_t i = 0; i < kPosts; ++i) poller->post(&BusyWork::count, &work);
  const std::uint64_t wakes = sys::counters().wake - before;
  poller->stop();
  EXPECT_EQ(work.calls.load(), kPosts);
  EXPECT_LT(wakes * 10, kPosts);
}

TEST(Wakeup, WritesExactlyOneEventForAPollerThatSleeps) {
  auto poller = started({.name = "asleep", .spin_iterations = 0});
  BusyWork work{*poller};
  const std::uint64_t before = sys::counters().wake;
  for (std::uint64_t i = 0; i < 20; ++i) {
    // Only our calls wake it: once it has counted its next sleep it stays asleep.
    const TimePoint give_up = Clock::system().now() + kPatience;
    while (work.calls.load() != i || poller->probe().sleeps.load() != i + 1) {
      ASSERT_LT(Clock::system().now(), give_up);
      std::this_thread::yield();
    }
    ASSERT_TRUE(poller->try_post(&BusyWork::count, &work));
  }
  EXPECT_EQ(sys::counters().wake - before, 20U);
  poller->stop();
}

}  // namespace
}  // namespace leap
