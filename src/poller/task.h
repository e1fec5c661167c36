// Task<T>: a lazy coroutine. The way control flow is written on a poller.
//
//   Task<Result<DmaBuf>> read_header(BlockChannel& channel, DmaBuf buf) {
//     auto block = co_await channel.read(0, std::move(buf));
//     if (!block) co_return std::move(block).error();
//     ...
//   }
//
// * Starts when awaited (or spawned on a poller), runs on that poller's thread, is resumed only there.
// * Destroying a task destroys its frame and, with it, whatever it awaits: awaiters unregister in their destructors.
// * No exceptions: one that escapes a task terminates the process.
// * A child that finishes without suspending costs no suspension of its parent, so loops of short awaits do not
//   deepen the stack. (The child is resumed inside await_suspend; only a child that really suspended resumes its
//   parent from its final suspension.)
// * Frames come from frame_pool: no heap allocation after warm-up.
//
// Three rules for writers: a coroutine lambda must not capture (its captures die with the lambda object; pass
// parameters); reference parameters must outlive the task; and an aggregate that owns memory is named before a call that
// is awaited takes it (GCC 12 destroys a braced temporary in a co_await expression twice).
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "poller/frame_pool.h"

namespace leap {

template <typename T>
class Task;

namespace task_detail {

class PromiseBase {
 public:
  static void* operator new(std::size_t size) { return frame_pool::allocate(size); }
  static void operator delete(void* frame, std::size_t size) { frame_pool::release(frame, size); }

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
      PromiseBase& promise = self.promise();
      promise.finished_ = true;
      return promise.parent_waits_ ? promise.parent_ : std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { std::terminate(); }

 private:
  template <typename T>
  friend class leap::Task;
  std::coroutine_handle<> parent_;
  bool parent_waits_ = false;
  bool finished_ = false;
};

template <typename T>
class Promise final : public PromiseBase {
 public:
  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> final : public PromiseBase {
 public:
  Task<void> get_return_object();
  void return_void() {}
  void take() {}
};

}  // namespace task_detail

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = task_detail::Promise<T>;
  using value_type = T;

  Task() = default;
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  [[nodiscard]] bool valid() const { return handle_ != nullptr; }

  // A task is its own awaiter: it is awaited once, and lives until the end of the full expression.
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> parent) noexcept {
    LEAP_DCHECK(valid(), "an empty task is awaited");
    auto& promise = handle_.promise();
    promise.parent_ = parent;
    handle_.resume();
    if (promise.finished_) return false;
    promise.parent_waits_ = true;
    return true;
  }
  T await_resume() { return handle_.promise().take(); }

 private:
  std::coroutine_handle<promise_type> handle_;
};

namespace task_detail {

template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

}  // namespace task_detail

}  // namespace leap
