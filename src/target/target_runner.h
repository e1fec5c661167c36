// TargetRunner: a whole target from plain options: devices, memory, pollers, NvmeTarget; for `leap target` and the
// demo.
//
//   LEAP_TRY(auto runner, TargetRunner::create({.target = config, .namespaces = {"mem:?size=512MiB"}, .cores = {0}}));
//   LEAP_TRY_VOID(runner->start());
//   ... runner->target().addresses() ...            // print "ready", wait for a signal
//   LEAP_TRY_VOID(runner->stop(std::chrono::seconds(5)));
//
// Prints nothing. Threading: the owner's thread. Blocking: create() (opens files, maps memory), start(), stop().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "bdev/block_device.h"
#include "memory/arena.h"
#include "memory/dma_pool.h"
#include "poller/poller.h"
#include "target/target.h"

namespace leap {

class TargetRunner {
 public:
  struct Options {
    TargetConfig target;                   ///< everything but its namespaces
    std::vector<std::string> namespaces;   ///< device strings, `mem:` or `file:`; nsids count from 1
    std::vector<unsigned> cores;           ///< one poller is pinned to each; empty: one poller, not pinned
    std::uint64_t pool_bytes = 64 * kMiB;  ///< DMA memory per poller, a multiple of 1 MiB
    NvmePoller::Config poller;             ///< of every poller; name and core are filled in
  };

  /// Opens and maps everything; nothing listens yet. Errors: those of the devices, the memory and NvmeTarget::create,
  /// each naming its object.
  static Result<std::unique_ptr<TargetRunner>> create(Options options);
  /// As stop(), without a limit.
  ~TargetRunner();

  /// Starts the pollers, then listens. Errors: os, kAlreadyExists (an address is in use); nothing runs then.
  Result<> start();
  /// Answers what was accepted, closes the connections, stops the pollers. Error kTimedOut: a device was still at work.
  Result<> stop(Nanos deadline);

  [[nodiscard]] NvmeTarget& target() { return *target_; }
  [[nodiscard]] const std::vector<std::unique_ptr<BlockDevice>>& devices() const { return devices_; }
  [[nodiscard]] const std::vector<std::unique_ptr<NvmePoller>>& pollers() const { return pollers_; }
  /// For an operator: what memory was got, and of which kind.
  [[nodiscard]] const std::string& memory_report() const { return arena_->report(); }

 private:
  TargetRunner() = default;
  void stop_pollers();

  std::vector<std::unique_ptr<BlockDevice>> devices_;
  std::unique_ptr<HugePageArena> arena_;
  std::vector<std::unique_ptr<DmaPool>> pools_;
  std::vector<std::unique_ptr<NvmePoller>> pollers_;
  std::unique_ptr<NvmeTarget> target_;
};

}  // namespace leap
