#include "nvme/pdu.h"

#include <utility>

#include <fmt/format.h>

#include "nvme/pdu_check.h"

namespace leap::nvme {

std::string_view to_string(PduType type) {
  switch (type) {
    case PduType::kIcReq: return "ICReq";
    case PduType::kIcResp: return "ICResp";
    case PduType::kH2CTermReq: return "H2CTermReq";
    case PduType::kC2HTermReq: return "C2HTermReq";
    case PduType::kCapsuleCmd: return "CapsuleCmd";
    case PduType::kCapsuleResp: return "CapsuleResp";
    case PduType::kH2CData: return "H2CData";
    case PduType::kC2HData: return "C2HData";
    case PduType::kR2T: return "R2T";
  }
  return "reserved PDU type";
}

std::string_view to_string(Fes fes, PduDirection towards) {
  switch (static_cast<std::uint16_t>(fes)) {
    case 0x01: return "Invalid PDU Header Field";
    case 0x02: return "PDU Sequence Error";
    case 0x03: return "Header Digest Error";
    case 0x04: return "Data Transfer Out of Range";
    case 0x05: return towards == PduDirection::kToController ? "R2T Limit Exceeded" : "Data Transfer Limit Exceeded";
    case 0x06: return "Unsupported Parameter";
    default: return "reserved Fatal Error Status";
  }
}

namespace {

/// The field an FEI offset names, for people.
std::string_view field_name(PduType type, std::uint32_t offset) {
  const bool is_ic = type == PduType::kIcReq || type == PduType::kIcResp;
  const bool is_r2t = type == PduType::kR2T;
  switch (offset) {
    case pdu_field::kType: return "PDU-Type";
    case pdu_field::kFlags: return "FLAGS";
    case pdu_field::kHlen: return "HLEN";
    case pdu_field::kPdo: return "PDO";
    case pdu_field::kPlen: return "PLEN";
    case pdu_field::kPfv: return is_ic ? "PFV" : "CCCID";
    case pdu_field::kPda: return type == PduType::kIcReq ? "HPDA" : is_ic ? "CPDA" : "TTAG";
    case pdu_field::kDgst: return is_ic ? "DGST" : "reserved";
    case pdu_field::kDataOffset: return is_ic ? "MAXH2CDATA" : is_r2t ? "R2TO" : "DATAO";
    case pdu_field::kDataLength: return is_r2t ? "R2TL" : "DATAL";
    default: return "header";
  }
}

}  // namespace

Error pdu_error(const PduError& error, const PduHeader& header, PduDirection received, const std::string& what) {
  // The TermReq that answers a PDU travels the other way.
  const auto towards = received == PduDirection::kToHost ? PduDirection::kToController : PduDirection::kToHost;
  std::string where;
  if (error.fes == Fes::kInvalidHeaderField || error.fes == Fes::kUnsupportedParameter) {
    where = fmt::format(" in {} (byte {})", field_name(header.type, error.fei), error.fei);
  } else if (error.fes == Fes::kHeaderDigestError) {
    where = fmt::format(" (received {:#010x})", error.fei);
  }
  return Error(Errc::kProtocol,
               fmt::format("{}: peer sent a bad {}: {}{}: type {:#04x} flags {:#04x} hlen {} pdo {} plen {}", what,
                           to_string(header.type), to_string(error.fes, towards), where,
                           static_cast<unsigned>(header.type), header.flags, header.hlen, header.pdo, header.plen))
      .in(ErrorDomain::kTransport)
      .with_scope(ErrorScope::kQueuePair);
}

}  // namespace leap::nvme
