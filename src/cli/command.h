// The subcommands of `leap`: each add_* describes one to CLI11 and says what to run. Parsing and printing only; the
// work is done in the rooms below.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/log.h"
#include "base/result.h"

namespace leap::cli {

/// Exit status of a command: 0 done, 1 failed, 2 wrong usage.
using Action = std::function<int()>;

/// Set by the subcommand that was named on the command line.
struct Chosen {
  Action action;
  std::optional<LogLevel> log_level;  ///< of --log-level, if given
};

void add_target(CLI::App& app, Chosen& chosen);
void add_worker(CLI::App& app, Chosen& chosen);
void add_format(CLI::App& app, Chosen& chosen);
void add_block(CLI::App& app, Chosen& chosen);
void add_discover(CLI::App& app, Chosen& chosen);
void add_identify(CLI::App& app, Chosen& chosen);
void add_bench(CLI::App& app, Chosen& chosen);
void add_demo(CLI::App& app, Chosen& chosen);
void add_completion(CLI::App& app, Chosen& chosen);

/// Whom a command talks to: what helps when nobody answers depends on it.
enum class Peer : std::uint8_t { kNone, kTarget, kWorker, kWorkerHttp };

/// Prints "leap: <error>" and, where one is known, a line that says what to do. Returns 1.
int fail(const Error& error, Peer peer = Peer::kNone);
/// Prints "leap: <text>" for a wrong command line. Returns 2.
int usage_error(const std::string& text);

}  // namespace leap::cli
