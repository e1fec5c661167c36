// Histogram: latencies in nanoseconds, log-linear buckets (as HdrHistogram), fixed 32 KiB, no allocation.
//
//   values 0..127 ns       one bucket each
//   every octave above     128 buckets, so a bucket is at most 0.8 % wide: 128, 129, ... | 256, 258, ... | 512, 516,
//   ... from 2^38 ns (275 s)   counted in the last bucket; min, max and mean stay exact
//
// Threading: one writer (record, merge, reset); any thread may read meanwhile. Cells are relaxed atomics written
// without a locked instruction: a reader sees each cell whole but not all of one instant, so a percentile read during
// load may miss the last few records and count(), mean() and max() may differ by them. Keep one histogram per poller
// and merge copies for a report. Cost: record() is a few nanoseconds and touches one bucket and the header line.
//
//   Histogram latency;
//   latency.record(clock.now() - submitted);
//   fmt::print("p99 {}", format_duration(latency.percentile(99)));
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace leap {

namespace histogram_detail {

inline constexpr unsigned kLinearBits = 7;  // 2^7 buckets per octave
inline constexpr unsigned kMaxBits = 38;    // values below 2^38 have a bucket of their own octave
inline constexpr std::size_t kPerOctave = std::size_t{1} << kLinearBits;
inline constexpr std::size_t kBuckets = kPerOctave * (kMaxBits - kLinearBits + 1);

// The top kLinearBits + 1 bits of the value, its leading one included, pick the bucket inside the octave.
constexpr std::size_t bucket_of(std::uint64_t value) {
  if (value < kPerOctave) return static_cast<std::size_t>(value);
  const auto shift = static_cast<unsigned>(std::bit_width(value)) - (kLinearBits + 1);
  const std::size_t index = shift * kPerOctave + static_cast<std::size_t>(value >> shift);
  return index < kBuckets ? index : kBuckets - 1;
}
/// The largest value that falls into the bucket.
constexpr std::uint64_t highest_in(std::size_t bucket) {
  if (bucket < 2 * kPerOctave) return bucket;
  const std::size_t shift = bucket / kPerOctave - 1;
  return ((bucket - shift * kPerOctave + 1) << shift) - 1;
}
static_assert(bucket_of(127) == 127 && bucket_of(128) == 128 && bucket_of(255) == 255 && bucket_of(256) == 256);
static_assert(highest_in(bucket_of(256)) == 257 && bucket_of(257) == 256 && bucket_of(258) == 257);
static_assert(bucket_of((std::uint64_t{1} << kMaxBits) - 1) == kBuckets - 1 && bucket_of(UINT64_MAX) == kBuckets - 1);

}  // namespace histogram_detail

class Histogram {
 public:
  Histogram() = default;
  /// A copy is the snapshot a reader works on.
  Histogram(const Histogram& other) { merge(other); }
  Histogram& operator=(const Histogram& other);

  /// A negative duration counts as 0.
  void record(Nanos value) { record_value(value.count() > 0 ? static_cast<std::uint64_t>(value.count()) : 0); }
  /// The same for quantities that are no times (bytes, queue depths).
  void record_value(std::uint64_t value) {
    bump(buckets_[histogram_detail::bucket_of(value)], 1);
    bump(sum_, value);
    if (value < min_.load(std::memory_order_relaxed)) min_.store(value, std::memory_order_relaxed);
    if (value > max_.load(std::memory_order_relaxed)) max_.store(value, std::memory_order_relaxed);
  }

  /// Adds everything in `other`, as if it had been recorded here.
  void merge(const Histogram& other);
  void reset();

  [[nodiscard]] std::uint64_t count() const;
  [[nodiscard]] bool empty() const { return count() == 0; }
  [[nodiscard]] std::uint64_t sum() const { return sum_.load(std::memory_order_relaxed); }
  [[nodiscard]] double mean_value() const;
  [[nodiscard]] std::uint64_t min_value() const;  ///< 0 when empty
  [[nodiscard]] std::uint64_t max_value() const { return max_.load(std::memory_order_relaxed); }
  /// The smallest value v with at least p % of all records <= v: exact below 128, else at most 0.8 % too high, never
  /// too low and never above max_value(). `p` is clamped to [0, 100]; 0 when empty.
  [[nodiscard]] std::uint64_t percentile_value(double p) const;
  /// How many records are <= `value`; a bucket that reaches past `value` is left out.
  [[nodiscard]] std::uint64_t count_at_or_below(std::uint64_t value) const;

  [[nodiscard]] Nanos mean() const { return as_nanos(static_cast<std::uint64_t>(mean_value())); }
  [[nodiscard]] Nanos min() const { return as_nanos(min_value()); }
  [[nodiscard]] Nanos max() const { return as_nanos(max_value()); }
  [[nodiscard]] Nanos percentile(double p) const { return as_nanos(percentile_value(p)); }

 private:
  using Cell = std::atomic<std::uint64_t>;

  static constexpr std::size_t kBuckets = histogram_detail::kBuckets;

  static void bump(Cell& cell, std::uint64_t by) {
    cell.store(cell.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  static Nanos as_nanos(std::uint64_t value) {
    return Nanos{value > INT64_MAX ? INT64_MAX : static_cast<Nanos::rep>(value)};
  }

  Cell sum_{0};
  Cell min_{UINT64_MAX};
  Cell max_{0};
  std::array<Cell, kBuckets> buckets_{};
};

}  // namespace leap
