// Configured discovery services become the targets that they list.
//
//   [[worker.spdk_disk.targets]] with subnqn = "nqn.2014-08.org.nvmexpress.discovery"
//     -> its log, referrals followed
//     -> one target per usable NVM entry, with the options (digests, timeouts, hostnqn) of the service's own entry
//
// Each subsystem address is used once, whoever lists it: what is configured by name comes first. A service that cannot
// be asked, or lists nothing for this host, stays in the list with its error.
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "env/env_config.h"
#include "host/controller_config.h"
#include "poller/blocking_pool.h"
#include "poller/net.h"
#include "poller/poller_context.h"

namespace leap {

struct ConfiguredTarget {
  ConfiguredTarget(NvmeTargetConfig target, std::optional<Error> problem = {})
      : config(std::move(target)), error(std::move(problem)) {}
  NvmeTargetConfig config;
  std::optional<Error> error;  ///< there is nothing to connect to, and why
};

/// Asks all services at once. Blocks; not on a poller. `home` runs the connections, `resolver` turns names into
/// addresses, `controller` makes the configuration of a connection.
std::vector<ConfiguredTarget> expand_discovery_targets(
    const std::vector<NvmeTargetConfig>& targets, const PollerContext& home, Net& net, BlockingPool* resolver,
    const std::function<ControllerConfig(const NvmeTargetConfig&)>& controller);

}  // namespace leap
