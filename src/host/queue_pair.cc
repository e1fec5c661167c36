#include "host/queue_pair.h"

#include <bit>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/mutation.h"
#include "base/units.h"
#include "host/describe.h"
#include "nvme/status.h"

namespace leap {

using nvme::DataDirection;

QueuePair::QueuePair(NvmePoller& poller, Config config)
    : poller_(poller),
      config_(std::move(config)),
      deadline_timer_(poller.timers(), &QueuePair::on_deadline, this),
      idle_(poller) {
  LEAP_CHECK(config_.depth >= 1 && config_.depth <= kMaxDepth, fmt::format("queue depth {}", config_.depth));
  const std::uint32_t slots = std::bit_ceil(config_.depth);
  index_mask_ = slots - 1;
  generations_ = 65536 / slots;
  requests_ = std::make_unique<NvmeRequest[]>(config_.depth);
  free_.reserve(config_.depth);
  for (std::uint32_t i = config_.depth; i-- > 0;) {
    requests_[i].index = static_cast<std::uint16_t>(i);
    free_.push_back(static_cast<std::uint16_t>(i));
  }
}

QueuePair::~QueuePair() {
  LEAP_CHECK(state_ == QueuePairState::kClosed, fmt::format("{} destroyed while {}", config_.name, to_string(state_)));
}

std::optional<Error> QueuePair::refusal(const Submission& submission) const {
  const bool takes_commands =
      state_ == QueuePairState::kLive || (state_ == QueuePairState::kDraining && admit_farewell_);
  if (!takes_commands) {
    const std::string why = failure_ ? ": " + failure_->message() : std::string();
    return Error(Errc::kClosed, fmt::format("{}: queue pair is {}{}", config_.name, to_string(state_), why))
        .in(ErrorDomain::kTransport)
        .with_scope(ErrorScope::kQueuePair)
        .retryable_if(true);
  }
  if (submission.data.size() > config_.max_transfer) {
    return Error(Errc::kInvalidArgument, fmt::format("{}: {} bytes, the controller takes {} per command", config_.name,
                                                     submission.data.size(), config_.max_transfer));
  }
  const bool wants_data = submission.direction != DataDirection::kNone;
  if (submission.direction == DataDirection::kBidirectional || wants_data != (submission.data.size() > 0)) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("{}: data direction {} with a buffer of {} bytes", config_.name,
                             static_cast<unsigned>(submission.direction), submission.data.size()));
  }
  return std::nullopt;
}

void QueuePair::refuse(Submission& submission, Error error) {
  probe_.failed.add();
  CommandResult result;
  result.status = std::move(error).context(describe(submission.command, config_.qid == nvme::kAdminQid));
  result.data = std::move(submission.data);
  submission.on_done(std::move(result));
}

void QueuePair::submit(Submission& submission) {
  LEAP_DCHECK(!submission.pending(), "submitted twice");
  if (auto error = refusal(submission); error) [[unlikely]] {
    refuse(submission, std::move(*error));
    return;
  }
  admit_farewell_ = false;
  // A newcomer never overtakes: a free slot belongs to the oldest waiter.
  if (free_.empty() || !waiting_.empty()) {
    probe_.slot_waits.add();
    waiting_.push_back(submission);
    return;
  }
  start(submission);
}

void QueuePair::start(Submission& submission) {
  NvmeRequest& request = requests_[free_.back()];
  free_.pop_back();
  request.busy = true;
  request.command = submission.command;
  request.data = std::move(submission.data);
  request.length = static_cast<std::uint32_t>(request.data.size());
  request.direction = submission.direction;
  request.unlimited = submission.unlimited;
  request.submission = &submission;
  submission.request_ = &request;

  // FFFFh is not a command id (it stands for "no command" in the error log), so that generation is skipped.
  const auto cid_of = [&] {
    return static_cast<std::uint16_t>(request.index | request.generation * (index_mask_ + 1));
  };
  if (nvme::Cid{cid_of()} == nvme::kNoCid) request.generation = 0;
  request.command.cid = nvme::Cid{cid_of()};

  ++outstanding_;
  if (request.unlimited) {
    ++unlimited_;
  } else {
    request.deadline = poller_.now() + config_.command_timeout;
    in_flight_.push_back(request);
    if (!deadline_timer_.armed() && !LEAP_MUTATION(no_deadline)) deadline_timer_.arm(request.deadline);
  }
  probe_.submitted.add();
  probe_.outstanding.set(outstanding_);
  transmit(request);
}

void QueuePair::complete(NvmeRequest& request, const nvme::Completion& completion) {
  probe_.completed.add();
  CommandResult result;
  result.dw0 = completion.dw0;
  result.data = std::move(request.data);
  if (completion.ok()) [[likely]] {
    if (request.direction == DataDirection::kControllerToHost) probe_.read_bytes.add(request.length);
    if (request.direction == DataDirection::kHostToController) probe_.written_bytes.add(request.length);
    result.status = completion;
  } else {
    probe_.status_errors.add();
    const auto family = request.command.is_fabrics() ? nvme::CommandFamily::kFabrics : nvme::CommandFamily::kNvm;
    const bool admin = config_.qid == nvme::kAdminQid;
    result.status = nvme::status_error(completion.status(),
                                       fmt::format("{}: {}", config_.name, describe(request.command, admin)), family);
  }
  finish(request, std::move(result));
}

void QueuePair::complete_corrupt(NvmeRequest& request) {
  probe_.completed.add();
  CommandResult result;
  result.data = std::move(request.data);
  result.status =
      Error(Errc::kCorrupt, fmt::format("{}: {}: the data arrived damaged (data digest does not match)", config_.name,
                                        describe(request.command, config_.qid == nvme::kAdminQid)))
          .in(ErrorDomain::kTransport)
          .with_scope(ErrorScope::kCommand)
          .retryable_if(true)
          .maybe_executed();
  finish(request, std::move(result));
}

void QueuePair::finish(NvmeRequest& request, CommandResult result) {
  Submission* submission = std::exchange(request.submission, nullptr);
  if (submission != nullptr) submission->request_ = nullptr;
  // Answered after all: whatever it did, it has done.
  if (request.fence != nullptr) std::exchange(request.fence, nullptr)->pass_at(poller_.now());
  release(request);
  if (LEAP_MUTATION(waiter_for_a_slot_forgotten) && !waiting_.empty() && waiting_.front().data.size() == 0)
    waiting_.pop_front();
  if (Submission* next = waiting_.pop_front(); next != nullptr) start(*next);
  if (state_ == QueuePairState::kDraining && drained()) idle_.set();
  // Last: it may submit, or tear the queue pair down.
  if (submission != nullptr) submission->on_done(std::move(result));
}

void QueuePair::release(NvmeRequest& request) {
  request.unlink();
  request.busy = false;
  if (!LEAP_MUTATION(late_answer_accepted))
    request.generation = static_cast<std::uint16_t>((request.generation + 1U) % generations_);
  free_.push_back(request.index);
  --outstanding_;
  if (request.unlimited) --unlimited_;
  probe_.outstanding.set(outstanding_);
}

void QueuePair::arm_deadline() {
  TimePoint next = TimePoint::max();
  if (!in_flight_.empty()) next = in_flight_.front().deadline;
  if (!expired_.empty()) next = std::min(next, expired_.front().deadline);
  if (next != TimePoint::max()) deadline_timer_.arm(next);
}

// The first rung of the ladder: the caller has waited long enough, the command is to be aborted. Slot and buffer stay
// with it until the controller has answered it or the connection is gone.
void QueuePair::expire(NvmeRequest& request) {
  request.unlink();
  request.deadline = poller_.now() + config_.abort_timeout;
  expired_.push_back(request);
  arm_deadline();
  probe_.failed.add();
  Submission* const submission = std::exchange(request.submission, nullptr);
  request.fence = std::make_shared<EffectFence>();
  observer_->on_command_expired(*this, request.cid());
  if (submission == nullptr) return;
  submission->request_ = nullptr;
  CommandResult result;
  result.fence = request.fence;
  result.status = error_for(request, Error(Errc::kTimedOut, fmt::format("no answer within {}; aborting the command",
                                                                        format_duration(config_.command_timeout)))
                                         .in(ErrorDomain::kTransport)
                                         .with_scope(ErrorScope::kCommand));
  submission->on_done(std::move(result));  // last: it may tear the queue pair down
}

void QueuePair::on_deadline(void* self) {
  auto& queue_pair = *static_cast<QueuePair*>(self);
  const TimePoint now = queue_pair.poller_.now();
  const auto give_up = [&queue_pair](std::string what, NvmeRequest* culprit) {
    queue_pair.tear_down(QueuePairEvent::kExpired,
                         Error(Errc::kTimedOut, std::move(what))
                             .in(ErrorDomain::kTransport)
                             .with_scope(ErrorScope::kQueuePair)
                             .retryable_if(true),
                         culprit);
  };
  if (!queue_pair.expired_.empty() && queue_pair.expired_.front().deadline <= now) {
    NvmeRequest& lost = queue_pair.expired_.front();
    give_up(fmt::format("{} did not end within {} of its Abort",
                        describe(lost.command, queue_pair.config_.qid == nvme::kAdminQid),
                        format_duration(queue_pair.config_.abort_timeout)),
            &lost);
    return;
  }
  // All deadlines are equally long, so the list is in their order, and one timer, armed for whoever was oldest at the
  // time, serves every command. One expires per turn: whoever is told may do anything.
  if (queue_pair.in_flight_.empty() || queue_pair.in_flight_.front().deadline > now) {
    queue_pair.arm_deadline();
    return;
  }
  NvmeRequest& oldest = queue_pair.in_flight_.front();
  queue_pair.probe_.timeouts.add();
  if (LEAP_MUTATION(timeout_gives_the_buffer_away) || LEAP_MUTATION(late_answer_accepted)) {
    queue_pair.finish(oldest, {.status = Error(Errc::kTimedOut, "alone").maybe_executed(), .data = {}, .fence = {}});
    queue_pair.arm_deadline();
    return;
  }
  if (queue_pair.config_.abort_timeout > Nanos{0} && queue_pair.observer_ != nullptr) {
    queue_pair.expire(oldest);
    return;
  }
  give_up(fmt::format("no answer within {}", format_duration(queue_pair.config_.command_timeout)), &oldest);
}

void QueuePair::fail(Error cause) { tear_down(QueuePairEvent::kFault, std::move(cause), nullptr); }

void QueuePair::close() {
  tear_down(QueuePairEvent::kClose,
            Error(Errc::kCancelled, "queue pair closed").in(ErrorDomain::kTransport).with_scope(ErrorScope::kQueuePair),
            nullptr);
  sever();
}

void QueuePair::tear_down(QueuePairEvent event, Error cause, NvmeRequest* expired) {
  if (state_ == QueuePairState::kFailed || state_ == QueuePairState::kClosed) return;
  move(event);
  deadline_timer_.cancel();
  if (event != QueuePairEvent::kClose) failure_ = cause;
  const bool quiet = quiesce(cause);
  fail_pending(cause, expired);
  if (quiet) quiesced();
  idle_.set();
  if (event != QueuePairEvent::kClose && observer_ != nullptr) observer_->on_queue_pair_failed(*this);
}

Error QueuePair::error_for(const NvmeRequest& request, const Error& cause) const {
  const bool admin = config_.qid == nvme::kAdminQid;
  return Error(cause)
      .context(fmt::format("{}: {}", config_.name, describe(request.command, admin)))
      .maybe_executed(may_have_reached_peer(request));
}

void QueuePair::fail_pending(const Error& cause, NvmeRequest* expired) {
  // Only one command has run out of time; what shared the queue pair with it is collateral.
  const Error collateral =
      expired == nullptr ? cause
                         : Error(Errc::kClosed, "queue pair torn down: another command on it got " + cause.message())
                               .in(ErrorDomain::kTransport)
                               .with_scope(ErrorScope::kQueuePair)
                               .retryable_if(true);
  for (std::uint32_t i = 0; i < config_.depth; ++i) {
    NvmeRequest& request = requests_[i];
    Submission* submission = request.busy ? std::exchange(request.submission, nullptr) : nullptr;
    if (submission == nullptr) continue;
    probe_.failed.add();
    submission->request_ = nullptr;
    CommandResult result;
    result.status = error_for(request, &request == expired ? cause : collateral);
    submission->on_done(std::move(result));
  }
  while (Submission* submission = waiting_.pop_front()) refuse(*submission, Error(collateral).context(config_.name));
}

void QueuePair::quiesced() {
  if (state_ != QueuePairState::kFailed) return;
  move(QueuePairEvent::kQuiesced);
  release_orphans();
}

void QueuePair::release_orphans() {
  for (std::uint32_t i = 0; i < config_.depth; ++i) {
    NvmeRequest& request = requests_[i];
    if (!request.busy) continue;
    if (LEAP_MUTATION(orphan_never_released)) continue;
    request.data.reset();
    request.fence.reset();  // whoever waits for it waits for the association's end
    release(request);
  }
}

void QueuePair::on_drain_deadline(void* self) {
  auto& queue_pair = *static_cast<QueuePair*>(self);
  const auto message =
      fmt::format("{} commands did not finish before the deadline of the shutdown", queue_pair.expected());
  queue_pair.tear_down(QueuePairEvent::kExpired,
                       Error(Errc::kTimedOut, message).in(ErrorDomain::kTransport).with_scope(ErrorScope::kQueuePair),
                       nullptr);
}

Task<Result<>> QueuePair::drain(TimePoint deadline, std::optional<nvme::Command> farewell) {
  if (state_ == QueuePairState::kConnecting) close();
  move(QueuePairEvent::kDrain);
  Timer timer(poller_.timers(), &QueuePair::on_drain_deadline, this);
  timer.arm(deadline);
  if (state_ == QueuePairState::kDraining && !drained()) co_await idle_.wait();
  if (state_ == QueuePairState::kDraining && farewell) {
    admit_farewell_ = true;
    CommandResult said = co_await execute(*farewell);
    if (!said.status.ok()) log_debug("{}: {}", config_.name, said.status.error().message());
  }
  if (failure_) co_return Error(*failure_).context(config_.name);
  co_return Result<>{};
}

}  // namespace leap
