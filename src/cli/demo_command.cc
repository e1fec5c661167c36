// leap demo: the whole path on this machine, without any device.

#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

#include "base/units.h"
#include "cli/command.h"
#include "workload/demo.h"

namespace leap::cli {
namespace {

constexpr const char* kWhereNext = R"(
Where to look next
  leap target --listen 127.0.0.1:4420 --nqn nqn.2026-11.dev.leap:one --namespace 'mem:?size=1GiB'
  leap bench io --device 'trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.2026-11.dev.leap:one' --rw randread
  README.md (what this is), docs/ARCHITECTURE.md (how a read and a write travel through it)
)";

class Terminal {
 public:
  void print(const std::string& line, bool transient) {
    if (!transient) {
      fmt::print("{}{}\n", interactive_ ? "\r\033[K" : "", line);
    } else if (interactive_) {
      fmt::print("\r\033[K{}", line);
    } else if (++transient_lines_ % kEvery == 1) {
      fmt::print("{}\n", line);
    }
    std::fflush(stdout);
  }

 private:
  static constexpr unsigned kEvery = 20;  // of ten updates a second, when lines cannot be overwritten
  const bool interactive_ = ::isatty(STDOUT_FILENO) == 1;
  unsigned transient_lines_ = 0;
};

struct DemoOptions {
  DemoConfig config;
  std::string enough = "1GiB";
};

int run(DemoOptions& options) {
  const Result<std::uint64_t> enough = parse_size(options.enough);
  if (!enough.ok()) return usage_error(fmt::format("--size: {}", enough.error().message()));
  // What the user names is stored whole; of what is found by default, as much as asked.
  options.config.enough = options.config.roots.empty() ? enough.value() : 0;
  Terminal terminal;
  const Result<DemoReport> report =
      run_demo(options.config, [&](const std::string& line, bool transient) { terminal.print(line, transient); });
  if (!report.ok()) return fail(report.error());
  fmt::print("{}", report->to_text());
  if (!report->work_dir.empty()) fmt::print("kept    {}\n", report->work_dir);
  if (report->errors() > 0) return 1;
  fmt::print("{}", kWhereNext);
  return 0;
}

}  // namespace

void add_demo(CLI::App& app, Chosen& chosen) {
  auto* command = app.add_subcommand(
      "demo", "Store real files through a worker and a target on this machine, verify them, restart, verify again");
  auto options = std::make_shared<DemoOptions>();
  command->add_option("path", options->config.roots, "files or directories to store (default: files under /usr)");
  command->add_option("--size", options->enough, "how much to take of the default")->capture_default_str();
  command->add_option("--dir", options->config.work_dir,
                      "where to make the working directory (default: the system's for temporary files)");
  command->add_flag("--keep", options->config.keep, "leave the working directory with logs and metadata");
  command->add_flag("--file", options->config.force_file, "back the target with a file instead of memory");
  command->callback([&chosen, options] { chosen.action = [options] { return run(*options); }; });
}

}  // namespace leap::cli
