#include "worker/config.h"

#include <cstdlib>

#include <gtest/gtest.h>

namespace leap {
namespace {

Result<WorkerConfig> read(std::string_view text) {
  LEAP_TRY(ConfigFile file, ConfigFile::parse(text, "test.toml"));
  WorkerConfig config = WorkerConfig::read(file);
  LEAP_TRY_VOID(file.finish());
  return config;
}

std::string problem(std::string_view text) {
  const Result<WorkerConfig> config = read(text);
  return config.ok() ? "no problem" : config.error().message();
}

TEST(DataDir, EveryFormMeansWhatCurvineMakesOfIt) {
  struct Case {
    const char* entry;
    StorageType type;
    std::uint64_t capacity;
    const char* path;
  };
  const Case cases[] = {
      {"/p", StorageType::kDisk, 0, "/p"},
      {"  /p ", StorageType::kDisk, 0, "/p"},
      {"[SSD]/p", StorageType::kSsd, 0, "/p"},
      {"[20GB]/p", StorageType::kDisk, 20ULL << 30, "/p"},
      {"[SSD:100GB]/p", StorageType::kSsd, 100ULL << 30, "/p"},
      {"[SPDK_DISK:1TB]/p", StorageType::kSpdkDisk, 1ULL << 40, "/p"},
      {"[spdk]/p", StorageType::kSpdkDisk, 0, "/p"},
      {"[Mem:512K] /p/q ", StorageType::kMem, 512ULL << 10, "/p/q"},
      {"[hdd]/p", StorageType::kHdd, 0, "/p"},
      {"[FOO:1GB]/p", StorageType::kDisk, 1ULL << 30, "/p"},
      {"testing/data", StorageType::kDisk, 0, "/base/testing/data"},
      {"[DISK]testing/data", StorageType::kDisk, 0, "/base/testing/data"},
  };
  for (const Case& c : cases) {
    const Result<DataDir> dir = DataDir::parse(c.entry, "/base");
    ASSERT_TRUE(dir.ok()) << c.entry << ": " << dir.error().message();
    EXPECT_EQ(dir->type, c.type) << c.entry;
    EXPECT_EQ(dir->capacity, c.capacity) << c.entry;
    EXPECT_EQ(dir->path, c.path) << c.entry;
  }
  EXPECT_EQ(DataDir::parse("[SSD]/p", "/").value().cluster_dir("c1"), "/p/c1");
}

TEST(DataDir, WhatCannotBeMeantIsRefused) {
  for (const char* entry :
       {"[A:B:C]/p", "[NVME0]/p", "[]/p", "[1.5TB]/p", "[SSD: 1GB]/p", "[SSD", "[SSD]", "", "[SSD:]/p", "[:]/p"}) {
    const Result<DataDir> dir = DataDir::parse(entry, "/base");
    ASSERT_FALSE(dir.ok()) << entry;
    EXPECT_NE(dir.error().message().find(entry), std::string::npos);
  }
}

TEST(WorkerConfig, EmptyFileGivesCurvinesDefaults) {
  const WorkerConfig config = read("").value();
  EXPECT_EQ(config.cluster_id, "curvine");
  EXPECT_EQ(config.hostname, "localhost");
  EXPECT_EQ(config.bind_host(), "localhost");
  EXPECT_EQ(config.rpc_port, 8997);
  EXPECT_EQ(config.web_port, 9002);
  EXPECT_EQ(config.weight, 1u);
  EXPECT_TRUE(config.data_dirs.empty());
  EXPECT_EQ(config.io_slow_threshold, std::chrono::milliseconds(300));
  EXPECT_EQ(config.io_timeout, std::chrono::minutes(10));
  EXPECT_FALSE(config.io_close_idle);
  EXPECT_EQ(config.max_block_size, 100ULL << 30);
  EXPECT_EQ(config.leap.web_hostname, "127.0.0.1");
  EXPECT_EQ(config.compatibility.mode, "diagnose");
}

// What Curvine ships (etc/curvine-cluster.toml), without its comments, and the keys of its SPDK example.
constexpr std::string_view kShipped = R"(
format_master = false
format_worker = false
[fault_injection]
enabled = false
auth_token_env = "CURVINE_FAULT_TOKEN"
[master]
meta_dir = "testing/meta"
log = { level = "info", log_dir = "stdout", file_name = "master.log" }
[journal]
journal_addrs = [ {id = 1, hostname = "localhost", port = 8996} ]
journal_dir = "testing/journal"
[worker]
weight = 1
dir_reserved = "0"
data_dir = [ "[DISK]testing/data", ]
log = { level = "info", log_dir = "stdout", file_name = "worker.log" }
enable_s3_gateway = false
io_threads = 2
worker_threads = 2
[worker.spdk_disk]
enabled = true
app_name = "curvine"
reactor_mask = "0x1"
hugepage = "1GB"
[[worker.spdk_disk.targets]]
trtype = "tcp"
adrfam = "ipv4"
traddr = "127.0.0.1"
trsvcid = 4420
subnqn = "nqn.2026-05.curvine:cnode1"
[client]
short_circuit = false
[transfer]
enabled = false
[fuse]
attr_timeout_ms = 1000
[log]
level = "info"
[cli]
log = { level = "warn" }
)";

TEST(WorkerConfig, ShippedFileLoads) {
  const Result<WorkerConfig> config = read(kShipped);
  ASSERT_TRUE(config.ok()) << config.error().message();
  ASSERT_EQ(config->data_dirs.size(), 1u);
  EXPECT_TRUE(config->data_dirs[0].path.ends_with("/testing/data"));
  EXPECT_TRUE(config->spdk_disk.enabled);
  ASSERT_EQ(config->spdk_disk.targets.size(), 1u);
  EXPECT_EQ(config->log.file_name, "worker.log");
}

TEST(WorkerConfig, EachKeyChangesSomething) {
  const WorkerConfig config = read(R"(
cluster_id = "c7"
format_worker = true
net_interface = "lo"
[master]
max_block_size = "1GB"
[worker]
hostname = "w1"
weight = 7
rpc_port = 1234
web_port = 1235
dir_reserved = "3GB"
data_dir = ["[SPDK_DISK:1TB]/a", "", "/b"]
io_slow_threshold = "2s"
io_timeout = 1500
io_close_idle = true
[worker.log]
level = "DEBUG"
log_dir = "/var/log/leap"
file_name = "w"
max_log_files = 3
max_file_size_mb = 7
display_thread = true
display_position = false
[worker.compatibility]
mode = "enforce"
min_client_version = "0.4.0"
blocked_versions = ["0.3.0", "0.3.1"]
[worker.leap]
web_hostname = "0.0.0.0"
web_threads = 5
max_sessions = 17
max_header = "1MB"
header_memory = "5MB"
send_timeout = "7s"
stop_timeout = "8s"
detach_grace = "9s"
devices = ["mem:?size=1GiB", "file:///x"]
)")
                                  .value();
  EXPECT_EQ(config.cluster_id, "c7");
  EXPECT_TRUE(config.format_worker);
  EXPECT_EQ(config.net_interface, "lo");
  EXPECT_EQ(config.max_block_size, 1ULL << 30);
  EXPECT_EQ(config.hostname, "w1");
  EXPECT_EQ(config.weight, 7u);
  EXPECT_EQ(config.rpc_port, 1234);
  EXPECT_EQ(config.web_port, 1235);
  EXPECT_EQ(config.dir_reserved, 3ULL << 30);
  ASSERT_EQ(config.data_dirs.size(), 2u) << "empty entries are dropped";
  EXPECT_EQ(config.data_dirs[0].type, StorageType::kSpdkDisk);
  EXPECT_EQ(config.io_slow_threshold, std::chrono::seconds(2));
  EXPECT_EQ(config.io_timeout, std::chrono::milliseconds(1500)) << "a bare number is milliseconds";
  EXPECT_TRUE(config.io_close_idle);
  EXPECT_EQ(config.log.level, LogLevel::kDebug);
  EXPECT_EQ(config.log.destination, "/var/log/leap");
  EXPECT_EQ(config.log.file_name, "w");
  EXPECT_EQ(config.log.max_files, 3u);
  EXPECT_EQ(config.log.max_file_bytes, 7ULL << 20);
  EXPECT_TRUE(config.log.show_thread);
  EXPECT_FALSE(config.log.show_position);
  EXPECT_EQ(config.compatibility.mode, "enforce");
  EXPECT_EQ(config.compatibility.min_client_version, "0.4.0");
  EXPECT_EQ(config.compatibility.blocked_versions.size(), 2u);
  EXPECT_EQ(config.leap.web_hostname, "0.0.0.0");
  EXPECT_EQ(config.leap.web_threads, 5u);
  EXPECT_EQ(config.leap.max_sessions, 17u);
  EXPECT_EQ(config.leap.max_header, 1ULL << 20);
  EXPECT_EQ(config.leap.header_memory, 5ULL << 20);
  EXPECT_EQ(config.leap.send_timeout, std::chrono::seconds(7));
  EXPECT_EQ(config.leap.stop_timeout, std::chrono::seconds(8));
  EXPECT_EQ(config.leap.detach_grace, std::chrono::seconds(9));
  EXPECT_EQ(config.leap.devices.size(), 2u);
}

TEST(WorkerConfig, MistakesAreNamedWithTheirLine) {
  EXPECT_EQ(problem("[worker]\nrpc_prot = 1\n"), "test.toml:2: unknown key 'worker.rpc_prot'");
  EXPECT_EQ(problem("\n[wroker]\nrpc_port = 1\n"), "test.toml:2: unknown key 'wroker'");
  EXPECT_NE(problem("[worker]\n\nrpc_port = \"x\"\n").find("test.toml:3: worker.rpc_port"), std::string::npos);
  EXPECT_NE(problem("[worker]\nrpc_port = 70000\n").find("worker.rpc_port: 70000"), std::string::npos);
  EXPECT_NE(problem("[worker]\nio_timeout = \"5 parsecs\"\n").find("worker.io_timeout"), std::string::npos);
  EXPECT_NE(problem("[worker]\ndata_dir = [\"[A:B:C]/p\"]\n").find("worker.data_dir: '[A:B:C]/p'"), std::string::npos);
  EXPECT_NE(problem("[worker]\ndata_dir = [\"/p\", \"/p\"]\n").find("listed twice"), std::string::npos);
  EXPECT_NE(problem("[worker]\nrpc_port = 9002\n").find("web_port"), std::string::npos);
  EXPECT_NE(problem("[worker.leap]\nmax_session = 1\n").find("worker.leap.max_session"), std::string::npos);
  EXPECT_NE(problem("[worker.leap]\nmax_header = \"1GB\"\nheader_memory = \"1MB\"\n").find("header_memory"),
            std::string::npos);
  EXPECT_NE(problem("[worker]\ndata_dir = [\"/p\"]\n[worker.leap]\ndevices = [\"a\", \"b\"]\n").find("devices"),
            std::string::npos);
  EXPECT_NE(problem("[worker.log]\nlevel = \"loud\"\n").find("worker.log.level"), std::string::npos);
  EXPECT_NE(problem("[worker.log]\ntime_rotation = \"daily\"\n").find("time_rotation"), std::string::npos);
  EXPECT_NE(problem("cluster_id = \"a/b\"\n").find("cluster_id"), std::string::npos);
}

TEST(WorkerConfig, EnvironmentChangesHostNamesAsInCurvine) {
  ::setenv("CURVINE_WORKER_HOSTNAME", "from-environment", 1);
  ::setenv("ORPC_BIND_HOSTNAME", "0.0.0.0", 1);
  WorkerConfig config;
  ASSERT_TRUE(config.apply_environment().ok());
  EXPECT_EQ(config.hostname, "from-environment");
  EXPECT_EQ(config.bind_host(), "0.0.0.0");
  config.net_interface = "lo";
  ASSERT_TRUE(config.apply_environment().ok());
  EXPECT_EQ(config.hostname, "127.0.0.1") << "net_interface disables the variable";
  config.net_interface = "no-such-if0";
  EXPECT_EQ(config.apply_environment().error().kind(), Errc::kNotFound);
  ::unsetenv("CURVINE_WORKER_HOSTNAME");
  ::unsetenv("ORPC_BIND_HOSTNAME");
}

}  // namespace
}  // namespace leap
