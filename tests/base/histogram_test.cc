#include "base/histogram.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/random.h"

namespace leap {
namespace {

using namespace std::chrono_literals;

std::uint64_t exact_percentile(const std::vector<std::uint64_t>& sorted, double p) {
  const auto rank = static_cast<std::size_t>(std::ceil(p / 100 * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

TEST(Histogram, IsEmptyAtFirst) {
  const Histogram h;
  EXPECT_TRUE(h.empty());
  EXPECT_EQ(h.count(), 0u);
  EXPECT_EQ(h.percentile(99), 0ns);
  EXPECT_EQ(h.min(), 0ns);
  EXPECT_EQ(h.max(), 0ns);
  EXPECT_EQ(h.mean(), 0ns);
}

TEST(Histogram, IsExactForSmallValues) {
  Histogram h;
  for (std::uint64_t v = 0; v < 100; ++v) h.record_value(v);
  EXPECT_EQ(h.count(), 100u);
  EXPECT_EQ(h.percentile_value(50), 49u);
  EXPECT_EQ(h.percentile_value(99), 98u);
  EXPECT_EQ(h.percentile_value(100), 99u);
  EXPECT_EQ(h.percentile_value(0), 0u);
  EXPECT_DOUBLE_EQ(h.mean_value(), 49.5);
}

TEST(Histogram, OneValueIsEveryPercentile) {
  for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{127}, std::uint64_t{128}, std::uint64_t{1'234'567},
                                    std::uint64_t{100'000'000'000}}) {
    Histogram h;
    h.record_value(value);
    for (const double p : {-5.0, 0.0, 50.0, 99.9, 100.0, 200.0}) EXPECT_EQ(h.percentile_value(p), value);
    EXPECT_EQ(h.min_value(), value);
  }
}

TEST(Histogram, CountsANegativeDurationAsZero) {
  Histogram h;
  h.record(-5ns);
  EXPECT_EQ(h.count(), 1u);
  EXPECT_EQ(h.max(), 0ns);
}

TEST(Histogram, KeepsCountMinMaxAndMeanBeyondItsRange) {
  Histogram h;
  h.record(400s);
  h.record(800s);
  h.record(1s);
  EXPECT_EQ(h.count(), 3u);
  EXPECT_EQ(h.max(), 800s);
  EXPECT_EQ(h.percentile(100), 800s);
  EXPECT_EQ(h.mean().count(), 1'201'000'000'000 / 3);
  EXPECT_EQ(h.count_at_or_below(500'000'000'000), 1u) << "what has no bucket of its own is not claimed to be below";
  EXPECT_EQ(h.count_at_or_below(800'000'000'000), 3u);
}

RC_GTEST_PROP(Histogram, PercentilesAreNeverTooLowAndAtMostOnePercentTooHigh, (std::uint64_t seed)) {
  Rng rng(seed);
  Histogram h;
  std::vector<std::uint64_t> values(1 + rng.below(2000));
  for (std::uint64_t& value : values) {
    value = rng.next() >> (26 + rng.below(38));  // log-uniform up to 2^38 ns, 275 s
    h.record_value(value);
  }
  std::sort(values.begin(), values.end());
  for (const double p : {0.0, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const std::uint64_t exact = exact_percentile(values, p);
    const std::uint64_t shown = h.percentile_value(p);
    RC_ASSERT(shown >= exact);
    RC_ASSERT(static_cast<double>(shown) <= static_cast<double>(exact) * (1 + 1.0 / 128));
  }
  RC_ASSERT(h.count() == values.size());
  RC_ASSERT(h.min_value() == values.front());
  RC_ASSERT(h.max_value() == values.back());
}

RC_GTEST_PROP(Histogram, CountAtOrBelowIsTightToOneBucket, (std::uint64_t seed)) {
  Rng rng(seed);
  Histogram h;
  std::vector<std::uint64_t> values(1 + rng.below(500));
  for (std::uint64_t& value : values) {
    value = rng.next() >> (27 + rng.below(37));
    h.record_value(value);
  }
  const std::uint64_t bound = rng.next() >> (27 + rng.below(37));
  const auto at_most = [&](std::uint64_t limit) {
    return static_cast<std::uint64_t>(std::count_if(values.begin(), values.end(), [&](auto v) { return v <= limit; }));
  };
  RC_ASSERT(h.count_at_or_below(bound) <= at_most(bound));
  RC_ASSERT(h.count_at_or_below(bound) >= at_most(bound - bound / 64));
}

RC_GTEST_PROP(Histogram, MergingEqualsRecordingEverythingInOne, (std::uint64_t seed)) {
  Rng rng(seed);
  Histogram parts[3];
  Histogram whole;
  for (int i = 0; i < 500; ++i) {
    const std::uint64_t value = rng.next() >> (20 + rng.below(44));
    parts[rng.below(3)].record_value(value);
    whole.record_value(value);
  }
  Histogram merged(parts[0]);
  merged.merge(parts[1]);
  merged.merge(parts[2]);
  for (double p = 0; p <= 100; p += 5) RC_ASSERT(merged.percentile_value(p) == whole.percentile_value(p));
  RC_ASSERT(merged.count() == whole.count());
  RC_ASSERT(merged.sum() == whole.sum());
  RC_ASSERT(merged.min_value() == whole.min_value());
  RC_ASSERT(merged.max_value() == whole.max_value());
}

TEST(Histogram, MergingAnEmptyOneKeepsTheMinimum) {
  Histogram h;
  h.record(5us);
  h.merge(Histogram{});
  EXPECT_EQ(h.min(), 5us);
  EXPECT_EQ(h.count(), 1u);
}

TEST(Histogram, AssignmentAndResetReplaceEverything) {
  Histogram a, b;
  a.record(1ms);
  b.record(2us);
  a = b;
  EXPECT_EQ(a.count(), 1u);
  EXPECT_EQ(a.max(), 2us);
  a = *&a;
  EXPECT_EQ(a.count(), 1u);
  a.reset();
  EXPECT_TRUE(a.empty());
  a.record(7ns);
  EXPECT_EQ(a.min(), 7ns);
  EXPECT_EQ(a.max(), 7ns);
}

TEST(Histogram, CanBeReadWhileItsOwnerRecords) {
  Histogram h;
  constexpr std::uint64_t kRecords = 200'000;
  std::thread writer([&h] {
    for (std::uint64_t i = 0; i < kRecords; ++i) h.record_value(1000 + i % 1000);
  });
  std::uint64_t last = 0;
  while (last < kRecords) {
    const Histogram copy(h);
    const std::uint64_t n = copy.count();
    ASSERT_GE(n, last);
    ASSERT_LE(copy.percentile_value(50), 1999u);
    last = n;
  }
  writer.join();
  EXPECT_EQ(h.count(), kRecords);
}

}  // namespace
}  // namespace leap
