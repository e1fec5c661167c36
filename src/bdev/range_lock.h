// RangeLock: writers that share device blocks take turns, across pollers.
//
// A read-modify-write reads a device block, changes some of its bytes and writes all of it back: any other write to
// that block in between would be undone. So every write that may overlap one holds its byte range, rounded out to
// device blocks. Ranges that overlap are served strictly in arrival order; others do not wait for each other.
//
//   RangeLock::Guard guard(lock, poller, begin, end);
//   co_await guard;                                     // holds the range until the guard is destroyed
//
// Threading: one lock per device, used by tasks of any poller; a short mutex inside, never held across a suspension. A
// guard that waits or holds is destroyed by its task, or with it when the poller stops; at no other time while it
// waits.
#pragma once

#include <cstdint>
#include <mutex>

#include "poller/poller.h"

namespace leap {

class RangeLock {
 public:
  /// One range, waited for and then held. Lives in the frame of the task that awaits it, on one poller.
  class Guard : private IntrusiveListNode {
   public:
    Guard(RangeLock& lock, NvmePoller& poller, std::uint64_t begin, std::uint64_t end);
    ~Guard();

    bool await_ready() { return lock_.enqueue(*this); }
    void await_suspend(std::coroutine_handle<> handle);
    void await_resume() noexcept { recheck_.cancel(); }

   private:
    friend class RangeLock;
    template <typename T>
    friend class IntrusiveList;
    [[nodiscard]] bool overlaps(const Guard& other) const { return begin_ < other.end_ && other.begin_ < end_; }
    static void wake(void* guard);  // mailbox message: granted by another poller
    static void look_again(void* guard);

    RangeLock& lock_;
    NvmePoller& poller_;
    const std::uint64_t begin_;
    const std::uint64_t end_;
    std::uint64_t ticket_ = 0;        // under the lock's mutex: order of arrival
    std::size_t blockers_ = 0;        // under the lock's mutex: earlier entries that overlap; 0: ours
    bool message_in_flight_ = false;  // under the lock's mutex: a wake() is on its way to our poller
    Resumer resumer_;
    Timer recheck_;
  };

  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;

 private:
  bool enqueue(Guard& guard);
  void release(Guard& guard);

  std::mutex mutex_;
  IntrusiveList<Guard> entries_;  // held and waiting, in arrival order
  std::uint64_t next_ticket_ = 0;
};

}  // namespace leap
