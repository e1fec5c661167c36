// KeepAlive: tells the controller twice per timeout that the host lives (NVMe Base 2.0, 3.9, 5.18). One command at a
// time.
//
// A Keep Alive that is not answered runs into the admin queue pair's command timeout, which ends the association: a
// dead controller is noticed even without I/O. Threading: the admin queue's poller. Destroying it stops it.
#pragma once

#include "base/metrics.h"
#include "host/queue_pair.h"

namespace leap {

class KeepAlive final : private Submission {
 public:
  /// `timeout`: KATO as agreed at Connect. `answered` counts.
  KeepAlive(QueuePair& admin, Nanos timeout, Counter& answered);

 private:
  static void tick(void* self);
  void on_done(CommandResult result) override;

  QueuePair& admin_;
  const Nanos interval_;
  Counter& answered_;
  Timer timer_;
};

}  // namespace leap
