#include "worker/volumes.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "base/units.h"
#include "bdev/device_uri.h"
#include "poller/dma_await.h"

namespace leap {
namespace fs = std::filesystem;
namespace {

std::string meta_dir(const DataDir& dir, const std::string& cluster) { return dir.cluster_dir(cluster) + "/meta"; }
std::string binding_file(const DataDir& dir, const std::string& cluster) {
  return dir.cluster_dir(cluster) + "/device";
}

std::string read_binding(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

Result<> sync_path(const std::string& path, int flags) {
  const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd.valid()) return Error::os(errno, fmt::format("open {}", path));
  if (::fsync(fd.get()) != 0) return Error::os(errno, fmt::format("sync {}", path));
  return {};
}

/// Written beside, synced and renamed: power loss leaves the old binding or the new one.
Result<> write_binding(const std::string& path, const std::string& device) {
  const std::string fresh = path + ".new";
  {
    std::ofstream file(fresh, std::ios::trunc);
    file << device << "\n";
    file.flush();
    if (!file) return Error(Errc::kIo, fmt::format("write {}", fresh));
  }
  LEAP_TRY_VOID(sync_path(fresh, O_RDONLY));
  std::error_code error;
  fs::rename(fresh, path, error);
  if (error) return Error::os(error.value(), fmt::format("rename {} to {}", fresh, path));
  return sync_path(fs::path(path).parent_path().string(), O_RDONLY | O_DIRECTORY);
}

bool is_local(const std::string& device) {
  const auto kind = device_kind(device);
  return kind.ok() && kind.value() != DeviceKind::kNvme;
}

Task<Result<bool>> is_empty(NvmePoller& poller, DmaPool& pool, BlockDevice& device) {
  LEAP_CO_TRY(auto channel, device.open_channel(poller, pool));
  LEAP_CO_TRY(const std::optional<std::uint64_t> used,
              co_await find_foreign_data(*channel, poller, pool, device.info().size));
  co_return !used.has_value();
}

Task<Result<Superblock>> read_superblock(NvmePoller& poller, DmaPool& pool, BlockDevice& device) {
  LEAP_CO_TRY(auto channel, device.open_channel(poller, pool));
  LEAP_CO_TRY(LoadedSuperblock loaded, co_await load_superblock(*channel, poller, pool, device.info().size));
  co_return std::move(loaded.superblock);
}

}  // namespace

Volumes::~Volumes() {
  constexpr Nanos kLimit = std::chrono::seconds(10);
  if (const Result<> closed = close(kLimit); !closed.ok())
    log_warn("closing the stores: {}", closed.error().to_string());
}

Result<> Volumes::start_env(const WorkerConfig& config) {
  LEAP_TRY(env_, NvmeEnv::start(config.spdk_disk));
  return {};
}

Result<BlockDevice*> Volumes::find_device(const std::string& name, FileBdev::Fit fit) {
  if (is_local(name)) {
    std::unique_ptr<BlockDevice>& device = local_[name];
    if (device != nullptr) return device.get();
    LEAP_TRY(device, open_local_device(name, name, fit));
    return device.get();
  }
  if (BlockDevice* device = env_->find(name); device != nullptr) return device;
  std::string why;
  for (const TargetStatus& target : env_->targets()) {
    if (target.error)
      why += fmt::format("; {} at {}: {}", target.address.subnqn, target.address.endpoint(), target.error->message());
  }
  return Error(Errc::kUnreachable, fmt::format("device {} is not there{}", name, why)).with_scope(ErrorScope::kDevice);
}

Result<BlockDevice*> Volumes::next_unformatted() {
  std::string seen;
  for (BlockDevice* device : env_->devices()) {
    if (std::find(taken_.begin(), taken_.end(), device) != taken_.end()) continue;
    const PollerContext context = env_->pollers().front();
    const Result<bool> empty = context.poller->run(
        [device, &context](NvmePoller& poller) { return is_empty(poller, *context.pool, *device); });
    if (!empty.ok()) return empty.error();
    if (empty.value()) return device;
    seen += fmt::format("{}{}", seen.empty() ? "" : ", ", device->info().name);
  }
  return Error(Errc::kNotFound,
               seen.empty() ? std::string("no namespace is connected that could be formatted")
                            : fmt::format("no unformatted namespace is left; these carry data: {} (name the one to use "
                                          "in [worker.leap] devices, with --force to discard what is on it)",
                                          seen));
}

Result<std::string> Volumes::device_for_format(const WorkerConfig& config, std::size_t index) {
  const DataDir& dir = config.data_dirs[index];
  if (index < config.leap.devices.size() && !config.leap.devices[index].empty()) return config.leap.devices[index];
  if (const std::string bound = read_binding(binding_file(dir, config.cluster_id)); !bound.empty()) return bound;
  if (dir.type == StorageType::kSpdkDisk) {
    LEAP_TRY(const BlockDevice* device, next_unformatted());
    return device->info().name;
  }
  if (dir.capacity == 0) {
    return Error(Errc::kInvalidArgument,
                 fmt::format(
                     "worker.data_dir '{}': a directory on a file system needs a size, such as \"[DISK:100GB]{}\"",
                     dir.path, dir.path))
        .in(ErrorDomain::kConfig);
  }
  return fmt::format("file://{}/blocks?size={}", dir.cluster_dir(config.cluster_id),
                     dir.capacity / kStorePage * kStorePage);
}

Result<std::string> Volumes::format_directory(const WorkerConfig& config, std::size_t index, std::uint32_t worker_id,
                                              bool force) {
  const DataDir& dir = config.data_dirs[index];
  const std::string home = dir.cluster_dir(config.cluster_id);
  std::error_code error;
  fs::create_directories(home, error);
  if (error) return Error::os(error.value(), fmt::format("create {}", home));
  LEAP_TRY(const std::string name, device_for_format(config, index));
  // Before the device is judged nothing may be done to a file that has something in it, not even make it longer.
  Result<BlockDevice*> found = find_device(name, force ? FileBdev::Fit::kExtend : FileBdev::Fit::kMake);
  if (!found.ok()) return std::move(found).error().context(fmt::format("data_dir {}", dir.path));
  BlockDevice* const device = *found;
  if (std::find(taken_.begin(), taken_.end(), device) != taken_.end()) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("data_dir {}: device {} belongs to another data_dir already", dir.path, name))
        .in(ErrorDomain::kConfig);
  }
  taken_.push_back(device);
  BlockStore::FormatOptions options;
  options.meta_dir = meta_dir(dir, config.cluster_id);
  options.cluster_id = config.cluster_id;
  options.worker_id = worker_id;
  options.force = force;
  Result<Superblock> made = BlockStore::format(env_->pollers().front(), *device, options);
  if (!made.ok()) return std::move(made).error().context(fmt::format("data_dir {}", dir.path));
  LEAP_TRY_VOID(write_binding(binding_file(dir, config.cluster_id), is_local(name) ? name : device->info().name));
  return fmt::format("formatted {} on {} ({})", dir.path, device->info().name, format_bytes(device->info().size));
}

Result<std::vector<std::string>> Volumes::format(const WorkerConfig& config, bool force) {
  LEAP_TRY_VOID(config.validate());
  if (config.data_dirs.empty())
    return Error(Errc::kInvalidArgument, "worker.data_dir is empty: there is nothing to format")
        .in(ErrorDomain::kConfig);
  Volumes volumes;
  LEAP_TRY_VOID(volumes.start_env(config));
  auto worker_id = static_cast<std::uint32_t>(Rng(entropy_seed()).next());
  std::vector<std::string> lines;
  std::vector<std::size_t> unformatted;
  for (std::size_t i = 0; i < config.data_dirs.size(); ++i) {
    std::optional<Superblock> there;
    if (!force) {
      LEAP_TRY(there, volumes.formatted_before(config, i));
    }
    if (!there) {
      unformatted.push_back(i);
      continue;
    }
    worker_id = there->worker_id;
    lines.push_back(fmt::format("{} has been formatted before (device {}): left as it is", config.data_dirs[i].path,
                                there->device_uuid));
  }
  if (unformatted.empty()) {
    return Error(Errc::kAlreadyExists,
                 fmt::format("nothing to format: {}; --force discards every block", lines.front()))
        .in(ErrorDomain::kStore);
  }
  for (const std::size_t i : unformatted) {
    LEAP_TRY(std::string line, volumes.format_directory(config, i, worker_id, force));
    lines.push_back(std::move(line));
  }
  return lines;
}

Result<std::optional<Superblock>> Volumes::formatted_before(const WorkerConfig& config, std::size_t index) {
  const DataDir& dir = config.data_dirs[index];
  const std::string bound = read_binding(binding_file(dir, config.cluster_id));
  if (bound.empty()) return std::optional<Superblock>();
  Result<BlockDevice*> device = find_device(bound, FileBdev::Fit::kAsIs);
  if (!device.ok() && device.error().kind() == Errc::kNotFound) return std::optional<Superblock>();
  if (!device.ok()) return std::move(device).error().context(fmt::format("data_dir {}", dir.path));
  const PollerContext context = env_->pollers().front();
  Result<Superblock> there =
      context.poller->run([&](NvmePoller& poller) { return read_superblock(poller, *context.pool, *device.value()); });
  // Whatever else is wrong with it is format's to judge.
  if (!there.ok() || there->cluster_id != config.cluster_id) return std::optional<Superblock>();
  taken_.push_back(device.value());
  return std::optional<Superblock>(std::move(there).value());
}

Result<> Volumes::open_directory(const WorkerConfig& config, std::size_t index) {
  const DataDir& dir = config.data_dirs[index];
  const std::string bound = read_binding(binding_file(dir, config.cluster_id));
  if (bound.empty()) {
    return Error(Errc::kNotFound,
                 fmt::format("data_dir {} is not formatted for cluster '{}' (run: leap format --conf FILE)", dir.path,
                             config.cluster_id));
  }
  Result<BlockDevice*> device = find_device(bound, FileBdev::Fit::kAsIs);
  if (!device.ok()) {
    // A file that is not there is a disk that is not mounted.
    if (device.error().kind() != Errc::kUnreachable && device.error().kind() != Errc::kNotFound)
      return std::move(device).error().context(fmt::format("data_dir {}", dir.path));
    log_error("data_dir {} is offline: {}", dir.path, device.error().to_string());
    offline_.push_back({dir.path, std::move(device).error()});
    stores_->note_offline();
    return {};
  }
  BlockStore::Config store;
  store.name = dir.path;
  store.meta_dir = meta_dir(dir, config.cluster_id);
  store.cluster_id = config.cluster_id;
  store.capacity_limit = dir.capacity;
  store.set_aside = config.dir_reserved;
  store.detach_grace = config.leap.detach_grace;
  auto opened = BlockStore::open(store, *device.value(), env_->pollers());
  if (!opened.ok()) return std::move(opened).error().context(fmt::format("data_dir {}", dir.path));
  const RecoveryReport& recovery = opened.value()->recovery();
  log_info("data_dir {}: {} blocks on {}, {}", dir.path, recovery.blocks, device.value()->info().name,
           recovery.clean_shutdown ? "closed cleanly before" : "recovered from its records");
  for (const std::string& problem : recovery.problems) log_error("data_dir {}: {}", dir.path, problem);
  return stores_->add(dir.type, std::move(opened).value());
}

Result<std::unique_ptr<Volumes>> Volumes::open(const WorkerConfig& config) {
  LEAP_TRY_VOID(config.validate());
  std::unique_ptr<Volumes> volumes(new Volumes);
  LEAP_TRY_VOID(volumes->start_env(config));
  for (std::size_t i = 0; i < config.data_dirs.size(); ++i) LEAP_TRY_VOID(volumes->open_directory(config, i));
  if (volumes->stores_->directories().empty() && !volumes->offline_.empty()) {
    return Error(Errc::kUnreachable,
                 fmt::format("no data_dir can be opened; {}: {}", volumes->offline_.front().data_dir,
                             volumes->offline_.front().error.message()));
  }
  return volumes;
}

Result<> Volumes::close(Nanos limit) {
  Result<> closed;
  if (stores_ != nullptr) {
    closed = stores_->close();
    stores_.reset();  // their channels belong to pollers that still run
  }
  if (env_ != nullptr) {
    const Result<> stopped = env_->stop(limit);
    if (closed.ok() && !stopped.ok()) closed = stopped.error();
  }
  return closed;
}

}  // namespace leap
