// leap worker: serves blocks until SIGTERM.

#include <cstdio>
#include <optional>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/signals.h"
#include "worker/volumes.h"
#include "worker/worker.h"

namespace leap::cli {
namespace {

constexpr Nanos kStopLimit = std::chrono::seconds(10);

struct WorkerOptions {
  std::string conf;
  bool check = false;
  bool standalone = false;
};

int check(const WorkerConfig& config) {
  fmt::print("configuration is good: cluster '{}', {} data directories, {} targets, RPC port {}, HTTP port {}\n",
             config.cluster_id, config.data_dirs.size(), config.spdk_disk.targets.size(), config.rpc_port,
             config.web_port);
  return 0;
}

/// Directs the log. Standard output begins with the ready line, which scripts wait for: until then a log that is to go
/// there goes to standard error.
Result<> open_log(LogConfig log, const std::optional<LogLevel>& level, bool ready) {
  if (level) log.level = *level;  // the command line's word
  if (!ready && log.destination == "stdout") log.destination = "stderr";
  return init_log(log);
}

Result<> serve(const WorkerConfig& config, const std::optional<LogLevel>& level) {
  LEAP_TRY(auto volumes, Volumes::open(config));
  Worker::Parts parts;
  parts.pollers = volumes->env().pollers();
  parts.store = &volumes->stores();
  parts.version = LEAP_VERSION;
  parts.dma_memory = volumes->env().arena().report();
  parts.more_metrics = [&env = volumes->env()](MetricsText& page) { env.append_metrics(page); };
  LEAP_TRY(auto worker, Worker::start(config, std::move(parts)));
  fmt::print("ready {} blocks, RPC {}, HTTP {}:{}\n", volumes->stores().space().blocks,
             worker->rpc_address().to_string(), config.leap.web_hostname, worker->web_port());
  std::fflush(stdout);
  LEAP_TRY_VOID(open_log(config.log, level, true));
  wait_for_stop_signal();
  const Result<> stopped = worker->stop();
  worker.reset();
  const Result<> closed = volumes->close(kStopLimit);
  return stopped.ok() ? closed : stopped;
}

int run(const WorkerOptions& options, const std::optional<LogLevel>& level) {
  const Result<WorkerConfig> config = WorkerConfig::load(options.conf);
  if (!config.ok()) return fail(config.error());
  if (options.check) return check(config.value());
  if (const Result<> log = open_log(config.value().log, level, false); !log.ok()) return fail(log.error());
  if (!options.standalone)
    log_warn(
        "not registering with a master, which this version cannot do: only clients that are told this worker's address "
        "will find it (--standalone says that this is meant)");
  block_stop_signals();
  const Result<> served = serve(config.value(), level);
  return served.ok() ? 0 : fail(served.error(), Peer::kTarget);
}

}  // namespace

void add_worker(CLI::App& app, Chosen& chosen) {
  auto* command = app.add_subcommand("worker", "Serve blocks from the devices of a configuration");
  auto options = std::make_shared<WorkerOptions>();
  command->add_option("--conf", options->conf, "Curvine's TOML; keys of our own are in [worker.leap]")->required();
  command->add_flag("--check", options->check, "only say whether the configuration is right");
  command->add_flag("--standalone", options->standalone,
                    "serve without a master: the only way so far, and without this option a warning");
  command->callback(
      [&chosen, options] { chosen.action = [&chosen, options] { return run(*options, chosen.log_level); }; });
}

}  // namespace leap::cli
