// FakeTarget: a small NVMe/TCP subsystem over memory, for tests: Connect, properties, Identify, features, events,
// keep-alive, Read, Write, Flush. Bytes in, bytes out; who moves them (a FakeNet, a socket) does not matter.
//
// Its knobs are the ways targets differ, and the ways they fail.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "nvme/admin_command.h"
#include "nvme/fabrics.h"
#include "nvme/features.h"
#include "nvme/identify.h"
#include "nvme/identify_namespace.h"
#include "nvme/status.h"
#include "peer_connection.h"

namespace leap::test {

struct FakeNamespace {
  nvme::Nsid nsid{1};
  std::uint32_t block_shift = 9;
  Uuid uuid;                          // nil: no UUID descriptor
  std::array<std::byte, 16> nguid{};  // zeros: none
  std::uint16_t metadata = 0;
  nvme::Csi csi = nvme::Csi::kNvm;
  std::vector<std::byte> memory = std::vector<std::byte>(1 << 20);
};

class FakeTarget {
 public:
  struct Options {
    std::string subnqn = "nqn.2024-01.io.example:fake";
    std::string allowed_host;  // empty: any
    nvme::ConnectionParams transport{
        .hdgst = true, .ddgst = true, .hpda = 0, .cpda = 0, .maxr2t = 1, .maxh2cdata = 131072};
    std::uint32_t in_capsule_bytes = 8192;
    std::uint32_t c2h_bytes = 1 << 20;  // DATA of one C2HData
    bool success_flag = true;
    std::uint16_t mqes = 127;
    std::uint16_t queues = 4;
    std::uint8_t mdts = 5;  // 128 KiB
    std::uint16_t kas = 1;
    std::uint8_t aerl = 3;
    std::uint32_t ready_after = 0;  // CSTS reads before RDY
    bool fatal = false;             // CSTS.CFS when enabled
    bool descriptors = true;        // CNS 03h
    bool completes_shutdown = true;
    bool disconnect = false;
    bool discovery = false;
    bool health_events = true;   // takes SMART bits in the event configuration
    bool unsorted_list = false;  // of active namespaces
    std::uint16_t authreq = 0;
  };
  class Connection;

  FakeTarget() : FakeTarget(Options{}) {}
  explicit FakeTarget(Options opts) : options(std::move(opts)) { namespaces.emplace_back(); }

  Options options;
  std::vector<FakeNamespace> namespaces;
  std::function<bool(Connection&, const HostPdu&)> intercept;  // true: the command is dealt with (or swallowed)

  std::unique_ptr<Connection> accept();
  /// Completes one Asynchronous Event Request with `event`; false when none is outstanding.
  bool notify(nvme::AsyncEvent event);

  // What hosts did.
  std::uint64_t keep_alives = 0;
  std::uint64_t log_reads = 0;
  std::uint64_t disconnects = 0;
  bool shutdown_requested = false;
  std::vector<nvme::Qid> connected;  // in order
  std::uint32_t kato_ms = 0;
  bool flow_control_disabled = false;
  nvme::AsyncEventConfig event_config;

 private:
  friend class Connection;
  std::vector<Connection*> connections_;
  std::uint32_t cc_ = 0;
  std::uint32_t csts_reads_ = 0;
};

/// The subsystem's end of one connection.
class FakeTarget::Connection {
 public:
  explicit Connection(FakeTarget& owner) : target(owner) { target.connections_.push_back(this); }
  ~Connection() { std::erase(target.connections_, this); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Works off what is in wire.in; answers are in wire.out.
  void serve();

  PeerConnection wire;
  FakeTarget& target;
  nvme::Qid qid{};
  std::vector<nvme::Cid> events;  // outstanding Asynchronous Event Requests

 private:
  struct Write {
    nvme::Command command;
    std::vector<std::byte> data;
    std::uint32_t received = 0;
  };
  void on_command(const HostPdu& pdu);
  void on_data(const HostPdu& pdu);
  void fabrics(const nvme::Command& command, const HostPdu& pdu);
  void connect(const nvme::Command& command, const HostPdu& pdu);
  void property_get(const nvme::Command& command);
  void property_set(const nvme::Command& command);
  void admin(const nvme::Command& command);
  void identify(const nvme::Command& command);
  void io(const nvme::Command& command, const HostPdu& pdu);
  void finish_write(const nvme::Command& command, std::span<const std::byte> data);
  void reply_data(const nvme::Command& command, std::span<const std::byte> data);
  [[nodiscard]] FakeNamespace* find(nvme::Nsid nsid);

  std::vector<Write> writes_;  // waiting for their data
};

inline std::unique_ptr<FakeTarget::Connection> FakeTarget::accept() { return std::make_unique<Connection>(*this); }

}  // namespace leap::test
