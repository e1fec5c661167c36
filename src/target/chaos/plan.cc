#include "target/chaos/plan.h"

#include <utility>

#include <fmt/format.h>

namespace leap::target {
namespace {

/// Independent streams out of one seed.
std::uint64_t mix(std::uint64_t seed, std::uint64_t rule, std::uint64_t connection) {
  std::uint64_t z = seed + 0x9E3779B97F4A7C15ULL * (rule + 1) + 0xD1B54A32D192ED03ULL * (connection + 1);
  z = (z ^ (z >> 32)) * 0xD6E8FEB86659FD93ULL;
  return z ^ (z >> 32);
}

}  // namespace

ChaosPlan::ChaosPlan(ChaosSpec spec) : spec_(std::move(spec)) {
  for (std::size_t i = 0; i < spec_.rules.size(); ++i) hits_.emplace_back(0);
}

bool ChaosPlan::take_shot(std::size_t rule) {
  const std::uint64_t limit = spec_.rules[rule].times;
  std::uint64_t taken = hits_[rule].load(std::memory_order_relaxed);
  do {
    if (limit != 0 && taken >= limit) return false;
  } while (!hits_[rule].compare_exchange_weak(taken, taken + 1, std::memory_order_relaxed));
  return true;
}

ChaosDice::ChaosDice(std::shared_ptr<ChaosPlan> plan) : plan_(std::move(plan)) {
  const std::uint64_t connection = plan_->next_connection();
  for (std::size_t i = 0; i < plan_->rules().size(); ++i) {
    // Connections themselves are counted over the whole target: each is an event of its own.
    const bool counts_connections = event_of(plan_->rules()[i].kind) == ChaosEvent::kConnection;
    states_.push_back({.seen = counts_connections ? connection : 0, .rng = Rng(mix(plan_->seed(), i, connection))});
  }
}

bool ChaosDice::roll(std::size_t index) {
  const ChaosRule& rule = plan_->rules()[index];
  State& state = states_[index];
  ++state.seen;
  if (rule.nth != 0 && state.seen != rule.nth) return false;
  if (rule.every != 0 && state.seen % rule.every != 0) return false;
  if (rule.probability > 0 && !state.rng.chance(rule.probability)) return false;
  return plan_->take_shot(index);
}

ChaosControl::ChaosControl(ChaosSpec spec) : plan_(std::make_shared<ChaosPlan>(std::move(spec))) {}

void ChaosControl::replace(ChaosSpec spec) {
  auto plan = std::make_shared<ChaosPlan>(std::move(spec));
  const std::lock_guard lock(mutex_);
  plan_ = std::move(plan);
  version_.fetch_add(1, std::memory_order_release);
}

std::shared_ptr<ChaosPlan> ChaosControl::plan() const {
  const std::lock_guard lock(mutex_);
  return plan_;
}

std::string ChaosControl::report() const {
  const auto plan = this->plan();
  std::string text;
  for (std::size_t i = 0; i < plan->rules().size(); ++i) {
    text += fmt::format("{} {}\n", plan->hits(i), plan->rules()[i].text);
  }
  return text;
}

void ChaosControl::append_metrics(MetricsText& page) const {
  const auto plan = this->plan();
  for (std::size_t i = 0; i < plan->rules().size(); ++i) {
    page.counter("leap_target_chaos_faults_total", "Faults injected on purpose, by rule", plan->hits(i),
                 {{"rule", plan->rules()[i].text}});
  }
}

}  // namespace leap::target
