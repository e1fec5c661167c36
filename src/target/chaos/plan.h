// ChaosPlan and ChaosDice: which faults happen when, so that the same seed gives the same faults.
//
// A plan is one ChaosSpec in force, shared by all connections; a ChaosDice is one connection's share of it: its own
// counts and, per rule, its own random numbers, which depend on the seed, the rule's place and the number of the
// connection alone. So what other connections do changes nothing, but for `times`, which all share.
//
//   ChaosControl                       one per target: the plan in force, replaceable while it runs
//     ChaosPlan   rules, hits          replaced as a whole
//       ChaosDice                      one per connection and plan
//
// Threading: ChaosControl and ChaosPlan any thread; a ChaosDice its connection's.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/random.h"
#include "target/chaos/spec.h"

namespace leap::target {

class ChaosPlan {
 public:
  explicit ChaosPlan(ChaosSpec spec);

  [[nodiscard]] const std::vector<ChaosRule>& rules() const { return spec_.rules; }
  [[nodiscard]] std::uint64_t seed() const { return spec_.seed; }
  /// Numbers connections from 0, in the order in which they were accepted.
  [[nodiscard]] std::uint64_t next_connection() { return connections_.fetch_add(1, std::memory_order_relaxed); }
  /// Whether the rule may strike once more; counts it.
  [[nodiscard]] bool take_shot(std::size_t rule);
  [[nodiscard]] std::uint64_t hits(std::size_t rule) const { return hits_[rule].load(std::memory_order_relaxed); }

 private:
  const ChaosSpec spec_;
  std::atomic<std::uint64_t> connections_{0};
  std::deque<std::atomic<std::uint64_t>> hits_;
};

class ChaosDice {
 public:
  explicit ChaosDice(std::shared_ptr<ChaosPlan> plan);

  [[nodiscard]] const ChaosPlan& plan() const { return *plan_; }
  /// Something that rule `index` may hit has happened. True: strike.
  [[nodiscard]] bool roll(std::size_t index);
  /// A number below `bound` for the details of a strike of rule `index`.
  [[nodiscard]] std::uint64_t pick(std::size_t index, std::uint64_t bound) { return states_[index].rng.below(bound); }

 private:
  struct State {
    std::uint64_t seen = 0;
    Rng rng;
  };
  std::shared_ptr<ChaosPlan> plan_;
  std::vector<State> states_;
};

class ChaosControl {
 public:
  explicit ChaosControl(ChaosSpec spec);

  /// From now on these rules, counted from zero, for old connections and new ones.
  void replace(ChaosSpec spec);
  [[nodiscard]] std::shared_ptr<ChaosPlan> plan() const;
  /// Changes with every replace().
  [[nodiscard]] std::uint64_t version() const { return version_.load(std::memory_order_acquire); }
  /// One line per rule: hits and text. Empty without rules.
  [[nodiscard]] std::string report() const;
  void append_metrics(MetricsText& page) const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<ChaosPlan> plan_;
  std::atomic<std::uint64_t> version_{1};
};

}  // namespace leap::target
