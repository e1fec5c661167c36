// NvmePath: one way to a namespace: the link to a controller that has it, and its id there.
//
// Paths of a device are added as links come up and never go: a namespace that disappears from its controller makes its
// path unusable until it comes back. Threading: atomics; written on the link's home, read by the channels of any poller.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "host/controller_link.h"

namespace leap {

/// Which of several usable paths an I/O takes.
enum class PathPolicy : std::uint8_t {
  kActivePassive,  ///< the first one in order of configuration
  kRoundRobin,     ///< one after the other
  kLeastQueued,    ///< the one with the fewest commands in flight from this poller
};

[[nodiscard]] constexpr std::string_view to_string(PathPolicy policy) {
  switch (policy) {
    case PathPolicy::kActivePassive: return "active-passive";
    case PathPolicy::kRoundRobin: return "round-robin";
    case PathPolicy::kLeastQueued: return "least-queued";
  }
  return "?";
}

struct NvmePath {
  NvmePath(ControllerLink& to, nvme::Nsid id) : link(to), nsid(id.value()), association_seen(to.association().get()) {}

  ControllerLink& link;
  std::atomic<std::uint32_t> nsid;
  std::atomic<bool> present{true};  ///< the controller lists the namespace, and it is the same one
  /// Writes have completed here that no flush has covered: with a volatile write cache they die with their controller.
  std::atomic<bool> unflushed{false};

  const void* association_seen;  ///< on the link's home only; compared, never followed

  void mark_unflushed() {
    if (!unflushed.load(std::memory_order_relaxed)) unflushed.store(true, std::memory_order_release);
  }

  [[nodiscard]] bool usable() const { return present.load(std::memory_order_acquire) && link.live(); }
  [[nodiscard]] bool over() const { return link.over(); }
};

}  // namespace leap
