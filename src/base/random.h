// Rng: fast, seedable random numbers (xoshiro256**, Blackman and Vigna 2018) for sampling, back-off and simulation.
//
// The same seed gives the same sequence on every machine and release: a failing simulation prints its seed. Not for
// secrets. A value type, one owner; each draw is about a nanosecond, nothing allocates.
//
//   Rng rng(entropy_seed());
//   const std::uint64_t lba = rng.below(lba_count);
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "base/check.h"

namespace leap {

class Rng {
 public:
  using result_type = std::uint64_t;  // a UniformRandomBitGenerator: std::shuffle and <random> accept it

  explicit Rng(std::uint64_t seed) {
    // SplitMix64 spreads one word over the state and never leaves it all zero.
    for (std::uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15;
      std::uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      word = z ^ (z >> 31);
    }
  }

  [[nodiscard]] std::uint64_t next() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// Uniform in [0, bound); bound > 0. Without bias (Lemire 2019: multiply, reject the short remainder).
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) {
    LEAP_DCHECK(bound > 0, "the range is empty");
    Wide product = Wide{next()} * bound;
    if (static_cast<std::uint64_t>(product) < bound) {
      const std::uint64_t threshold = (0 - bound) % bound;
      while (static_cast<std::uint64_t>(product) < threshold) product = Wide{next()} * bound;
    }
    return static_cast<std::uint64_t>(product >> 64);
  }

  /// Uniform in [0, 1).
  [[nodiscard]] double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  /// True with the given probability.
  [[nodiscard]] bool chance(double probability) { return unit() < probability; }

  void fill(std::span<std::byte> out) {
    while (!out.empty()) {
      const std::uint64_t word = next();
      const std::size_t step = out.size() < sizeof word ? out.size() : sizeof word;
      std::memcpy(out.data(), &word, step);
      out = out.subspan(step);
    }
  }

  result_type operator()() { return next(); }
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

 private:
  __extension__ using Wide = unsigned __int128;
  std::array<std::uint64_t, 4> state_{};
};

/// A fresh seed from the operating system, different in every call and process.
[[nodiscard]] std::uint64_t entropy_seed();

}  // namespace leap
