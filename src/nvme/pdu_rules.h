// The rules of NVMe/TCP that PduMonitor holds a connection to, each with the clause it comes from.
//
// Bare clause numbers are of NVMe TCP Transport 1.0. Pure; static storage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace leap::nvme {

enum class PduRule : std::uint8_t {
  kNone,  ///< nothing is wrong
  // --- any PDU ---
  kType,            ///< a type that exists
  kDirection,       ///< that may travel this way
  kHeaderLength,    ///< HLEN of the type
  kPduLength,       ///< PLEN fits type, digests and data
  kDataOffset,      ///< PDO past the header, aligned to CPDA or HPDA
  kHeaderDigest,    ///< HDGSTF as negotiated
  kDataDigest,      ///< DDGSTF as negotiated
  kAfterTermReq,    ///< nothing follows a TermReq, nor answers one
  kDataLength,      ///< DATAL is what PLEN leaves for DATA, and not 0
  kUnknownCommand,  ///< CCCID or CID names an outstanding command
  // --- setting up ---
  kIcFirst,       ///< ICReq, then ICResp, then the rest
  kIcOnce,        ///< each once
  kIcParameters,  ///< PFV, HPDA, CPDA, DGST, MAXH2CDATA within range
  // --- commands ---
  kConnectFirst,     ///< nothing before Connect has succeeded
  kConnectOnce,      ///< no second Connect after that
  kAfterDisconnect,  ///< no command after Disconnect
  kCidInUse,         ///< CID not that of an outstanding command
  kQueueOverrun,     ///< fewer commands outstanding than the queue has entries
  kDataPointer,      ///< an SGL of a type that NVMe/TCP has
  kInCapsuleLimit,   ///< no more data in the capsule than the controller takes
  kInCapsuleData,    ///< data in the capsule is what the SGL says
  // --- host to controller data ---
  kR2TDirection,  ///< R2T for a command that has data to send
  kR2TLength,     ///< for at least a byte, within the command's data
  kR2TOrder,      ///< R2TO follows the R2T before
  kMaxR2T,        ///< not more than MAXR2T outstanding per command
  kTtagInUse,     ///< TTAG not that of an outstanding R2T
  kUnknownTtag,   ///< H2CData for an outstanding R2T
  kTtagCommand,   ///< ... of the command CCCID names
  kH2COrder,      ///< DATAO in order
  kH2CRange,      ///< within the R2T
  kMaxH2CData,    ///< DATAL at most MAXH2CDATA
  kH2CLast,       ///< LAST_PDU on the last of an R2T and on no other
  // --- controller to host data ---
  kC2HDirection,        ///< C2HData for a command that reads data
  kC2HOrder,            ///< DATAO in order
  kC2HRange,            ///< within the command's data
  kC2HAfterLast,        ///< none after LAST_PDU
  kC2HLast,             ///< LAST_PDU on the last
  kSuccessWithoutLast,  ///< SUCCESS with LAST_PDU only
  kSuccessEarly,        ///< SUCCESS when all data has been sent
  kSuccessFlowControl,  ///< SUCCESS only without SQ flow control
  // --- responses ---
  kResponseEarly,  ///< success only after all data has moved
  kSqhd,           ///< SQHD within the queue, and among the commands sent since the last one
};
inline constexpr std::size_t kPduRules = 43;

/// What the offender did: "a CapsuleCmd <text>".
[[nodiscard]] std::string_view to_string(PduRule rule);
/// Where it says that it must not: "3.6.2.10".
[[nodiscard]] std::string_view clause(PduRule rule);

}  // namespace leap::nvme
