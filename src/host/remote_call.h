// call_on: runs a task on another poller and goes on here with what it returned. Control plane only (it allocates).
//
//   Result<Result<>> done = co_await call_on(home, there, [&set](NvmePoller& p) { return set.close(p); }, deadline);
//
// The outer Result is kTimedOut when `there` has not replied by `deadline` (it is stuck, or has been stopped): the call
// may then still run, so what `make` refers to must live as long as `there` does. Mailboxes that are full are waited
// for, never blocked on. `make(there)` must return a Task; it must not itself be a coroutine lambda with captures.
#pragma once

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "poller/poller.h"
#include "poller/sync.h"

namespace leap {

namespace remote_call_detail {

template <typename Make, typename T>
struct State {
  State(NvmePoller& caller, NvmePoller& callee, Make fn)
      : here(caller), there(callee), make(std::move(fn)), done(caller) {}
  NvmePoller& here;
  NvmePoller& there;
  Make make;
  AsyncEvent done;          // touched on `here` only
  std::optional<T> result;  // written on `there`, read on `here` after done
};

template <typename Make, typename T>
struct Call {
  using Shared = std::shared_ptr<State<Make, T>>;

  /// Hands a reference to `fn` on `to`, which must delete it.
  static Task<void> send(NvmePoller& from, NvmePoller& to, void (*fn)(void*), Shared state) {
    auto reference = std::make_unique<Shared>(std::move(state));
    constexpr Nanos kPause = std::chrono::microseconds(100);
    while (!to.try_post(fn, reference.get())) co_await from.sleep_for(kPause);
    static_cast<void>(reference.release());
  }
  static void begin(void* context) {
    const std::unique_ptr<Shared> state(static_cast<Shared*>(context));
    (*state)->there.spawn(execute(*state));
  }
  static Task<void> execute(Shared state) {
    state->result.emplace(co_await state->make(state->there));
    NvmePoller& there = state->there;
    NvmePoller& here = state->here;
    co_await send(there, here, &Call::finish, std::move(state));
  }
  static void finish(void* context) {
    const std::unique_ptr<Shared> state(static_cast<Shared*>(context));
    (*state)->done.set();
  }
};

inline void set_event(void* event) { static_cast<AsyncEvent*>(event)->set(); }

}  // namespace remote_call_detail

template <typename Make>
auto call_on(NvmePoller& here, NvmePoller& there, Make make, TimePoint deadline)
    -> Task<Result<typename std::invoke_result_t<Make, NvmePoller&>::value_type>> {
  using T = typename std::invoke_result_t<Make, NvmePoller&>::value_type;
  using Call = remote_call_detail::Call<Make, T>;
  if (&here == &there) {
    T value = co_await make(there);
    co_return std::move(value);
  }
  auto state = std::make_shared<remote_call_detail::State<Make, T>>(here, there, std::move(make));
  co_await Call::send(here, there, &Call::begin, state);
  Timer timer(here.timers(), &remote_call_detail::set_event, &state->done);
  if (deadline != TimePoint::max()) timer.arm(deadline);
  co_await state->done.wait();
  if (!timer.armed() && deadline != TimePoint::max()) {
    // The event came from the timer: the result may be written at this very moment and is not ours to look at.
    co_return Error(Errc::kTimedOut, "poller " + there.name() + " does not reply").with_scope(ErrorScope::kProcess);
  }
  co_return std::move(*state->result);
}

}  // namespace leap
