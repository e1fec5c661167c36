#include "nvme/pdu_rules.h"

#include <array>
#include <cstddef>

namespace leap::nvme {
namespace {

struct Text {
  PduRule rule;
  std::string_view offence;
  std::string_view clause;
};

constexpr std::array<Text, kPduRules> kTexts{{
    {PduRule::kNone, "that breaks no rule", ""},
    {PduRule::kType, "of a reserved type", "NVMe TCP Transport 1.0, 3.3"},
    {PduRule::kDirection, "that travels the other way only", "NVMe TCP Transport 1.0, 3.3"},
    {PduRule::kHeaderLength, "whose HLEN is not that of its type", "NVMe TCP Transport 1.0, 3.6.2"},
    {PduRule::kPduLength, "whose PLEN does not fit its type", "NVMe TCP Transport 1.0, 3.6.2"},
    {PduRule::kDataOffset, "whose PDO lies inside the header or is not aligned", "NVMe TCP Transport 1.0, 3.6.2.2"},
    {PduRule::kHeaderDigest, "with a header digest flag other than negotiated", "NVMe TCP Transport 1.0, 3.3.1.1"},
    {PduRule::kDataDigest, "with a data digest flag other than negotiated", "NVMe TCP Transport 1.0, 3.3.1.1"},
    {PduRule::kAfterTermReq, "after a TermReq", "NVMe TCP Transport 1.0, 3.5"},
    {PduRule::kDataLength, "whose DATAL is 0 or not the length of its data", "NVMe TCP Transport 1.0, 3.6.2.8"},
    {PduRule::kUnknownCommand, "for a command that is not outstanding", "NVMe TCP Transport 1.0, 3.3.2"},
    {PduRule::kIcFirst, "before ICReq and ICResp", "NVMe TCP Transport 1.0, 3.1"},
    {PduRule::kIcOnce, "for the second time", "NVMe TCP Transport 1.0, 3.1"},
    {PduRule::kIcParameters, "with parameters out of range", "NVMe TCP Transport 1.0, 3.6.2.2 and 3.6.2.3"},
    {PduRule::kConnectFirst, "before Connect has succeeded", "NVMe Base 2.0, 6.3"},
    {PduRule::kConnectOnce, "with a second Connect", "NVMe Base 2.0, 6.3"},
    {PduRule::kAfterDisconnect, "after Disconnect", "NVMe Base 2.0, 6.4"},
    {PduRule::kCidInUse, "with the CID of an outstanding command", "NVMe Base 2.0, 3.3.3.1"},
    {PduRule::kQueueOverrun, "beyond the entries of its queue", "NVMe Base 2.0, 3.3.2.2"},
    {PduRule::kDataPointer, "with a data pointer that NVMe/TCP does not have", "NVMe TCP Transport 1.0, 3.3.2"},
    {PduRule::kInCapsuleLimit, "with more data than a capsule may carry", "NVMe TCP Transport 1.0, 3.3.1"},
    {PduRule::kInCapsuleData, "whose SGL does not describe its data", "NVMe TCP Transport 1.0, 3.3.2"},
    {PduRule::kR2TDirection, "for a command without data to send", "NVMe TCP Transport 1.0, 3.3.2.2"},
    {PduRule::kR2TLength, "for nothing or beyond the command's data", "NVMe TCP Transport 1.0, 3.6.2.10"},
    {PduRule::kR2TOrder, "whose R2TO leaves a gap or goes back", "NVMe TCP Transport 1.0, 3.6.2.10"},
    {PduRule::kMaxR2T, "beyond MAXR2T", "NVMe TCP Transport 1.0, 3.6.2.2"},
    {PduRule::kTtagInUse, "with the TTAG of an outstanding R2T", "NVMe TCP Transport 1.0, 3.6.2.10"},
    {PduRule::kUnknownTtag, "for an R2T that is not outstanding", "NVMe TCP Transport 1.0, 3.6.2.8"},
    {PduRule::kTtagCommand, "whose TTAG belongs to another command", "NVMe TCP Transport 1.0, 3.6.2.8"},
    {PduRule::kH2COrder, "whose DATAO leaves a gap or goes back", "NVMe TCP Transport 1.0, 3.6.2.8"},
    {PduRule::kH2CRange, "with data beyond its R2T", "NVMe TCP Transport 1.0, 3.6.2.8"},
    {PduRule::kMaxH2CData, "with more data than MAXH2CDATA", "NVMe TCP Transport 1.0, 3.6.2.3"},
    {PduRule::kH2CLast, "with LAST_PDU on another than the last of its R2T", "NVMe TCP Transport 1.0, 3.6.2.8"},
    {PduRule::kC2HDirection, "for a command that reads no data", "NVMe TCP Transport 1.0, 3.3.2.1"},
    {PduRule::kC2HOrder, "whose DATAO leaves a gap or goes back", "NVMe TCP Transport 1.0, 3.6.2.9"},
    {PduRule::kC2HRange, "with data beyond the command's", "NVMe TCP Transport 1.0, 3.6.2.9"},
    {PduRule::kC2HAfterLast, "after the one with LAST_PDU", "NVMe TCP Transport 1.0, 3.6.2.9"},
    {PduRule::kC2HLast, "though the last C2HData had no LAST_PDU", "NVMe TCP Transport 1.0, 3.6.2.9"},
    {PduRule::kSuccessWithoutLast, "with SUCCESS but without LAST_PDU", "NVMe TCP Transport 1.0, 3.6.2.9"},
    {PduRule::kSuccessEarly, "with SUCCESS before all data", "NVMe TCP Transport 1.0, 3.3.2.1"},
    {PduRule::kSuccessFlowControl, "with SUCCESS while SQ flow control is on", "NVMe TCP Transport 1.0, 3.3.2.1"},
    {PduRule::kResponseEarly, "with success before all data has moved", "NVMe TCP Transport 1.0, 3.3.2"},
    {PduRule::kSqhd, "with an impossible SQHD", "NVMe Base 2.0, 3.3.3.2"},
}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < kTexts.size(); ++i) {
    if (static_cast<std::size_t>(kTexts[i].rule) != i) return false;
  }
  return true;
}
static_assert(in_order(), "the table is indexed by the rule");

}  // namespace

std::string_view to_string(PduRule rule) { return kTexts[static_cast<std::size_t>(rule)].offence; }
std::string_view clause(PduRule rule) { return kTexts[static_cast<std::size_t>(rule)].clause; }

}  // namespace leap::nvme
