#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/mutation.h"
#include "target/core.h"
#include "target/tcp/connection.h"

namespace leap::target {

using nvme::Fes;
using nvme::PduError;

namespace {

/// While large payload is due, little goes into the buffer: its header is enough, the rest is received in place.
constexpr std::size_t kHeaderRead = 4096;

/// What must be buffered before a PDU with a good head is handled: capsules whole, of H2CData all but the data.
std::size_t needed_now(const nvme::PduFrame& frame) {
  switch (frame.header.type) {
    case nvme::PduType::kCapsuleCmd: return frame.at.total_bytes;
    case nvme::PduType::kH2CData: return frame.at.data_offset;
    default: return frame.at.head_bytes();
  }
}

}  // namespace

bool Connection::receive_once() {
  if (state_ == ConnectionState::kLingering) rx_.consume(rx_.data().size());  // nobody listens any more
  std::span<std::byte> direct;
  if (payload_.remaining > 0) {
    direct = payload_.request->data.subspan(payload_.request->received, payload_.remaining);
  }
  const auto filled = rx_.fill(*stream_, direct, awaiting_data_ > 0 ? kHeaderRead : SIZE_MAX);
  if (filled.total <= 0) {
    if (filled.total == -EAGAIN || filled.total == -EINTR) return false;
    abort(CloseReason::kPeerClosed);
    return false;
  }
  bytes_received_ += static_cast<std::uint64_t>(filled.total);
  if (filled.direct > 0) account_payload(filled.direct);
  parse();
  return true;
}

void Connection::parse() {
  while (taking_commands()) {
    const bool progress = payload_.request != nullptr ? take_payload() : parse_pdu();
    if (!progress) return;
  }
}

void Connection::show_received(const nvme::PduFrame& frame) {
  // A header that was damaged on its way says nothing about its sender.
  if (frame.state == nvme::FrameState::kInvalid && frame.error.fes == Fes::kHeaderDigestError) return;
  const std::size_t known = std::max<std::size_t>(nvme::header_bytes(frame.header.type), sizeof frame.header);
  checker_->received(rx_.data().first(std::min(known, rx_.data().size())));
}

/// Handles the PDU at the front of the buffer; false when more bytes are needed.
bool Connection::parse_pdu() {
  if (rx_.data().empty()) return false;
  const bool ic_done = state_ != ConnectionState::kHandshake;
  const nvme::PduFrame frame = nvme::frame_pdu(rx_.data(), nvme::PduDirection::kToController, params_, ic_done);
  if (frame.state == nvme::FrameState::kNeedMore) return false;
  // Data in a capsule is waited for, and so is padding: the head is framed again when more is here.
  const bool whole = frame.state == nvme::FrameState::kInvalid || rx_.data().size() >= needed_now(frame);
  if (!whole) return false;
  if (checker_ != nullptr) show_received(frame);
  if (frame.state == nvme::FrameState::kInvalid) {
    fault(frame.error, frame.header);
    return true;
  }
  switch (frame.header.type) {
    case nvme::PduType::kIcReq: on_icreq(frame); return true;
    case nvme::PduType::kH2CTermReq: on_term_req(); return true;
    case nvme::PduType::kCapsuleCmd: on_capsule(frame); return true;
    case nvme::PduType::kH2CData: on_h2c_data(frame); return true;
    default: fault(nvme::bad_field(nvme::pdu_field::kType), frame.header); return true;
  }
}

void Connection::on_icreq(const nvme::PduFrame& frame) {
  const auto pdu = *nvme::wire::load<nvme::IcReqPdu>(rx_.data());
  rx_.consume(frame.at.total_bytes);
  params_ = nvme::negotiate(params_, pdu);
  enter(ConnectionEvent::kIcDone);
  allocate_queue();
  send_icresp();
}

void Connection::on_term_req() {
  if (const auto pdu = nvme::wire::load<nvme::TermReqPdu>(rx_.data())) {
    log_info("target: {} terminated the connection: {}", peer_,
             nvme::to_string(static_cast<Fes>(pdu->fes), nvme::PduDirection::kToController));
  }
  abort(CloseReason::kPeerTerminated);
}

void Connection::on_capsule(const nvme::PduFrame& frame) {
  const std::span<const std::byte> pdu = rx_.data().first(frame.at.total_bytes);
  // A host may not have more commands outstanding than its queue has entries; before Connect there is no queue.
  const std::size_t limit = session_.connected() ? session_.entries() : slots_->count();
  Request* request = slots_->used() < limit ? slots_->take() : nullptr;
  if (request == nullptr) {
    fault({Fes::kPduSequenceError, 0}, frame.header);
    return;
  }
  std::memcpy(&request->cmd, pdu.data() + offsetof(nvme::CapsuleCmdPdu, cmd), sizeof request->cmd);
  request->capsule_bytes = frame.at.data_bytes;
  if (chaos_ != nullptr) request->refused = chaos_->on_command(request->cmd).value_or(NvmeStatusCode{});
  if (frame.at.data_digest_bytes != 0) {
    const auto data = pdu.subspan(frame.at.data_offset, frame.at.data_bytes);
    const std::uint32_t expected = load_le32(pdu.data() + frame.at.data_offset + frame.at.data_bytes);
    request->digest_failed = nvme::data_digest(data) != expected;
    if (request->digest_failed) shard_.counters().digest_errors.add();
  }
  const std::byte* data = pdu.data() + frame.at.data_offset;
  switch (session_.begin(*request)) {
    case Step::kPending: break;
    case Step::kComplete: respond(*request); break;
    case Step::kReceive:
      if (!request->in_capsule) {
        start_receiving(*request);
        break;
      }
      std::memcpy(request->data.data(), data + request->capsule_offset, request->length);
      request->received = request->length;
      execute(*request);
      break;
    case Step::kAwaitBuffer:
      if (!request->in_capsule) break;
      request->page = std::make_unique<std::byte[]>(request->length);
      std::memcpy(request->page.get(), data + request->capsule_offset, request->length);
      break;
  }
  // The command may have closed the connection: the bytes are still ours to drop.
  rx_.consume(frame.at.total_bytes);
}

void Connection::buffer_ready(Request& request) {
  LEAP_DCHECK(state_ == ConnectionState::kReady, "memory for a request whose data nobody reads");
  if (!request.in_capsule) {
    start_receiving(request);
    return;
  }
  std::memcpy(request.data.data(), request.page.get(), request.length);
  request.page.reset();
  request.received = request.length;
  execute(request);
}

void Connection::start_receiving(Request& request) {
  request.enter(RequestState::kReceiving);
  ++awaiting_data_;
  send_r2ts(request);
}

void Connection::on_h2c_data(const nvme::PduFrame& frame) {
  const auto pdu = *nvme::wire::load<nvme::H2CDataPdu>(rx_.data());
  Request* request = slots_->at(pdu.ttag / session_.subsystem().config().max_r2ts);
  const auto refuse = [&](const PduError& error) { fault(error, frame.header); };
  if (request == nullptr || request->state != RequestState::kReceiving) {
    return refuse(nvme::bad_field(nvme::pdu_field::kTtag));
  }
  if (pdu.cccid != request->cmd.cid) return refuse(nvme::bad_field(nvme::pdu_field::kCccid));
  // In order, and only what an R2T asked for.
  const std::uint32_t r2t = session_.subsystem().config().max_r2t_bytes;
  const std::uint32_t r2t_end = std::min(request->length, (request->received / r2t + 1) * r2t);
  if (pdu.datao != request->received || pdu.datal > r2t_end - request->received || r2t_end > request->requested) {
    return refuse({Fes::kDataTransferOutOfRange, 0});
  }
  if (pdu.ttag != ttag(*request, request->received / r2t)) return refuse(nvme::bad_field(nvme::pdu_field::kTtag));
  if (frame.header.last_pdu() != (pdu.datao + pdu.datal == r2t_end)) {
    return refuse(nvme::bad_field(nvme::pdu_field::kFlags));
  }
  rx_.consume(frame.at.data_offset);
  payload_ = {.request = request, .remaining = pdu.datal, .digest_bytes = frame.at.data_digest_bytes, .digest = 0};
}

/// Goes on with the H2CData PDU that is arriving; false when more bytes are needed.
bool Connection::take_payload() {
  Request& request = *payload_.request;
  if (payload_.remaining > 0) {
    const std::size_t copied = rx_.copy_out(request.data.subspan(request.received, payload_.remaining));
    account_payload(copied);
    if (payload_.remaining > 0) return false;
  }
  if (payload_.digest_bytes > 0) {
    if (rx_.data().size() < payload_.digest_bytes) return false;
    if (load_le32(rx_.data().data()) != payload_.digest && !LEAP_MUTATION(host_digest_not_verified)) {
      request.digest_failed = true;
      shard_.counters().digest_errors.add();
    }
    rx_.consume(payload_.digest_bytes);
  }
  payload_ = {};
  if (request.received == request.length)
    all_received(request);
  else
    send_r2ts(request);
  return true;
}

void Connection::account_payload(std::size_t bytes) {
  Request& request = *payload_.request;
  if (payload_.digest_bytes > 0) {
    payload_.digest = nvme::data_digest(request.data.subspan(request.received, bytes), payload_.digest);
  }
  request.received += static_cast<std::uint32_t>(bytes);
  payload_.remaining -= static_cast<std::uint32_t>(bytes);
}

void Connection::all_received(Request& request) {
  --awaiting_data_;
  if (request.digest_failed) {
    request.fail(nvme::status(nvme::GenericStatus::kTransientTransportError));
    respond(request);
    return;
  }
  execute(request);
}

void Connection::execute(Request& request) {
  if (session_.execute(request) == Step::kComplete) respond(request);
}

}  // namespace leap::target
