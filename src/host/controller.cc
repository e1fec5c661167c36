#include "host/controller.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/scope_exit.h"
#include "host/admin_commands.h"
#include "host/async_events.h"
#include "host/io_queue_set.h"
#include "host/keep_alive.h"
#include "host/namespace_scan.h"
#include "host/queue_pair_deadline.h"
#include "host/resolve.h"
#include "nvme/admin_command.h"

namespace leap {
namespace {

constexpr std::uint32_t kAdminEntries = nvme::kMinAdminQueueEntries;
constexpr std::uint32_t kMaxEventRequests = 4;
/// How long an orderly shutdown of the controller may take when it does not say (RTD3E is 0).
constexpr Nanos kDefaultShutdownWait = std::chrono::seconds(5);
constexpr Nanos kFirstPoll = std::chrono::milliseconds(1);
constexpr Nanos kSlowestPoll = std::chrono::milliseconds(50);

std::uint32_t to_ms(Nanos duration) {
  return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

Error controller_error(Errc kind, const std::string& message) {
  return Error(kind, message).in(ErrorDomain::kTransport).with_scope(ErrorScope::kController);
}

}  // namespace

NvmeController::NvmeController(NvmePoller& home, DmaPool& pool, Net& net, ControllerConfig config)
    : home_(home),
      pool_(pool),
      net_(net),
      config_(std::move(config)),
      tasks_(home),
      stopped_(home),
      escalation_(std::make_shared<Escalation>(home, static_cast<Escalation::Listener&>(*this))),
      aborts_(home, 1) {
  info_.subnqn = config_.address.subnqn;
  info_.endpoint = config_.address.endpoint();
}

NvmeController::~NvmeController() {
  // Nobody is to be told any more: what observers and tasks would touch is going away.
  if (admin_ != nullptr) admin_->set_observer(nullptr);
  escalation_->close();
}

void NvmeController::move(ControllerEvent event) {
  state_.store(next_state(state_.load(std::memory_order_relaxed), event), std::memory_order_release);
}

std::vector<NamespaceInfo> NvmeController::namespaces() const {
  const std::lock_guard lock(mutex_);
  return namespaces_;
}

std::optional<Error> NvmeController::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

std::vector<std::pair<std::string, const QueuePair::Probe*>> NvmeController::queue_probes() const {
  std::vector<std::pair<std::string, const QueuePair::Probe*>> probes{{admin_->name(), &admin_->probe()}};
  if (io_queues_ != nullptr) std::ranges::copy(io_queues_->probes(), std::back_inserter(probes));
  return probes;
}

// --- connecting ---

Task<Result<std::unique_ptr<NvmeController>>> NvmeController::connect(NvmePoller& home, DmaPool& pool, Net& net,
                                                                      ControllerConfig config) {
  LEAP_CO_TRY_VOID(config.validate());
  LEAP_CO_TRY(const SocketAddress address, socket_address(config.address));
  if (config.address.hostnqn.empty()) config.address.hostnqn = config.hostnqn;
  const TimePoint deadline = home.clock().now() + config.connect_timeout;
  std::unique_ptr<NvmeController> controller(new NvmeController(home, pool, net, std::move(config)));
  Result<> initialised = co_await controller->initialise(address, deadline);
  if (!initialised.ok()) {
    const auto what = fmt::format("connect to {} at {}", controller->info_.subnqn, controller->info_.endpoint);
    co_return std::move(initialised).error().context(what);
  }
  const ControllerInfo& info = controller->info_;
  log_info("{} at {}: controller {} ({} {}, serial {}), {} I/O queues of {} entries, {} namespaces", info.subnqn,
           info.endpoint, info.cntlid, info.model, info.firmware, info.serial, info.io_queues, info.io_queue_entries,
           controller->namespaces_.size());
  co_return std::move(controller);
}

Task<Result<>> NvmeController::initialise(SocketAddress address, TimePoint deadline) {
  LEAP_CO_TRY_VOID(co_await connect_admin(address, deadline));
  {
    const QueuePairDeadline limit(*admin_, deadline, "initialising the controller");
    Result<nvme::ConnectResponse> connected = co_await fabrics_connect(*admin_, pool_, connect_parameters());
    if (!connected.ok()) co_return std::move(connected).error();
    info_.cntlid = connected->cntlid;
    LEAP_CO_TRY_VOID(co_await enable());
    LEAP_CO_TRY_VOID(co_await wait_ready(deadline));
    LEAP_CO_TRY_VOID(co_await identify());
    if (!info_.discovery) LEAP_CO_TRY_VOID(co_await negotiate_queues(address));
    LEAP_CO_TRY_VOID(co_await configure_events());
    if (!info_.discovery) LEAP_CO_TRY_VOID(co_await scan_namespaces());
  }
  if (!admin_->live()) co_return Error(*admin_->failure());
  start_background();
  co_return Result<>{};
}

FabricsConnect NvmeController::connect_parameters() const {
  FabricsConnect connect;
  connect.qid = nvme::kAdminQid;
  connect.entries = kAdminEntries;
  connect.kato_ms = to_ms(config_.keep_alive_timeout);
  connect.hostid = config_.hostid;
  connect.subnqn = config_.address.subnqn;
  connect.hostnqn = config_.address.hostnqn;
  return connect;
}

TcpQueuePair::TcpConfig NvmeController::connection_parameters() const {
  TcpQueuePair::TcpConfig connection;
  connection.queue.command_timeout = config_.io_timeout;
  connection.header_digest = config_.header_digest;
  connection.data_digest = config_.data_digest;
  connection.maxr2t = config_.maxr2t;
  connection.protocol_checker = config_.protocol_checker;
  connection.receive_buffer = config_.receive_buffer;
  return connection;
}

Task<Result<>> NvmeController::connect_admin(SocketAddress address, TimePoint deadline) {
  TcpQueuePair::TcpConfig connection = connection_parameters();
  connection.queue.qid = nvme::kAdminQid;
  connection.queue.depth = kAdminEntries - 1;
  connection.queue.name = fmt::format("{} admin queue at {}", info_.subnqn, info_.endpoint);
  // A keep-alive that stays unanswered for longer than the controller would wait for us is the end either way.
  if (config_.keep_alive_timeout > Nanos{0}) {
    connection.queue.command_timeout = std::min(connection.queue.command_timeout, config_.keep_alive_timeout);
  }
  connection.receive_buffer = std::min<std::uint32_t>(connection.receive_buffer, 64 * 1024);
  auto connected = co_await TcpQueuePair::connect(home_, net_, address, std::move(connection), deadline);
  if (!connected.ok()) co_return std::move(connected).error();
  admin_ = std::move(connected).value();
  co_return Result<>{};
}

Task<Result<>> NvmeController::enable() {
  LEAP_CO_TRY(cap_.raw, co_await property_get(*admin_, nvme::PropertyOffset::kCap));
  LEAP_CO_TRY(const std::uint64_t version, co_await property_get(*admin_, nvme::PropertyOffset::kVs));
  info_.version.raw = static_cast<std::uint32_t>(version);
  nvme::Cc cc = nvme::Cc::enabled();
  if (!cap_.supports_nvm_command_set() && cap_.supports_io_command_sets()) cc.set_css(nvme::Cc::kCssIoCommandSets);
  cc.set_mps(cap_.mpsmin());
  cc_ = cc;
  Result<> enabled = co_await property_set(*admin_, nvme::PropertyOffset::kCc, cc.raw);
  co_return std::move(enabled);
}

Task<Result<>> NvmeController::wait_ready(TimePoint deadline) {
  const Nanos limit = std::chrono::milliseconds(std::max<std::uint32_t>(cap_.ready_timeout_ms(), 500));
  const TimePoint give_up = std::min(deadline, home_.clock().now() + limit);
  for (Nanos pause = kFirstPoll;; pause = std::min(pause * 2, kSlowestPoll)) {
    LEAP_CO_TRY(const std::uint64_t value, co_await property_get(*admin_, nvme::PropertyOffset::kCsts));
    const nvme::Csts csts{static_cast<std::uint32_t>(value)};
    if (csts.cfs())
      co_return controller_error(Errc::kIo, "the controller reports a fatal status (CSTS.CFS) when enabled");
    if (csts.rdy()) co_return Result<>{};
    if (home_.clock().now() >= give_up) {
      co_return controller_error(
          Errc::kTimedOut, fmt::format("the controller did not become ready within {} ms (CAP.TO)", to_ms(limit)));
    }
    co_await home_.sleep_for(pause);
  }
}

Task<Result<>> NvmeController::identify() {
  const auto command = nvme::make_identify_controller();
  LEAP_CO_TRY(const DmaBuf page, co_await read_data(*admin_, pool_, command, nvme::kIdentifyBytes));
  identity_ = *nvme::wire::load<nvme::IdentifyController>(page.bytes());
  info_.serial = identity_.serial();
  info_.model = identity_.model();
  info_.firmware = identity_.firmware();
  info_.discovery = identity_.cntrltype == nvme::ControllerType::kDiscovery || config_.address.is_discovery();
  const std::uint64_t mdts = identity_.max_transfer_bytes(cap_.min_page_bytes());
  info_.max_transfer = static_cast<std::uint32_t>(std::min<std::uint64_t>(mdts, DmaPool::kMaxBuffer));
  // NVMe/TCP has no offset (ICDOFF is 0 there): in-capsule data of a controller that claims one is not usable.
  info_.in_capsule_bytes = identity_.icdoff == 0 ? identity_.in_capsule_data_bytes() : 0;
  info_.keep_alive_ms = identity_.kas != 0 ? to_ms(config_.keep_alive_timeout) : 0;
  info_.shutdown_ms = identity_.rtd3e / 1000;  // RTD3E is in microseconds
  std::ranges::transform(identity_.crdt, info_.retry_delays.begin(),
                         [](std::uint16_t units) { return Nanos(std::chrono::milliseconds(100) * units); });
  info_.disconnect_supported = (identity_.ofcs & nvme::kOfcsDisconnect) != 0;
  if (config_.keep_alive_timeout > Nanos{0} && identity_.kas == 0) {
    log_warn("{} at {}: no keep-alive: the controller does not support it", info_.subnqn, info_.endpoint);
  }
  admin_->set_max_transfer(info_.max_transfer);
  co_return Result<>{};
}

Task<Result<>> NvmeController::negotiate_queues(SocketAddress address) {
  const nvme::NumberOfQueues wanted{.sq = config_.max_io_queues, .cq = config_.max_io_queues};
  LEAP_CO_TRY(const std::uint32_t dw0,
              co_await set_features(*admin_, nvme::FeatureId::kNumberOfQueues, wanted.to_dword()));
  const auto granted = nvme::NumberOfQueues::from_dword(dw0);
  info_.io_queues = std::min({config_.max_io_queues, granted.sq, granted.cq});
  info_.io_queue_entries = std::min(config_.io_queue_depth, cap_.max_queue_entries());
  if (identity_.maxcmd != 0) {
    info_.io_queue_entries = std::min(info_.io_queue_entries, std::uint32_t{identity_.maxcmd} + 1);
  }
  if (info_.io_queue_entries < 2) {
    co_return controller_error(Errc::kProtocol,
                               fmt::format("I/O queues of {} entries (CAP.MQES)", info_.io_queue_entries));
  }
  IoQueueSet::Config set;
  set.address = std::move(address);
  set.connection = connection_parameters();
  set.connection.queue.depth = info_.io_queue_entries - 1;
  set.connection.queue.max_transfer = info_.max_transfer;
  set.connection.queue.abort_timeout = config_.abort_timeout;
  set.connection.in_capsule_bytes = info_.in_capsule_bytes;
  set.connect = connect_parameters();
  set.connect.entries = info_.io_queue_entries;
  set.connect.kato_ms = 0;
  set.connect.cntlid = info_.cntlid;
  set.connect.disable_sq_flow_control = config_.disable_sq_flow_control;
  set.queues = info_.io_queues;
  set.connect_timeout = config_.connect_timeout;
  set.disconnect = info_.disconnect_supported;
  io_queues_ = std::make_unique<IoQueueSet>(net_, std::move(set), escalation_, probe_.queue_failures, probe_.io_queues);
  co_return Result<>{};
}

Task<Result<>> NvmeController::configure_events() {
  nvme::AsyncEventConfig wanted;
  wanted.namespace_attribute = (identity_.oaes & nvme::kOaesNamespaceAttribute) != 0;
  wanted.discovery_log_change = info_.discovery && (identity_.oaes & nvme::kOaesDiscoveryLogChange) != 0;
  // Health events have no bit in OAES to ask first, and some targets (Linux) refuse the whole word for them.
  const std::uint8_t every_warning = info_.discovery ? 0 : 0x1F;
  Result<> outcome;
  for (const std::uint8_t warnings : {every_warning, std::uint8_t{0}}) {
    wanted.smart_critical = warnings;
    const std::uint32_t value = wanted.to_dword();
    Result<std::uint32_t> set = co_await set_features(*admin_, nvme::FeatureId::kAsyncEventConfiguration, value);
    if (set.ok()) co_return Result<>{};
    outcome = std::move(set).error();
    if (outcome.error().domain() != ErrorDomain::kNvme) co_return std::move(outcome);
  }
  // Without events the association still works; changes are found at the next connect.
  log_warn("{}", outcome.error().message());
  co_return Result<>{};
}

Task<Result<>> NvmeController::scan_namespaces() {
  NamespaceScan scan;
  scan.subnqn = info_.subnqn;
  scan.max_namespaces = config_.max_namespaces;
  scan.max_transfer = info_.max_transfer;
  scan.volatile_write_cache = identity_.volatile_write_cache();
  scan.oncs = identity_.oncs;
  LEAP_CO_TRY(std::vector<NamespaceInfo> found, co_await read_namespaces(*admin_, pool_, std::move(scan)));
  probe_.namespaces.set(static_cast<std::int64_t>(found.size()));
  const std::lock_guard lock(mutex_);
  namespaces_ = std::move(found);
  co_return Result<>{};
}

void NvmeController::start_background() {
  move(ControllerEvent::kReady);
  admin_->set_observer(this);
  if (info_.keep_alive_ms > 0) {
    keep_alive_ = std::make_unique<KeepAlive>(*admin_, config_.keep_alive_timeout, probe_.keep_alives);
  }
  AsyncEventMonitor::Config events;
  events.name = fmt::format("{} at {}", info_.subnqn, info_.endpoint);
  events.requests = std::min<std::uint32_t>(identity_.aerl + 1U, kMaxEventRequests);
  events_ = std::make_unique<AsyncEventMonitor>(
      *admin_, pool_, tasks_, std::move(events), [this] { return rescan_namespaces(); }, probe_.async_events);
}

Task<void> NvmeController::rescan_namespaces() {
  if (info_.discovery) {
    if (namespaces_changed_ && live()) namespaces_changed_(*this);
    co_return;
  }
  Result<> scanned = co_await scan_namespaces();
  if (!scanned.ok()) {
    log_warn("{} at {}: namespaces not read again: {}", info_.subnqn, info_.endpoint, scanned.error().message());
    co_return;
  }
  probe_.namespace_scans.add();
  if (namespaces_changed_ && live()) namespaces_changed_(*this);
}

// --- I/O queues ---

Task<Result<QueuePair*>> NvmeController::open_io_queue(NvmePoller& poller, DmaPool& /*pool*/) {
  if (!live()) {
    const auto why = failure();
    co_return controller_error(Errc::kClosed, fmt::format("{} at {}: controller is {}{}", info_.subnqn, info_.endpoint,
                                                          to_string(state()), why ? ": " + why->message() : ""));
  }
  if (ends_with_a_queue_.load(std::memory_order_acquire) && escalation_->io_queue_was_lost()) {
    co_return controller_error(
        Errc::kClosed,
        fmt::format("{} at {}: the association has lost a queue and is being ended", info_.subnqn, info_.endpoint))
        .retryable_if(true);
  }
  if (io_queues_ == nullptr) {
    co_return controller_error(
        Errc::kUnsupported,
        fmt::format("{} at {} is a discovery controller: it has no I/O queues", info_.subnqn, info_.endpoint));
  }
  Result<QueuePair*> opened = co_await io_queues_->open(poller);
  co_return std::move(opened);
}

// --- the end ---

void NvmeController::on_queue_pair_failed(QueuePair& queue_pair) {
  move(ControllerEvent::kAdminLost);
  if (state() != ControllerState::kFailed) return;  // shutting down: expected
  Error cause = Error(*queue_pair.failure()).context(queue_pair.name());
  log_error("{}: the association is lost: {}", queue_pair.name(), queue_pair.failure()->message());
  {
    const std::lock_guard lock(mutex_);
    failure_ = cause;
  }
  if (io_queues_ != nullptr) {
    tasks_.spawn(fail_io_queues(
        controller_error(Errc::kClosed, "the association is lost: " + cause.message()).retryable_if(true)));
  }
  report_lost(cause);
}

void NvmeController::set_lost(Lost handler) {
  lost_ = std::move(handler);
  ends_with_a_queue_.store(true, std::memory_order_release);
  // It may have happened already.
  if (const auto cause = failure()) report_lost(*cause);
  if (escalation_->io_queue_was_lost()) report_lost(controller_error(Errc::kClosed, "an I/O queue has been lost"));
}

void NvmeController::report_lost(const Error& cause) {
  if (Lost handler = std::exchange(lost_, nullptr); handler) handler(cause);
}

void NvmeController::on_io_queue_lost(const Error& cause) {
  if (state() == ControllerState::kLive) report_lost(cause);
}

void NvmeController::on_abort_wanted(nvme::Qid qid, nvme::Cid cid) {
  if (live()) tasks_.spawn(abort(qid, cid));
}

// One at a time: every controller takes that many (ACL is 0's based), and the queue pair has a deadline of its own.
Task<void> NvmeController::abort(nvme::Qid qid, nvme::Cid cid) {
  co_await aborts_.acquire();
  const auto turn = defer([this] { aborts_.release(); });
  if (!live()) co_return;
  probe_.aborts.add();
  CommandResult done = co_await admin_->execute(nvme::make_abort(qid, cid));
  const bool aborted = done.status.ok() && (done.dw0 & 1U) == 0;
  log_warn("{} at {}: Abort of command {} on queue {}: {}", info_.subnqn, info_.endpoint, cid, qid,
           aborted            ? "aborted"
           : done.status.ok() ? "not aborted"
                              : done.status.error().message());
}

Task<void> NvmeController::fail_io_queues(Error cause) {
  constexpr Nanos kReplyLimit = std::chrono::seconds(10);
  const TimePoint deadline = home_.clock().now() + kReplyLimit;
  co_await io_queues_->fail_all(home_, std::move(cause), deadline);
}

Task<Result<>> NvmeController::shutdown(Nanos limit) {
  LEAP_CHECK(home_.on_this_thread(), "a controller is shut down on its home poller");
  if (state() == ControllerState::kShuttingDown) co_await stopped_.wait();
  if (state() == ControllerState::kStopped) co_return Result<>{};
  const TimePoint deadline = home_.clock().now() + limit;
  move(ControllerEvent::kShutdown);
  Result<> result;
  if (events_ != nullptr) events_->stop();
  if (io_queues_ != nullptr) {
    Result<> closed = co_await io_queues_->close_all(home_, deadline);
    result = std::move(closed);
  }
  const bool in_order = admin_->live() && probe_.queue_failures.value() == 0;
  if (admin_->live()) {
    Result<> stopped = co_await stop_controller(deadline);
    if (result.ok()) result = std::move(stopped);
  }
  keep_alive_.reset();
  // Nothing is outstanding when every queue has ended in order. Otherwise the controller has to notice by itself.
  if (in_order && result.ok()) fence_->pass_at(home_.now());
  admin_->close();
  fence_->pass_at(home_.now() + quiesce_time());
  // Their commands are over now, so these tasks end by themselves.
  co_await tasks_.wait();
  events_.reset();
  move(ControllerEvent::kStopped);
  stopped_.set();
  co_return std::move(result);
}

Nanos NvmeController::quiesce_time() const {
  // A controller without a Keep Alive Timeout notices nothing; what is left is to wait long.
  constexpr Nanos kWithoutKeepAlive = std::chrono::seconds(60);
  if (info_.keep_alive_ms == 0) return kWithoutKeepAlive;
  const auto granularity = std::chrono::milliseconds(identity_.keep_alive_granularity_ms());
  return std::chrono::milliseconds(info_.keep_alive_ms) + granularity + std::chrono::milliseconds(identity_.cqt) +
         config_.quiesce_margin;
}

Task<Result<>> NvmeController::reset(Nanos limit) {
  LEAP_CHECK(home_.on_this_thread(), "a controller is reset on its home poller");
  const TimePoint deadline = home_.clock().now() + limit;
  if (io_queues_ != nullptr) {
    co_await io_queues_->fail_all(
        home_, controller_error(Errc::kClosed, "the association is being ended").retryable_if(true), deadline);
  }
  if (!admin_->live()) co_return controller_error(Errc::kClosed, "no reset: the admin queue is lost too");
  const QueuePairDeadline bound(*admin_, deadline, "controller reset");
  nvme::Cc cc = cc_;
  cc.set_en(false);
  LEAP_CO_TRY_VOID(co_await property_set(*admin_, nvme::PropertyOffset::kCc, cc.raw));
  for (Nanos pause = kFirstPoll;; pause = std::min(pause * 2, kSlowestPoll)) {
    LEAP_CO_TRY(const std::uint64_t value, co_await property_get(*admin_, nvme::PropertyOffset::kCsts));
    if (!nvme::Csts{static_cast<std::uint32_t>(value)}.rdy()) break;
    co_await home_.sleep_for(pause);
  }
  fence_->pass_at(home_.now());
  co_return Result<>{};
}

Task<Result<>> NvmeController::stop_controller(TimePoint deadline) {
  const QueuePairDeadline bound(*admin_, deadline, "controller shutdown");
  const Nanos wait = info_.shutdown_ms > 0 ? Nanos(std::chrono::milliseconds(info_.shutdown_ms)) : kDefaultShutdownWait;
  const TimePoint give_up = std::min(deadline, home_.clock().now() + wait);
  nvme::Cc cc = cc_;
  cc.set_shn(nvme::ShutdownNotification::kNormal);
  LEAP_CO_TRY_VOID(co_await property_set(*admin_, nvme::PropertyOffset::kCc, cc.raw));
  for (Nanos pause = kFirstPoll;; pause = std::min(pause * 2, kSlowestPoll)) {
    LEAP_CO_TRY(const std::uint64_t value, co_await property_get(*admin_, nvme::PropertyOffset::kCsts));
    const nvme::Csts csts{static_cast<std::uint32_t>(value)};
    if (csts.shst() == nvme::ShutdownStatus::kComplete) co_return Result<>{};
    if (home_.clock().now() >= give_up) {
      co_return controller_error(Errc::kTimedOut, "the controller did not complete its shutdown (CSTS.SHST) in time");
    }
    co_await home_.sleep_for(pause);
  }
}

}  // namespace leap
