// What the poller learns about when to spin and when to sleep: its real loop on its own thread, but in a world in which
// time passes only by polling and sleeping, so that every run is the same.
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <semaphore>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "poller/poller.h"

namespace leap {
namespace {

using namespace std::chrono_literals;

constexpr Nanos kPollCost = 1us;
constexpr Nanos kWakeCost = 20us;

/// Work that arrives again some time after it was done. One pollable, one descriptor.
struct World {
  ManualClock clock;
  /// How long after the work was done, given whether the poller slept meanwhile; negative: no more.
  std::function<Nanos(int arrival, bool slept)> next_gap;
  TimePoint next;
  int arrivals = 0;
  bool slept = false;
  bool over = false;
  std::vector<int> slept_before;  // 1 for each arrival that was slept for
  std::int64_t idle_polls = 0;
  std::promise<void> done;

  void serve() {
    slept_before.push_back(slept ? 1 : 0);
    const Nanos gap = next_gap(arrivals++, std::exchange(slept, false));
    if (gap.count() >= 0) {
      next = clock.now() + gap;
      return;
    }
    over = true;
    done.set_value();
  }
  /// Sleeps among arrivals [from, to).
  [[nodiscard]] int sleeps(std::size_t from, std::size_t to) const {
    int sum = 0;
    for (std::size_t i = from; i < to; ++i) sum += slept_before.at(i);
    return sum;
  }
};

class Worker final : public Pollable {
 public:
  explicit Worker(World& world) : world_(world) {}
  std::size_t poll() override {
    world_.clock.advance(kPollCost);
    if (world_.over || world_.clock.now() < world_.next) {
      ++world_.idle_polls;
      return 0;
    }
    world_.serve();
    return 1;
  }

 private:
  World& world_;
};

class WorldBackend final : public WaitBackend {
 public:
  WorldBackend(World& world, Pollable& worker) : world_(world), worker_(worker) {}
  Result<> watch(int, Pollable&, Interest) override { return {}; }
  Result<> rewatch(int, Pollable&, Interest) override { return {}; }
  void unwatch(int) override {}
  std::size_t wait(Nanos timeout, std::span<Pollable*> ready) override {
    if (timeout.count() == 0) return 0;
    if (world_.over) {
      woken_.acquire();
      return 0;
    }
    world_.slept = true;
    world_.clock.set(std::max(world_.clock.now(), world_.next) + kWakeCost);
    ready[0] = &worker_;
    return 1;
  }
  void wake() override { woken_.release(); }

 private:
  World& world_;
  Pollable& worker_;
  std::counting_semaphore<> woken_{0};
};

NvmePoller::Config quick() { return {.name = "spin", .spin_iterations = 1000, .spin_max = 50us}; }

void play(World& world, NvmePoller::Config config) {
  Worker worker(world);
  world.next = world.clock.now();
  auto poller =
      NvmePoller::create(std::move(config), world.clock, std::make_unique<WorldBackend>(world, worker)).value();
  auto over = world.done.get_future();
  poller->start().value();
  ASSERT_EQ(over.wait_for(20s), std::future_status::ready) << "stuck after " << world.arrivals << " arrivals";
  poller->stop();
}

constexpr Nanos kNoMore{-1};

TEST(Spin, SpinsThroughShortGaps) {
  World world;
  world.next_gap = [](int arrival, bool) { return arrival < 300 ? Nanos{10us} : kNoMore; };
  play(world, quick());
  EXPECT_EQ(world.sleeps(1, 300), 0);
}

TEST(Spin, SleepsThroughLongGapsAndTriesSpinningOnlyNowAndThen) {
  World world;
  world.next_gap = [](int arrival, bool) { return arrival < 640 ? Nanos{1ms} : kNoMore; };
  play(world, quick());
  EXPECT_EQ(world.sleeps(1, 640), 639);
  // One look for each gap, 200 us for each of 10 trials, 50 us for the first few: less than half a percent of 640 ms.
  EXPECT_LT(world.idle_polls, 640 + 10 * 202 + 5 * 52);
}

TEST(Spin, GoesOverFromOneToTheOther) {
  World world;
  world.next_gap = [](int arrival, bool) {
    if (arrival >= 900) return kNoMore;
    return arrival / 300 == 1 ? Nanos{1ms} : Nanos{10us};
  };
  play(world, quick());
  EXPECT_EQ(world.sleeps(1, 300), 0);
  EXPECT_EQ(world.sleeps(302, 600), 298);
  EXPECT_LE(world.sleeps(601, 650), 20);
  EXPECT_EQ(world.sleeps(650, 900), 0);
}

TEST(Spin, OneQuietSecondDoesNotDrownManyShortGaps) {
  World world;
  world.next_gap = [](int arrival, bool) {
    if (arrival >= 400) return kNoMore;
    return arrival == 200 ? Nanos{1s} : Nanos{10us};
  };
  play(world, quick());
  EXPECT_EQ(world.sleeps(1, 201), 0);
  EXPECT_LE(world.sleeps(202, 400), 1);
}

TEST(Spin, TwoPeersThatBothSleepFindOutThatSpinningPays) {
  // The peer does the same: asleep it answers late, because it has to be woken first.
  World world;
  world.next_gap = [](int arrival, bool slept) {
    if (arrival >= 600) return kNoMore;
    if (arrival < 20) return Nanos{1ms};
    return slept ? Nanos{120us} : Nanos{15us};
  };
  play(world, quick());
  EXPECT_GT(world.sleeps(1, 40), 30);
  EXPECT_EQ(world.sleeps(300, 600), 0);
}

TEST(Spin, NeverSpinsWhenToldNotTo) {
  World world;
  world.next_gap = [](int arrival, bool) { return arrival < 100 ? Nanos{10us} : kNoMore; };
  NvmePoller::Config config = quick();
  config.spin_iterations = 0;
  play(world, config);
  EXPECT_EQ(world.sleeps(1, 100), 99);
}

TEST(Spin, ALongBusyTurnDoesNotCountAsIdleTime) {
  // Work that takes longer than spin_max: the gap begins when the work is done.
  World world;
  world.next_gap = [&world](int arrival, bool) {
    if (arrival >= 200) return kNoMore;
    world.clock.advance(300us);
    return Nanos{10us};
  };
  play(world, quick());
  EXPECT_EQ(world.sleeps(1, 200), 0);
}

}  // namespace
}  // namespace leap
