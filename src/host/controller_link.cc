#include "host/controller_link.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/scope_exit.h"
#include "base/units.h"
#include "host/resolve.h"

namespace leap {
namespace {

constexpr Nanos kLongestDelay = std::chrono::hours(1);

void set_event(void* event) { static_cast<AsyncEvent*>(event)->set(); }

Result<> check(const char* field, Nanos value, Nanos least, Nanos most) {
  if (value >= least && value <= most) return {};
  return Error(Errc::kInvalidArgument, fmt::format("{} is {}, must be {} to {}", field, format_duration(value),
                                                   format_duration(least), format_duration(most)))
      .in(ErrorDomain::kConfig);
}

}  // namespace

Result<> LinkConfig::validate() const {
  constexpr Nanos kMs = std::chrono::milliseconds(1);
  LEAP_TRY_VOID(check("reconnect_delay", reconnect_delay, kMs, kLongestDelay));
  LEAP_TRY_VOID(check("reconnect_delay_max", reconnect_delay_max, reconnect_delay, kLongestDelay));
  LEAP_TRY_VOID(check("ctrl_loss_timeout", ctrl_loss_timeout, Nanos{0}, 24 * kLongestDelay));
  return check("reset_timeout", reset_timeout, kMs, kLongestDelay);
}

ControllerLink::ControllerLink(NvmePoller& home, Net& net, LinkConfig config, AsyncSemaphore& connects,
                               BlockingPool* resolver)
    : home_(home),
      net_(net),
      config_(std::move(config)),
      connects_(connects),
      resolver_(resolver),
      first_attempt_(home),
      wake_(home),
      finished_(home),
      rng_(config_.seed != 0 ? config_.seed : entropy_seed()) {}

ControllerLink::~ControllerLink() = default;

void ControllerLink::move(LinkEvent event) {
  state_.store(next_state(state_.load(std::memory_order_relaxed), event), std::memory_order_release);
}

std::string ControllerLink::name() const {
  return fmt::format("{} at {}", config_.controller.address.subnqn, config_.controller.address.endpoint());
}

std::optional<Error> ControllerLink::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void ControllerLink::set_failure(Error cause) {
  const std::lock_guard lock(mutex_);
  failure_ = std::move(cause);
}

std::shared_ptr<NvmeController> ControllerLink::association() const {
  const std::lock_guard lock(mutex_);
  return association_;
}

void ControllerLink::start() {
  LEAP_CHECK(!std::exchange(started_, true), "a link is started once");
  down_since_ = home_.clock().now();
  home_.spawn(run(*this));
}

bool ControllerLink::patience_is_over() const {
  return config_.ctrl_loss_timeout > Nanos{0} && home_.clock().now() - down_since_ >= config_.ctrl_loss_timeout;
}

Task<void> ControllerLink::run(ControllerLink& link) {
  while (!link.closing_) {
    const Result<> up = co_await link.attempt();
    if (link.closing_) {
      if (up.ok()) co_await link.drop_association();
      break;
    }
    if (up.ok()) {
      link.first_attempt_.set();
      while (!link.lost_ && !link.closing_) {
        co_await link.wake_.wait();
        link.wake_.reset();
      }
      if (link.closing_) break;
      co_await link.end_association();
      continue;
    }
    link.probe_.failed_attempts.add();
    link.set_failure(up.error());
    link.move(LinkEvent::kFailedToConnect);
    link.first_attempt_.set();
    if (link.patience_is_over()) {
      link.move(LinkEvent::kGaveUp);
      log_error("{}: lost: no connection for {}: {}", link.name(), format_duration(link.config_.ctrl_loss_timeout),
                up.error().message());
      break;
    }
    co_await link.pause();
  }
  link.first_attempt_.set();
  link.finished_.set();
}

Task<Result<>> ControllerLink::attempt() {
  co_await connects_.acquire();
  const auto turn = defer([this] { connects_.release(); });
  if (closing_) co_return Error(Errc::kCancelled, "closing");
  ControllerConfig config = config_.controller;
  if (resolver_ != nullptr && !socket_address(config.address).ok()) {
    const auto resolve = [address = config.address] { return resolve_address(address); };
    LEAP_CO_TRY(config.address, co_await resolver_->run(home_, resolve));
  }
  auto connected = co_await NvmeController::connect(home_, memory_.pool(), net_, std::move(config));
  if (!connected.ok()) co_return std::move(connected).error();
  adopt(std::move(connected).value());
  co_return Result<>{};
}

void ControllerLink::adopt(std::unique_ptr<NvmeController> controller) {
  std::shared_ptr<NvmeController> association = std::move(controller);
  {
    const std::lock_guard lock(mutex_);
    association_ = association;
  }
  lost_ = false;
  wake_.reset();
  probe_.connects.add();
  if (state() == LinkState::kReconnecting) {
    log_info("{}: connected again after {} and {} failed attempts", name(),
             format_duration(home_.clock().now() - down_since_), failures_);
  }
  failures_ = 0;
  const auto tell = [this](NvmeController& who) {
    if (listener_ != nullptr) listener_->on_namespaces(*this, who.namespaces());
  };
  association->set_namespaces_changed(tell);
  association->set_lost([this](const Error& cause) { on_lost(cause); });
  if (lost_) return;
  tell(*association);
  move(LinkEvent::kConnected);
}

void ControllerLink::on_lost(const Error& cause) {
  lost_ = true;
  down_since_ = home_.clock().now();
  probe_.losses.add();
  set_failure(cause);
  move(LinkEvent::kQueueLost);
  log_error("{}: connection lost, trying to get it back: {}", name(), cause.message());
  wake_.set();
}

Task<void> ControllerLink::end_association() {
  const std::shared_ptr<NvmeController> ending = association();
  const Result<> reset = co_await ending->reset(config_.reset_timeout);
  if (reset.ok()) probe_.resets_confirmed.add();
  move(LinkEvent::kAssociationLost);
  const Result<> ended = co_await ending->shutdown(config_.reset_timeout);
  if (!ended.ok()) log_debug("{}: {}", name(), ended.error().message());
  retire(ending);
}

/// The owner has closed the link while the association was being made.
Task<void> ControllerLink::drop_association() {
  const std::shared_ptr<NvmeController> unwanted = association();
  const Result<> ended = co_await unwanted->shutdown(config_.reset_timeout);
  if (!ended.ok()) log_debug("{}: {}", name(), ended.error().message());
}

/// Kept while somebody has it: its queue pairs may still be looked at. Destroyed here, on home.
void ControllerLink::retire(std::shared_ptr<NvmeController> association) {
  retired_.push_back(std::move(association));
  constexpr long kOnlyOurs = 1;
  const auto current = this->association();
  std::erase_if(retired_, [&](const std::shared_ptr<NvmeController>& old) {
    return old != current && old.use_count() == kOnlyOurs;
  });
}

Task<void> ControllerLink::pause() {
  const std::uint32_t doublings = std::min(failures_++, 20U);
  const Nanos delay = std::min(config_.reconnect_delay * (std::int64_t{1} << doublings), config_.reconnect_delay_max);
  // Between three and five quarters of it, so that hosts that lost the same target do not come back together.
  const auto quarters = static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>(delay.count() / 2 + 1)));
  Timer timer(home_.timers(), &set_event, &wake_);
  timer.arm(home_.clock().now() + delay * 3 / 4 + Nanos(quarters));
  if (!closing_) co_await wake_.wait();
  if (!closing_) wake_.reset();
}

Error ControllerLink::not_live() const {
  const LinkState now = state();
  const auto why = failure();
  return Error(Errc::kUnreachable, fmt::format("{} is {}{}", name(), to_string(now), why ? ": " + why->message() : ""))
      .in(ErrorDomain::kTransport)
      .with_scope(ErrorScope::kController)
      .retryable_if(now < LinkState::kLost);
}

Task<Result<ControllerLink::Queue>> ControllerLink::open_io_queue(NvmePoller& poller, DmaPool& pool) {
  if (!live()) co_return not_live();
  Queue opened{.association = association()};
  Result<QueuePair*> queue = co_await opened.association->open_io_queue(poller, pool);
  if (!queue.ok()) co_return std::move(queue).error();
  opened.queue = queue.value();
  co_return std::move(opened);
}

Task<Result<>> ControllerLink::close(Nanos limit) {
  LEAP_CHECK(home_.on_this_thread(), "a link is closed on its home poller");
  closing_ = true;
  const bool was_up = state() == LinkState::kLive || state() == LinkState::kDegraded;
  move(LinkEvent::kClose);
  wake_.set();
  if (!started_) co_return Result<>{};
  // An attempt under way ends by its own deadline; nothing depends on it.
  if (!was_up) co_return Result<>{};
  const std::shared_ptr<NvmeController> ending = association();
  Result<> ended = co_await ending->shutdown(limit);
  co_await finished_.wait();
  co_return ended;
}

}  // namespace leap
