// Fabrics commands: Connect, Property Get and Set, Disconnect (NVMe Base 2.0, 6).
//
// Connect checks, in this order: record format, data, subsystem NQN, host NQN, allow-list, queue id and size,
// controller id. What is wrong is reported as Connect Invalid Parameters with the offset of the offending field (IPO,
// IATTR). Poller only.
#pragma once

#include "target/request.h"
#include "target/session.h"

namespace leap::target {

/// Any Fabrics command but Connect's second half.
Step begin_fabrics_command(Session& session, Request& request);
/// Connect with its 1024 bytes of data at request.data.
Step execute_connect(Session& session, Request& request);

}  // namespace leap::target
