// SleepGate: the handshake between a poller that goes to sleep and threads that hand it work.
//
// The danger is the lost wake-up: the producer queues work and sees the poller awake, the poller sees no work and
// sleeps. Each side writes its own flag, then reads the other's; without a full fence in between, both reads may be
// satisfied before both writes are visible (x86 does this too: a store waits in the store buffer). So:
//
//   producer                                  poller
//   1. publish the work (ring)                1. sleeping = true
//   2. fence(seq_cst)                         2. fence(seq_cst)
//   3. if sleeping: clear it, wake            3. look at the ring again; sleep only if it is empty
//
// At least one of the two third steps sees the other side's first. The eventfd is written only when the poller sleeps,
// and by one producer only: the exchange picks it. tests/poller/wakeup_model_test.cc explores every interleaving of
// these steps under store buffering, and shows that leaving out either fence loses a wake-up.
#pragma once

#include <atomic>

namespace leap {

class SleepGate {
 public:
  /// Producer, after publishing work. True: this caller must wake the poller now.
  [[nodiscard]] bool must_wake() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return sleeping_.load(std::memory_order_relaxed) && sleeping_.exchange(false, std::memory_order_acq_rel);
  }

  /// Poller, before its last look at the queue.
  void announce_sleep() {
    sleeping_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }

  /// Poller, after waking or when the last look found work.
  void awake() { sleeping_.store(false, std::memory_order_relaxed); }

 private:
  std::atomic<bool> sleeping_{false};
};

}  // namespace leap
