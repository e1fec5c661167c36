// StrongId<Tag, T>: an integer that says what it counts, so that a queue id never lands where a command id belongs.
//
// A value type the size of T; no arithmetic, explicit in and out. Hashes and formats as its value.
//
//   using Cid = StrongId<struct CidTag, std::uint16_t>;
//   const Cid cid{7};
//   fmt::format("cid {}", cid);   // "cid 7"
#pragma once

#include <compare>
#include <cstddef>
#include <functional>
#include <type_traits>

#include <fmt/format.h>

namespace leap {

template <typename Tag, typename T>
class StrongId {
  static_assert(std::is_integral_v<T>);

 public:
  using value_type = T;

  constexpr StrongId() = default;
  constexpr explicit StrongId(T value) : value_(value) {}

  [[nodiscard]] constexpr T value() const { return value_; }

  friend constexpr bool operator==(StrongId, StrongId) = default;
  friend constexpr auto operator<=>(StrongId, StrongId) = default;

 private:
  T value_{};
};

}  // namespace leap

template <typename Tag, typename T>
struct std::hash<leap::StrongId<Tag, T>> {
  std::size_t operator()(leap::StrongId<Tag, T> id) const noexcept { return std::hash<T>{}(id.value()); }
};

template <typename Tag, typename T>
struct fmt::formatter<leap::StrongId<Tag, T>> : fmt::formatter<T> {
  template <typename Context>
  auto format(leap::StrongId<Tag, T> id, Context& context) const {
    return fmt::formatter<T>::format(id.value(), context);
  }
};
