#include "workload/stamp.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace leap {
namespace {

constexpr std::uint64_t kMagic = 0x4c45415053544d50;  // "LEAPSTMP"
constexpr std::size_t kClearWords = 3;                // seed, position, generation
constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15ULL;

std::uint64_t word_at(const Stamp& stamp, std::uint64_t key, std::size_t index) {
  switch (index) {
    case 0: return kMagic ^ stamp.seed;
    case 1: return stamp.position;
    case 2: return stamp.generation;
    default: return (key + index) * kStep;
  }
}

std::uint64_t key_of(const Stamp& stamp) {
  std::uint64_t key = stamp.seed * 0xbf58476d1ce4e5b9ULL + stamp.position;
  key = (key ^ (key >> 31)) * 0x94d049bb133111ebULL + stamp.generation;
  return key ^ (key >> 29);
}

std::uint64_t load(std::span<const std::byte> unit, std::size_t index) {
  std::uint64_t word = 0;
  std::memcpy(&word, unit.data() + index * sizeof word, sizeof word);
  return word;
}

}  // namespace

void write_stamp(std::span<std::byte> unit, const Stamp& stamp) {
  const std::uint64_t key = key_of(stamp);
  for (std::size_t i = 0; i < unit.size() / sizeof(std::uint64_t); ++i) {
    const std::uint64_t word = word_at(stamp, key, i);
    std::memcpy(unit.data() + i * sizeof word, &word, sizeof word);
  }
}

bool is_stamped(std::span<const std::byte> sector) {
  const std::size_t words = sector.size() / sizeof(std::uint64_t);
  if (words <= kClearWords + 1) return false;
  for (std::size_t i = kClearWords + 1; i < words; ++i) {
    if (load(sector, i) - load(sector, i - 1) != kStep) return false;
  }
  return true;
}

std::string check_stamp(std::span<const std::byte> unit, const Stamp& stamp) {
  const std::uint64_t key = key_of(stamp);
  const std::size_t words = unit.size() / sizeof(std::uint64_t);
  std::size_t wrong = words;
  for (std::size_t i = 0; i < words; ++i) {
    if (load(unit, i) == word_at(stamp, key, i)) continue;
    wrong = i;
    break;
  }
  if (wrong == words) return {};
  const auto where = fmt::format("unit at {} generation {}: ", stamp.position, stamp.generation);
  if (std::all_of(unit.begin(), unit.end(), [](std::byte b) { return b == std::byte{0}; })) return where + "all zeros";
  if (load(unit, 0) == (kMagic ^ stamp.seed) && wrong <= kClearWords) {
    return where + fmt::format("holds position {} generation {}", load(unit, 1), load(unit, 2));
  }
  return where + fmt::format("differs from byte {} on", wrong * sizeof(std::uint64_t));
}

}  // namespace leap
