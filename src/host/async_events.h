// AsyncEventMonitor: keeps Asynchronous Event Requests outstanding and deals with what they bring (NVMe Base 2.0, 5.2).
//
//   namespace attribute changed   read the Changed Namespace List (which re-arms the event), then have the owner read the
//                                 namespaces again
//   discovery log changed         have the owner read the log again, which re-arms the event
//   error, SMART                  read the log page the event names (which re-arms it), log it
//   anything else                 log it
//
// Events are handled one after the other, and a request goes out again only when its event has been dealt with: a
// controller that floods us with events is slowed down by its own log pages.
//
// Threading: the admin queue's poller. Destroy it when `tasks` has run dry or the poller has stopped.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/metrics.h"
#include "host/queue_pair.h"
#include "nvme/features.h"

namespace leap {

class AsyncEventMonitor {
 public:
  struct Config {
    std::string name;            ///< for messages
    std::uint32_t requests = 1;  ///< outstanding, at most AERL + 1
  };
  using Rescan = std::function<Task<void>()>;

  AsyncEventMonitor(QueuePair& admin, DmaPool& pool, TaskGroup& tasks, Config config, Rescan namespaces_changed,
                    Counter& received);
  ~AsyncEventMonitor();

  /// No request goes out any more.
  void stop() { stopped_ = true; }

 private:
  class Request;

  void arm(Request& request);
  void on_event(Request& request);
  Task<void> handle_events();
  Task<void> handle(nvme::AsyncEvent event);
  Task<void> clear_by_reading(nvme::AsyncEvent event);
  void report(nvme::AsyncEvent event, const std::string& what);

  QueuePair& admin_;
  DmaPool& pool_;
  TaskGroup& tasks_;
  const Config config_;
  Rescan namespaces_changed_;
  Counter& received_;
  RateLimiter log_limit_;
  bool handling_ = false;
  bool stopped_ = false;
  std::vector<std::unique_ptr<Request>> requests_;
};

}  // namespace leap
