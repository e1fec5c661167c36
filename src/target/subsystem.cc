#include "target/subsystem.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "base/hash.h"
#include "nvme/nqn.h"
#include "target/limits.h"

namespace leap::target {
namespace {

std::string derived_serial(const std::string& nqn) {
  const auto digest = hash128(std::as_bytes(std::span(nqn)), HashKey{});
  std::string serial = "LEAP";
  for (std::size_t i = 0; i < 8; ++i) serial += fmt::format("{:02X}", std::to_integer<unsigned>(digest[i]));
  return serial;
}

}  // namespace

Subsystem::Subsystem(TargetConfig config)
    : config_(std::move(config)), discovery_(config_.nqn, static_cast<std::uint16_t>(max_entries(config_, true))) {
  discovery_.set_allowed_hosts(config_.allowed_hosts);
  discovery_.set_referrals(config_.referrals);
}

Result<std::unique_ptr<Subsystem>> Subsystem::create(TargetConfig config) {
  auto subsystem = std::unique_ptr<Subsystem>(new Subsystem(std::move(config)));
  const TargetConfig& c = subsystem->config_;
  subsystem->serial_ = c.serial.empty() ? derived_serial(c.nqn) : c.serial;
  NamespaceTable table;
  for (const NamespaceConfig& ns : c.namespaces) {
    LEAP_TRY(Namespace made, Namespace::create(ns, c.nqn));
    table.put(std::move(made));
  }
  subsystem->publish(std::move(table));
  return subsystem;
}

void Subsystem::publish(NamespaceTable table) {
  auto next = std::make_shared<const NamespaceTable>(std::move(table));
  const std::lock_guard lock(mutex_);
  namespaces_.swap(next);
}

std::shared_ptr<const NamespaceTable> Subsystem::namespaces() const {
  const std::lock_guard lock(mutex_);
  return namespaces_;
}

Result<nvme::Nsid> Subsystem::add_namespace(NamespaceConfig config) {
  const std::lock_guard changing(changing_);
  NamespaceTable table = *namespaces();
  if (config.device == nullptr) return Error(Errc::kInvalidArgument, "add a namespace: it has no device");
  if (config.nsid == 0) config.nsid = table.lowest_free();
  if (config.nsid == 0) return Error(Errc::kExhausted, fmt::format("there are {} namespaces already", kMaxNsid));
  if (config.nsid > kMaxNsid) {
    return Error(Errc::kInvalidArgument, fmt::format("nsid is {}, must be 1 to {}", config.nsid, kMaxNsid));
  }
  const nvme::Nsid nsid{config.nsid};
  if (table.find(nsid) != nullptr) return Error(Errc::kAlreadyExists, fmt::format("there is a namespace {}", nsid));
  if (config.name.empty()) config.name = config.device->info().name;
  LEAP_TRY(Namespace made, Namespace::create(config, config_.nqn));
  for (const auto& ns : table.all()) {
    if (ns->uuid() != made.uuid()) continue;
    return Error(Errc::kAlreadyExists, fmt::format("namespace '{}' has the UUID of namespace {}: {}", config.name,
                                                   ns->nsid(), ns->uuid().to_string()));
  }
  table.put(std::move(made));
  publish(std::move(table));
  return nsid;
}

Result<> Subsystem::remove_namespace(nvme::Nsid nsid) {
  const std::lock_guard changing(changing_);
  NamespaceTable table = *namespaces();
  if (!table.remove(nsid)) return Error(Errc::kNotFound, fmt::format("there is no namespace {}", nsid));
  publish(std::move(table));
  return {};
}

Result<> Subsystem::resize_namespace(nvme::Nsid nsid, std::uint64_t bytes) {
  const std::lock_guard changing(changing_);
  NamespaceTable table = *namespaces();
  const auto ns = table.find(nsid);
  if (ns == nullptr) return Error(Errc::kNotFound, fmt::format("there is no namespace {}", nsid));
  LEAP_TRY(Namespace resized, ns->resized(bytes));
  table.put(std::move(resized));
  publish(std::move(table));
  return {};
}

nvme::Cap Subsystem::cap() const {
  nvme::Cap cap;
  cap.set_mqes(static_cast<std::uint16_t>(config_.queue_depth - 1));
  cap.set_cqr(true);
  cap.set_to(kReadyTimeoutHalfSeconds);
  cap.set_css(nvme::Cap::kCssNvm);
  return cap;
}

nvme::IdentifyController Subsystem::identify(const Controller::Identity& controller) const {
  nvme::IdentifyController id;
  nvme::fill_spaces(id.sn, serial_);
  nvme::fill_spaces(id.mn, kModelNumber);
  nvme::fill_spaces(id.fr, config_.firmware);
  id.rab = 6;
  id.mdts = static_cast<std::uint8_t>(std::countr_zero(config_.max_io_size) - 12);
  id.cntlid = controller.id;
  id.ver = version();
  id.ctratt = nvme::kCtrattHostId128 | nvme::kCtrattTrafficBasedKeepAlive;
  id.cntrltype = controller.discovery ? nvme::ControllerType::kDiscovery : nvme::ControllerType::kIo;
  id.acl = kMaxAborts - 1;
  id.aerl = kMaxAsyncEventRequests - 1;
  id.lpa = nvme::kLpaExtendedData;
  id.elpe = ErrorLog::kEntries - 1;
  id.kas = kKeepAliveGranularity;
  id.maxcmd = static_cast<std::uint16_t>(config_.queue_depth);
  id.sgls = nvme::kSglsSupported | nvme::kSglsOffset | nvme::kSglsTransportDataBlock;
  id.iorcsz = sizeof(nvme::Completion) / 16;
  id.msdbd = 1;
  if (controller.discovery) {
    id.oaes = nvme::kOaesDiscoveryLogChange;
    id.dctype = nvme::DiscoveryControllerType::kDirect;
    nvme::fill_nul(id.subnqn, nvme::kDiscoveryNqn);
    id.set_in_capsule_data_bytes(0);
    return id;
  }
  id.cmic = nvme::kCmicMultiplePorts | nvme::kCmicMultipleControllers;
  id.oaes = nvme::kOaesNamespaceAttribute;
  id.frmw = 0x03;  // one slot, read only
  id.lpa |= nvme::kLpaCommandsEffects;
  id.sqes = nvme::kSqes64Bytes;
  id.cqes = nvme::kCqes16Bytes;
  id.nn = id.mnan = kMaxNsid;  // namespaces come and go; hosts read the list of active ones
  id.oncs = nvme::kOncsCompare | nvme::kOncsDatasetManagement | nvme::kOncsWriteZeroes | nvme::kOncsSaveSelect |
            nvme::kOncsVerify;
  id.vwc = nvme::kVwcFlushAllSupported;
  if (controller.volatile_write_cache) id.vwc |= nvme::kVwcPresent;
  nvme::fill_nul(id.subnqn, config_.nqn);
  id.set_in_capsule_data_bytes(config_.in_capsule_data_size);
  id.ofcs = nvme::kOfcsDisconnect;
  return id;
}

std::shared_ptr<Controller> Subsystem::admit(std::string host_nqn, const Uuid& host_id, bool discovery,
                                             QueueRef admin) {
  const std::lock_guard lock(mutex_);
  if (controllers_.size() >= config_.max_controllers) return nullptr;
  // Ids are handed out in turn, so that a late message of an old host never names a new controller.
  do {
    last_cntlid_ =
        last_cntlid_ >= nvme::kMaxCntlid.value() ? std::uint16_t{1} : static_cast<std::uint16_t>(last_cntlid_ + 1);
  } while (controllers_.contains(nvme::Cntlid{last_cntlid_}));
  Controller::Identity identity{nvme::Cntlid{last_cntlid_}, std::move(host_nqn), host_id, discovery,
                                namespaces_->any_volatile_write_cache()};
  auto controller = std::make_shared<Controller>(*this, std::move(identity), config_.max_io_queues, admin);
  controllers_.emplace(controller->identity().id, controller);
  return controller;
}

std::shared_ptr<Controller> Subsystem::controller(nvme::Cntlid id) const {
  const std::lock_guard lock(mutex_);
  const auto it = controllers_.find(id);
  return it == controllers_.end() ? nullptr : it->second.lock();
}

std::vector<std::shared_ptr<Controller>> Subsystem::controllers() const {
  std::vector<std::shared_ptr<Controller>> all;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, weak] : controllers_) {
    if (auto controller = weak.lock()) all.push_back(std::move(controller));
  }
  return all;
}

std::size_t Subsystem::controller_count() const {
  const std::lock_guard lock(mutex_);
  return controllers_.size();
}

std::vector<nvme::Cntlid> Subsystem::controller_ids(nvme::Cntlid from) const {
  std::vector<nvme::Cntlid> ids;
  const std::lock_guard lock(mutex_);
  for (auto it = controllers_.lower_bound(from); it != controllers_.end(); ++it) ids.push_back(it->first);
  return ids;
}

void Subsystem::forget_controller(nvme::Cntlid id) {
  const std::lock_guard lock(mutex_);
  controllers_.erase(id);
}

}  // namespace leap::target
