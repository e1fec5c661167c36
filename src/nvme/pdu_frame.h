// Cutting a byte stream into NVMe/TCP PDUs, and the digests on either side of that.
//
// frame_pdu() looks at the bytes that have arrived since the start of a PDU and says how many more it needs, or that
// the head (header and HDGST) is complete, checked and laid out, or that the peer is wrong. It keeps no state and does
// no I/O: call it again with more bytes. DATA and DDGST are the caller's to receive, at the places PduLayout names; the
// data digest is computed piecewise as data arrives. A wrong DDGST is not fatal to the connection: the command fails
// with GenericStatus::kTransientTransportError (3.5, Digest Error handling). Source: NVMe TCP Transport 1.0,
// 2, 3.3.1.1, 3.5.
//
// Threading: pure. Allocation: none.
//
//   const PduFrame frame = frame_pdu(buffered, PduDirection::kToHost, params, ic_done);
//   switch (frame.state) {
//     case FrameState::kNeedMore: receive until frame.need_bytes are buffered; break;
//     case FrameState::kReady:    auto pdu = wire::load<C2HDataPdu>(buffered);   // by frame.header.type
//                                 receive frame.at.data_bytes from frame.at.data_offset on; break;
//     case FrameState::kInvalid:  send a TermReq with frame.error; break;
//   }
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/crc32c.h"
#include "base/endian.h"
#include "nvme/pdu.h"
#include "nvme/pdu_check.h"
#include "nvme/wire.h"

namespace leap::nvme {

/// Header, header digest and padding of any PDU Leap builds fit in this.
inline constexpr std::size_t kMaxPduHeadBytes = kMaxPduHeaderBytes;

/// HDGST over the HLEN bytes of a header.
[[nodiscard]] inline std::uint32_t header_digest(std::span<const std::byte> header) { return crc32c(header); }
/// DDGST so far: pass the previous result to go on with the next piece of DATA.
[[nodiscard]] inline std::uint32_t data_digest(std::span<const std::byte> data, std::uint32_t so_far = 0) {
  return crc32c(data, so_far);
}
/// A digest as the wire carries it: 4 bytes, little-endian.
inline void put_digest(std::span<std::byte, kDigestBytes> to, std::uint32_t digest) { store_le32(to.data(), digest); }
[[nodiscard]] inline std::uint32_t get_digest(std::span<const std::byte, kDigestBytes> from) {
  return load_le32(from.data());
}

/// Writes a PDU's head: the header, HDGST when its flag is set, zeros up to the data. Returns the bytes written, which
/// is where DATA follows; 0 and nothing written when `out` is too small (kMaxPduHeadBytes always suffices).
template <WireStruct Pdu>
[[nodiscard]] std::size_t write_head(std::span<std::byte> out, const Pdu& pdu) {
  const PduLayout at = layout_of(pdu.header);
  if (out.size() < at.data_offset || at.header_bytes != sizeof(Pdu)) return 0;
  std::memcpy(out.data(), &pdu, sizeof(Pdu));
  if (at.header_digest_bytes != 0) {
    put_digest(out.subspan(sizeof(Pdu)).template first<kDigestBytes>(), header_digest(out.first(sizeof(Pdu))));
  }
  std::memset(out.data() + at.head_bytes(), 0, at.pad_bytes());
  return at.data_offset;
}

enum class FrameState : std::uint8_t { kNeedMore, kReady, kInvalid };

/// What frame_pdu() found.
struct PduFrame {
  FrameState state = FrameState::kNeedMore;
  std::uint32_t need_bytes = sizeof(PduHeader);  ///< kNeedMore: bytes, from the start of the PDU, that allow progress
  PduHeader header{};                            ///< valid once 8 bytes were there
  PduLayout at{};                                ///< kReady
  PduError error{};                              ///< kInvalid
};

/// Judges the PDU that starts at bytes[0] and travels in `direction`. `bytes` may hold less than its head or more than
/// the whole PDU. `params`: what was negotiated, or before `ic_done` what this end asks for. kReady means that the
/// common header, HDGST and the type specific fields that can be judged without knowing the command (pdu_check.h) are
/// all good.
[[nodiscard]] PduFrame frame_pdu(std::span<const std::byte> bytes, PduDirection direction,
                                 const ConnectionParams& params, bool ic_done);

}  // namespace leap::nvme
