#include "base/uuid.h"

#include <span>

#include "base/endian.h"
#include "base/hash.h"

namespace leap {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

constexpr bool hyphen_before_byte(std::size_t i) { return i == 4 || i == 6 || i == 8 || i == 10; }

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// RFC 9562, 4.1 and 4.2: the variant in the top bits of byte 8, the version in the top half of byte 6.
Uuid stamped(std::array<std::byte, 16> bytes, unsigned version) {
  bytes[6] = (bytes[6] & std::byte{0x0f}) | static_cast<std::byte>(version << 4);
  bytes[8] = (bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  return Uuid{bytes};
}

}  // namespace

Uuid Uuid::random() {
  std::array<std::byte, 16> raw{};
  store_le64(raw.data(), entropy_seed());
  store_le64(raw.data() + 8, entropy_seed());
  return stamped(raw, 4);
}

Uuid Uuid::random(Rng& rng) {
  std::array<std::byte, 16> raw{};
  rng.fill(raw);
  return stamped(raw, 4);
}

Uuid Uuid::from_name(std::string_view name, const Uuid& space) {
  const HashKey key{load_le64(space.bytes.data()), load_le64(space.bytes.data() + 8)};
  return stamped(hash128(std::as_bytes(std::span(name)), key), 8);
}

Uuid Uuid::from_name(std::string_view name) { return from_name(name, Uuid{}); }

Result<Uuid> Uuid::parse(std::string_view text) {
  const bool hyphens = text.size() == 36;
  if (!hyphens && text.size() != 32) {
    return Error(Errc::kInvalidArgument, fmt::format("UUID \"{}\": expected 36 characters (8-4-4-4-12) or 32, got {}",
                                                     text.substr(0, 48), text.size()));
  }
  Uuid uuid;
  std::size_t pos = 0;
  for (std::size_t i = 0; i < uuid.bytes.size(); ++i) {
    if (hyphens && hyphen_before_byte(i) && text[pos++] != '-') {
      return Error(Errc::kInvalidArgument, fmt::format("UUID \"{}\": expected '-' at position {}", text, pos - 1));
    }
    const int high = hex_value(text[pos]);
    const int low = hex_value(text[pos + 1]);
    if (high < 0 || low < 0) {
      return Error(Errc::kInvalidArgument,
                   fmt::format("UUID \"{}\": no hexadecimal digit at position {}", text, high < 0 ? pos : pos + 1));
    }
    uuid.bytes[i] = static_cast<std::byte>(high << 4 | low);
    pos += 2;
  }
  return uuid;
}

std::string Uuid::to_string() const {
  std::string text;
  text.reserve(36);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (hyphen_before_byte(i)) text.push_back('-');
    const auto value = std::to_integer<unsigned>(bytes[i]);
    text.push_back(kHexDigits[value >> 4]);
    text.push_back(kHexDigits[value & 0xf]);
  }
  return text;
}

}  // namespace leap

std::size_t std::hash<leap::Uuid>::operator()(const leap::Uuid& uuid) const noexcept {
  // Random and name-based UUIDs are uniform already; the multiplication spreads hand-made ones (…0001, …0002).
  const std::uint64_t mixed = leap::load_be64(uuid.bytes.data()) ^ leap::load_be64(uuid.bytes.data() + 8);
  return static_cast<std::size_t>((mixed * 0x9e3779b97f4a7c15) ^ (mixed >> 32));
}
