// Counters and gauges that the I/O path can afford, and the writer that turns them into Prometheus text.
//
// A component keeps its Counter, Gauge and Histogram members in one Probe struct beside its logic; whoever serves
// /metrics walks the probes with a MetricsText. Names are the caller's: leap_<room>_<what>_<unit>, counters end in
// _total (Curvine's own names where it has them).
//
//   MetricsText page;
//   for (const Poller& p : pollers) {
//     page.counter("leap_poller_wakeups_total", "Times the poller woke from sleep", p.probe.wakeups.value(), {{"core",
//     p.core}}); page.histogram("leap_poller_loop_seconds", "Time per loop pass", p.probe.loop, {{"core", p.core}});
//   }
//   reply(page.text());
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/histogram.h"

namespace leap {

/// Counts up. One writer, any reader: an add is a plain load and store, no locked instruction.
class Counter {
 public:
  void add(std::uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// Counts up from several threads at once: a locked instruction per add.
class SharedCounter {
 public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// A level that goes up and down. Any thread: set() is a plain store, add() a locked instruction.
class Gauge {
 public:
  void set(std::int64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(std::int64_t n) { value_.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

/// What a Histogram's values are: nanoseconds are written as seconds (Prometheus' base unit), others as they are.
enum class HistogramUnit : std::uint8_t { kNanosAsSeconds, kPlain };

/// Collects samples and renders the text exposition format 0.0.4: families in order of first use, each with its HELP
/// and TYPE once and its samples together, whatever order they were added in. Values and help are escaped; names are
/// not checked here. Adding to a family under another type is a programming error (CHECK). Single-threaded; allocates.
class MetricsText {
 public:
  void counter(std::string_view name, std::string_view help, std::uint64_t value, const MetricLabels& labels = {});
  void gauge(std::string_view name, std::string_view help, std::int64_t value, const MetricLabels& labels = {});
  /// A level that is no integer (a ratio, seconds).
  void gauge_real(std::string_view name, std::string_view help, double value, const MetricLabels& labels = {});
  /// Quantiles 0.5, 0.9, 0.99, 0.999 and 1, with _sum and _count. For people; cannot be added across processes.
  void summary(std::string_view name, std::string_view help, const Histogram& histogram,
               const MetricLabels& labels = {}, HistogramUnit unit = HistogramUnit::kNanosAsSeconds);
  /// Cumulative buckets, with _sum and _count. `bounds` ascend and are in the histogram's own unit; none:
  /// default_bounds().
  void histogram(std::string_view name, std::string_view help, const Histogram& histogram,
                 const MetricLabels& labels = {}, HistogramUnit unit = HistogramUnit::kNanosAsSeconds,
                 std::span<const std::uint64_t> bounds = {});

  /// 1, 2.5 and 5 times each power of ten from 1 us to 10 s, in nanoseconds.
  static std::span<const std::uint64_t> default_bounds();

  [[nodiscard]] std::string text() const;
  /// The Content-Type that goes with text().
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

 private:
  struct Family {
    std::string name;
    std::string_view type;
    std::string head;
    std::string samples;
  };
  std::string& samples_of(std::string_view name, std::string_view help, std::string_view type);

  std::vector<Family> families_;
};

}  // namespace leap
