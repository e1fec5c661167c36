#include "host/discovery_watch.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"

namespace leap {
namespace {

/// How soon a lost connection is noticed; until then nothing could have been read from it anyway.
constexpr Nanos kLossCheck = std::chrono::seconds(1);
constexpr Nanos kGoodbyeLimit = std::chrono::seconds(2);

}  // namespace

DiscoveryWatch::DiscoveryWatch(NvmePoller& home, DmaPool& pool, Net& net, Config config, Handler handler)
    : home_(home),
      pool_(pool),
      net_(net),
      config_(std::move(config)),
      handler_(std::move(handler)),
      tasks_(home),
      woken_(home),
      timer_(home.timers(), &DiscoveryWatch::wake, this),
      pause_(config_.retry_min) {}

Result<> DiscoveryWatch::start() {
  LEAP_TRY_VOID(config_.controller.validate());
  if (config_.controller.keep_alive_timeout == Nanos{0}) {
    return Error(Errc::kInvalidArgument, "keep_alive_timeout is 0: a discovery connection persists only with one")
        .in(ErrorDomain::kConfig);
  }
  tasks_.spawn(run());
  return {};
}

Task<void> DiscoveryWatch::stop() {
  stopping_ = true;
  woken_.set();
  co_await tasks_.wait();
  timer_.cancel();
}

/// Until something happens, `limit` at most.
Task<void> DiscoveryWatch::wait(Nanos limit) {
  timer_.arm(home_.clock().now() + limit);
  co_await woken_.wait();
  if (!stopping_) woken_.reset();
}

void DiscoveryWatch::failed(Error error) {
  probe_.failures.add();
  if (stopping_ || std::exchange(outage_, true)) return;
  handler_(std::move(error));
}

Task<void> DiscoveryWatch::run() {
  while (!stopping_) {
    auto connected = co_await NvmeController::connect(home_, pool_, net_, config_.controller);
    if (connected.ok()) {
      probe_.connections.add();
      const std::unique_ptr<NvmeController> controller = std::move(connected).value();
      if (controller->info().discovery)
        co_await follow(*controller);
      else
        failed(not_a_discovery_controller(*controller));
      const Result<> ended = co_await controller->shutdown(kGoodbyeLimit);
      if (!ended.ok()) log_debug("{}: {}", controller->info().endpoint, ended.error().message());
    } else {
      failed(std::move(connected).error());
    }
    if (stopping_) break;
    co_await wait(pause_);
    pause_ = std::min(pause_ * 2, config_.retry_max);
  }
}

Task<void> DiscoveryWatch::follow(NvmeController& controller) {
  controller.set_namespaces_changed([this](NvmeController&) {
    changed_ = true;
    woken_.set();
  });
  changed_ = true;
  while (!stopping_ && controller.live()) {
    Nanos limit = kLossCheck;
    if (changed_) {
      changed_ = false;
      probe_.reads.add();
      Result<DiscoveryLog> log = co_await read_discovery_log(controller.admin(), pool_);
      if (stopping_) co_return;
      if (log.ok()) {
        outage_ = false;
        pause_ = config_.retry_min;
        if (last_ != *log) {
          last_ = *log;
          handler_(log);
        }
      } else {
        if (!controller.live()) break;
        failed(std::move(log).error());
        changed_ = true;
        limit = pause_;
        pause_ = std::min(pause_ * 2, config_.retry_max);
      }
      if (changed_ && limit == kLossCheck) continue;
    }
    co_await wait(limit);
  }
  if (stopping_) co_return;
  const auto why = controller.failure();
  failed(why ? *why : Error(Errc::kClosed, fmt::format("{} has disconnected", controller.info().endpoint)));
}

}  // namespace leap
