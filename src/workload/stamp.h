// Stamps: contents that say where they belong, so that a read can tell every kind of wrong data apart.
//
// A unit (at most 4 KiB) is filled with 8-byte words, each a mix of seed, position of the unit, generation (how often
// it has been written) and the word's own index; the first words carry the parts in the clear. Data from another place,
// an older write, another run, or shifted by any amount fails; check() says which.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace leap {

inline constexpr std::size_t kStampUnit = 4096;

struct Stamp {
  std::uint64_t seed = 0;
  std::uint64_t position = 0;    ///< byte offset of the unit
  std::uint64_t generation = 0;  ///< 0: never written
};

/// Fills `unit` (a multiple of 8 bytes, at least 32).
void write_stamp(std::span<std::byte> unit, const Stamp& stamp);

/// Whether `sector`, 512 bytes at a multiple of 512, can be part of a stamped unit, whatever its stamp: by the constant
/// step from word to word, which other data does not have.
[[nodiscard]] bool is_stamped(std::span<const std::byte> sector);

/// Empty when `unit` is exactly what write_stamp() made; otherwise what it is instead, in words.
[[nodiscard]] std::string check_stamp(std::span<const std::byte> unit, const Stamp& stamp);

}  // namespace leap
