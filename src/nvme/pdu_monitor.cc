#include "nvme/pdu_monitor.h"

#include <algorithm>

#include "nvme/pdu_check.h"

namespace leap::nvme {
namespace {

constexpr std::uint16_t kNoSqhd = 0xFFFF;  // in the response to Connect: SQ flow control is off
constexpr std::uint32_t kMostR2Ts = 16;    // per command, that the table has room for

[[nodiscard]] bool moves(DataDirection direction, DataDirection way) {
  return (static_cast<unsigned>(direction) & static_cast<unsigned>(way)) != 0;
}

}  // namespace

PduMonitor::PduMonitor(const Config& config)
    : config_(config),
      commands_(config.commands),
      grants_(std::size_t{config.commands} * std::clamp<std::uint32_t>(config.r2ts, 1, kMostR2Ts)) {}

PduRule PduMonitor::observe(PduDirection direction, std::span<const std::byte> header) {
  ++pdus_;
  if (blind_) return PduRule::kNone;
  const PduRule rule = judge(direction, header);
  if (rule != PduRule::kNone) broken_[index(direction)] = true;
  return rule;
}

PduRule PduMonitor::judge(PduDirection direction, std::span<const std::byte> bytes) {
  const auto header = wire::load<PduHeader>(bytes);
  if (!header) return PduRule::kHeaderLength;
  if (const PduRule rule = common(direction, *header); rule != PduRule::kNone) return rule;
  switch (header->type) {
    case PduType::kIcReq:
      if (const auto pdu = wire::load<IcReqPdu>(bytes)) return ic_req(*pdu);
      break;
    case PduType::kIcResp:
      if (const auto pdu = wire::load<IcRespPdu>(bytes)) return ic_resp(*pdu);
      break;
    case PduType::kCapsuleCmd:
      if (const auto pdu = wire::load<CapsuleCmdPdu>(bytes)) return command(*pdu);
      break;
    case PduType::kCapsuleResp:
      if (const auto pdu = wire::load<CapsuleRespPdu>(bytes)) return response(*pdu);
      break;
    case PduType::kH2CData:
      if (const auto pdu = wire::load<H2CDataPdu>(bytes)) return h2c_data(*pdu);
      break;
    case PduType::kC2HData:
      if (const auto pdu = wire::load<C2HDataPdu>(bytes)) return c2h_data(*pdu);
      break;
    case PduType::kR2T:
      if (const auto pdu = wire::load<R2TPdu>(bytes)) return r2t(*pdu);
      break;
    case PduType::kH2CTermReq:
    case PduType::kC2HTermReq: ended_[index(direction)] = true; break;
  }
  return PduRule::kNone;
}

// --- any PDU ---

PduRule PduMonitor::common(PduDirection direction, const PduHeader& header) const {
  const std::uint32_t hlen = header_bytes(header.type);
  if (hlen == 0) return PduRule::kType;
  if (!travels(header.type, direction)) return PduRule::kDirection;
  // What arrives after our own TermReq was on its way; what we send after the peer's was not.
  if (ended_[index(direction)]) return PduRule::kAfterTermReq;
  if (own(direction) && ended_[index(opposite(direction))]) return PduRule::kAfterTermReq;
  if (header.hlen != hlen) return PduRule::kHeaderLength;
  if (is_term_req(header.type)) {
    const bool fits = header.plen >= hlen && header.plen <= hlen + kMaxTermReqData;
    return fits ? PduRule::kNone : PduRule::kPduLength;
  }
  if (header.type == PduType::kIcReq || header.type == PduType::kIcResp) {
    return header.plen == hlen ? PduRule::kNone : PduRule::kPduLength;
  }
  if (setup_ != Setup::kDone) return PduRule::kIcFirst;
  if (header.has_header_digest() != params_.hdgst) return PduRule::kHeaderDigest;
  if (may_have_data_digest(header.type)) return data_part(direction, header);
  return header.plen == hlen + params_.header_digest_bytes() ? PduRule::kNone : PduRule::kPduLength;
}

PduRule PduMonitor::data_part(PduDirection direction, const PduHeader& header) const {
  const std::uint32_t head = header.hlen + params_.header_digest_bytes();
  if (header.type == PduType::kCapsuleCmd && header.plen == head) {
    // Without data DDGSTF may be set or not, when data digests are on (3.6.2.6).
    return header.has_data_digest() && !params_.ddgst ? PduRule::kDataDigest : PduRule::kNone;
  }
  if (header.has_data_digest() != params_.ddgst) return PduRule::kDataDigest;
  if (header.pdo < head || header.pdo % params_.data_alignment(direction) != 0) return PduRule::kDataOffset;
  return header.plen > header.pdo + params_.data_digest_bytes() ? PduRule::kNone : PduRule::kPduLength;
}

// --- setting up ---

PduRule PduMonitor::ic_req(const IcReqPdu& pdu) {
  if (setup_ != Setup::kNothing) return PduRule::kIcOnce;
  if (pdu.pfv != kPduFormatVersion || pdu.hpda > kMaxPduAlignment) return PduRule::kIcParameters;
  if ((pdu.dgst & ~(kDgstHeader | kDgstData)) != 0) return PduRule::kIcParameters;
  params_.hdgst = (pdu.dgst & kDgstHeader) != 0;
  params_.ddgst = (pdu.dgst & kDgstData) != 0;
  params_.hpda = pdu.hpda;
  params_.maxr2t = pdu.maxr2t == UINT32_MAX ? pdu.maxr2t : pdu.maxr2t + 1;
  setup_ = Setup::kRequested;
  return PduRule::kNone;
}

PduRule PduMonitor::ic_resp(const IcRespPdu& pdu) {
  if (setup_ == Setup::kNothing) return PduRule::kIcFirst;
  if (setup_ == Setup::kDone) return PduRule::kIcOnce;
  const bool hdgst = (pdu.dgst & kDgstHeader) != 0;
  const bool ddgst = (pdu.dgst & kDgstData) != 0;
  if (pdu.pfv != kPduFormatVersion || pdu.cpda > kMaxPduAlignment) return PduRule::kIcParameters;
  if ((hdgst && !params_.hdgst) || (ddgst && !params_.ddgst)) return PduRule::kIcParameters;
  if (pdu.maxh2cdata < kMinMaxH2CData || pdu.maxh2cdata % 4 != 0) return PduRule::kIcParameters;
  params_.hdgst = hdgst;
  params_.ddgst = ddgst;
  params_.cpda = pdu.cpda;
  params_.maxh2cdata = pdu.maxh2cdata;
  setup_ = Setup::kDone;
  return PduRule::kNone;
}

// --- commands ---

PduRule PduMonitor::stage(const Command& cmd) const {
  const bool connect = cmd.is_fabrics() && fctype_of(cmd) == Fctype::kConnect;
  switch (association_) {
    case Association::kNone: return connect ? PduRule::kNone : PduRule::kConnectFirst;
    case Association::kConnecting: return PduRule::kConnectFirst;
    case Association::kConnected: return connect ? PduRule::kConnectOnce : PduRule::kNone;
    case Association::kDisconnecting: return PduRule::kAfterDisconnect;
  }
  return PduRule::kNone;
}

PduRule PduMonitor::data_pointer(const Command& cmd, std::uint32_t capsule_bytes) const {
  if (cmd.psdt() == Psdt::kPrp) return PduRule::kDataPointer;
  const bool io = association_ == Association::kConnected && connect_.qid != kAdminQid && !cmd.is_fabrics();
  std::uint32_t limit = io ? config_.in_capsule_bytes : kAdminInCapsuleBytes;
  if (association_ == Association::kConnected && !entries_known()) limit = std::max(limit, config_.in_capsule_bytes);
  if (capsule_bytes > limit) return PduRule::kInCapsuleLimit;
  const SglDescriptor& sgl = cmd.dptr;
  if (sgl.is_in_capsule()) {
    const bool inside = sgl.address <= capsule_bytes && sgl.length <= capsule_bytes - sgl.address;
    const bool backwards = sgl.length > 0 && cmd.data_direction() == DataDirection::kControllerToHost;
    return inside && !backwards ? PduRule::kNone : PduRule::kInCapsuleData;
  }
  if (capsule_bytes > 0) return PduRule::kInCapsuleData;
  return sgl.is_transport() || sgl.length == 0 ? PduRule::kNone : PduRule::kDataPointer;
}

PduRule PduMonitor::command(const CapsuleCmdPdu& pdu) {
  const Command& cmd = pdu.cmd;
  if (const PduRule rule = stage(cmd); rule != PduRule::kNone) {
    // Said once; what follows can still be judged, but for what only a Connect could tell.
    if (association_ == Association::kNone) {
      association_ = Association::kConnected;
      connect_ = {};
      flow_control_ = false;
      if (const PduRule worse = track(pdu); worse != PduRule::kNone) return worse;
    }
    return rule;
  }
  return track(pdu);
}

PduRule PduMonitor::track(const CapsuleCmdPdu& pdu) {
  const Command& cmd = pdu.cmd;
  if (commands_.find(cmd.cid.value()) != nullptr) return PduRule::kCidInUse;
  if (const PduRule rule = data_pointer(cmd, layout_of(pdu.header).data_bytes); rule != PduRule::kNone) return rule;
  if (association_ == Association::kConnected && entries_known() && commands_.size() + 1 >= connect_.entries) {
    return PduRule::kQueueOverrun;
  }
  Outstanding* const added = commands_.insert(cmd.cid.value());
  if (added == nullptr) {
    blind_ = true;
    return PduRule::kNone;
  }
  added->direction = cmd.data_direction();
  if (added->direction != DataDirection::kNone && cmd.dptr.is_transport()) added->expected = cmd.dptr.length;
  ++sent_;
  if (!cmd.is_fabrics()) return PduRule::kNone;
  if (fctype_of(cmd) == Fctype::kConnect) {
    added->kind = Kind::kConnect;
    association_ = Association::kConnecting;
    connect_ = connect_fields(cmd);
    sent_ = 1;
    consumed_ = 0;
  } else if (fctype_of(cmd) == Fctype::kDisconnect) {
    added->kind = Kind::kDisconnect;
    association_ = Association::kDisconnecting;
  }
  return PduRule::kNone;
}

// --- host to controller data ---

PduRule PduMonitor::r2t(const R2TPdu& pdu) {
  Outstanding* const command = commands_.find(pdu.cccid.value());
  if (command == nullptr) return PduRule::kUnknownCommand;
  if (!moves(command->direction, DataDirection::kHostToController) || command->expected == 0) {
    return PduRule::kR2TDirection;
  }
  if (pdu.r2to != command->moved) return PduRule::kR2TOrder;
  if (pdu.r2tl == 0 || pdu.r2tl > command->expected - command->moved) return PduRule::kR2TLength;
  if (command->r2ts >= params_.maxr2t) return PduRule::kMaxR2T;
  Grant* grant = grants_.find(pdu.ttag);
  if (grant != nullptr && !grant->orphan) return PduRule::kTtagInUse;
  if (grant == nullptr) grant = grants_.insert(pdu.ttag);
  if (grant == nullptr) {
    blind_ = true;
    return PduRule::kNone;
  }
  *grant = {.cid = pdu.cccid, .offset = pdu.r2to, .length = pdu.r2tl, .done = 0, .orphan = false};
  command->moved += pdu.r2tl;
  ++command->r2ts;
  return PduRule::kNone;
}

PduRule PduMonitor::h2c_data(const H2CDataPdu& pdu) {
  Grant* const grant = grants_.find(pdu.ttag);
  if (grant == nullptr) return PduRule::kUnknownTtag;
  if (grant->cid != pdu.cccid) return PduRule::kTtagCommand;
  if (pdu.datal == 0 || pdu.datal != layout_of(pdu.header).data_bytes) return PduRule::kDataLength;
  if (pdu.datal > params_.maxh2cdata) return PduRule::kMaxH2CData;
  if (pdu.datao != grant->offset + grant->done) return PduRule::kH2COrder;
  if (pdu.datal > grant->length - grant->done) return PduRule::kH2CRange;
  const bool complete = grant->done + pdu.datal == grant->length;
  if (pdu.header.last_pdu() != complete) return PduRule::kH2CLast;
  grant->done += pdu.datal;
  if (!complete) return PduRule::kNone;
  if (!grant->orphan) {
    if (Outstanding* const command = commands_.find(pdu.cccid.value())) --command->r2ts;
  }
  grants_.erase(pdu.ttag);
  return PduRule::kNone;
}

// --- controller to host data ---

PduRule PduMonitor::c2h_data(const C2HDataPdu& pdu) {
  Outstanding* const command = commands_.find(pdu.cccid.value());
  if (command == nullptr) return PduRule::kUnknownCommand;
  if (!moves(command->direction, DataDirection::kControllerToHost) || command->expected == 0) {
    return PduRule::kC2HDirection;
  }
  if (command->last_seen) return PduRule::kC2HAfterLast;
  if (pdu.datal == 0 || pdu.datal != layout_of(pdu.header).data_bytes) return PduRule::kDataLength;
  if (pdu.datao != command->moved) return PduRule::kC2HOrder;
  if (pdu.datal > command->expected - command->moved) return PduRule::kC2HRange;
  const bool success = pdu.header.success();
  if (success && !pdu.header.last_pdu()) return PduRule::kSuccessWithoutLast;
  if (success && command->moved + pdu.datal != command->expected) return PduRule::kSuccessEarly;
  if (success && config_.strict_success && flow_control_) return PduRule::kSuccessFlowControl;
  command->moved += pdu.datal;
  command->last_seen = pdu.header.last_pdu();
  if (success) commands_.erase(pdu.cccid.value());
  return PduRule::kNone;
}

// --- responses ---

PduRule PduMonitor::response(const CapsuleRespPdu& pdu) {
  const Completion& cqe = pdu.cqe;
  const Outstanding* const command = commands_.find(cqe.cid.value());
  if (command == nullptr) return PduRule::kUnknownCommand;
  if (cqe.ok()) {
    if (command->moved != command->expected || command->r2ts > 0) return PduRule::kResponseEarly;
    const bool reads = command->direction == DataDirection::kControllerToHost && command->expected > 0;
    if (reads && !command->last_seen) return PduRule::kC2HLast;
  }
  const bool connected = command->kind != Kind::kConnect || cqe.ok();
  const bool flow_control =
      command->kind == Kind::kConnect ? !connect_.disable_sq_flow_control || cqe.sqhd != kNoSqhd : flow_control_;
  if (connected && flow_control && !sqhd_fits(cqe.sqhd)) return PduRule::kSqhd;
  over(cqe.cid, *command, cqe.ok(), cqe.sqhd);
  return PduRule::kNone;
}

/// SQHD counts the commands taken so far, modulo the queue's entries. Responses left out by SUCCESS carry none, so that
/// it may have gone round more than once: the least number that fits is believed.
bool PduMonitor::sqhd_fits(std::uint16_t sqhd) {
  if (!entries_known()) return true;
  if (sqhd >= connect_.entries) return false;
  const auto before = static_cast<std::uint32_t>(consumed_ % connect_.entries);
  const std::uint32_t advance = sqhd >= before ? sqhd - before : connect_.entries - before + sqhd;
  if (consumed_ + advance > sent_) return false;
  consumed_ += advance;
  return true;
}

void PduMonitor::over(Cid cid, const Outstanding& command, bool ok, std::uint16_t sqhd) {
  if (command.kind == Kind::kConnect) {
    association_ = ok ? Association::kConnected : Association::kNone;
    flow_control_ = !connect_.disable_sq_flow_control || sqhd != kNoSqhd;
  } else if (command.kind == Kind::kDisconnect && !ok) {
    association_ = Association::kConnected;
  }
  if (command.r2ts > 0) {
    grants_.for_each([cid](Grant& grant) {
      if (grant.cid == cid) grant.orphan = true;
    });
  }
  commands_.erase(cid.value());
}

}  // namespace leap::nvme
