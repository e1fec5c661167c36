// Clean stop with tasks suspended in everything that can be awaited: each is destroyed exactly once, nothing of it is
// touched afterwards (the sanitizer builds watch), and what it held is given back.
#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "memory/arena.h"
#include "poller/async_stream.h"
#include "poller/blocking_pool.h"
#include "poller/dma_await.h"
#include "poller/sync.h"
#include "scripted_stream.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using test::Peer;
using test::ScriptedNet;
using test::ScriptedStream;
using test::VirtualPoller;

/// Counts how many tasks are alive, and fails if one goes on that should not.
struct Alive {
  explicit Alive(int& n) : count(&n) { ++n; }
  Alive(Alive&& other) noexcept : count(std::exchange(other.count, nullptr)) {}
  Alive(const Alive&) = delete;
  Alive& operator=(const Alive&) = delete;
  Alive& operator=(Alive&&) = delete;
  ~Alive() {
    if (count != nullptr) --*count;
  }
  int* count;
};

Task<void> in_sleep(NvmePoller& poller, Alive) {
  co_await poller.sleep_for(1h);
  ADD_FAILURE() << "went on";
}
Task<void> in_yield(NvmePoller& poller, Alive) {
  co_await poller.yield();
  ADD_FAILURE() << "went on";
}
Task<void> in_event(AsyncEvent& event, Alive) {
  co_await event.wait();
  ADD_FAILURE() << "went on";
}
Task<void> in_semaphore(AsyncSemaphore& semaphore, Alive) {
  co_await semaphore.acquire(2);
  ADD_FAILURE() << "went on";
}
Task<void> in_mutex(AsyncMutex& mutex, Alive) {
  const AsyncMutex::Guard guard = co_await mutex.lock();
  ADD_FAILURE() << "went on";
}
Task<void> holding_mutex(NvmePoller& poller, AsyncMutex& mutex, Alive) {
  const AsyncMutex::Guard guard = co_await mutex.lock();
  co_await poller.sleep_for(1h);
  ADD_FAILURE() << "went on";
}
Task<void> in_dma(NvmePoller& poller, DmaPool& pool, Alive) {
  const Result<DmaBuf> buffer = co_await allocate(poller, pool, 8192);
  ADD_FAILURE() << "went on";
}
Task<void> in_read(AsyncStream& stream, Alive) {
  std::byte byte{};
  const Result<bool> more = co_await stream.read_exact({&byte, 1}, TimePoint::max());
  ADD_FAILURE() << "went on";
}
Task<void> in_write(AsyncStream& stream, Alive, TimePoint deadline) {
  std::byte byte{};
  iovec piece{&byte, 1};
  const Result<> written = co_await stream.write_all({&piece, 1}, deadline);
  ADD_FAILURE() << "went on";
}
Task<void> in_connect(NvmePoller& poller, Net& net, Alive) {
  auto stream = co_await AsyncStream::connect(poller, net, SocketAddress(), poller.now() + 1h);
  ADD_FAILURE() << "went on";
}
Task<void> in_group(NvmePoller& poller, int& alive) {
  const Alive self(alive);
  AsyncSemaphore shared(poller, 0);  // younger tasks use what is in this frame
  TaskGroup group(poller);
  for (int i = 0; i < 3; ++i) group.spawn(in_semaphore(shared, Alive(alive)));
  group.spawn(in_sleep(poller, Alive(alive)));
  co_await group.wait();
  ADD_FAILURE() << "went on";
}

/// Everything that waits is set up here, then the poller stops.
class StopTest : public ::testing::Test {
 protected:
  StopTest() : net_(sim_, connecting_) {
    connecting_.reads_on = false;  // never writable: never connected
    peer_.reads_on = false;
  }
  VirtualPoller sim_;
  Peer peer_;
  Peer connecting_;
  ScriptedNet net_;
  int alive_ = 0;
};

TEST_F(StopTest, DestroysTasksSuspendedInEveryAwaitable) {
  NvmePoller& poller = sim_.poller();
  auto arena = HugePageArena::create({.size = 8192, .highest = PageKind::kSmall}).value();
  DmaPool pool(arena.memory().first(8192));
  AsyncEvent event(poller);
  AsyncSemaphore semaphore(poller, 1);
  AsyncMutex mutex(poller);
  auto stream = AsyncStream::open(poller, std::make_unique<ScriptedStream>(sim_, peer_)).value();
  auto all = pool.try_allocate(8192);
  ASSERT_TRUE(all.has_value());

  poller.spawn(in_sleep(poller, Alive(alive_)));
  poller.spawn(in_event(event, Alive(alive_)));
  poller.spawn(in_semaphore(semaphore, Alive(alive_)));
  poller.spawn(in_semaphore(semaphore, Alive(alive_)));
  poller.spawn(holding_mutex(poller, mutex, Alive(alive_)));
  poller.spawn(in_mutex(mutex, Alive(alive_)));
  poller.spawn(in_dma(poller, pool, Alive(alive_)));
  poller.spawn(in_dma(poller, pool, Alive(alive_)));
  poller.spawn(in_read(*stream, Alive(alive_)));
  poller.spawn(in_write(*stream, Alive(alive_), poller.now() + 2h));
  poller.spawn(in_connect(poller, net_, Alive(alive_)));
  poller.spawn(in_group(poller, alive_));
  EXPECT_EQ(alive_, 16);
  sim_.poller().run_once();
  poller.spawn(in_yield(poller, Alive(alive_)));
  EXPECT_EQ(alive_, 17);

  poller.stop();
  EXPECT_EQ(alive_, 0);
  EXPECT_FALSE(mutex.locked());
  EXPECT_TRUE(connecting_.closed);
  EXPECT_EQ(poller.timers().next_deadline(), TimePoint::max());
  all->reset();
  EXPECT_EQ(pool.bytes_free(), pool.capacity()) << "memory went to a task that is gone";
}

TEST_F(StopTest, DestroysTasksThatAreGrantedWhatTheyWaitForButHaveNotGoneOn) {
  NvmePoller& poller = sim_.poller();
  auto arena = HugePageArena::create({.size = 8192, .highest = PageKind::kSmall}).value();
  DmaPool pool(arena.memory().first(8192));
  AsyncEvent event(poller);
  AsyncSemaphore semaphore(poller, 0);
  auto stream = AsyncStream::open(poller, std::make_unique<ScriptedStream>(sim_, peer_)).value();
  auto all = pool.try_allocate(8192);
  poller.spawn(in_event(event, Alive(alive_)));
  poller.spawn(in_semaphore(semaphore, Alive(alive_)));
  poller.spawn(in_dma(poller, pool, Alive(alive_)));
  poller.spawn(in_dma(poller, pool, Alive(alive_)));
  poller.spawn(in_read(*stream, Alive(alive_)));
  EXPECT_EQ(alive_, 5);
  event.set();
  semaphore.release(2);
  all->reset();  // goes to the first of the two
  EXPECT_EQ(pool.bytes_free(), 0U);
  stream->close();
  poller.stop();
  EXPECT_EQ(alive_, 0);
  EXPECT_EQ(pool.bytes_free(), pool.capacity());
  EXPECT_EQ(semaphore.available(), 2U);
}

TEST_F(StopTest, WhatIsAwaitedMayDieBeforeItsTasks) {
  NvmePoller& poller = sim_.poller();
  auto event = std::make_unique<AsyncEvent>(poller);
  auto mutex = std::make_unique<AsyncMutex>(poller);
  auto stream = AsyncStream::open(poller, std::make_unique<ScriptedStream>(sim_, peer_)).value();
  auto arena = HugePageArena::create({.size = 4096, .highest = PageKind::kSmall}).value();
  auto pool = std::make_unique<DmaPool>(arena.memory().first(4096));
  auto small = pool->try_allocate(4096);
  struct Holder {
    static Task<void> lock(NvmePoller& p, AsyncMutex& m, Alive) {
      auto guard = co_await m.lock();
      guard.unlock();
      co_await p.sleep_for(1h);
    }
  };
  poller.spawn(Holder::lock(poller, *mutex, Alive(alive_)));
  poller.spawn(in_event(*event, Alive(alive_)));
  poller.spawn(in_read(*stream, Alive(alive_)));
  poller.spawn(in_write(*stream, Alive(alive_), TimePoint::max()));
  EXPECT_EQ(alive_, 4);
  small->reset();
  pool.reset();
  event.reset();
  mutex.reset();
  stream.reset();
  poller.stop();
  EXPECT_EQ(alive_, 0);
}

Task<void> stubborn(NvmePoller& poller, int& left) {
  struct Respawn {
    NvmePoller& poller;
    int& left;
    ~Respawn() {
      if (left-- > 0) poller.spawn(stubborn(poller, left));
    }
  };
  const Respawn respawn{poller, left};
  co_await poller.sleep_for(1h);
}

TEST_F(StopTest, ATaskWhoseDestructorSpawnsAnotherIsStoppedToo) {
  int left = 3;
  sim_.poller().spawn(stubborn(sim_.poller(), left));
  sim_.poller().stop();
  EXPECT_EQ(left, -1);
}

TEST(StopThreaded, EndsWithTasksTimersAndCallsInFlight) {
  for (int round = 0; round < 20; ++round) {
    auto poller = NvmePoller::create({.name = "stop"}).value();
    poller->start().value();
    int alive = 0;  // poller's thread only, read after stop
    struct Begin {
      NvmePoller& poller;
      int& alive;
      static void call(void* context) {
        auto& self = *static_cast<Begin*>(context);
        self.poller.spawn(in_sleep(self.poller, Alive(self.alive)));
        self.poller.spawn(in_group(self.poller, self.alive));
      }
    } begin{*poller, alive};
    for (int i = 0; i < 10; ++i) poller->post(&Begin::call, &begin);
    poller->stop();
    EXPECT_EQ(alive, 0);
  }
}

TEST(StopThreaded, ProducersThatKeepPostingDoNotHoldItUp) {
  auto poller = NvmePoller::create({.name = "flood", .mailbox_capacity = 16}).value();
  poller->start().value();
  std::atomic<bool> enough{false};
  std::atomic<int> calls{0};
  std::vector<std::jthread> producers;
  for (int i = 0; i < 2; ++i) {
    producers.emplace_back([&] {
      while (!enough.load()) poller->post([](void* n) { static_cast<std::atomic<int>*>(n)->fetch_add(1); }, &calls);
    });
  }
  while (calls.load() < 100) std::this_thread::yield();
  poller->stop();
  const int at_stop = calls.load();
  enough.store(true);
  producers.clear();
  EXPECT_EQ(calls.load(), at_stop) << "something ran after stop()";
}

// --- BlockingPool ---

Task<void> in_blocking(NvmePoller& poller, BlockingPool& pool, std::atomic<int>& ran, const std::atomic<bool>& gate,
                       Alive) {
  co_await pool.run(poller, [&ran, &gate] {
    while (!gate.load()) std::this_thread::yield();
    ran.fetch_add(1);
  });
}

TEST_F(StopTest, WaitsForBlockingWorkThatRunsAndForgetsWhatIsQueued) {
  BlockingPool pool({.threads = 1});
  std::atomic<int> ran{0};
  std::atomic<bool> gate{false};
  for (int i = 0; i < 3; ++i) sim_.poller().spawn(in_blocking(sim_.poller(), pool, ran, gate, Alive(alive_)));
  EXPECT_EQ(alive_, 3);
  std::jthread opener([&] { gate.store(true); });
  sim_.poller().stop();
  EXPECT_EQ(alive_, 0);
  pool.stop();
  EXPECT_LE(ran.load(), 3);
}

TEST_F(StopTest, ABlockingPoolThatStopsFirstFinishesWhatIsQueued) {
  BlockingPool pool({.threads = 2});
  std::atomic<int> ran{0};
  const std::atomic<bool> gate{true};
  for (int i = 0; i < 20; ++i) sim_.poller().spawn(in_blocking(sim_.poller(), pool, ran, gate, Alive(alive_)));
  pool.stop();
  EXPECT_EQ(ran.load(), 20);
  sim_.poller().run_once();
  EXPECT_EQ(alive_, 0);
  sim_.poller().spawn(in_blocking(sim_.poller(), pool, ran, gate, Alive(alive_)));
  EXPECT_EQ(ran.load(), 21) << "a late task runs its function itself";
  EXPECT_EQ(alive_, 0);
  sim_.poller().stop();
}

}  // namespace
}  // namespace leap
