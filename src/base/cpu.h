// What this thread and this process cost: CPU time, context switches, memory; and the pause of a spin loop.
//
// Threading: any thread. The helpers are one system call each: for reports and benchmarks, not per I/O.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace leap {

/// Tells the core that this is a spin loop: saves power and gives the sibling hyper-thread the pipeline.
inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// CPU time this thread has used, user and system together.
[[nodiscard]] Nanos thread_cpu_time();

/// CPU time the whole process has used, all threads, user and system together.
[[nodiscard]] Nanos process_cpu_time();

/// The process's account at the kernel (getrusage(2)), since it started. Subtract two for an interval.
struct ProcessUsage {
  Nanos user{0};
  Nanos system{0};
  std::uint64_t voluntary_switches = 0;    ///< it slept
  std::uint64_t involuntary_switches = 0;  ///< it was preempted
  std::uint64_t minor_faults = 0;
  std::uint64_t major_faults = 0;
  std::uint64_t max_resident_bytes = 0;  ///< the high-water mark, not a difference
};
[[nodiscard]] ProcessUsage process_usage();

}  // namespace leap
