// Result<T>: a T or an Error; Result<> (= Result<void>) for operations without a value.
//
// [[nodiscard]] everywhere; value() of a failure and error() of a success are CHECK failures, never undefined
// behaviour.
//
//   Result<std::uint64_t> size = parse_size(text);
//   if (!size) return std::move(size).error();
//
//   LEAP_TRY(auto bytes, parse_size(text));          // declares `bytes` or returns the error
//   LEAP_TRY_VOID(device.flush());
//   LEAP_CO_TRY(auto buf, co_await channel.read(0, std::move(dst)));   // in coroutines
#pragma once

#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/error.h"

namespace leap {

template <typename T = void>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  // Implicit on purpose: `return value;` and `return error;` both read naturally.
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  [[nodiscard]] T& value() & {
    LEAP_CHECK(ok(), error().to_string());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] const T& value() const& {
    LEAP_CHECK(ok(), error().to_string());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] T&& value() && {
    LEAP_CHECK(ok(), error().to_string());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  [[nodiscard]] const Error& error() const& {
    LEAP_CHECK(!ok(), "error() of a success");
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] Error error() && {
    LEAP_CHECK(!ok(), "error() of a success");
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  void value() const { LEAP_CHECK(ok(), error_->to_string()); }

  [[nodiscard]] const Error& error() const& {
    LEAP_CHECK(!ok(), "error() of a success");
    return *error_;
  }
  [[nodiscard]] Error error() && {
    LEAP_CHECK(!ok(), "error() of a success");
    return std::move(*error_);
  }

  /// Says in the code, greppably, that this failure changes nothing for the caller.
  void ignore(const char* /*why*/) const {}

 private:
  std::optional<Error> error_;
};

}  // namespace leap

#define LEAP_CONCAT_INNER(a, b) a##b
#define LEAP_CONCAT(a, b) LEAP_CONCAT_INNER(a, b)

#define LEAP_TRY_IMPL(tmp, ret, decl, expr)  \
  auto tmp = (expr);                         \
  if (!tmp.ok()) ret std::move(tmp).error(); \
  decl = std::move(tmp).value()
#define LEAP_TRY_VOID_IMPL(tmp, ret, expr)     \
  do {                                         \
    auto tmp = (expr);                         \
    if (!tmp.ok()) ret std::move(tmp).error(); \
  } while (false)

#define LEAP_TRY(decl, expr) LEAP_TRY_IMPL(LEAP_CONCAT(leap_try_, __COUNTER__), return, decl, expr)
#define LEAP_TRY_VOID(expr) LEAP_TRY_VOID_IMPL(LEAP_CONCAT(leap_try_, __COUNTER__), return, expr)
#define LEAP_CO_TRY(decl, expr) LEAP_TRY_IMPL(LEAP_CONCAT(leap_try_, __COUNTER__), co_return, decl, expr)
#define LEAP_CO_TRY_VOID(expr) LEAP_TRY_VOID_IMPL(LEAP_CONCAT(leap_try_, __COUNTER__), co_return, expr)
