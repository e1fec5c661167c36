// Get Features and Set Features (NVMe Base 2.0, 5.15 and 5.27). Nothing is saveable; nothing but Error Recovery belongs
// to a namespace.
#include <cstring>

#include "nvme/fabrics.h"
#include "target/admin_queue.h"
#include "target/core.h"

namespace leap::target {

using nvme::CommandStatus;
using nvme::FeatureId;
using nvme::FeatureSelect;
using nvme::GenericStatus;
using nvme::kDnr;
using nvme::status;

namespace {

struct FeatureTraits {
  bool known = false;
  bool changeable = false;
  bool per_namespace = false;
};

FeatureTraits traits_of(FeatureId id, bool discovery) {
  switch (id) {
    case FeatureId::kAsyncEventConfiguration:
    case FeatureId::kKeepAliveTimer: return {.known = true, .changeable = true};
    case FeatureId::kArbitration:
    case FeatureId::kPowerManagement:
    case FeatureId::kTemperatureThreshold:
    case FeatureId::kVolatileWriteCache:
    case FeatureId::kNumberOfQueues:
    case FeatureId::kWriteAtomicityNormal: return {.known = !discovery, .changeable = true};
    case FeatureId::kErrorRecovery: return {.known = !discovery, .changeable = true, .per_namespace = true};
    case FeatureId::kHostIdentifier: return {.known = !discovery, .changeable = false};
    default: return {};
  }
}

std::uint32_t default_value(FeatureId id, const TargetConfig& config) {
  switch (id) {
    case FeatureId::kArbitration: return nvme::Arbitration{}.to_dword();
    case FeatureId::kVolatileWriteCache: return nvme::VolatileWriteCache{.enabled = true}.to_dword();
    case FeatureId::kNumberOfQueues:
      return nvme::NumberOfQueues{.sq = config.max_io_queues, .cq = config.max_io_queues}.to_dword();
    default: return 0;
  }
}

/// The namespace a feature command names, if that is wrong for the feature.
std::optional<NvmeStatusCode> check_namespace(const Subsystem& subsystem, const FeatureTraits& traits,
                                              nvme::Nsid nsid) {
  const bool none = nsid == nvme::kNoNamespace || nsid == nvme::kAllNamespaces;
  if (!none && subsystem.find(nsid) == nullptr) return status(GenericStatus::kInvalidNamespaceOrFormat, kDnr);
  if (!none && !traits.per_namespace) return status(CommandStatus::kFeatureNotNamespaceSpecific, kDnr);
  return std::nullopt;
}

}  // namespace

std::uint32_t AdminQueue::current_feature(FeatureId id) const {
  switch (id) {
    case FeatureId::kArbitration: return arbitration_;
    case FeatureId::kErrorRecovery: return error_recovery_;
    case FeatureId::kWriteAtomicityNormal: return write_atomicity_;
    case FeatureId::kVolatileWriteCache:
      return nvme::VolatileWriteCache{.enabled = controller().write_cache_enabled()}.to_dword();
    case FeatureId::kNumberOfQueues: {
      const std::uint32_t granted = controller().granted_queues();
      return nvme::NumberOfQueues{.sq = granted, .cq = granted}.to_dword();
    }
    case FeatureId::kAsyncEventConfiguration: return events_.config().to_dword();
    case FeatureId::kKeepAliveTimer: return kato_ms_;
    default: return 0;
  }
}

Step AdminQueue::get_features(Request& request) {
  const nvme::GetFeaturesFields fields = nvme::get_features_fields(request.cmd);
  const FeatureTraits traits = traits_of(fields.fid, discovery());
  if (!traits.known) return request.fail(status(GenericStatus::kInvalidField, kDnr));
  if (const auto error = check_namespace(subsystem(), traits, request.cmd.nsid)) return request.fail(*error);
  if (fields.fid == FeatureId::kVolatileWriteCache && !controller().identity().volatile_write_cache) {
    return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
  switch (fields.select) {
    case FeatureSelect::kCapabilities:
      request.dw0 =
          nvme::FeatureCapabilities{
              .saveable = false, .namespace_specific = traits.per_namespace, .changeable = traits.changeable}
              .to_dword();
      return Step::kComplete;
    case FeatureSelect::kDefault:
    case FeatureSelect::kSaved: request.dw0 = default_value(fields.fid, subsystem().config()); return Step::kComplete;
    case FeatureSelect::kCurrent: break;
    default: return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
  if (fields.fid == FeatureId::kHostIdentifier) return get_host_identifier(request, fields);
  if (fields.fid == FeatureId::kTemperatureThreshold) {
    const auto wanted = nvme::TemperatureThreshold::from_dword(fields.cdw11);
    if (wanted.sensor != 0) return request.fail(status(GenericStatus::kInvalidField, kDnr));
    request.dw0 = wanted.under ? under_temperature_ : over_temperature_;
    return Step::kComplete;
  }
  request.dw0 = current_feature(fields.fid);
  return Step::kComplete;
}

Step AdminQueue::get_host_identifier(Request& request, const nvme::GetFeaturesFields& fields) {
  if ((fields.cdw11 & nvme::kExtendedHostId) == 0) {
    return request.fail(status(GenericStatus::kHostIdInconsistentFormat, kDnr));
  }
  const Uuid& id = controller().identity().host_id;
  const auto page = page_for_host(request, sizeof id.bytes);
  if (page) std::memcpy(page->data(), id.bytes.data(), sizeof id.bytes);
  return Step::kComplete;
}

Step AdminQueue::set_features(Request& request) {
  const nvme::SetFeaturesFields fields = nvme::set_features_fields(request.cmd);
  const FeatureTraits traits = traits_of(fields.fid, discovery());
  const auto invalid_field = status(GenericStatus::kInvalidField, kDnr);
  if (!traits.known) return request.fail(invalid_field);
  if (fields.save) return request.fail(status(CommandStatus::kFeatureNotSaveable, kDnr));
  if (const auto error = check_namespace(subsystem(), traits, request.cmd.nsid)) return request.fail(*error);
  switch (fields.fid) {
    case FeatureId::kNumberOfQueues: return set_number_of_queues(request, fields.value);
    case FeatureId::kVolatileWriteCache: return set_write_cache(request, fields.value);
    // On fabrics Connect names the host; it cannot be renamed (5.27.1.25).
    case FeatureId::kHostIdentifier: return request.fail(status(GenericStatus::kCommandSequenceError, kDnr));
    case FeatureId::kKeepAliveTimer:
      set_keep_alive(nvme::KeepAliveTimer::from_dword(fields.value).kato_ms);
      request.dw0 = kato_ms_;
      return Step::kComplete;
    case FeatureId::kAsyncEventConfiguration:
      events_.configure(nvme::AsyncEventConfig::from_dword(fields.value));
      pump_events();
      return Step::kComplete;
    case FeatureId::kPowerManagement:
      // One power state.
      return (fields.value & 0x1F) == 0 ? Step::kComplete : request.fail(invalid_field);
    case FeatureId::kTemperatureThreshold: {
      const auto wanted = nvme::TemperatureThreshold::from_dword(fields.value);
      if (wanted.sensor != 0) return request.fail(invalid_field);
      (wanted.under ? under_temperature_ : over_temperature_) = wanted.kelvin;
      return Step::kComplete;
    }
    case FeatureId::kArbitration: arbitration_ = fields.value; return Step::kComplete;
    case FeatureId::kErrorRecovery: error_recovery_ = fields.value & 0xFFFF; return Step::kComplete;
    case FeatureId::kWriteAtomicityNormal: write_atomicity_ = fields.value & 1; return Step::kComplete;
    default: return request.fail(invalid_field);
  }
}

Step AdminQueue::set_number_of_queues(Request& request, std::uint32_t value) {
  // 65535 (0's based) queues are one more than may exist (5.27.1.5).
  if ((value & 0xFFFF) == 0xFFFF || (value >> 16) == 0xFFFF)
    return request.fail(status(GenericStatus::kInvalidField, kDnr));
  const auto wanted = nvme::NumberOfQueues::from_dword(value);
  // A fabrics queue pair is one submission and one completion queue, so the smaller count decides.
  const auto granted = controller().negotiate_queues(std::min(wanted.sq, wanted.cq));
  if (!granted) return request.fail(status(GenericStatus::kCommandSequenceError, kDnr));
  request.dw0 = nvme::NumberOfQueues{.sq = *granted, .cq = *granted}.to_dword();
  return Step::kComplete;
}

Step AdminQueue::set_write_cache(Request& request, std::uint32_t value) {
  if (!controller().identity().volatile_write_cache) return request.fail(status(GenericStatus::kInvalidField, kDnr));
  controller().enable_write_cache(nvme::VolatileWriteCache::from_dword(value).enabled);
  return Step::kComplete;
}

}  // namespace leap::target
