#include "target/target.h"

#include <thread>

#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "nvme/pdu_checker.h"
#include "target/core.h"
#include "target/tcp/connection.h"
#include "target/tcp/listener.h"

namespace leap {

using target::CloseReason;
using target::Core;
using target::Listener;
using target::Shard;
using target::ShardProbe;
using target::Subsystem;

namespace {

/// After a forced stop the sockets are gone; what is left is the devices' own time.
constexpr Nanos kForcedStopGrace = std::chrono::seconds(1);

Result<> check_seats(const TargetConfig& config, const std::vector<NvmeTarget::Seat>& seats) {
  const auto bad = [](std::string what) {
    return Error(Errc::kInvalidArgument, "NVMe target: " + std::move(what)).in(ErrorDomain::kConfig);
  };
  if (seats.empty()) return bad("no poller to run on");
  const std::size_t least = 2 * std::size_t{config.max_io_size} + Shard::kScratchBytes;
  for (const auto& seat : seats) {
    if (seat.pool.capacity() < least) {
      return bad(fmt::format("the pool of poller {} has {}, needs {} for I/O of {}", seat.poller.name(),
                             format_bytes(seat.pool.capacity()), format_bytes(least),
                             format_bytes(config.max_io_size)));
    }
  }
  return {};
}

}  // namespace

NvmeTarget::NvmeTarget(std::unique_ptr<Core> core) : core_(std::move(core)) {}

Result<std::unique_ptr<NvmeTarget>> NvmeTarget::create(Config config, std::vector<Seat> seats, Net& net) {
  LEAP_TRY_VOID(config.validate());
  LEAP_TRY_VOID(check_seats(config, seats));
  auto core = std::make_unique<Core>();
  core->net = &net;
  if (!config.chaos.empty() || config.chaos_control) {
    LEAP_TRY(target::ChaosSpec chaos, target::ChaosSpec::parse(config.chaos));
    core->chaos = std::make_unique<target::ChaosControl>(std::move(chaos));
  }
  LEAP_TRY(core->subsystem, Subsystem::create(std::move(config)));
  for (const Seat& seat : seats) {
    core->shards.push_back(std::make_unique<Shard>(*core, core->shards.size(), seat.poller, seat.pool));
  }
  return std::unique_ptr<NvmeTarget>(new NvmeTarget(std::move(core)));
}

NvmeTarget::~NvmeTarget() {
  if (!started_) return;
  if (!stopped()) begin_stop(false);
  for (const auto& shard : core_->shards) {
    if (shard->poller().stopping()) shard->abandon();
  }
  {
    std::unique_lock lock(core_->mutex);
    core_->all_stopped.wait(lock, [this] { return core_->running_shards == 0; });
  }
  while (!core_->all_quiet()) std::this_thread::yield();
}

Result<> NvmeTarget::start() {
  if (started_) return Error(Errc::kWrongState, "NVMe target: started twice");
  std::vector<std::unique_ptr<Acceptor>> acceptors;
  std::vector<SocketAddress> addresses;
  for (const SocketAddress& address : core_->subsystem->config().listen) {
    auto acceptor = core_->net->listen(address);
    if (!acceptor.ok()) return std::move(acceptor).error().context("NVMe target");
    addresses.push_back(acceptor.value()->local_address());
    acceptors.push_back(std::move(acceptor).value());
  }
  addresses_ = addresses;
  announce_discovery_change(core_->subsystem->discovery().set_addresses(std::move(addresses)));
  core_->started = core_->shards.front()->poller().clock().now();
  core_->running_shards = core_->shards.size();
  started_ = true;
  for (std::size_t i = 0; i < acceptors.size(); ++i) {
    Shard& shard = *core_->shards[i % core_->shards.size()];
    shard.attach_listener(std::make_unique<Listener>(*core_, std::move(acceptors[i])), nullptr);
  }
  return {};
}

void NvmeTarget::begin_stop(bool graceful) {
  if (!started_) return;
  for (const auto& shard : core_->shards) shard->stop(graceful, nullptr);
}

bool NvmeTarget::stopped() const { return core_->all_quiet(); }

Result<> NvmeTarget::stop(Nanos deadline) {
  LEAP_CHECK(NvmePoller::current() == nullptr, "NvmeTarget::stop blocks and must not be called on a poller");
  if (stopped()) return {};
  const auto wait = [this](Nanos limit) {
    std::unique_lock lock(core_->mutex);
    return core_->all_stopped.wait_for(lock, limit, [this] { return core_->running_shards == 0; });
  };
  begin_stop(true);
  if (wait(deadline)) return {};
  begin_stop(false);
  if (wait(kForcedStopGrace)) return {};
  return Error(Errc::kTimedOut,
               fmt::format("stop NVMe target: a device still works on a command after {}", format_duration(deadline)));
}

void NvmeTarget::notify_namespace_changed(std::uint32_t nsid) {
  core_->deliver_to_all(target::EventKind::kNamespaceChanged, nvme::Nsid{nsid}, nullptr);
}

Result<std::uint32_t> NvmeTarget::add_namespace(NamespaceConfig config) {
  LEAP_TRY(const nvme::Nsid nsid, core_->subsystem->add_namespace(std::move(config)));
  core_->namespaces_changed(nsid);
  return nsid.value();
}

Result<> NvmeTarget::remove_namespace(std::uint32_t nsid) {
  LEAP_TRY_VOID(core_->subsystem->remove_namespace(nvme::Nsid{nsid}));
  core_->namespaces_changed(nvme::Nsid{nsid});
  return {};
}

Result<> NvmeTarget::resize_namespace(std::uint32_t nsid, std::uint64_t bytes) {
  LEAP_TRY_VOID(core_->subsystem->resize_namespace(nvme::Nsid{nsid}, bytes));
  core_->namespaces_changed(nvme::Nsid{nsid});
  return {};
}

void NvmeTarget::announce_discovery_change(bool changed) {
  if (changed) core_->deliver_to_all(target::EventKind::kDiscoveryChanged, nvme::kNoNamespace, nullptr);
}

Result<> NvmeTarget::set_allowed_hosts(std::vector<std::string> hosts) {
  LEAP_TRY_VOID(validate_allowed_hosts(hosts));
  announce_discovery_change(core_->subsystem->discovery().set_allowed_hosts(std::move(hosts)));
  return {};
}

Result<> NvmeTarget::set_referrals(std::vector<SocketAddress> referrals) {
  LEAP_TRY_VOID(validate_referrals(referrals));
  announce_discovery_change(core_->subsystem->discovery().set_referrals(std::move(referrals)));
  return {};
}

NvmeTarget::Probe NvmeTarget::probe() const {
  Probe sum;
  sum.connections_refused = core_->refused.load(std::memory_order_relaxed);
  sum.keep_alive_expirations = core_->keep_alive_expirations.load(std::memory_order_relaxed);
  sum.controllers_now = core_->subsystem->controller_count();
  for (const auto& shard : core_->shards) {
    const ShardProbe& probe = shard->probe();
    sum.connections += probe.connections.value();
    sum.connections_now += static_cast<std::uint64_t>(probe.connections_now.value());
    sum.protocol_errors += probe.closed[static_cast<std::size_t>(CloseReason::kProtocolError)].value();
    sum.stalled += probe.closed[static_cast<std::size_t>(CloseReason::kStalled)].value();
    sum.admin_commands += probe.admin_commands.value();
    sum.reads += probe.reads.value();
    sum.writes += probe.writes.value();
    sum.other_commands += probe.other_commands.value();
    sum.read_bytes += probe.read_bytes.value();
    sum.written_bytes += probe.written_bytes.value();
    sum.failed_commands += probe.failed_commands.value();
    sum.digest_errors += probe.digest_errors.value();
    sum.r2ts += probe.r2ts.value();
    sum.buffer_waits += probe.buffer_waits.value();
  }
  return sum;
}

Result<> NvmeTarget::set_chaos(std::string_view spec) {
  if (!core_->subsystem->config().chaos_control) {
    return Error(Errc::kWrongState, "NVMe target: it was started without chaos_control").in(ErrorDomain::kConfig);
  }
  LEAP_TRY(target::ChaosSpec chaos, target::ChaosSpec::parse(spec));
  core_->chaos->replace(std::move(chaos));
  return {};
}

std::string NvmeTarget::chaos_report() const { return core_->chaos == nullptr ? "" : core_->chaos->report(); }

void NvmeTarget::append_metrics(MetricsText& page) const {
  if (core_->chaos != nullptr) core_->chaos->append_metrics(page);
  const Probe sum = probe();
  const auto level = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
  page.gauge("leap_target_connections", "TCP connections of the NVMe target", level(sum.connections_now));
  page.gauge("leap_target_controllers", "Associations with hosts", level(sum.controllers_now));
  page.counter("leap_target_connections_total", "TCP connections accepted", sum.connections);
  page.counter("leap_target_connections_refused_total", "TCP connections turned away at max_connections",
               sum.connections_refused);
  page.counter("leap_target_keep_alive_expirations_total", "Associations ended because their host fell silent",
               sum.keep_alive_expirations);
  for (std::size_t i = 0; i < target::kCloseReasons; ++i) {
    std::uint64_t closed = 0;
    for (const auto& shard : core_->shards) closed += shard->probe().closed[i].value();
    page.counter("leap_target_connections_closed_total", "TCP connections ended, by reason", closed,
                 {{"reason", std::string(to_string(static_cast<CloseReason>(i)))}});
  }
  const char* const kCommands = "leap_target_commands_total";
  const char* const kCommandsHelp = "Commands received";
  page.counter(kCommands, kCommandsHelp, sum.admin_commands, {{"kind", "admin"}});
  page.counter(kCommands, kCommandsHelp, sum.reads, {{"kind", "read"}});
  page.counter(kCommands, kCommandsHelp, sum.writes, {{"kind", "write"}});
  page.counter(kCommands, kCommandsHelp, sum.other_commands, {{"kind", "other"}});
  page.counter("leap_target_failed_commands_total", "Commands answered with an error status", sum.failed_commands);
  page.counter("leap_target_read_bytes_total", "Bytes asked for by Read commands", sum.read_bytes);
  page.counter("leap_target_written_bytes_total", "Bytes announced by Write commands", sum.written_bytes);
  page.counter("leap_target_digest_errors_total", "Data digests of hosts that did not match", sum.digest_errors);
  const auto& violations = nvme::PduChecker::violations(nvme::ConnectionEnd::kController);
  const char* const kViolations = "leap_target_protocol_violations_total";
  const char* const kViolationsHelp = "PDUs that broke NVMe/TCP, while the protocol checker is on";
  page.counter(kViolations, kViolationsHelp, violations.own.value(), {{"by", "target"}});
  page.counter(kViolations, kViolationsHelp, violations.peer.value(), {{"by", "host"}});
  page.counter("leap_target_r2ts_total", "R2T PDUs sent", sum.r2ts);
  page.counter("leap_target_buffer_waits_total", "Commands that waited for buffer memory", sum.buffer_waits);
}

}  // namespace leap
