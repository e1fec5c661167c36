// leap target: an NVMe/TCP target over memory and files.

#include <cstdio>

#include <fmt/format.h>

#include "base/affinity.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/signals.h"
#include "target/admin_socket.h"
#include "target/chaos/spec.h"
#include "target/target_runner.h"

namespace leap::cli {
namespace {

constexpr Nanos kStopLimit = std::chrono::seconds(10);

struct TargetOptions {
  std::vector<std::string> listen{"127.0.0.1:4420"};
  std::string nqn;
  std::vector<std::string> namespaces;
  std::vector<std::string> hosts;
  std::vector<std::string> referrals;
  std::string cores;
  std::string pool = "64MiB";
  std::string in_capsule = "8KiB";
  std::uint32_t queue_depth = 128;
  bool check_protocol = false;
  std::string chaos;
  std::string admin;
};

Result<TargetRunner::Options> runner_options(const TargetOptions& options) {
  TargetRunner::Options runner;
  for (const std::string& text : options.listen) {
    LEAP_TRY(const SocketAddress address, SocketAddress::parse(text));
    runner.target.listen.push_back(address);
  }
  for (const std::string& text : options.referrals) {
    LEAP_TRY(const SocketAddress address, SocketAddress::parse(text));
    runner.target.referrals.push_back(address);
  }
  runner.target.nqn = options.nqn;
  runner.target.allowed_hosts = options.hosts;
  runner.target.firmware = LEAP_VERSION;
  runner.target.queue_depth = options.queue_depth;
  runner.target.protocol_checker = options.check_protocol;
  runner.target.chaos = options.chaos;
  runner.target.chaos_control = !options.admin.empty();
  LEAP_TRY(const std::uint64_t in_capsule, parse_size(options.in_capsule));
  runner.target.in_capsule_data_size = static_cast<std::uint32_t>(std::min<std::uint64_t>(in_capsule, UINT32_MAX));
  runner.namespaces = options.namespaces;
  if (!options.cores.empty()) {
    const bool mask = options.cores.starts_with("0x") || options.cores.starts_with("[");
    LEAP_TRY(runner.cores, parse_core_mask(mask ? options.cores : "[" + options.cores + "]"));
  }
  LEAP_TRY(runner.pool_bytes, parse_size(options.pool));
  return runner;
}

Result<> serve(const TargetOptions& options) {
  LEAP_TRY(TargetRunner::Options runner_config, runner_options(options));
  LEAP_TRY(auto runner, TargetRunner::create(std::move(runner_config)));
  LEAP_TRY_VOID(runner->start());
  std::string addresses;
  for (const SocketAddress& address : runner->target().addresses())
    addresses += fmt::format("{}{}", addresses.empty() ? "" : " ", address.to_string());
  log_info("{}", runner->memory_report());
  std::unique_ptr<AdminSocket> admin;
  if (!options.admin.empty()) {
    LEAP_TRY(admin, AdminSocket::open(options.admin, runner->target()));
    log_info("admin socket on {}", admin->address());
  }
  if (!options.chaos.empty()) log_warn("this target breaks on purpose: {}", options.chaos);
  fmt::print("ready {} on {}, {} namespace{}\n", options.nqn, addresses, runner->devices().size(),
             runner->devices().size() == 1 ? "" : "s");
  std::fflush(stdout);
  wait_for_stop_signal();
  admin.reset();
  return runner->stop(kStopLimit);
}

}  // namespace

void add_target(CLI::App& app, Chosen& chosen) {
  auto* command = app.add_subcommand("target", "Serve memory or files as NVMe namespaces over NVMe/TCP, without root");
  auto options = std::make_shared<TargetOptions>();
  command->add_option("--listen", options->listen, "HOST:PORT, repeatable; port 0 lets the system choose")
      ->capture_default_str();
  command->add_option("--nqn", options->nqn, "NQN of the subsystem (nqn.2026-11.dev.leap:NAME)")->required();
  command
      ->add_option(
          "--namespace", options->namespaces,
          "'mem:?size=512MiB[&block=512]' or 'file:///PATH?size=1GiB[&block=512]', repeatable; numbered from 1")
      ->required();
  command->add_option("--host", options->hosts, "host NQN that may connect, repeatable (default: any)");
  command->add_option("--referral", options->referrals,
                      "ADDR:PORT of another discovery service that ours points hosts to, repeatable");
  command->add_option("--cores", options->cores,
                      "one poller on each: 0, 0,2-3 or a mask 0x3 (default: one, not pinned)");
  command->add_option("--memory", options->pool, "DMA buffers per poller")->capture_default_str();
  command->add_option("--in-capsule", options->in_capsule, "write data accepted inside a command")
      ->capture_default_str();
  command->add_option("--queue-depth", options->queue_depth, "entries per queue")->capture_default_str();
  command->add_flag("--check-protocol", options->check_protocol,
                    "hold every PDU of both ends against the specification; log and count offences");
  command->add_option("--chaos", options->chaos, "SPEC: break on purpose, to test hosts; see below");
  command->add_option("--admin", options->admin,
                      "HOST:PORT on loopback, or /PATH of a unix socket: `chaos SPEC`, `metrics`, `help` as lines");
  command->footer(fmt::format("--chaos {}", target::chaos_help()));
  command->callback([&chosen, options] {
    chosen.action = [options] {
      block_stop_signals();
      const Result<> served = serve(*options);
      return served.ok() ? 0 : fail(served.error());
    };
  });
}

}  // namespace leap::cli
