// Bytes written out by hand, and the comparison of a structure with them.
//
//   EXPECT_WIRE(make_keep_alive(), "18 00 00 00" + zeros(60));
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "nvme/wire.h"

namespace leap::nvme::test {

/// Hexadecimal digits in pairs; blanks are ignored.
inline std::vector<std::byte> hex(std::string_view text) {
  std::vector<std::byte> bytes;
  int high = -1;
  for (const char c : text) {
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else {
      continue;
    }
    if (high < 0) {
      high = digit;
    } else {
      bytes.push_back(static_cast<std::byte>(high * 16 + digit));
      high = -1;
    }
  }
  return bytes;
}

/// `count` zero bytes, as text for hex().
inline std::string zeros(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += " 00";
  return text;
}

/// Lines of 16 bytes with their offset; lines that are all zeros are left out.
inline std::string dump(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = std::to_string(bytes.size()) + " bytes\n";
  for (std::size_t line = 0; line < bytes.size(); line += 16) {
    std::string row;
    bool any = false;
    for (std::size_t i = line; i < bytes.size() && i < line + 16; ++i) {
      const auto value = std::to_integer<unsigned>(bytes[i]);
      any = any || value != 0;
      row += ' ';
      row += kDigits[value >> 4];
      row += kDigits[value & 15];
    }
    if (any) text += std::to_string(line) + ":" + row + "\n";
  }
  return text;
}

template <WireStruct T>
std::string dump_of(const T& value) {
  return dump(wire::bytes_of(value));
}

/// A page of zeros with bytes put at offsets, to write large structures down by their offsets.
class Page {
 public:
  explicit Page(std::size_t size) : bytes_(size) {}
  Page& at(std::size_t offset, std::string_view hex_text) { return put(offset, hex(hex_text)); }
  Page& text(std::size_t offset, std::string_view ascii) {
    for (std::size_t i = 0; i < ascii.size(); ++i) bytes_.at(offset + i) = static_cast<std::byte>(ascii[i]);
    return *this;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  Page& put(std::size_t offset, const std::vector<std::byte>& what) {
    for (std::size_t i = 0; i < what.size(); ++i) bytes_.at(offset + i) = what[i];
    return *this;
  }
  std::vector<std::byte> bytes_;
};

}  // namespace leap::nvme::test

/// The bytes of `value` are exactly those of the hexadecimal text.
#define EXPECT_WIRE(value, hex_text) \
  EXPECT_EQ(::leap::nvme::test::dump_of(value), ::leap::nvme::test::dump(::leap::nvme::test::hex(hex_text)))

/// The bytes of `value` are exactly those of the page.
#define EXPECT_PAGE(value, page) EXPECT_EQ(::leap::nvme::test::dump_of(value), ::leap::nvme::test::dump((page).bytes()))
