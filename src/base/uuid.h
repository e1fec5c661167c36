// Uuid: 16 bytes that name a device, a namespace or a worker (RFC 9562). A value type; nil when default-constructed.
//
// Bytes are in the order of the text form (big-endian fields), which is also the order of the NVMe Namespace
// Identification Descriptor for UUIDs.
//
//   const Uuid device = Uuid::random();
//   const Uuid ns = Uuid::from_name("mem:0", device);      // the same name and space: the same UUID, for ever
//   LEAP_TRY(const Uuid id, Uuid::parse("c21b7f4e-6d0a-4a50-8d5f-0d6f6e1c2b3a"));
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/random.h"
#include "base/result.h"

namespace leap {

struct Uuid {
  std::array<std::byte, 16> bytes{};

  [[nodiscard]] bool is_nil() const { return *this == Uuid{}; }

  /// Version 4 from the operating system's randomness.
  static Uuid random();
  /// Version 4 from `rng`: reproducible, for simulation and tests.
  static Uuid random(Rng& rng);
  /// Version 8 (custom): hash128 of `name` keyed with the bytes of `space`. Deterministic and stable across releases.
  static Uuid from_name(std::string_view name, const Uuid& space);
  static Uuid from_name(std::string_view name);  ///< in the nil space
  /// 32 hexadecimal digits in either case, with hyphens as 8-4-4-4-12 or with none. Anything else is kInvalidArgument.
  static Result<Uuid> parse(std::string_view text);

  /// Lower case, 8-4-4-4-12.
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Uuid&, const Uuid&) = default;
  friend auto operator<=>(const Uuid&, const Uuid&) = default;
};
static_assert(sizeof(Uuid) == 16);

}  // namespace leap

template <>
struct std::hash<leap::Uuid> {
  std::size_t operator()(const leap::Uuid& uuid) const noexcept;
};

template <>
struct fmt::formatter<leap::Uuid> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const leap::Uuid& uuid, Context& context) const {
    return fmt::formatter<std::string_view>::format(uuid.to_string(), context);
  }
};
