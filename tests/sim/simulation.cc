#include "simulation.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "device_link.h"
#include "model.h"
#include "scenario.h"
#include "sim_device.h"
#include "sim_net.h"
#include "target_side.h"
#include "workload.h"
#include "world.h"

namespace leap::sim {
namespace {

constexpr Nanos kLongestWorkload = std::chrono::hours(10);
constexpr Nanos kLongestEnd = std::chrono::seconds(300);
/// Turns in which the clock stands still, at most: somebody is busy with nothing.
constexpr std::uint64_t kTurnsAtOnce = 200'000;
constexpr std::size_t kHostPool = 16 << 20;

/// LEAP_SIM_TRUSTING=1: goes on writing where a failed command may still be on its way. Right only within one device object,
/// whose fences die with it; the harness makes a new one per session.
bool trusts_the_host() { return std::getenv("LEAP_SIM_TRUSTING") != nullptr; }

Model::Config model_of(const DevicePlan& device) {
  return {.cells = device.size / kCell,
          .block_cells = device.block_size / kCell,
          .volatile_cache = device.volatile_cache,
          .trusting = trusts_the_host(),
          .tears = device.mapped};
}

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed)
      : scenario_(seed),
        rng_(seed),
        net_(world_.clock, Rng(rng_.next()), scenario_.net, world_.trace),
        device_(scenario_.device, "disk", Rng(rng_.next()), world_.trace),
        model_(model_of(scenario_.device)),
        target_(world_, scenario_, net_, device_, model_, Rng(rng_.next())) {
    for (std::size_t i = 0; i < scenario_.host_pollers; ++i) {
      hosts_.push_back(std::make_unique<SimPoller>(fmt::format("host{}", i), world_, net_.make_backend(), kHostPool,
                                                   scenario_.host_mailbox));
      host_pointers_.push_back(hosts_.back().get());
    }
    for (std::uint64_t cell = 0; cell < scenario_.device.size / kCell; ++cell) {
      write_cell(device_.contents().subspan(cell * kCell, kCell), cell, 1);
    }
    device_.settle();
    link_ = std::make_unique<DeviceLink>(world_, scenario_, net_, device_.info().uuid, host_pointers_);
    workload_ = std::make_unique<Workload>(world_, scenario_, *link_, model_, host_pointers_, Rng(rng_.next()));
  }
  ~Simulation() {
    for (const auto& host : hosts_) host->poller().stop();
  }

  Verdict run() {
    const TimePoint begun = world_.clock.now();
    target_.start();
    link_->start();
    workload_->start();
    run_until("the workload", kLongestWorkload, [this] { return workload_->idle(); });
    heal();
    if (scenario_.target_fault_every_ns > 0 && rng_.chance(0.5)) {
      workload_->start_flush();
      run_until("the last flush", kLongestEnd, [this] { return workload_->idle(); });
      target_.lose_power();
    }
    workload_->start_verification();
    run_until("the verification", kLongestEnd, [this] { return workload_->idle(); });
    link_->stop();
    run_until("the end of the host", kLongestEnd, [this] { return link_->stopped(); });
    target_.retire();
    run_until("the end of the target", kLongestEnd, [this] { return target_.down(); });
    if (!world_.failed()) look_for_leaks();
    return verdict(begun);
  }

 private:
  void heal() {
    net_.heal();
    device_.heal();
    target_.heal();
  }

  template <typename Done>
  void run_until(const char* what, Nanos limit, Done done) {
    const TimePoint give_up = world_.clock.now() + limit;
    while (!world_.failed() && !done()) {
      const bool asleep = take_turns();
      check_fence();
      if (asleep && !done()) advance();
      if (world_.clock.now() > give_up) world_.fail(fmt::format("{} does not come to an end", what));
    }
  }

  /// Turns in a seeded order, until time has passed (a busy turn takes some) or nobody has anything left to do: true.
  bool take_turns() {
    std::vector<SimPoller*> all = target_.pollers();
    all.insert(all.end(), host_pointers_.begin(), host_pointers_.end());
    std::size_t idle = 0;
    while (idle < 2 * all.size()) {
      SimPoller& next = *all[rng_.below(all.size())];
      const std::size_t work = next.poller().run_once();
      ++turns_;
      idle = work > 0 ? 0 : idle + 1;
      if (work == 0) continue;
      disturb();
      if (rng_.chance(0.2)) {
        pass_time(Nanos(static_cast<std::int64_t>(rng_.below(20'000))));
        return false;
      }
      if (++turns_at_once_ > kTurnsAtOnce) {
        world_.fail("pollers are busy for ever while time stands still");
        return false;
      }
    }
    return everybody_sleeps(all);
  }

  /// As pollers do when they are idle: from here on only what their descriptors and timers tell can wake them.
  bool everybody_sleeps(const std::vector<SimPoller*>& all) {
    bool asleep = true;
    for (SimPoller* poller : all) {
      const std::uint64_t before = poller->busy_turns();
      poller->poller().run_and_wait(Nanos{0});
      asleep = asleep && poller->busy_turns() == before;
    }
    return asleep;
  }

  void disturb() {
    if (rng_.chance(scenario_.renew)) link_->renew();
    if (rng_.chance(scenario_.announce)) target_.announce_change();
  }

  void advance() {
    TimePoint next = std::min(net_.next_event(), target_.next_event());
    const auto consider = [&next](SimPoller& poller) {
      next = std::min(next, poller.poller().timers().next_deadline());
    };
    for (const auto& host : hosts_) consider(*host);
    for (SimPoller* poller : target_.pollers()) consider(*poller);
    if (next == TimePoint::max()) {
      world_.fail("everybody waits for something that never comes: " + workload_->describe_running());
      return;
    }
    pass_time(std::max(next - world_.clock.now(), Nanos{1}));
    workload_->check_deadlines();
  }

  void pass_time(Nanos by) {
    turns_at_once_ = 0;
    world_.clock.advance(by);
    net_.settle();
    target_.step();
  }

  /// Once the target has let go of all dead connections and the device has finished what they had asked for, commands
  /// that failed can do nothing more.
  void check_fence() {
    if (!model_.in_doubt()) return;
    if (!fencing_) {
      if (net_.half_dead() > 0) return;
      fencing_ = true;
      fence_doubts_ = model_.doubts();
      fence_change_ = device_.next_change();
    }
    if (device_.oldest_change() < fence_change_) return;
    world_.tell("fence: failed commands up to {} can do nothing more", fence_doubts_);
    model_.fence(fence_doubts_);
    fencing_ = false;
  }

  void look_for_leaks() {
    for (const auto& host : hosts_) {
      const std::size_t left = host->pool.probe().bytes_in_use;
      if (left != 0) world_.fail(fmt::format("{} bytes of a host's pool are still in use", left));
    }
    if (net_.open_streams() != 0) world_.fail(fmt::format("{} connections are left", net_.open_streams()));
    if (device_.channels() != 0) world_.fail("a channel to the device is left");
    if (device_.oldest_change() != UINT64_MAX) world_.fail("the device still works on something");
  }

  [[nodiscard]] Verdict verdict(TimePoint begun) const {
    Verdict verdict;
    verdict.seed = scenario_.seed;
    if (world_.failed()) verdict.failure = *world_.failure + "\n  " + scenario_.describe();
    verdict.trace_hash = world_.trace.hash();
    verdict.operations = workload_->counts().done + workload_->counts().failed;
    verdict.failed_operations = workload_->counts().failed;
    verdict.faults = net_.faults() + device_.faults() + target_.ends();
    verdict.sessions = link_->sessions();
    verdict.turns = turns_;
    verdict.virtual_ms = (world_.clock.now() - begun).count() / 1'000'000;
    return verdict;
  }

  World world_;
  const Scenario scenario_;
  Rng rng_;
  SimNet net_;
  SimDevice device_;
  Model model_;
  std::vector<std::unique_ptr<SimPoller>> hosts_;
  std::vector<SimPoller*> host_pointers_;
  TargetSide target_;
  // Destroyed before the pollers whose tasks use them, which the destructor has stopped.
  std::unique_ptr<DeviceLink> link_;
  std::unique_ptr<Workload> workload_;
  bool fencing_ = false;
  std::uint64_t fence_doubts_ = 0;
  std::uint64_t fence_change_ = 0;
  std::uint64_t turns_ = 0;
  std::uint64_t turns_at_once_ = 0;
};

}  // namespace

Verdict simulate(std::uint64_t seed) {
  if (log_level() != LogLevel::kOff) set_log_level(LogLevel::kOff);
  Simulation simulation(seed);
  return simulation.run();
}

std::string report(const Verdict& verdict) {
  return fmt::format("seed {}: {}\n  again, alone: LEAP_SIM_SEED={} sim_tests --gtest_filter='Simulation.Seeds'",
                     verdict.seed, verdict.failure.empty() ? "passed" : verdict.failure, verdict.seed);
}

}  // namespace leap::sim
