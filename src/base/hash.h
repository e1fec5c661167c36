// hash128: SipHash-2-4 with a 128-bit result (Aumasson and Bernstein 2012), for identifiers that must never change.
//
// Stable for ever: values end up on devices and in other nodes' metadata. With a secret key it also resists chosen
// collisions. Pure, no allocation, about 1 ns per byte: for names, not for data (base/crc32c.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace leap {

struct HashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

/// 16 bytes in the byte order of the published test vectors.
[[nodiscard]] std::array<std::byte, 16> hash128(std::span<const std::byte> data, HashKey key);

}  // namespace leap
