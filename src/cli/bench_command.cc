// leap bench io|worker: load on a device or through a worker, and the figures.

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "cli/command.h"
#include "env/device_session.h"
#include "workload/io_bench.h"
#include "workload/worker_bench.h"

namespace leap::cli {
namespace {

struct IoOptions {
  std::string device;
  DeviceSession::Options session;
  std::string rw = "randread";
  std::string bs = "4k";
  std::string range;
  std::string time = "5";
  std::string warmup = "500ms";
  IoBenchConfig config;
  bool json = false;
};

/// Seconds as fio's users write them ("5"), or a duration with a unit ("500ms").
Result<Nanos> parse_seconds(const std::string& text) {
  const bool bare = text.find_first_not_of("0123456789.") == std::string::npos;
  return parse_duration(bare ? text + "s" : text);
}

Result<BenchReport> measure(IoOptions& options) {
  LEAP_TRY(options.config.pattern, parse_io_pattern(options.rw));
  LEAP_TRY(const std::uint64_t block_size, parse_size(options.bs));
  if (block_size > UINT32_MAX) return Error(Errc::kInvalidArgument, fmt::format("--bs {}: too large", options.bs));
  options.config.block_size = static_cast<std::uint32_t>(block_size);
  LEAP_TRY(options.config.duration, parse_seconds(options.time));
  LEAP_TRY(options.config.warmup, parse_seconds(options.warmup));
  if (!options.range.empty()) {
    LEAP_TRY(options.config.range, parse_size(options.range));
  }
  options.config.on_notice = [](const std::string& line) { fmt::print(stderr, "leap: {}\n", line); };
  // Every I/O in flight holds its buffer; a queue pair takes one command more than is in flight.
  options.session.memory = std::max<std::uint64_t>(64 * kMiB, 2 * block_size * options.config.queue_depth + 16 * kMiB);
  options.session.io_queue_depth = std::clamp<std::uint32_t>(options.config.queue_depth + 1, 128, 4096);
  LEAP_TRY(auto session, DeviceSession::open(options.device, options.session));
  Result<BenchReport> report = run_io_bench(options.config, session->device(), session->pollers());
  const Result<> closed = session->close();
  if (report.ok() && !closed.ok()) return closed.error();
  return report;
}

int run_io(IoOptions& options) {
  const Result<BenchReport> report = measure(options);
  if (!report.ok()) return fail(report.error(), Peer::kTarget);
  if (options.json)
    fmt::print("{}\n", report->to_json());
  else
    fmt::print("{}", report->to_text());
  return report->good() ? 0 : 1;
}

void add_bench_io(CLI::App& bench, Chosen& chosen) {
  auto* command = bench.add_subcommand("io", "Reads and writes on a device: an NVMe/TCP namespace, a file, memory");
  auto options = std::make_shared<IoOptions>();
  command
      ->add_option("--device,-d", options->device,
                   "'trtype:TCP adrfam:IPv4 traddr:HOST trsvcid:PORT subnqn:NQN', nvme+tcp://HOST:PORT/NQN?ns=1, "
                   "file:///PATH?size=1GiB or mem:?size=1GiB")
      ->required();
  command->add_option("--nsid", options->session.nsid, "namespace, when the subsystem has several");
  command->add_option("--rw", options->rw, "read, write, randread, randwrite, randrw or rw")->capture_default_str();
  command->add_option("--bs", options->bs, "bytes per I/O (4k, 128k, 1m)")->capture_default_str();
  command->add_option("--qd", options->config.queue_depth, "I/Os in flight per poller")->capture_default_str();
  command->add_option("--rwmixread", options->config.read_percent, "percent of reads in randrw and rw")
      ->capture_default_str();
  command->add_option("--time", options->time, "how long to measure (seconds, or with a unit)")->capture_default_str();
  command->add_option("--warmup", options->warmup, "unmeasured start")->capture_default_str();
  command->add_option("--range", options->range,
                      "use only the first so many bytes of the device (default: all; with --verify 256 MiB)");
  command->add_option("--seed", options->config.seed, "of offsets and contents")->capture_default_str();
  command->add_option("--cores", options->session.cores,
                      "cores to poll on: 1, 0,2-3 or a mask 0x6 (default: the last one allowed)");
  command->add_flag("--verify", options->config.verify,
                    "check every read against stamps of position, generation and seed, which it writes beforehand");
  command->add_flag("--overwrite", options->config.overwrite,
                    "write even if the device holds data of others, which is lost (--verify always writes)");
  command->add_flag("--hdgst", options->session.header_digest, "ask for NVMe/TCP header digests");
  command->add_flag("--ddgst", options->session.data_digest, "ask for NVMe/TCP data digests");
  command->add_flag("--check-protocol", options->session.protocol_checker,
                    "hold every PDU of both ends against the specification; log offences");
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([&chosen, options] { chosen.action = [options] { return run_io(*options); }; });
}

struct WorkerOptions {
  WorkerBenchConfig config;
  std::string worker = "127.0.0.1:8997";
  std::string rw = "randread";
  std::string bs = "128k";
  std::string block = "16m";
  std::string time = "5";
  std::string warmup = "500ms";
  bool json = false;
};

Result<BenchReport> measure(WorkerOptions& options) {
  WorkerBenchConfig& config = options.config;
  LEAP_TRY(config.worker, SocketAddress::parse(options.worker));
  LEAP_TRY(config.pattern, parse_io_pattern(options.rw));
  LEAP_TRY(const std::uint64_t frame, parse_size(options.bs));
  config.block_size = static_cast<std::uint32_t>(std::min<std::uint64_t>(frame, UINT32_MAX));
  LEAP_TRY(config.store_block, parse_size(options.block));
  LEAP_TRY(config.duration, parse_seconds(options.time));
  LEAP_TRY(config.warmup, parse_seconds(options.warmup));
  return run_worker_bench(config);
}

int run_worker(WorkerOptions& options) {
  const Result<BenchReport> report = measure(options);
  if (!report.ok()) return fail(report.error(), Peer::kWorker);
  if (options.json)
    fmt::print("{}\n", report->to_json());
  else
    fmt::print("{}", report->to_text());
  return report->good() ? 0 : 1;
}

void add_bench_worker(CLI::App& bench, Chosen& chosen) {
  auto* command = bench.add_subcommand("worker", "Reads and writes of blocks through a worker");
  auto options = std::make_shared<WorkerOptions>();
  command->add_option("--worker", options->worker, "the worker's RPC address")->capture_default_str();
  command->add_option("--rw", options->rw, "read, write or randread")->capture_default_str();
  command->add_option("--bs", options->bs, "bytes per request (4k .. 1m)")->capture_default_str();
  command->add_option("--qd,--connections", options->config.connections, "connections, each with one request in flight")
      ->capture_default_str();
  command->add_option("--block-size", options->block, "bytes per block")->capture_default_str();
  command->add_option("--blocks", options->config.blocks, "blocks that are read (default: one per connection)");
  command
      ->add_option(
          "--first-id", options->config.first_block_id,
          "ids from here on are created and, at the end, deleted; one that exists is refused (default: ids that "
          "no master gives out)")
      ->check(CLI::Range(std::int64_t{1}, INT64_MAX));
  command->add_option("--time", options->time, "how long to measure (seconds, or with a unit)")->capture_default_str();
  command->add_option("--warmup", options->warmup, "unmeasured start")->capture_default_str();
  command->add_option("--seed", options->config.seed, "of offsets and contents")->capture_default_str();
  command->add_option("--core", options->config.core, "core of the client (default: not pinned)");
  command->add_flag("--verify", options->config.verify,
                    "stamp every 4 KiB with block, offset and seed, and check every read");
  command->add_flag("--json", options->json, "print one JSON object");
  command->callback([&chosen, options] { chosen.action = [options] { return run_worker(*options); }; });
}

}  // namespace

void add_bench(CLI::App& app, Chosen& chosen) {
  auto* bench = app.add_subcommand("bench", "Measure a device or a worker");
  bench->require_subcommand(1);
  add_bench_io(*bench, chosen);
  add_bench_worker(*bench, chosen);
}

}  // namespace leap::cli
