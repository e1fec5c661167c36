#include "env/env_config.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <optional>

#include <fmt/format.h>

#include "base/affinity.h"
#include "base/units.h"
#include "memory/dma_pool.h"

namespace leap {
namespace {

constexpr std::uint64_t kLeastHugepage = 8 * kMiB;
constexpr Nanos kMs = std::chrono::milliseconds(1);
constexpr Nanos kLongest = std::chrono::hours(24);
constexpr Nanos kLongestDelay = std::chrono::hours(1);
/// KATO is counted in units of 100 ms (NVMe Base 2.0, Identify Controller: KAS).
constexpr Nanos kLeastKeepAlive = std::chrono::milliseconds(100);
constexpr Nanos kLongestSpin = std::chrono::seconds(1);
constexpr std::uint32_t kLeastDepth = 2;
constexpr std::uint32_t kMostDepth = 4096;
constexpr std::uint32_t kMostRequests = 1U << 20;
constexpr std::uint32_t kMostRetries = 100;
constexpr std::uint32_t kMostQueues = 256;
constexpr Nanos kLongestPoll = std::chrono::milliseconds(INT32_MAX);

/// Something wrong with one key of a table.
struct Problem {
  std::string key;
  std::string what;
};
using Problems = std::vector<Problem>;

void check_number(Problems& problems, const char* key, std::uint64_t value, std::uint64_t min, std::uint64_t max) {
  if (value < min || value > max) problems.push_back({key, fmt::format("{} is not in {}..{}", value, min, max)});
}

void check_duration(Problems& problems, const char* key, Nanos value, Nanos min, Nanos max) {
  if (value >= min && value <= max) return;
  problems.push_back(
      {key, fmt::format("{} is not in {}..{}", format_duration(value), format_duration(min), format_duration(max))});
}

void check_keep_alive(Problems& problems, Nanos keep_alive, Nanos poll_interval) {
  if (keep_alive >= 3 * poll_interval) return;
  problems.push_back(
      {"keep_alive_timeout", fmt::format("{} is less than three poll intervals ({})", format_duration(keep_alive),
                                         format_duration(3 * poll_interval))});
}

Problems address_problems(const nvme::TransportAddress& address) {
  Problems problems;
  if (address.trtype != nvme::Trtype::kTcp) {
    problems.push_back({"trtype", fmt::format("{} is not available, only tcp is (write trtype = \"tcp\")",
                                              to_string(address.trtype))});
  }
  if (address.traddr.empty()) {
    problems.push_back({"traddr", "is required"});
  } else if (address.trtype == nvme::Trtype::kTcp) {
    const bool family = address.adrfam != nvme::Adrfam::kNone;
    const auto valid = nvme::TransportAddress::parse(fmt::format(
        "trtype:TCP {}{} traddr:{}", family ? "adrfam:" : "", family ? to_string(address.adrfam) : "", address.traddr));
    if (!valid.ok())
      problems.push_back({"traddr", fmt::format("'{}' is not an {}address or a host name", address.traddr,
                                                family ? fmt::format("{} ", to_string(address.adrfam)) : "IP ")});
  }
  if (address.trsvcid == 0) problems.push_back({"trsvcid", "0 is not in 1..65535"});
  if (address.subnqn.empty()) {
    problems.push_back({"subnqn", "is required"});
  } else if (const auto valid = nvme::validate_nqn(address.subnqn); !valid.ok()) {
    problems.push_back({"subnqn", valid.error().message()});
  }
  if (!address.hostnqn.empty()) {
    if (const auto valid = nvme::validate_nqn(address.hostnqn); !valid.ok())
      problems.push_back({"hostnqn", valid.error().message()});
  }
  return problems;
}

Problems target_problems(const NvmeTargetConfig& target, Nanos poll_interval) {
  Problems problems = address_problems(target.address);
  check_number(problems, "io_queues", target.io_queues, 0, kMostQueues);
  if (target.io_timeout != Nanos{0}) check_duration(problems, "io_timeout", target.io_timeout, kMs, kLongest);
  if (target.keep_alive_timeout != Nanos{0}) {
    check_duration(problems, "keep_alive_timeout", target.keep_alive_timeout, kLeastKeepAlive, kLongest);
    check_keep_alive(problems, target.keep_alive_timeout, poll_interval);
  }
  return problems;
}

bool same_target(const NvmeTargetConfig& a, const NvmeTargetConfig& b) {
  return a.address.traddr == b.address.traddr && a.address.trsvcid == b.address.trsvcid &&
         a.address.subnqn == b.address.subnqn;
}

void check_targets(Problems& problems, const std::vector<NvmeTargetConfig>& targets) {
  if (targets.empty()) problems.push_back({"targets", "enabled, but there is no [[worker.spdk_disk.targets]]"});
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const auto same = [&](const NvmeTargetConfig& other) { return same_target(other, targets[i]); };
    const auto end = targets.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find_if(targets.begin(), end, same) == end) continue;
    problems.push_back(
        {fmt::format("targets[{}]", i),
         fmt::format("{} at {} is listed twice", targets[i].address.subnqn, targets[i].address.endpoint())});
  }
}

/// Everything that is wrong with the table itself and with its targets taken together.
Problems env_problems(const NvmeEnvConfig& config) {
  Problems problems;
  std::size_t pollers = 1;
  if (const auto mask = config.cores(); mask.ok())
    pollers = mask->size();
  else
    problems.push_back({"reactor_mask", mask.error().message()});
  if (config.hugepage / pollers < kLeastHugepage) {
    problems.push_back({"hugepage", fmt::format("{} is less than {} for each of {} pollers",
                                                format_bytes(config.hugepage), format_bytes(kLeastHugepage), pollers)});
  }
  check_number(problems, "io_queue_depth", config.io_queue_depth, kLeastDepth, kMostDepth);
  check_number(problems, "io_queue_requests", config.io_queue_requests, kLeastDepth, kMostRequests);
  if (config.io_queue_requests < config.io_queue_depth) {
    problems.push_back({"io_queue_requests", fmt::format("{} is less than io_queue_depth ({})",
                                                         config.io_queue_requests, config.io_queue_depth)});
  }
  check_duration(problems, "io_timeout", config.io_timeout, kMs, kLongest);
  check_duration(problems, "abort_timeout", config.abort_timeout, Nanos{0}, kLongest);
  check_duration(problems, "reconnect_delay", config.reconnect_delay, kMs, kLongestDelay);
  check_duration(problems, "reconnect_delay_max", config.reconnect_delay_max, config.reconnect_delay, kLongestDelay);
  check_duration(problems, "fast_io_fail_timeout", config.fast_io_fail_timeout, Nanos{0}, kLongest);
  check_duration(problems, "ctrl_loss_timeout", config.ctrl_loss_timeout, Nanos{0}, kLongest);
  check_number(problems, "io_retry_count", config.io_retry_count, 0, kMostRetries);
  check_duration(problems, "keep_alive_timeout", config.keep_alive_timeout, kLeastKeepAlive, kLongest);
  check_duration(problems, "qpair_acquire_timeout", config.qpair_acquire_timeout, kMs, kLongest);
  check_duration(problems, "poll_interval_ms", config.poll_interval, kMs, kLongestPoll);
  check_duration(problems, "spin_max", config.spin_max, Nanos{0}, kLongestSpin);
  if (!std::has_single_bit(config.dma_buffer_size) || config.dma_buffer_size < DmaPool::kPageSize ||
      config.dma_buffer_size > DmaPool::kMaxBuffer) {
    problems.push_back({"dma_buffer_size", fmt::format("{} is not a power of two from 4 KiB to 1 MiB",
                                                       format_bytes(config.dma_buffer_size))});
  }
  // Like in Curvine, what only matters to a connection is not checked while there is none to be made.
  if (!config.enabled) return problems;
  check_keep_alive(problems, config.keep_alive_timeout, config.poll_interval);
  check_targets(problems, config.targets);
  return problems;
}

/// Curvine's canonical spelling of sizes and durations ends in _str; the short one is an alias. Both at once is a
/// mistake.
std::string spelling(ConfigTable& table, const std::string& canonical, const std::string& alias) {
  if (!table.has(canonical)) return alias;
  if (table.has(alias)) {
    table.report(alias, fmt::format("given twice, as {} and as {}", canonical, alias));
    table.accept(alias);
  }
  return canonical;
}

std::string spelling(ConfigTable& table, const std::string& key) { return spelling(table, key + "_str", key); }

/// The way `key` is written in the file, so that a problem is reported on its line.
std::string as_written(const ConfigTable& table, const std::string& key) {
  if (key == "poll_interval_ms") return table.has(key) ? key : "poll_interval";
  return table.has(key + "_str") ? key + "_str" : key;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

nvme::TransportAddress read_address(ConfigTable& table) {
  nvme::TransportAddress address;
  const std::string trtype = lower(table.string("trtype", "rdma"));
  address.trtype = trtype == "rdma" ? nvme::Trtype::kRdma : nvme::Trtype::kTcp;
  if (trtype != "rdma" && trtype != "tcp") table.report("trtype", fmt::format("'{}' is not rdma or tcp", trtype));
  address.traddr = table.string("traddr");
  const bool ipv6_literal = address.traddr.find(':') != std::string::npos;
  const std::string adrfam = lower(table.string("adrfam", ipv6_literal ? "ipv6" : "ipv4"));
  address.adrfam = adrfam == "ipv6" ? nvme::Adrfam::kIpv6 : nvme::Adrfam::kIpv4;
  if (adrfam != "ipv4" && adrfam != "ipv6") table.report("adrfam", fmt::format("'{}' is not ipv4 or ipv6", adrfam));
  address.trsvcid = static_cast<std::uint16_t>(table.integer("trsvcid", 4420, 1, 65535));
  address.subnqn = table.string("subnqn");
  address.hostnqn = table.string("hostnqn");
  return address;
}

NvmeTargetConfig read_target(ConfigTable table, const NvmeEnvConfig& env) {
  NvmeTargetConfig target;
  target.address = read_address(table);
  target.io_queues = static_cast<std::uint32_t>(table.integer("io_queues", 0, 0, kMostQueues));
  target.keep_alive_timeout = table.duration(spelling(table, "keep_alive_timeout"), Nanos{0}, Nanos{0}, kLongest);
  target.io_timeout = table.duration(spelling(table, "io_timeout"), Nanos{0}, Nanos{0}, kLongest);
  target.header_digest = table.boolean("hdgst", false);
  target.data_digest = table.boolean("ddgst", false);
  target.protocol_checker = table.boolean("protocol_checker", false);
  if (env.enabled) {
    for (const auto& [key, what] : target_problems(target, env.poll_interval))
      table.report(as_written(table, key), what);
  }
  return target;
}

/// What happens when a target does not answer or is gone.
void read_recovery(ConfigTable& table, NvmeEnvConfig& config) {
  config.abort_timeout = table.duration("abort_timeout", config.abort_timeout, Nanos{0}, kLongest);
  config.reconnect_delay = table.duration("reconnect_delay", config.reconnect_delay, kMs, kLongestDelay);
  config.reconnect_delay_max = table.duration("reconnect_delay_max", config.reconnect_delay_max, kMs, kLongestDelay);
  config.fast_io_fail_timeout = table.duration("fast_io_fail_timeout", config.fast_io_fail_timeout, Nanos{0}, kLongest);
  config.ctrl_loss_timeout = table.duration("ctrl_loss_timeout", config.ctrl_loss_timeout, Nanos{0}, kLongest);
  const std::string policy = table.string("path_policy", std::string(to_string(config.path_policy)));
  for (const PathPolicy known : {PathPolicy::kActivePassive, PathPolicy::kRoundRobin, PathPolicy::kLeastQueued}) {
    if (policy != to_string(known)) continue;
    config.path_policy = known;
    return;
  }
  table.report("path_policy", fmt::format("'{}' is not active-passive, round-robin or least-queued", policy));
}

}  // namespace

Result<std::vector<unsigned>> NvmeEnvConfig::cores() const { return parse_core_mask(reactor_mask); }

Result<> NvmeEnvConfig::validate() const {
  const auto error = [](const Problem& problem, const std::string& where) {
    return Error(Errc::kInvalidArgument, fmt::format("worker.spdk_disk.{}{}: {}", where, problem.key, problem.what))
        .in(ErrorDomain::kConfig);
  };
  if (const Problems problems = env_problems(*this); !problems.empty()) return error(problems.front(), "");
  if (!enabled) return {};
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const Problems problems = target_problems(targets[i], poll_interval);
    if (!problems.empty()) return error(problems.front(), fmt::format("targets[{}].", i));
  }
  return {};
}

NvmeEnvConfig NvmeEnvConfig::read(ConfigTable table) {
  NvmeEnvConfig config;
  config.enabled = table.boolean("enabled", config.enabled);
  config.app_name = table.string("app_name", config.app_name);
  config.hugepage = table.size(spelling(table, "hugepage"), config.hugepage);
  config.reactor_mask = table.string("reactor_mask", config.reactor_mask);
  const std::string iova = table.string("iova_mode");
  if (config.enabled && !iova.empty() && iova != "va") {
    table.report("iova_mode",
                 fmt::format("'{}' is not available: buffers are always addressed virtually (\"va\" or \"\")", iova));
  }
  const auto number = [&table](const char* key, std::uint32_t fallback, std::uint32_t min, std::uint32_t max) {
    return static_cast<std::uint32_t>(table.integer(key, fallback, min, max));
  };
  config.io_queue_depth = number("io_queue_depth", config.io_queue_depth, kLeastDepth, kMostDepth);
  config.io_queue_requests = number("io_queue_requests", config.io_queue_requests, kLeastDepth, kMostRequests);
  config.io_retry_count = number("io_retry_count", config.io_retry_count, 0, kMostRetries);
  config.spin_iter = number("spin_iter", config.spin_iter, 0, UINT32_MAX);
  const std::string poll_key = spelling(table, "poll_interval_ms", "poll_interval");
  config.poll_interval = std::chrono::milliseconds(table.integer(poll_key, 100, 1, INT32_MAX));
  config.io_timeout = table.duration(spelling(table, "io_timeout"), config.io_timeout, kMs, kLongest);
  config.keep_alive_timeout =
      table.duration(spelling(table, "keep_alive_timeout"), config.keep_alive_timeout, kLeastKeepAlive, kLongest);
  config.qpair_acquire_timeout =
      table.duration(spelling(table, "qpair_acquire_timeout"), config.qpair_acquire_timeout, kMs, kLongest);
  read_recovery(table, config);
  config.spin_max = table.duration("spin_max", config.spin_max, Nanos{0}, kLongestSpin);
  config.dma_buffer_size = table.size(spelling(table, "dma_buffer_size"), config.dma_buffer_size);

  std::vector<ConfigTable> targets = table.tables("targets");
  for (ConfigTable& target : targets) config.targets.push_back(read_target(target, config));
  for (const auto& [key, what] : env_problems(config)) {
    // A target that is listed twice is reported on its own line.
    std::size_t index = 0;
    while (index < targets.size() && key != fmt::format("targets[{}]", index)) ++index;
    if (index < targets.size())
      targets[index].report("", what);
    else
      table.report(as_written(table, key), what);
  }
  return config;
}

}  // namespace leap
