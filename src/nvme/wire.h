// Moving specification structures between host memory and the wire, and bit fields of little-endian words.
//
// Every structure of this room is the wire: trivially copyable, laid out byte for byte as the specification draws it
// (NVMe Base 2.0, Byte, Word, and Dword Relationships: multi-byte fields are little-endian), so that one memcpy
// serialises it. Nothing here trusts a length: a view that is too short gives std::nullopt, never a short read.
//
// Threading: pure functions. Allocation: none.
//
//   std::optional<Completion> cqe = wire::load<Completion>(received);
//   wire::store(out, cqe);                       // out must hold sizeof(Completion) bytes
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace leap::nvme {

static_assert(std::endian::native == std::endian::little,
              "the wire structures of NVMe are little-endian and are used here without byte swapping");

/// A structure whose memory is its wire format.
template <typename T>
concept WireStruct = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>;

namespace wire {

/// Copies a T out of bytes[offset, offset + sizeof(T)); nullopt when the view is too short.
template <WireStruct T>
[[nodiscard]] inline std::optional<T> load(std::span<const std::byte> bytes, std::size_t offset = 0) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(static_cast<void*>(&value), bytes.data() + offset, sizeof(T));
  return value;
}

/// Copies value to bytes[offset, ...); false, and nothing written, when it does not fit.
template <WireStruct T>
[[nodiscard]] inline bool store(std::span<std::byte> bytes, const T& value, std::size_t offset = 0) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return false;
  std::memcpy(bytes.data() + offset, static_cast<const void*>(&value), sizeof(T));
  return true;
}

/// The bytes of a structure that outlives the view; for scatter-gather sends and digests.
template <WireStruct T>
[[nodiscard]] inline std::span<const std::byte, sizeof(T)> bytes_of(const T& value) {
  return std::span<const std::byte, sizeof(T)>(reinterpret_cast<const std::byte*>(&value), sizeof(T));
}
template <WireStruct T>
[[nodiscard]] inline std::span<std::byte, sizeof(T)> writable_bytes_of(T& value) {
  return std::span<std::byte, sizeof(T)>(reinterpret_cast<std::byte*>(&value), sizeof(T));
}

}  // namespace wire

/// Bits [Lsb + Width - 1 : Lsb] of word, as the specification's tables name them.
template <unsigned Lsb, unsigned Width, std::unsigned_integral T>
[[nodiscard]] constexpr T get_bits(T word) {
  static_assert(Width > 0 && Lsb + Width <= sizeof(T) * 8);
  const auto wide = static_cast<std::uint64_t>(word) >> Lsb;
  return static_cast<T>(wide & (~std::uint64_t{0} >> (64 - Width)));
}

/// word with bits [Lsb + Width - 1 : Lsb] replaced by value; bits of value above Width are dropped.
template <unsigned Lsb, unsigned Width, std::unsigned_integral T>
[[nodiscard]] constexpr T set_bits(T word, std::uint64_t value) {
  static_assert(Width > 0 && Lsb + Width <= sizeof(T) * 8);
  const std::uint64_t mask = (~std::uint64_t{0} >> (64 - Width)) << Lsb;
  return static_cast<T>((static_cast<std::uint64_t>(word) & ~mask) | ((value << Lsb) & mask));
}

/// One bit, as a bool.
template <unsigned Bit, std::unsigned_integral T>
[[nodiscard]] constexpr bool get_bit(T word) {
  return get_bits<Bit, 1>(word) != 0;
}
template <unsigned Bit, std::unsigned_integral T>
[[nodiscard]] constexpr T set_bit(T word, bool on) {
  return set_bits<Bit, 1>(word, on ? 1U : 0U);
}

/// An unsigned 128-bit counter as Identify and the SMART log carry it; arithmetic uses the low 64 bits.
struct Uint128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend constexpr bool operator==(const Uint128&, const Uint128&) = default;
};
static_assert(sizeof(Uint128) == 16);

}  // namespace leap::nvme
