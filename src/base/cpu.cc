#include "base/cpu.h"

#include <sys/resource.h>
#include <sys/time.h>

#include <ctime>

namespace leap {
namespace {

Nanos read_clock(clockid_t id) {
  timespec ts{};
  ::clock_gettime(id, &ts);
  return std::chrono::seconds{ts.tv_sec} + Nanos{ts.tv_nsec};
}

Nanos from_timeval(const timeval& tv) {
  return std::chrono::seconds{tv.tv_sec} + std::chrono::microseconds{tv.tv_usec};
}

}  // namespace

Nanos thread_cpu_time() { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

Nanos process_cpu_time() { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }

ProcessUsage process_usage() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  ProcessUsage result;
  result.user = from_timeval(usage.ru_utime);
  result.system = from_timeval(usage.ru_stime);
  result.voluntary_switches = static_cast<std::uint64_t>(usage.ru_nvcsw);
  result.involuntary_switches = static_cast<std::uint64_t>(usage.ru_nivcsw);
  result.minor_faults = static_cast<std::uint64_t>(usage.ru_minflt);
  result.major_faults = static_cast<std::uint64_t>(usage.ru_majflt);
  result.max_resident_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  return result;
}

}  // namespace leap
