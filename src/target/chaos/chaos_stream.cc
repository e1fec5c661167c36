#include "target/chaos/chaos_stream.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "nvme/fabrics.h"

namespace leap::target {

using nvme::PduType;

namespace {

/// How soon a full socket is tried again.
constexpr Nanos kRetry = std::chrono::milliseconds(1);
/// What an oversized R2T asks for beyond its due.
constexpr std::uint32_t kOversize = 4096;
/// Makes a CCCID or TTAG that nobody uses out of one that somebody does.
constexpr std::uint16_t kWrongId = 0x5A00;

RateLimiter& log_limit() {
  static RateLimiter limiter(10, std::chrono::seconds(1));
  return limiter;
}

ChaosOp op_of(const nvme::Command& cmd, bool io_queue) {
  if (cmd.is_fabrics()) return nvme::fctype_of(cmd) == nvme::Fctype::kConnect ? ChaosOp::kConnect : ChaosOp::kAny;
  if (io_queue) {
    switch (cmd.nvm_opcode()) {
      case nvme::NvmOpcode::kRead: return ChaosOp::kRead;
      case nvme::NvmOpcode::kWrite: return ChaosOp::kWrite;
      case nvme::NvmOpcode::kFlush: return ChaosOp::kFlush;
      default: return ChaosOp::kAny;
    }
  }
  switch (cmd.admin_opcode()) {
    case nvme::AdminOpcode::kIdentify: return ChaosOp::kIdentify;
    case nvme::AdminOpcode::kKeepAlive: return ChaosOp::kKeepAlive;
    default: return ChaosOp::kAny;
  }
}

}  // namespace

ChaosStream::ChaosStream(std::unique_ptr<Stream> inner, const ChaosControl& control)
    : inner_(std::move(inner)), control_(control), version_(control.version()), dice_(control.plan()) {
  for (std::size_t i = 0; i < dice_.plan().rules().size(); ++i) {
    const ChaosRule& rule = dice_.plan().rules()[i];
    if (rule.kind != ChaosKind::kSilence || !dice_.roll(i)) continue;
    note(rule);
    silent_ = true;
  }
}

void ChaosStream::refresh() {
  if (control_.version() == version_) return;
  version_ = control_.version();
  dice_ = ChaosDice(control_.plan());
}

void ChaosStream::note(const ChaosRule& rule) const {
  if (const auto pass = log_limit().admit()) {
    log_info("chaos: {}: {} ({} more suppressed)", inner_->peer(), rule.text, pass->suppressed);
  }
}

bool ChaosStream::concerns(const ChaosRule& rule, std::optional<nvme::Cid> cid) const {
  if (rule.queue == ChaosQueue::kIo && queue_ != Queue::kIo) return false;
  if (rule.queue == ChaosQueue::kAdmin && queue_ != Queue::kAdmin) return false;
  if (rule.op == ChaosOp::kAny) return true;
  if (!cid) return false;
  const auto known = ops_.find(cid->value());
  return known != ops_.end() && known->second == rule.op;
}

std::optional<NvmeStatusCode> ChaosStream::on_command(const nvme::Command& cmd) {
  refresh();
  if (cmd.is_fabrics() && nvme::fctype_of(cmd) == nvme::Fctype::kConnect) {
    queue_ = nvme::connect_fields(cmd).qid == nvme::kAdminQid ? Queue::kAdmin : Queue::kIo;
  }
  ops_[cmd.cid.value()] = op_of(cmd, queue_ == Queue::kIo);
  ended_early_.erase(cmd.cid.value());
  std::optional<NvmeStatusCode> status;
  for (std::size_t i = 0; i < dice_.plan().rules().size(); ++i) {
    const ChaosRule& rule = dice_.plan().rules()[i];
    if (event_of(rule.kind) != ChaosEvent::kCommand || !concerns(rule, cmd.cid) || !dice_.roll(i)) continue;
    note(rule);
    if (rule.kind == ChaosKind::kStatus) {
      status = rule.status;
    } else {
      stopped_reading_ = true;
      apply_interest();
    }
  }
  return status;
}

// --- receiving ---

ssize_t ChaosStream::readv(const iovec* iov, int count) {
  if (dead_) return -ECONNRESET;
  if (deaf()) return -EAGAIN;
  return inner_->readv(iov, count);
}

// --- sending ---

ssize_t ChaosStream::writev(const iovec* iov, int count) {
  if (dead_) return -ECONNRESET;
  ssize_t taken = 0;
  for (int i = 0; i < count; ++i) {
    taken += static_cast<ssize_t>(iov[i].iov_len);
    if (!silent_) take({static_cast<const std::byte*>(iov[i].iov_base), iov[i].iov_len});
  }
  pump();
  return dead_ ? -ECONNRESET : taken;
}

/// Cuts the stream into PDUs.
void ChaosStream::take(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    std::size_t wanted = sizeof(nvme::PduHeader);
    if (assembling_.size() >= wanted) wanted = pdu_edit::header_of(assembling_).plen;
    const std::size_t part = std::min(wanted - assembling_.size(), bytes.size());
    assembling_.insert(assembling_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(part));
    bytes = bytes.subspan(part);
    if (assembling_.size() < sizeof(nvme::PduHeader)) continue;
    if (assembling_.size() == pdu_edit::header_of(assembling_).plen) process(std::exchange(assembling_, {}));
  }
}

bool ChaosStream::may_hit(ChaosKind kind, const pdu_edit::PduBytes& pdu) const {
  const PduType type = pdu_edit::header_of(pdu).type;
  switch (kind) {
    case ChaosKind::kDelay:
    case ChaosKind::kStall:
    case ChaosKind::kReset:
    case ChaosKind::kTruncate:
    case ChaosKind::kCorruptHeader: return true;
    case ChaosKind::kDrop: return pdu_edit::is_response(pdu);
    case ChaosKind::kCorruptData:
    case ChaosKind::kSuccessEarly:
    case ChaosKind::kSuccessNoLast: return type == PduType::kC2HData;
    case ChaosKind::kDuplicateR2T:
    case ChaosKind::kOversizedR2T:
    case ChaosKind::kWrongTtag: return type == PduType::kR2T;
    case ChaosKind::kWrongCccid: return pdu_edit::command_of(pdu).has_value();
    case ChaosKind::kSilence:
    case ChaosKind::kStopReading:
    case ChaosKind::kStatus: return false;
  }
  return false;
}

void ChaosStream::process(pdu_edit::PduBytes pdu) {
  refresh();
  const std::optional<nvme::Cid> cid = pdu_edit::command_of(pdu);
  if (cid && ended_early_.contains(cid->value())) return;
  Parcel parcel{.bytes = std::move(pdu), .sent = 0, .due = now(), .then = Then::kNothing};
  bool twice = false;
  for (std::size_t i = 0; i < dice_.plan().rules().size(); ++i) {
    const ChaosRule& rule = dice_.plan().rules()[i];
    if (!may_hit(rule.kind, parcel.bytes) || !concerns(rule, cid) || !dice_.roll(i)) continue;
    note(rule);
    if (!strike(i, parcel, twice)) return;
    // A PDU that has been cut or is not one any more is not struck again.
    if (parcel.then != Then::kNothing || rule.kind == ChaosKind::kCorruptHeader) break;
  }
  if (twice) out_.push_back(parcel);
  out_.push_back(std::move(parcel));
}

bool ChaosStream::strike(std::size_t index, Parcel& parcel, bool& twice) {
  const ChaosRule& rule = dice_.plan().rules()[index];
  pdu_edit::PduBytes& pdu = parcel.bytes;
  switch (rule.kind) {
    case ChaosKind::kDelay: parcel.due = parcel.due + rule.duration; break;
    case ChaosKind::kStall:
      stalled_until_ = std::max(stalled_until_, now() + rule.duration);
      timer_->arm(stalled_until_);
      apply_interest();
      break;
    case ChaosKind::kDrop: return false;
    case ChaosKind::kReset:
    case ChaosKind::kTruncate:
      pdu.resize(pdu.size() / 2);
      parcel.then = rule.kind == ChaosKind::kReset ? Then::kReset : Then::kEnd;
      break;
    case ChaosKind::kCorruptHeader: pdu_edit::flip_header_bit(pdu, dice_.pick(index, UINT32_MAX)); break;
    case ChaosKind::kCorruptData: pdu_edit::flip_data_bit(pdu, dice_.pick(index, UINT32_MAX)); break;
    case ChaosKind::kDuplicateR2T: twice = true; break;
    case ChaosKind::kOversizedR2T: pdu_edit::add_to_r2tl(pdu, kOversize); break;
    case ChaosKind::kWrongTtag:
      pdu_edit::set_ttag(pdu, static_cast<std::uint16_t>(nvme::wire::load<nvme::R2TPdu>(pdu)->ttag ^ kWrongId));
      break;
    case ChaosKind::kWrongCccid: {
      const std::uint16_t cid = pdu_edit::command_of(pdu)->value();
      pdu_edit::set_command(pdu, nvme::Cid{static_cast<std::uint16_t>(cid ^ kWrongId)});
      break;
    }
    case ChaosKind::kSuccessEarly: {
      const std::uint16_t cid = pdu_edit::command_of(pdu)->value();
      if (pdu_edit::end_early(pdu)) ended_early_.insert(cid);
      break;
    }
    case ChaosKind::kSuccessNoLast: pdu_edit::success_without_last(pdu); break;
    case ChaosKind::kSilence:
    case ChaosKind::kStopReading:
    case ChaosKind::kStatus: break;
  }
  return true;
}

/// Sends what is due; the timer comes back for the rest.
void ChaosStream::pump() {
  while (!out_.empty() && !dead_ && !silent_) {
    Parcel& parcel = out_.front();
    const TimePoint due = std::max(parcel.due, stalled_until_);
    if (now() < due) {
      timer_->arm(due);
      return;
    }
    if (parcel.sent < parcel.bytes.size()) {
      const iovec iov{parcel.bytes.data() + parcel.sent, parcel.bytes.size() - parcel.sent};
      const ssize_t sent = inner_->writev(&iov, 1);
      if (sent == -EINTR) continue;
      if (sent == -EAGAIN) {
        timer_->arm(now() + kRetry);
        return;
      }
      if (sent < 0) return finish(Then::kReset);
      parcel.sent += static_cast<std::size_t>(sent);
      if (parcel.sent < parcel.bytes.size()) continue;
    }
    const Then then = parcel.then;
    out_.pop_front();
    if (then != Then::kNothing) return finish(then);
  }
  if (closing_ && !dead_) {
    closing_ = false;
    inner_->shutdown_write();
  }
}

void ChaosStream::finish(Then then) {
  out_.clear();
  if (then == Then::kEnd) {
    inner_->shutdown_write();
    silent_ = true;
    return;
  }
  // The connection learns it at its next call, and destroys us then.
  dead_ = true;
  if (poller_ != nullptr) poller_->heat(*pollable_);
}

void ChaosStream::shutdown_write() {
  if (dead_ || silent_) return;
  closing_ = true;
  pump();
}

// --- the poller ---

Result<> ChaosStream::attach(NvmePoller& poller, Pollable& pollable, Interest interest) {
  LEAP_TRY_VOID(inner_->attach(poller, pollable, interest));
  poller_ = &poller;
  pollable_ = &pollable;
  interest_ = interest;
  timer_.emplace(poller.timers(), &ChaosStream::wake_up, this);
  return {};
}

void ChaosStream::set_interest(Interest interest) {
  interest_ = interest;
  apply_interest();
}

void ChaosStream::apply_interest() {
  // What would be refused must not wake anybody.
  inner_->set_interest({.read = interest_.read && !deaf(), .write = interest_.write});
}

void ChaosStream::detach() {
  timer_.reset();
  poller_ = nullptr;
  inner_->detach();
}

void ChaosStream::wake_up(void* self) {
  auto& stream = *static_cast<ChaosStream*>(self);
  stream.pump();
  stream.apply_interest();
  if (!stream.deaf()) stream.poller_->heat(*stream.pollable_);
}

}  // namespace leap::target
