// defer: runs a function when the scope ends, unless dismissed. For clean-up that has no type of its own.
//
//   auto undo = defer([&] { allocator.release(extent); });
//   LEAP_TRY_VOID(commit());
//   undo.dismiss();
#pragma once

#include <type_traits>
#include <utility>

namespace leap {

/// Holds `fn` by value; it must not throw. Neither copied nor moved: it belongs to its scope.
template <typename Fn>
class [[nodiscard]] ScopeExit {
 public:
  explicit ScopeExit(Fn fn) : fn_(std::move(fn)) {}
  ScopeExit(const ScopeExit&) = delete;
  ScopeExit& operator=(const ScopeExit&) = delete;
  ~ScopeExit() {
    if (armed_) fn_();
  }

  void dismiss() { armed_ = false; }

 private:
  Fn fn_;
  bool armed_ = true;
};

template <typename Fn>
ScopeExit<std::decay_t<Fn>> defer(Fn&& fn) {
  return ScopeExit<std::decay_t<Fn>>(std::forward<Fn>(fn));
}

}  // namespace leap
