// RangeFence: byte ranges that a lost command may still write to, and until when.
//
// A write that got no answer before its association ended may be executed late. Sent again at once (on another path, or
// on the next association) it does no harm, because it carries the same bytes; but a *newer* write to the same place
// could be undone by it. So whoever repeats such a write closes its range here, and every other write to the range waits
// until the old association can no longer act (host/effect_fence.h).
//
// Threading: any poller; a short mutex, and one atomic load while nothing is fenced, which is nearly always.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "host/effect_fence.h"

namespace leap {

class RangeFence {
 public:
  /// [begin, end) may be written by a command until its association is over, or it itself (`command` may be null).
  void close(std::uint64_t begin, std::uint64_t end, std::shared_ptr<EffectFence> association,
             std::shared_ptr<EffectFence> command) {
    const std::lock_guard lock(mutex_);
    entries_.push_back({begin, end, std::move(association), std::move(command)});
    count_.store(entries_.size(), std::memory_order_release);
  }

  /// Whether a new write to [begin, end) may go out. What has passed is forgotten on the way.
  [[nodiscard]] bool open(std::uint64_t begin, std::uint64_t end, TimePoint now) {
    if (count_.load(std::memory_order_acquire) == 0) return true;
    const std::lock_guard lock(mutex_);
    std::erase_if(entries_, [now](const Entry& entry) { return entry.passed(now); });
    count_.store(entries_.size(), std::memory_order_release);
    return std::none_of(entries_.begin(), entries_.end(),
                        [=](const Entry& entry) { return begin < entry.end && entry.begin < end; });
  }
  [[nodiscard]] std::size_t size() const { return count_.load(std::memory_order_relaxed); }

 private:
  struct Entry {
    std::uint64_t begin;
    std::uint64_t end;
    std::shared_ptr<EffectFence> association;
    std::shared_ptr<EffectFence> command;

    [[nodiscard]] bool passed(TimePoint now) const {
      return association->passed(now) || (command != nullptr && command->passed(now));
    }
  };
  std::mutex mutex_;
  std::vector<Entry> entries_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace leap
