#include "env/nvme_env.h"

#include <algorithm>
#include <atomic>

#include <fmt/format.h>

#include "base/affinity.h"
#include "base/log.h"
#include "host/remote_call.h"
#include "host/resolve.h"

namespace leap {
namespace {

std::atomic<bool> g_environment_up{false};

constexpr std::uint32_t kMostIoQueues = 256;  // of one controller; ControllerConfig allows no more
constexpr std::size_t kMostResolvers = 8;     // threads

/// Memory per poller, in whole buffers of the largest size.
std::size_t pool_bytes(std::uint64_t total, std::size_t pollers) {
  return total / pollers / DmaPool::kMaxBuffer * DmaPool::kMaxBuffer;
}

}  // namespace

struct NvmeEnv::Target {
  NvmeTargetConfig config;
  std::unique_ptr<NvmeController> controller;
  std::vector<std::unique_ptr<NvmeBdev>> devices;
  std::optional<Error> error;  // written while starting only
  bool reported_down = false;  // on the first poller

  /// The first thing that went wrong is the one to report: the rest tends to follow from it.
  void note(Error problem) {
    if (!error) error = std::move(problem);
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

ControllerConfig NvmeEnv::controller_config(const NvmeTargetConfig& target, const HostIdentity& us) const {
  const std::string& nqn = target.address.hostnqn;
  const HostIdentity host = nqn.empty() || nqn == us.nqn ? us : host_identity_for(nqn);
  ControllerConfig controller;
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
  controller.keep_alive_timeout =
      target.keep_alive_timeout > Nanos{0} ? target.keep_alive_timeout : config_.keep_alive_timeout;
  return controller;
}

Task<void> NvmeEnv::connect_target(NvmeEnv& env, NvmePoller& home, Target& target, BlockingPool* resolver) {
  // Reads files: cheap, but not for a poller either, so connect_targets() has done it.
  ControllerConfig config = env.controller_config(target.config, *env.identity_);
  if (resolver != nullptr && !socket_address(config.address).ok()) {
    const auto resolve = [address = config.address] { return resolve_address(address); };
    Result<nvme::TransportAddress> resolved = co_await resolver->run(home, resolve);
    if (!resolved.ok()) {
      target.note(std::move(resolved).error());
      co_return;
    }
    config.address = std::move(resolved).value();
  }
  auto connected = co_await NvmeController::connect(home, *env.contexts_.front().pool, env.net_, std::move(config));
  if (!connected.ok()) {
    target.note(std::move(connected).error());
    co_return;
  }
  target.controller = std::move(connected).value();
  co_await open_queues(env, home, target);
}

Task<void> NvmeEnv::open_queues(NvmeEnv& env, NvmePoller& home, Target& target) {
  const ControllerInfo& info = target.controller->info();
  if (info.discovery) {
    target.note(Error(Errc::kUnsupported, fmt::format("{} at {} is a discovery controller: it has no namespaces",
                                                      info.subnqn, info.endpoint))
                    .in(ErrorDomain::kTransport));
    co_return;
  }
  // The first pollers get the queues, always the same ones.
  const std::size_t granted = std::min<std::size_t>(info.io_queues, env.contexts_.size());
  if (granted < env.contexts_.size()) {
    target.note(
        Error(Errc::kExhausted, fmt::format("{} at {} has {} I/O queues for {} pollers: only the first {} can use it",
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
    return target.controller->open_io_queue(poller, *context.pool);
  };
  // The attempt has its own deadline; this one is for a poller that does not answer at all.
  constexpr Nanos kGrace = std::chrono::seconds(5);
  const TimePoint deadline = home.clock().now() + env.config_.qpair_acquire_timeout + kGrace;
  Result<Result<QueuePair*>> opened = co_await call_on(home, *context.poller, open, deadline);
  if (!opened.ok())
    target.note(std::move(opened).error());
  else if (!opened->ok())
    target.note(std::move(opened).value().error());
}

Task<void> NvmeEnv::connect_all(NvmeEnv& env, NvmePoller& home, BlockingPool* resolver) {
  TaskGroup group(home);
  for (auto& target : env.targets_) group.spawn(connect_target(env, home, *target, resolver));
  co_await group.wait();
}

void NvmeEnv::connect_targets() {
  if (!config_.enabled) return;
  identity_ = host_identity();
  std::size_t names = 0;
  for (const NvmeTargetConfig& config : config_.targets) {
    targets_.push_back(std::make_unique<Target>());
    targets_.back()->config = config;
    if (!socket_address(config.address).ok()) ++names;
  }
  // Resolving a name blocks, for long when the name server is down: not on a poller, and not one after the other.
  std::optional<BlockingPool> resolver;
  if (names > 0)
    resolver.emplace(BlockingPool::Config{.name = "leap-resolve", .threads = std::min(names, kMostResolvers)});
  BlockingPool* const threads = resolver ? &*resolver : nullptr;
  contexts_.front().poller->run([this, threads](NvmePoller& poller) { return connect_all(*this, poller, threads); });
  for (auto& target : targets_) {
    if (target->controller != nullptr) bind_namespaces(*target);
    const auto name = fmt::format("{} at {}", target->config.address.subnqn, target->config.address.endpoint());
    if (target->error)
      log_warn("target {}: {}", name, target->error->to_string());
    else
      log_info("target {}: {} namespaces", name, target->devices.size());
  }
  contexts_.front().poller->post(
      [](void* self) {
        auto& env = *static_cast<NvmeEnv*>(self);
        NvmePoller& poller = *env.contexts_.front().poller;
        poller.spawn(watch_health(env, poller));
      },
      this);
}

void NvmeEnv::bind_namespaces(Target& target) {
  for (const NamespaceInfo& ns : target.controller->namespaces()) {
    if (target.config.address.nsid && *target.config.address.nsid != ns.nsid) continue;
    auto device = NvmeBdev::create(
        *target.controller, ns,
        {.max_io = static_cast<std::uint32_t>(config_.dma_buffer_size), .retries = config_.io_retry_count});
    if (!device.ok()) {
      target.note(std::move(device).error());
      continue;
    }
    if (find(device.value()->info().name) != nullptr) {
      target.note(Error(Errc::kAlreadyExists, fmt::format("namespace {} ({}) is already bound through another target",
                                                          ns.nsid.value(), device.value()->info().name)));
      continue;
    }
    target.devices.push_back(std::move(device).value());
  }
}

Task<void> NvmeEnv::watch_health(NvmeEnv& env, NvmePoller& poller) {
  for (;;) {
    co_await poller.sleep_for(env.config_.poll_interval);
    for (auto& target : env.targets_) {
      if (target->controller == nullptr || target->controller->live() || target->reported_down) continue;
      target->reported_down = true;
      const auto failure = target->controller->failure();
      log_error("target {} at {} is down: {}", target->config.address.subnqn, target->config.address.endpoint(),
                failure ? failure->to_string() : "disconnected");
    }
  }
}

std::vector<TargetStatus> NvmeEnv::targets() const {
  std::vector<TargetStatus> all;
  for (const auto& target : targets_) {
    TargetStatus status;
    status.address = target->config.address;
    status.up = target->controller != nullptr && target->controller->live();
    status.error = target->error;
    if (!status.up && target->controller != nullptr) {
      if (const auto failure = target->controller->failure()) status.error = failure;
    }
    for (const auto& device : target->devices) status.device_names.push_back(device->info().name);
    all.push_back(std::move(status));
  }
  return all;
}

std::vector<BlockDevice*> NvmeEnv::devices() const {
  std::vector<BlockDevice*> all;
  for (const auto& target : targets_) {
    for (const auto& device : target->devices) all.push_back(device.get());
  }
  return all;
}

BlockDevice* NvmeEnv::find(std::string_view uuid_or_name) const {
  const auto uuid = Uuid::parse(uuid_or_name);
  for (BlockDevice* device : devices()) {
    if (device->info().name == uuid_or_name) return device;
    if (uuid.ok() && !uuid.value().is_nil() && device->info().uuid == uuid.value()) return device;
  }
  return nullptr;
}

std::vector<const NvmeController*> NvmeEnv::controllers() const {
  std::vector<const NvmeController*> all;
  for (const auto& target : targets_) {
    if (target->controller != nullptr) all.push_back(target->controller.get());
  }
  return all;
}

Task<void> NvmeEnv::shut_down(NvmeController& controller, Nanos limit, Result<>& result) {
  result = co_await controller.shutdown(limit);
}

Task<void> NvmeEnv::shut_down_controllers(NvmeEnv& env, NvmePoller& home, Nanos limit, std::vector<Result<>>& results) {
  TaskGroup group(home);
  for (std::size_t i = 0; i < env.targets_.size(); ++i) {
    Target& target = *env.targets_[i];
    if (target.controller != nullptr) group.spawn(shut_down(*target.controller, limit, results[i]));
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
        [this, limit, &results](NvmePoller& poller) { return shut_down_controllers(*this, poller, limit, results); });
    for (const Result<>& result : results) {
      if (!result.ok() && outcome.ok()) outcome = result.error();
    }
  }
  for (auto& poller : pollers_) poller->stop();
  // Only now: destroying a controller is for its home poller, or for when all pollers have stopped.
  targets_.clear();
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
