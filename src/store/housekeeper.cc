#include "store/housekeeper.h"

#include <algorithm>

#include "base/log.h"
#include "store/store_core.h"

namespace leap {
namespace {

constexpr Nanos kShortest = std::chrono::milliseconds(1);
constexpr Nanos kLongest = std::chrono::seconds(1);

Nanos interval_for(const BlockStore::Config& config) {
  return std::clamp<Nanos>(std::min(config.lease_heartbeat, config.detach_grace / 4), kShortest, kLongest);
}

}  // namespace

Housekeeper::Housekeeper(StoreCore& core, NvmePoller& poller)
    : core_(core),
      poller_(poller),
      interval_(interval_for(core.config)),
      idle_(poller),
      timer_(poller.timers(), &Housekeeper::fire, this) {
  idle_.set();
}

void Housekeeper::start() {
  next_heartbeat_ = poller_.clock().now() + core_.config.lease_heartbeat;
  timer_.arm(poller_.clock().now() + interval_);
}

Task<void> Housekeeper::stop() {
  stopped_ = true;
  timer_.cancel();
  co_await idle_.wait();
}

void Housekeeper::fire(void* self) {
  auto& keeper = *static_cast<Housekeeper*>(self);
  keeper.idle_.reset();
  keeper.poller_.spawn(round(keeper));
}

Task<void> Housekeeper::round(Housekeeper& self) {
  const TimePoint now = self.poller_.clock().now();
  self.core_.expire_parked(now);
  // New blocks go elsewhere meanwhile, so nobody else would find out that the metadata can be written again.
  self.core_.probe_metadata();
  if (now >= self.next_heartbeat_ && !self.core_.fenced()) {
    self.next_heartbeat_ = now + self.core_.config.lease_heartbeat;
    StorePoller& at = *self.core_.pollers.front();
    Result<> renewed = co_await self.core_.lease->renew({*at.channel, at.poller, at.pool});
    // A device that cannot be reached is not lost: only another owner's token is.
    if (!renewed && renewed.error().kind() == Errc::kBusy)
      self.core_.fence(renewed.error());
    else if (!renewed)
      log_warn("{}: device lease not renewed: {}", self.core_.config.name, renewed.error().to_string());
  }
  self.idle_.set();
  if (!self.stopped_) self.timer_.arm(self.poller_.clock().now() + self.interval_);
}

}  // namespace leap
