// QueuePairDeadline: fails a queue pair unless a sequence of steps on it is over in time. For connecting and shutting
// down, where the sum of the steps has a limit and not only each command.
//
//   QueuePairDeadline limit(*qp, deadline, "connect");
//   LEAP_CO_TRY_VOID(co_await step_one(*qp));            // fails with kTimedOut at the deadline, whatever hangs
#pragma once

#include <string>

#include "host/queue_pair.h"

namespace leap {

class QueuePairDeadline {
 public:
  QueuePairDeadline(QueuePair& queue_pair, TimePoint deadline, std::string what)
      : queue_pair_(queue_pair),
        what_(std::move(what)),
        timer_(queue_pair.poller().timers(), &QueuePairDeadline::expire, this) {
    timer_.arm(deadline);
  }

 private:
  static void expire(void* self) {
    auto& limit = *static_cast<QueuePairDeadline*>(self);
    limit.queue_pair_.fail(Error(Errc::kTimedOut, limit.what_ + " did not finish in time")
                               .in(ErrorDomain::kTransport)
                               .with_scope(ErrorScope::kQueuePair)
                               .retryable_if(true));
  }

  QueuePair& queue_pair_;
  std::string what_;
  Timer timer_;
};

}  // namespace leap
