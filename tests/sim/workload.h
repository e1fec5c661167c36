// Workload: tasks on the host's pollers that read, write, flush, zero and discard through a DeviceLink and hold every
// outcome against the Model.
//
// Each operation: a buffer, a range that nobody else writes, the call, the verdict. What fails is not repeated; the next
// operation is another one. finish() reads everything once more.
//
// Threading: one thread; tasks on the pollers they are spawned on.
#pragma once

#include <list>
#include <vector>

#include "base/random.h"
#include "device_link.h"
#include "model.h"

namespace leap::sim {

class Workload {
 public:
  struct Counts {
    std::uint64_t done = 0;
    std::uint64_t failed = 0;
  };

  Workload(World& world, const Scenario& scenario, DeviceLink& link, Model& model, std::vector<SimPoller*> pollers,
           Rng rng);

  void start();
  /// All operations are over.
  [[nodiscard]] bool done() const { return workers_running_ == 0; }
  /// Flushes (repeatedly, until it has worked), then reads the whole device.
  void start_flush();
  void start_verification();
  /// Nothing runs any more.
  [[nodiscard]] bool idle() const { return workers_running_ == 0 && finishing_ == 0; }

  /// Fails the simulation when an operation has taken longer than everything that may delay it.
  void check_deadlines() const;
  /// What still runs, for messages.
  [[nodiscard]] std::string describe_running() const;
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  enum class Kind : std::uint8_t { kRead, kWrite, kZeroes, kDiscard, kFlush };
  struct Running {
    TimePoint deadline;
    Kind kind;
    Model::Range range;
  };
  /// Where a worker runs and what it uses.
  struct Seat {
    std::size_t poller;
    Rng rng;
    std::uint64_t last_begin = 0;
  };
  class Timed;
  /// Whether the operation is one command that waits for nobody else's.
  [[nodiscard]] bool is_simple(Kind kind, Model::Range range, bool exclusive) const;

  static Task<void> start_on(Workload& self, std::size_t poller);
  static Task<void> work(Workload& self, std::size_t index, Rng rng);
  static Task<void> flush_until_done(Workload& self);
  static Task<void> verify(Workload& self);
  Task<void> one_operation(Seat& seat);
  Task<bool> read(const DeviceLink::Lease& lease, DmaBuf buffer, Model::Range range);
  Task<bool> write(Seat& seat, const DeviceLink::Lease& lease, DmaBuf buffer);
  Task<bool> change(Seat& seat, const DeviceLink::Lease& lease, Kind kind);
  Task<bool> flush(const DeviceLink::Lease& lease);
  [[nodiscard]] Model::Range pick(Seat& seat, std::uint64_t cells, bool aligned) const;
  [[nodiscard]] std::uint64_t pick_size(Rng& rng, bool aligned) const;
  [[nodiscard]] Kind pick_kind(Rng& rng) const;
  bool conclude(Kind kind, Model::Range range, const Result<>& result);
  [[nodiscard]] static Model::Outcome outcome_of(const Result<>& result);

  World& world_;
  const Scenario& scenario_;
  DeviceLink& link_;
  Model& model_;
  const std::vector<SimPoller*> pollers_;
  Rng rng_;
  const std::uint64_t cells_;
  const std::uint64_t block_cells_;
  std::uint32_t operations_left_;
  std::uint32_t workers_running_ = 0;
  std::uint32_t finishing_ = 0;
  std::list<Running> running_;  // in the order they began
  TimePoint lull_until_;        // nobody begins anything before
  Counts counts_;
};

}  // namespace leap::sim
