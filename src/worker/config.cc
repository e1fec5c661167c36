#include "worker/config.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <set>

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>

#include "base/address.h"
#include "base/scope_exit.h"
#include "base/units.h"

namespace leap {
namespace {

constexpr Nanos kLongest = std::chrono::hours(24 * 365);

// Sections of a Curvine cluster file that other programs own.
constexpr const char* kForeignSections[] = {"journal",  "client",     "fuse",           "log", "job", "cli",
                                            "transfer", "s3_gateway", "fault_injection"};

// Keys of [worker] that tune Curvine's thread pools, pipes and load tasks. They are legal and mean nothing here.
struct UnusedNumber {
  const char* key;
  std::int64_t fallback;
};
constexpr UnusedNumber kUnusedNumbers[] = {{"io_threads", 32},
                                           {"worker_threads", 32},
                                           {"scheduler_threads", 2},
                                           {"executor_threads", 10},
                                           {"executor_channel_size", 1000},
                                           {"pipe_buf_size", 65536},
                                           {"pipe_pool_init_cap", 0},
                                           {"pipe_pool_max_cap", 2000},
                                           {"pipe_pool_idle_time", 0},
                                           {"block_replication_concurrency_limit", 100},
                                           {"block_replication_chunk_size", 1048576}};
constexpr const char* kUnusedSwitches[] = {"enable_splice", "enable_send_file", "enable_s3_gateway"};

LogConfig read_log(ConfigTable table) {
  LogConfig log;
  const std::string level = table.string("level", "INFO");
  if (const auto parsed = parse_log_level(level); parsed.ok())
    log.level = *parsed;
  else
    table.report("level", parsed.error().message());
  // Not Curvine's "stdout": there a script reads the one line that says "ready".
  log.destination = table.string("log_dir", "stderr");
  if (log.destination.empty()) log.destination = "stderr";
  log.file_name = table.string("file_name", "");
  if (log.file_name.empty()) log.file_name = "worker";
  log.max_files = static_cast<std::size_t>(table.integer("max_log_files", 10, 0, 200000));
  log.max_file_bytes = static_cast<std::uint64_t>(table.integer("max_file_size_mb", 100, 0, 1 << 20)) * kMiB;
  const std::string rotation = table.string("time_rotation", "");
  if (!rotation.empty() && rotation != "never") {
    table.report("time_rotation", fmt::format("'{}' is not available: files are rotated by size", rotation));
  }
  log.show_thread = table.boolean("display_thread", false);
  log.show_position = table.boolean("display_position", true);
  static_cast<void>(table.strings("targets"));  // selects Rust modules
  return log;
}

CompatibilityConfig read_compatibility(ConfigTable table) {
  CompatibilityConfig config;
  config.mode = table.string("mode", config.mode);
  config.min_client_version = table.string("min_client_version");
  static_cast<void>(table.string("min_worker_version"));  // a bound for masters
  config.blocked_versions = table.strings("blocked_versions");
  return config;
}

LeapConfig read_leap(ConfigTable table) {
  LeapConfig leap;
  const auto number = [&](const char* key, std::uint32_t fallback, std::int64_t max) {
    return static_cast<std::uint32_t>(table.integer(key, fallback, 1, max));
  };
  leap.web_hostname = table.string("web_hostname", leap.web_hostname);
  leap.web_threads = number("web_threads", leap.web_threads, 64);
  leap.max_sessions = number("max_sessions", leap.max_sessions, 1 << 20);
  leap.max_header = table.size("max_header", leap.max_header, 4 * kKiB, kGiB);
  leap.header_memory = table.size("header_memory", leap.header_memory, 4 * kKiB);
  leap.send_timeout = table.duration("send_timeout", leap.send_timeout, std::chrono::milliseconds(1), kLongest);
  leap.stop_timeout = table.duration("stop_timeout", leap.stop_timeout, Nanos{0}, kLongest);
  leap.detach_grace = table.duration("detach_grace", leap.detach_grace, Nanos{0}, kLongest);
  leap.devices = table.strings("devices");
  return leap;
}

void read_data_dirs(ConfigTable& table, std::vector<DataDir>& dirs) {
  const std::string base = std::filesystem::current_path().string();
  for (const std::string& entry : table.strings("data_dir")) {
    if (std::ranges::all_of(entry, [](char c) { return c == ' ' || c == '\t'; })) continue;
    auto dir = DataDir::parse(entry, base);
    if (dir.ok())
      dirs.push_back(*std::move(dir));
    else
      table.report("data_dir", dir.error().message());
  }
}

void read_worker(ConfigTable table, WorkerConfig& config) {
  config.hostname = table.string("hostname", config.hostname);
  config.weight = static_cast<std::uint32_t>(table.integer("weight", config.weight, 0, UINT32_MAX));
  config.rpc_port = static_cast<std::uint16_t>(table.integer("rpc_port", config.rpc_port, 0, 65535));
  config.web_port = static_cast<std::uint16_t>(table.integer("web_port", config.web_port, 0, 65535));
  config.dir_reserved = table.size("dir_reserved", config.dir_reserved);
  read_data_dirs(table, config.data_dirs);
  config.io_slow_threshold = table.duration("io_slow_threshold", config.io_slow_threshold, Nanos{0}, kLongest);
  config.io_timeout = table.duration("io_timeout", config.io_timeout, std::chrono::milliseconds(1), kLongest);
  config.io_close_idle = table.boolean("io_close_idle", config.io_close_idle);
  for (const UnusedNumber& unused : kUnusedNumbers)
    static_cast<void>(table.integer(unused.key, unused.fallback, 0, INT64_MAX));
  for (const char* unused : kUnusedSwitches) static_cast<void>(table.boolean(unused, false));
  config.log = read_log(table.table("log"));
  config.compatibility = read_compatibility(table.table("compatibility"));
  config.spdk_disk = NvmeEnvConfig::read(table.table("spdk_disk"));
  config.leap = read_leap(table.table("leap"));
}

/// The IPv4 address of a network interface.
Result<std::string> interface_address(const std::string& name) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return Error::os(errno, "list network interfaces");
  const auto free_list = defer([list] { ::freeifaddrs(list); });
  bool exists = false;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_name != name) continue;
    exists = true;
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    LEAP_TRY(const SocketAddress address, SocketAddress::from_sockaddr(entry->ifa_addr, sizeof(sockaddr_in)));
    return address.host();
  }
  const char* what = exists ? "network interface has no IPv4 address" : "no such network interface";
  return Error(Errc::kNotFound, fmt::format("net_interface '{}': {}", name, what)).in(ErrorDomain::kConfig);
}

}  // namespace

WorkerConfig WorkerConfig::read(ConfigFile& file) {
  WorkerConfig config;
  ConfigTable root = file.root();
  static_cast<void>(root.boolean("format_master", true));
  static_cast<void>(root.boolean("testing", false));
  config.format_worker = root.boolean("format_worker", config.format_worker);
  config.cluster_id = root.string("cluster_id", config.cluster_id);
  config.net_interface = root.string("net_interface");
  ConfigTable master = root.table("master");
  config.max_block_size = master.size("max_block_size", config.max_block_size, 1, kMaxBlockCapacity);
  master.accept_rest();
  for (const char* section : kForeignSections) root.table(section).accept_rest();
  read_worker(root.table("worker"), config);
  if (const auto valid = config.validate(); !valid.ok()) root.report("", valid.error().message());
  return config;
}

Result<> WorkerConfig::validate() const {
  const auto bad = [](std::string_view key, const std::string& what) {
    return Error(Errc::kInvalidArgument, fmt::format("{}: {}", key, what)).in(ErrorDomain::kConfig);
  };
  if (cluster_id.empty() || cluster_id.size() > 127 || cluster_id.find('/') != std::string::npos) {
    return bad("cluster_id", fmt::format("'{}' is no name for a directory", cluster_id));
  }
  if (rpc_port != 0 && rpc_port == web_port)
    return bad("worker.web_port", fmt::format("{} is the rpc_port too", web_port));
  std::set<std::string> paths;
  for (const DataDir& dir : data_dirs) {
    if (!paths.insert(dir.path).second) return bad("worker.data_dir", fmt::format("'{}' is listed twice", dir.path));
  }
  if (leap.header_memory < leap.max_header) {
    return bad("worker.leap.header_memory",
               fmt::format("{} is less than max_header ({})", format_bytes(leap.header_memory),
                           format_bytes(leap.max_header)));
  }
  if (!leap.devices.empty() && leap.devices.size() != data_dirs.size()) {
    return bad("worker.leap.devices",
               fmt::format("{} entries for {} data_dir entries", leap.devices.size(), data_dirs.size()));
  }
  return {};
}

Result<> WorkerConfig::apply_environment() {
  if (!net_interface.empty()) {
    LEAP_TRY(hostname, interface_address(net_interface));
  } else if (const char* name = std::getenv("CURVINE_WORKER_HOSTNAME"); name != nullptr && *name != '\0') {
    hostname = name;
  }
  if (const char* name = std::getenv("ORPC_BIND_HOSTNAME"); name != nullptr) bind_hostname = name;
  return {};
}

Result<WorkerConfig> WorkerConfig::load(const std::string& path) {
  LEAP_TRY(ConfigFile file, ConfigFile::load(path));
  WorkerConfig config = read(file);
  LEAP_TRY_VOID(file.finish());
  LEAP_TRY_VOID(config.apply_environment());
  LEAP_TRY_VOID(config.validate());
  return config;
}

}  // namespace leap
