// The seeds that run with every build. LEAP_SIM_SEED=n runs one, LEAP_SIM_SEEDS=n the first n.

#include <chrono>
#include <cstdlib>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "simulation.h"

namespace leap::sim {
namespace {

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

void expect_ok(const Verdict& verdict) { EXPECT_TRUE(verdict.ok()) << report(verdict); }

TEST(Simulation, Seeds) {
  if (std::getenv("LEAP_SIM_SEED") != nullptr) {
    const Verdict verdict = simulate(from_environment("LEAP_SIM_SEED", 0));
    fmt::print("{}\n  {} operations, {} failed, {} faults, {} sessions, {} turns, {} ms\n", report(verdict),
               verdict.operations, verdict.failed_operations, verdict.faults, verdict.sessions, verdict.turns,
               verdict.virtual_ms);
    expect_ok(verdict);
    return;
  }
  const std::uint64_t seeds = from_environment("LEAP_SIM_SEEDS", LEAP_SIM_DEFAULT_SEEDS);
  Verdict sum;
  const auto begun = std::chrono::steady_clock::now();
  for (std::uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) {
    const Verdict verdict = simulate(seed);
    expect_ok(verdict);
    sum.operations += verdict.operations;
    sum.failed_operations += verdict.failed_operations;
    sum.faults += verdict.faults;
    sum.sessions += verdict.sessions;
    sum.virtual_ms += verdict.virtual_ms;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  fmt::print("{} seeds in {:.1f} s ({:.0f} a second): {} operations, {} failed, {} faults, {} sessions, {} virtual s\n",
             seeds, took.count(), static_cast<double>(seeds) / took.count(), sum.operations, sum.failed_operations,
             sum.faults, sum.sessions, sum.virtual_ms / 1000);
}

TEST(Simulation, OneSeedIsOneRun) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const Verdict first = simulate(seed);
    const Verdict second = simulate(seed);
    EXPECT_EQ(first.trace_hash, second.trace_hash) << "seed " << seed;
    EXPECT_EQ(first.turns, second.turns) << "seed " << seed;
  }
  EXPECT_NE(simulate(1).trace_hash, simulate(2).trace_hash);
}

}  // namespace
}  // namespace leap::sim
