// ControllerLink: keeps one target connected: associations come and go, the link stays.
//
//   ControllerLink link(home, net, config, connects);
//   link.set_listener(&listener);            // told on home when an association is up, and when its namespaces change
//   link.start();                            // on home
//   co_await link.first_attempt();           // up, or failure() says why not; it goes on trying
//   auto opened = co_await link.open_io_queue(my_poller, my_pool);   // on my_poller; keep `association` while using it
//   ...
//   co_await link.close(5s);                 // on home
//
// The ladder, from a command that is not answered to a controller that is gone:
//   1. its deadline passes: the caller gets kTimedOut, the command an Abort; slot and buffer stay with the command
//   2. abort_timeout later: the queue pair is torn down; everything on it fails at once, buffers return
//   3. an I/O queue is lost, by 2 or by its connection: the controller is reset, which proves that nothing of the
//      association can take effect any more (effect_fence.h), and the association ended
//   4. the admin queue is lost (its connection, or a Keep Alive without answer): the association is ended unproven
//   5. new associations are tried: reconnect_delay, doubled up to reconnect_delay_max, jittered, at most so many at a time
//      in the process (`connects`), until ctrl_loss_timeout
//
// Associations that have ended stay in memory while somebody holds them, and are destroyed on home.
//
// Threading: start(), first_attempt(), close() and the listener on home; everything else on any thread. Lifetime: until
// close() has returned and no task of home is in a call, or home has stopped. The states: link_state.h.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/random.h"
#include "host/control_memory.h"
#include "host/controller.h"
#include "host/link_state.h"
#include "poller/blocking_pool.h"

namespace leap {

struct LinkConfig {
  ControllerConfig controller;
  Nanos reconnect_delay = std::chrono::milliseconds(100);  ///< after the first attempt that failed
  Nanos reconnect_delay_max = std::chrono::seconds(10);
  Nanos ctrl_loss_timeout{0};                     ///< without a connection: give up for good; 0: never
  Nanos reset_timeout = std::chrono::seconds(5);  ///< for a controller to confirm its reset
  std::uint64_t seed = 0;                         ///< of the jitter; 0: a random one

  /// kInvalidArgument of domain kConfig, naming the field. (The controller's own part is checked when connecting.)
  [[nodiscard]] Result<> validate() const;
};

class ControllerLink {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    /// The association is up, or its list of namespaces has been read again.
    virtual void on_namespaces(ControllerLink& link, const std::vector<NamespaceInfo>& namespaces) = 0;
  };
  struct Queue {
    std::shared_ptr<NvmeController> association;  ///< keeps `queue` in memory
    QueuePair* queue = nullptr;
  };
  struct Probe {
    Counter connects;  ///< associations that came up
    Counter failed_attempts;
    Counter losses;            ///< associations that were lost
    Counter resets_confirmed;  ///< of these, ended by a confirmed reset
  };

  /// `resolver` looks up an address that is a name, before every attempt; nullptr: addresses are numeric.
  ControllerLink(NvmePoller& home, Net& net, LinkConfig config, AsyncSemaphore& connects,
                 BlockingPool* resolver = nullptr);
  ~ControllerLink();
  ControllerLink(const ControllerLink&) = delete;
  ControllerLink& operator=(const ControllerLink&) = delete;

  // --- home ---
  void set_listener(Listener* listener) { listener_ = listener; }
  void start();
  [[nodiscard]] AsyncEvent::Awaiter first_attempt() { return first_attempt_.wait(); }
  /// Nothing of the link runs any more: after close(), or when it has given up.
  [[nodiscard]] AsyncEvent::Awaiter finished() { return finished_.wait(); }
  /// Ends the association in order within `limit` and tries no more. kTimedOut: it did not end in order.
  Task<Result<>> close(Nanos limit);

  // --- any thread ---
  /// The I/O queue pair of `poller`; on its thread. Errors: kUnreachable (not live; retryable unless lost or closed), as
  /// NvmeController::open_io_queue().
  Task<Result<Queue>> open_io_queue(NvmePoller& poller, DmaPool& pool);
  [[nodiscard]] LinkState state() const { return state_.load(std::memory_order_acquire); }
  [[nodiscard]] bool live() const { return state() == LinkState::kLive; }
  /// No I/O will ever go through it again.
  [[nodiscard]] bool over() const { return state() >= LinkState::kLost; }
  /// Why it is not live; the reason of the last loss or attempt otherwise.
  [[nodiscard]] std::optional<Error> failure() const;
  /// The association in use, or the last one; nullptr before the first.
  [[nodiscard]] std::shared_ptr<NvmeController> association() const;
  [[nodiscard]] const LinkConfig& config() const { return config_; }
  [[nodiscard]] std::string name() const;
  [[nodiscard]] const Probe& probe() const { return probe_; }

 private:
  static Task<void> run(ControllerLink& link);
  Task<Result<>> attempt();
  Task<void> end_association();
  Task<void> drop_association();
  Task<void> pause();
  void adopt(std::unique_ptr<NvmeController> controller);
  void on_lost(const Error& cause);
  void retire(std::shared_ptr<NvmeController> association);
  void set_failure(Error cause);
  [[nodiscard]] bool patience_is_over() const;
  void move(LinkEvent event);
  [[nodiscard]] Error not_live() const;

  NvmePoller& home_;
  ControlMemory memory_;  // before the associations, which use it
  Net& net_;
  const LinkConfig config_;
  AsyncSemaphore& connects_;
  BlockingPool* const resolver_;
  Listener* listener_ = nullptr;
  std::atomic<LinkState> state_{LinkState::kConnecting};
  AsyncEvent first_attempt_;
  AsyncEvent wake_;      // something happened to the association, or the owner closes
  AsyncEvent finished_;  // run() is over
  bool started_ = false;
  bool closing_ = false;
  bool lost_ = false;  // the association needs ending
  Rng rng_;
  std::uint32_t failures_ = 0;  // attempts in a row
  TimePoint down_since_;
  std::vector<std::shared_ptr<NvmeController>> retired_;
  mutable std::mutex mutex_;  // association_, failure_
  std::shared_ptr<NvmeController> association_;
  std::optional<Error> failure_;
  Probe probe_;
};

}  // namespace leap
