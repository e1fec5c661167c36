// Core: what the shards of one target share. Internal to the room; NvmeTarget is the public face.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "poller/net.h"
#include "target/chaos/plan.h"
#include "target/shard.h"
#include "target/subsystem.h"

namespace leap::target {

struct Core {
  std::unique_ptr<Subsystem> subsystem;
  Net* net = nullptr;
  std::unique_ptr<ChaosControl> chaos;  ///< nullptr: a target that behaves
  std::vector<std::unique_ptr<Shard>> shards;
  TimePoint started;

  std::atomic<std::size_t> connections{0};  ///< over all shards, against max_connections
  std::atomic<std::uint64_t> refused{0};    ///< connections turned away at that limit
  std::atomic<std::uint64_t> keep_alive_expirations{0};

  std::mutex mutex;
  std::condition_variable all_stopped;
  std::size_t running_shards = 0;  ///< under the mutex

  /// The shard with the least connections takes the next one.
  [[nodiscard]] Shard& least_loaded() {
    Shard* best = shards.front().get();
    for (const auto& shard : shards) {
      if (shard->load() < best->load()) best = shard.get();
    }
    return *best;
  }
  /// No shard has anything left, nor a message on its way. Pollers that have been stopped deliver none.
  [[nodiscard]] bool all_quiet() {
    {
      const std::lock_guard lock(mutex);
      if (running_shards > 0) return false;
    }
    return std::all_of(shards.begin(), shards.end(),
                       [](const auto& shard) { return shard->poller().stopping() || shard->mailbox_empty(); });
  }
  /// An event for every controller of the kind it concerns. `sender`: the shard of the calling thread.
  void deliver_to_all(EventKind kind, nvme::Nsid nsid, Shard* sender) const {
    for (const auto& controller : subsystem->controllers()) {
      if (controller->identity().discovery != (kind == EventKind::kDiscoveryChanged)) continue;
      const QueueRef admin = controller->admin();
      admin.shard->deliver_event(admin.connection, kind, nsid, sender);
    }
  }
  /// Off the pollers: the subsystem's namespaces are others now.
  void namespaces_changed(nvme::Nsid nsid) {
    const auto change = std::make_shared<NamespaceChange>(nsid, shards.size());
    for (const auto& shard : shards) shard->refresh_namespaces(change, nullptr);
  }
  void shard_stopped() {
    const std::lock_guard lock(mutex);
    if (--running_shards == 0) all_stopped.notify_all();
  }
};

}  // namespace leap::target
