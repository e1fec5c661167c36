#include "base/metrics.h"

#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace leap {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

TEST(Metrics, CountersAndGaugesCountFromTheirThreads) {
  Counter single;
  SharedCounter shared;
  Gauge gauge;
  std::thread writer([&] {
    for (int i = 0; i < 10'000; ++i) single.add();
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10'000; ++i) {
        shared.add(2);
        gauge.add(i % 2 == 0 ? 1 : -1);
      }
    });
  }
  std::uint64_t last = 0;
  while (last < 10'000) {
    const std::uint64_t now = single.value();
    ASSERT_GE(now, last);
    last = now;
  }
  writer.join();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(single.value(), 10'000u);
  EXPECT_EQ(shared.value(), 60'000u);
  EXPECT_EQ(gauge.value(), 0);
  gauge.set(-5);
  EXPECT_EQ(gauge.value(), -5);
}

TEST(MetricsText, GroupsTheSamplesOfAFamilyUnderOneHelpAndType) {
  MetricsText page;
  page.counter("leap_x_total", "Things done", 3, {{"core", "0"}});
  page.gauge("leap_depth", "Commands in flight", -2);
  page.counter("leap_x_total", "Things done", 4, {{"core", "1"}, {"kind", "read"}});
  page.gauge_real("leap_ratio", "A ratio", 0.25);
  EXPECT_EQ(page.text(),
            "# HELP leap_x_total Things done\n"
            "# TYPE leap_x_total counter\n"
            "leap_x_total{core=\"0\"} 3\n"
            "leap_x_total{core=\"1\",kind=\"read\"} 4\n"
            "# HELP leap_depth Commands in flight\n"
            "# TYPE leap_depth gauge\n"
            "leap_depth -2\n"
            "# HELP leap_ratio A ratio\n"
            "# TYPE leap_ratio gauge\n"
            "leap_ratio 0.25\n");
}

TEST(MetricsText, EscapesLabelValuesAndHelp) {
  MetricsText page;
  page.gauge("m", "back\\slash and\nnew \"line\"", 1, {{"path", "a\\b\"c\nd"}});
  EXPECT_EQ(page.text(),
            "# HELP m back\\\\slash and\\nnew \"line\"\n"
            "# TYPE m gauge\n"
            "m{path=\"a\\\\b\\\"c\\nd\"} 1\n");
}

TEST(MetricsText, WritesAHistogramInSecondsWithCumulativeBuckets) {
  Histogram h;
  h.record(64ns);
  h.record(100ns);
  h.record(3s);
  MetricsText page;
  const std::vector<std::uint64_t> bounds{64, 127, 1'000'000'000};
  page.histogram("leap_io_seconds", "I/O time", h, {{"op", "read"}}, HistogramUnit::kNanosAsSeconds, bounds);
  EXPECT_EQ(page.text(),
            "# HELP leap_io_seconds I/O time\n"
            "# TYPE leap_io_seconds histogram\n"
            "leap_io_seconds_bucket{op=\"read\",le=\"6.4e-08\"} 1\n"
            "leap_io_seconds_bucket{op=\"read\",le=\"1.27e-07\"} 2\n"
            "leap_io_seconds_bucket{op=\"read\",le=\"1\"} 2\n"
            "leap_io_seconds_bucket{op=\"read\",le=\"+Inf\"} 3\n"
            "leap_io_seconds_sum{op=\"read\"} 3.000000164\n"
            "leap_io_seconds_count{op=\"read\"} 3\n");
}

TEST(MetricsText, DefaultBoundsAscendFromAMicrosecondToTenSeconds) {
  const auto bounds = MetricsText::default_bounds();
  EXPECT_EQ(bounds.front(), 1'000u);
  EXPECT_EQ(bounds.back(), 10'000'000'000u);
  EXPECT_TRUE(std::is_sorted(bounds.begin(), bounds.end()));
  Histogram h;
  h.record(30us);
  MetricsText page;
  page.histogram("t", "h", h);
  EXPECT_THAT(page.text(), HasSubstr("t_bucket{le=\"2.5e-05\"} 0\nt_bucket{le=\"5e-05\"} 1\n"));
}

TEST(MetricsText, WritesASummaryOfPlainValues) {
  Histogram h;
  for (std::uint64_t v = 1; v <= 100; ++v) h.record_value(v);
  MetricsText page;
  page.summary("leap_batch_commands", "Commands per batch", h, {}, HistogramUnit::kPlain);
  EXPECT_EQ(page.text(),
            "# HELP leap_batch_commands Commands per batch\n"
            "# TYPE leap_batch_commands summary\n"
            "leap_batch_commands{quantile=\"0.5\"} 50\n"
            "leap_batch_commands{quantile=\"0.9\"} 90\n"
            "leap_batch_commands{quantile=\"0.99\"} 99\n"
            "leap_batch_commands{quantile=\"0.999\"} 100\n"
            "leap_batch_commands{quantile=\"1\"} 100\n"
            "leap_batch_commands_sum 5050\n"
            "leap_batch_commands_count 100\n");
}

TEST(MetricsTextDeathTest, RefusesOneFamilyUnderTwoTypes) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  MetricsText page;
  page.counter("m", "h", 1);
  EXPECT_DEATH(page.gauge("m", "h", 1), "metric m is a counter and a gauge");
}

}  // namespace
}  // namespace leap
