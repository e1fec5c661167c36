// ASCII fields of fixed width: serial number, model, NQNs, transport addresses.
//
// Two paddings exist: spaces (SN, MN, FR, TRSVCID, TRADDR: NVMe Base 2.0, Conventions) and NULs (NQNs, which are
// NUL-terminated UTF-8: 4.5). Reading stops at the first NUL either way and drops trailing spaces.
//
//   fill_spaces(data.sn, "LEAP0001");   trimmed_text(data.mn)   // a view into `data`
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace leap::nvme {

/// Copies text, cut to N bytes, and pads it with spaces on the right.
template <std::size_t N>
constexpr void fill_spaces(std::array<char, N>& field, std::string_view text) {
  field.fill(' ');
  std::copy_n(text.begin(), std::min(text.size(), N), field.begin());
}

/// Copies text, cut to N - 1 bytes, and fills the rest with NULs.
template <std::size_t N>
constexpr void fill_nul(std::array<char, N>& field, std::string_view text) {
  field.fill('\0');
  std::copy_n(text.begin(), std::min(text.size(), N - 1), field.begin());
}

/// The text up to the first NUL, or all N bytes when there is none.
template <std::size_t N>
[[nodiscard]] constexpr std::string_view nul_terminated_text(const std::array<char, N>& field) {
  const auto end = std::find(field.begin(), field.end(), '\0');
  return {field.data(), static_cast<std::size_t>(end - field.begin())};
}

/// The text up to the first NUL, trailing spaces dropped.
template <std::size_t N>
[[nodiscard]] constexpr std::string_view trimmed_text(const std::array<char, N>& field) {
  std::string_view text = nul_terminated_text(field);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// Whether the field ends with a NUL somewhere inside, as an NQN of a peer must.
template <std::size_t N>
[[nodiscard]] constexpr bool has_terminator(const std::array<char, N>& field) {
  return std::find(field.begin(), field.end(), '\0') != field.end();
}

}  // namespace leap::nvme
