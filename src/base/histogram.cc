#include "base/histogram.h"

#include <algorithm>
#include <cmath>

namespace leap {

using histogram_detail::highest_in;

Histogram& Histogram::operator=(const Histogram& other) {
  if (this != &other) {
    reset();
    merge(other);
  }
  return *this;
}

void Histogram::merge(const Histogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) {
    const std::uint64_t n = other.buckets_[i].load(std::memory_order_relaxed);
    if (n != 0) bump(buckets_[i], n);
  }
  bump(sum_, other.sum());
  min_.store(std::min(min_.load(std::memory_order_relaxed), other.min_.load(std::memory_order_relaxed)),
             std::memory_order_relaxed);
  max_.store(std::max(max_value(), other.max_value()), std::memory_order_relaxed);
}

void Histogram::reset() {
  for (Cell& cell : buckets_) cell.store(0, std::memory_order_relaxed);
  sum_.store(0, std::memory_order_relaxed);
  min_.store(UINT64_MAX, std::memory_order_relaxed);
  max_.store(0, std::memory_order_relaxed);
}

std::uint64_t Histogram::count() const {
  std::uint64_t total = 0;
  for (const Cell& cell : buckets_) total += cell.load(std::memory_order_relaxed);
  return total;
}

double Histogram::mean_value() const {
  const std::uint64_t n = count();
  return n == 0 ? 0.0 : static_cast<double>(sum()) / static_cast<double>(n);
}

std::uint64_t Histogram::min_value() const {
  const std::uint64_t value = min_.load(std::memory_order_relaxed);
  return value == UINT64_MAX ? 0 : value;
}

std::uint64_t Histogram::percentile_value(double p) const {
  const std::uint64_t total = count();
  if (total == 0) return 0;
  const double fraction = std::clamp(p, 0.0, 100.0) / 100.0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(total)));
  const std::uint64_t rank = std::clamp<std::uint64_t>(wanted, 1, total);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i + 1 < kBuckets; ++i) {
    seen += buckets_[i].load(std::memory_order_relaxed);
    if (seen >= rank) return std::min(highest_in(i), max_value());
  }
  return max_value();
}

std::uint64_t Histogram::count_at_or_below(std::uint64_t value) const {
  std::uint64_t seen = 0;
  // The last bucket also holds what has no bucket of its own, so only the maximum can bound it.
  for (std::size_t i = 0; i + 1 < kBuckets && highest_in(i) <= value; ++i) {
    seen += buckets_[i].load(std::memory_order_relaxed);
  }
  return value >= max_value() ? count() : seen;
}

}  // namespace leap
