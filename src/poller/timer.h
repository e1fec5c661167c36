// Timer and TimerQueue: deadlines on a poller. Arm and cancel are O(log n), without allocation once warm.
//
//   Timer timer(poller.timers(), [](void* self) { static_cast<Session*>(self)->on_timeout(); }, this);
//   timer.arm(poller.now() + 5s);
//
// Threading: poller thread only. A callback may arm, cancel and destroy any timer, its own included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/intrusive_list.h"

namespace leap {

class TimerQueue;

/// One deadline with a plain function to call. Disarms itself on destruction; must not outlive its queue while armed.
class Timer : private IntrusiveListNode {
 public:
  using Callback = void (*)(void* context);

  Timer(TimerQueue& queue, Callback callback, void* context) : queue_(queue), callback_(callback), context_(context) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { cancel(); }

  /// Calls back once at or after `deadline`; replaces an earlier deadline. TimePoint::max() is never.
  void arm(TimePoint deadline);
  void cancel();
  [[nodiscard]] bool armed() const { return index_ != kIdle || linked(); }

 private:
  friend class TimerQueue;
  template <typename T>
  friend class IntrusiveList;
  static constexpr std::size_t kIdle = SIZE_MAX;

  TimerQueue& queue_;
  Callback callback_;
  void* context_;
  TimePoint deadline_;
  std::size_t index_ = kIdle;  // place in the queue's heap; a timer that is due waits on expire()'s list instead
};

/// A binary heap of armed timers.
class TimerQueue {
 public:
  TimerQueue() = default;
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;
  ~TimerQueue();

  /// Fires every timer due at `now`, earliest deadline first; returns how many. What callbacks arm fires in a later
  /// call, even for a time that has already passed, so that one call always ends and starves nobody.
  std::size_t expire(TimePoint now);
  /// TimePoint::max() when nothing is armed.
  [[nodiscard]] TimePoint next_deadline() const;

 private:
  friend class Timer;
  void insert(Timer& timer);
  void remove(Timer& timer);
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);
  void place(std::size_t index, Timer* timer);

  std::vector<Timer*> heap_;
};

}  // namespace leap
