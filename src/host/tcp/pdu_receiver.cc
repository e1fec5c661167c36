#include "host/tcp/pdu_receiver.h"

#include <algorithm>

#include "base/mutation.h"

namespace leap {
namespace {

/// Reads per call, so that one connection cannot keep a poller from the others.
constexpr unsigned kReadsPerCall = 8;
/// What is left of a payload goes straight to its place from this size on; below, copying costs less than one more
/// iovec.
constexpr std::size_t kDirectBytes = 1024;
/// From this size on payloads are expected to come in a row, and the buffer is kept out of their way: bytes that are
/// received into it have to be copied.
constexpr std::size_t kLargePayload = 16 * 1024;
constexpr std::size_t kBufferBesideLargePayload = 512;

}  // namespace

PduReceiver::PduReceiver(Handler& handler, const nvme::ConnectionParams& params, std::size_t capacity)
    : handler_(handler), params_(params), rx_(capacity), need_(sizeof(nvme::PduHeader)) {}

std::size_t PduReceiver::receive(Stream& stream) {
  std::size_t reads = 0;
  while (reads < kReadsPerCall) {
    const bool in_place = stage_ == Stage::kPayload && payload_.size() >= kDirectBytes && rx_.data().empty();
    const auto direct = in_place ? payload_ : std::span<std::byte>();
    const auto filled = rx_.fill(stream, direct, large_payload_ ? kBufferBesideLargePayload : SIZE_MAX);
    if (filled.total == -EAGAIN || filled.total == -EINTR) break;
    if (filled.total <= 0) {
      handler_.on_stream_end(static_cast<int>(-filled.total));
      return reads + 1;
    }
    ++reads;
    if (filled.direct > 0) advance_payload(filled.direct);
    if (!parse()) break;
    // Less than asked for: the stream is empty now, and asking again would be a system call for nothing.
    if (static_cast<std::size_t>(filled.total) < filled.asked) break;
  }
  return reads;
}

void PduReceiver::advance_payload(std::size_t bytes) {
  if (params_.ddgst) digest_ = nvme::data_digest(payload_.first(bytes), digest_);
  payload_ = payload_.subspan(bytes);
}

bool PduReceiver::parse() {
  for (;;) {
    switch (stage_) {
      case Stage::kHead:
        if (starved()) return true;
        if (!parse_head()) return false;
        break;
      case Stage::kSkip: {
        const std::size_t bytes = std::min(skip_, rx_.data().size());
        rx_.consume(bytes);
        skip_ -= bytes;
        if (skip_ > 0) return true;
        stage_ = Stage::kPayload;
        break;
      }
      case Stage::kPayload: {
        const std::size_t bytes = std::min(payload_.size(), rx_.data().size());
        if (bytes > 0) {
          rx_.copy_out(payload_.first(bytes));
          advance_payload(bytes);
        }
        if (!payload_.empty()) return true;
        if (params_.ddgst) {
          stage_ = Stage::kDigest;
        } else if (!end_data(true)) {
          return false;
        }
        break;
      }
      case Stage::kDigest: {
        if (rx_.data().size() < nvme::kDigestBytes) return true;
        const std::uint32_t received = nvme::get_digest(rx_.data().first<nvme::kDigestBytes>());
        rx_.consume(nvme::kDigestBytes);
        if (!end_data(received == digest_ || LEAP_MUTATION(data_digest_not_verified))) return false;
        break;
      }
    }
  }
}

bool PduReceiver::parse_head() {
  const auto bytes = rx_.data();
  const nvme::PduFrame frame = nvme::frame_pdu(bytes, nvme::PduDirection::kToHost, params_, ic_done_);
  switch (frame.state) {
    case nvme::FrameState::kNeedMore: need_ = frame.need_bytes; return true;
    case nvme::FrameState::kInvalid: {
      const std::size_t known = std::max<std::size_t>(nvme::header_bytes(frame.header.type), sizeof(nvme::PduHeader));
      const auto head = bytes.first(std::min(known, bytes.size()));
      // A header that was damaged on its way says nothing about its sender.
      if (checker_ != nullptr && frame.error.fes != nvme::Fes::kHeaderDigestError) checker_->received(head);
      handler_.on_invalid(frame.error, frame.header, head);
      return false;
    }
    case nvme::FrameState::kReady: break;
  }
  need_ = sizeof(nvme::PduHeader);
  ++pdus_;
  if (checker_ != nullptr) checker_->received(bytes.first(frame.at.header_bytes));
  return deliver(frame);
}

bool PduReceiver::deliver(const nvme::PduFrame& frame) {
  const auto bytes = rx_.data();
  switch (frame.header.type) {
    case nvme::PduType::kC2HData: return begin_data(frame);
    case nvme::PduType::kCapsuleResp: {
      const auto pdu = *nvme::wire::load<nvme::CapsuleRespPdu>(bytes);
      rx_.consume(frame.at.total_bytes);
      return handler_.on_response(pdu);
    }
    case nvme::PduType::kR2T: {
      const auto pdu = *nvme::wire::load<nvme::R2TPdu>(bytes);
      rx_.consume(frame.at.total_bytes);
      return handler_.on_r2t(pdu);
    }
    case nvme::PduType::kIcResp: {
      const auto pdu = *nvme::wire::load<nvme::IcRespPdu>(bytes);
      rx_.consume(frame.at.total_bytes);
      return handler_.on_ic_resp(pdu);
    }
    default:
      // frame_pdu() lets nothing else through in this direction. What a TermReq quotes does not matter any more.
      handler_.on_term_req(*nvme::wire::load<nvme::TermReqPdu>(bytes));
      return false;
  }
}

bool PduReceiver::begin_data(const nvme::PduFrame& frame) {
  data_pdu_ = *nvme::wire::load<nvme::C2HDataPdu>(rx_.data());
  rx_.consume(frame.at.head_bytes());
  skip_ = frame.at.pad_bytes();
  digest_ = 0;
  large_payload_ = data_pdu_.datal >= kLargePayload;
  stage_ = skip_ > 0 ? Stage::kSkip : Stage::kPayload;
  return handler_.on_data(data_pdu_, payload_);
}

bool PduReceiver::end_data(bool intact) {
  stage_ = Stage::kHead;
  return handler_.on_data_end(data_pdu_, intact);
}

}  // namespace leap
