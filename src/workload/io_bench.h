// IoBench: random or sequential reads and writes at a fixed queue depth on any BlockDevice, measured.
//
// One generator per poller, each with its own channel and `queue_depth` I/Os in flight; offsets are aligned to the
// block size of the test. A short unmeasured start warms caches and pools. Counted in the measured window: I/Os, bytes,
// latency per I/O from submission to completion, CPU time, system calls and heap allocations of the polling threads.
//
// verify: units of at most 4 KiB are stamped with position, generation and seed (stamp.h). What a run reads it first
// writes ("lays out", before the time begins to count); every read is checked against the last completed write, and
// after a writing run everything written is read back. No two I/Os in flight touch the same block then.
//
// What is on the device is lost in a run that writes, and with verify every run does. Unless `overwrite` is set, a
// device whose ends hold anything but zeros and what such runs wrote is refused first (overwrite_guard.h).
//
//   LEAP_TRY(BenchReport report, run_io_bench(config, device, pollers));
//   fmt::print("{}", report.to_text());
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bdev/block_device.h"
#include "poller/poller_context.h"
#include "workload/bench_report.h"

namespace leap {

enum class IoPattern : std::uint8_t { kRead, kWrite, kRandRead, kRandWrite, kRandRw, kRw };
Result<IoPattern> parse_io_pattern(std::string_view text);
std::string_view to_string(IoPattern pattern);

struct IoBenchConfig {
  IoPattern pattern = IoPattern::kRandRead;
  std::uint32_t block_size = 4096;  ///< bytes per I/O, 512 B .. 1 MiB
  std::uint32_t queue_depth = 32;   ///< in flight per poller, 1 .. 4096
  std::uint32_t read_percent = 50;  ///< of randrw and rw
  Nanos duration = std::chrono::seconds(5);
  Nanos warmup = std::chrono::milliseconds(500);
  std::uint64_t range = 0;  ///< bytes from the start of the device; 0: all of it, with verify at most kVerifyRange
  std::uint64_t seed = 1;
  bool verify = false;
  bool overwrite = false;                               ///< whatever is on the device may be lost
  std::function<void(const std::string&)> on_notice{};  ///< told what happens before the run, a line; may be empty

  /// A large device must not be filled before a short run. (More, if the I/Os in flight need more.)
  static constexpr std::uint64_t kVerifyRange = 256ULL << 20;

  [[nodiscard]] bool writes() const;  ///< to the device, at any time
  /// Bytes from the start of the device that a run on so many pollers uses.
  [[nodiscard]] std::uint64_t range_on(const BlockDeviceInfo& device, std::size_t pollers) const;
  [[nodiscard]] Result<> validate(const BlockDeviceInfo& device, std::size_t pollers) const;
};

/// Blocks for warm-up and duration (and verification). Pollers must be running; called from no poller.
/// Errors: kInvalidArgument (configuration against this device), kAlreadyExists (it holds something), and whatever
/// opening a channel reports. Failed I/Os are counted, not returned.
Result<BenchReport> run_io_bench(const IoBenchConfig& config, BlockDevice& device,
                                 const std::vector<PollerContext>& pollers);

}  // namespace leap
