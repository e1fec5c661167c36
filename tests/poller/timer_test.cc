#include "poller/timer.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace leap {
namespace {

constexpr TimePoint at(std::int64_t ns) { return TimePoint{ns}; }

/// A timer that notes when it fired and then does what it is told.
struct Probe {
  explicit Probe(TimerQueue& queue, int number = 0) : id(number), timer(queue, &Probe::fire, this) {}
  static void fire(void* self) {
    auto& probe = *static_cast<Probe*>(self);
    if (probe.log != nullptr) probe.log->push_back(probe.id);
    ++probe.fired;
    if (probe.rearm) probe.timer.arm(*probe.rearm);
    if (probe.victim != nullptr) probe.victim->timer.cancel();
    if (probe.doomed != nullptr) probe.doomed->reset();
  }
  int id;
  int fired = 0;
  std::vector<int>* log = nullptr;
  std::optional<TimePoint> rearm;
  Probe* victim = nullptr;
  std::unique_ptr<Probe>* doomed = nullptr;
  Timer timer;
};

TEST(Timer, FiresOnceAtOrAfterItsDeadline) {
  TimerQueue queue;
  Probe probe(queue);
  probe.timer.arm(at(100));
  EXPECT_EQ(queue.next_deadline(), at(100));
  EXPECT_EQ(queue.expire(at(99)), 0U);
  EXPECT_EQ(queue.expire(at(100)), 1U);
  EXPECT_FALSE(probe.timer.armed());
  EXPECT_EQ(queue.expire(at(1000)), 0U);
  EXPECT_EQ(probe.fired, 1);
  EXPECT_EQ(queue.next_deadline(), TimePoint::max());
}

TEST(Timer, ArmingAgainReplacesTheDeadline) {
  TimerQueue queue;
  Probe probe(queue);
  probe.timer.arm(at(100));
  probe.timer.arm(at(200));
  EXPECT_EQ(queue.expire(at(150)), 0U);
  probe.timer.arm(at(10));
  EXPECT_EQ(queue.expire(at(150)), 1U);
}

TEST(Timer, RearmedInThePastFiresInTheNextCallAndStarvesNobody) {
  TimerQueue queue;
  Probe greedy(queue);
  Probe modest(queue);
  greedy.rearm = at(1);
  greedy.timer.arm(at(1));
  modest.timer.arm(at(50));
  EXPECT_EQ(queue.expire(at(60)), 2U);
  EXPECT_EQ(greedy.fired, 1);
  EXPECT_EQ(modest.fired, 1);
  EXPECT_EQ(queue.expire(at(60)), 1U);
  EXPECT_EQ(greedy.fired, 2);
  greedy.timer.cancel();
}

TEST(Timer, ACallbackMayCancelOneThatIsDueAsWell) {
  TimerQueue queue;
  Probe first(queue);
  Probe second(queue);
  first.victim = &second;
  first.timer.arm(at(1));
  second.timer.arm(at(2));
  EXPECT_EQ(queue.expire(at(10)), 1U);
  EXPECT_EQ(second.fired, 0);
  EXPECT_FALSE(second.timer.armed());
}

TEST(Timer, ACallbackMayDestroyItsOwnTimerAndAnother) {
  TimerQueue queue;
  auto self = std::make_unique<Probe>(queue);
  auto other = std::make_unique<Probe>(queue);
  Probe killer(queue);
  killer.doomed = &other;
  self->doomed = &self;
  self->timer.arm(at(1));
  killer.timer.arm(at(2));
  other->timer.arm(at(3));
  EXPECT_EQ(queue.expire(at(10)), 2U);
  EXPECT_EQ(self, nullptr);
  EXPECT_EQ(other, nullptr);
}

TEST(Timer, ACallbackMayPostponeOneThatIsDueAsWell) {
  TimerQueue queue;
  Probe second(queue);
  struct Postpone {
    static void fire(void* probe) { static_cast<Probe*>(probe)->timer.arm(at(500)); }
  };
  Timer first(queue, &Postpone::fire, &second);
  first.arm(at(1));
  second.timer.arm(at(2));
  EXPECT_EQ(queue.expire(at(10)), 1U);
  EXPECT_EQ(second.fired, 0);
  EXPECT_EQ(queue.next_deadline(), at(500));
}

TEST(TimerDeathTest, ATimerThatOutlivesItsQueueIsTold) {
  EXPECT_DEATH(
      {
        auto queue = std::make_unique<TimerQueue>();
        Probe probe(*queue);
        probe.timer.arm(at(1));
        queue.reset();
      },
      "outlives its queue");
}

/// Random arming, re-arming, cancelling and expiring against a sorted map.
TEST(TimerQueueProperty, FiresExactlyWhatIsDueEarliestFirst) {
  const bool held = rc::check("timer queue", [] {
    constexpr std::size_t kTimers = 24;
    TimerQueue queue;
    std::vector<std::unique_ptr<Probe>> probes;
    std::vector<int> log;
    for (std::size_t i = 0; i < kTimers; ++i) {
      probes.push_back(std::make_unique<Probe>(queue, static_cast<int>(i)));
      probes.back()->log = &log;
    }
    std::map<std::size_t, std::int64_t> armed;  // the oracle
    std::int64_t now = 0;
    const int steps = *rc::gen::inRange(1, 200);
    for (int step = 0; step < steps; ++step) {
      const auto which = *rc::gen::inRange<std::size_t>(0, kTimers);
      switch (*rc::gen::inRange(0, 5)) {
        case 0:
        case 1:
        case 2: {
          const std::int64_t deadline = now + *rc::gen::inRange(-20, 100);
          probes[which]->timer.arm(at(deadline));
          armed[which] = deadline;
          break;
        }
        case 3:
          probes[which]->timer.cancel();
          armed.erase(which);
          break;
        default: {
          now += *rc::gen::inRange(0, 60);
          std::vector<std::pair<std::int64_t, int>> due;
          for (const auto& [id, deadline] : armed) {
            if (deadline <= now) due.emplace_back(deadline, static_cast<int>(id));
          }
          log.clear();
          RC_ASSERT(queue.expire(at(now)) == due.size());
          RC_ASSERT(log.size() == due.size());
          std::int64_t last = INT64_MIN;
          for (const int id : log) {
            const std::int64_t deadline = armed.at(static_cast<std::size_t>(id));
            RC_ASSERT(deadline >= last);
            last = deadline;
          }
          std::vector<int> fired = log;
          std::sort(fired.begin(), fired.end());
          std::vector<int> expected;
          for (const auto& [deadline, id] : due) expected.push_back(id);
          std::sort(expected.begin(), expected.end());
          RC_ASSERT(fired == expected);
          for (const int id : fired) armed.erase(static_cast<std::size_t>(id));
        }
      }
      std::int64_t next = INT64_MAX;
      for (const auto& [id, deadline] : armed) next = std::min(next, deadline);
      RC_ASSERT(queue.next_deadline() == at(next));
      for (std::size_t i = 0; i < kTimers; ++i) RC_ASSERT(probes[i]->timer.armed() == (armed.count(i) > 0));
    }
  });
  EXPECT_TRUE(held);
}

}  // namespace
}  // namespace leap
