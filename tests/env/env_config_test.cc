// [worker.spdk_disk]: Curvine's names, defaults, checks and inheritance, and that no key is dead.

#include "env/env_config.h"

#include <functional>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

struct Read {
  NvmeEnvConfig config;
  std::string problems;  // "" when there are none
};

Read read(const std::string& text) {
  ConfigFile file = ConfigFile::parse(text, "f.toml").value();
  Read result;
  result.config = NvmeEnvConfig::read(file.root().table("worker").table("spdk_disk"));
  if (const Result<> finished = file.finish(); !finished.ok()) result.problems = finished.error().message();
  return result;
}

/// Lines 1 and 2 are the table and `enabled`; `keys` begins on line 3.
std::string table(const std::string& keys) { return "[worker.spdk_disk]\nenabled = true\n" + keys; }

constexpr const char* kTarget = R"(
[[worker.spdk_disk.targets]]
trtype = "tcp"
traddr = "10.0.0.1"
subnqn = "nqn.2024-01.io.example:disk1"
)";

std::string with_target(const std::string& keys) { return table(keys + kTarget); }
/// A target with `keys` added: its header is line 4, `keys` is line 8.
std::string target_with(const std::string& keys) { return with_target("") + keys; }

// --- what a valid file becomes ---

TEST(NvmeEnvConfig, AnEmptyTableIsCurvinesDefaults) {
  const Read got = read("");
  EXPECT_EQ(got.problems, "");
  const NvmeEnvConfig& config = got.config;
  EXPECT_FALSE(config.enabled);
  EXPECT_EQ(config.app_name, "curvine");
  EXPECT_EQ(config.hugepage, 1024 * kMiB);
  EXPECT_EQ(config.cores().value(), std::vector<unsigned>{0});
  EXPECT_EQ(config.io_queue_depth, 128U);
  EXPECT_EQ(config.io_queue_requests, 512U);
  EXPECT_EQ(config.io_timeout, 30s);
  EXPECT_EQ(config.io_retry_count, 4U);
  EXPECT_EQ(config.keep_alive_timeout, 10s);
  EXPECT_EQ(config.qpair_acquire_timeout, 30s);
  EXPECT_EQ(config.poll_interval, 100ms);
  EXPECT_EQ(config.spin_iter, 1000U);
  EXPECT_EQ(config.dma_buffer_size, 1 * kMiB);
  EXPECT_TRUE(config.targets.empty());
  EXPECT_TRUE(config.validate().ok());
}

TEST(NvmeEnvConfig, ReadsAFileAsCurvinesOperatorsWriteIt) {
  const Read got = read(R"(
[worker.spdk_disk]
enabled = true
app_name = "curvine-worker"
hugepage_str = "2048MB"
reactor_mask = "0x3"
iova_mode = "va"
io_queue_depth = 256
io_queue_requests = 1024
io_timeout_str = "15s"
io_retry_count = 2
keep_alive_timeout_str = "30s"
qpair_acquire_timeout_str = "5s"
poll_interval_ms = 50
spin_iter = 10
dma_buffer_size_str = "256KB"

[[worker.spdk_disk.targets]]
trtype = "TCP"
adrfam = "IPv4"
traddr = "192.168.1.100"
trsvcid = 4421
subnqn = "nqn.2016-06.io.spdk:cnode1"
hostnqn = "nqn.2024-01.io.example:host1"
io_queues = 4
keep_alive_timeout_str = "20s"
io_timeout_str = "5s"

[[worker.spdk_disk.targets]]
trtype = "tcp"
traddr = "storage-2.example.org"
subnqn = "nqn.2016-06.io.spdk:cnode1"

[[worker.spdk_disk.targets]]
trtype = "tcp"
traddr = "fe80::1"
subnqn = "nqn.2016-06.io.spdk:cnode1"
)");
  EXPECT_EQ(got.problems, "");
  EXPECT_TRUE(got.config.validate().ok());
  EXPECT_EQ(got.config.cores().value(), (std::vector<unsigned>{0, 1}));
  EXPECT_EQ(got.config.hugepage, 2048 * kMiB);
  ASSERT_EQ(got.config.targets.size(), 3U);
  const NvmeTargetConfig& first = got.config.targets[0];
  EXPECT_EQ(first.address.to_string(),
            "trtype:TCP adrfam:IPv4 traddr:192.168.1.100 trsvcid:4421 subnqn:nqn.2016-06.io.spdk:cnode1 "
            "hostnqn:nqn.2024-01.io.example:host1");
  EXPECT_EQ(first.io_queues, 4U);
  EXPECT_EQ(first.keep_alive_timeout, 20s);
  EXPECT_EQ(first.io_timeout, 5s);
  const NvmeTargetConfig& second = got.config.targets[1];
  EXPECT_EQ(second.address.trsvcid, 4420U);
  EXPECT_EQ(second.address.adrfam, nvme::Adrfam::kIpv4);
  EXPECT_EQ(got.config.targets[2].address.adrfam, nvme::Adrfam::kIpv6);
}

TEST(NvmeEnvConfig, ZeroOrNothingInheritsFromTheTable) {
  for (const char* keys : {"", "io_queues = 0\nkeep_alive_timeout = \"\"\nio_timeout = \"0\"\nhostnqn = \"\"\n",
                           "keep_alive_timeout_str = \"0s\"\nio_timeout_str = \"\"\n"}) {
    const Read got = read(target_with(keys));
    EXPECT_EQ(got.problems, "") << keys;
    EXPECT_EQ(got.config.targets.at(0).io_queues, 0U);
    EXPECT_EQ(got.config.targets.at(0).keep_alive_timeout, Nanos{0});
    EXPECT_EQ(got.config.targets.at(0).io_timeout, Nanos{0});
  }
}

// --- no dead keys ---

struct Key {
  const char* key;
  const char* value;
  std::function<bool(const NvmeEnvConfig&)> shows;  // false of the defaults, true with `value`
};

const std::vector<Key>& env_keys() {
  static const std::vector<Key> keys = {
      {"app_name", "\"x\"", [](const NvmeEnvConfig& c) { return c.app_name == "x"; }},
      {"hugepage", "\"64MB\"", [](const NvmeEnvConfig& c) { return c.hugepage == 64 * kMiB; }},
      {"hugepage_str", "\"64MB\"", [](const NvmeEnvConfig& c) { return c.hugepage == 64 * kMiB; }},
      {"reactor_mask", "\"0x6\"",
       [](const NvmeEnvConfig& c) {
         return c.cores().value() == std::vector<unsigned>{1, 2};
       }},
      {"io_queue_depth", "64", [](const NvmeEnvConfig& c) { return c.io_queue_depth == 64; }},
      {"io_queue_requests", "2048", [](const NvmeEnvConfig& c) { return c.io_queue_requests == 2048; }},
      {"io_timeout", "\"7s\"", [](const NvmeEnvConfig& c) { return c.io_timeout == 7s; }},
      {"io_timeout_str", "\"7s\"", [](const NvmeEnvConfig& c) { return c.io_timeout == 7s; }},
      {"abort_timeout", "\"7s\"", [](const NvmeEnvConfig& c) { return c.abort_timeout == 7s; }},
      {"reconnect_delay", "\"7s\"", [](const NvmeEnvConfig& c) { return c.reconnect_delay == 7s; }},
      {"reconnect_delay_max", "\"7s\"", [](const NvmeEnvConfig& c) { return c.reconnect_delay_max == 7s; }},
      {"fast_io_fail_timeout", "\"7s\"", [](const NvmeEnvConfig& c) { return c.fast_io_fail_timeout == 7s; }},
      {"ctrl_loss_timeout", "\"7s\"", [](const NvmeEnvConfig& c) { return c.ctrl_loss_timeout == 7s; }},
      {"path_policy", "\"round-robin\"",
       [](const NvmeEnvConfig& c) { return c.path_policy == PathPolicy::kRoundRobin; }},
      {"io_retry_count", "0", [](const NvmeEnvConfig& c) { return c.io_retry_count == 0; }},
      {"keep_alive_timeout", "\"1m\"", [](const NvmeEnvConfig& c) { return c.keep_alive_timeout == 60s; }},
      {"keep_alive_timeout_str", "\"1m\"", [](const NvmeEnvConfig& c) { return c.keep_alive_timeout == 60s; }},
      {"qpair_acquire_timeout", "\"2s\"", [](const NvmeEnvConfig& c) { return c.qpair_acquire_timeout == 2s; }},
      {"qpair_acquire_timeout_str", "\"2s\"", [](const NvmeEnvConfig& c) { return c.qpair_acquire_timeout == 2s; }},
      {"poll_interval_ms", "20", [](const NvmeEnvConfig& c) { return c.poll_interval == 20ms; }},
      {"poll_interval", "20", [](const NvmeEnvConfig& c) { return c.poll_interval == 20ms; }},
      {"spin_iter", "0", [](const NvmeEnvConfig& c) { return c.spin_iter == 0; }},
      {"spin_max", "\"5us\"", [](const NvmeEnvConfig& c) { return c.spin_max == 5us; }},
      {"dma_buffer_size", "\"128KB\"", [](const NvmeEnvConfig& c) { return c.dma_buffer_size == 128 * kKiB; }},
      {"dma_buffer_size_str", "\"128KB\"", [](const NvmeEnvConfig& c) { return c.dma_buffer_size == 128 * kKiB; }},
  };
  return keys;
}

TEST(NvmeEnvConfig, EveryKeyOfTheTableChangesSomething) {
  const NvmeEnvConfig defaults = read(with_target("")).config;
  for (const Key& key : env_keys()) {
    EXPECT_FALSE(key.shows(defaults)) << key.key;
    const Read got = read(with_target(fmt::format("{} = {}\n", key.key, key.value)));
    EXPECT_EQ(got.problems, "") << key.key;
    EXPECT_TRUE(key.shows(got.config)) << key.key;
  }
  EXPECT_TRUE(defaults.enabled);
  EXPECT_FALSE(read("[worker.spdk_disk]\nenabled = false\n").config.enabled);
}

TEST(NvmeEnvConfig, EveryKeyOfATargetChangesSomething) {
  using Target = NvmeTargetConfig;
  struct TargetKey {
    const char* key;
    const char* value;
    std::function<bool(const Target&)> shows;
  };
  const std::vector<TargetKey> keys = {
      {"adrfam", "\"ipv6\"", [](const Target& t) { return t.address.adrfam == nvme::Adrfam::kIpv6; }},
      {"traddr", "\"other\"", [](const Target& t) { return t.address.traddr == "other"; }},
      {"trsvcid", "4444", [](const Target& t) { return t.address.trsvcid == 4444; }},
      {"subnqn", "\"nqn.2024-01.io.example:x\"",
       [](const Target& t) { return t.address.subnqn == "nqn.2024-01.io.example:x"; }},
      {"hostnqn", "\"nqn.2024-01.io.example:h\"",
       [](const Target& t) { return t.address.hostnqn == "nqn.2024-01.io.example:h"; }},
      {"io_queues", "3", [](const Target& t) { return t.io_queues == 3; }},
      {"keep_alive_timeout", "\"9s\"", [](const Target& t) { return t.keep_alive_timeout == 9s; }},
      {"keep_alive_timeout_str", "\"9s\"", [](const Target& t) { return t.keep_alive_timeout == 9s; }},
      {"io_timeout", "\"9s\"", [](const Target& t) { return t.io_timeout == 9s; }},
      {"io_timeout_str", "\"9s\"", [](const Target& t) { return t.io_timeout == 9s; }},
      {"hdgst", "true", [](const Target& t) { return t.header_digest; }},
      {"ddgst", "true", [](const Target& t) { return t.data_digest; }},
      {"protocol_checker", "true", [](const Target& t) { return t.protocol_checker; }},
  };
  const std::string base = "trtype = \"tcp\"\n";
  for (const TargetKey& key : keys) {
    std::string text = table("[[worker.spdk_disk.targets]]\n") + base;
    const std::string name = key.key;
    if (name != "traddr") text += "traddr = \"host.example.org\"\n";
    if (name != "subnqn") text += "subnqn = \"nqn.2024-01.io.example:d\"\n";
    const std::string without = text + (name == "traddr" ? "traddr = \"a.b\"\n" : "") +
                                (name == "subnqn" ? "subnqn = \"nqn.2024-01.io.example:d\"\n" : "");
    EXPECT_FALSE(key.shows(read(without).config.targets.at(0))) << name;
    const Read got = read(text + fmt::format("{} = {}\n", key.key, key.value));
    EXPECT_EQ(got.problems, "") << name;
    EXPECT_TRUE(key.shows(got.config.targets.at(0))) << name;
  }
}

TEST(NvmeEnvConfig, UnknownKeysAreRejectedWithTheirLine) {
  EXPECT_EQ(read(with_target("hugepages = \"1GB\"\n")).problems, "f.toml:3: unknown key 'worker.spdk_disk.hugepages'");
  EXPECT_EQ(read(target_with("port = 4420\n")).problems, "f.toml:8: unknown key 'worker.spdk_disk.targets.port'");
}

// --- checks ---

struct Check {
  std::string keys;     // on line 3
  const char* problem;  // after "f.toml:3: worker.spdk_disk."
};

TEST(NvmeEnvConfig, ChecksOfTheTableAreReportedOnTheLineOfTheKey) {
  const std::vector<Check> checks = {
      {"hugepage = \"0\"", "hugepage: 0 B is less than 8.0 MiB for each of 1 pollers"},
      {"hugepage_str = \"1MB\"", "hugepage_str: 1.0 MiB is less than 8.0 MiB for each of 1 pollers"},
      {"hugepage = \"lots\"", "hugepage: size \"lots\""},
      {"hugepage = true", "hugepage: must be a size"},
      {"reactor_mask = \"\"", "reactor_mask: core mask \"\""},
      {"reactor_mask = \"0x0\"", "reactor_mask: core mask \"0x0\": names no core"},
      {"reactor_mask = \"0xg\"", "reactor_mask: core mask \"0xg\": 'g' is no hexadecimal digit"},
      {"reactor_mask = \"[0,9999]\"", "reactor_mask: core mask \"[0,9999]\": core numbers end at"},
      {"reactor_mask = 3", "reactor_mask: must be a string"},
      {"iova_mode = \"pa\"", "iova_mode: 'pa' is not available: buffers are always addressed virtually"},
      {"iova_mode = \"fast\"", "iova_mode: 'fast' is not available"},
      {"io_queue_depth = 0", "io_queue_depth: 0 is not in 2..4096"},
      {"io_queue_depth = 5000", "io_queue_depth: 5000 is not in 2..4096"},
      {"io_queue_requests = 100", "io_queue_requests: 100 is less than io_queue_depth (128)"},
      {"io_queue_requests = 2000000", "io_queue_requests: 2000000 is not in 2..1048576"},
      {"io_timeout = \"0\"", "io_timeout: 0 is not in 1.0 ms..1d 0h"},
      {"io_timeout_str = \"2d\"", "io_timeout_str: 2d is not in 1.0 ms..1d 0h"},
      {"io_retry_count = -1", "io_retry_count: -1 is not in 0..100"},
      {"keep_alive_timeout = \"250ms\"", "keep_alive_timeout: 250.0 ms is less than three poll intervals (300.0 ms)"},
      {"keep_alive_timeout_str = \"250ms\"",
       "keep_alive_timeout_str: 250.0 ms is less than three poll intervals (300.0 ms)"},
      {"keep_alive_timeout = \"50ms\"", "keep_alive_timeout: 50ms is not in 100.0 ms..1d 0h"},
      {"qpair_acquire_timeout = \"0s\"", "qpair_acquire_timeout: 0s is not in 1.0 ms..1d 0h"},
      {"poll_interval_ms = 0", "poll_interval_ms: 0 is not in 1..2147483647"},
      {"poll_interval = 2147483648", "poll_interval: 2147483648 is not in 1..2147483647"},
      {"poll_interval = \"100ms\"", "poll_interval: must be a whole number"},
      {"spin_iter = -1", "spin_iter: -1 is not in 0..4294967295"},
      {"spin_max = \"2s\"", "spin_max: 2s is not in 0 ns..1.0 s"},
      {"dma_buffer_size = \"3MB\"", "dma_buffer_size: 3.0 MiB is not a power of two from 4 KiB to 1 MiB"},
      {"dma_buffer_size_str = \"2048\"", "dma_buffer_size_str: 2.0 KiB is not a power of two"},
      {"dma_buffer_size = 0", "dma_buffer_size: 0 B is not a power of two"},
  };
  for (const Check& check : checks) {
    const Read got = read(with_target(check.keys + "\n"));
    EXPECT_THAT(got.problems, StartsWith(std::string("f.toml:3: worker.spdk_disk.") + check.problem)) << check.keys;
    EXPECT_EQ(std::ranges::count(got.problems, '\n'), 0) << got.problems;
  }
  EXPECT_THAT(read("[worker.spdk_disk]\nenabled = \"yes\"\n").problems,
              HasSubstr("f.toml:2: worker.spdk_disk.enabled: must be true or false"));
}

TEST(NvmeEnvConfig, ChecksOfATargetAreReportedOnTheLineOfItsKeyOrOfTheTarget) {
  struct TargetCheck {
    std::string target;   // line 3 is the header, this begins on line 4
    const char* problem;  // after "f.toml:"
  };
  const std::string address = "traddr = \"10.0.0.1\"\nsubnqn = \"nqn.2024-01.io.example:d\"\n";
  const std::string tcp = "trtype = \"tcp\"\n";
  const std::vector<TargetCheck> checks = {
      {"trtype = \"rdma\"\n" + address,
       "4: worker.spdk_disk.targets[0].trtype: RDMA is not available, only tcp is (write trtype = \"tcp\")"},
      {address, "3: worker.spdk_disk.targets[0].trtype: RDMA is not available"},  // Curvine's default
      {"trtype = \"pcie\"\n" + address, "4: worker.spdk_disk.targets[0].trtype: 'pcie' is not rdma or tcp"},
      {tcp + "subnqn = \"nqn.2024-01.io.example:d\"\n", "3: worker.spdk_disk.targets[0].traddr: is required"},
      {tcp + "traddr = \"\"\nsubnqn = \"nqn.2024-01.io.example:d\"\n",
       "5: worker.spdk_disk.targets[0].traddr: is required"},
      {tcp + "traddr = \"10.0.0\"\nsubnqn = \"nqn.2024-01.io.example:d\"\n",
       "5: worker.spdk_disk.targets[0].traddr: '10.0.0' is not an IPv4 address or a host name"},
      {tcp + "traddr = \"a b\"\nsubnqn = \"nqn.2024-01.io.example:d\"\n",
       "5: worker.spdk_disk.targets[0].traddr: 'a b' is not"},
      {tcp + "traddr = \"::1\"\nadrfam = \"ipv4\"\nsubnqn = \"nqn.2024-01.io.example:d\"\n",
       "5: worker.spdk_disk.targets[0].traddr: '::1' is not an IPv4 address"},
      {tcp + "traddr = \"10.0.0.1\"\n", "3: worker.spdk_disk.targets[0].subnqn: is required"},
      {tcp + "traddr = \"10.0.0.1\"\nsubnqn = \"disk1\"\n",
       "6: worker.spdk_disk.targets[0].subnqn: NQN 'disk1' is malformed"},
      {tcp + address + "hostnqn = \"me\"\n", "7: worker.spdk_disk.targets[0].hostnqn: NQN 'me' is malformed"},
      {tcp + address + "adrfam = \"ib\"\n", "7: worker.spdk_disk.targets[0].adrfam: 'ib' is not ipv4 or ipv6"},
      {tcp + address + "trsvcid = 0\n", "7: worker.spdk_disk.targets[0].trsvcid: 0 is not in 1..65535"},
      {tcp + address + "trsvcid = 65536\n", "7: worker.spdk_disk.targets[0].trsvcid: 65536 is not in 1..65535"},
      {tcp + address + "trsvcid = \"4420\"\n", "7: worker.spdk_disk.targets[0].trsvcid: must be a whole number"},
      {tcp + address + "io_queues = 257\n", "7: worker.spdk_disk.targets[0].io_queues: 257 is not in 0..256"},
      {tcp + address + "keep_alive_timeout = \"50ms\"\n",
       "7: worker.spdk_disk.targets[0].keep_alive_timeout: 50.0 ms is not in 100.0 ms"},
      {tcp + address + "keep_alive_timeout_str = \"299ms\"\n",
       "7: worker.spdk_disk.targets[0].keep_alive_timeout_str: 299.0 ms is less than three poll intervals (300.0 ms)"},
      {tcp + address + "io_timeout = \"1us\"\n",
       "7: worker.spdk_disk.targets[0].io_timeout: 1.0 us is not in 1.0 ms..1d 0h"},
      {tcp + address + "hdgst = 1\n", "7: worker.spdk_disk.targets[0].hdgst: must be true or false"},
  };
  for (const TargetCheck& check : checks) {
    const Read got = read(table("[[worker.spdk_disk.targets]]\n" + check.target));
    EXPECT_THAT(got.problems, StartsWith(std::string("f.toml:") + check.problem)) << check.target;
  }
}

TEST(NvmeEnvConfig, MemoryMustSufficeForEveryPoller) {
  EXPECT_EQ(read(with_target("hugepage = \"16MB\"\nreactor_mask = \"0x3\"\n")).problems, "");
  EXPECT_EQ(read(with_target("hugepage = \"16MB\"\nreactor_mask = \"0x7\"\n")).problems,
            "f.toml:3: worker.spdk_disk.hugepage: 16.0 MiB is less than 8.0 MiB for each of 3 pollers");
}

TEST(NvmeEnvConfig, TheKeepAliveRuleFollowsThePollInterval) {
  EXPECT_EQ(read(with_target("poll_interval = 33\nkeep_alive_timeout = \"100ms\"\n")).problems, "");
  EXPECT_THAT(read(with_target("poll_interval = 4000\n")).problems,
              HasSubstr("keep_alive_timeout: 10.0 s is less than three poll intervals (12.0 s)"));
  EXPECT_EQ(read(target_with("keep_alive_timeout = \"300ms\"\n")).problems, "");
}

TEST(NvmeEnvConfig, AValueGivenInBothSpellingsIsAMistake) {
  EXPECT_EQ(read(with_target("hugepage = \"64MB\"\nhugepage_str = \"64MB\"\n")).problems,
            "f.toml:3: worker.spdk_disk.hugepage: given twice, as hugepage_str and as hugepage");
  EXPECT_EQ(read(with_target("poll_interval_ms = 10\npoll_interval = 10\n")).problems,
            "f.toml:4: worker.spdk_disk.poll_interval: given twice, as poll_interval_ms and as poll_interval");
}

TEST(NvmeEnvConfig, TheSameTargetTwiceIsAMistakeAnotherSubsystemThereIsNot) {
  const std::string second = "\n[[worker.spdk_disk.targets]]\ntrtype = \"tcp\"\ntraddr = \"10.0.0.1\"\n";
  EXPECT_EQ(read(with_target("") + second + "subnqn = \"nqn.2024-01.io.example:disk1\"\n").problems,
            "f.toml:9: worker.spdk_disk.targets[1]: nqn.2024-01.io.example:disk1 at 10.0.0.1:4420 is listed twice");
  EXPECT_EQ(read(with_target("") + second + "subnqn = \"nqn.2024-01.io.example:disk2\"\n").problems, "");
  EXPECT_EQ(read(with_target("") + second + "trsvcid = 4421\nsubnqn = \"nqn.2024-01.io.example:disk1\"\n").problems,
            "");
}

TEST(NvmeEnvConfig, EnabledNeedsATarget) {
  EXPECT_EQ(read(table("")).problems,
            "f.toml:1: worker.spdk_disk.targets: enabled, but there is no [[worker.spdk_disk.targets]]");
  EXPECT_THAT(read(table("targets = 3\n")).problems, HasSubstr("f.toml:3: worker.spdk_disk.targets: must be tables"));
}

TEST(NvmeEnvConfig, SeveralProblemsAreReportedTogetherInTheOrderOfLines) {
  EXPECT_EQ(
      read(table("hugepage = \"1MB\"\nspin = 1\nreactor_mask = \"\"\n[[worker.spdk_disk.targets]]\ntraddr = "
                 "\"10.0.0.1\"\n"))
          .problems,
      "f.toml:3: worker.spdk_disk.hugepage: 1.0 MiB is less than 8.0 MiB for each of 1 pollers\n"
      "f.toml:4: unknown key 'worker.spdk_disk.spin'\n"
      "f.toml:5: worker.spdk_disk.reactor_mask: core mask \"\": expected hexadecimal digits, e.g. 0x3\n"
      "f.toml:6: worker.spdk_disk.targets[0].trtype: RDMA is not available, only tcp is (write trtype = \"tcp\")\n"
      "f.toml:6: worker.spdk_disk.targets[0].subnqn: is required");
}

// Curvine checks a switched-off section for nothing; here only what pollers and buffers need, and the syntax.
TEST(NvmeEnvConfig, ADisabledSectionMayHoldWhatCannotBeConnectedTo) {
  const std::string disabled = "[worker.spdk_disk]\nenabled = false\n";
  EXPECT_EQ(
      read(disabled +
           "iova_mode = \"pa\"\nkeep_alive_timeout = \"200ms\"\n[[worker.spdk_disk.targets]]\ntrtype = \"rdma\"\n")
          .problems,
      "");
  EXPECT_THAT(read(disabled + "hugepage = \"1MB\"\n").problems, HasSubstr("f.toml:3: worker.spdk_disk.hugepage"));
  EXPECT_THAT(read(disabled + "hugepages = \"1MB\"\n").problems, HasSubstr("f.toml:3: unknown key"));
  EXPECT_THAT(read(disabled + "[[worker.spdk_disk.targets]]\ntrsvcid = \"x\"\n").problems,
              HasSubstr("f.toml:4: worker.spdk_disk.targets[0].trsvcid"));
}

// --- configurations built in code ---

TEST(NvmeEnvConfig, ValidateMakesTheSameChecksInCode) {
  NvmeEnvConfig good;
  good.enabled = true;
  good.targets.resize(1);
  good.targets[0].address =
      nvme::TransportAddress::parse("trtype:TCP traddr:10.0.0.1 subnqn:nqn.2024-01.io.example:d").value();
  ASSERT_TRUE(good.validate().ok()) << good.validate().error().message();

  struct Change {
    std::function<void(NvmeEnvConfig&)> make;
    const char* message;
  };
  const std::vector<Change> changes = {
      {[](NvmeEnvConfig& c) { c.reactor_mask = "zz"; }, "worker.spdk_disk.reactor_mask: "},
      {[](NvmeEnvConfig& c) { c.hugepage = 4096; }, "worker.spdk_disk.hugepage: "},
      {[](NvmeEnvConfig& c) { c.io_queue_depth = 1; }, "worker.spdk_disk.io_queue_depth: "},
      {[](NvmeEnvConfig& c) { c.io_queue_requests = 2; }, "worker.spdk_disk.io_queue_requests: "},
      {[](NvmeEnvConfig& c) { c.io_timeout = Nanos{0}; }, "worker.spdk_disk.io_timeout: "},
      {[](NvmeEnvConfig& c) { c.io_retry_count = 101; }, "worker.spdk_disk.io_retry_count: "},
      {[](NvmeEnvConfig& c) { c.keep_alive_timeout = Nanos{-1}; }, "worker.spdk_disk.keep_alive_timeout: "},
      {[](NvmeEnvConfig& c) { c.keep_alive_timeout = 299ms; }, "worker.spdk_disk.keep_alive_timeout: "},
      {[](NvmeEnvConfig& c) { c.qpair_acquire_timeout = Nanos{0}; }, "worker.spdk_disk.qpair_acquire_timeout: "},
      {[](NvmeEnvConfig& c) { c.poll_interval = Nanos{0}; }, "worker.spdk_disk.poll_interval_ms: "},
      {[](NvmeEnvConfig& c) { c.spin_max = 2s; }, "worker.spdk_disk.spin_max: "},
      {[](NvmeEnvConfig& c) { c.dma_buffer_size = 12288; }, "worker.spdk_disk.dma_buffer_size: "},
      {[](NvmeEnvConfig& c) { c.targets.clear(); }, "worker.spdk_disk.targets: "},
      {[](NvmeEnvConfig& c) { c.targets.push_back(c.targets[0]); }, "worker.spdk_disk.targets[1]: "},
      {[](NvmeEnvConfig& c) { c.targets[0].address.traddr = "a b"; }, "worker.spdk_disk.targets[0].traddr: "},
      {[](NvmeEnvConfig& c) { c.targets[0].address.trsvcid = 0; }, "worker.spdk_disk.targets[0].trsvcid: "},
      {[](NvmeEnvConfig& c) { c.targets[0].address.trtype = nvme::Trtype::kPcie; },
       "worker.spdk_disk.targets[0].trtype: "},
      {[](NvmeEnvConfig& c) { c.targets[0].address.subnqn.clear(); }, "worker.spdk_disk.targets[0].subnqn: "},
      {[](NvmeEnvConfig& c) { c.targets[0].address.hostnqn = "x"; }, "worker.spdk_disk.targets[0].hostnqn: "},
      {[](NvmeEnvConfig& c) { c.targets[0].io_queues = 1000; }, "worker.spdk_disk.targets[0].io_queues: "},
      {[](NvmeEnvConfig& c) { c.targets[0].io_timeout = Nanos{-5}; }, "worker.spdk_disk.targets[0].io_timeout: "},
      {[](NvmeEnvConfig& c) { c.targets[0].keep_alive_timeout = 150ms; },
       "worker.spdk_disk.targets[0].keep_alive_timeout: "},
  };
  for (const Change& change : changes) {
    NvmeEnvConfig config = good;
    change.make(config);
    const Result<> valid = config.validate();
    ASSERT_FALSE(valid.ok()) << change.message;
    EXPECT_THAT(valid.error().message(), StartsWith(change.message));
    EXPECT_EQ(valid.error().kind(), Errc::kInvalidArgument);
    EXPECT_EQ(valid.error().domain(), ErrorDomain::kConfig);
  }
}

}  // namespace
}  // namespace leap
