#include "base/units.h"

#include <array>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>

#include <fmt/format.h>

namespace leap {
namespace {

__extension__ using Wide = unsigned __int128;

struct Unit {
  std::string_view name;  // lower case
  std::uint64_t factor;
};

constexpr std::array<Unit, 17> kSizeUnits{{
    {"", 1},
    {"b", 1},
    {"k", kKiB},
    {"kb", kKiB},
    {"kib", kKiB},
    {"m", kMiB},
    {"mb", kMiB},
    {"mib", kMiB},
    {"g", kGiB},
    {"gb", kGiB},
    {"gib", kGiB},
    {"t", kTiB},
    {"tb", kTiB},
    {"tib", kTiB},
    {"p", kPiB},
    {"pb", kPiB},
    {"pib", kPiB},
}};

constexpr std::uint64_t kNsPerMs = 1'000'000;
constexpr std::uint64_t kNsPerSecond = 1'000 * kNsPerMs;
constexpr std::array<Unit, 12> kDurationUnits{{
    {"", kNsPerMs},
    {"ns", 1},
    {"us", 1'000},
    {"ms", kNsPerMs},
    {"s", kNsPerSecond},
    {"m", 60 * kNsPerSecond},
    {"h", 3'600 * kNsPerSecond},
    {"d", 86'400 * kNsPerSecond},
    {"second", kNsPerSecond},
    {"minute", 60 * kNsPerSecond},
    {"hour", 3'600 * kNsPerSecond},
    {"day", 86'400 * kNsPerSecond},
}};

// 18 digits after the point times the largest factor still fit 128 bits with room to spare.
constexpr std::size_t kMaxDecimals = 18;

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::optional<std::uint64_t> find_factor(std::string_view name, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (unit.name.size() != name.size()) continue;
    bool same = true;
    for (std::size_t i = 0; i < name.size(); ++i) same = same && lower(name[i]) == unit.name[i];
    if (same) return unit.factor;
  }
  return std::nullopt;
}

Error bad_quantity(std::string_view what, std::string_view text, std::string_view why) {
  // Configuration files are the usual source: quote, but never more than a line's worth.
  return Error(Errc::kInvalidArgument, fmt::format("{} \"{}\": {}", what, text.substr(0, 64), why));
}

Result<std::uint64_t> parse_quantity(std::string_view what, std::string_view text, std::span<const Unit> units,
                                     std::uint64_t max, std::string_view unit_names) {
  const std::string_view body = trim(text);
  std::size_t pos = 0;
  std::size_t digits = 0;
  Wide whole = 0;
  for (; pos < body.size() && is_digit(body[pos]); ++pos, ++digits) {
    whole = whole * 10 + static_cast<unsigned>(body[pos] - '0');
    if (whole > max) return bad_quantity(what, text, "the value is too large");
  }
  Wide fraction = 0;
  Wide scale = 1;
  if (pos < body.size() && body[pos] == '.') {
    const std::size_t first = ++pos;
    for (; pos < body.size() && is_digit(body[pos]); ++pos, ++digits) {
      if (pos - first >= kMaxDecimals) return bad_quantity(what, text, "too many digits after the point");
      fraction = fraction * 10 + static_cast<unsigned>(body[pos] - '0');
      scale *= 10;
    }
  }
  if (digits == 0) return bad_quantity(what, text, fmt::format("expected a number and one of{}", unit_names));
  const auto factor = find_factor(trim(body.substr(pos)), units);
  if (!factor) return bad_quantity(what, text, fmt::format("unknown unit, expected one of{}", unit_names));
  const Wide value = whole * *factor + fraction * *factor / scale;
  if (value > max) return bad_quantity(what, text, "the value is too large");
  return static_cast<std::uint64_t>(value);
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  return parse_quantity("size", text, kSizeUnits, std::numeric_limits<std::uint64_t>::max(), " B, KB, MB, GB, TB, PB");
}

Result<Nanos> parse_duration(std::string_view text) {
  LEAP_TRY(const std::uint64_t ns, parse_quantity("duration", text, kDurationUnits,
                                                  static_cast<std::uint64_t>(std::numeric_limits<Nanos::rep>::max()),
                                                  " ns, us, ms, s, m, h, d"));
  return Nanos{static_cast<Nanos::rep>(ns)};
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 6> kNames{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < kKiB) return fmt::format("{} B", bytes);
  std::uint64_t unit = kKiB;
  for (std::size_t i = 0;; ++i, unit <<= 10) {
    const Wide tenths = (Wide{bytes} * 10 + unit / 2) / unit;
    if (tenths < 10'240 || i + 1 == kNames.size()) {
      const auto shown = static_cast<std::uint64_t>(tenths);
      return fmt::format("{}.{} {}", shown / 10, shown % 10, kNames[i]);
    }
  }
}

std::string format_duration(Nanos duration) {
  const bool negative = duration.count() < 0;
  const std::uint64_t ns = negative ? std::uint64_t{0} - static_cast<std::uint64_t>(duration.count())
                                    : static_cast<std::uint64_t>(duration.count());
  const std::string_view sign = negative ? "-" : "";
  const auto tenths = [&](std::uint64_t unit, std::string_view name) {
    const std::uint64_t shown = ns / (unit / 10);
    return fmt::format("{}{}.{} {}", sign, shown / 10, shown % 10, name);
  };
  if (ns < 1'000) return fmt::format("{}{} ns", sign, ns);
  if (ns < kNsPerMs) return tenths(1'000, "us");
  if (ns < kNsPerSecond) return tenths(kNsPerMs, "ms");
  if (ns < 60 * kNsPerSecond) return tenths(kNsPerSecond, "s");
  const std::uint64_t seconds = ns / kNsPerSecond;
  if (seconds < 3'600) return fmt::format("{}{}m {}s", sign, seconds / 60, seconds % 60);
  if (seconds < 86'400) return fmt::format("{}{}h {}m", sign, seconds / 3'600, seconds / 60 % 60);
  return fmt::format("{}{}d {}h", sign, seconds / 86'400, seconds / 3'600 % 24);
}

}  // namespace leap
