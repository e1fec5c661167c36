// EffectFence: from when on something that was sent can no longer take effect on the device.
//
// A command whose caller has given up, or whose connection broke, may still be on its way through the controller. Until
// that is impossible, neither may its blocks be given to somebody else nor a newer write to them be sent, or the old one
// could undo the newer. The fence of a command passes when it has been answered after all. That of an association, and
// so of everything sent on it,
//   * at once, when the controller confirmed that it has stopped (CSTS.RDY fell after CC.EN := 0, or SHST is complete):
//     NVMe Base 2.0, 3.7.2 and 3.6;
//   * otherwise when the controller must have noticed by itself: Keep Alive Timeout, after which it stops processing
//     commands (NVMe Base 2.0, 3.9), plus its Command Quiesce Time (Base 2.1), plus a margin.
//
// Threading: any; shared by whoever waits for it.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace leap {

class EffectFence {
 public:
  [[nodiscard]] bool passed(TimePoint now) const { return now.ns >= passes_at_ns_.load(std::memory_order_acquire); }
  /// The earliest proof counts.
  void pass_at(TimePoint when) {
    std::int64_t was = passes_at_ns_.load(std::memory_order_relaxed);
    while (when.ns < was && !passes_at_ns_.compare_exchange_weak(was, when.ns, std::memory_order_acq_rel)) {
    }
  }

 private:
  std::atomic<std::int64_t> passes_at_ns_{TimePoint::max().ns};
};

}  // namespace leap
