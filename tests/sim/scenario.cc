#include "scenario.h"

#include <algorithm>

#include <fmt/format.h>

#include "target/shard.h"

namespace leap::sim {
namespace {

using std::chrono::milliseconds;

constexpr const char* kSubsystem = "nqn.2024-01.io.leap:sim";
constexpr const char* kHostNqn = "nqn.2014-08.org.nvmexpress:uuid:00010203-0405-0607-0809-0a0b0c0d0e0f";

template <typename T>
T one_of(Rng& rng, std::initializer_list<T> choices) {
  return choices.begin()[rng.below(choices.size())];
}

void choose_target(Rng& rng, TargetConfig& target) {
  target.nqn = kSubsystem;
  target.listen = {SocketAddress::parse("192.0.2.1:4420").value()};
  target.queue_depth = one_of<std::uint32_t>(rng, {4, 8, 32, 128});
  target.max_io_queues = one_of<std::uint32_t>(rng, {2, 3, 8});
  target.in_capsule_data_size = one_of<std::uint32_t>(rng, {0, 512, 4096, 8192});
  target.max_io_size = one_of<std::uint32_t>(rng, {8U << 10, 32U << 10, 64U << 10, 128U << 10});
  target.max_h2c_data = one_of<std::uint32_t>(rng, {4U << 10, 16U << 10, 128U << 10});
  target.max_c2h_data = one_of<std::uint32_t>(rng, {16U << 10, 64U << 10});
  target.max_r2t_bytes = one_of<std::uint32_t>(rng, {4U << 10, 8U << 10, 64U << 10});
  target.max_r2ts = one_of<std::uint32_t>(rng, {1, 2, 4});
  target.c2h_success = one_of(rng, {C2hSuccess::kNever, C2hSuccess::kWithoutFlowControl, C2hSuccess::kAlways});
  target.handshake_timeout = milliseconds(2000);
  target.stall_timeout = milliseconds(3000);
  target.linger_timeout = milliseconds(200);
}

void choose_host(Rng& rng, ControllerConfig& host) {
  host.address = nvme::TransportAddress::parse(fmt::format("nvme+tcp://192.0.2.1:4420/{}", kSubsystem)).value();
  host.hostnqn = kHostNqn;
  host.hostid = Uuid::from_name("sim host");
  host.data_digest = rng.chance(0.5);
  host.header_digest = rng.chance(host.data_digest ? 0.8 : 0.2);
  host.disable_sq_flow_control = rng.chance(0.7);
  host.io_queue_depth = one_of<std::uint32_t>(rng, {2, 4, 16, 128});
  host.max_io_queues = 4;
  host.maxr2t = one_of<std::uint32_t>(rng, {1, 2, 4});
  host.connect_timeout = milliseconds(1000);
  host.io_timeout = milliseconds(one_of(rng, {300, 1000, 2000}));
  host.keep_alive_timeout = milliseconds(one_of(rng, {500, 1000, 3000}));
  host.receive_buffer = 64 * 1024;
}

void choose_faults(Rng& rng, Scenario& scenario) {
  scenario.faulty = !rng.chance(0.15);
  if (!scenario.faulty) {
    // Nothing ever takes as long as a timeout, so nothing may fail.
    scenario.net.late_max_ns = 1'000'000;
    scenario.host.io_timeout = milliseconds(10'000);
    scenario.lull = 0.02;
    return;
  }
  NetPlan& net = scenario.net;
  DevicePlan& device = scenario.device;
  if (rng.chance(0.7)) {
    net.fault = 0.2 + 0.7 * rng.unit();
    net.fault_within = one_of<std::uint64_t>(rng, {20'000, 100'000, 400'000});
    net.refuse = rng.chance(0.3) ? 0.2 : 0.0;
    net.lose_connect = rng.chance(0.2) ? 0.1 : 0.0;
    net.accept_error = rng.chance(0.2) ? 0.2 : 0.0;
    net.corrupt = scenario.host.header_digest && scenario.host.data_digest ? 0.6 : 0.0;
    net.blackhole_max_ms = one_of<std::uint64_t>(rng, {1'000, 4'000, 300'000});
  }
  if (rng.chance(0.5)) {
    device.slow = one_of(rng, {0.01, 0.1, 0.3});
    device.stall = one_of(rng, {0.0, 0.002, 0.02});
    device.io_error = one_of(rng, {0.0, 0.01, 0.05});
    device.busy = one_of(rng, {0.0, 0.02, 0.1});
  }
  if (rng.chance(0.2)) scenario.target.max_connections = one_of<std::uint32_t>(rng, {3, 6});
  if (rng.chance(0.2)) scenario.target.max_controllers = one_of<std::uint32_t>(rng, {1, 2});
  if (rng.chance(0.5)) {
    scenario.target_fault_every_ns = static_cast<std::int64_t>(5'000'000 + rng.below(100'000'000));
    scenario.power_loss = one_of(rng, {0.2, 0.6, 1.0});
  }
}

}  // namespace

Scenario::Scenario(std::uint64_t chosen) : seed(chosen) {
  Rng rng(seed ^ 0x5eed'0000'0000'0001);
  choose_target(rng, target);
  choose_host(rng, host);
  device.block_size = one_of<std::uint32_t>(rng, {512, 512, 4096});
  device.size = one_of<std::uint64_t>(rng, {128U << 10, 512U << 10});
  device.mapped = rng.chance(0.12);
  device.volatile_cache = !device.mapped && rng.chance(0.8);
  net.split = one_of(rng, {0.0, 0.2, 0.6});
  net.window = one_of<std::size_t>(rng, {4U << 10, 64U << 10, 512U << 10});
  bdev.max_io = one_of<std::uint32_t>(rng, {8U << 10, 64U << 10, 1U << 20});
  bdev.retries = one_of<std::uint32_t>(rng, {0, 1, 4});
  bdev.fast_io_fail_timeout = one_of<Nanos>(rng, {Nanos{0}, milliseconds(200), milliseconds(2000)});
  host.quiesce_margin = milliseconds(10'000);  // longer than what the device takes, whatever is in front
  host.abort_timeout = one_of<Nanos>(rng, {Nanos{0}, milliseconds(100), milliseconds(500)});
  host_pollers = 1 + rng.below(2);
  target_pollers = 1 + rng.below(2);
  host_mailbox = rng.chance(0.3) ? 1 + rng.below(3) : 4096;
  target_pool = 2 * std::size_t{target.max_io_size} + target::Shard::kScratchBytes + (rng.below(8) << 17);
  workers = static_cast<std::uint32_t>(1 + (rng.chance(0.5) ? rng.below(32) : rng.below(6)));
  operations = static_cast<std::uint32_t>(60 + rng.below(160));
  hot = one_of(rng, {0.2, 0.6, 0.9});
  renew = rng.chance(0.3) ? 0.001 : 0.0;
  announce = rng.chance(0.3) ? 0.002 : 0.0;
  choose_faults(rng, *this);
  // The model judges a read by what was there when it began: it must not span the loss of a cache.
  if (device.volatile_cache && target_fault_every_ns > 0 && power_loss > 0.0) bdev.fast_io_fail_timeout = Nanos{0};
}

Nanos Scenario::longest_command() const {
  constexpr std::uint32_t kLargest = 256 * 1024;
  const std::uint32_t ahead = workers * (kLargest / largest_command());
  const std::uint32_t rounds = 2 + ahead / std::min(host.io_queue_depth - 1, target.queue_depth - 1);
  // Those in front may each try to connect, one after the other, before it is this command's turn.
  return (bdev.retries + 1) * (workers * host.connect_timeout + rounds * host.io_timeout + milliseconds(100)) +
         longest_recovery();
}

Nanos Scenario::longest_recovery() const {
  // An Abort that does not help, a path that does not come back, one more try, and a fence that only time lets pass.
  const Nanos fence = host.keep_alive_timeout > Nanos{0}
                          ? host.keep_alive_timeout + host.quiesce_margin + milliseconds(2000)
                          : milliseconds(65'000);
  return host.abort_timeout + bdev.fast_io_fail_timeout + host.connect_timeout + 2 * host.io_timeout + fence;
}

Nanos Scenario::longest_operation() const {
  const Nanos command =
      (bdev.retries + 1) * (host.connect_timeout + 2 * host.io_timeout + milliseconds(100)) + longest_recovery();
  // Read-modify-write of the largest operation, window by window: two edges and the whole.
  constexpr std::uint32_t kLargest = 256 * 1024;
  const std::uint32_t windows = kLargest / std::min(largest_command(), 64U * 1024) + 2;
  return workers * (windows + 2) * command;
}

std::string Scenario::describe() const {
  return fmt::format(
      "{}, {} workers, {} operations, {}+{} pollers, {} B blocks{}{}, hdgst {} ddgst {}, capsule {}, io {}, r2t {}x{}, "
      "net faults {:.2f}, device errors {:.3f} busy {:.2f} stalls {:.3f}, target ends every {} ms",
      faulty ? "faults" : "no faults", workers, operations, host_pollers, target_pollers, device.block_size,
      device.mapped ? " of memory" : "", device.volatile_cache ? " cached" : "", host.header_digest, host.data_digest,
      target.in_capsule_data_size, target.max_io_size, target.max_r2ts, target.max_r2t_bytes, net.fault,
      device.io_error, device.busy, device.stall, target_fault_every_ns / 1'000'000);
}

}  // namespace leap::sim
