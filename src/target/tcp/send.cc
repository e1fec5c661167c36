#include <algorithm>
#include <array>

#include "base/mutation.h"
#include "target/core.h"
#include "target/tcp/connection.h"

namespace leap::target {

using nvme::kMaxPduHeadBytes;

/// Room in the transmit queue. It is sized for everything a host is entitled to; one that answers R2Ts it cannot have
/// seen yet may ask for more, and is closed.
bool Connection::reserve(std::size_t pieces, std::size_t header_bytes) {
  if (tx_.can_take(pieces, header_bytes)) return true;
  abort(CloseReason::kProtocolError);
  return false;
}

template <nvme::WireStruct Pdu>
void Connection::queue_head(const Pdu& pdu) {
  std::array<std::byte, kMaxPduHeadBytes> head;
  const std::size_t bytes = nvme::write_head(std::span(head), pdu);
  if (checker_ != nullptr) checker_->sent(std::span(head).first(sizeof pdu));
  tx_.copy(std::span(head).first(bytes));
}

void Connection::send_icresp() {
  queue_head(nvme::make_icresp(params_));
  shard_.poller().at_turn_end(*this);
}

/// Tags of R2Ts that are outstanding together differ: a command has max_r2ts of them to use in turn.
std::uint16_t Connection::ttag(const Request& request, std::uint32_t r2t) const {
  const std::uint32_t tags = shard_.core().subsystem->config().max_r2ts;
  return static_cast<std::uint16_t>(request.slot * tags + r2t % tags);
}

void Connection::send_r2ts(Request& request) {
  const TargetConfig& config = session_.subsystem().config();
  const std::uint32_t unit = config.max_r2t_bytes;
  const std::uint32_t allowed = std::min(config.max_r2ts, params_.maxr2t);
  while (request.requested < request.length) {
    const std::uint32_t asked = (request.requested + unit - 1) / unit;
    const std::uint32_t answered = request.received / unit;
    if (asked - answered >= allowed) break;
    if (!reserve(2, kMaxPduHeadBytes)) return;
    const std::uint32_t bytes = std::min(unit, request.length - request.requested);
    queue_head(nvme::make_r2t(request.cmd.cid, ttag(request, asked), request.requested, bytes, params_));
    request.requested += bytes;
    shard_.counters().r2ts.add();
  }
  watch_for_stall();
  shard_.poller().at_turn_end(*this);
}

void Connection::complete(Request& request) { respond(request); }

void Connection::respond(Request& request) {
  const bool dead = state_ == ConnectionState::kDraining || state_ == ConnectionState::kClosed || faulted_;
  if (!dead) {
    const nvme::Completion cqe = session_.completion(request);
    const bool sends_data = request.status.ok() && request.direction == nvme::DataDirection::kControllerToHost;
    if (sends_data) {
      if (!send_data(request, cqe)) send_capsule(cqe);
    } else {
      send_capsule(cqe);
    }
  }
  // Sending may have found out that the connection is dead, too.
  if (dead || stream_ == nullptr) {
    release(request);
    half_close_if_done();
    check_quiet();
    return;
  }
  request.enter(RequestState::kSending);
  request.sent_mark = tx_.bytes_sent() + tx_.bytes_queued();
  sending_.push_back(request);
  shard_.poller().at_turn_end(*this);
}

void Connection::send_capsule(const nvme::Completion& cqe) {
  if (stream_ != nullptr && reserve(2, kMaxPduHeadBytes)) queue_head(nvme::make_capsule_resp(cqe, params_));
}

/// True when the data says it all: the last C2HData carries SUCCESS (NVMe TCP Transport 1.0, 3.6.2.9).
bool Connection::send_data(Request& request, const nvme::Completion& cqe) {
  const TargetConfig& config = session_.subsystem().config();
  const bool wanted = config.c2h_success == C2hSuccess::kAlways ||
                      (config.c2h_success == C2hSuccess::kWithoutFlowControl && session_.flow_control_disabled());
  const bool success = wanted && cqe.dw0 == 0 && cqe.dw1 == 0;
  const std::span<const std::byte> data = request.data;
  for (std::size_t at = 0; at < data.size();) {
    const std::size_t from = LEAP_MUTATION(second_data_pdu_repeats_the_first) ? 0 : at;
    const auto part = data.subspan(from, std::min<std::size_t>(config.max_c2h_data, data.size() - at));
    if (!reserve(5, kMaxPduHeadBytes + nvme::kDigestBytes)) return true;
    const bool last = at + part.size() == data.size();
    queue_head(nvme::make_c2h_data(request.cmd.cid, static_cast<std::uint32_t>(at),
                                   static_cast<std::uint32_t>(part.size()), last, success, params_));
    tx_.reference(part, nullptr);
    if (params_.ddgst) {
      std::array<std::byte, nvme::kDigestBytes> digest;
      nvme::put_digest(digest, nvme::data_digest(part));
      tx_.copy(digest);
    }
    at += part.size();
  }
  return success;
}

void Connection::fault(const nvme::PduError& error, const nvme::PduHeader& header) {
  shard_.log_fault(nvme::pdu_error(error, header, nvme::PduDirection::kToController, peer_));
  if (!enter(ConnectionEvent::kFault)) return;
  reason_ = CloseReason::kProtocolError;
  const auto known = nvme::header_bytes(header.type);
  const std::size_t quoted = std::min(
      {std::size_t{nvme::kMaxTermReqData}, rx_.data().size(), std::max<std::size_t>(known, sizeof(nvme::PduHeader))});
  const auto term =
      nvme::make_term_req(nvme::PduDirection::kToHost, error.fes, error.fei, static_cast<std::uint32_t>(quoted));
  if (!reserve(4, sizeof term + quoted)) return;
  if (checker_ != nullptr) checker_->sent(nvme::wire::bytes_of(term));
  tx_.copy(nvme::wire::bytes_of(term));
  tx_.copy(rx_.data().first(quoted));
  faulted_ = true;
  drop_transfers();
  session_.closing(CloseReason::kProtocolError);
  watch_for_stall();
  shard_.poller().at_turn_end(*this);
}

void Connection::flush() {
  if (stream_ == nullptr) return;
  if (tx_.flush(*stream_) != 0) {
    abort(CloseReason::kPeerClosed);
    return;
  }
  while (!sending_.empty() && sending_.front().sent_mark <= tx_.bytes_sent()) release(sending_.front());
  blocked_ = !tx_.empty();
  if (blocked_) watch_for_stall();
  half_close_if_done();
  update_interest();
}

}  // namespace leap::target
