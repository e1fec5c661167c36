#include "nvme/pdu_frame.h"

#include <optional>

namespace leap::nvme {
namespace {

/// Type specific checks; the whole header is in `bytes`.
std::optional<PduError> check_specific(std::span<const std::byte> bytes, PduType type, const ConnectionParams& params) {
  switch (type) {
    case PduType::kIcReq: return check_icreq(*wire::load<IcReqPdu>(bytes));
    case PduType::kIcResp: return check_icresp(*wire::load<IcRespPdu>(bytes), params);
    case PduType::kH2CData: return check_data_range(*wire::load<H2CDataPdu>(bytes));
    case PduType::kC2HData: return check_data_range(*wire::load<C2HDataPdu>(bytes));
    case PduType::kR2T: return check_r2t(*wire::load<R2TPdu>(bytes));
    case PduType::kH2CTermReq:
    case PduType::kC2HTermReq:
    case PduType::kCapsuleCmd:
    case PduType::kCapsuleResp: break;
  }
  return std::nullopt;
}

}  // namespace

PduFrame frame_pdu(std::span<const std::byte> bytes, PduDirection direction, const ConnectionParams& params,
                   bool ic_done) {
  PduFrame frame;
  const auto header = wire::load<PduHeader>(bytes);
  if (!header) return frame;
  frame.header = *header;
  const auto fail = [&frame](const PduError& error) {
    frame.state = FrameState::kInvalid;
    frame.error = error;
  };
  if (const auto error = validate_pdu_header(*header, direction, params, ic_done)) {
    fail(*error);
    return frame;
  }
  const PduLayout at = layout_of(*header);
  if (bytes.size() < at.head_bytes()) {
    frame.need_bytes = at.head_bytes();
    return frame;
  }
  if (at.header_digest_bytes != 0) {
    const std::uint32_t received = load_le32(bytes.data() + at.header_bytes);
    if (received != header_digest(bytes.first(at.header_bytes))) {
      fail({Fes::kHeaderDigestError, received});
      return frame;
    }
  }
  if (const auto error = check_specific(bytes, header->type, params)) {
    fail(*error);
    return frame;
  }
  frame.state = FrameState::kReady;
  frame.need_bytes = at.head_bytes();
  frame.at = at;
  return frame;
}

}  // namespace leap::nvme
