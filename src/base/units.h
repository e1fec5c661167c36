// Sizes and durations as people write them, with Curvine's rules, so that a Curvine operator's file means the same
// here.
//
// Sizes are 1024-based whatever the spelling: "4K" == "4KB" == "4KiB" == 4096. Decimals are allowed ("1.5GB") and a
// fraction of a byte is cut off. Durations take ns, us, ms, s, m, h, d; a bare number is milliseconds.
// Case does not matter; blanks around the text and before the unit are ignored. A sign, an exponent, an empty text, an
// unknown unit or a value that does not fit is an Errc::kInvalidArgument that quotes the text.
//
// Threading: pure functions. Not for the I/O path (they allocate).
//
//   LEAP_TRY(const std::uint64_t bytes, parse_size("1.5 GiB"));   // 1610612736
//   format_bytes(bytes)                                           // "1.5 GiB"
//   LEAP_TRY(const Nanos timeout, parse_duration("10m"));         // 600 s
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace leap {

inline constexpr std::uint64_t kKiB = std::uint64_t{1} << 10;
inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;
inline constexpr std::uint64_t kPiB = std::uint64_t{1} << 50;

/// B, then K, M, G, T, P alone or followed by B or iB; a bare number is bytes.
Result<std::uint64_t> parse_size(std::string_view text);

/// ns, us, ms, s, m, h, d (or second, minute, hour, day); a bare number is milliseconds. Never negative.
Result<Nanos> parse_duration(std::string_view text);

/// "512 B", "4.0 KiB", "1.5 GiB": one decimal, rounded to nearest, never "1024.0 KiB".
std::string format_bytes(std::uint64_t bytes);

/// "350 ns", "12.5 us", "3.0 ms", "59.9 s", then "1m 30s", "2h 5m", "3d 4h" (cut off, not rounded).
std::string format_duration(Nanos duration);

}  // namespace leap
