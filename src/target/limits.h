// The limits Identify Controller and CAP announce and the Admin queue enforces, in one place so that they agree.
#pragma once

#include <algorithm>
#include <cstdint>

#include "nvme/fabrics.h"
#include "target/config.h"

namespace leap::target {

inline constexpr std::uint8_t kMaxAsyncEventRequests = 4;  ///< AERL + 1
inline constexpr std::uint8_t kMaxAborts = 4;              ///< ACL + 1; Aborts complete at once, so it is never reached
inline constexpr std::uint16_t kKeepAliveGranularity = 1;  ///< KAS, units of 100 ms
inline constexpr std::uint32_t kKeepAliveGranularityMs = 100 * kKeepAliveGranularity;
inline constexpr std::uint8_t kReadyTimeoutHalfSeconds = 60;  ///< CAP.TO: a reset waits for the device's last command
/// Fabrics and Admin data in capsules or pages never exceed this.
inline constexpr std::uint32_t kMaxConnectDataBytes = 8192;

/// Entries a submission queue may have; an Admin queue of 32 is every host's right (NVMe Base 2.0, 3.3.2.2).
[[nodiscard]] inline std::uint32_t max_entries(const TargetConfig& config, bool admin) {
  return admin ? std::max(config.queue_depth, nvme::kMinAdminQueueEntries) : config.queue_depth;
}

}  // namespace leap::target
