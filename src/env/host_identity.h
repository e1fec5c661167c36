// Who this host is to an NVMe-oF target: its NQN and Host Identifier.
#pragma once

#include <filesystem>
#include <string>

#include "base/uuid.h"

namespace leap {

struct HostIdentity {
  std::string nqn;
  Uuid id;
};

/// The machine's identity: /etc/nvme/hostnqn and hostid where an administrator made them, otherwise derived from
/// /etc/machine-id, so that it is the same after every restart; a random one when there is neither, the same for the
/// life of the process. Malformed files count as absent. Reads files; `etc` is where they are.
HostIdentity host_identity(const std::filesystem::path& etc = "/etc");

/// The identity that goes with an NQN from a configuration: the UUID inside it, or one derived from it. The same NQN
/// always gets the same id, as NVMe Base 2.0 (Host Identifier) asks.
HostIdentity host_identity_for(const std::string& nqn);

}  // namespace leap
