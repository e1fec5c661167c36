#include "base/hash.h"

#include <bit>

#include "base/endian.h"

namespace leap {
namespace {

struct SipState {
  std::uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }

  void absorb(std::uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }

  std::uint64_t squeeze() {
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

std::array<std::byte, 16> hash128(std::span<const std::byte> data, HashKey key) {
  // The constants spell "somepseudorandomlygeneratedbytes"; 0xee and 0xdd mark the 128-bit variant.
  SipState state{key.k0 ^ 0x736f6d6570736575, key.k1 ^ 0x646f72616e646f6d ^ 0xee, key.k0 ^ 0x6c7967656e657261,
                 key.k1 ^ 0x7465646279746573};
  const std::size_t length = data.size();
  for (; data.size() >= 8; data = data.subspan(8)) state.absorb(load_le64(data.data()));
  std::uint64_t last = static_cast<std::uint64_t>(length) << 56;
  for (std::size_t i = 0; i < data.size(); ++i) last |= std::to_integer<std::uint64_t>(data[i]) << (8 * i);
  state.absorb(last);

  std::array<std::byte, 16> out{};
  state.v2 ^= 0xee;
  store_le64(out.data(), state.squeeze());
  state.v1 ^= 0xdd;
  store_le64(out.data() + 8, state.squeeze());
  return out;
}

}  // namespace leap
