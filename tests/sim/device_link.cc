#include "device_link.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace leap::sim {

using std::chrono::milliseconds;

DeviceLink::Lease::Lease(DeviceLink& link, std::size_t poller)
    : link_(&link), session_(link.session_.get()), poller_(poller) {
  ++session_->users;
}

DeviceLink::Lease::~Lease() {
  if (link_ != nullptr && --session_->users == 0) link_->unused_.set();
}

void DeviceLink::Lease::report(bool ok) const {
  constexpr std::uint32_t kHopeless = 12;
  session_->errors_in_a_row = ok ? 0 : session_->errors_in_a_row + 1;
  if (!session_->link->live() || session_->errors_in_a_row > kHopeless) link_->mark_broken();
}

DeviceLink::DeviceLink(World& world, const Scenario& scenario, Net& net, Uuid device, std::vector<SimPoller*> pollers)
    : world_(world),
      scenario_(scenario),
      net_(net),
      device_(device),
      pollers_(std::move(pollers)),
      broken_(pollers_.front()->poller()),
      unused_(pollers_.front()->poller()) {
  for (SimPoller* poller : pollers_) up_.push_back(std::make_unique<AsyncEvent>(poller->poller()));
}

DeviceLink::~DeviceLink() = default;

void DeviceLink::start() { pollers_.front()->spawn(run(*this)); }

Task<DeviceLink::Lease> DeviceLink::acquire(std::size_t poller) {
  for (;;) {
    if (stopping_) co_return Lease();
    if (accepting_ && session_->link->live()) co_return Lease(*this, poller);
    if (accepting_) {
      if (!scenario_.faulty) world_.fail("lost without any fault: " + session_->link->failure()->to_string());
      mark_broken();
    }
    co_await up_[poller]->wait();
  }
}

void DeviceLink::mark_broken() {
  if (!accepting_) return;
  accepting_ = false;
  for (const auto& up : up_) up->reset();
  broken_.set();
}

/// As the environment does it: an association that is new may have the namespace under another id.
void DeviceLink::on_namespaces(ControllerLink& link, const std::vector<NamespaceInfo>& namespaces) {
  if (session_->device != nullptr) session_->device->refresh(link, namespaces);
}

void DeviceLink::stop() {
  stopping_ = true;
  if (accepting_) mark_broken();
  broken_.set();
  for (const auto& up : up_) up->set();
}

void DeviceLink::renew() { mark_broken(); }

/// Whatever the network and the target do, these are never what comes of it.
void DeviceLink::judge(const Error& error, const char* what) {
  const bool corrupting = scenario_.corrupts();
  const bool impossible = (error.kind() == Errc::kProtocol && !corrupting) || error.kind() == Errc::kInvalidArgument ||
                          error.kind() == Errc::kUnsupported || error.kind() == Errc::kInternal;
  if (impossible) world_.fail(fmt::format("{}: {}", what, error.to_string()));
  if (!scenario_.faulty && !stopping_) world_.fail(fmt::format("{} without any fault: {}", what, error.to_string()));
}

Task<void> DeviceLink::run(DeviceLink& self) {
  NvmePoller& home = self.pollers_.front()->poller();
  Nanos pause = milliseconds(1);
  while (!self.stopping_) {
    Result<> connected = co_await self.connect();
    if (!connected.ok()) {
      self.world_.tell("no session: {}", connected.error().to_string());
      self.judge(connected.error(), "connecting");
      co_await self.disconnect();
      co_await home.sleep_for(pause);
      pause = std::min<Nanos>(pause * 2, milliseconds(100));
      continue;
    }
    pause = milliseconds(1);
    ++self.sessions_;
    self.broken_.reset();
    self.world_.tell("session {} is there", self.sessions_);
    if (!self.stopping_) {
      self.accepting_ = true;
      for (const auto& up : self.up_) up->set();
      co_await self.broken_.wait();
    }
    while (self.session_->users > 0) {
      self.unused_.reset();
      co_await self.unused_.wait();
    }
    co_await self.disconnect();
  }
  self.stopped_ = true;
}

Task<Result<>> DeviceLink::connect() {
  session_ = std::make_unique<Session>();
  SimPoller& home = *pollers_.front();
  LinkConfig config;
  config.controller = scenario_.host;
  config.reset_timeout = milliseconds(1000);
  config.seed = sessions_ + 1;
  session_->connects = std::make_unique<AsyncSemaphore>(home.poller(), 1);
  session_->link = std::make_unique<ControllerLink>(home.poller(), net_, config, *session_->connects);
  session_->link->set_listener(this);
  session_->link->start();
  co_await session_->link->first_attempt();
  if (!session_->link->live()) co_return *session_->link->failure();
  const auto namespaces = session_->link->association()->namespaces();
  const auto ns = std::ranges::find(namespaces, device_, &NamespaceInfo::uuid);
  if (ns == namespaces.end()) co_return Error(Errc::kInternal, "the target does not show the device any more");
  LEAP_CO_TRY(session_->device, NvmeBdev::create(*session_->link, *ns, scenario_.bdev));
  for (SimPoller* poller : pollers_) {
    LEAP_CO_TRY(auto channel, session_->device->open_channel(poller->poller(), poller->pool));
    session_->channels.push_back(std::move(channel));
  }
  world_.trace.note(Trace::Event::kSession, sessions_, ns->nsid.value());
  co_return Result<>{};
}

Task<void> DeviceLink::disconnect() {
  if (session_->link != nullptr) {
    constexpr Nanos kLimit = milliseconds(1500);
    const TimePoint before = world_.clock.now();
    world_.tell("shutting down");
    Result<> ended = co_await session_->link->close(kLimit);
    world_.tell("shut down: {}", ended.ok() ? "in order" : ended.error().to_string());
    if (!scenario_.faulty && !ended.ok()) world_.fail("shutdown without any fault: " + ended.error().to_string());
    // An attempt or a reset under way ends by its own limit, and its pollers answer within a second of grace.
    if (world_.clock.now() - before > kLimit + milliseconds(3000)) world_.fail("shutdown took longer than its limit");
    co_await session_->link->finished();
    const auto association = session_->link->association();
    for (const auto& [name, probe] :
         association != nullptr ? association->queue_probes() : decltype(association->queue_probes()){}) {
      const auto left = probe->outstanding.value();
      if (left != 0) world_.fail(fmt::format("{}: {} queue slots are still used after shutdown", name, left));
    }
  }
  session_.reset();
}

}  // namespace leap::sim
