#include "bdev/range_lock.h"

#include "base/check.h"
#include "base/mutation.h"

namespace leap {
namespace {

/// How soon a waiter looks for itself when the message about its grant found a full mailbox.
constexpr Nanos kRecheck = std::chrono::milliseconds(1);

}  // namespace

RangeLock::Guard::Guard(RangeLock& lock, NvmePoller& poller, std::uint64_t begin, std::uint64_t end)
    : lock_(lock), poller_(poller), begin_(begin), end_(end), recheck_(poller.timers(), &Guard::look_again, this) {}

RangeLock::Guard::~Guard() { lock_.release(*this); }

void RangeLock::Guard::await_suspend(std::coroutine_handle<> handle) {
  resumer_.set(handle);
  recheck_.arm(poller_.now() + kRecheck);
  // The grant may have come between enqueue() and here, from another poller: its message then resumes us.
}

void RangeLock::Guard::wake(void* guard) {
  auto& self = *static_cast<Guard*>(guard);
  {
    const std::lock_guard lock(self.lock_.mutex_);
    self.message_in_flight_ = false;
  }
  if (self.resumer_.waiting()) self.poller_.schedule(self.resumer_);
}

void RangeLock::Guard::look_again(void* guard) {
  auto& self = *static_cast<Guard*>(guard);
  bool mine = false;
  {
    const std::lock_guard lock(self.lock_.mutex_);
    // A message under way will resume us, and must find us alive: leave it to it.
    mine = self.blockers_ == 0 && !self.message_in_flight_;
  }
  if (mine)
    self.poller_.schedule(self.resumer_);
  else
    self.recheck_.arm(self.poller_.now() + kRecheck);
}

bool RangeLock::enqueue(Guard& guard) {
  if (LEAP_MUTATION(range_lock_skipped)) return true;
  const std::lock_guard lock(mutex_);
  guard.ticket_ = next_ticket_++;
  entries_.for_each([&](Guard& earlier) { guard.blockers_ += earlier.overlaps(guard) ? 1U : 0U; });
  entries_.push_back(guard);
  return guard.blockers_ == 0;
}

void RangeLock::release(Guard& guard) {
  const std::lock_guard lock(mutex_);
  if (!guard.linked()) return;
  guard.unlink();
  LEAP_CHECK(!guard.message_in_flight_ || guard.poller_.stopping(),
             "a task was destroyed while its range lock was being granted");
  entries_.for_each([&](Guard& later) {
    // Whoever came earlier never waited for us.
    if (later.ticket_ < guard.ticket_ || !later.overlaps(guard)) return;
    if (--later.blockers_ > 0) return;
    // Full mailbox: the waiter's own recheck finds the grant.
    later.message_in_flight_ = later.poller_.try_post(&Guard::wake, &later);
  });
}

}  // namespace leap
