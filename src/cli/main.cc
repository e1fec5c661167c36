// leap: one binary, its subcommands.

#include <csignal>
#include <cstdio>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/version.h"

namespace leap::cli {
namespace {

int run(int argc, char** argv) {
  CLI::App app{
      "Leap: a user-space NVMe storage worker for Curvine.\n"
      "A first try on this machine: leap demo. Everything about a command: leap COMMAND --help"};
  app.name("leap");
  app.set_version_flag("--version,-V", version_text());
  app.require_subcommand(1);
  std::string log_level;
  app.add_option(
         "--log-level", log_level,
         "trace, debug, info, warn, error or off (default: what a worker's configuration says, info for target, "
         "warn for tools)")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}));
  Chosen chosen;
  add_demo(app, chosen);
  add_target(app, chosen);
  add_worker(app, chosen);
  add_format(app, chosen);
  add_block(app, chosen);
  add_discover(app, chosen);
  add_identify(app, chosen);
  add_bench(app, chosen);
  add_completion(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // 0 for --help and --version; CLI11's own numbers for mistakes mean nothing to a caller.
    return app.exit(error) == 0 ? 0 : 2;
  }
  const bool serves = app.got_subcommand("target") || app.got_subcommand("worker");
  if (!log_level.empty()) chosen.log_level = parse_log_level(log_level).value();
  set_log_level(chosen.log_level.value_or(serves ? LogLevel::kInfo : LogLevel::kWarn));
  return chosen.action();
}

}  // namespace
}  // namespace leap::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  return leap::cli::run(argc, argv);
}
