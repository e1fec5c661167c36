#include "target/controller.h"

#include <algorithm>

#include "target/shard.h"
#include "target/subsystem.h"

namespace leap::target {

std::string_view to_string(CloseReason reason) {
  switch (reason) {
    case CloseReason::kPeerClosed: return "peer closed";
    case CloseReason::kPeerTerminated: return "terminated by the host";
    case CloseReason::kProtocolError: return "protocol error";
    case CloseReason::kDisconnected: return "disconnected";
    case CloseReason::kHandshakeTimeout: return "no Connect in time";
    case CloseReason::kStalled: return "peer stalled";
    case CloseReason::kKeepAliveExpired: return "keep alive expired";
    case CloseReason::kControllerReset: return "controller reset";
    case CloseReason::kAssociationEnded: return "association ended";
    case CloseReason::kStopping: return "target stopping";
  }
  return "?";
}

Controller::Controller(Subsystem& subsystem, Identity identity, std::uint32_t max_io_queues, QueueRef admin)
    : subsystem_(subsystem),
      identity_(std::move(identity)),
      admin_(admin),
      write_cache_(identity_.volatile_write_cache),
      queues_(max_io_queues + 1),
      granted_(max_io_queues) {}

Controller::~Controller() { subsystem_.forget_controller(identity_.id); }

nvme::Cc Controller::cc() const {
  const std::lock_guard lock(mutex_);
  return cc_;
}

nvme::Csts Controller::csts() const {
  const std::lock_guard lock(mutex_);
  nvme::Csts csts;
  // After a reset the controller is not "not ready" before the last command of the old I/O queues is over.
  csts.set_rdy(!fatal_ && (cc_.en() || attached_ > 0));
  csts.set_cfs(fatal_);
  csts.set_shst(shutdown_);
  return csts;
}

Controller::CcOutcome Controller::write_cc(nvme::Cc value) {
  const auto invalid = nvme::status(nvme::GenericStatus::kInvalidField, nvme::kDnr);
  const std::lock_guard lock(mutex_);
  if (value.en()) {
    // What Identify and CAP offer: one command set, 4 KiB pages, round robin, standard entry sizes (0 until queues
    // exist).
    const bool sizes_ok = (value.iosqes() == nvme::Cc::kIosqes || value.iosqes() == 0) &&
                          (value.iocqes() == nvme::Cc::kIocqes || value.iocqes() == 0);
    constexpr unsigned kAmsLsb = 11;
    const bool round_robin = nvme::get_bits<kAmsLsb, 3>(value.raw) == 0;
    if (value.css() != nvme::Cc::kCssNvm || value.mps() != 0 || !round_robin || !sizes_ok)
      return {invalid, CcEffect::kNone};
  }
  const nvme::Cc before = cc_;
  CcEffect effect = CcEffect::kNone;
  if (value.en() && !before.en()) {
    if (attached_ > 0) return {nvme::status(nvme::GenericStatus::kCommandSequenceError, nvme::kDnr), CcEffect::kNone};
    shutdown_ = nvme::ShutdownStatus::kNormalOperation;
    effect = CcEffect::kEnabled;
  } else if (!value.en() && before.en()) {
    shutdown_ = nvme::ShutdownStatus::kNormalOperation;
    effect = CcEffect::kReset;
  }
  const bool asks_shutdown = value.shn() != nvme::ShutdownNotification::kNone;
  if (asks_shutdown && effect != CcEffect::kReset && shutdown_ == nvme::ShutdownStatus::kNormalOperation) {
    shutdown_ = nvme::ShutdownStatus::kOccurring;
    effect = CcEffect::kShutdown;
  }
  cc_ = value;
  update_io_allowed();
  return {std::nullopt, effect};
}

void Controller::shutdown_complete() {
  const std::lock_guard lock(mutex_);
  if (shutdown_ == nvme::ShutdownStatus::kOccurring) shutdown_ = nvme::ShutdownStatus::kComplete;
}

void Controller::set_fatal() {
  const std::lock_guard lock(mutex_);
  fatal_ = true;
  update_io_allowed();
}

void Controller::update_io_allowed() {
  io_allowed_.store(cc_.en() && !fatal_ && !gone_ && shutdown_ == nvme::ShutdownStatus::kNormalOperation,
                    std::memory_order_relaxed);
}

bool Controller::take_activity() {
  bool active = false;
  for (QueueSlot& queue : queues_) {
    if (!queue.active.load(std::memory_order_relaxed)) continue;
    queue.active.store(false, std::memory_order_relaxed);
    active = true;
  }
  return active;
}

std::optional<std::uint32_t> Controller::negotiate_queues(std::uint32_t wanted) {
  const std::lock_guard lock(mutex_);
  if (attached_ > 0) return std::nullopt;
  granted_ = std::clamp<std::uint32_t>(wanted, 1, static_cast<std::uint32_t>(queues_.size() - 1));
  return granted_;
}

std::uint32_t Controller::granted_queues() const {
  const std::lock_guard lock(mutex_);
  return granted_;
}

Controller::Attach Controller::attach_queue(nvme::Qid qid, QueueRef where) {
  const std::lock_guard lock(mutex_);
  if (gone_ || fatal_) return Attach::kGone;
  if (!cc_.en() || shutdown_ != nvme::ShutdownStatus::kNormalOperation) return Attach::kNotReady;
  if (cc_.iosqes() != nvme::Cc::kIosqes || cc_.iocqes() != nvme::Cc::kIocqes) return Attach::kNotReady;
  if (qid.value() == 0 || qid.value() > granted_) return Attach::kBeyondLimit;
  QueueSlot& queue = queues_[qid.value()];
  if (queue.attached) return Attach::kTaken;
  queue.attached = true;
  queue.where = where;
  ++attached_;
  return Attach::kOk;
}

void Controller::detach_queue(nvme::Qid qid) {
  const std::lock_guard lock(mutex_);
  QueueSlot& queue = queues_[qid.value()];
  if (!queue.attached) return;
  queue.attached = false;
  --attached_;
}

std::uint32_t Controller::io_queues() const {
  const std::lock_guard lock(mutex_);
  return attached_;
}

bool Controller::has_queue(nvme::Qid qid) const {
  const std::lock_guard lock(mutex_);
  return qid.value() == 0 || (qid.value() < queues_.size() && queues_[qid.value()].attached);
}

void Controller::close_io_queues(CloseReason reason, Shard* sender) {
  std::vector<QueueRef> targets;
  {
    const std::lock_guard lock(mutex_);
    for (const QueueSlot& queue : queues_) {
      if (queue.attached) targets.push_back(queue.where);
    }
  }
  for (const QueueRef& queue : targets) queue.shard->close_connection(queue.connection, reason, sender);
}

void Controller::end(CloseReason reason, Shard* sender) {
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    update_io_allowed();
  }
  close_io_queues(reason, sender);
}

}  // namespace leap::target
