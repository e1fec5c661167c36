// World: what every part of one simulation shares: the clock, the trace, the verdict, and memory for pools.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/clock.h"
#include "memory/dma_pool.h"
#include "poller/poller.h"
#include "trace.h"

namespace leap::sim {

struct World {
  ManualClock clock;
  Trace trace;
  std::optional<std::string> failure;  ///< the first thing that went wrong

  void fail(std::string what) {
    if (!failure) failure = std::move(what);
  }
  [[nodiscard]] bool failed() const { return failure.has_value(); }

  /// A line of the story, for whoever looks into one seed: LEAP_SIM_STORY=1.
  const bool tells = std::getenv("LEAP_SIM_STORY") != nullptr;
  template <typename... Args>
  void tell(fmt::format_string<Args...> format, Args&&... args) const {
    if (!tells) return;
    constexpr double kMillisecond = 1e6;
    fmt::print("{:12.3f} {}\n", static_cast<double>(clock.now().ns) / kMillisecond,
               fmt::format(format, std::forward<Args>(args)...));
  }
};

/// A poller driven by the simulation, with a pool of its own.
class SimPoller {
 public:
  static constexpr std::size_t kAlignment = std::size_t{1} << 20;

  SimPoller(std::string name, World& world, std::unique_ptr<WaitBackend> backend, std::size_t pool_bytes,
            std::size_t mailbox = 4096)
      : memory_(
            static_cast<std::byte*>(std::aligned_alloc(kAlignment, (pool_bytes + kAlignment - 1) & ~(kAlignment - 1)))),
        pool({memory_.get(), pool_bytes}),
        poller_(
            NvmePoller::create({.name = std::move(name), .mailbox_capacity = mailbox}, world.clock, std::move(backend))
                .value()) {}

  [[nodiscard]] NvmePoller& poller() { return *poller_; }
  [[nodiscard]] std::uint64_t busy_turns() const { return poller_->probe().busy_turns.load(std::memory_order_relaxed); }

  /// Starts a task in one of the poller's next turns. Not from within a turn.
  void spawn(Task<void> task) {
    struct Call {
      NvmePoller& poller;
      Task<void> task;
      static void run(void* context) {
        const std::unique_ptr<Call> call(static_cast<Call*>(context));
        call->poller.spawn(std::move(call->task));
      }
    };
    auto call = std::make_unique<Call>(*poller_, std::move(task));
    while (!poller_->try_post(&Call::run, call.get())) poller_->run_once();
    static_cast<void>(call.release());
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;

 public:
  DmaPool pool;

 private:
  std::unique_ptr<NvmePoller> poller_;
};

}  // namespace leap::sim
