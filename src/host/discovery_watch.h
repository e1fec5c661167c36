// DiscoveryWatch: a persistent connection to a discovery controller: its log now, and again whenever it changes.
//
//   DiscoveryWatch watch(poller, pool, net, {.controller = config}, [](const Result<DiscoveryLog>& log) { ... });
//   watch.start();
//   ...
//   co_await watch.stop();                                   // then destroy it
//
//   waiting for ...            ends with
//   --------------------------+------------------------------------------------------------------------
//   a connection               connected -> read the log; failed -> a pause that doubles up to retry_max
//   a change                   "discovery log page changed" -> read the log; connection lost -> connect
//   another try at the log     the same pause
//
// The handler is told the first log, every log that differs from the one before, and once per outage why there is none.
// A log is read again after every reconnect: what changed meanwhile is not missed. Keep-alive is the controller's; a
// connection without one would not persist, so config.controller.keep_alive_timeout must not be 0.
//
// Threading: everything on `home`'s thread; the handler may not destroy the watch. Source: NVMe Base 2.0, 3.1.3.3, 5.2.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "base/metrics.h"
#include "host/controller.h"
#include "host/discovery.h"
#include "poller/sync.h"

namespace leap {

class DiscoveryWatch {
 public:
  struct Config {
    ControllerConfig controller;
    Nanos retry_min = std::chrono::seconds(1);   ///< pause after the first failure
    Nanos retry_max = std::chrono::seconds(30);  ///< pause after many
  };
  using Handler = std::function<void(const Result<DiscoveryLog>&)>;
  /// Any thread may read.
  struct Probe {
    Counter connections;
    Counter reads;     ///< of the whole log
    Counter failures;  ///< to connect or to read
  };

  DiscoveryWatch(NvmePoller& home, DmaPool& pool, Net& net, Config config, Handler handler);

  /// kInvalidArgument: the configuration. Once.
  Result<> start();
  /// Disconnects; no handler is called any more. An attempt to connect is waited for (connect_timeout).
  Task<void> stop();
  [[nodiscard]] const Probe& probe() const { return probe_; }

 private:
  Task<void> run();
  Task<void> follow(NvmeController& controller);
  Task<void> wait(Nanos limit);
  void failed(Error error);
  static void wake(void* self) { static_cast<DiscoveryWatch*>(self)->woken_.set(); }

  NvmePoller& home_;
  DmaPool& pool_;
  Net& net_;
  const Config config_;
  Handler handler_;
  TaskGroup tasks_;
  AsyncEvent woken_;
  Timer timer_;
  bool stopping_ = false;
  bool changed_ = false;  // since the log was read
  bool outage_ = false;   // reported
  Nanos pause_;
  std::optional<DiscoveryLog> last_;
  Probe probe_;
};

}  // namespace leap
