// Who is called when: nobody starves behind somebody busy, and nobody is forgotten when the poller goes to sleep.
#include <functional>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "virtual_poller.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using test::VirtualPoller;
using test::VirtualSource;

/// A descriptor that is ready when the test says so.
struct Switch : VirtualSource {
  bool readable(TimePoint) override { return on; }
  bool writable(TimePoint) override { return false; }
  TimePoint next_change(TimePoint) override { return TimePoint::max(); }
  bool on = false;
};

/// Counts its calls and does what the test wants.
class Probe : public Pollable {
 public:
  explicit Probe(std::function<std::size_t()> what = [] { return std::size_t{0}; }) : what_(std::move(what)) {}
  std::size_t poll() override {
    ++polls;
    return what_();
  }
  int polls = 0;

 private:
  std::function<std::size_t()> what_;
};

/// Busy for `turns` polls, during which virtual time passes.
class Busy : public Pollable {
 public:
  Busy(VirtualPoller& sim, int turns, Nanos each) : sim_(sim), left_(turns), each_(each) {}
  std::size_t poll() override {
    ++polls;
    sim_.clock().advance(each_);
    if (left_ == 0) return 0;
    --left_;
    return 1;
  }
  int polls = 0;

 private:
  VirtualPoller& sim_;
  int left_;
  Nanos each_;
};

TEST(Fairness, ABusyPollableStarvesNeitherMailboxNorTimersNorOtherDescriptors) {
  VirtualPoller sim;
  Busy busy(sim, 400, 2us);
  struct Seen {
    Busy& busy;
    int at = -1;
    static void note(void* self) {
      auto& seen = *static_cast<Seen*>(self);
      seen.at = seen.busy.polls;
    }
  };
  Seen by_timer{busy};
  Seen by_mail{busy};
  int by_descriptor = -1;
  Switch source;
  source.on = true;
  Probe other([&] {
    if (!source.on) return std::size_t{0};
    by_descriptor = busy.polls;
    source.on = false;
    return std::size_t{1};
  });
  const int fd = sim.backend().add(source);
  sim.poller().watch(fd, other).value();
  sim.poller().heat(busy);
  Timer timer(sim.poller().timers(), &Seen::note, &by_timer);
  timer.arm(sim.clock().now() + 100us);
  ASSERT_TRUE(sim.poller().try_post(&Seen::note, &by_mail));
  sim.poller().run_and_wait(Nanos{0});
  EXPECT_GE(busy.polls, 400);
  EXPECT_LE(by_mail.at, 1);
  EXPECT_GE(by_timer.at, 50);  // 100 us are 50 turns
  EXPECT_LE(by_timer.at, 52);
  EXPECT_GE(by_descriptor, 0);
  EXPECT_LE(by_descriptor, 33);
  sim.poller().unwatch(fd);
}

TEST(Fairness, ShortTurnsLookAtDescriptorsByTimeAndWhereTimeStandsStillByTurns) {
  for (const auto& [each, turns] : {std::pair{Nanos{100}, 500}, std::pair{Nanos{0}, 1024}}) {
    VirtualPoller sim;
    Busy busy(sim, 3000, each);
    Switch source;
    source.on = true;
    int seen_at = -1;
    Probe other([&] {
      if (source.on) seen_at = busy.polls;
      return std::size_t{std::exchange(source.on, false)};
    });
    const int fd = sim.backend().add(source);
    sim.poller().watch(fd, other).value();
    sim.poller().heat(busy);
    sim.poller().run_and_wait(Nanos{0});
    EXPECT_GE(seen_at, turns - 1) << each.count();
    EXPECT_LE(seen_at, turns + 1) << each.count();
    sim.poller().unwatch(fd);
  }
}

Task<void> spin_for(NvmePoller& poller, int& left) {
  while (left-- > 0) co_await poller.yield();
}

TEST(Fairness, TasksThatNeverStopDoNotStarveAHotPollable) {
  VirtualPoller sim;
  int left = 5000;
  for (int i = 0; i < 10; ++i) sim.poller().spawn(spin_for(sim.poller(), left));
  Probe hot;
  sim.poller().heat(hot);
  sim.poller().run_and_wait(Nanos{0});
  EXPECT_GE(hot.polls, 490);
}

TEST(Fairness, WhoStopsEarlyIsCalledAgainBeforeThePollerSleepsWhateverItsDescriptorSays) {
  for (const std::size_t others : {std::size_t{0}, std::size_t{20}}) {  // few and many hot
    VirtualPoller sim;
    std::vector<std::unique_ptr<Switch>> sources;
    std::vector<std::unique_ptr<Probe>> crowd;
    for (std::size_t i = 0; i < others; ++i) {
      sources.push_back(std::make_unique<Switch>());
      crowd.push_back(std::make_unique<Probe>());
      sim.poller().watch(sim.backend().add(*sources.back()), *crowd.back()).value();
      sim.poller().heat(*crowd.back());
    }
    int inbox = 300;  // bytes received long ago: the descriptor knows nothing of them
    Switch source;
    source.on = true;
    Probe session([&] {
      source.on = false;
      return inbox > 0 ? std::size_t(inbox-- > 0) : std::size_t{0};
    });
    const int fd = sim.backend().add(source);
    sim.poller().watch(fd, session).value();
    sim.poller().run_and_wait(Nanos{-1});
    EXPECT_EQ(inbox, 0) << "with " << others << " others hot";
    EXPECT_EQ(session.polls, 301) << "with " << others << " others hot";
    sim.poller().unwatch(fd);
  }
}

TEST(HotList, ManyHotPollablesAreServedByOneLookAtTheirDescriptors) {
  VirtualPoller sim;
  std::vector<std::unique_ptr<Switch>> sources;
  std::vector<std::unique_ptr<Probe>> probes;
  for (int i = 0; i < 20; ++i) {
    sources.push_back(std::make_unique<Switch>());
    Switch& source = *sources.back();
    probes.push_back(std::make_unique<Probe>([&source] { return std::size_t{std::exchange(source.on, false)}; }));
    sim.poller().watch(sim.backend().add(source), *probes.back()).value();
    sim.poller().heat(*probes.back());
  }
  Probe without_descriptor;  // memory, not a socket: nobody else can tell
  sim.poller().heat(without_descriptor);
  Busy busy(sim, 10, Nanos{1});
  sim.poller().heat(busy);
  sources[3]->on = true;
  const std::size_t looks = sim.backend().looks;
  sim.poller().run_and_wait(Nanos{0});
  EXPECT_EQ(probes[3]->polls, 2);  // reported, and once more because it had work
  EXPECT_EQ(probes[4]->polls, 1);  // heated
  EXPECT_EQ(without_descriptor.polls, busy.polls);
  EXPECT_EQ(sim.backend().looks - looks, static_cast<std::size_t>(busy.polls) + 1U);  // one a turn, one to sleep
}

TEST(HotList, OnABusyPollerWhoeverFindsNothingForLongIsLeftToItsDescriptor) {
  VirtualPoller sim;
  Switch source;
  Probe quiet([&] { return std::size_t{std::exchange(source.on, false)}; });
  const int fd = sim.backend().add(source);
  sim.poller().watch(fd, quiet).value();
  Busy busy(sim, 200, 10us);
  sim.poller().heat(quiet);
  sim.poller().heat(busy);
  struct TurnOn {
    static void call(void* s) { static_cast<Switch*>(s)->on = true; }
  };
  Timer timer(sim.poller().timers(), &TurnOn::call, &source);
  timer.arm(sim.clock().now() + 1ms);  // in turn 100
  sim.poller().run_and_wait(Nanos{0});
  EXPECT_FALSE(source.on) << "it was never asked again";
  EXPECT_GE(quiet.polls, 6 + 1);
  EXPECT_LE(quiet.polls, 2 * 9) << "a system call a turn for nothing";
  sim.poller().unwatch(fd);
}

TEST(HotList, SleepingEmptiesItAndADescriptorFillsItAgain) {
  VirtualPoller sim;
  Switch source;
  Probe probe([&] { return std::size_t{std::exchange(source.on, false)}; });
  const int fd = sim.backend().add(source);
  sim.poller().watch(fd, probe).value();
  sim.poller().heat(probe);
  sim.poller().run_and_wait(Nanos{0});
  const int before = probe.polls;
  sim.poller().run_and_wait(Nanos{0});
  EXPECT_EQ(probe.polls, before);
  source.on = true;
  sim.poller().run_and_wait(Nanos{0});
  EXPECT_GT(probe.polls, before);
  sim.poller().unwatch(fd);
}

TEST(HotList, APollableMayDestroyItselfOrAnotherOfTheSameBatch) {
  VirtualPoller sim;
  std::vector<std::unique_ptr<Probe>> probes(4);
  std::vector<Switch> sources(4);
  std::vector<int> fds;
  const auto destroy = [&](std::size_t i) {
    sim.poller().unwatch(fds[i]);
    probes[i].reset();
  };
  int polled_last = 0;
  probes[0] = std::make_unique<Probe>([&] {
    destroy(2);  // later in this batch
    return std::size_t{1};
  });
  probes[1] = std::make_unique<Probe>([&] {
    destroy(0);  // earlier in this batch
    destroy(1);  // itself: nothing of it may be touched from here on
    return std::size_t{1};
  });
  probes[2] = std::make_unique<Probe>([]() -> std::size_t {
    ADD_FAILURE() << "it is gone";
    return 0;
  });
  probes[3] = std::make_unique<Probe>([&] {
    ++polled_last;
    sources[3].on = false;
    return std::size_t{0};
  });
  for (std::size_t i = 0; i < 4; ++i) {
    sources[i].on = true;
    fds.push_back(sim.backend().add(sources[i]));
    sim.poller().watch(fds[i], *probes[i]).value();
  }
  sim.poller().run_and_wait(Nanos{0});
  EXPECT_EQ(probes[0], nullptr);
  EXPECT_EQ(probes[1], nullptr);
  EXPECT_EQ(probes[2], nullptr);
  EXPECT_GE(polled_last, 1);
  destroy(3);
}

TEST(HotList, APollableMayLeaveItFromWithinPoll) {
  VirtualPoller sim;
  Probe* self = nullptr;
  Probe probe([&] {
    sim.poller().cool(*self);
    return std::size_t{1};
  });
  self = &probe;
  sim.poller().heat(probe);
  sim.poller().run_and_wait(Nanos{0});
  EXPECT_EQ(probe.polls, 1);
}

}  // namespace
}  // namespace leap
