#include "target/fabrics.h"

#include <cstring>

#include "nvme/nqn.h"
#include "nvme/text.h"
#include "target/core.h"
#include "target/limits.h"

namespace leap::target {

using nvme::ConnectInvalid;
using nvme::FabricsStatus;
using nvme::GenericStatus;
using nvme::kDnr;
using nvme::status;

namespace {

Step invalid_parameter(Request& request, std::uint16_t offset, bool in_data) {
  request.dw0 = ConnectInvalid{.ipo = offset, .in_data = in_data}.to_dword();
  return request.fail(status(FabricsStatus::kConnectInvalidParameters, kDnr));
}
Step invalid_field_of_command(Request& request, std::uint16_t offset) {
  return invalid_parameter(request, offset, false);
}
Step invalid_field_of_data(Request& request, std::uint16_t offset) { return invalid_parameter(request, offset, true); }

bool is_name(const std::array<char, 256>& field) {
  const auto name = nvme::nul_terminated_text(field);
  return nvme::has_terminator(field) && !name.empty() && name.size() <= nvme::kMaxNqnBytes;
}

Step begin_connect(Session& session, Request& request) {
  if (session.connected()) return request.fail(status(GenericStatus::kCommandSequenceError, kDnr));
  if (nvme::connect_fields(request.cmd).recfmt != 0)
    return request.fail(status(FabricsStatus::kIncompatibleFormat, kDnr));
  if (const auto error = session.claim_data(request, nvme::DataDirection::kHostToController, sizeof(nvme::ConnectData),
                                            LengthRule::kAtLeast)) {
    return request.fail(*error);
  }
  if (request.length > kMaxConnectDataBytes) return request.fail(status(GenericStatus::kDataSglLengthInvalid, kDnr));
  request.page = std::make_unique<std::byte[]>(request.length);
  request.data = {request.page.get(), request.length};
  return Step::kReceive;
}

Step connect_admin(Session& session, Request& request, const nvme::ConnectFields& fields, const nvme::ConnectData& data,
                   bool discovery) {
  Subsystem& subsystem = session.subsystem();
  if (data.cntlid != nvme::kDynamicCntlid) return invalid_field_of_data(request, ConnectInvalid::kCntlid);
  const QueueRef here{&session.shard(), session.transport().id()};
  auto controller = subsystem.admit(std::string(nvme::nul_terminated_text(data.hostnqn)), data.hostid, discovery, here);
  if (!controller) return request.fail(status(FabricsStatus::kControllerBusy));
  request.dw0 = nvme::ConnectResponse{.cntlid = controller->identity().id}.to_dword();
  session.establish({std::move(controller), fields});
  return Step::kComplete;
}

Step connect_io(Session& session, Request& request, const nvme::ConnectFields& fields, const nvme::ConnectData& data,
                bool discovery) {
  if (discovery) return invalid_field_of_command(request, ConnectInvalid::kQid);
  auto controller = session.subsystem().controller(data.cntlid);
  if (!controller || controller->identity().discovery) return invalid_field_of_data(request, ConnectInvalid::kCntlid);
  const Controller::Identity& identity = controller->identity();
  if (identity.host_nqn != nvme::nul_terminated_text(data.hostnqn)) {
    return invalid_field_of_data(request, ConnectInvalid::kHostnqn);
  }
  if (identity.host_id != data.hostid) return invalid_field_of_data(request, ConnectInvalid::kHostid);
  switch (controller->attach_queue(fields.qid, {&session.shard(), session.transport().id()})) {
    case Controller::Attach::kOk: break;
    case Controller::Attach::kNotReady:
    case Controller::Attach::kTaken: return request.fail(status(GenericStatus::kCommandSequenceError, kDnr));
    case Controller::Attach::kBeyondLimit: return invalid_field_of_command(request, ConnectInvalid::kQid);
    case Controller::Attach::kGone: return invalid_field_of_data(request, ConnectInvalid::kCntlid);
  }
  request.dw0 = nvme::ConnectResponse{.cntlid = identity.id}.to_dword();
  session.establish({std::move(controller), fields});
  return Step::kComplete;
}

Step property_get(Session& session, Request& request) {
  const nvme::PropertyFields fields = nvme::property_fields(request.cmd);
  const Controller& controller = *session.controller();
  std::uint64_t value = 0;
  switch (fields.offset) {
    case nvme::PropertyOffset::kCap: value = session.subsystem().cap().raw; break;
    case nvme::PropertyOffset::kVs: value = Subsystem::version().raw; break;
    case nvme::PropertyOffset::kCc: value = controller.cc().raw; break;
    case nvme::PropertyOffset::kCsts: value = controller.csts().raw; break;
    default: return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
  if (fields.bytes != (nvme::is_64bit(fields.offset) ? 8 : 4))
    return request.fail(status(GenericStatus::kInvalidField, kDnr));
  request.dw0 = static_cast<std::uint32_t>(value & 0xFFFFFFFF);
  request.dw1 = static_cast<std::uint32_t>(value >> 32);
  return Step::kComplete;
}

Step property_set(Session& session, Request& request) {
  const nvme::PropertyFields fields = nvme::property_fields(request.cmd);
  // CC is the only property a fabrics host may write here: NSSR is not supported, the others are read-only.
  if (fields.offset != nvme::PropertyOffset::kCc || fields.bytes != 4) {
    return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
  const auto outcome = session.controller()->write_cc(nvme::Cc{static_cast<std::uint32_t>(fields.value & 0xFFFFFFFF)});
  if (outcome.error) return request.fail(*outcome.error);
  session.queue()->on_cc(outcome.effect);
  return Step::kComplete;
}

}  // namespace

Step begin_fabrics_command(Session& session, Request& request) {
  const nvme::Fctype type = nvme::fctype_of(request.cmd);
  if (type == nvme::Fctype::kConnect) return begin_connect(session, request);
  if (!session.connected()) return request.fail(status(GenericStatus::kCommandSequenceError, kDnr));
  const bool admin = session.qid() == nvme::kAdminQid;
  switch (type) {
    case nvme::Fctype::kPropertyGet:
      if (admin) return property_get(session, request);
      break;
    case nvme::Fctype::kPropertySet:
      if (admin) return property_set(session, request);
      break;
    case nvme::Fctype::kDisconnect:
      if (admin) return request.fail(status(FabricsStatus::kInvalidQueueType, kDnr));
      if ((request.cmd.cdw10 & 0xFFFF) != 0) return request.fail(status(FabricsStatus::kIncompatibleFormat, kDnr));
      session.transport().close_gracefully(CloseReason::kDisconnected);
      return Step::kComplete;
    default: break;
  }
  return request.fail(status(GenericStatus::kInvalidOpcode, kDnr));
}

Step execute_connect(Session& session, Request& request) {
  // A second Connect may have overtaken this one while its data was on the way.
  if (session.connected()) return request.fail(status(GenericStatus::kCommandSequenceError, kDnr));
  nvme::ConnectData data;
  std::memcpy(&data, request.data.data(), sizeof data);
  const nvme::ConnectFields fields = nvme::connect_fields(request.cmd);
  const Subsystem& subsystem = session.subsystem();

  if (!is_name(data.subnqn)) return invalid_field_of_data(request, ConnectInvalid::kSubnqn);
  const auto subnqn = nvme::nul_terminated_text(data.subnqn);
  const bool discovery = subnqn == nvme::kDiscoveryNqn;
  if (!discovery && subnqn != subsystem.config().nqn) return invalid_field_of_data(request, ConnectInvalid::kSubnqn);
  if (!is_name(data.hostnqn)) return invalid_field_of_data(request, ConnectInvalid::kHostnqn);
  // Everybody may ask the discovery service; it lists nothing that the host may not use.
  if (!discovery && !subsystem.discovery().allows(nvme::nul_terminated_text(data.hostnqn))) {
    return request.fail(status(FabricsStatus::kConnectInvalidHost, kDnr));
  }
  const bool admin = fields.qid == nvme::kAdminQid;
  if (fields.entries < 2 || fields.entries > max_entries(subsystem.config(), admin)) {
    return invalid_field_of_command(request, ConnectInvalid::kSqsize);
  }
  if (!discovery) session.shard().prepare_namespaces();
  if (admin) return connect_admin(session, request, fields, data, discovery);
  return connect_io(session, request, fields, data, discovery);
}

}  // namespace leap::target
