// Clock: the time seam. Everything that waits, expires or measures asks a Clock, so that a simulation can own time.
#pragma once

#include <chrono>
#include <cstdint>

namespace leap {

using Nanos = std::chrono::nanoseconds;

/// A point on a monotonic clock, in nanoseconds since an arbitrary origin.
struct TimePoint {
  std::int64_t ns = 0;
  static constexpr TimePoint max() { return TimePoint{INT64_MAX}; }

  friend constexpr auto operator<=>(const TimePoint&, const TimePoint&) = default;
  friend constexpr TimePoint operator+(TimePoint t, Nanos d) { return {t.ns + d.count()}; }
  friend constexpr Nanos operator-(TimePoint a, TimePoint b) { return Nanos{a.ns - b.ns}; }
};

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;

  /// The machine's monotonic clock (CLOCK_MONOTONIC); lives as long as the process.
  static const Clock& system();
};

/// A clock that stands still until told otherwise. Single-threaded.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return now_; }
  void advance(Nanos by) { now_ = now_ + by; }
  void set(TimePoint to) { now_ = to; }

 private:
  TimePoint now_{1'000'000'000};
};

/// Milliseconds since the Unix epoch, for stamps that leave the process.
std::int64_t wall_clock_ms();

}  // namespace leap
