// NvmePoller: one thread, one core, one loop. Everything that does I/O lives on one.
//
// A turn of the loop drains the mailbox, resumes ready coroutines, fires timers, and serves the pollables that are hot.
// When a turn finds nothing to do, the poller spins for as long as work is likely to come sooner than sleeping and
// waking would take (learned from arrivals, bounded by spin_iterations and spin_max), and then sleeps in ONE wait over
// the mailbox, all descriptors and the next deadline. Idle costs nothing but timers.
//
//   auto poller = NvmePoller::create({.name = "p0", .core = 0}).value();
//   LEAP_TRY_VOID(poller->start());
//   Result<> ok = poller->run([](NvmePoller& p) -> Task<Result<>> { co_await p.sleep_for(1ms); co_return Result<>{};
//   }); poller->stop();
//
// Threading: create/start/stop/run from the owner's thread; try_post/post from any thread; everything else only on the
// poller's own thread (inside callbacks, tasks and pollables). Without start(), the owner may drive the loop itself
// with run_once(), which is how single-threaded tests and the simulation use it.
#pragma once

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/clock.h"
#include "base/intrusive_list.h"
#include "base/mpsc_ring.h"
#include "base/result.h"
#include "poller/pollable.h"
#include "poller/task.h"
#include "poller/timer.h"
#include "poller/wait_backend.h"
#include "poller/wakeup.h"

namespace leap {

/// A suspended coroutine on its way to being resumed. Awaiters embed one; destroying it withdraws the resumption.
class Resumer : public IntrusiveListNode {
 public:
  void set(std::coroutine_handle<> handle) { handle_ = handle; }
  [[nodiscard]] bool waiting() const { return handle_ != nullptr; }

 private:
  friend class NvmePoller;
  std::coroutine_handle<> handle_;
};

/// Called at the end of the turn in which it was registered, on the poller's thread (see NvmePoller::at_turn_end).
class TurnEndHook : public IntrusiveListNode {
 public:
  virtual ~TurnEndHook() = default;
  virtual void on_turn_end() = 0;
};

class NvmePoller {
 public:
  struct Config {
    std::string name = "poller";                     ///< thread name, at most 15 characters are visible
    int core = -1;                                   ///< CPU to pin to; -1 = not pinned
    std::size_t mailbox_capacity = 4096;             ///< calls, 1..2^20; a full mailbox is back-pressure for producers
    std::uint32_t spin_iterations = 1000;            ///< idle turns before sleeping, at most; 0 = never spin
    Nanos spin_max = std::chrono::microseconds(50);  ///< time spent on them, at most; now and then four times that

    /// kInvalidArgument: a value outside its range. create() asks.
    [[nodiscard]] Result<> validate() const;
  };

  /// Written by the poller only, readable from any thread (relaxed).
  struct Probe {
    std::atomic<std::uint64_t> turns{0};
    std::atomic<std::uint64_t> busy_turns{0};
    std::atomic<std::uint64_t> sleeps{0};
    std::atomic<std::uint64_t> spin_ns{0};  ///< time awake without work
    std::atomic<std::uint64_t> sleep_ns{0};
    std::atomic<std::uint64_t> mailbox_calls{0};
    std::atomic<std::uint64_t> syscalls{0};  ///< of this thread, as counted by base/sys.h
  };

  /// Errors: kInvalidArgument (configuration), os (out of descriptors).
  static Result<std::unique_ptr<NvmePoller>> create(Config config);
  /// `clock` must outlive the poller.
  static Result<std::unique_ptr<NvmePoller>> create(Config config, const Clock& clock,
                                                    std::unique_ptr<WaitBackend> backend);
  ~NvmePoller();
  NvmePoller(const NvmePoller&) = delete;
  NvmePoller& operator=(const NvmePoller&) = delete;

  // --- owner ---
  /// Starts the thread and pins it. Errors: os (the core does not exist or is not ours, no more threads), after which
  /// it may be tried again; kWrongState after stop(). Twice is a CHECK failure.
  Result<> start();
  /// Runs what is already in the mailbox, destroys the tasks that are still suspended (the youngest first; their
  /// awaiters unregister), joins. Safe to call twice and without start(); not from the poller's own thread, turn or
  /// tasks.
  void stop();
  /// One turn without sleeping, on the calling thread: descriptors included. Returns the work done.
  std::size_t run_once();
  /// Turns until idle, then one wait of at most `timeout` on the calling thread. For tests and simulation.
  void run_and_wait(Nanos timeout);

  // --- any thread ---
  /// Queues fn(context) for the poller. False: the mailbox is full and nothing was queued.
  [[nodiscard]] bool try_post(void (*fn)(void*), void* context);
  /// Like try_post, but waits for room (yielding). Never from a poller's thread: two full mailboxes would wait for each
  /// other. When the poller stops meanwhile, the call is dropped, as is every call that comes too late.
  void post(void (*fn)(void*), void* context);
  /// Runs `make(*this)`, a function that returns a Task<T>, on the poller and blocks until it is done. Control plane
  /// only; never from a poller's thread. `make` lives until then, so here a lambda that is a coroutine may capture. The
  /// poller must be running. Stopped meanwhile: kCancelled if T is a Result, otherwise a CHECK failure.
  template <typename Make>
  auto run(Make make) -> typename std::invoke_result_t<Make, NvmePoller&>::value_type;

  // --- the poller's thread ---
  [[nodiscard]] static NvmePoller* current();
  [[nodiscard]] bool on_this_thread() const { return current() == this; }
  [[nodiscard]] const Clock& clock() const { return clock_; }
  /// The time at the start of this turn: free to read, at most one turn old.
  [[nodiscard]] TimePoint now() const { return now_; }
  [[nodiscard]] TimerQueue& timers() { return timers_; }
  [[nodiscard]] const std::string& name() const { return config_.name; }
  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const Probe& probe() const { return probe_; }
  [[nodiscard]] bool stopping() const { return stop_requested_.load(std::memory_order_relaxed); }

  /// Starts `task` now, detached: it runs until its first suspension before spawn returns. Frames alive at stop() are
  /// destroyed.
  void spawn(Task<void> task);
  /// Resumes the coroutine in this or the next turn, first come, first served. Already scheduled: no effect.
  void schedule(Resumer& resumer);

  /// Has `pollable` called when `fd` is ready: at once when the poller is idle, after some 50 us when it is busy.
  /// Error: os.
  Result<> watch(int fd, Pollable& pollable, Interest interest = {}) {
    pollable.watched_ = true;
    return backend_->watch(fd, pollable, interest);
  }
  Result<> rewatch(int fd, Pollable& pollable, Interest interest) { return backend_->rewatch(fd, pollable, interest); }
  void unwatch(int fd) { backend_->unwatch(fd); }
  /// Has `hook` called once at the end of this turn: where everything the turn produced leaves in one batch. A hook
  /// that asks again is called at the end of the next turn, and keeps the poller from sleeping until then.
  void at_turn_end(TurnEndHook& hook) {
    if (!hook.linked()) turn_end_.push_back(hook);
  }
  /// Has poll() called in the next turn, and then every turn while a reply is expected soon: until it has found nothing
  /// for spin_max, or the poller goes to sleep. From then on its descriptor has to tell. (With more than eight of them
  /// hot, the descriptors are asked instead, in one call, and poll() is called only where there is something.)
  void heat(Pollable& pollable) {
    pollable.must_poll_ = true;
    pollable.worked_at_ = now_;
    if (!pollable.linked()) hot_.push_back(pollable);
  }

  /// Ends that. Its descriptor, if it has one, still tells; also from within its own poll().
  void cool(Pollable& pollable) { pollable.unlink(); }

  class SleepAwaiter;
  /// co_await poller.sleep_for(10ms)
  [[nodiscard]] SleepAwaiter sleep_for(Nanos duration);
  /// co_await poller.yield(): goes on in the next turn, when everything else has had this one.
  [[nodiscard]] SleepAwaiter yield();

 private:
  struct Call {
    void (*fn)(void*);
    void* context;
  };
  struct Root;  // the coroutine behind spawn()
  static constexpr std::size_t kCacheLine = 64;

  NvmePoller(Config config, const Clock& clock, std::unique_ptr<WaitBackend> backend);
  void loop();
  void finish();
  std::size_t turn();
  std::size_t drain_mailbox(std::size_t limit);
  std::size_t resume_ready();
  std::size_t poll_hot();
  std::size_t serve(IntrusiveList<Pollable>& batch, bool all);
  std::size_t end_turn();
  [[nodiscard]] bool look_is_due();
  /// Heats what the descriptors report.
  void look_at_descriptors(Nanos timeout);
  [[nodiscard]] bool keep_spinning();
  void pause() const;
  void learn_gap();
  void sleep(Nanos limit);

  const Config config_;
  const Clock& clock_;
  std::unique_ptr<WaitBackend> backend_;
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> started_{false};
  std::atomic<bool> stopped_{false};  // nothing will ever run again
  MpscRing<Call> mailbox_;
  // Producers read it with every post: apart from what the poller writes in every turn.
  alignas(kCacheLine) SleepGate gate_;

  alignas(kCacheLine) TimePoint now_;
  TimerQueue timers_;
  IntrusiveList<Resumer> ready_;
  IntrusiveList<Resumer> yielded_;  // ready in the next turn
  IntrusiveList<Pollable> hot_;
  IntrusiveList<TurnEndHook> turn_end_;
  IntrusiveList<IntrusiveListNode> roots_;  // youngest first
  TimePoint idle_since_;                    // start of the current idle stretch
  std::uint32_t idle_turns_ = 0;
  std::uint32_t turns_since_look_ = 0;
  TimePoint looked_at_;
  std::uint32_t sleeps_since_trial_ = 0;
  std::uint32_t longest_pause_ = 1;  // in cpu_relax() calls
  bool trial_spin_ = false;
  std::int64_t slept_in_gap_ns_ = 0;
  std::int64_t expected_gap_ns_ = 0;  // moving average of idle stretches, without the cost of sleeping
  Probe probe_;
  std::thread thread_;
};

/// Awaits a deadline. Lives in the awaiting coroutine's frame.
class NvmePoller::SleepAwaiter {
 public:
  SleepAwaiter(NvmePoller& poller, TimePoint deadline, bool yield)
      : poller_(poller), deadline_(deadline), yield_(yield), timer_(poller.timers(), &SleepAwaiter::fire, this) {}

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    resumer_.set(handle);
    if (yield_)
      poller_.yielded_.push_back(resumer_);
    else
      timer_.arm(deadline_);
  }
  void await_resume() const noexcept {}

 private:
  static void fire(void* self) {
    auto* awaiter = static_cast<SleepAwaiter*>(self);
    awaiter->poller_.schedule(awaiter->resumer_);
  }

  NvmePoller& poller_;
  TimePoint deadline_;
  bool yield_;
  Timer timer_;
  Resumer resumer_;
};

template <typename Make>
auto NvmePoller::run(Make make) -> typename std::invoke_result_t<Make, NvmePoller&>::value_type {
  using T = typename std::invoke_result_t<Make, NvmePoller&>::value_type;
  using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

  /// Answers once: with the value, or with nothing when the task is destroyed before it has one.
  struct Reply {
    std::promise<std::optional<Value>> promise;
    bool open = true;

    Reply() = default;
    Reply(Reply&& other) noexcept : promise(std::move(other.promise)), open(std::exchange(other.open, false)) {}
    ~Reply() {
      if (open) promise.set_value(std::nullopt);
    }
    void send(Value value) {
      open = false;
      promise.set_value(std::move(value));
    }
  };
  struct State {
    NvmePoller& poller;
    Make& make;
    Reply reply;

    // Takes the reply with it: the waiting thread may be gone with everything else before send() has returned.
    static Task<void> drive(NvmePoller& poller, Make& make, Reply reply) {
      if constexpr (std::is_void_v<T>) {
        co_await make(poller);
        reply.send({});
      } else {
        T value = co_await make(poller);
        reply.send(std::move(value));
      }
    }
    static void begin(void* context) {
      auto& state = *static_cast<State*>(context);
      state.poller.spawn(drive(state.poller, state.make, std::move(state.reply)));
    }
  };
  LEAP_CHECK(current() == nullptr, "NvmePoller::run blocks and must not be called on a poller");
  LEAP_CHECK(started_.load(), "NvmePoller::run on a poller that was not started would wait for ever");
  State state{*this, make, {}};
  auto future = state.reply.promise.get_future();
  bool queued = false;
  while (!queued && !stopping()) {
    queued = try_post(&State::begin, &state);
    if (!queued) std::this_thread::yield();
  }
  // A call that was queued too late is never run: once the poller is over, what has not been answered will not be.
  std::optional<Value> answer;
  constexpr auto kLook = std::chrono::milliseconds(20);
  while (queued && future.wait_for(kLook) != std::future_status::ready) queued = !stopped_.load();
  if (queued || future.wait_for(Nanos{0}) == std::future_status::ready) answer = future.get();
  if constexpr (std::is_constructible_v<T, Error>) {
    if (!answer) return Error(Errc::kCancelled, "poller " + name() + " stopped before its task was done");
  }
  LEAP_CHECK(answer.has_value(), "the poller was stopped before its task was done");
  if constexpr (!std::is_void_v<T>) return std::move(*answer);
}

}  // namespace leap
