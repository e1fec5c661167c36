#include "env/nvme_env.h"

#include <algorithm>
#include <atomic>
#include <ranges>

#include <fmt/format.h>

#include "base/affinity.h"
#include "base/log.h"
#include "env/discovery_targets.h"
#include "host/remote_call.h"
#include "host/resolve.h"

namespace leap {
namespace {

std::atomic<bool> g_environment_up{false};

constexpr std::uint32_t kMostIoQueues = 256;  // of one controller; ControllerConfig allows no more
constexpr std::size_t kMostResolvers = 8;     // threads
constexpr std::size_t kMostConnects = 16;     // attempts at the same time: no storm when many targets are lost at once

/// Memory per poller, in whole buffers of the largest size.
std::size_t pool_bytes(std::uint64_t total, std::size_t pollers) {
  return total / pollers / DmaPool::kMaxBuffer * DmaPool::kMaxBuffer;
}

}  // namespace

/// What is under the environment's mutex is written on the first poller.
struct NvmeEnv::Target {
  NvmeTargetConfig config;
  std::unique_ptr<ControllerLink> link;            // nullptr: there is nothing to connect to, see problem
  std::vector<std::unique_ptr<NvmeBdev>> devices;  // under the mutex: those first found here
  std::optional<Error> problem;                    // under the mutex: although it is up

  [[nodiscard]] std::string name() const {
    return fmt::format("{} at {}", config.address.subnqn, config.address.endpoint());
  }
  /// The first thing that went wrong is the one to report: the rest tends to follow from it.
  void note(std::mutex& mutex, Error what) {
    const std::lock_guard lock(mutex);
    if (!problem) problem = std::move(what);
  }
};

NvmeEnv::NvmeEnv(NvmeEnvConfig config, Net& net) : config_(std::move(config)), net_(net) {}

Result<std::unique_ptr<NvmeEnv>> NvmeEnv::start(NvmeEnvConfig config, Net& net) {
  LEAP_TRY_VOID(config.validate());
  if (g_environment_up.exchange(true)) {
    return Error(Errc::kBusy, "an NVMe environment is already up in this process: stop it first");
  }
  std::unique_ptr<NvmeEnv> env(new NvmeEnv(std::move(config), net));
  // From here on the destructor undoes whatever has been done.
  LEAP_TRY_VOID(env->start_pollers());
  env->connect_targets();
  return env;
}

Result<> NvmeEnv::start_pollers() {
  LEAP_TRY(const std::vector<unsigned> cores, config_.cores());
  const std::vector<unsigned> ours = allowed_cores();
  for (const unsigned core : cores) {
    if (std::find(ours.begin(), ours.end(), core) != ours.end()) continue;
    return Error(Errc::kInvalidArgument,
                 fmt::format(
                     "worker.spdk_disk.reactor_mask: core {} of {} does not exist or is not allowed here (allowed: {})",
                     core, config_.reactor_mask, format_core_mask(ours)))
        .in(ErrorDomain::kConfig);
  }
  LEAP_TRY(HugePageArena arena, HugePageArena::create({.size = config_.hugepage}));
  arena_.emplace(std::move(arena));
  log_info("{}", arena_->report());
  const std::size_t share = pool_bytes(config_.hugepage, cores.size());
  for (std::size_t i = 0; i < cores.size(); ++i) {
    NvmePoller::Config poller_config;
    poller_config.name = fmt::format("{}-{}", config_.app_name.substr(0, 10), cores[i]);
    poller_config.core = static_cast<int>(cores[i]);
    poller_config.mailbox_capacity = config_.io_queue_requests;
    poller_config.spin_iterations = config_.spin_iter;
    poller_config.spin_max = config_.spin_max;
    LEAP_TRY(auto poller, NvmePoller::create(std::move(poller_config)));
    LEAP_TRY_VOID(poller->start());
    pools_.push_back(std::make_unique<DmaPool>(arena_->memory().subspan(i * share, share)));
    contexts_.push_back({poller.get(), pools_.back().get()});
    pollers_.push_back(std::move(poller));
  }
  return {};
}

LinkConfig NvmeEnv::link_config(const NvmeTargetConfig& target, const HostIdentity& us) const {
  const std::string& nqn = target.address.hostnqn;
  const HostIdentity host = nqn.empty() || nqn == us.nqn ? us : host_identity_for(nqn);
  LinkConfig link;
  ControllerConfig& controller = link.controller;
  controller.address = target.address;
  controller.hostnqn = host.nqn;
  controller.hostid = host.id;
  controller.header_digest = target.header_digest;
  controller.data_digest = target.data_digest;
  controller.protocol_checker = target.protocol_checker;
  controller.io_queue_depth = config_.io_queue_depth;
  const auto most = target.io_queues > 0 ? target.io_queues : static_cast<std::uint32_t>(pollers_.size());
  controller.max_io_queues = std::min(most, kMostIoQueues);
  controller.connect_timeout = config_.qpair_acquire_timeout;
  controller.io_timeout = target.io_timeout > Nanos{0} ? target.io_timeout : config_.io_timeout;
  controller.abort_timeout = config_.abort_timeout;
  controller.keep_alive_timeout =
      target.keep_alive_timeout > Nanos{0} ? target.keep_alive_timeout : config_.keep_alive_timeout;
  link.reconnect_delay = config_.reconnect_delay;
  link.reconnect_delay_max = std::max(config_.reconnect_delay, config_.reconnect_delay_max);
  link.ctrl_loss_timeout = config_.ctrl_loss_timeout;
  return link;
}

Task<void> NvmeEnv::connect_target(NvmeEnv& env, NvmePoller& home, Target& target) {
  target.link->start();
  co_await target.link->first_attempt();
  if (target.link->live()) co_await open_queues(env, home, target);
}

Task<void> NvmeEnv::open_queues(NvmeEnv& env, NvmePoller& home, Target& target) {
  const ControllerInfo& info = target.link->association()->info();
  if (info.discovery) {
    target.note(env.mutex_,
                Error(Errc::kUnsupported, fmt::format("{} at {} is a discovery controller: it has no namespaces",
                                                      info.subnqn, info.endpoint))
                    .in(ErrorDomain::kTransport));
    co_return;
  }
  // The first pollers get the queues, always the same ones.
  const std::size_t granted = std::min<std::size_t>(info.io_queues, env.contexts_.size());
  if (granted < env.contexts_.size()) {
    target.note(env.mutex_, Error(Errc::kExhausted,
                                  fmt::format("{} at {} has {} I/O queues for {} pollers: only the first {} can use it",
                                              info.subnqn, info.endpoint, granted, env.contexts_.size(), granted))
                                .in(ErrorDomain::kTransport)
                                .with_scope(ErrorScope::kController));
  }
  TaskGroup opening(home);
  for (std::size_t i = 0; i < granted; ++i) opening.spawn(open_queue(env, home, target, env.contexts_[i]));
  co_await opening.wait();
}

Task<void> NvmeEnv::open_queue(NvmeEnv& env, NvmePoller& home, Target& target, const PollerContext& context) {
  const auto open = [&target, &context](NvmePoller& poller) {
    return target.link->open_io_queue(poller, *context.pool);
  };
  // The attempt has its own deadline; this one is for a poller that does not answer at all.
  constexpr Nanos kGrace = std::chrono::seconds(5);
  const TimePoint deadline = home.clock().now() + env.config_.qpair_acquire_timeout + kGrace;
  Result<Result<ControllerLink::Queue>> opened = co_await call_on(home, *context.poller, open, deadline);
  if (!opened.ok())
    target.note(env.mutex_, std::move(opened).error());
  else if (!opened->ok())
    target.note(env.mutex_, std::move(opened).value().error());
}

Task<void> NvmeEnv::connect_all(NvmeEnv& env, NvmePoller& home) {
  TaskGroup group(home);
  for (auto& target : env.targets_) {
    if (target->link != nullptr) group.spawn(connect_target(env, home, *target));
  }
  co_await group.wait();
  // In order of configuration, whoever came first: paths of one device are used in that order.
  env.bound_.store(true);
  for (auto& target : env.targets_) {
    if (target->link != nullptr && target->link->live())
      env.bind_namespaces(*target, target->link->association()->namespaces());
  }
}

std::vector<ConfiguredTarget> NvmeEnv::configured_targets(BlockingPool* resolver) {
  if (!config_.expand_discovery) return {config_.targets.begin(), config_.targets.end()};
  return expand_discovery_targets(
      config_.targets, contexts_.front(), net_, resolver,
      [this](const NvmeTargetConfig& target) { return link_config(target, *identity_).controller; });
}

void NvmeEnv::connect_targets() {
  if (!config_.enabled) return;
  identity_ = host_identity();
  const auto needs_resolver = [](const NvmeTargetConfig& target) { return !socket_address(target.address).ok(); };
  const auto names = static_cast<std::size_t>(std::ranges::count_if(config_.targets, needs_resolver));
  NvmePoller& home = *contexts_.front().poller;
  // Resolving a name blocks, for long when the name server is down: not on a poller, and not one after the other.
  if (names > 0)
    resolver_.emplace(BlockingPool::Config{.name = "leap-resolve", .threads = std::min(names, kMostResolvers)});
  BlockingPool* const resolver = resolver_ ? &*resolver_ : nullptr;
  connects_.emplace(home, kMostConnects);
  for (ConfiguredTarget& each : configured_targets(resolver)) {
    auto target = std::make_unique<Target>();
    target->config = std::move(each.config);
    target->problem = std::move(each.error);
    if (!target->problem) {
      // host_identity_for() reads files: cheap, but not for a poller, so it is done here.
      target->link =
          std::make_unique<ControllerLink>(home, net_, link_config(target->config, *identity_), *connects_, resolver);
      target->link->set_listener(this);
    }
    targets_.push_back(std::move(target));
  }
  home.run([this](NvmePoller& poller) { return connect_all(*this, poller); });
  report_targets();
  keep_pollers_with_queues();
}

void NvmeEnv::report_targets() {
  for (const TargetStatus& target : targets()) {
    const auto name = fmt::format("{} at {}", target.address.subnqn, target.address.endpoint());
    if (target.error)
      log_warn("target {}: {}", name, target.error->to_string());
    else
      log_info("target {}: {} namespaces", name, target.device_names.size());
  }
}

/// A poller without a queue pair of its own can do nothing for a client: better none of its sessions than half of them.
void NvmeEnv::keep_pollers_with_queues() {
  std::size_t usable = contexts_.size();
  for (const auto& target : targets_) {
    const auto association = target->link == nullptr ? nullptr : target->link->association();
    if (association == nullptr || association->info().discovery || association->info().io_queues == 0) continue;
    usable = std::min<std::size_t>(usable, association->info().io_queues);
  }
  if (usable == contexts_.size()) return;
  log_warn("only {} of {} pollers are used: no target may grant fewer I/O queues than there are pollers", usable,
           contexts_.size());
  contexts_.resize(usable);
}

void NvmeEnv::on_namespaces(ControllerLink& link, const std::vector<NamespaceInfo>& namespaces) {
  if (!bound_.load()) return;
  for (auto& target : targets_) {
    if (target->link.get() == &link) bind_namespaces(*target, namespaces);
  }
}

void NvmeEnv::bind_namespaces(Target& target, const std::vector<NamespaceInfo>& namespaces) {
  for (BlockDevice* device : devices()) static_cast<NvmeBdev*>(device)->refresh(*target.link, namespaces);
  for (const NamespaceInfo& ns : namespaces) {
    if (target.config.address.nsid && *target.config.address.nsid != ns.nsid) continue;
    bind(target, ns);
  }
}

void NvmeEnv::bind(Target& target, const NamespaceInfo& ns) {
  if (NvmeBdev* known = find_bdev(ns.uuid); known != nullptr) {
    const auto paths = known->paths();
    const bool ours =
        std::ranges::any_of(paths, [&](const NvmePath* path) { return &path->link == target.link.get(); });
    if (ours) return;
    const Result<> added = known->add_path(*target.link, ns);
    if (!added.ok())
      target.note(mutex_, added.error());
    else
      log_info("{}: another path, namespace {} of {}", known->info().name, ns.nsid.value(), target.name());
    return;
  }
  auto device = NvmeBdev::create(*target.link, ns,
                                 {.max_io = static_cast<std::uint32_t>(config_.dma_buffer_size),
                                  .retries = config_.io_retry_count,
                                  .fast_io_fail_timeout = config_.fast_io_fail_timeout,
                                  .policy = config_.path_policy});
  if (!device.ok()) {
    target.note(mutex_, std::move(device).error());
    return;
  }
  const std::lock_guard lock(mutex_);
  target.devices.push_back(std::move(device).value());
}

std::vector<TargetStatus> NvmeEnv::targets() const {
  const auto all_devices = devices();
  const std::lock_guard lock(mutex_);
  std::vector<TargetStatus> all;
  for (const auto& target : targets_) {
    TargetStatus status;
    status.address = target->config.address;
    status.up = target->link != nullptr && target->link->live();
    status.error = target->problem;
    if (!status.up && target->link != nullptr) {
      if (const auto failure = target->link->failure()) status.error = failure;
    }
    for (BlockDevice* device : all_devices) {
      for (const NvmePath* path : static_cast<NvmeBdev*>(device)->paths()) {
        if (&path->link == target->link.get()) status.device_names.push_back(device->info().name);
      }
    }
    all.push_back(std::move(status));
  }
  return all;
}

std::vector<BlockDevice*> NvmeEnv::devices() const {
  const std::lock_guard lock(mutex_);
  std::vector<BlockDevice*> all;
  for (const auto& target : targets_) {
    for (const auto& device : target->devices) all.push_back(device.get());
  }
  return all;
}

NvmeBdev* NvmeEnv::find_bdev(const Uuid& uuid) const {
  for (BlockDevice* device : devices()) {
    if (!uuid.is_nil() && device->info().uuid == uuid) return static_cast<NvmeBdev*>(device);
  }
  return nullptr;
}

BlockDevice* NvmeEnv::find(std::string_view uuid_or_name) const {
  if (const auto uuid = Uuid::parse(uuid_or_name); uuid.ok()) return find_bdev(uuid.value());
  for (BlockDevice* device : devices()) {
    if (device->info().name == uuid_or_name) return device;
  }
  return nullptr;
}

std::vector<std::shared_ptr<const NvmeController>> NvmeEnv::controllers() const {
  std::vector<std::shared_ptr<const NvmeController>> all;
  for (const auto& target : targets_) {
    if (target->link == nullptr) continue;
    if (auto association = target->link->association(); association != nullptr) all.push_back(std::move(association));
  }
  return all;
}

std::vector<const ControllerLink*> NvmeEnv::links() const {
  std::vector<const ControllerLink*> all;
  for (const auto& target : targets_) {
    if (target->link != nullptr) all.push_back(target->link.get());
  }
  return all;
}

Task<void> NvmeEnv::close_link(ControllerLink& link, Nanos limit, Result<>& result) {
  result = co_await link.close(limit);
}

Task<void> NvmeEnv::close_links(NvmeEnv& env, NvmePoller& home, Nanos limit, std::vector<Result<>>& results) {
  TaskGroup group(home);
  for (std::size_t i = 0; i < env.targets_.size(); ++i) {
    if (env.targets_[i]->link != nullptr) group.spawn(close_link(*env.targets_[i]->link, limit, results[i]));
  }
  co_await group.wait();
}

Result<> NvmeEnv::stop(Nanos limit) {
  if (!running_) return {};
  running_ = false;
  Result<> outcome;
  if (!targets_.empty()) {
    std::vector<Result<>> results(targets_.size());
    contexts_.front().poller->run(
        [this, limit, &results](NvmePoller& poller) { return close_links(*this, poller, limit, results); });
    for (const Result<>& result : results) {
      if (!result.ok() && outcome.ok()) outcome = result.error();
    }
  }
  for (auto& poller : pollers_) poller->stop();
  // Only now: a link is destroyed when nothing of its home runs any more.
  targets_.clear();
  resolver_.reset();
  connects_.reset();
  contexts_.clear();
  pollers_.clear();
  pools_.clear();
  arena_.reset();
  g_environment_up.store(false);
  return outcome;
}

NvmeEnv::~NvmeEnv() {
  constexpr Nanos kLimit = std::chrono::seconds(5);
  if (const Result<> stopped = stop(kLimit); !stopped.ok()) log_warn("stopping: {}", stopped.error().to_string());
}

}  // namespace leap
