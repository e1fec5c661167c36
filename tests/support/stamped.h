// Position-dependent contents for tests of whole I/O paths: data that lands at, or comes from, elsewhere shows.
#pragma once

#include <cstdint>
#include <cstring>

#include "memory/dma_pool.h"

namespace leap::test {

inline std::uint64_t stamp_word(std::uint64_t lba, std::size_t at, std::uint32_t generation) {
  return (lba * 0x9E3779B97F4A7C15ULL) ^ (at << 20) ^ generation;
}
inline void stamp(DmaBuf& data, std::uint64_t lba, std::uint32_t generation) {
  for (std::size_t at = 0; at + 8 <= data.size(); at += 8) {
    const std::uint64_t word = stamp_word(lba, at, generation);
    std::memcpy(data.data() + at, &word, sizeof word);
  }
}
inline bool stamped(const DmaBuf& data, std::uint64_t lba, std::uint32_t generation) {
  for (std::size_t at = 0; at + 8 <= data.size(); at += 8) {
    const std::uint64_t word = stamp_word(lba, at, generation);
    if (std::memcmp(data.data() + at, &word, sizeof word) != 0) return false;
  }
  return true;
}

}  // namespace leap::test
