// Scenario: everything one seed decides before the simulation begins: sizes, configurations, which faults how often.
//
// Seeds differ in kind, not only in detail: some have no faults at all (every operation must succeed), some only network
// faults, some a target that dies again and again, some a device that errs, some all of it; digests, in-capsule data,
// R2T sizes, queue depths, block size and caching vary freely.
#pragma once

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
  std::size_t target_pool = 1 << 20;       ///< bytes
  std::uint32_t workers = 8;               ///< operations in flight
  std::uint32_t operations = 200;          ///< in all
  std::int64_t target_fault_every_ns = 0;  ///< mean time between two ends of the target; 0: it never ends
  double power_loss = 0.5;                 ///< share of these that take the device's cache along
  double hot = 0.5;                        ///< share of operations on the first few blocks

  /// One line: what this seed is about.
  [[nodiscard]] std::string describe() const;
};

}  // namespace leap::sim
