// ControllerConfig: everything a connection to one NVMe-oF controller can be told. validate() before use.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "base/uuid.h"
#include "nvme/address.h"

namespace leap {

struct ControllerConfig {
  /// TCP, with a numeric traddr: names are resolved beforehand (resolve_address in host/resolve.h), never on a poller.
  nvme::TransportAddress address;
  std::string hostnqn;            ///< who we are; address.hostnqn wins when it is set. Required.
  Uuid hostid;                    ///< Host Identifier; not nil. The same host NQN must always come with the same id.
  bool header_digest = false;     ///< ask for it; a target that declines fails the connection
  bool data_digest = false;       ///< likewise
  bool protocol_checker = false;  ///< hold every PDU of both ends against the specification; log and count offences
  bool disable_sq_flow_control = true;  ///< on I/O queues: lets targets leave out the response of a successful read
  std::uint32_t io_queue_depth = 128;   ///< entries, 2 .. 4096; one less is in flight. The controller may have fewer.
  std::uint32_t max_io_queues = 16;     ///< one per poller that opens one, 1 .. 256
  std::uint32_t max_namespaces = 256;   ///< active namespaces looked at, 1 .. 1024; the rest is reported and left out
  std::uint32_t maxr2t = 4;             ///< R2Ts a target may have outstanding per write, 1 .. 16
  Nanos connect_timeout = std::chrono::seconds(10);  ///< for each of connect() and open_io_queue(), all steps
  Nanos io_timeout = std::chrono::seconds(30);       ///< per command
  Nanos abort_timeout = std::chrono::seconds(5);     ///< for an expired I/O command to end after its Abort; 0: no Abort
  Nanos keep_alive_timeout = std::chrono::seconds(15);  ///< KATO; 0: no keep-alive. A command goes out at half of it.
  /// After the Keep Alive Timeout and CQT of a lost controller: what its media may still take for commands it has begun.
  Nanos quiesce_margin = std::chrono::seconds(1);
  std::uint32_t receive_buffer = 256 * 1024;  ///< bytes per queue pair, 64 KiB .. 4 MiB

  /// kInvalidArgument of domain kConfig, naming the field.
  [[nodiscard]] Result<> validate() const;
};

}  // namespace leap
