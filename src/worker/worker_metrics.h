// The worker's Prometheus page: Curvine's names where it has them, leap_* for the rest.
//
// Threading: any thread. Allocates; for scrapes, not for the I/O path.
#pragma once

#include "base/metrics.h"
#include "store/store_set.h"
#include "worker/block_server.h"

namespace leap {

/// Traffic of the data plane, summed over the pollers, and the state of connections.
void write_session_metrics(MetricsText& page, const BlockServer& server);
/// Capacity, disks and blocks. `configured_disks`: data directories in the configuration; those not in the set have
/// failed.
void write_storage_metrics(MetricsText& page, const StoreSet& store, std::size_t configured_disks);
/// Memory of the host and of this process.
void write_host_metrics(MetricsText& page);

}  // namespace leap
