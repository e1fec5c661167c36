#include "poller/task.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/alloc_counter.h"
#include "base/result.h"
#include "base/scope_exit.h"
#include "poller/frame_pool.h"
#include "poller/sync.h"
#include "virtual_poller.h"

namespace leap {
namespace {

using test::VirtualPoller;

/// Roughly where the stack ends now.
[[gnu::noinline]] std::uintptr_t stack_position() {
  return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

/// The deepest and the shallowest place seen.
struct StackSpan {
  std::uintptr_t low = UINTPTR_MAX;
  std::uintptr_t high = 0;
  void note() {
    const std::uintptr_t here = stack_position();
    low = std::min(low, here);
    high = std::max(high, here);
  }
  [[nodiscard]] std::uintptr_t depth() const { return high - low; }
};

Task<int> finishes_at_once(StackSpan& span, int value) {
  span.note();
  co_return value;
}

Task<void> await_many(StackSpan& span, int times, std::int64_t& sum) {
  for (int i = 0; i < times; ++i) {
    const int value = co_await finishes_at_once(span, i);
    sum += value;
  }
}

TEST(Task, AMillionSynchronousAwaitsDoNotGrowTheStack) {
  VirtualPoller sim;
  StackSpan span;
  std::int64_t sum = 0;
  constexpr int kTimes = 1'000'000;
  sim.poller().spawn(await_many(span, kTimes, sum));
  EXPECT_EQ(sum, std::int64_t{kTimes} * (kTimes - 1) / 2);
  EXPECT_LT(span.depth(), 4096U);
}

Task<int> finishes_later(NvmePoller& poller, StackSpan& span, int value) {
  co_await poller.yield();
  span.note();
  co_return value;
}

Task<void> await_mixed(NvmePoller& poller, StackSpan& span, int times, std::int64_t& sum) {
  for (int i = 0; i < times; ++i) {
    const int later = co_await finishes_later(poller, span, i);
    const int now = co_await finishes_at_once(span, i);
    sum += later + now;
  }
}

TEST(Task, AwaitsThatSuspendDoNotGrowTheStackEither) {
  VirtualPoller sim;
  StackSpan span;
  std::int64_t sum = 0;
  constexpr int kTimes = 100'000;
  sim.poller().spawn(await_mixed(sim.poller(), span, kTimes, sum));
  ASSERT_TRUE(sim.run_until([&] { return sum == std::int64_t{kTimes} * (kTimes - 1); }));
  EXPECT_LT(span.depth(), 16384U);
}

Task<int> nested(NvmePoller& poller, int depth) {
  if (depth == 0) {
    co_await poller.yield();
    co_return 0;
  }
  const int below = co_await nested(poller, depth - 1);
  co_return below + 1;
}

Task<void> store_nested(NvmePoller& poller, int depth, int& out) {
  const int value = co_await nested(poller, depth);
  out = value;
}

TEST(Task, ResumesALongChainOfParents) {
  VirtualPoller sim;
  int depth = -1;
  sim.poller().spawn(store_nested(sim.poller(), 500, depth));
  EXPECT_EQ(depth, -1);
  ASSERT_TRUE(sim.settle());
  EXPECT_EQ(depth, 500);
}

Task<Result<std::unique_ptr<int>>> half(int value) {
  if (value % 2 != 0) co_return Error(Errc::kInvalidArgument, "odd");
  co_return std::make_unique<int>(value / 2);
}

Task<Result<int>> quarter(int value) {
  LEAP_CO_TRY(auto first, co_await half(value));
  LEAP_CO_TRY(auto second, co_await half(*first));
  co_return *second;
}

Task<void> store_quarter(int value, std::string& out) {
  const Result<int> result = co_await quarter(value);
  out = result.ok() ? std::to_string(*result) : result.error().message();
}

TEST(Task, CarriesMoveOnlyValuesAndErrorsThroughLeapCoTry) {
  VirtualPoller sim;
  for (const auto& [value, expected] : {std::pair{12, "3"}, std::pair{6, "odd"}, std::pair{7, "odd"}}) {
    std::string out;
    sim.poller().spawn(store_quarter(value, out));
    EXPECT_EQ(out, expected);
  }
}

Task<void> hold(std::shared_ptr<int> token) {
  ++*token;
  co_return;
}

TEST(Task, ATaskThatIsNeverAwaitedNeverRunsAndLeaksNothing) {
  auto token = std::make_shared<int>(0);
  {
    Task<void> task = hold(token);
    EXPECT_TRUE(task.valid());
    Task<void> other = std::move(task);
    EXPECT_FALSE(task.valid());  // NOLINT(bugprone-use-after-move): it says so
    EXPECT_EQ(token.use_count(), 2);
  }
  EXPECT_EQ(*token, 0);
  EXPECT_EQ(token.use_count(), 1);
}

// --- allocation ---

Task<int> leaf(NvmePoller& poller, int value) {
  if (value % 3 == 0) co_await poller.yield();
  co_return value;
}

Task<void> one_request(NvmePoller& poller, AsyncSemaphore& slots, AsyncEvent& event, std::uint64_t& sum) {
  co_await slots.acquire();
  for (int i = 0; i < 4; ++i) {
    const int value = co_await leaf(poller, i);
    sum += static_cast<std::uint64_t>(value);
  }
  co_await poller.sleep_for(Nanos{100});
  slots.release();
  event.set();
}

void run_requests(VirtualPoller& sim, int count, std::uint64_t& sum) {
  AsyncSemaphore slots(sim.poller(), 2);
  AsyncEvent event(sim.poller());
  for (int i = 0; i < count; ++i) sim.poller().spawn(one_request(sim.poller(), slots, event, sum));
  while (slots.available() < 2 || sim.poller().timers().next_deadline() != TimePoint::max()) {
    while (sim.poller().run_once() > 0) {
    }
    sim.clock().advance(Nanos{100});
  }
}

TEST(Task, AllocatesNothingAfterWarmUp) {
  if (!alloc_counting_available()) GTEST_SKIP() << "allocations are not counted in this build (sanitizer)";
  VirtualPoller sim;
  std::uint64_t sum = 0;
  run_requests(sim, 64, sum);
  const std::uint64_t before = thread_allocations();
  for (int i = 0; i < 50; ++i) run_requests(sim, 64, sum);
  EXPECT_EQ(thread_allocations() - before, 0U);
  EXPECT_EQ(sum, 51U * 64U * 6U);
}

// --- frame pool ---

TEST(FramePool, GivesBackWhatItWasGiven) {
  if (!alloc_counting_available()) GTEST_SKIP() << "frames are not recycled in this build (sanitizer)";
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{64}, std::size_t{65}, std::size_t{1000}, frame_pool::kLargestFrame}) {
    void* first = frame_pool::allocate(size);
    frame_pool::release(first, size);
    void* second = frame_pool::allocate(size);
    EXPECT_EQ(first, second) << size;
    frame_pool::release(second, size);
  }
}

TEST(FramePool, FramesOfEverySizeDoNotOverlap) {
  std::vector<std::pair<unsigned char*, std::size_t>> frames;
  for (std::size_t size = 1; size < 9000; size += 37) {
    auto* frame = static_cast<unsigned char*>(frame_pool::allocate(size));
    std::fill_n(frame, size, static_cast<unsigned char>(size));
    frames.emplace_back(frame, size);
  }
  for (const auto& [frame, size] : frames) {
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(frame[i], static_cast<unsigned char>(size));
    frame_pool::release(frame, size);
  }
}

TEST(FramePool, KeepsABoundedAmountOfWhatOtherThreadsMade) {
  // More than the pool keeps: the rest must go back to the heap, which the leak checker of the sanitizer builds
  // confirms.
  constexpr std::size_t kFrames = frame_pool::kKeptBytesPerClass / frame_pool::kLargestFrame + 100;
  std::vector<void*> frames;
  std::thread maker([&] {
    for (std::size_t i = 0; i < kFrames; ++i) frames.push_back(frame_pool::allocate(frame_pool::kLargestFrame));
  });
  maker.join();
  for (void* frame : frames) frame_pool::release(frame, frame_pool::kLargestFrame);
  if (!alloc_counting_available()) return;
  const std::uint64_t before = thread_allocations();
  std::vector<void*> again(kFrames);
  for (void*& frame : again) frame = frame_pool::allocate(frame_pool::kLargestFrame);
  EXPECT_EQ(thread_allocations() - before, 1U + 100U);  // the vector, and those that were not kept
  for (void* frame : again) frame_pool::release(frame, frame_pool::kLargestFrame);
}

}  // namespace
}  // namespace leap
