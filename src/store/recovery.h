// Recovery: from the records in the metadata to the index and the allocator. Fails closed, record by record.
//
//   blocks family   --claims-->   sorted by device offset   <--compared-->   extents family (in device order already)
//
//   what is found                                        what happens
//   record damaged, or of a future version               not served; its space (known from the extents family) quarantined
//   record outside the device                            not served; the part inside quarantined
//   two records overlap                                  neither served; both spaces quarantined; the report names both
//   extent without owner record, or newer than it        quarantined
//   extent older than its owner's record                 stale: dropped
//   extent damaged or missing, record fine               written again from the record
//   snapshot of a clean shutdown has more allocated      the difference quarantined
//
// Quarantined space is allocated to nobody: not served, not reused, reported. Everything else is served.
//
// Threading: the control thread that opens the store; blocks. O(n log n) in the number of blocks, once.
#pragma once

#include "base/result.h"
#include "store/record.h"

namespace leap {

class StoreCore;

/// Fills core.index, core.allocator, core.recovery and the counters; writes repairs. Errors: the metadata cannot be
/// read.
Result<> recover(StoreCore& core, const IdentityRecord& identity);

}  // namespace leap
