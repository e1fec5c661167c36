#include "fake_target.h"

#include <algorithm>
#include <cstring>

#include "nvme/nvm_command.h"
#include "nvme/properties.h"

namespace leap::test {

using nvme::AdminOpcode;
using nvme::Command;
using nvme::CommandStatus;
using nvme::FabricsStatus;
using nvme::GenericStatus;
using nvme::PropertyOffset;

bool FakeTarget::notify(nvme::AsyncEvent event) {
  for (Connection* connection : connections_) {
    if (connection->events.empty()) continue;
    connection->wire.respond(connection->events.front(), {}, event.to_dword());
    connection->events.erase(connection->events.begin());
    return true;
  }
  return false;
}

void FakeTarget::Connection::serve() {
  while (auto pdu = wire.next()) {
    switch (pdu->header.type) {
      case nvme::PduType::kIcReq: {
        nvme::ConnectionParams offered = target.options.transport;
        offered.in_capsule_bytes = std::max(target.options.in_capsule_bytes, nvme::kAdminInCapsuleBytes);
        wire.answer_icreq(*pdu, offered);
        break;
      }
      case nvme::PduType::kCapsuleCmd: on_command(*pdu); break;
      case nvme::PduType::kH2CData: on_data(*pdu); break;
      default: return;
    }
  }
}

void FakeTarget::Connection::on_command(const HostPdu& pdu) {
  if (target.intercept && target.intercept(*this, pdu)) return;
  const Command command = pdu.command();
  if (command.is_fabrics()) {
    fabrics(command, pdu);
  } else if (qid == nvme::kAdminQid) {
    admin(command);
  } else {
    io(command, pdu);
  }
}

void FakeTarget::Connection::fabrics(const Command& command, const HostPdu& pdu) {
  switch (nvme::fctype_of(command)) {
    case nvme::Fctype::kConnect: return connect(command, pdu);
    case nvme::Fctype::kPropertyGet: return property_get(command);
    case nvme::Fctype::kPropertySet: return property_set(command);
    case nvme::Fctype::kDisconnect: ++target.disconnects; return wire.respond(command.cid);
    default: return wire.respond(command.cid, nvme::status(GenericStatus::kInvalidField, nvme::kDnr));
  }
}

void FakeTarget::Connection::connect(const Command& command, const HostPdu& pdu) {
  const auto fields = nvme::connect_fields(command);
  const auto data = nvme::wire::load<nvme::ConnectData>(pdu.data);
  const auto refuse = [&](std::uint16_t offset, bool in_data) {
    wire.respond(command.cid, nvme::status(FabricsStatus::kConnectInvalidParameters, nvme::kDnr),
                 nvme::ConnectInvalid{.ipo = offset, .in_data = in_data}.to_dword());
  };
  if (!data) return refuse(nvme::ConnectInvalid::kHostid, true);
  if (nvme::nul_terminated_text(data->subnqn) != target.options.subnqn)
    return refuse(nvme::ConnectInvalid::kSubnqn, true);
  if (!target.options.allowed_host.empty() && nvme::nul_terminated_text(data->hostnqn) != target.options.allowed_host) {
    return wire.respond(command.cid, nvme::status(FabricsStatus::kConnectInvalidHost, nvme::kDnr));
  }
  if (fields.entries > target.options.mqes + 1U) return refuse(nvme::ConnectInvalid::kSqsize, false);
  if (fields.qid.value() > target.options.queues) return refuse(nvme::ConnectInvalid::kQid, false);
  qid = fields.qid;
  target.connected.push_back(qid);
  if (qid == nvme::kAdminQid) {
    target.kato_ms = fields.kato_ms;
    target.cc_ = 0;
    target.csts_reads_ = 0;
  } else {
    target.flow_control_disabled = fields.disable_sq_flow_control;
    if (data->cntlid != nvme::Cntlid{7}) return refuse(nvme::ConnectInvalid::kCntlid, true);
  }
  const nvme::ConnectResponse response{.cntlid = nvme::Cntlid{7}, .authreq = target.options.authreq};
  wire.respond(command.cid, {}, response.to_dword());
}

void FakeTarget::Connection::property_get(const Command& command) {
  const auto offset = nvme::property_fields(command).offset;
  const nvme::Cc cc{target.cc_};
  switch (offset) {
    case PropertyOffset::kCap: {
      nvme::Cap cap;
      cap.set_mqes(target.options.mqes);
      cap.set_to(4);  // 2 s
      cap.set_css(nvme::Cap::kCssNvm);
      return wire.respond(command.cid, {}, cap.raw);
    }
    case PropertyOffset::kVs: return wire.respond(command.cid, {}, nvme::make_version(2, 0, 0).raw);
    case PropertyOffset::kCc: return wire.respond(command.cid, {}, target.cc_);
    case PropertyOffset::kCsts: {
      nvme::Csts csts;
      csts.set_cfs(cc.en() && target.options.fatal);
      csts.set_rdy(cc.en() && target.csts_reads_++ >= target.options.ready_after);
      if (cc.shn() != nvme::ShutdownNotification::kNone) {
        csts.set_shst(target.options.completes_shutdown ? nvme::ShutdownStatus::kComplete
                                                        : nvme::ShutdownStatus::kOccurring);
      }
      return wire.respond(command.cid, {}, csts.raw);
    }
    default: return wire.respond(command.cid, nvme::status(GenericStatus::kInvalidField, nvme::kDnr));
  }
}

void FakeTarget::Connection::property_set(const Command& command) {
  const auto fields = nvme::property_fields(command);
  if (fields.offset != PropertyOffset::kCc) {
    return wire.respond(command.cid, nvme::status(GenericStatus::kInvalidField, nvme::kDnr));
  }
  target.cc_ = static_cast<std::uint32_t>(fields.value);
  const nvme::Cc cc{target.cc_};
  if (cc.shn() != nvme::ShutdownNotification::kNone) target.shutdown_requested = true;
  if (cc.en() && (cc.iosqes() != 6 || cc.iocqes() != 4)) {
    return wire.respond(command.cid, nvme::status(GenericStatus::kInvalidField, nvme::kDnr));
  }
  wire.respond(command.cid);
}

void FakeTarget::Connection::admin(const Command& command) {
  switch (command.admin_opcode()) {
    case AdminOpcode::kIdentify: return identify(command);
    case AdminOpcode::kKeepAlive: ++target.keep_alives; return wire.respond(command.cid);
    case AdminOpcode::kGetLogPage: {
      ++target.log_reads;
      const std::vector<std::byte> zeros(nvme::get_log_page_fields(command).bytes);
      return reply_data(command, zeros);
    }
    case AdminOpcode::kSetFeatures: {
      const auto fields = nvme::set_features_fields(command);
      if (fields.fid == nvme::FeatureId::kAsyncEventConfiguration) {
        const auto wanted = nvme::AsyncEventConfig::from_dword(fields.value);
        if (wanted.smart_critical != 0 && !target.options.health_events) {
          return wire.respond(command.cid, nvme::status(GenericStatus::kInvalidField, nvme::kDnr));
        }
        target.event_config = wanted;
        return wire.respond(command.cid);
      }
      const auto wanted = nvme::NumberOfQueues::from_dword(fields.value);
      const std::uint32_t granted = std::min<std::uint32_t>(wanted.sq, target.options.queues);
      return wire.respond(command.cid, {}, nvme::NumberOfQueues{.sq = granted, .cq = granted}.to_dword());
    }
    case AdminOpcode::kAsyncEventRequest:
      if (events.size() > target.options.aerl) {
        return wire.respond(command.cid, nvme::make_status(nvme::StatusType::kCommandSpecific, 0x05, true));
      }
      events.push_back(command.cid);
      return;
    default: return wire.respond(command.cid, nvme::status(GenericStatus::kInvalidOpcode, nvme::kDnr));
  }
}

void FakeTarget::Connection::identify(const Command& command) {
  const auto fields = nvme::identify_fields(command);
  const auto invalid = [&](GenericStatus code) { wire.respond(command.cid, nvme::status(code, nvme::kDnr)); };
  const auto reply = [&](const auto& data) { reply_data(command, nvme::wire::bytes_of(data)); };
  switch (fields.cns) {
    case nvme::Cns::kController: {
      nvme::IdentifyController id;
      nvme::fill_spaces(id.sn, "FAKE0001");
      nvme::fill_spaces(id.mn, "Fake Target");
      nvme::fill_spaces(id.fr, "1.0");
      nvme::fill_nul(id.subnqn, target.options.subnqn);
      id.cntlid = nvme::Cntlid{7};
      id.mdts = target.options.mdts;
      id.kas = target.options.kas;
      id.aerl = target.options.aerl;
      id.oaes = target.options.discovery ? nvme::kOaesDiscoveryLogChange : nvme::kOaesNamespaceAttribute;
      id.vwc = nvme::kVwcPresent;
      id.oncs = nvme::kOncsWriteZeroes | nvme::kOncsDatasetManagement;
      id.maxcmd = 1024;
      id.ofcs = target.options.disconnect ? nvme::kOfcsDisconnect : std::uint16_t{0};
      id.set_in_capsule_data_bytes(target.options.in_capsule_bytes);
      id.cntrltype = target.options.discovery ? nvme::ControllerType::kDiscovery : nvme::ControllerType::kIo;
      return reply(id);
    }
    case nvme::Cns::kActiveNamespaceList: {
      nvme::NamespaceList list;
      std::size_t count = 0;
      for (const FakeNamespace& ns : target.namespaces) {
        if (ns.nsid > fields.nsid && count < list.ids.size()) list.ids[count++] = ns.nsid;
      }
      if (target.options.unsorted_list)
        std::reverse(list.ids.begin(), list.ids.begin() + static_cast<std::ptrdiff_t>(count));
      return reply(list);
    }
    case nvme::Cns::kNamespace: {
      const FakeNamespace* ns = find(fields.nsid);
      if (ns == nullptr) return invalid(GenericStatus::kInvalidNamespaceOrFormat);
      nvme::IdentifyNamespace id;
      id.nsze = id.ncap = id.nuse = ns->memory.size() >> ns->block_shift;
      id.lbaf[0] = {.ms = ns->metadata, .lbads = static_cast<std::uint8_t>(ns->block_shift), .rp = 0};
      id.nguid = ns->nguid;
      return reply(id);
    }
    case nvme::Cns::kNamespaceDescriptors: {
      const FakeNamespace* ns = find(fields.nsid);
      if (ns == nullptr || !target.options.descriptors) return invalid(GenericStatus::kInvalidField);
      std::vector<std::byte> page(nvme::kIdentifyBytes);
      nvme::DescriptorBuilder builder(page);
      bool fits = builder.add_csi(ns->csi);
      if (!ns->uuid.is_nil()) fits = builder.add_uuid(ns->uuid) && fits;
      return fits ? reply_data(command, page) : invalid(GenericStatus::kInternalError);
    }
    default: return invalid(GenericStatus::kInvalidField);
  }
}

FakeNamespace* FakeTarget::Connection::find(nvme::Nsid nsid) {
  const auto found = std::ranges::find(target.namespaces, nsid, &FakeNamespace::nsid);
  return found == target.namespaces.end() ? nullptr : &*found;
}

void FakeTarget::Connection::io(const Command& command, const HostPdu& pdu) {
  FakeNamespace* ns = find(command.nsid);
  if (ns == nullptr)
    return wire.respond(command.cid, nvme::status(GenericStatus::kInvalidNamespaceOrFormat, nvme::kDnr));
  if (command.nvm_opcode() == nvme::NvmOpcode::kFlush) return wire.respond(command.cid);
  const auto rw = nvme::rw_fields(command);
  if (!nvme::in_range(rw.slba, rw.blocks, ns->memory.size() >> ns->block_shift)) {
    return wire.respond(command.cid, nvme::status(GenericStatus::kLbaOutOfRange, nvme::kDnr));
  }
  const std::size_t bytes = std::size_t{rw.blocks} << ns->block_shift;
  if (command.nvm_opcode() == nvme::NvmOpcode::kRead) {
    return reply_data(command, std::span(ns->memory).subspan(rw.slba << ns->block_shift, bytes));
  }
  if (command.nvm_opcode() != nvme::NvmOpcode::kWrite) {
    return wire.respond(command.cid, nvme::status(GenericStatus::kInvalidOpcode, nvme::kDnr));
  }
  if (command.dptr.is_in_capsule()) return finish_write(command, pdu.data);
  writes_.push_back({command, std::vector<std::byte>(bytes), 0});
  wire.send_r2t(command.cid, static_cast<std::uint16_t>(command.cid.value() ^ 0x5A5A), 0,
                static_cast<std::uint32_t>(bytes));
}

void FakeTarget::Connection::on_data(const HostPdu& pdu) {
  const auto head = pdu.as<nvme::H2CDataPdu>();
  const auto write = std::ranges::find_if(writes_, [&](const Write& w) { return w.command.cid == head.cccid; });
  if (write == writes_.end() || head.datao != write->received || head.ttag != (head.cccid.value() ^ 0x5A5A)) {
    throw std::runtime_error("H2CData that no R2T asked for");
  }
  std::ranges::copy(pdu.data, write->data.begin() + head.datao);
  write->received += head.datal;
  if (write->received < write->data.size()) return;
  const Write whole = std::move(*write);
  writes_.erase(write);
  finish_write(whole.command, whole.data);
}

void FakeTarget::Connection::finish_write(const Command& command, std::span<const std::byte> data) {
  FakeNamespace* ns = find(command.nsid);
  const auto rw = nvme::rw_fields(command);
  if (data.size() != std::size_t{rw.blocks} << ns->block_shift) {
    return wire.respond(command.cid, nvme::status(GenericStatus::kDataSglLengthInvalid, nvme::kDnr));
  }
  std::ranges::copy(data, ns->memory.begin() + static_cast<std::ptrdiff_t>(rw.slba << ns->block_shift));
  wire.respond(command.cid);
}

void FakeTarget::Connection::reply_data(const Command& command, std::span<const std::byte> data) {
  if (command.dptr.length != data.size()) {
    return wire.respond(command.cid, nvme::status(GenericStatus::kDataSglLengthInvalid, nvme::kDnr));
  }
  std::uint32_t offset = 0;
  while (offset < data.size()) {
    const auto part =
        std::min<std::uint32_t>(static_cast<std::uint32_t>(data.size()) - offset, target.options.c2h_bytes);
    const bool last = offset + part == data.size();
    wire.send_data(command.cid, offset, data.subspan(offset, part), last, target.options.success_flag);
    offset += part;
  }
  if (!target.options.success_flag) wire.respond(command.cid);
}

}  // namespace leap::test
