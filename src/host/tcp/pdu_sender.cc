#include "host/tcp/pdu_sender.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/mutation.h"
#include "nvme/pdu_frame.h"

namespace leap {
namespace {

/// One PDU: head (a copy counts as two pieces), payload, data digest.
constexpr std::size_t kPiecesPerPdu = 5;
constexpr std::size_t kCopiedPerPdu = nvme::kMaxPduHeadBytes + nvme::kDigestBytes;
constexpr std::size_t kMinPieces = 1024;
/// Data of R2Ts queued ahead of the wire: enough to keep the socket busy, little enough for capsules to get through.
constexpr std::size_t kDataAhead = 1024 * 1024;

std::size_t pieces_for(std::uint32_t depth) { return std::max<std::size_t>(kMinPieces, depth * kPiecesPerPdu); }

}  // namespace

template <typename T>
void PduSender::Ring<T>::push(const T& item) {
  LEAP_CHECK(size_ < items_.size(), "more waiting PDUs than the queue pair's limits allow");
  items_[(first_ + size_++) % items_.size()] = item;
}

template <typename T>
void PduSender::Ring<T>::pop() {
  first_ = (first_ + 1) % items_.size();
  --size_;
}

template <typename T>
template <typename Fn>
void PduSender::Ring<T>::erase_if(Fn&& doomed) {
  const std::size_t before = std::exchange(size_, 0);
  for (std::size_t i = 0; i < before; ++i) {
    const T item = items_[(first_ + i) % items_.size()];
    if (!doomed(item)) items_[(first_ + size_++) % items_.size()] = item;
  }
}

PduSender::PduSender(const nvme::ConnectionParams& params, std::uint32_t depth)
    : params_(params),
      tx_(pieces_for(depth), pieces_for(depth) / kPiecesPerPdu * kCopiedPerPdu),
      waiting_(depth),
      grants_(std::size_t{depth} * params.maxr2t) {}

bool PduSender::room() const { return tx_.can_take(kPiecesPerPdu, kCopiedPerPdu); }

template <typename Pdu>
void PduSender::emit_head(const Pdu& pdu) {
  std::array<std::byte, nvme::kMaxPduHeadBytes> head;
  const std::size_t bytes = nvme::write_head(head, pdu);
  if (checker_ != nullptr) checker_->sent(std::span(head).first(sizeof pdu));
  tx_.copy(std::span(head).first(bytes));
}

void PduSender::emit_payload(TcpCommand& command, std::uint32_t offset, std::uint32_t length) {
  const auto bytes = command.request().data.bytes().subspan(offset, length);
  ++command.references;
  tx_.reference(bytes, &command);
  if (!params_.ddgst) return;
  std::array<std::byte, nvme::kDigestBytes> digest;
  nvme::put_digest(digest, nvme::data_digest(bytes));
  tx_.copy(digest);
}

void PduSender::ic_req(const nvme::ConnectionParams& wanted) { emit_head(nvme::make_icreq(wanted)); }

void PduSender::capsule(TcpCommand& command, std::uint32_t in_capsule_limit) {
  if (waiting_.empty() && room()) [[likely]] {
    emit_capsule(command, in_capsule_limit);
    return;
  }
  waiting_.push({&command, in_capsule_limit});
}

void PduSender::emit_capsule(TcpCommand& command, std::uint32_t in_capsule_limit) {
  NvmeRequest& request = command.request();
  command.queued = true;
  command.tx_start = tx_.bytes_sent() + tx_.bytes_queued();
  command.in_capsule =
      request.direction == nvme::DataDirection::kHostToController && request.length <= in_capsule_limit;
  const std::uint32_t inside = command.in_capsule ? request.length : 0;
  request.command.set_sgl(command.in_capsule ? nvme::SglDescriptor::in_capsule(inside)
                                             : nvme::SglDescriptor::transport(request.length));
  emit_head(nvme::make_capsule_cmd(request.command, inside, params_));
  if (inside == 0) return;
  command.moved = inside;
  emit_payload(command, 0, inside);
}

void PduSender::grant(TcpCommand& command, std::uint16_t ttag, std::uint32_t offset, std::uint32_t length) {
  if (LEAP_MUTATION(r2t_forgotten) && offset > 0) return;
  grants_.push({&command, ttag, offset, length});
}

void PduSender::cancel_grants(TcpCommand& command) {
  if (command.grants == 0) return;
  command.grants = 0;
  // Removed for good: marks left behind would let a peer that answers early again and again fill the ring.
  grants_.erase_if([&command](const Grant& grant) { return grant.command == &command; });
}

void PduSender::emit_data(Grant& grant) {
  TcpCommand& command = *grant.command;
  const std::uint32_t length = std::min(grant.left, params_.maxh2cdata);
  const bool last = length == grant.left;
  emit_head(nvme::make_h2c_data(command.request().cid(), grant.ttag, grant.offset, length, last, params_));
  const bool shifted = LEAP_MUTATION(r2t_data_from_the_pdu_before) && grant.offset >= length;
  emit_payload(command, shifted ? grant.offset - length : grant.offset, length);
  grant.offset += length;
  grant.left -= length;
  if (last) --command.grants;
}

void PduSender::pump() {
  while (!waiting_.empty() && room()) {
    const Waiting next = waiting_.front();
    waiting_.pop();
    emit_capsule(*next.command, next.in_capsule_limit);
  }
  while (!grants_.empty() && room() && tx_.bytes_queued() < kDataAhead) {
    Grant& next = grants_.front();
    emit_data(next);
    if (next.left == 0) grants_.pop();
  }
}

int PduSender::flush(Stream& stream) {
  do {
    pump();
    if (tx_.empty()) break;
    const int error = tx_.flush(stream);
    if (error < 0) return error;
    if (!tx_.empty()) {
      blocked_ = true;
      return 0;
    }
  } while (!waiting_.empty() || !grants_.empty());
  blocked_ = false;
  return 0;
}

void PduSender::term_req(nvme::Fes fes, std::uint32_t fei, std::span<const std::byte> quoted) {
  const auto bytes = quoted.first(std::min<std::size_t>(quoted.size(), nvme::kMaxTermReqData));
  const auto towards = nvme::PduDirection::kToController;
  const auto pdu = nvme::make_term_req(towards, fes, fei, static_cast<std::uint32_t>(bytes.size()));
  if (checker_ != nullptr) checker_->sent(nvme::wire::bytes_of(pdu));
  tx_.copy(nvme::wire::bytes_of(pdu));
  tx_.copy(bytes);
}

void PduSender::clear() {
  cut_ = std::min(cut_, tx_.bytes_sent());
  tx_.clear();
  waiting_.clear();
  grants_.clear();
}

}  // namespace leap
