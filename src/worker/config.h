// WorkerConfig: a Curvine cluster file as a worker sees it, checked as a whole before anything starts.
//
// Keys and defaults are Curvine's, so that an operator's file works unchanged; keys of ours stand in [worker.leap],
// which Curvine ignores. Every key of the sections a worker owns is used or reported with its line; sections of other
// programs ([fuse], [client], ...) are not looked into.
//
//   LEAP_TRY(ConfigFile file, ConfigFile::load(path));
//   WorkerConfig config = WorkerConfig::read(file);
//   LEAP_TRY_VOID(file.finish());                       // everything that is wrong, with file:line
//   LEAP_TRY_VOID(config.apply_environment());          // CURVINE_WORKER_HOSTNAME, ORPC_BIND_HOSTNAME, net_interface
//
// Threading: a value; start-up only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "env/env_config.h"
#include "worker/compatibility.h"
#include "worker/data_dir.h"

namespace leap {

/// [worker.leap]: what Curvine has no key for.
struct LeapConfig {
  std::string web_hostname = "127.0.0.1";          ///< HTTP binds here: whoever reaches it can delete blocks
  std::uint32_t web_threads = 2;                   ///< 1 .. 64
  std::uint32_t max_sessions = 8192;               ///< client connections, 1 .. 1048576; more are closed at once
  std::uint64_t max_header = 256ULL << 20;         ///< bytes of one request's header, 4 KiB .. 1 GiB
  std::uint64_t header_memory = 1ULL << 30;        ///< bytes of all headers above 64 KiB together, >= max_header
  Nanos send_timeout = std::chrono::seconds(120);  ///< a client that does not take a reply for so long is dropped
  Nanos stop_timeout = std::chrono::seconds(10);   ///< for requests in progress when the worker stops
  Nanos detach_grace = std::chrono::minutes(10);   ///< abandoned writes are kept this long
  /// For data_dir entries in their order: the device behind each (UUID, name or URI such as file:///path?size=10GiB).
  /// Needed by `format`, and where a directory's device is no NVMe namespace.
  std::vector<std::string> devices;
};

struct WorkerConfig {
  // Top level.
  bool format_worker = false;  ///< read and never obeyed: formatting is an explicit command
  std::string cluster_id = "curvine";
  std::string net_interface;  ///< its IPv4 address becomes hostname

  // [worker]
  std::string hostname = "localhost";  ///< advertised; bind address unless bind_hostname is set
  std::string bind_hostname;           ///< from ORPC_BIND_HOSTNAME
  std::uint32_t weight = 1;
  std::uint16_t rpc_port = 8997;
  std::uint16_t web_port = 9002;
  std::uint64_t dir_reserved = 0;  ///< bytes, in each directory
  std::vector<DataDir> data_dirs;
  Nanos io_slow_threshold = std::chrono::milliseconds(300);  ///< requests that take longer are logged
  Nanos io_timeout = std::chrono::minutes(10);  ///< idle time after which, if io_close_idle, a connection is closed
  bool io_close_idle = false;
  LogConfig log;
  CompatibilityConfig compatibility;
  NvmeEnvConfig spdk_disk;
  LeapConfig leap;

  // [master]
  std::uint64_t max_block_size = kMaxBlockCapacity;  ///< bytes; the longest read a client may open

  /// The file at `path`, read, checked, and with the environment applied. Every problem in one error, with file:line.
  static Result<WorkerConfig> load(const std::string& path);
  /// Reads the file; problems are reported through it (ConfigFile::finish).
  static WorkerConfig read(ConfigFile& file);
  /// For configurations built in code: the same checks between keys, the first problem as an error.
  [[nodiscard]] Result<> validate() const;
  /// Host names from the environment, as Curvine applies them. Errors: kNotFound (no such interface, no IPv4 address).
  Result<> apply_environment();
  /// Where the RPC port is bound.
  [[nodiscard]] const std::string& bind_host() const { return bind_hostname.empty() ? hostname : bind_hostname; }
};

}  // namespace leap
