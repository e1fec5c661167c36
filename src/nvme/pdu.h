// The PDUs of NVMe/TCP and the parameters a connection negotiates with ICReq and ICResp.
//
//   0      1       2      3     4-7    8 .. HLEN-1         +4            up to PDO  PDO ..          +4
//  +------+-------+------+-----+------+-------------------+-------------+----------+---------------+-------------+
//  | type | flags | HLEN | PDO | PLEN | type specific     | HDGST if    | PAD (0s) | DATA          | DDGST if    |
//  |      |       |      |     |      | header            | HDGSTF      |          |               | DDGSTF      |
//  +------+-------+------+-----+------+-------------------+-------------+----------+---------------+-------------+
//
// PLEN counts everything. PDO counts from the start of the PDU and is a multiple of the receiver's alignment: (CPDA +
// 1) x 4 bytes towards the controller, (HPDA + 1) x 4 bytes towards the host. Digests are CRC32C, little-endian, HDGST
// over HLEN bytes, DDGST over DATA only. Source: NVMe TCP Transport 1.0, 2 (PDU structure), 3.3,
// 3.6.2 (PDU definitions); bare clause numbers below are of that document. 1.1 adds PDUs that Leap doesn't speak.
//
// Pure and constexpr. Checking what a peer sent: pdu_check.h. Digests and incremental framing: pdu_frame.h.
//
//   CapsuleCmdPdu pdu = make_capsule_cmd(cmd, /*in_capsule_bytes=*/4096, params);
//   PduLayout at = layout_of(pdu.header);       // at.data_offset, at.data_bytes, at.total_bytes ...
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "nvme/command.h"
#include "nvme/completion.h"
#include "nvme/ids.h"
#include "nvme/wire.h"

namespace leap::nvme {

/// PDU-Type (NVMe TCP Transport 1.0, 3.3, figure 10).
enum class PduType : std::uint8_t {
  kIcReq = 0x00,
  kIcResp = 0x01,
  kH2CTermReq = 0x02,
  kC2HTermReq = 0x03,
  kCapsuleCmd = 0x04,
  kCapsuleResp = 0x05,
  kH2CData = 0x06,
  kC2HData = 0x07,
  kR2T = 0x09,
};
/// "CapsuleCmd" and so on; "reserved PDU type" for the others. Static storage.
[[nodiscard]] std::string_view to_string(PduType type);

/// Which way a PDU travels, hence who receives it.
enum class PduDirection : std::uint8_t { kToController, kToHost };

// FLAGS; bits a type doesn't define are reserved and ignored on receipt.
inline constexpr std::uint8_t kPduHdgstf = 0x01;   ///< HDGST follows the header
inline constexpr std::uint8_t kPduDdgstf = 0x02;   ///< DDGST follows the data
inline constexpr std::uint8_t kPduLastPdu = 0x04;  ///< H2CData: last of its R2T; C2HData: last of its command
inline constexpr std::uint8_t kPduSuccess =
    0x08;  ///< C2HData with LAST_PDU: the command succeeded, no CapsuleResp follows

inline constexpr std::uint32_t kDigestBytes = 4;
inline constexpr std::uint8_t kMaxPduAlignment = 31;          ///< HPDA and CPDA, 0's based dwords: 128 bytes
inline constexpr std::uint32_t kMinMaxH2CData = 4096;         ///< least legal MAXH2CDATA
inline constexpr std::uint32_t kAdminInCapsuleBytes = 8192;   ///< Admin and Fabrics commands (3.3.1)
inline constexpr std::uint32_t kMaxTermReqData = 128;         ///< bytes of the offending PDU a TermReq quotes
inline constexpr std::uint16_t kPduFormatVersion = 0;         ///< PFV of NVMe/TCP 1.0 and 1.1
inline constexpr std::uint16_t kNvmeTcpPort = 4420;           ///< I/O controllers (IANA)
inline constexpr std::uint16_t kNvmeTcpDiscoveryPort = 8009;  ///< discovery controllers (IANA)

/// What ICReq and ICResp settled, plus the receiver's own limits. Both ends hold one and pass it to every function
/// here.
struct ConnectionParams {
  bool hdgst = false;
  bool ddgst = false;
  std::uint8_t hpda = 0;                      ///< alignment of data towards the host, 0's based dwords
  std::uint8_t cpda = 0;                      ///< alignment of data towards the controller, 0's based dwords
  std::uint32_t maxr2t = 1;                   ///< R2Ts the host accepts outstanding per command; a count, not 0's based
  std::uint32_t maxh2cdata = kMinMaxH2CData;  ///< bytes of DATA in one H2CData
  std::uint32_t in_capsule_bytes = kAdminInCapsuleBytes;  ///< bytes of DATA in one CapsuleCmd on this queue
  std::uint32_t max_c2h_bytes = std::numeric_limits<std::uint32_t>::max();  ///< bytes of DATA in one C2HData

  [[nodiscard]] constexpr std::uint32_t header_digest_bytes() const { return hdgst ? kDigestBytes : 0; }
  [[nodiscard]] constexpr std::uint32_t data_digest_bytes() const { return ddgst ? kDigestBytes : 0; }
  /// Alignment of PDO for PDUs going that way, in bytes.
  [[nodiscard]] constexpr std::uint32_t data_alignment(PduDirection direction) const {
    return (std::uint32_t{direction == PduDirection::kToController ? cpda : hpda} + 1) * 4;
  }
};

/// Common header (CH) of every PDU.
struct PduHeader {
  PduType type = PduType::kIcReq;
  std::uint8_t flags = 0;
  std::uint8_t hlen = 0;   ///< bytes of header, digest not counted
  std::uint8_t pdo = 0;    ///< offset of DATA from the start of the PDU; reserved when there is none
  std::uint32_t plen = 0;  ///< bytes of the whole PDU

  [[nodiscard]] constexpr bool has_header_digest() const { return (flags & kPduHdgstf) != 0; }
  [[nodiscard]] constexpr bool has_data_digest() const { return (flags & kPduDdgstf) != 0; }
  [[nodiscard]] constexpr bool last_pdu() const { return (flags & kPduLastPdu) != 0; }
  [[nodiscard]] constexpr bool success() const { return (flags & kPduSuccess) != 0; }
  friend constexpr bool operator==(const PduHeader&, const PduHeader&) = default;
};
static_assert(sizeof(PduHeader) == 8 && offsetof(PduHeader, plen) == 4 && offsetof(PduHeader, pdo) == 3);

// DGST of ICReq and ICResp.
inline constexpr std::uint8_t kDgstHeader = 0x01;
inline constexpr std::uint8_t kDgstData = 0x02;

/// Initialize Connection Request, host to controller (3.6.2.2).
struct IcReqPdu {
  PduHeader header{};
  std::uint16_t pfv = kPduFormatVersion;
  std::uint8_t hpda = 0;
  std::uint8_t dgst = 0;
  std::uint32_t maxr2t = 0;  ///< 0's based
  std::array<std::uint8_t, 112> reserved{};
  friend constexpr bool operator==(const IcReqPdu&, const IcReqPdu&) = default;
};
static_assert(sizeof(IcReqPdu) == 128 && offsetof(IcReqPdu, pfv) == 8 && offsetof(IcReqPdu, hpda) == 10);
static_assert(offsetof(IcReqPdu, dgst) == 11 && offsetof(IcReqPdu, maxr2t) == 12 && WireStruct<IcReqPdu>);

/// Initialize Connection Response, controller to host (3.6.2.3).
struct IcRespPdu {
  PduHeader header{};
  std::uint16_t pfv = kPduFormatVersion;
  std::uint8_t cpda = 0;
  std::uint8_t dgst = 0;
  std::uint32_t maxh2cdata = 0;
  std::array<std::uint8_t, 112> reserved{};
  friend constexpr bool operator==(const IcRespPdu&, const IcRespPdu&) = default;
};
static_assert(sizeof(IcRespPdu) == 128 && offsetof(IcRespPdu, pfv) == 8 && offsetof(IcRespPdu, cpda) == 10);
static_assert(offsetof(IcRespPdu, dgst) == 11 && offsetof(IcRespPdu, maxh2cdata) == 12 && WireStruct<IcRespPdu>);

/// Fatal Error Status of a TermReq (3.6.2.4, 3.6.2.5). 05h has a name per direction.
enum class Fes : std::uint16_t {
  kInvalidHeaderField = 0x01,  ///< FEI: offset of the field in the PDU header
  kPduSequenceError = 0x02,
  kHeaderDigestError = 0x03,  ///< FEI: the HDGST received
  kDataTransferOutOfRange = 0x04,
  kR2TLimitExceeded = 0x05,           ///< H2CTermReq
  kDataTransferLimitExceeded = 0x05,  ///< C2HTermReq
  kUnsupportedParameter = 0x06,       ///< FEI: offset of the parameter in the PDU header
};
/// "Invalid PDU Header Field" and so on; `towards` names 05h. Static storage.
[[nodiscard]] std::string_view to_string(Fes fes, PduDirection towards);

/// H2CTermReq and C2HTermReq: a fatal transport error; up to 128 bytes of the offending PDU follow (3.6.2.4, 3.6.2.5).
struct TermReqPdu {
  PduHeader header{};
  std::uint16_t fes = 0;
  std::uint16_t fei_low = 0;   ///< FEI is a dword at byte 10, off its natural alignment
  std::uint16_t fei_high = 0;  ///< use fei() and set_fei()
  std::array<std::uint8_t, 10> reserved{};

  [[nodiscard]] constexpr std::uint32_t fei() const { return fei_low | (static_cast<std::uint32_t>(fei_high) << 16); }
  constexpr void set_fei(std::uint32_t value) {
    fei_low = static_cast<std::uint16_t>(value & 0xFFFF);
    fei_high = static_cast<std::uint16_t>(value >> 16);
  }
  friend constexpr bool operator==(const TermReqPdu&, const TermReqPdu&) = default;
};
static_assert(sizeof(TermReqPdu) == 24 && offsetof(TermReqPdu, fes) == 8 && offsetof(TermReqPdu, fei_low) == 10);

/// Command Capsule, host to controller (3.6.2.6); DATA: in-capsule data.
struct CapsuleCmdPdu {
  PduHeader header{};
  Command cmd{};
  friend constexpr bool operator==(const CapsuleCmdPdu&, const CapsuleCmdPdu&) = default;
};
static_assert(sizeof(CapsuleCmdPdu) == 72 && offsetof(CapsuleCmdPdu, cmd) == 8 && WireStruct<CapsuleCmdPdu>);

/// Response Capsule, controller to host (3.6.2.7).
struct CapsuleRespPdu {
  PduHeader header{};
  Completion cqe{};
  friend constexpr bool operator==(const CapsuleRespPdu&, const CapsuleRespPdu&) = default;
};
static_assert(sizeof(CapsuleRespPdu) == 24 && offsetof(CapsuleRespPdu, cqe) == 8 && WireStruct<CapsuleRespPdu>);

/// Host to Controller Data, answering an R2T (3.6.2.8).
struct H2CDataPdu {
  PduHeader header{};
  Cid cccid{};              ///< the command this data belongs to
  std::uint16_t ttag = 0;   ///< copied from the R2T
  std::uint32_t datao = 0;  ///< byte offset from the start of the command's data
  std::uint32_t datal = 0;  ///< bytes of DATA
  std::uint32_t reserved = 0;
  friend constexpr bool operator==(const H2CDataPdu&, const H2CDataPdu&) = default;
};
static_assert(sizeof(H2CDataPdu) == 24 && offsetof(H2CDataPdu, cccid) == 8 && offsetof(H2CDataPdu, ttag) == 10);
static_assert(offsetof(H2CDataPdu, datao) == 12 && offsetof(H2CDataPdu, datal) == 16 && WireStruct<H2CDataPdu>);

/// Controller to Host Data (3.6.2.9).
struct C2HDataPdu {
  PduHeader header{};
  Cid cccid{};
  std::uint16_t reserved = 0;
  std::uint32_t datao = 0;
  std::uint32_t datal = 0;
  std::uint32_t reserved2 = 0;
  friend constexpr bool operator==(const C2HDataPdu&, const C2HDataPdu&) = default;
};
static_assert(sizeof(C2HDataPdu) == 24 && offsetof(C2HDataPdu, cccid) == 8 && offsetof(C2HDataPdu, datao) == 12);
static_assert(offsetof(C2HDataPdu, datal) == 16 && WireStruct<C2HDataPdu>);

/// Ready to Transfer, controller to host (3.6.2.10).
struct R2TPdu {
  PduHeader header{};
  Cid cccid{};
  std::uint16_t ttag = 0;  ///< chosen by the controller
  std::uint32_t r2to = 0;  ///< byte offset from the start of the command's data
  std::uint32_t r2tl = 0;  ///< bytes asked for
  std::uint32_t reserved = 0;
  friend constexpr bool operator==(const R2TPdu&, const R2TPdu&) = default;
};
static_assert(sizeof(R2TPdu) == 24 && offsetof(R2TPdu, cccid) == 8 && offsetof(R2TPdu, ttag) == 10);
static_assert(offsetof(R2TPdu, r2to) == 12 && offsetof(R2TPdu, r2tl) == 16 && WireStruct<R2TPdu>);

/// HLEN of each type, 0 for a type that doesn't exist.
[[nodiscard]] constexpr std::uint8_t header_bytes(PduType type) {
  switch (type) {
    case PduType::kIcReq: return sizeof(IcReqPdu);
    case PduType::kIcResp: return sizeof(IcRespPdu);
    case PduType::kH2CTermReq:
    case PduType::kC2HTermReq: return sizeof(TermReqPdu);
    case PduType::kCapsuleCmd: return sizeof(CapsuleCmdPdu);
    case PduType::kCapsuleResp: return sizeof(CapsuleRespPdu);
    case PduType::kH2CData: return sizeof(H2CDataPdu);
    case PduType::kC2HData: return sizeof(C2HDataPdu);
    case PduType::kR2T: return sizeof(R2TPdu);
  }
  return 0;
}
/// The largest header with its digest: the most a receiver buffers before it knows where data goes.
inline constexpr std::size_t kMaxPduHeaderBytes = sizeof(IcReqPdu) + kDigestBytes;

/// Only these types carry digests.
[[nodiscard]] constexpr bool may_have_header_digest(PduType type) { return type >= PduType::kCapsuleCmd; }
/// Only these types carry DATA that DDGST covers.
[[nodiscard]] constexpr bool may_have_data_digest(PduType type) {
  return type == PduType::kCapsuleCmd || type == PduType::kH2CData || type == PduType::kC2HData;
}

/// Where the parts of a PDU lie; offsets count from its first byte.
struct PduLayout {
  std::uint32_t header_bytes = 0;         ///< HLEN
  std::uint32_t header_digest_bytes = 0;  ///< 0 or 4, at offset header_bytes
  std::uint32_t data_offset = 0;          ///< PDO; without data the end of header and digest
  std::uint32_t data_bytes = 0;
  std::uint32_t data_digest_bytes = 0;  ///< 0 or 4, at offset data_offset + data_bytes
  std::uint32_t total_bytes = 0;        ///< PLEN

  /// Header and its digest: what must be here before the header may be believed.
  [[nodiscard]] constexpr std::uint32_t head_bytes() const { return header_bytes + header_digest_bytes; }
  /// Zeros between head and data.
  [[nodiscard]] constexpr std::uint32_t pad_bytes() const { return data_offset - head_bytes(); }
  friend constexpr bool operator==(const PduLayout&, const PduLayout&) = default;
};

/// Precondition: `header` was made here or passed validate_pdu_header().
[[nodiscard]] constexpr PduLayout layout_of(const PduHeader& header) {
  PduLayout at;
  at.header_bytes = header.hlen;
  at.header_digest_bytes = may_have_header_digest(header.type) && header.has_header_digest() ? kDigestBytes : 0;
  at.total_bytes = header.plen;
  at.data_offset = at.head_bytes();
  if (header.plen <= at.head_bytes()) return at;
  if (may_have_data_digest(header.type)) {
    at.data_offset = header.pdo;
    at.data_digest_bytes = header.has_data_digest() ? kDigestBytes : 0;
  }
  at.data_bytes = header.plen - at.data_offset - at.data_digest_bytes;
  return at;
}

/// PDO for a PDU of this type with data: header and digest rounded up to the receiver's alignment.
[[nodiscard]] constexpr std::uint8_t data_offset_for(PduType type, const ConnectionParams& params) {
  const auto direction = type == PduType::kC2HData ? PduDirection::kToHost : PduDirection::kToController;
  const std::uint32_t alignment = params.data_alignment(direction);
  const std::uint32_t head = header_bytes(type) + params.header_digest_bytes();
  return static_cast<std::uint8_t>((head + alignment - 1) / alignment * alignment);
}

/// A complete common header for a PDU of this type with `data_bytes` of DATA (0: none).
[[nodiscard]] constexpr PduHeader make_pdu_header(PduType type, std::uint32_t data_bytes,
                                                  const ConnectionParams& params) {
  PduHeader header{.type = type, .flags = 0, .hlen = header_bytes(type), .pdo = 0, .plen = header_bytes(type)};
  if (may_have_header_digest(type) && params.hdgst) {
    header.flags |= kPduHdgstf;
    header.plen += kDigestBytes;
  }
  if (data_bytes == 0) return header;
  if (!may_have_data_digest(type)) {  // TermReq: the data follows the header directly
    header.plen += data_bytes;
    return header;
  }
  header.pdo = data_offset_for(type, params);
  header.plen = header.pdo + data_bytes + params.data_digest_bytes();
  if (params.ddgst) header.flags |= kPduDdgstf;
  return header;
}

/// ICReq asking for what `wanted` says (hdgst, ddgst, hpda, maxr2t).
[[nodiscard]] constexpr IcReqPdu make_icreq(const ConnectionParams& wanted) {
  IcReqPdu pdu;
  pdu.header = make_pdu_header(PduType::kIcReq, 0, wanted);
  pdu.hpda = wanted.hpda;
  pdu.dgst = static_cast<std::uint8_t>((wanted.hdgst ? kDgstHeader : 0) | (wanted.ddgst ? kDgstData : 0));
  pdu.maxr2t = wanted.maxr2t - 1;
  return pdu;
}
/// ICResp granting what `granted` says (hdgst, ddgst, cpda, maxh2cdata).
[[nodiscard]] constexpr IcRespPdu make_icresp(const ConnectionParams& granted) {
  IcRespPdu pdu;
  pdu.header = make_pdu_header(PduType::kIcResp, 0, granted);
  pdu.cpda = granted.cpda;
  pdu.dgst = static_cast<std::uint8_t>((granted.hdgst ? kDgstHeader : 0) | (granted.ddgst ? kDgstData : 0));
  pdu.maxh2cdata = granted.maxh2cdata;
  return pdu;
}

/// TermReq quoting `quoted_bytes` (<= 128) of the offending PDU. Quote at least its common header: some peers
/// (SPDK) treat a TermReq without data as malformed.
[[nodiscard]] constexpr TermReqPdu make_term_req(PduDirection towards, Fes fes, std::uint32_t fei,
                                                 std::uint32_t quoted_bytes) {
  const auto type = towards == PduDirection::kToController ? PduType::kH2CTermReq : PduType::kC2HTermReq;
  TermReqPdu pdu;
  pdu.header = make_pdu_header(type, quoted_bytes < kMaxTermReqData ? quoted_bytes : kMaxTermReqData, {});
  pdu.fes = static_cast<std::uint16_t>(fes);
  pdu.set_fei(fei);
  return pdu;
}

[[nodiscard]] constexpr CapsuleCmdPdu make_capsule_cmd(const Command& cmd, std::uint32_t in_capsule_bytes,
                                                       const ConnectionParams& params) {
  return {.header = make_pdu_header(PduType::kCapsuleCmd, in_capsule_bytes, params), .cmd = cmd};
}
[[nodiscard]] constexpr CapsuleRespPdu make_capsule_resp(const Completion& cqe, const ConnectionParams& params) {
  return {.header = make_pdu_header(PduType::kCapsuleResp, 0, params), .cqe = cqe};
}

/// `last`: the final H2CData of this R2T. Precondition: 0 < datal <= params.maxh2cdata; datao and datal are whole
/// dwords.
[[nodiscard]] constexpr H2CDataPdu make_h2c_data(Cid cccid, std::uint16_t ttag, std::uint32_t datao,
                                                 std::uint32_t datal, bool last, const ConnectionParams& params) {
  H2CDataPdu pdu;
  pdu.header = make_pdu_header(PduType::kH2CData, datal, params);
  if (last) pdu.header.flags |= kPduLastPdu;
  pdu.cccid = cccid;
  pdu.ttag = ttag;
  pdu.datao = datao;
  pdu.datal = datal;
  return pdu;
}

/// `last`: the final C2HData of this command; `success` (only with last): no CapsuleResp follows, which is allowed only
/// when SQ flow control is disabled (3.3.2.1). Precondition: datal > 0; datao and datal are whole dwords.
[[nodiscard]] constexpr C2HDataPdu make_c2h_data(Cid cccid, std::uint32_t datao, std::uint32_t datal, bool last,
                                                 bool success, const ConnectionParams& params) {
  C2HDataPdu pdu;
  pdu.header = make_pdu_header(PduType::kC2HData, datal, params);
  if (last) pdu.header.flags |= kPduLastPdu;
  if (last && success) pdu.header.flags |= kPduSuccess;
  pdu.cccid = cccid;
  pdu.datao = datao;
  pdu.datal = datal;
  return pdu;
}

[[nodiscard]] constexpr R2TPdu make_r2t(Cid cccid, std::uint16_t ttag, std::uint32_t r2to, std::uint32_t r2tl,
                                        const ConnectionParams& params) {
  R2TPdu pdu;
  pdu.header = make_pdu_header(PduType::kR2T, 0, params);
  pdu.cccid = cccid;
  pdu.ttag = ttag;
  pdu.r2to = r2to;
  pdu.r2tl = r2tl;
  return pdu;
}

}  // namespace leap::nvme
