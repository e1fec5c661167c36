#include "target/target_runner.h"

#include <fmt/format.h>

#include "base/units.h"
#include "bdev/device_uri.h"

namespace leap {
namespace {

Result<std::unique_ptr<BlockDevice>> open_namespace(const std::string& text, const std::string& name) {
  LEAP_TRY(const DeviceKind kind, device_kind(text));
  if (kind == DeviceKind::kNvme) {
    return Error(Errc::kUnsupported,
                 fmt::format("namespace '{}': a target serves memory and files (mem:, file:)", text))
        .in(ErrorDomain::kConfig);
  }
  return open_local_device(text, name);
}

}  // namespace

Result<std::unique_ptr<TargetRunner>> TargetRunner::create(Options options) {
  if (options.pool_bytes == 0 || options.pool_bytes % kMiB != 0) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("target pool of {} bytes: must be a multiple of 1 MiB", options.pool_bytes))
        .in(ErrorDomain::kConfig);
  }
  auto runner = std::unique_ptr<TargetRunner>(new TargetRunner);
  TargetConfig config = std::move(options.target);
  config.namespaces.clear();
  for (std::size_t i = 0; i < options.namespaces.size(); ++i) {
    // The name is what identity derives from: the place in the configuration, not the path or the size behind it.
    const std::string name = fmt::format("{}/{}", config.nqn, i + 1);
    LEAP_TRY(auto device, open_namespace(options.namespaces[i], name));
    NamespaceConfig ns;
    ns.device = device.get();
    ns.nsid = static_cast<std::uint32_t>(i + 1);
    ns.name = name;
    config.namespaces.push_back(std::move(ns));
    runner->devices_.push_back(std::move(device));
  }
  std::vector<int> cores(options.cores.begin(), options.cores.end());
  if (cores.empty()) cores.push_back(-1);

  LEAP_TRY(auto arena, HugePageArena::create({.size = options.pool_bytes * cores.size()}));
  runner->arena_ = std::make_unique<HugePageArena>(std::move(arena));
  std::vector<NvmeTarget::Seat> seats;
  for (std::size_t i = 0; i < cores.size(); ++i) {
    NvmePoller::Config poller = options.poller;
    poller.name = fmt::format("target-{}", i);
    poller.core = cores[i];
    LEAP_TRY(auto made, NvmePoller::create(std::move(poller)));
    runner->pollers_.push_back(std::move(made));
    runner->pools_.push_back(
        std::make_unique<DmaPool>(runner->arena_->memory().subspan(i * options.pool_bytes, options.pool_bytes)));
    seats.push_back({*runner->pollers_.back(), *runner->pools_.back()});
  }
  LEAP_TRY(runner->target_, NvmeTarget::create(std::move(config), std::move(seats)));
  return runner;
}

TargetRunner::~TargetRunner() {
  target_.reset();  // waits for the devices
  stop_pollers();
}

Result<> TargetRunner::start() {
  for (auto& poller : pollers_) {
    if (Result<> started = poller->start(); !started.ok()) {
      stop_pollers();
      return started;
    }
  }
  Result<> listening = target_->start();
  if (!listening.ok()) stop_pollers();
  return listening;
}

Result<> TargetRunner::stop(Nanos deadline) {
  Result<> stopped = target_->stop(deadline);
  if (stopped.ok()) stop_pollers();
  return stopped;
}

void TargetRunner::stop_pollers() {
  for (auto& poller : pollers_) poller->stop();
}

}  // namespace leap
