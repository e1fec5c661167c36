// Simulation: one seed, one run: the real host and the real target on a simulated network, clock and device, in one
// thread.
//
//   workload tasks -> NvmeBdev -> NvmeController, IoQueueSet, TcpQueuePair ~ SimNet ~ NvmeTarget -> SimDevice
//        |                (host pollers)                                    (target pollers)           |
//        +----------------------------- Model: what may be read ------------------------------------ +
//
// The pollers take their turns in a seeded order; when none of them has anything to do, time moves to the next event.
// What is held against a run:
//
//   * every operation ends, within a deadline; nobody waits for what never comes
//   * a read brings only what the model allows; what was flushed survives power loss
//   * an error that says "not executed" tells the truth
//   * nobody breaks the protocol, refuses what was right, or touches the other namespace
//   * without faults nothing fails
//   * at the end no buffer, slot, connection or channel is left
//
// Threading: one thread; any number of simulations on as many threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace leap::sim {

struct Verdict {
  std::uint64_t seed = 0;
  std::string failure;  ///< empty: all is well
  std::uint64_t trace_hash = 0;
  std::uint64_t operations = 0;
  std::uint64_t failed_operations = 0;
  std::uint64_t faults = 0;  ///< of network, device and target
  std::uint64_t sessions = 0;
  std::uint64_t turns = 0;
  std::int64_t virtual_ms = 0;
  [[nodiscard]] bool ok() const { return failure.empty(); }
};

[[nodiscard]] Verdict simulate(std::uint64_t seed);

/// "LEAP_SIM_SEED=7 build/release/tests/sim/sim_tests ...": what went wrong and how to see it again.
[[nodiscard]] std::string report(const Verdict& verdict);

}  // namespace leap::sim
