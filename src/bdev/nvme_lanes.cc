#include "bdev/nvme_lanes.h"

#include <algorithm>

#include <fmt/format.h>

namespace leap {
namespace {

/// A path comes back by itself, on another thread: looked for this often while an I/O has nowhere to go.
constexpr Nanos kLook = std::chrono::milliseconds(2);
constexpr Nanos kAvoid = std::chrono::milliseconds(100);

}  // namespace

void NvmeLanes::notice_paths() {
  if (slots_.size() == device_.path_count()) return;
  const std::vector<NvmePath*> paths = device_.paths();
  for (std::size_t i = slots_.size(); i < paths.size(); ++i) slots_.push_back({.path = paths[i], .avoid_until = {}});
}

NvmeLanes::Lane* NvmeLanes::pick() {
  notice_paths();
  if (slots_.size() == 1) return ready(slots_[0]) && slots_[0].path->present ? slots_[0].lane : nullptr;
  Lane* best = nullptr;
  const std::size_t first = device_.config().policy == PathPolicy::kRoundRobin ? ++turn_ : 0;
  Lane* avoided = nullptr;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[(first + i) % slots_.size()];
    if (wants_opening(slot)) return nullptr;
    if (!ready(slot) || !slot.path->present) continue;
    if (slot.avoid_until > poller_.now()) {
      avoided = slot.lane;
      continue;
    }
    if (device_.config().policy != PathPolicy::kLeastQueued) return slot.lane;
    if (best == nullptr || slot.lane->queue.queue->outstanding() < best->queue.queue->outstanding()) best = slot.lane;
  }
  return best != nullptr ? best : avoided;
}

Task<Result<NvmeLanes::Lane*>> NvmeLanes::wait(TimePoint give_up) {
  for (;;) {
    notice_paths();
    std::vector<Error> causes;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (!wants_opening(slots_[i])) continue;
      Result<> opened = co_await open(i);
      if (!opened.ok()) {
        slots_[i].avoid_until = poller_.now() + kAvoid;
        causes.push_back(std::move(opened).error());
      }
    }
    if (Lane* lane = pick(); lane != nullptr) co_return lane;
    // The target is there and says no to every path: waiting changes nothing.
    const bool refused = causes.size() == slots_.size() && std::ranges::none_of(causes, &Error::retryable);
    if (refused) {
      co_await poller_.yield();
      co_return std::move(causes.front()).context(device_.info().name);
    }
    const bool over = std::ranges::all_of(slots_, [](const Slot& slot) { return slot.path->over(); });
    if (over || poller_.clock().now() >= give_up) {
      device_.probe().no_path.add();
      // An I/O that fails without ever waiting would let a caller that repeats it keep the poller for itself.
      co_await poller_.yield();
      co_return unreachable(causes);
    }
    co_await poller_.sleep_for(kLook);
  }
}

Task<Result<>> NvmeLanes::open(std::size_t index) {
  Result<ControllerLink::Queue> opened = co_await slots_[index].path->link.open_io_queue(poller_, pool_);
  if (!opened.ok()) co_return std::move(opened).error();
  Slot& slot = slots_[index];
  if (slot.lane != nullptr && slot.lane->queue.queue == opened->queue) co_return Result<>{};  // another I/O was faster
  if (Lane* old = slot.lane; old != nullptr) {
    old->replaced = true;
    if (old->users == 0) forget(*old);
  }
  lanes_.push_back(std::make_unique<Lane>(Lane{.path = slot.path, .queue = std::move(opened).value()}));
  slot.lane = lanes_.back().get();
  co_return Result<>{};
}

void NvmeLanes::avoid(Lane& lane) {
  for (Slot& slot : slots_) {
    if (slot.lane == &lane) slot.avoid_until = poller_.now() + kAvoid;
  }
}

void NvmeLanes::forget(Lane& lane) {
  std::erase_if(lanes_, [&lane](const std::unique_ptr<Lane>& one) { return one.get() == &lane; });
}

Error NvmeLanes::unreachable(const std::vector<Error>& causes) const {
  std::string why;
  for (const Slot& slot : slots_) {
    const auto failure = slot.path->link.failure();
    why += fmt::format("; {} is {}{}", slot.path->link.name(),
                       slot.path->present ? to_string(slot.path->link.state()) : "without this namespace",
                       failure ? ": " + failure->message() : "");
  }
  for (const Error& cause : causes) why += "; " + cause.message();
  return Error(Errc::kUnreachable, fmt::format("{}: no path{}", device_.info().name, why))
      .in(ErrorDomain::kTransport)
      .with_scope(ErrorScope::kDevice);
}

}  // namespace leap
