#include "base/units.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace leap {
namespace {

using namespace std::chrono_literals;

std::uint64_t size_of(std::string_view text) {
  const Result<std::uint64_t> size = parse_size(text);
  EXPECT_TRUE(size.ok()) << text << ": " << (size.ok() ? "" : size.error().to_string());
  return size.ok() ? *size : UINT64_MAX;
}

Nanos duration_of(std::string_view text) {
  const Result<Nanos> duration = parse_duration(text);
  EXPECT_TRUE(duration.ok()) << text << ": " << (duration.ok() ? "" : duration.error().to_string());
  return duration.ok() ? *duration : Nanos{-1};
}

TEST(ParseSize, CountsIn1024WhateverTheSpelling) {
  for (const char* text :
       {"4K", "4KB", "4KiB", "4k", "4kb", "4kib", "4 KB", " 4KB ", "4.0K", "4096", "4096B", "4096 b"}) {
    EXPECT_EQ(size_of(text), 4096u) << text;
  }
  EXPECT_EQ(size_of("1MB"), kMiB);
  EXPECT_EQ(size_of("1024MB"), kGiB);
  EXPECT_EQ(size_of("20GB"), 20 * kGiB);
  EXPECT_EQ(size_of("3TiB"), 3 * kTiB);
  EXPECT_EQ(size_of("11PB"), 11 * kPiB);
  EXPECT_EQ(size_of("0"), 0u);
}

TEST(ParseSize, TakesDecimalsAndCutsOffAFractionOfAByte) {
  EXPECT_EQ(size_of("1.5GB"), kGiB + kGiB / 2);
  EXPECT_EQ(size_of("0.5K"), 512u);
  EXPECT_EQ(size_of(".5K"), 512u);
  EXPECT_EQ(size_of("2.K"), 2048u);
  EXPECT_EQ(size_of("1.3K"), 1331u);
  EXPECT_EQ(size_of("1.9"), 1u);
}

TEST(ParseSize, IsExactWhereFloatingPointIsNot) {
  EXPECT_EQ(size_of("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(size_of("9007199254740993"), 9007199254740993u);
  EXPECT_EQ(size_of("16383.999999999999999999P"), UINT64_MAX);
}

TEST(ParseSize, RefusesWhatDoesNotFit) {
  for (const char* text : {"18446744073709551616", "16384P", "99999999999999999999999999999999999999999999K"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.error().kind(), Errc::kInvalidArgument);
    EXPECT_NE(size.error().message().find("too large"), std::string::npos) << size.error().message();
  }
}

TEST(ParseSize, RefusesWhatIsNoSizeAndQuotesIt) {
  for (const char* text : {"", " ", "K", ".", ".K", "-1", "+1", "1e3", "1E", "1KBB", "1 K B", "NVME0", "1,5K", "0x10",
                           "1..5K", "1.0000000000000000000000001K"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.error().kind(), Errc::kInvalidArgument);
    EXPECT_NE(size.error().message().find(fmt::format("\"{}\"", text)), std::string::npos) << size.error().message();
  }
}

RC_GTEST_PROP(ParseSize, ReadsEveryWholeNumberOfEveryUnit, ()) {
  constexpr std::pair<const char*, std::uint64_t> kUnits[] = {{"", 1},       {"B", 1},     {"K", kKiB}, {"MB", kMiB},
                                                              {"GiB", kGiB}, {"tb", kTiB}, {"p", kPiB}};
  const auto& [name, factor] = kUnits[*rc::gen::inRange<std::size_t>(0, std::size(kUnits))];
  const auto number = *rc::gen::inRange<std::uint64_t>(0, UINT64_MAX / factor);
  const auto parsed = parse_size(fmt::format("{}{}", number, name));
  RC_ASSERT(parsed.ok());
  RC_ASSERT(*parsed == number * factor);
}

RC_GTEST_PROP(ParseSize, ReadsBackWhatFormatBytesWrites, ()) {
  const auto bytes = *rc::gen::arbitrary<std::uint64_t>() >> *rc::gen::inRange(0, 64);
  const std::string text = format_bytes(bytes);
  if (text.ends_with("EiB")) return;  // beyond what a configuration can say
  const auto parsed = parse_size(text);
  RC_ASSERT(parsed.ok());
  const double ratio = bytes == 0 ? 1.0 : static_cast<double>(*parsed) / static_cast<double>(bytes);
  RC_ASSERT(ratio > 0.95);
  RC_ASSERT(ratio < 1.05);
  if (bytes < kKiB) RC_ASSERT(*parsed == bytes);
}

RC_GTEST_PROP(ParseSize, NeverCrashesOnArbitraryText, (const std::string& text)) {
  (void)parse_size(text).ok();
  (void)parse_duration(text).ok();
}

TEST(FormatBytes, KeepsOneDecimalAndNeverShows1024OfAUnit) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(kMiB - 1), "1.0 MiB");
  EXPECT_EQ(format_bytes(kGiB + kGiB / 2), "1.5 GiB");
  EXPECT_EQ(format_bytes(1000 * kTiB), "1000.0 TiB");
  EXPECT_EQ(format_bytes(UINT64_MAX), "16.0 EiB");
}

TEST(ParseDuration, TakesCurvinesUnitsAndABareNumberIsMilliseconds) {
  EXPECT_EQ(duration_of("300ms"), 300ms);
  EXPECT_EQ(duration_of("300"), 300ms);
  EXPECT_EQ(duration_of("10m"), 10min);
  EXPECT_EQ(duration_of("2h"), 2h);
  EXPECT_EQ(duration_of("1d"), 24h);
  EXPECT_EQ(duration_of("30 S"), 30s);
  EXPECT_EQ(duration_of("1.5s"), 1500ms);
  EXPECT_EQ(duration_of("250us"), 250us);
  EXPECT_EQ(duration_of("17ns"), 17ns);
  EXPECT_EQ(duration_of("0"), 0ns);
  EXPECT_EQ(duration_of("2 minute"), 2min);
}

TEST(ParseDuration, RefusesSignsUnknownUnitsAndOverflow) {
  for (const char* text :
       {"", "s", "-1s", "1 fortnight", "10mm", "1h30m", "292471208677y", "106752d", "9223372036854775808ns"}) {
    const auto duration = parse_duration(text);
    ASSERT_FALSE(duration.ok()) << text;
    EXPECT_EQ(duration.error().kind(), Errc::kInvalidArgument) << text;
  }
  EXPECT_EQ(duration_of("9223372036854775807ns"), Nanos::max());
}

TEST(FormatDuration, PicksTheUnitAPersonWould) {
  EXPECT_EQ(format_duration(0ns), "0 ns");
  EXPECT_EQ(format_duration(350ns), "350 ns");
  EXPECT_EQ(format_duration(12'540ns), "12.5 us");
  EXPECT_EQ(format_duration(999'999ns), "999.9 us");
  EXPECT_EQ(format_duration(3ms), "3.0 ms");
  EXPECT_EQ(format_duration(59'999ms), "59.9 s");
  EXPECT_EQ(format_duration(90s), "1m 30s");
  EXPECT_EQ(format_duration(2h + 5min + 59s), "2h 5m");
  EXPECT_EQ(format_duration(76h), "3d 4h");
  EXPECT_EQ(format_duration(-1500us), "-1.5 ms");
  EXPECT_EQ(format_duration(Nanos::min()), "-106751d 23h");
}

RC_GTEST_PROP(ParseDuration, ReadsBackWhatFormatDurationWritesBelowAMinute, ()) {
  const Nanos value{*rc::gen::inRange<std::int64_t>(0, 60'000'000'000)};
  const auto parsed = parse_duration(format_duration(value));
  RC_ASSERT(parsed.ok());
  RC_ASSERT(*parsed <= value);
  RC_ASSERT(static_cast<double>(parsed->count()) >= 0.9 * static_cast<double>(value.count()));
}

}  // namespace
}  // namespace leap
