// NvmeController: the host's side of one association with an NVMe-oF controller: its admin queue and everything that
// lives on it, and the I/O queue pairs, one per poller.
//
//   auto connected = co_await NvmeController::connect(home, home_pool, Net::system(), config);
//   if (!connected.ok()) co_return std::move(connected).error();
//   std::unique_ptr<NvmeController> controller = std::move(connected).value();
//   auto queue = co_await controller->open_io_queue(my_poller, my_pool);      // on my_poller's thread; cached
//   CommandResult done = co_await (*queue)->execute(...);
//   ...
//   Result<> ended = co_await controller->shutdown(5s);                       // on home's thread
//
// connect() makes the admin queue pair (TCP, ICReq, Fabrics Connect), enables the controller, identifies it, agrees on
// the number of queues, arms asynchronous events and keep-alive, and reads the active namespaces, all within
// connect_timeout. When the admin queue fails, the association is over: every I/O queue pair fails too and state() is
// kFailed (controller_state.h). Reconnecting is controller_link.h's.
//
// Threading: connect() and shutdown() on home's thread; open_io_queue() on the thread of the poller it is for; the
// const getters on any thread. Lifetime: the pollers and pools outlive the controller. Destroy it on home after
// shutdown() has returned, or when all its pollers have stopped. Queue pairs it handed out live until then.
//
// Source: NVMe Base 2.0, 3.5 (initialisation), 3.6 (shutdown), 5.2, 5.17, 5.18, 5.27, 6; NVMe TCP Transport 1.0.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "host/controller_config.h"
#include "host/controller_state.h"
#include "host/effect_fence.h"
#include "host/escalation.h"
#include "host/namespace_info.h"
#include "host/queue_pair.h"
#include "host/tcp/tcp_queue_pair.h"
#include "poller/net.h"

namespace leap {

class AsyncEventMonitor;
struct FabricsConnect;
class KeepAlive;
class IoQueueSet;

/// What Identify, properties and negotiation said; fixed for the life of the association.
struct ControllerInfo {
  std::string subnqn;
  std::string endpoint;  ///< "127.0.0.1:4420"
  std::string serial;
  std::string model;
  std::string firmware;
  nvme::Cntlid cntlid;
  nvme::Version version;
  bool discovery = false;               ///< a discovery controller: no I/O queues, no namespaces
  std::uint32_t max_transfer = 0;       ///< bytes
  std::uint32_t io_queues = 0;          ///< granted
  std::uint32_t io_queue_entries = 0;   ///< per queue, after CAP.MQES and MAXCMD
  std::uint32_t in_capsule_bytes = 0;   ///< of data in an I/O command capsule
  std::uint32_t keep_alive_ms = 0;      ///< 0: none
  std::uint32_t shutdown_ms = 0;        ///< RTD3E, how long an orderly shutdown may take; 0: not said
  std::array<Nanos, 3> retry_delays{};  ///< CRDT 1 to 3: what CRD of a status refers to
  bool disconnect_supported = false;    ///< OFCS: I/O queues may be deleted by Disconnect
};

class NvmeController final : private QueuePair::Observer, private Escalation::Listener {
 public:
  /// Any thread may read.
  struct Probe {
    Counter keep_alives;           ///< answered
    Counter async_events;          ///< received
    Counter namespace_scans;       ///< after connect()
    SharedCounter queue_failures;  ///< I/O queue pairs lost
    Counter aborts;                ///< Abort commands sent for expired I/O commands
    Gauge io_queues;               ///< live
    Gauge namespaces;
  };
  /// Called on home after the list of namespaces was read again because the controller said it changed. A discovery
  /// controller has none: there it means that its log has changed and wants to be read (host/discovery_watch.h).
  using NamespacesChanged = std::function<void(NvmeController&)>;
  /// Called on home, once: the admin queue or an I/O queue has been lost. From inside the event: must not destroy.
  using Lost = std::function<void(const Error&)>;

  /// Errors: kInvalidArgument (config), kUnreachable/os (nobody listens), kTimedOut, kProtocol (not NVMe/TCP, or
  /// broken), kPermission (host not allowed), kNotFound (no such subsystem), kUnsupported, nvme.
  static Task<Result<std::unique_ptr<NvmeController>>> connect(NvmePoller& home, DmaPool& pool, Net& net,
                                                               ControllerConfig config);
  ~NvmeController() override;

  /// The I/O queue pair of `poller`, made when first asked for, and again after it failed. `pool` supplies one page
  /// while connecting. Errors: as connect(); kExhausted (the controller granted fewer queues), kClosed (not live).
  Task<Result<QueuePair*>> open_io_queue(NvmePoller& poller, DmaPool& pool);

  /// Orderly end within `limit`: refuses new queues and commands, waits for the accepted ones, deletes the I/O queues,
  /// tells the controller (CC.SHN), disconnects. Always leaves everything torn down; the result says whether it was
  /// orderly (kTimedOut: a command or the controller hung). Idempotent.
  Task<Result<>> shutdown(Nanos limit);

  /// Controller reset (NVMe Base 2.0, 3.7.2) by way of an admin queue that still works: after success no command of the
  /// association can take effect any more, and the fence has passed. Every I/O queue is failed first. shutdown() is still
  /// to come. Home's thread. Errors: kClosed (the admin queue is gone too), kTimedOut.
  Task<Result<>> reset(Nanos limit);
  /// When commands of this association can no longer take effect. Open until shutdown() or reset() has returned.
  [[nodiscard]] const std::shared_ptr<EffectFence>& fence() const { return fence_; }

  [[nodiscard]] ControllerState state() const { return state_.load(std::memory_order_acquire); }
  [[nodiscard]] bool live() const { return state() == ControllerState::kLive; }
  [[nodiscard]] const ControllerInfo& info() const { return info_; }
  [[nodiscard]] const ControllerConfig& config() const { return config_; }
  [[nodiscard]] NvmePoller& home() const { return home_; }
  /// Active namespaces in order of NSID, as last read.
  [[nodiscard]] std::vector<NamespaceInfo> namespaces() const;
  /// Why state() is kFailed; nothing otherwise.
  [[nodiscard]] std::optional<Error> failure() const;
  /// On home, once, after connect().
  void set_namespaces_changed(NamespacesChanged handler) { namespaces_changed_ = std::move(handler); }
  /// On home, once, after connect(). With it, losing an I/O queue ends the association for its owner, who is to reset
  /// or shut it down; without it, the queue is made again when asked for.
  void set_lost(Lost handler);
  /// For admin commands beyond those above (log pages, identify). Home's thread only.
  [[nodiscard]] QueuePair& admin() { return *admin_; }
  [[nodiscard]] const Probe& probe() const { return probe_; }
  /// The probes of the admin queue and of every I/O queue pair made so far, with their names. Valid as long as this.
  [[nodiscard]] std::vector<std::pair<std::string, const QueuePair::Probe*>> queue_probes() const;

 private:
  NvmeController(NvmePoller& home, DmaPool& pool, Net& net, ControllerConfig config);
  Task<Result<>> initialise(SocketAddress address, TimePoint deadline);
  Task<Result<>> connect_admin(SocketAddress address, TimePoint deadline);
  Task<Result<>> enable();
  Task<Result<>> wait_ready(TimePoint deadline);
  Task<Result<>> identify();
  Task<Result<>> negotiate_queues(SocketAddress address);
  Task<Result<>> configure_events();
  Task<Result<>> scan_namespaces();
  Task<void> rescan_namespaces();
  Task<void> fail_io_queues(Error cause);
  Task<Result<>> stop_controller(TimePoint deadline);
  void start_background();
  void on_queue_pair_failed(QueuePair& queue_pair) override;
  void on_abort_wanted(nvme::Qid qid, nvme::Cid cid) override;
  void on_io_queue_lost(const Error& cause) override;
  Task<void> abort(nvme::Qid qid, nvme::Cid cid);
  void report_lost(const Error& cause);
  [[nodiscard]] Nanos quiesce_time() const;
  void move(ControllerEvent event);
  [[nodiscard]] FabricsConnect connect_parameters() const;
  [[nodiscard]] TcpQueuePair::TcpConfig connection_parameters() const;

  NvmePoller& home_;
  DmaPool& pool_;
  Net& net_;
  const ControllerConfig config_;
  std::atomic<ControllerState> state_{ControllerState::kConnecting};
  ControllerInfo info_;
  nvme::Cap cap_;
  nvme::Cc cc_;  // as written when enabled
  nvme::IdentifyController identity_;
  std::unique_ptr<QueuePair> admin_;
  std::unique_ptr<IoQueueSet> io_queues_;  // none on a discovery controller
  TaskGroup tasks_;                        // what runs beside the callers; empty when shutdown() returns
  AsyncEvent stopped_;
  std::unique_ptr<KeepAlive> keep_alive_;
  std::unique_ptr<AsyncEventMonitor> events_;
  NamespacesChanged namespaces_changed_;
  Lost lost_;
  std::atomic<bool> ends_with_a_queue_{false};  // lost_ is set
  const std::shared_ptr<Escalation> escalation_;
  const std::shared_ptr<EffectFence> fence_ = std::make_shared<EffectFence>();
  AsyncSemaphore aborts_;     // Abort commands that may be outstanding
  mutable std::mutex mutex_;  // namespaces_, failure_: written on home, read anywhere
  std::vector<NamespaceInfo> namespaces_;
  std::optional<Error> failure_;
  Probe probe_;
};

}  // namespace leap
