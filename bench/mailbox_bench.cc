// A poller's mailbox: the bare ring, and a post to a running poller and back.
#include <atomic>

#include <benchmark/benchmark.h>

#include "base/mpsc_ring.h"
#include "poller/poller.h"

namespace leap {
namespace {

struct Call {
  void (*fn)(void*);
  void* context;
};

void ring(benchmark::State& state) {
  MpscRing<Call> ring(1024);
  for (auto _ : state) {
    const bool pushed = ring.try_push({nullptr, &ring});
    benchmark::DoNotOptimize(pushed);
    benchmark::DoNotOptimize(ring.try_pop());
  }
}
BENCHMARK(ring)->Name("ring/push_and_pop");

std::unique_ptr<NvmePoller> running_poller() {
  auto poller = NvmePoller::create({.name = "bench"}).value();
  poller->start().value();
  return poller;
}

/// What a producer pays for a call to a poller that is mostly awake.
void post(benchmark::State& state) {
  const auto poller = running_poller();
  std::atomic<std::uint64_t> called{0};
  for (auto _ : state) {
    poller->post([](void* count) { ++*static_cast<std::atomic<std::uint64_t>*>(count); }, &called);
  }
  poller->stop();
  state.counters["called"] = static_cast<double>(called.load());
}
BENCHMARK(post)->Name("post/one_producer")->UseRealTime();

/// From the post until the call has run.
void round_trip(benchmark::State& state) {
  const auto poller = running_poller();
  std::atomic<std::uint64_t> called{0};
  std::uint64_t posted = 0;
  for (auto _ : state) {
    poller->post(
        [](void* count) {
          static_cast<std::atomic<std::uint64_t>*>(count)->fetch_add(1);
          static_cast<std::atomic<std::uint64_t>*>(count)->notify_one();
        },
        &called);
    ++posted;
    for (std::uint64_t seen = called.load(); seen < posted; seen = called.load()) called.wait(seen);
  }
  poller->stop();
}
BENCHMARK(round_trip)->Name("post/until_called")->UseRealTime();

}  // namespace
}  // namespace leap
