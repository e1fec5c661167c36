// Awaitable synchronisation between the tasks of one poller: AsyncEvent, AsyncSemaphore, AsyncMutex, TaskGroup.
//
// Single-threaded: no atomics. Waiters are served first come, first served, and resumed through the ready queue, never
// from inside the call that releases them. Destroying a waiting task withdraws its wait, and what it was granted
// without having gone on returns; whether it or the object it waits for is destroyed first does not matter.
#pragma once

#include <cstddef>
#include <utility>

#include "poller/poller.h"

namespace leap {

/// Set once (or until reset()); every waiter goes on.
class AsyncEvent {
 public:
  explicit AsyncEvent(NvmePoller& poller) : poller_(poller) {}

  void set() {
    set_ = true;
    while (Waiter* waiter = waiters_.pop_front()) poller_.schedule(waiter->resumer);
  }
  void reset() { set_ = false; }
  [[nodiscard]] bool is_set() const { return set_; }

  class Awaiter;
  /// co_await event.wait()
  [[nodiscard]] Awaiter wait();

 private:
  struct Waiter : IntrusiveListNode {
    Resumer resumer;
  };
  NvmePoller& poller_;
  bool set_ = false;
  IntrusiveList<Waiter> waiters_;

 public:
  class Awaiter : private Waiter {
   public:
    explicit Awaiter(AsyncEvent& event) : event_(event) {}
    bool await_ready() const noexcept { return event_.set_; }
    void await_suspend(std::coroutine_handle<> handle) {
      resumer.set(handle);
      event_.waiters_.push_back(*this);
    }
    void await_resume() const noexcept {}

   private:
    AsyncEvent& event_;
  };
};

inline AsyncEvent::Awaiter AsyncEvent::wait() { return Awaiter(*this); }

/// Counts units of something bounded. Acquisition is fair: a waiter for many units is not overtaken by one for few.
class AsyncSemaphore {
 public:
  AsyncSemaphore(NvmePoller& poller, std::size_t units) : poller_(poller), units_(units) {}

  class Awaiter;
  /// co_await semaphore.acquire(n): n must not exceed what the semaphore can ever hold.
  [[nodiscard]] Awaiter acquire(std::size_t units = 1);
  [[nodiscard]] bool try_acquire(std::size_t units = 1) {
    if (!waiters_.empty() || units_ < units) return false;
    units_ -= units;
    return true;
  }
  void release(std::size_t units = 1) {
    units_ += units;
    grant();
  }
  [[nodiscard]] std::size_t available() const { return units_; }

 private:
  struct Waiter : IntrusiveListNode {
    Resumer resumer;
    std::size_t units = 0;
    bool granted = false;
  };
  void grant() {
    while (!waiters_.empty() && waiters_.front().units <= units_) {
      Waiter& waiter = *waiters_.pop_front();
      units_ -= waiter.units;
      waiter.granted = true;
      granted_.push_back(waiter);
      poller_.schedule(waiter.resumer);
    }
  }

  NvmePoller& poller_;
  std::size_t units_;
  IntrusiveList<Waiter> waiters_;
  IntrusiveList<Waiter> granted_;  // served, but not resumed yet

 public:
  class Awaiter : private Waiter {
   public:
    Awaiter(AsyncSemaphore& semaphore, std::size_t wanted) : semaphore_(semaphore) { units = wanted; }
    ~Awaiter() {
      // Resumed, never suspended, or the semaphore is gone: it has unlinked us.
      if (!linked()) return;
      unlink();
      if (granted)
        semaphore_.release(units);
      else
        semaphore_.grant();  // those behind may need less
    }
    bool await_ready() { return semaphore_.try_acquire(units); }
    void await_suspend(std::coroutine_handle<> handle) {
      resumer.set(handle);
      semaphore_.waiters_.push_back(*this);
    }
    void await_resume() noexcept { unlink(); }

   private:
    friend class AsyncSemaphore;
    AsyncSemaphore& semaphore_;
  };
};

inline AsyncSemaphore::Awaiter AsyncSemaphore::acquire(std::size_t units) { return Awaiter(*this, units); }

/// One task at a time. The guard must not outlive the mutex.
///
///   const AsyncMutex::Guard guard = co_await mutex.lock();
class AsyncMutex {
 public:
  explicit AsyncMutex(NvmePoller& poller) : free_(poller, 1) {}

  class [[nodiscard]] Guard {
   public:
    Guard(Guard&& other) noexcept : semaphore_(std::exchange(other.semaphore_, nullptr)) {}
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    Guard& operator=(Guard&&) = delete;
    ~Guard() { unlock(); }
    void unlock() {
      if (AsyncSemaphore* held = std::exchange(semaphore_, nullptr)) held->release();
    }

   private:
    friend class AsyncMutex;
    explicit Guard(AsyncSemaphore& semaphore) : semaphore_(&semaphore) {}
    AsyncSemaphore* semaphore_;
  };

  class Awaiter : private AsyncSemaphore::Awaiter {
   public:
    explicit Awaiter(AsyncSemaphore& semaphore) : AsyncSemaphore::Awaiter(semaphore, 1), semaphore_(semaphore) {}
    using AsyncSemaphore::Awaiter::await_ready;
    using AsyncSemaphore::Awaiter::await_suspend;
    Guard await_resume() noexcept {
      AsyncSemaphore::Awaiter::await_resume();
      return Guard(semaphore_);
    }

   private:
    AsyncSemaphore& semaphore_;
  };
  /// co_await mutex.lock()
  [[nodiscard]] Awaiter lock() { return Awaiter(free_); }
  [[nodiscard]] bool locked() const { return free_.available() == 0; }

 private:
  AsyncSemaphore free_;
};

/// Runs tasks side by side and waits for all of them. Destroy it only when wait() has returned (or with all its tasks,
/// when the poller stops). Only the group's own tasks may spawn into it while someone waits.
///
///   TaskGroup group(poller);
///   for (...) group.spawn(write_chunk(...));
///   co_await group.wait();
class TaskGroup {
 public:
  explicit TaskGroup(NvmePoller& poller) : poller_(poller), done_(poller) { done_.set(); }

  void spawn(Task<void> task) {
    ++running_;
    done_.reset();
    poller_.spawn(run(*this, std::move(task)));
  }
  [[nodiscard]] std::size_t running() const { return running_; }
  [[nodiscard]] AsyncEvent::Awaiter wait() { return done_.wait(); }

 private:
  static Task<void> run(TaskGroup& group, Task<void> task) {
    co_await task;
    if (--group.running_ == 0) group.done_.set();
  }

  NvmePoller& poller_;
  AsyncEvent done_;
  std::size_t running_ = 0;
};

}  // namespace leap
