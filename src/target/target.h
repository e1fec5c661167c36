// NvmeTarget: an NVMe over TCP target: one NVM subsystem over any block devices, on any number of pollers.
//
// Connections are spread over the pollers as they come, so the queues of one controller may live on different ones.
// Memory devices are served without a copy; others through their channels, with buffers from the poller's pool. The
// well-known discovery service answers on the same addresses. It sleeps when idle: nothing polls, nothing ticks.
//
//   auto target = NvmeTarget::create(config, {{*poller0, *pool0}, {*poller1, *pool1}}).value();
//   LEAP_TRY_VOID(target->start());                 // accepts connections from here on
//   ...
//   target->stop(std::chrono::seconds(5));          // before the pollers stop
//
// What it never trusts: a length, an offset, a tag or an order that came over the network. What it never does: let one
// connection's memory, backlog or silence delay another's commands.
//
// Threading: create, start, stop and destruction on the owner's thread (not a poller's); the rest from any thread.
// Pollers, pools and devices must outlive the target. Each pool belongs to its poller's thread from start() on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "memory/dma_pool.h"
#include "poller/net.h"
#include "poller/poller.h"
#include "target/config.h"

namespace leap {

namespace target {
struct Core;
}

class NvmeTarget {
 public:
  using Config = TargetConfig;

  /// One poller of the target, with the buffers that its connections use. A pool holds at least two commands of
  /// max_io_size.
  struct Seat {
    NvmePoller& poller;
    DmaPool& pool;
  };

  /// Sums over all pollers.
  struct Probe {
    std::uint64_t connections = 0;  ///< accepted so far
    std::uint64_t connections_now = 0;
    std::uint64_t connections_refused = 0;  ///< turned away at max_connections
    std::uint64_t controllers_now = 0;
    std::uint64_t keep_alive_expirations = 0;
    std::uint64_t protocol_errors = 0;  ///< connections ended with a C2HTermReq
    std::uint64_t stalled = 0;          ///< connections ended because the peer stalled
    std::uint64_t admin_commands = 0;
    std::uint64_t reads = 0;
    std::uint64_t writes = 0;
    std::uint64_t other_commands = 0;
    std::uint64_t read_bytes = 0;
    std::uint64_t written_bytes = 0;
    std::uint64_t failed_commands = 0;
    std::uint64_t digest_errors = 0;
    std::uint64_t r2ts = 0;
    std::uint64_t buffer_waits = 0;
  };

  /// Validates everything, touches nothing. Errors: kInvalidArgument (configuration, a device NVMe cannot express, a
  /// pool that is too small).
  static Result<std::unique_ptr<NvmeTarget>> create(Config config, std::vector<Seat> seats, Net& net = Net::system());
  /// Stops, waiting for the devices as long as it takes; with pollers that have been stopped already, at once.
  ~NvmeTarget();
  NvmeTarget(const NvmeTarget&) = delete;
  NvmeTarget& operator=(const NvmeTarget&) = delete;

  /// Listens on every address. Errors: kAlreadyExists (an address is in use), os. After an error nothing listens.
  Result<> start();
  /// The addresses in use, with the ports the system chose where the configuration said 0. After start().
  [[nodiscard]] const std::vector<SocketAddress>& addresses() const { return addresses_; }

  /// No new connections or commands; what was accepted is answered; then everything is closed. After `deadline` it is
  /// closed without answers. Error kTimedOut: a device still works on a command; the target must be kept until
  /// stopped().
  Result<> stop(Nanos deadline);
  /// The first half of stop(), for owners that drive the pollers themselves.
  void begin_stop(bool graceful = true);
  [[nodiscard]] bool stopped() const;

  /// Namespaces may come, go and change their size while hosts are connected. Hosts that asked for it are told once
  /// every poller serves the change. A namespace that is removed finishes the commands it has accepted; its device must
  /// outlive the target all the same. Before start(), too. Errors: kInvalidArgument, kAlreadyExists (nsid or identity),
  /// kExhausted; kNotFound.
  Result<std::uint32_t> add_namespace(NamespaceConfig config);
  Result<> remove_namespace(std::uint32_t nsid);
  /// Shows hosts this much of the device, whole blocks. Error kInvalidArgument: the device has less.
  Result<> resize_namespace(std::uint32_t nsid, std::uint64_t bytes);
  /// Tells every host that asked for it that something about a namespace has changed.
  void notify_namespace_changed(std::uint32_t nsid);

  /// Who may use the subsystem from now on (empty: any host), and which other discovery services are pointed to. Hosts
  /// with a persistent discovery connection hear of it. Associations that exist are not ended. Errors: as validate().
  Result<> set_allowed_hosts(std::vector<std::string> hosts);
  Result<> set_referrals(std::vector<SocketAddress> referrals);
  /// From now on these faults (chaos/spec.h), on old connections and new ones; empty: none. Errors: kWrongState
  /// (chaos_control was not asked for), kInvalidArgument (names the rule; nothing changes).
  Result<> set_chaos(std::string_view spec);
  /// One line per rule in force: how often it has struck, and what it says.
  [[nodiscard]] std::string chaos_report() const;

  [[nodiscard]] Probe probe() const;
  void append_metrics(MetricsText& page) const;

 private:
  explicit NvmeTarget(std::unique_ptr<target::Core> core);
  void announce_discovery_change(bool changed);

  std::unique_ptr<target::Core> core_;
  std::vector<SocketAddress> addresses_;
  bool started_ = false;
};

}  // namespace leap
