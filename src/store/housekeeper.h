// Housekeeper: what a store does by itself: renew the device lease, drop write sessions nobody came back for,
// try whether metadata that could not be written can be again.
//
// Threading: lives on the first poller of the store. start() there; stop() there, and wait for it before the store goes
// away.
#pragma once

#include "base/clock.h"
#include "poller/sync.h"
#include "poller/timer.h"

namespace leap {

class StoreCore;

class Housekeeper {
 public:
  Housekeeper(StoreCore& core, NvmePoller& poller);

  void start();
  /// Returns when no round is under way and none will start.
  Task<void> stop();

 private:
  static void fire(void* self);
  static Task<void> round(Housekeeper& self);

  StoreCore& core_;
  NvmePoller& poller_;
  const Nanos interval_;
  TimePoint next_heartbeat_;
  bool stopped_ = false;
  AsyncEvent idle_;
  Timer timer_;
};

}  // namespace leap
