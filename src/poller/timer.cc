#include "poller/timer.h"

#include "base/check.h"

namespace leap {

void Timer::arm(TimePoint deadline) {
  cancel();
  deadline_ = deadline;
  queue_.insert(*this);
}

void Timer::cancel() {
  if (index_ != kIdle)
    queue_.remove(*this);
  else
    unlink();
}

TimerQueue::~TimerQueue() { LEAP_CHECK(heap_.empty(), "a timer outlives its queue"); }

TimePoint TimerQueue::next_deadline() const { return heap_.empty() ? TimePoint::max() : heap_.front()->deadline_; }

std::size_t TimerQueue::expire(TimePoint now) {
  // Take out all that is due before calling anyone: what a callback arms in the past cannot push in front of the
  // others.
  IntrusiveList<Timer> due;
  while (!heap_.empty() && heap_.front()->deadline_ <= now) {
    Timer& timer = *heap_.front();
    remove(timer);
    due.push_back(timer);
  }
  std::size_t fired = 0;
  while (Timer* timer = due.pop_front()) {
    ++fired;
    timer->callback_(timer->context_);
  }
  return fired;
}

void TimerQueue::place(std::size_t index, Timer* timer) {
  heap_[index] = timer;
  timer->index_ = index;
}

void TimerQueue::insert(Timer& timer) {
  heap_.push_back(&timer);
  timer.index_ = heap_.size() - 1;
  sift_up(timer.index_);
}

void TimerQueue::remove(Timer& timer) {
  const std::size_t index = timer.index_;
  timer.index_ = Timer::kIdle;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  place(index, last);
  sift_up(index);
  sift_down(last->index_);
}

void TimerQueue::sift_up(std::size_t index) {
  Timer* timer = heap_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (heap_[parent]->deadline_ <= timer->deadline_) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, timer);
}

void TimerQueue::sift_down(std::size_t index) {
  Timer* timer = heap_[index];
  for (;;) {
    std::size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->deadline_ < heap_[child]->deadline_) ++child;
    if (timer->deadline_ <= heap_[child]->deadline_) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, timer);
}

}  // namespace leap
