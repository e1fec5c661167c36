#include "target_side.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace leap::sim {
namespace {

using std::chrono::milliseconds;

DevicePlan decoy_plan(const DevicePlan& like) {
  DevicePlan plan;
  plan.size = like.size;  // whoever mistakes one for the other gets no help from its limits
  plan.block_size = like.block_size;
  return plan;
}

constexpr std::byte kDecoyContent{0x5A};

}  // namespace

TargetSide::TargetSide(World& world, const Scenario& scenario, SimNet& net, SimDevice& device, Model& model, Rng rng)
    : world_(world),
      scenario_(scenario),
      net_(net),
      device_(device),
      decoy_(decoy_plan(scenario.device), "decoy", rng, world.trace),
      model_(model),
      rng_(rng) {
  std::ranges::fill(decoy_.contents(), kDecoyContent);
}

TargetSide::~TargetSide() { dismantle(); }

TimePoint TargetSide::in_ms(std::uint64_t most) {
  return world_.clock.now() + Nanos(static_cast<std::int64_t>(rng_.below(most * 1'000'000)));
}

std::vector<SimPoller*> TargetSide::pollers() {
  std::vector<SimPoller*> all;
  for (const auto& poller : pollers_) all.push_back(poller.get());
  return all;
}

void TargetSide::start() {
  std::vector<NvmeTarget::Seat> seats;
  for (std::size_t i = 0; i < scenario_.target_pollers; ++i) {
    pollers_.push_back(
        std::make_unique<SimPoller>(fmt::format("target{}", i), world_, net_.make_backend(), scenario_.target_pool));
    seats.push_back({pollers_.back()->poller(), pollers_.back()->pool});
  }
  TargetConfig config = scenario_.target;
  for (SimDevice* device : {&device_, &decoy_}) {
    NamespaceConfig ns;
    ns.device = device;
    ns.nsid = static_cast<std::uint32_t>(1 + 2 * rng_.below(4) + (device == &decoy_ ? 1 : 0));
    ns.uuid = device->info().uuid;
    config.namespaces.push_back(ns);
  }
  if (rng_.chance(0.5)) std::swap(config.namespaces[0], config.namespaces[1]);
  auto created = NvmeTarget::create(std::move(config), std::move(seats), net_);
  LEAP_CHECK(created.ok(), created.ok() ? "" : created.error().to_string());
  target_ = std::move(created).value();
  const Result<> started = target_->start();
  LEAP_CHECK(started.ok(), started.ok() ? "" : started.error().to_string());
  world_.tell("the target is up");
  state_ = State::kUp;
  forced_ = false;
  world_.trace.note(Trace::Event::kTarget, ends_);
  plan_next_end();
}

void TargetSide::plan_next_end() {
  due_ = TimePoint::max();
  if (scenario_.target_fault_every_ns == 0 || healed_) return;
  due_ = in_ms(2 * static_cast<std::uint64_t>(scenario_.target_fault_every_ns) / 1'000'000);
}

TimePoint TargetSide::next_event() const { return retired_ && state_ == State::kDown ? TimePoint::max() : due_; }

void TargetSide::step() {
  if (state_ == State::kStopping && target_->stopped()) {
    finish_stop();
    return;
  }
  if (world_.clock.now() < due_) return;
  switch (state_) {
    case State::kUp: end_somehow(); return;
    case State::kStopping:
      if (forced_) world_.fail("the target does not stop, forced or not");
      forced_ = true;
      target_->begin_stop(false);
      due_ = world_.clock.now() + milliseconds(60'000);  // a device may take its time
      return;
    case State::kDown:
      if (!retired_) start();
      return;
  }
}

void TargetSide::end_somehow() {
  if (rng_.chance(0.3)) {
    stop();
    return;
  }
  kill(rng_.chance(scenario_.power_loss));
  due_ = in_ms(healed_ ? 1 : 200);
}

void TargetSide::kill(bool power) {
  ++ends_;
  world_.tell("the target {}", power ? "loses power" : "is killed");
  world_.trace.note(Trace::Event::kTarget, power);
  model_.crash(power);
  if (power)
    device_.power_loss();
  else
    device_.abandon_in_flight();
  net_.lose_target();
  dismantle();
  state_ = State::kDown;
}

/// As the end of its process would, wherever everything is.
void TargetSide::dismantle() {
  for (const auto& poller : pollers_) poller->poller().stop();
  if (target_ != nullptr && target_->probe().protocol_errors > 0 && !scenario_.corrupts()) {
    world_.fail("the target accuses the host of breaking the protocol");
  }
  target_.reset();
  for (const auto& poller : pollers_) {
    const std::size_t left = poller->pool.probe().bytes_in_use;
    if (left != 0) world_.fail(fmt::format("{} bytes of a target's pool are still in use after its end", left));
  }
  pollers_.clear();
}

void TargetSide::stop() {
  world_.tell("the target is asked to stop");
  state_ = State::kStopping;
  forced_ = false;
  due_ = world_.clock.now() + milliseconds(500);
  target_->begin_stop(true);
}

void TargetSide::finish_stop() {
  ++ends_;
  // In order: nothing of it may be left, before anything is forced.
  if (target_->probe().connections_now != 0) world_.fail("connections are left after the target has stopped");
  for (const auto& poller : pollers_) {
    const std::size_t left = poller->pool.probe().bytes_in_use;
    if (left != 0) world_.fail(fmt::format("{} bytes of a target's pool are in use after it has stopped", left));
  }
  if (device_.channels() != 0) world_.fail("a target that has stopped keeps a channel to its device");
  dismantle();
  state_ = State::kDown;
  due_ = retired_ ? TimePoint::max() : in_ms(healed_ ? 1 : 100);
}

void TargetSide::announce_change() {
  if (state_ == State::kUp) target_->notify_namespace_changed(nvme::kAllNamespaces.value());
}

void TargetSide::heal() {
  healed_ = true;
  if (state_ == State::kUp) due_ = TimePoint::max();
}

void TargetSide::lose_power() {
  if (state_ == State::kDown) return;
  kill(true);
  due_ = in_ms(20);
}

void TargetSide::retire() {
  retired_ = true;
  if (target_ != nullptr) {
    const NvmeTarget::Probe probe = target_->probe();
    world_.tell("the target has {} of {} connections, turned {} away, {} controllers", probe.connections_now,
                scenario_.target.max_connections, probe.connections_refused, probe.controllers_now);
  }
  if (state_ == State::kUp) stop();
  const auto untouched = [](std::byte byte) { return byte == kDecoyContent; };
  if (!std::ranges::all_of(decoy_.contents(), untouched)) world_.fail("another namespace was written to");
}

}  // namespace leap::sim
