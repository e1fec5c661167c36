// Fixed-width integers in memory with a stated byte order. No alignment needed; pure; the caller owns the bounds check.
//
//   store_be32(frame.data(), total_size);
//   const std::uint16_t cid = load_le16(cqe.data() + 12);
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace leap {
namespace endian_detail {

static_assert(std::endian::native == std::endian::little || std::endian::native == std::endian::big);

constexpr std::uint16_t swap(std::uint16_t v) { return __builtin_bswap16(v); }
constexpr std::uint32_t swap(std::uint32_t v) { return __builtin_bswap32(v); }
constexpr std::uint64_t swap(std::uint64_t v) { return __builtin_bswap64(v); }

template <typename T, std::endian kOrder>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (kOrder != std::endian::native) value = swap(value);
  return value;
}

template <typename T, std::endian kOrder>
void store(std::byte* to, T value) {
  if constexpr (kOrder != std::endian::native) value = swap(value);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace endian_detail

[[nodiscard]] inline std::uint16_t load_be16(const std::byte* from) {
  return endian_detail::load<std::uint16_t, std::endian::big>(from);
}
[[nodiscard]] inline std::uint32_t load_be32(const std::byte* from) {
  return endian_detail::load<std::uint32_t, std::endian::big>(from);
}
[[nodiscard]] inline std::uint64_t load_be64(const std::byte* from) {
  return endian_detail::load<std::uint64_t, std::endian::big>(from);
}
[[nodiscard]] inline std::uint16_t load_le16(const std::byte* from) {
  return endian_detail::load<std::uint16_t, std::endian::little>(from);
}
[[nodiscard]] inline std::uint32_t load_le32(const std::byte* from) {
  return endian_detail::load<std::uint32_t, std::endian::little>(from);
}
[[nodiscard]] inline std::uint64_t load_le64(const std::byte* from) {
  return endian_detail::load<std::uint64_t, std::endian::little>(from);
}

inline void store_be16(std::byte* to, std::uint16_t value) {
  endian_detail::store<std::uint16_t, std::endian::big>(to, value);
}
inline void store_be32(std::byte* to, std::uint32_t value) {
  endian_detail::store<std::uint32_t, std::endian::big>(to, value);
}
inline void store_be64(std::byte* to, std::uint64_t value) {
  endian_detail::store<std::uint64_t, std::endian::big>(to, value);
}
inline void store_le16(std::byte* to, std::uint16_t value) {
  endian_detail::store<std::uint16_t, std::endian::little>(to, value);
}
inline void store_le32(std::byte* to, std::uint32_t value) {
  endian_detail::store<std::uint32_t, std::endian::little>(to, value);
}
inline void store_le64(std::byte* to, std::uint64_t value) {
  endian_detail::store<std::uint64_t, std::endian::little>(to, value);
}

}  // namespace leap
