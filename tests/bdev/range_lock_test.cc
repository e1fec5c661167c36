#include "bdev/range_lock.h"

#include <atomic>
#include <vector>

#include <gtest/gtest.h>

#include "poller/sync.h"
#include "support/poller_thread.h"

namespace leap {
namespace {

using test::PollerThread;
using namespace std::chrono_literals;

struct Trace {
  RangeLock lock;
  std::vector<int> order;
  AsyncEvent* go = nullptr;
};

Task<void> hold(NvmePoller& poller, Trace& trace, int id, std::uint64_t begin, std::uint64_t end, AsyncEvent& until) {
  RangeLock::Guard guard(trace.lock, poller, begin, end);
  co_await guard;
  trace.order.push_back(id);
  co_await until.wait();
}

TEST(RangeLock, OverlappingRangesGoInArrivalOrderAndOthersDoNotWait) {
  PollerThread thread;
  Trace trace;
  thread.run([&trace](NvmePoller& poller) -> Task<void> {
    return [](NvmePoller& p, Trace& t) -> Task<void> {
      AsyncEvent first(p), second(p), rest(p);
      TaskGroup group(p);
      group.spawn(hold(p, t, 1, 0, 100, first));
      group.spawn(hold(p, t, 2, 50, 150, second));  // waits for 1
      group.spawn(hold(p, t, 3, 120, 130, rest));   // waits for 2, although 2 only waits itself
      group.spawn(hold(p, t, 4, 200, 300, rest));   // overlaps nobody
      co_await p.yield();
      EXPECT_EQ(t.order, (std::vector<int>{1, 4}));
      first.set();
      for (int i = 0; i < 10; ++i) co_await p.yield();
      EXPECT_EQ(t.order, (std::vector<int>{1, 4, 2}));
      second.set();
      rest.set();
      co_await group.wait();
      EXPECT_EQ(t.order, (std::vector<int>{1, 4, 2, 3}));
    }(poller, trace);
  });
}

// Two pollers increment one plain counter under the lock: a lost exclusion is a lost update.
TEST(RangeLock, ExcludesAcrossPollers) {
  PollerThread a, b;
  RangeLock lock;
  std::uint64_t counter = 0;  // protected by the range lock only
  constexpr int kTasks = 8;
  constexpr int kRounds = 200;
  const auto work = [](NvmePoller& p, RangeLock& l, std::uint64_t& c) -> Task<void> {
    for (int round = 0; round < kRounds; ++round) {
      RangeLock::Guard guard(l, p, static_cast<std::uint64_t>(round % 3), 10);
      co_await guard;
      const std::uint64_t seen = c;
      co_await p.yield();
      c = seen + 1;
    }
  };
  const auto all = [](NvmePoller& p, decltype(work)& w, RangeLock& l, std::uint64_t& c) -> Task<void> {
    TaskGroup group(p);
    for (int i = 0; i < kTasks; ++i) group.spawn(w(p, l, c));
    co_await group.wait();
  };
  std::thread other([&] { b.run([&](NvmePoller& p) { return all(p, work, lock, counter); }); });
  a.run([&](NvmePoller& p) { return all(p, work, lock, counter); });
  other.join();
  EXPECT_EQ(counter, 2ULL * kTasks * kRounds);
}

}  // namespace
}  // namespace leap
