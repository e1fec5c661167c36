#include "env/device_session.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/affinity.h"
#include "bdev/device_uri.h"

namespace leap {
namespace {

Result<BlockDevice*> only_device(const NvmeEnv& env) {
  const TargetStatus target = env.targets().front();
  const auto where = fmt::format("{} at {}", target.address.subnqn, target.address.endpoint());
  const auto devices = env.devices();
  if (devices.size() == 1) return devices.front();
  std::vector<std::string> known;
  bool there = false;
  for (const auto& controller : env.controllers()) {
    for (const NamespaceInfo& ns : controller->namespaces()) {
      known.push_back(fmt::format("{}", ns.nsid.value()));
      there = there || target.address.nsid == ns.nsid;
    }
  }
  if (target.address.nsid && !there && !known.empty()) {
    return Error(Errc::kNotFound, fmt::format("{} has no namespace {}; it has: {}", where, target.address.nsid->value(),
                                              fmt::join(known, ", ")));
  }
  // It is there, but could not be made a device; or a discovery controller.
  if (devices.empty() && target.error) return *target.error;
  if (known.empty()) return Error(Errc::kNotFound, fmt::format("{} has no namespaces", where));
  return Error(Errc::kInvalidArgument, fmt::format("{} has {} namespaces, say which (--nsid): {}", where, known.size(),
                                                   fmt::join(known, ", ")));
}

/// What the environment would complain of in the words of a configuration file that the user does not have.
Result<> check_options(const DeviceSession::Options& options, DeviceKind kind) {
  const auto bad = [](const std::string& what) { return Error(Errc::kInvalidArgument, what).in(ErrorDomain::kConfig); };
  LEAP_TRY(const auto cores, parse_core_mask(core_set(options.cores)));
  const auto allowed = allowed_cores();
  for (const unsigned core : cores) {
    if (std::find(allowed.begin(), allowed.end(), core) != allowed.end()) continue;
    return bad(
        fmt::format("core {} does not exist or is not allowed here (allowed: {})", core, fmt::join(allowed, ", ")));
  }
  if (kind != DeviceKind::kNvme && options.nsid) return bad("a namespace (--nsid) is for NVMe devices only");
  if (kind != DeviceKind::kNvme && (options.header_digest || options.data_digest))
    return bad("digests are for NVMe devices only");
  if (kind != DeviceKind::kNvme && options.protocol_checker) return bad("only NVMe has a protocol to check");
  return {};
}

}  // namespace

std::string core_set(const std::string& text) {
  if (text.empty()) return fmt::format("[{}]", allowed_cores().back());
  if (text.starts_with("0x") || text.starts_with("0X") || text.starts_with("[")) return text;
  return fmt::format("[{}]", text);
}

Result<std::unique_ptr<DeviceSession>> DeviceSession::open(const std::string& device, const Options& options) {
  LEAP_TRY(const DeviceKind kind, device_kind(device));
  LEAP_TRY_VOID(check_options(options, kind));
  std::unique_ptr<DeviceSession> session(new DeviceSession);
  NvmeEnvConfig config;
  config.app_name = "leap";
  config.reactor_mask = core_set(options.cores);
  config.hugepage = options.memory;
  config.io_queue_depth = options.io_queue_depth;
  config.io_queue_requests = std::max(config.io_queue_requests, options.io_queue_depth);
  config.qpair_acquire_timeout = options.connect_timeout;
  if (kind == DeviceKind::kNvme) {
    NvmeTargetConfig target;
    LEAP_TRY(target.address, nvme::TransportAddress::parse(device));
    if (options.nsid) target.address.nsid = nvme::Nsid(*options.nsid);
    target.header_digest = options.header_digest;
    target.data_digest = options.data_digest;
    target.protocol_checker = options.protocol_checker;
    config.enabled = true;
    config.expand_discovery = false;  // the one controller that was named
    config.targets.push_back(std::move(target));
  } else {
    LEAP_TRY(session->local_, open_local_device(device, "local"));
    session->device_ = session->local_.get();
  }
  LEAP_TRY(session->env_, NvmeEnv::start(std::move(config)));
  if (kind == DeviceKind::kNvme) {
    const TargetStatus target = session->env_->targets().front();
    if (!target.up)
      return target.error.value_or(Error(Errc::kUnreachable, fmt::format("{} is down", target.address.endpoint())));
    if (!options.any_namespace) {
      LEAP_TRY(session->device_, only_device(*session->env_));
    }
  }
  return session;
}

std::shared_ptr<const NvmeController> DeviceSession::controller() const {
  const auto controllers = env_->controllers();
  return controllers.empty() ? nullptr : controllers.front();
}

Result<> DeviceSession::close() {
  constexpr Nanos kLimit = std::chrono::seconds(5);
  return env_->stop(kLimit);
}

}  // namespace leap
