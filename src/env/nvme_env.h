// NvmeEnv: starts, binds and stops everything that does NVMe I/O in this process. The article's SpdkEnv.
//
//   LEAP_TRY(auto env, NvmeEnv::start(config));          // arena, pinned pollers, all targets connected at once
//   for (const TargetStatus& target : env->targets()) ...  // what is up, what is not and why
//   BlockDevice* device = env->find("8e5c...-uuid");      // or by name
//   ...                                                  // open channels on env->pollers()
//   LEAP_TRY_VOID(env->stop(10s));                       // after all channels are gone
//
// The order of starting: configuration validated; arena mapped; pollers pinned and running; then for all targets at
// once the name resolved (as long as the resolver takes), the controller connected and every poller's I/O queue pair
// opened, each within qpair_acquire_timeout; namespaces bound as block devices by UUID, several targets that serve the
// same one as paths of one device. A target that cannot be reached is reported and left out: it fails nothing and shifts
// nothing, because nothing is bound by position; its link goes on trying, and its devices join when it is there. The
// order of stopping is the reverse, and has a deadline.
//
// One per process: a second start() is refused while one is alive. Threading: start and stop block and belong to the
// control thread; the getters are for any thread while the environment is up.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdev/nvme_bdev.h"
#include "env/env_config.h"
#include "env/host_identity.h"
#include "memory/arena.h"
#include "poller/blocking_pool.h"
#include "poller/poller_context.h"

namespace leap {

struct ConfiguredTarget;

/// What became of one configured target.
struct TargetStatus {
  nvme::TransportAddress address;
  bool up = false;
  std::optional<Error> error;             ///< why it is not up, or what is wrong although it is
  std::vector<std::string> device_names;  ///< of its namespaces
};

class NvmeEnv final : private ControllerLink::Listener {
 public:
  /// Errors: kInvalidArgument (configuration, a core that is not ours), kBusy (an environment is up), kExhausted
  /// (memory). Unreachable targets are no error: see targets().
  static Result<std::unique_ptr<NvmeEnv>> start(NvmeEnvConfig config, Net& net = Net::system());
  ~NvmeEnv() override;
  NvmeEnv(const NvmeEnv&) = delete;
  NvmeEnv& operator=(const NvmeEnv&) = delete;

  /// Disconnects every controller in order, stops the pollers, gives the memory back. Channels must be gone. Always
  /// leaves everything stopped; kTimedOut says that a controller did not answer within `limit`. Idempotent, safe at any
  /// stage.
  Result<> stop(Nanos limit);

  [[nodiscard]] const NvmeEnvConfig& config() const { return config_; }
  /// Not after stop().
  [[nodiscard]] const HugePageArena& arena() const {
    LEAP_CHECK(arena_.has_value(), "the environment has been stopped");
    return *arena_;
  }
  /// Those that can do I/O: when a target grants fewer I/O queues than there are pollers, only the first ones.
  [[nodiscard]] const std::vector<PollerContext>& pollers() const { return contexts_; }
  [[nodiscard]] std::vector<TargetStatus> targets() const;
  [[nodiscard]] std::vector<BlockDevice*> devices() const;
  /// By UUID ("8e5c2a3e-...") or name ("nvme-8e5c2a3e-..."); nullptr when no connected namespace has it.
  [[nodiscard]] BlockDevice* find(std::string_view uuid_or_name) const;
  /// The association of every target that has, or had, one.
  [[nodiscard]] std::vector<std::shared_ptr<const NvmeController>> controllers() const;
  [[nodiscard]] std::vector<const ControllerLink*> links() const;
  /// Pollers, targets and queue pairs, for /metrics.
  void append_metrics(MetricsText& page) const;

 private:
  struct Target;

  NvmeEnv(NvmeEnvConfig config, Net& net);
  Result<> start_pollers();
  void connect_targets();
  [[nodiscard]] std::vector<ConfiguredTarget> configured_targets(BlockingPool* resolver);
  void on_namespaces(ControllerLink& link, const std::vector<NamespaceInfo>& namespaces) override;
  void bind_namespaces(Target& target, const std::vector<NamespaceInfo>& namespaces);
  void bind(Target& target, const NamespaceInfo& ns);
  void report_targets();
  void keep_pollers_with_queues();
  [[nodiscard]] NvmeBdev* find_bdev(const Uuid& uuid) const;
  static Task<void> connect_all(NvmeEnv& env, NvmePoller& home);
  static Task<void> connect_target(NvmeEnv& env, NvmePoller& home, Target& target);
  static Task<void> open_queues(NvmeEnv& env, NvmePoller& home, Target& target);
  static Task<void> open_queue(NvmeEnv& env, NvmePoller& home, Target& target, const PollerContext& context);
  static Task<void> close_links(NvmeEnv& env, NvmePoller& home, Nanos limit, std::vector<Result<>>& results);
  static Task<void> close_link(ControllerLink& link, Nanos limit, Result<>& result);
  [[nodiscard]] LinkConfig link_config(const NvmeTargetConfig& target, const HostIdentity& us) const;

  const NvmeEnvConfig config_;
  Net& net_;
  bool running_ = true;
  std::optional<HostIdentity> identity_;
  std::optional<HugePageArena> arena_;
  std::vector<std::unique_ptr<NvmePoller>> pollers_;
  std::vector<std::unique_ptr<DmaPool>> pools_;
  std::vector<PollerContext> contexts_;
  std::optional<AsyncSemaphore> connects_;  // attempts at the same time, on the first poller
  std::optional<BlockingPool> resolver_;    // when a target is given by name
  std::vector<std::unique_ptr<Target>> targets_;
  std::atomic<bool> bound_{false};  // all targets have been tried once: from here on, who comes is bound at once
  mutable std::mutex mutex_;        // the targets' devices and notes
};

}  // namespace leap
