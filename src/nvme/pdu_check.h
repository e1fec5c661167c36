// The one judge of received NVMe/TCP headers, used by host and target alike.
//
// validate_pdu_header() judges the 8-byte common header as soon as it is here, before anything else is read; the
// check_* functions judge type specific fields once the whole header (and its digest) is here. None of them allocates;
// a verdict is a Fatal Error Status and the byte offset to put into the FEI field of a TermReq.
//
// What is checked: type and direction, order (ICReq and ICResp first and once), HLEN, PLEN (exact where the type has no
// data, bounded by the negotiated limits where it has), PDO (alignment, past the header, within PLEN), digest flags
// against what was negotiated, SUCCESS only with LAST_PDU. DATA of zero length in a data PDU is refused: it can't make
// progress and would let a peer keep us busy for nothing. What is not checked: reserved bits and bytes (a recipient
// isn't required to: NVMe Base 2.0, Keywords), PDO of a PDU without data (reserved there), DDGSTF of a capsule without
// data when data digests are on (3.6.2.6 leaves it open), and that offsets and lengths are whole dwords (harmless).
//
// Left to the queue pair, which knows the commands (3.3.2.1, 3.3.2.2), with what to put into the TermReq:
//   unknown CCCID                                        {kInvalidHeaderField, pdu_field::kCccid}
//   H2CData with an unknown TTAG                         {kInvalidHeaderField, pdu_field::kTtag}
//   data or R2T out of order, data after LAST_PDU        {kPduSequenceError, 0}
//   data outside the command's buffer or the R2T         {kDataTransferOutOfRange, 0}
//   more R2Ts outstanding than MAXR2T                    {kR2TLimitExceeded, 0}
//
// Source: NVMe TCP Transport 1.0, 3.1, 3.3, 3.5 (Error Handling Model), 3.6.2. Threading: pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "nvme/pdu.h"

namespace leap::nvme {

/// Why a PDU is not acceptable; fatal for its connection.
struct PduError {
  Fes fes = Fes::kInvalidHeaderField;
  std::uint32_t fei = 0;  ///< offset of the field, or the digest received; 0 where FES defines none
  friend constexpr bool operator==(const PduError&, const PduError&) = default;
};

/// Byte offsets of header fields, as FEI wants them.
namespace pdu_field {
inline constexpr std::uint32_t kType = 0;
inline constexpr std::uint32_t kFlags = 1;
inline constexpr std::uint32_t kHlen = 2;
inline constexpr std::uint32_t kPdo = 3;
inline constexpr std::uint32_t kPlen = 4;
inline constexpr std::uint32_t kPfv = 8;
inline constexpr std::uint32_t kPda = 10;  ///< HPDA of ICReq, CPDA of ICResp
inline constexpr std::uint32_t kDgst = 11;
inline constexpr std::uint32_t kMaxH2CData = 12;
inline constexpr std::uint32_t kCccid = 8;
inline constexpr std::uint32_t kTtag = 10;
inline constexpr std::uint32_t kDataOffset = 12;  ///< DATAO, R2TO
inline constexpr std::uint32_t kDataLength = 16;  ///< DATAL, R2TL
}  // namespace pdu_field

[[nodiscard]] constexpr PduError bad_field(std::uint32_t offset) { return {Fes::kInvalidHeaderField, offset}; }

/// Whether a PDU of this type may travel that way at all.
[[nodiscard]] constexpr bool travels(PduType type, PduDirection direction) {
  switch (type) {
    case PduType::kIcReq:
    case PduType::kH2CTermReq:
    case PduType::kCapsuleCmd:
    case PduType::kH2CData: return direction == PduDirection::kToController;
    case PduType::kIcResp:
    case PduType::kC2HTermReq:
    case PduType::kCapsuleResp:
    case PduType::kC2HData:
    case PduType::kR2T: return direction == PduDirection::kToHost;
  }
  return false;
}

/// H2CTermReq or C2HTermReq. A bad one isn't answered with another: the connection is closed at once (3.5).
[[nodiscard]] constexpr bool is_term_req(PduType type) {
  return type == PduType::kH2CTermReq || type == PduType::kC2HTermReq;
}

namespace detail {

/// Digest flags against what was negotiated; SUCCESS only with LAST_PDU. `head`: header and digest as they should be.
[[nodiscard]] constexpr bool flags_are_good(const PduHeader& header, std::uint32_t head,
                                            const ConnectionParams& params) {
  if (header.has_header_digest() != params.hdgst) return false;
  if (header.type == PduType::kC2HData && header.success() && !header.last_pdu()) return false;
  if (!may_have_data_digest(header.type)) return true;
  const bool has_data = header.type != PduType::kCapsuleCmd || header.plen != head;
  return has_data ? header.has_data_digest() == params.ddgst : params.ddgst || !header.has_data_digest();
}

/// PDO and PLEN of the types that may carry DATA.
[[nodiscard]] constexpr std::optional<PduError> check_data_part(const PduHeader& header, std::uint32_t head,
                                                                PduDirection direction,
                                                                const ConnectionParams& params) {
  if (header.plen == head && header.type == PduType::kCapsuleCmd) return std::nullopt;
  if (header.plen <= head) return bad_field(pdu_field::kPlen);
  if (header.pdo < head || header.pdo % params.data_alignment(direction) != 0) return bad_field(pdu_field::kPdo);
  const std::uint32_t overhead = header.pdo + params.data_digest_bytes();
  if (header.plen <= overhead) return bad_field(pdu_field::kPlen);
  const std::uint32_t data = header.plen - overhead;
  switch (header.type) {
    case PduType::kCapsuleCmd:
      if (data > params.in_capsule_bytes) return bad_field(pdu_field::kPlen);
      break;
    case PduType::kH2CData:
      if (data > params.maxh2cdata) return PduError{Fes::kDataTransferLimitExceeded, 0};
      break;
    default:
      if (data > params.max_c2h_bytes) return PduError{Fes::kDataTransferOutOfRange, 0};
      break;
  }
  return std::nullopt;
}

}  // namespace detail

/// Judges a common header that arrived travelling in `direction`; of several bad fields the lowest is reported (3.5).
/// `ic_done`: this end's half of the ICReq/ICResp exchange is over (controller: ICReq received; host: ICResp received);
/// before it `params` is not consulted.
[[nodiscard]] constexpr std::optional<PduError> validate_pdu_header(const PduHeader& header, PduDirection direction,
                                                                    const ConnectionParams& params, bool ic_done) {
  if (!travels(header.type, direction)) return bad_field(pdu_field::kType);
  const std::uint32_t hlen = header_bytes(header.type);
  if (is_term_req(header.type)) {
    if (header.hlen != hlen) return bad_field(pdu_field::kHlen);
    if (header.plen < hlen || header.plen > hlen + kMaxTermReqData) return bad_field(pdu_field::kPlen);
    return std::nullopt;
  }
  const bool is_ic = header.type == PduType::kIcReq || header.type == PduType::kIcResp;
  if (is_ic == ic_done) return PduError{Fes::kPduSequenceError, 0};
  const std::uint32_t head = is_ic ? hlen : hlen + params.header_digest_bytes();
  if (!is_ic && !detail::flags_are_good(header, head, params)) return bad_field(pdu_field::kFlags);
  if (header.hlen != hlen) return bad_field(pdu_field::kHlen);
  if (may_have_data_digest(header.type)) return detail::check_data_part(header, head, direction, params);
  if (header.plen != head) return bad_field(pdu_field::kPlen);
  return std::nullopt;
}

/// PFV and HPDA of an ICReq whose common header is valid.
[[nodiscard]] constexpr std::optional<PduError> check_icreq(const IcReqPdu& pdu) {
  if (pdu.pfv != kPduFormatVersion) return PduError{Fes::kUnsupportedParameter, pdu_field::kPfv};
  if (pdu.hpda > kMaxPduAlignment) return bad_field(pdu_field::kPda);
  return std::nullopt;
}

/// PFV, CPDA, DGST (nothing the host did not ask for) and MAXH2CDATA of an ICResp whose common header is valid.
[[nodiscard]] constexpr std::optional<PduError> check_icresp(const IcRespPdu& pdu, const ConnectionParams& wanted) {
  if (pdu.pfv != kPduFormatVersion) return PduError{Fes::kUnsupportedParameter, pdu_field::kPfv};
  if (pdu.cpda > kMaxPduAlignment) return bad_field(pdu_field::kPda);
  if ((pdu.dgst & kDgstHeader) != 0 && !wanted.hdgst) return bad_field(pdu_field::kDgst);
  if ((pdu.dgst & kDgstData) != 0 && !wanted.ddgst) return bad_field(pdu_field::kDgst);
  if (pdu.maxh2cdata < kMinMaxH2CData || pdu.maxh2cdata % 4 != 0) return bad_field(pdu_field::kMaxH2CData);
  return std::nullopt;
}

/// What the host works with after a checked ICResp: its own wishes narrowed to what was granted.
[[nodiscard]] constexpr ConnectionParams negotiate(const ConnectionParams& wanted, const IcRespPdu& pdu) {
  ConnectionParams params = wanted;
  params.hdgst = wanted.hdgst && (pdu.dgst & kDgstHeader) != 0;
  params.ddgst = wanted.ddgst && (pdu.dgst & kDgstData) != 0;
  params.cpda = pdu.cpda;
  params.maxh2cdata = pdu.maxh2cdata;
  return params;
}

/// What the controller works with after a checked ICReq: `offered` (cpda, maxh2cdata, limits; hdgst and ddgst mean
/// "willing") narrowed to what the host asked for. The result is also what ICResp grants.
[[nodiscard]] constexpr ConnectionParams negotiate(const ConnectionParams& offered, const IcReqPdu& pdu) {
  ConnectionParams params = offered;
  params.hdgst = offered.hdgst && (pdu.dgst & kDgstHeader) != 0;
  params.ddgst = offered.ddgst && (pdu.dgst & kDgstData) != 0;
  params.hpda = pdu.hpda;
  // A count of 2^32 doesn't fit; it is no limit anyone can reach.
  params.maxr2t = pdu.maxr2t == std::numeric_limits<std::uint32_t>::max() ? pdu.maxr2t : pdu.maxr2t + 1;
  return params;
}

/// DATAO and DATAL of a data PDU against its own length; common header valid. Whether the range belongs to a command
/// is for the queue pair to judge.
template <typename DataPdu>
[[nodiscard]] constexpr std::optional<PduError> check_data_range(const DataPdu& pdu) {
  if (pdu.datal != layout_of(pdu.header).data_bytes) return bad_field(pdu_field::kDataLength);
  if (pdu.datao > std::numeric_limits<std::uint32_t>::max() - pdu.datal) {
    return PduError{Fes::kDataTransferOutOfRange, 0};
  }
  return std::nullopt;
}

/// R2TL not zero, R2TO + R2TL within 32 bits; common header valid.
[[nodiscard]] constexpr std::optional<PduError> check_r2t(const R2TPdu& pdu) {
  if (pdu.r2tl == 0) return bad_field(pdu_field::kDataLength);
  if (pdu.r2to > std::numeric_limits<std::uint32_t>::max() - pdu.r2tl) {
    return PduError{Fes::kDataTransferOutOfRange, 0};
  }
  return std::nullopt;
}

/// An Error for logs and for the commands that die with the connection: kind kProtocol, domain kTransport, scope
/// kQueuePair, e.g. "<what>: invalid CapsuleResp header: Invalid PDU Header Field at byte 4 (PLEN): type 0x5 flags 0x0
/// ...".
[[nodiscard]] Error pdu_error(const PduError& error, const PduHeader& header, PduDirection received,
                              const std::string& what);

}  // namespace leap::nvme
