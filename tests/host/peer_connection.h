// PeerConnection: the target's end of one NVMe/TCP connection, for tests: cuts what the host sent into PDUs, checks it
// as a strict target would, and sends whatever a test wants, right or wrong.
#pragma once

#include <cstring>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "nvme/pdu.h"
#include "nvme/pdu_check.h"
#include "nvme/pdu_frame.h"

namespace leap::test {

/// One PDU of the host, taken apart.
struct HostPdu {
  nvme::PduHeader header;
  std::vector<std::byte> head;  // the header's bytes
  std::vector<std::byte> data;

  template <typename Pdu>
  [[nodiscard]] Pdu as() const {
    return *nvme::wire::load<Pdu>(head);
  }
  [[nodiscard]] nvme::Command command() const { return as<nvme::CapsuleCmdPdu>().cmd; }
};

class PeerConnection {
 public:
  std::vector<std::byte> in;   // from the host, not yet parsed
  std::vector<std::byte> out;  // to the host
  nvme::ConnectionParams params;
  bool ic_done = false;

  /// The next whole PDU, or nothing yet. A PDU that breaks the specification throws: the host is wrong.
  std::optional<HostPdu> next() {
    const auto frame = nvme::frame_pdu(in, nvme::PduDirection::kToController, params, ic_done);
    if (frame.state == nvme::FrameState::kInvalid) {
      throw std::runtime_error(
          "host sent a bad PDU: " +
          nvme::pdu_error(frame.error, frame.header, nvme::PduDirection::kToController, "test").message());
    }
    if (frame.state == nvme::FrameState::kNeedMore || in.size() < frame.at.total_bytes) return std::nullopt;
    HostPdu pdu;
    pdu.header = frame.header;
    const auto at = [this](std::size_t offset) { return in.begin() + static_cast<std::ptrdiff_t>(offset); };
    pdu.head.assign(in.begin(), at(frame.at.header_bytes));
    pdu.data.assign(at(frame.at.data_offset), at(frame.at.data_offset + frame.at.data_bytes));
    for (std::size_t i = frame.at.head_bytes(); i < frame.at.data_offset; ++i) {
      if (in[i] != std::byte{0}) throw std::runtime_error("padding is not zero");
    }
    if (frame.at.data_digest_bytes != 0) {
      const auto digest = std::span<const std::byte>(in).subspan(frame.at.data_offset + frame.at.data_bytes);
      if (nvme::get_digest(digest.first<nvme::kDigestBytes>()) != nvme::data_digest(pdu.data)) {
        throw std::runtime_error("host sent a wrong data digest");
      }
    }
    in.erase(in.begin(), at(frame.at.total_bytes));
    return pdu;
  }

  /// Answers ICReq with what `offered` grants of it.
  void answer_icreq(const HostPdu& pdu, const nvme::ConnectionParams& offered) {
    params = nvme::negotiate(offered, pdu.as<nvme::IcReqPdu>());
    ic_done = true;
    send(nvme::make_icresp(params));
  }

  template <typename Pdu>
  void send(const Pdu& pdu, std::span<const std::byte> data = {}) {
    std::vector<std::byte> head(nvme::kMaxPduHeadBytes + 256);
    head.resize(nvme::write_head(std::span(head), pdu));
    send_raw(head);
    send_raw(data);
    if (!data.empty() && nvme::layout_of(pdu.header).data_digest_bytes != 0) {
      std::array<std::byte, nvme::kDigestBytes> digest;
      nvme::put_digest(digest, nvme::data_digest(data));
      send_raw(digest);
    }
  }
  void send_raw(std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

  void respond(nvme::Cid cid, NvmeStatusCode status = {}, std::uint64_t result = 0) {
    nvme::Completion cqe;
    cqe.cid = cid;
    cqe.set_status(status);
    cqe.set_result64(result);
    send(nvme::make_capsule_resp(cqe, params));
  }
  void send_data(nvme::Cid cid, std::uint32_t offset, std::span<const std::byte> data, bool last, bool success) {
    const auto bytes = static_cast<std::uint32_t>(data.size());
    send(nvme::make_c2h_data(cid, offset, bytes, last, success, params), data);
  }
  void send_r2t(nvme::Cid cid, std::uint16_t ttag, std::uint32_t offset, std::uint32_t length) {
    send(nvme::make_r2t(cid, ttag, offset, length, params));
  }
};

}  // namespace leap::test
