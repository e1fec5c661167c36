// Scenario: everything one seed decides before the simulation begins: sizes, configurations, which faults how often.
//
// Seeds differ in kind, not only in detail: some have no faults at all (every operation must succeed), some only network
// faults, some a target that dies again and again, some a device that errs, some all of it; digests, in-capsule data,
// R2T sizes, queue depths, block size and caching vary freely.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "bdev/nvme_bdev.h"
#include "host/controller_config.h"
#include "sim_device.h"
#include "sim_net.h"
#include "target/config.h"

namespace leap::sim {

struct Scenario {
  explicit Scenario(std::uint64_t seed);

  std::uint64_t seed;
  bool faulty = true;
  NetPlan net;
  DevicePlan device;
  TargetConfig target;  ///< without namespaces
  ControllerConfig host;
  NvmeBdev::Config bdev;
  std::size_t host_pollers = 2;
  std::size_t target_pollers = 2;
  std::size_t host_mailbox = 4096;         ///< calls a host's poller has room for
  std::size_t target_pool = 1 << 20;       ///< bytes
  std::uint32_t workers = 8;               ///< operations in flight
  std::uint32_t operations = 200;          ///< in all
  std::int64_t target_fault_every_ns = 0;  ///< mean time between two ends of the target; 0: it never ends
  double power_loss = 0.5;                 ///< share of these that take the device's cache along
  double lull = 0.0;                       ///< share of operations before which everybody pauses for seconds
  double renew = 0.0;                      ///< chance per busy turn that the host connects anew
  double announce = 0.0;                   ///< chance per busy turn that the target announces a changed namespace
  double hot = 0.5;                        ///< share of operations on the first few blocks

  /// What one command, repeated where that is allowed, may take with all others in front of it at its queue.
  [[nodiscard]] Nanos longest_command() const;
  /// What recovering from a lost path, and the wait for its fence, may add.
  [[nodiscard]] Nanos longest_recovery() const;
  /// The largest operation that is one command.
  [[nodiscard]] std::uint32_t largest_command() const { return std::min(bdev.max_io, target.max_io_size); }
  /// What an operation may take at the very most: everything times out, every time, and all others are in front.
  [[nodiscard]] Nanos longest_operation() const;
  [[nodiscard]] bool corrupts() const { return net.corrupt > 0.0; }
  /// One line: what this seed is about.
  [[nodiscard]] std::string describe() const;
};

}  // namespace leap::sim
