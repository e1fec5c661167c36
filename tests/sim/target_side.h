// TargetSide: the target's machine: its pollers, the NvmeTarget, and how it ends and comes back.
//
//   kUp        serves
//   kStopping  asked to stop in order; after a while, told to
//   kDown      nobody listens
//
// It ends in one of three ways: stopped by its owner (kUp -> kStopping -> kDown), killed (its connections are reset, what
// it was writing ends half way) or with its machine (the device's volatile cache goes too). Each start is a new
// NvmeTarget, with its namespaces in another order under other numbers: only the UUID stays.
#pragma once

#include <memory>
#include <vector>

#include "model.h"
#include "scenario.h"
#include "target/target.h"
#include "world.h"

namespace leap::sim {

class TargetSide {
 public:
  TargetSide(World& world, const Scenario& scenario, SimNet& net, SimDevice& device, Model& model, Rng rng);
  ~TargetSide();

  void start();
  /// Does what is due. Call whenever time has moved or a poller has run.
  void step();
  /// When step() has something to do at the latest.
  [[nodiscard]] TimePoint next_event() const;
  /// Tells every host that something about its namespaces has changed.
  void announce_change();
  /// It stays up from now on.
  void heal();
  /// Loses power now and comes back at once.
  void lose_power();
  /// Ends it in order, for good; down() tells when.
  void retire();
  [[nodiscard]] bool down() const { return state_ == State::kDown; }
  [[nodiscard]] std::vector<SimPoller*> pollers();
  [[nodiscard]] std::uint64_t ends() const { return ends_; }

 private:
  enum class State : std::uint8_t { kUp, kStopping, kDown };

  void end_somehow();
  void kill(bool power);
  void stop();
  void finish_stop();
  void dismantle();
  void plan_next_end();
  [[nodiscard]] TimePoint in_ms(std::uint64_t most);

  World& world_;
  const Scenario& scenario_;
  SimNet& net_;
  SimDevice& device_;
  SimDevice decoy_;  // another namespace, which nobody may ever touch
  Model& model_;
  Rng rng_;
  std::vector<std::unique_ptr<SimPoller>> pollers_;
  std::unique_ptr<NvmeTarget> target_;
  State state_ = State::kDown;
  bool forced_ = false;
  bool healed_ = false;
  bool retired_ = false;
  TimePoint due_ = TimePoint::max();
  std::uint64_t ends_ = 0;
};

}  // namespace leap::sim
