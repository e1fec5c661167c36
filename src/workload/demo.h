// Demo: the main job end to end on this machine, in separate processes: a target, a worker on it, a directory tree
// stored as blocks, every byte verified back, the worker restarted cleanly and, while it is writing more blocks, by
// SIGKILL, verified again each time.
//
//   LEAP_TRY(const DemoReport report, run_demo({.roots = {"/usr"}}, fmt_stdout));
//
// Threading: blocks; start it from the main thread. It starts other instances of this executable and stops them by pid.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "workload/crash_load.h"
#include "workload/tree_store.h"

namespace leap {

struct DemoConfig {
  std::vector<std::filesystem::path> roots;            ///< files and directories to store; empty: /usr
  std::uint64_t enough = std::uint64_t{1} << 30;       ///< stop collecting at so many bytes; 0: everything under roots
  std::uint64_t block_size = std::uint64_t{64} << 20;  ///< largest piece of a file in one block
  std::filesystem::path work_dir;  ///< where to make a fresh directory; empty: the system's temporary directory
  bool keep = false;               ///< leave the directory and what is in it
  bool force_file = false;         ///< back the target with a file even if memory would do
};

struct DemoPhase {
  std::string name;
  TransferReport transfer;
  double worker_cpu_seconds = 0;
  double target_cpu_seconds = 0;
};

struct DemoReport {
  std::string device;  ///< what stored the data
  std::string memory;  ///< which pages the worker's buffers use
  std::vector<DemoPhase> phases;
  double clean_restart_seconds = 0;  ///< SIGTERM to ready again
  double crash_restart_seconds = 0;  ///< SIGKILL to ready again
  CrashLoad::Report crash;           ///< what was being written when SIGKILL came
  std::uint64_t files = 0;
  std::uint64_t unreadable = 0;  ///< files and directories that were left out
  std::uint64_t space_used = 0;  ///< bytes allocated on the device, from the worker
  std::string work_dir;          ///< empty when it was removed

  [[nodiscard]] std::uint64_t errors() const;
  [[nodiscard]] std::string to_text() const;  ///< the table
};

/// One line of progress; `transient` ones may be overwritten by the next.
using DemoOutput = std::function<void(const std::string& line, bool transient)>;

/// Errors: whatever kept it from running. Blocks that failed or differed are in the report.
Result<DemoReport> run_demo(const DemoConfig& config, const DemoOutput& output);

}  // namespace leap
