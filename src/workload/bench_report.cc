#include "workload/bench_report.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/alloc_counter.h"
#include "base/cpu.h"
#include "base/sys.h"
#include "base/units.h"

namespace leap {
namespace {

double micros(Nanos value) { return std::chrono::duration<double, std::micro>(value).count(); }
double in_seconds(Nanos value) { return std::chrono::duration<double>(value).count(); }
double per_io(const BenchReport& report, double amount) {
  return report.ios() > 0 ? amount / static_cast<double>(report.ios()) : 0;
}

}  // namespace

ThreadUsage ThreadUsage::now() { return {thread_cpu_time(), sys::counters().total(), thread_allocations()}; }

void BenchReport::add(const ThreadUsage& usage) {
  cpu_seconds += in_seconds(usage.cpu);
  syscalls += usage.syscalls;
  allocations += usage.allocations;
}

std::string BenchReport::to_text() const {
  std::string text = fmt::format("{}\n{} bs={} qd={} x {} poller{}, {:.2f} s after {:.2f} s of warm-up{}\n", what, rw,
                                 format_bytes(block_size), queue_depth, pollers, pollers == 1 ? "" : "s", seconds,
                                 in_seconds(warmup), verify ? ", verified" : "");
  if (range > 0) {
    text += fmt::format("  on the first {} of the device", format_bytes(range));
    text += laid_out > 0 ? fmt::format(", {} of it laid out before\n", format_bytes(laid_out)) : "\n";
  }
  text += fmt::format("  {:>10.0f} IOPS  {:>9.1f} MiB/s   {} reads, {} writes, {} errors\n", iops(), mib_per_s(), reads,
                      writes, errors);
  text += fmt::format("  latency us: avg {:.1f}  p50 {:.1f}  p99 {:.1f}  p99.9 {:.1f}  max {:.1f}\n",
                      micros(latency.mean()), micros(latency.percentile(50)), micros(latency.percentile(99)),
                      micros(latency.percentile(99.9)), micros(latency.max()));
  const std::string heap =
      alloc_counting_available() ? fmt::format("{:.4f}", per_io(*this, static_cast<double>(allocations))) : "uncounted";
  text +=
      fmt::format("  per I/O: {:.3f} us CPU, {:.3f} system calls, {} heap allocations ({:.2f} CPU seconds)\n",
                  per_io(*this, cpu_seconds * 1e6), per_io(*this, static_cast<double>(syscalls)), heap, cpu_seconds);
  if (verify) text += fmt::format("  verify: {} units checked, {} errors\n", verified_units, verify_errors);
  if (!first_error.empty()) text += fmt::format("  first error: {}\n", first_error);
  return text;
}

std::string BenchReport::to_json() const {
  nlohmann::ordered_json json;
  json["what"] = what;
  json["rw"] = rw;
  json["bs"] = block_size;
  json["qd"] = queue_depth;
  json["pollers"] = pollers;
  if (range > 0) {
    json["range"] = range;
    json["laid_out"] = laid_out;
  }
  json["seconds"] = seconds;
  json["iops"] = iops();
  json["mib_per_s"] = mib_per_s();
  json["reads"] = reads;
  json["writes"] = writes;
  json["errors"] = errors;
  json["verify"] = verify;
  json["verified_units"] = verified_units;
  json["verify_errors"] = verify_errors;
  json["lat_us"] = {{"avg", micros(latency.mean())},
                    {"p50", micros(latency.percentile(50))},
                    {"p99", micros(latency.percentile(99))},
                    {"p999", micros(latency.percentile(99.9))},
                    {"max", micros(latency.max())}};
  json["cpu_seconds"] = cpu_seconds;
  json["syscalls_per_io"] = per_io(*this, static_cast<double>(syscalls));
  if (alloc_counting_available())
    json["allocs_per_io"] = per_io(*this, static_cast<double>(allocations));
  else
    json["allocs_per_io"] = nullptr;  // this build does not count: no number is better than a wrong one
  if (!first_error.empty()) json["first_error"] = first_error;
  return json.dump();
}

}  // namespace leap
