// Transport: what the command layer needs from the connection that carries a queue, and nothing else about it.
//
// One per connection, used on the connection's poller. NVMe/TCP implements it in tcp/connection.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/address.h"
#include "target/request.h"

namespace leap::target {

/// Names one connection of one shard; never used twice, so a stale one names nothing.
using ConnectionId = std::uint64_t;

/// Why a connection ends. Counted and logged.
enum class CloseReason : std::uint8_t {
  kPeerClosed,        ///< end of stream or reset
  kPeerTerminated,    ///< H2CTermReq
  kProtocolError,     ///< we sent a C2HTermReq
  kDisconnected,      ///< the Disconnect command
  kHandshakeTimeout,  ///< no Connect in time
  kStalled,           ///< the peer neither reads nor sends what it owes
  kKeepAliveExpired,
  kControllerReset,   ///< CC.EN was cleared
  kAssociationEnded,  ///< the Admin queue is gone
  kStopping,          ///< the target stops
};
inline constexpr std::size_t kCloseReasons = 10;
[[nodiscard]] std::string_view to_string(CloseReason reason);

class Transport {
 public:
  virtual ~Transport() = default;

  /// A pending request is over: status, result and data are final.
  virtual void complete(Request& request) = 0;
  /// A request that returned Step::kAwaitBuffer has memory at request.data now.
  virtual void buffer_ready(Request& request) = 0;
  /// Work of the session that belongs to no request is over; matters to a connection that waits for the last of it.
  virtual void work_done() = 0;
  /// Takes no more commands; answers what was accepted, then closes.
  virtual void close_gracefully(CloseReason reason) = 0;
  /// Closes as soon as no command executes any more; nothing else is answered.
  virtual void close_now(CloseReason reason) = 0;

  [[nodiscard]] virtual ConnectionId id() const = 0;
  [[nodiscard]] virtual const std::string& peer() const = 0;
  /// Our end of the connection, as the peer reached us; 0.0.0.0:0 when unknown.
  [[nodiscard]] virtual SocketAddress local_address() const = 0;
  /// The payload must not change between its digest and the wire, nor be written before its digest is known: it needs a
  /// buffer of its own (data in the capsule does not).
  [[nodiscard]] virtual bool stages_payload() const = 0;
};

}  // namespace leap::target
