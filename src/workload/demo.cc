#include "workload/demo.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <numeric>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/affinity.h"
#include "base/units.h"
#include "client/admin_client.h"
#include "workload/child_process.h"

namespace leap {
namespace fs = std::filesystem;
namespace {

constexpr Nanos kStartLimit = std::chrono::seconds(30);
constexpr Nanos kStopLimit = std::chrono::seconds(30);
constexpr const char* kNqn = "nqn.2026-11.dev.leap:demo";

double seconds_since(TimePoint start) { return std::chrono::duration<double>(Clock::system().now() - start).count(); }

std::uint64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::uint64_t kib = 0;
  std::string unit;
  while (file >> key >> kib >> unit) {
    if (key == "MemAvailable:") return kib * kKiB;
  }
  return 0;
}

std::string describe(const CrashLoad::Report& crash) {
  return fmt::format("SIGKILL came after {} acknowledged writes{}", crash.acknowledged,
                     !crash.in_flight       ? ""
                     : crash.in_flight_took ? " and one under way, which took effect"
                                            : " and one under way, which left nothing");
}

class Demo {
 public:
  Demo(const DemoConfig& config, const DemoOutput& output) : config_(config), output_(output) {}

  Result<DemoReport> run() {
    LEAP_TRY_VOID(prepare());
    LEAP_TRY_VOID(start_target());
    LEAP_TRY_VOID(format());
    LEAP_TRY_VOID(start_worker());
    TreeStore tree(files_, {.worker = worker_address()});
    LEAP_TRY_VOID(phase("store", tree, true));
    LEAP_TRY_VOID(phase("verify", tree, false));
    LEAP_TRY_VOID(restart(SIGTERM, report_.clean_restart_seconds));
    LEAP_TRY_VOID(phase("verify after restart", tree, false));
    LEAP_TRY_VOID(crash());
    LEAP_TRY_VOID(phase("verify after SIGKILL", tree, false));
    read_space();
    LEAP_TRY_VOID(finish());
    return std::move(report_);
  }

  [[nodiscard]] const fs::path& dir() const { return dir_; }

 private:
  Result<> prepare() {
    LEAP_TRY(files_, FileSet::collect(config_.roots.empty() ? std::vector<fs::path>{"/usr"} : config_.roots,
                                      config_.enough, config_.block_size));
    report_.files = files_.files.size();
    report_.unreadable = files_.unreadable;
    const fs::path parent = config_.work_dir.empty() ? fs::temp_directory_path() : fs::absolute(config_.work_dir);
    std::error_code error;
    if (fs::create_directories(parent, error); error)
      return Error::os(error.value(), fmt::format("create {}", parent.string()));
    // A fresh one each time: another run's worker directory belongs to another device.
    std::string pattern = (parent / "leap-demo-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) return Error::os(errno, fmt::format("create {}", pattern));
    dir_ = pattern;
    report_.work_dir = dir_.string();
    say(fmt::format("{} files, {} in {} blocks, to be stored", files_.files.size(), format_bytes(files_.bytes),
                    files_.pieces.size()));
    if (files_.unreadable > 0)
      say(fmt::format("{} files or directories may not be read and are left out", files_.unreadable));
    return {};
  }

  /// Every piece in whole pages, and room for the superblocks and for what is being written.
  [[nodiscard]] std::uint64_t device_size() const {
    constexpr std::uint64_t kPage = 4096;
    const std::uint64_t pages =
        std::accumulate(files_.pieces.begin(), files_.pieces.end(), std::uint64_t{0},
                        [](std::uint64_t sum, const FilePiece& p) { return sum + (p.length + kPage - 1) / kPage; });
    const std::uint64_t needed = pages * kPage + pages * kPage / 16 + 512 * kMiB;
    return (needed + kMiB - 1) / kMiB * kMiB;
  }

  Result<> start_target() {
    const std::uint64_t size = device_size();
    const bool memory = !config_.force_file && available_memory() > size + size / 2;
    const std::string device = memory ? fmt::format("mem:?size={}", size)
                                      : fmt::format("file://{}?size={}", (dir_ / "namespace").string(), size);
    report_.device = fmt::format("leap target on 127.0.0.1, {} of {}", format_bytes(size),
                                 memory ? "memory" : "a file with direct I/O");
    LEAP_TRY(target_port_, free_port());
    LEAP_TRY(target_,
             ChildProcess::start({"target", "--listen", fmt::format("127.0.0.1:{}", target_port_), "--nqn", kNqn,
                                  "--namespace", device, "--cores", fmt::format("{}", allowed_cores().front())},
                                 (dir_ / "target.log").string()));
    LEAP_TRY(const std::string ready, target_.wait_for_line("ready", kStartLimit));
    say("target: " + report_.device);
    return {};
  }

  [[nodiscard]] std::string conf() const { return (dir_ / "worker.toml").string(); }

  Result<> format() {
    LEAP_TRY(rpc_port_, free_port());
    LEAP_TRY(web_port_, free_port());
    std::ofstream file(conf());
    file << fmt::format(
        "# Written by leap demo.\n"
        "format_worker = false\ncluster_id = \"demo\"\n\n"
        "[worker]\nhostname = \"127.0.0.1\"\nrpc_port = {}\nweb_port = {}\ndata_dir = [\"[SPDK_DISK]{}\"]\n\n"
        "[worker.spdk_disk]\nenabled = true\nhugepage = \"256MB\"\nreactor_mask = \"{}\"\n\n"
        "[[worker.spdk_disk.targets]]\ntrtype = \"tcp\"\ntraddr = \"127.0.0.1\"\ntrsvcid = {}\nsubnqn = \"{}\"\n",
        rpc_port_, web_port_, (dir_ / "data").string(), format_core_mask(std::vector<unsigned>{allowed_cores().back()}),
        target_port_, kNqn);
    file.close();
    if (!file) return Error(Errc::kIo, fmt::format("write {}", conf()));
    LEAP_TRY(ChildProcess formatter, ChildProcess::start({"format", "--conf", conf()}, (dir_ / "format.log").string()));
    LEAP_TRY(const std::string done, formatter.wait_for_line("formatted", kStartLimit));
    LEAP_TRY(const int status, formatter.end(0, kStopLimit));
    if (status != 0)
      return Error(Errc::kIo,
                   fmt::format("leap format ended with status {}: see {}", status, (dir_ / "format.log").string()));
    return {};
  }

  Result<> start_worker() {
    LEAP_TRY(worker_,
             ChildProcess::start({"worker", "--conf", conf(), "--standalone"}, (dir_ / "worker.log").string()));
    LEAP_TRY(const std::string ready, worker_.wait_for_line("ready", kStartLimit));
    say("worker: " + ready);
    return {};
  }

  Result<> restart(int signal, double& seconds) {
    const TimePoint start = Clock::system().now();
    LEAP_TRY(const int status, worker_.end(signal, kStopLimit));
    if (signal == SIGTERM && status != 0)
      return Error(Errc::kIo, fmt::format("the worker ended with status {} after SIGTERM", status));
    say(signal == SIGTERM ? "worker stopped with SIGTERM, status 0; starting it again"
                          : "worker killed with SIGKILL while it was writing; starting it again");
    LEAP_TRY_VOID(start_worker());
    seconds = seconds_since(start);
    return {};
  }

  /// SIGKILL for a worker that is in the middle of writing blocks of its own, beside the tree.
  Result<> crash() {
    CrashLoad load({.worker = worker_address(), .first_block_id = static_cast<std::int64_t>(files_.pieces.size()) + 1});
    LEAP_TRY_VOID(load.start());
    LEAP_TRY_VOID(restart(SIGKILL, report_.crash_restart_seconds));
    LEAP_TRY(report_.crash, load.verify(worker_address()));
    say(fmt::format("{}, {} errors", describe(report_.crash), report_.crash.errors));
    return {};
  }

  [[nodiscard]] SocketAddress worker_address() const {
    return SocketAddress::from_numeric("127.0.0.1", rpc_port_).value();
  }

  Result<> phase(const std::string& name, TreeStore& tree, bool storing) {
    const double worker_before = worker_.cpu_seconds();
    const double target_before = target_.cpu_seconds();
    const TimePoint start = Clock::system().now();
    const TreeStore::Progress progress = [&](std::uint64_t done, std::uint64_t total) {
      const double percent = total > 0 ? 100.0 * static_cast<double>(done) / static_cast<double>(total) : 100.0;
      output_(fmt::format("{:<22} {:>5.1f} %  {:>10} of {}  {:.0f} MB/s", name, percent, format_bytes(done),
                          format_bytes(total), static_cast<double>(done) / 1e6 / std::max(seconds_since(start), 1e-3)),
              true);
    };
    DemoPhase done{.name = name, .transfer = {}};
    LEAP_TRY(done.transfer, storing ? tree.store(progress) : tree.verify(progress));
    done.worker_cpu_seconds = worker_.cpu_seconds() - worker_before;
    done.target_cpu_seconds = target_.cpu_seconds() - target_before;
    say(fmt::format("{:<22} {} blocks, {} in {:.1f} s, {} errors", name, done.transfer.blocks,
                    format_bytes(done.transfer.bytes), done.transfer.seconds, done.transfer.errors));
    report_.phases.push_back(std::move(done));
    return {};
  }

  void read_space() {
    AdminClient admin("127.0.0.1", web_port_);
    const Result<std::string> status = admin.status();
    if (!status.ok()) return;
    const auto json = nlohmann::json::parse(status.value(), nullptr, false);
    if (json.is_discarded()) return;
    report_.space_used = json.value(nlohmann::json::json_pointer("/space/allocated"), std::uint64_t{0});
    report_.memory = json.value(nlohmann::json::json_pointer("/dma_memory"), std::string());
  }

  Result<> finish() {
    LEAP_TRY(const int worker_status, worker_.end(SIGTERM, kStopLimit));
    LEAP_TRY(const int target_status, target_.end(SIGTERM, kStopLimit));
    if (worker_status != 0 || target_status != 0) {
      return Error(Errc::kIo, fmt::format("worker ended with status {}, target with {}", worker_status, target_status));
    }
    if (!config_.keep) {
      std::error_code ignored;
      fs::remove_all(dir_, ignored);
      report_.work_dir.clear();
    }
    return {};
  }

  void say(const std::string& line) { output_(line, false); }

  const DemoConfig& config_;
  const DemoOutput& output_;
  FileSet files_;
  fs::path dir_;
  std::uint16_t target_port_ = 0;
  std::uint16_t rpc_port_ = 0;
  std::uint16_t web_port_ = 0;
  ChildProcess target_;
  ChildProcess worker_;
  DemoReport report_;
};

}  // namespace

std::uint64_t DemoReport::errors() const {
  return std::accumulate(phases.begin(), phases.end(), crash.errors,
                         [](std::uint64_t sum, const DemoPhase& phase) { return sum + phase.transfer.errors; });
}

std::string DemoReport::to_text() const {
  const auto ms = [](Nanos value) { return std::chrono::duration<double, std::milli>(value).count(); };
  std::string text = fmt::format("\n{:<22} {:>8} {:>10} {:>10} {:>11} {:>11} {:>8}\n", "", "blocks", "MB/s", "p50 ms",
                                 "p99 ms", "CPU s w+t", "errors");
  for (const DemoPhase& phase : phases) {
    const TransferReport& t = phase.transfer;
    text += fmt::format("{:<22} {:>8} {:>10.1f} {:>10.2f} {:>11.2f} {:>11} {:>8}\n", phase.name, t.blocks, t.mb_per_s(),
                        ms(t.latency.percentile(50)), ms(t.latency.percentile(99)),
                        fmt::format("{:.1f}+{:.1f}", phase.worker_cpu_seconds, phase.target_cpu_seconds), t.errors);
  }
  const std::uint64_t bytes = phases.empty() ? 0 : phases.front().transfer.bytes;
  text += fmt::format("\n{} files, {} stored; {} of the device in use\n", files, format_bytes(bytes),
                      format_bytes(space_used));
  if (unreadable > 0) text += fmt::format("{} files or directories were not readable and left out\n", unreadable);
  text += fmt::format("device  {}\n", device);
  if (!memory.empty()) text += fmt::format("memory  {}\n", memory);
  text += fmt::format("restart {:.2f} s after SIGTERM, {:.2f} s after SIGKILL, until ready again\n",
                      clean_restart_seconds, crash_restart_seconds);
  text += describe(crash) + "\n";
  if (errors() == 0) return text + "every byte that was stored came back, three times\n";
  std::string first = crash.first_error;
  for (const DemoPhase& phase : phases) {
    if (first.empty()) first = phase.transfer.first_error;
  }
  return text + fmt::format("{} BLOCKS FAILED: {}\n", errors(), first);
}

Result<DemoReport> run_demo(const DemoConfig& config, const DemoOutput& output) {
  Demo demo(config, output);
  Result<DemoReport> report = demo.run();
  if (!report.ok() && !demo.dir().empty()) output(fmt::format("logs are left in {}", demo.dir().string()), false);
  return report;
}

}  // namespace leap
