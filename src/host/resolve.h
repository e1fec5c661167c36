// resolve_address: a transport address whose traddr is a host name becomes one with an IP address. Blocks on the
// resolver: for start-up and helper threads, never for a poller.
//
//   LEAP_TRY(config.address, resolve_address(std::move(config.address)));
#pragma once

#include "base/address.h"
#include "nvme/address.h"

namespace leap {

/// Errors: kNotFound (no such name), kUnsupported (not an IP transport).
[[nodiscard]] Result<nvme::TransportAddress> resolve_address(nvme::TransportAddress address);

/// The socket address of a resolved TCP transport address; never blocks. Errors: kUnsupported (not TCP),
/// kInvalidArgument (a name).
[[nodiscard]] Result<SocketAddress> socket_address(const nvme::TransportAddress& address);

}  // namespace leap
