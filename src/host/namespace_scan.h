// read_namespaces: the active namespaces of a controller, from Identify: the list, each one's data and its identifiers.
//
// Bounded: at most `limits.max_namespaces` are looked at. Namespaces that cannot be used (metadata in their format,
// another command set than NVM, an unusable block size) are logged and left out; so is one that vanishes while being
// read.
//
// Threading: the admin queue's poller. Source: NVMe Base 2.0, 5.17.2; NVM Command Set 1.0, 4.1.5.
#pragma once

#include <string>
#include <vector>

#include "host/namespace_info.h"
#include "host/queue_pair.h"
#include "nvme/identify_namespace.h"

namespace leap {

struct NamespaceScan {
  std::string subnqn;  ///< identity of namespaces that have none of their own
  std::uint32_t max_namespaces = 256;
  std::uint32_t max_transfer = 0;  ///< bytes, of the controller
  bool volatile_write_cache = false;
  std::uint16_t oncs = 0;
};

Task<Result<std::vector<NamespaceInfo>>> read_namespaces(QueuePair& admin, DmaPool& pool, NamespaceScan scan);

/// One namespace from its two pages; `descriptors` may be empty (a controller without CNS 03h). kUnsupported says why
/// it cannot be used.
[[nodiscard]] Result<NamespaceInfo> make_namespace_info(nvme::Nsid nsid, const nvme::IdentifyNamespace& data,
                                                        std::span<const std::byte> descriptors,
                                                        const NamespaceScan& scan);

}  // namespace leap
