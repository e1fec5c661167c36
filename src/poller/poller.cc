#include "poller/poller.h"

#include <algorithm>
#include <array>
#include <system_error>

#include <fmt/format.h>

#include "base/affinity.h"
#include "base/cpu.h"
#include "base/sys.h"

namespace leap {
namespace {

thread_local NvmePoller* t_current = nullptr;

/// What falling asleep and being woken costs, roughly: the part of a slept-through gap that spinning would have saved.
constexpr std::int64_t kSleepCostNs = 30'000;
/// With more hot pollables than this, one look at all descriptors is cheaper than one system call each.
constexpr std::size_t kMaxPolledDirectly = 8;
/// A descriptor that is not hot is looked at every so many turns, or a busy poller would be deaf to it, but not more
/// often than kLookInterval: with pollables that mostly need no system call, turns are short. (Where time stands still,
/// in virtual time, turns alone have to do.) Idle turns have nothing better to do.
constexpr std::uint32_t kLookEvery = 32;
constexpr Nanos kLookInterval = std::chrono::microseconds(50);
constexpr std::uint32_t kLookAtLeastEvery = 1024;
constexpr std::uint32_t kLookEveryIdle = 8;
constexpr std::uint32_t kSleepsPerTrial = 64;
constexpr int kTrialFactor = 4;
constexpr std::size_t kMailboxBatch = 256;
constexpr std::size_t kReadyBatch = 256;
constexpr std::size_t kMaxMailbox = std::size_t{1} << 20;
/// The longest pause between two idle turns: what a reply may wait at worst because the poller looked away.
constexpr Nanos kLongestPause = std::chrono::microseconds(1);

/// Only the poller writes its probe: a plain add is enough, and cheaper than an atomic one.
void add(std::atomic<std::uint64_t>& counter, std::uint64_t value) {
  counter.store(counter.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

/// Makes `poller` the current one of this thread while it lives.
class Entered {
 public:
  explicit Entered(NvmePoller* poller) : previous_(std::exchange(t_current, poller)) {}
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;
  ~Entered() { t_current = previous_; }

 private:
  NvmePoller* previous_;
};

/// How many cpu_relax() calls make kLongestPause: from 10 ns to 100 ns each, depending on the core.
std::uint32_t measure_longest_pause() {
  constexpr std::uint32_t kCalls = 200;
  std::int64_t best = INT64_MAX;
  for (int attempt = 0; attempt < 3; ++attempt) {  // the shortest: an interruption only makes it longer
    const TimePoint before = Clock::system().now();
    for (std::uint32_t i = 0; i < kCalls; ++i) cpu_relax();
    best = std::min(best, (Clock::system().now() - before).count());
  }
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(kLongestPause.count() * kCalls / std::max(best, std::int64_t{1}), 1, 1000));
}

}  // namespace

/// Owns a spawned task. Registered with its poller so that stop() can destroy it wherever it is suspended.
struct NvmePoller::Root {
  struct promise_type : IntrusiveListNode {
    static void* operator new(std::size_t size) { return frame_pool::allocate(size); }
    static void operator delete(void* frame, std::size_t size) { frame_pool::release(frame, size); }
    Root get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }  // frees the frame, which unlinks it
    void return_void() {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
  std::coroutine_handle<promise_type> handle;

  static Root own(Task<void> task) { co_await task; }
};

Result<> NvmePoller::Config::validate() const {
  if (core < -1) return Error(Errc::kInvalidArgument, fmt::format("poller {}: core {} (-1: not pinned)", name, core));
  if (mailbox_capacity == 0 || mailbox_capacity > kMaxMailbox) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("poller {}: mailbox of {} calls (1..{})", name, mailbox_capacity, kMaxMailbox));
  }
  if (spin_max.count() < 0 || spin_max > std::chrono::seconds(1)) {
    return Error(Errc::kInvalidArgument, fmt::format("poller {}: spin_max of {} ns (0..1 s)", name, spin_max.count()));
  }
  return {};
}

Result<std::unique_ptr<NvmePoller>> NvmePoller::create(Config config) {
  LEAP_TRY(auto backend, WaitBackend::epoll());
  return create(std::move(config), Clock::system(), std::move(backend));
}

Result<std::unique_ptr<NvmePoller>> NvmePoller::create(Config config, const Clock& clock,
                                                       std::unique_ptr<WaitBackend> backend) {
  LEAP_TRY_VOID(config.validate());
  return std::unique_ptr<NvmePoller>(new NvmePoller(std::move(config), clock, std::move(backend)));
}

NvmePoller::NvmePoller(Config config, const Clock& clock, std::unique_ptr<WaitBackend> backend)
    : config_(std::move(config)),
      clock_(clock),
      backend_(std::move(backend)),
      mailbox_(config_.mailbox_capacity),
      now_(clock.now()),
      looked_at_(now_) {}

NvmePoller::~NvmePoller() { stop(); }

NvmePoller* NvmePoller::current() { return t_current; }

Result<> NvmePoller::start() {
  LEAP_CHECK(!thread_.joinable(), "poller started twice");
  if (stopping()) return Error(Errc::kWrongState, fmt::format("poller {} cannot be started again", config_.name));
  std::promise<Result<>> pinned;
  auto outcome = pinned.get_future();
  try {
    // The promise goes along: this thread may have the result, and be gone, before set_value() has returned.
    thread_ = std::thread([this, promise = std::move(pinned)]() mutable {
      set_thread_name(config_.name);
      Result<> result;
      if (config_.core >= 0) result = pin_this_thread(static_cast<unsigned>(config_.core));
      const bool go = result.ok();
      promise.set_value(std::move(result));
      if (go) loop();
    });
  } catch (const std::system_error& error) {
    return Error::os(error.code().value(), fmt::format("start the thread of poller {}", config_.name));
  }
  Result<> result = outcome.get();
  if (result.ok()) {
    started_.store(true);
    return result;
  }
  thread_.join();
  return std::move(result).error().context(fmt::format("start poller {}", config_.name));
}

void NvmePoller::stop() {
  LEAP_CHECK(t_current != this, "a poller cannot stop itself");
  if (stopped_.load()) return;
  stop_requested_.store(true, std::memory_order_seq_cst);
  if (thread_.joinable()) {
    backend_->wake();
    thread_.join();
  } else {
    const Entered entered(this);
    finish();
  }
  stopped_.store(true);
}

bool NvmePoller::try_post(void (*fn)(void*), void* context) {
  if (!mailbox_.try_push({fn, context})) return false;
  if (gate_.must_wake()) backend_->wake();
  return true;
}

void NvmePoller::post(void (*fn)(void*), void* context) {
  while (!try_post(fn, context)) {
    LEAP_CHECK(t_current != this, "a poller waits for room in its own full mailbox");
    if (stopping()) return;
    std::this_thread::yield();
  }
}

void NvmePoller::spawn(Task<void> task) {
  LEAP_DCHECK(task.valid(), "an empty task is spawned");
  Root root = Root::own(std::move(task));
  roots_.push_front(root.handle.promise());
  root.handle.resume();
}

void NvmePoller::schedule(Resumer& resumer) {
  if (!resumer.linked()) ready_.push_back(resumer);
}

NvmePoller::SleepAwaiter NvmePoller::sleep_for(Nanos duration) {
  const TimePoint now = clock_.now();
  const bool for_ever = duration.count() > TimePoint::max().ns - now.ns;
  return SleepAwaiter(*this, for_ever ? TimePoint::max() : now + duration, false);
}

NvmePoller::SleepAwaiter NvmePoller::yield() { return SleepAwaiter(*this, now_, true); }

void NvmePoller::loop() {
  const Entered entered(this);
  longest_pause_ = measure_longest_pause();
  while (!stopping()) {
    if (turn() > 0) continue;
    if (keep_spinning())
      pause();
    else
      sleep(Nanos{-1});
  }
  finish();
}

void NvmePoller::finish() {
  // What producers keep adding is not "already in the mailbox".
  drain_mailbox(mailbox_.capacity());
  // The youngest first: a task may use what an older one, which started it, has in its frame. Nothing is run any more.
  while (!roots_.empty()) {
    auto& promise = static_cast<Root::promise_type&>(roots_.front());
    std::coroutine_handle<Root::promise_type>::from_promise(promise).destroy();
  }
}

std::size_t NvmePoller::run_once() {
  const Entered entered(this);
  look_at_descriptors(Nanos{0});
  return turn();
}

void NvmePoller::run_and_wait(Nanos timeout) {
  const Entered entered(this);
  while (turn() > 0) {
  }
  sleep(timeout);
  while (turn() > 0) {
  }
}

std::size_t NvmePoller::turn() {
  now_ = clock_.now();
  std::size_t work = drain_mailbox(kMailboxBatch);
  work += timers_.expire(now_);
  work += poll_hot();
  work += resume_ready();
  work += end_turn();
  add(probe_.turns, 1);
  if (work > 0) {
    add(probe_.busy_turns, 1);
    learn_gap();
    probe_.syscalls.store(sys::counters().total(), std::memory_order_relaxed);
  }
  return work;
}

std::size_t NvmePoller::end_turn() {
  // A hook may ask for the next turn's end again; it must not keep this one from ending.
  IntrusiveList<TurnEndHook> hooks;
  while (TurnEndHook* hook = turn_end_.pop_front()) hooks.push_back(*hook);
  std::size_t called = 0;
  while (TurnEndHook* hook = hooks.pop_front()) {
    ++called;
    hook->on_turn_end();
  }
  return called;
}

std::size_t NvmePoller::drain_mailbox(std::size_t limit) {
  std::size_t calls = 0;
  while (calls < limit) {
    const auto call = mailbox_.try_pop();
    if (!call) break;
    ++calls;
    call->fn(call->context);
  }
  if (calls > 0) add(probe_.mailbox_calls, calls);
  return calls;
}

std::size_t NvmePoller::resume_ready() {
  while (Resumer* resumer = yielded_.pop_front()) ready_.push_back(*resumer);
  std::size_t resumed = 0;
  while (resumed < kReadyBatch) {
    Resumer* resumer = ready_.pop_front();
    if (resumer == nullptr) break;
    ++resumed;
    // The resumer lives in the frame and may be gone after this.
    std::exchange(resumer->handle_, nullptr).resume();
  }
  return resumed;
}

std::size_t NvmePoller::poll_hot() {
  IntrusiveList<Pollable> batch;
  std::size_t count = 0;
  while (Pollable* pollable = hot_.pop_front()) {
    batch.push_back(*pollable);
    ++count;
  }
  const bool all = count <= kMaxPolledDirectly;
  if (!all || look_is_due()) look_at_descriptors(Nanos{0});
  while (Pollable* pollable = hot_.pop_front()) batch.push_back(*pollable);
  return serve(batch, all);
}

bool NvmePoller::look_is_due() {
  ++turns_since_look_;
  if (idle_turns_ > 0) return turns_since_look_ >= kLookEveryIdle;
  if (turns_since_look_ < kLookEvery) return false;
  return now_ - looked_at_ >= kLookInterval || turns_since_look_ >= kLookAtLeastEvery;
}

void NvmePoller::look_at_descriptors(Nanos timeout) {
  turns_since_look_ = 0;
  looked_at_ = now_;
  std::array<Pollable*, 64> ready{};
  const std::size_t count = backend_->wait(timeout, ready);
  for (std::size_t i = 0; i < count; ++i) heat(*ready[i]);
}

std::size_t NvmePoller::serve(IntrusiveList<Pollable>& batch, bool all) {
  std::size_t work = 0;
  while (Pollable* pollable = batch.pop_front()) {
    std::size_t done = 0;
    // Who may have something without its descriptor saying so is always asked.
    if (all || pollable->must_poll_ || !pollable->watched_) {
      pollable->must_poll_ = false;
      // poll() may destroy this pollable, or others of the batch, or take it off the hot list: whoever is still on this
      // list of one afterwards is alive and stays hot.
      IntrusiveList<Pollable> current;
      current.push_back(*pollable);
      done = pollable->poll();
      work += done;
      pollable = current.pop_front();
      if (pollable == nullptr) continue;
    }
    if (done > 0) {
      pollable->must_poll_ = true;
      pollable->worked_at_ = now_;
    }
    // On a poller that is always busy, those that were busy once would otherwise cost a system call per turn for ever.
    const bool cold = !pollable->must_poll_ && pollable->watched_ && now_ - pollable->worked_at_ > config_.spin_max;
    if (!cold) hot_.push_back(*pollable);
  }
  return work;
}

bool NvmePoller::keep_spinning() {
  if (idle_turns_ == 0) idle_since_ = now_;
  ++idle_turns_;
  if (idle_turns_ > config_.spin_iterations) return false;
  if (trial_spin_) return now_ - idle_since_ <= kTrialFactor * config_.spin_max;
  return expected_gap_ns_ <= config_.spin_max.count() && now_ - idle_since_ <= config_.spin_max;
}

void NvmePoller::pause() const {
  // 1, 2, 4, ... : a reply that comes at once is seen at once, and a longer wait does not hammer the kernel with
  // questions. The mailbox is memory, and watched throughout.
  const std::uint32_t calls = idle_turns_ > 10 ? longest_pause_ : std::min(longest_pause_, 1U << (idle_turns_ - 1));
  for (std::uint32_t i = 0; i < calls && mailbox_.empty(); ++i) cpu_relax();
}

void NvmePoller::learn_gap() {
  if (idle_turns_ == 0) return;
  std::int64_t gap = (now_ - idle_since_).count();
  add(probe_.spin_ns, static_cast<std::uint64_t>(std::max<std::int64_t>(gap - slept_in_gap_ns_, 0)));
  // A stretch that was slept through looks longer than it was by the price of waking. And a long one counts as "long",
  // not by its length: one quiet second must not need a thousand short gaps to be forgotten.
  if (slept_in_gap_ns_ > 0) gap -= kSleepCostNs;
  gap = std::clamp<std::int64_t>(gap, 0, kTrialFactor * config_.spin_max.count());
  expected_gap_ns_ += (gap - expected_gap_ns_) / 8;
  idle_turns_ = 0;
  slept_in_gap_ns_ = 0;
}

void NvmePoller::sleep(Nanos limit) {
  gate_.announce_sleep();
  const bool work = !mailbox_.empty() || !ready_.empty() || !yielded_.empty() || !turn_end_.empty();
  if (work || stopping()) {
    gate_.awake();
    return;
  }
  const TimePoint before = clock_.now();
  const TimePoint deadline = timers_.next_deadline();
  Nanos timeout = limit;
  if (deadline != TimePoint::max()) {
    const Nanos until = std::max(deadline - before, Nanos{0});
    timeout = limit.count() < 0 ? until : std::min(limit, until);
  }
  // From here on descriptors have to tell. Nobody is forgotten: every one of these has just said that it has nothing.
  while (hot_.pop_front() != nullptr) {
  }
  add(probe_.sleeps, 1);
  // Two peers that both sleep see only each other's wake-ups and would never learn that spinning pays: now and then,
  // try.
  constexpr std::uint32_t kSleepsPerTrial = 64;
  trial_spin_ = ++sleeps_since_trial_ % kSleepsPerTrial == 0;
  std::array<Pollable*, 64> ready{};
  const std::size_t count = backend_->wait(timeout, ready);
  gate_.awake();
  now_ = clock_.now();
  slept_in_gap_ns_ += (now_ - before).count();
  add(probe_.sleep_ns, static_cast<std::uint64_t>((now_ - before).count()));
  for (std::size_t i = 0; i < count; ++i) heat(*ready[i]);
}

}  // namespace leap
