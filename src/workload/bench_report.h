// BenchReport: what a measurement ran and what came of it, for people and for programs.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/histogram.h"

namespace leap {

/// What a thread has used up to now. Subtract two for an interval.
struct ThreadUsage {
  Nanos cpu{0};
  std::uint64_t syscalls = 0;     ///< counted at our own calls (base/sys.h)
  std::uint64_t allocations = 0;  ///< on the heap (base/alloc_counter.h)

  /// Of the calling thread.
  static ThreadUsage now();
  friend ThreadUsage operator-(const ThreadUsage& a, const ThreadUsage& b) {
    return {a.cpu - b.cpu, a.syscalls - b.syscalls, a.allocations - b.allocations};
  }
};

struct BenchReport {
  // What ran.
  std::string what;  ///< the device or the worker
  std::string rw;
  std::uint32_t block_size = 0;   ///< bytes per I/O
  std::uint32_t queue_depth = 0;  ///< I/Os in flight per poller, or connections
  std::size_t pollers = 1;
  Nanos warmup{0};
  bool verify = false;
  std::uint64_t range = 0;     ///< bytes of the device that were used; 0: does not apply
  std::uint64_t laid_out = 0;  ///< bytes written beforehand, to be read and checked

  // What came of it, in the measured window.
  double seconds = 0;
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t errors = 0;  ///< failed I/Os, of the whole run
  std::uint64_t verified_units = 0;
  std::uint64_t verify_errors = 0;
  std::string first_error;
  Histogram latency;              ///< per I/O, from submission to completion
  double cpu_seconds = 0;         ///< of the threads that made the load
  std::uint64_t syscalls = 0;     ///< of the same threads
  std::uint64_t allocations = 0;  ///< of the same threads

  void add(const ThreadUsage& usage);
  [[nodiscard]] std::uint64_t ios() const { return reads + writes; }
  [[nodiscard]] double iops() const { return seconds > 0 ? static_cast<double>(ios()) / seconds : 0; }
  [[nodiscard]] double mib_per_s() const { return iops() * block_size / (1 << 20); }
  [[nodiscard]] bool good() const { return errors == 0 && verify_errors == 0; }
  [[nodiscard]] std::string to_text() const;  ///< a few lines for people
  [[nodiscard]] std::string to_json() const;  ///< one object, one line
};

}  // namespace leap
