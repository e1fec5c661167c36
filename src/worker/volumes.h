// Volumes: a worker's storage: the NVMe environment and one block store per data_dir.
//
//   leap format:   LEAP_TRY(auto lines, Volumes::format(config, false));
//   leap worker:   LEAP_TRY(auto volumes, Volumes::open(config));
//                  volumes->stores() ... volumes->env().pollers() ...
//                  LEAP_TRY_VOID(volumes->close(10s));
//
// Which device belongs to a directory is decided once, when it is formatted, and written down in
// <data_dir>/<cluster>/device ("nvme-<uuid>", or a device string); from then on it is found by that, never by position,
// and the superblock on it must agree. [worker.leap] devices names devices explicitly. Without it, format takes for
// each SPDK_DISK directory the next namespace that is empty (zeros where the superblocks go), and directories of other types get a file of
// the configured size inside themselves.
//
// A directory whose device cannot be reached is offline: reported, left out, nothing else moves. A device that is there
// but is not the directory's own (another cluster, another worker, not formatted, in use) stops the start.
//
// Threading: the control thread, which blocks.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdev/file_bdev.h"
#include "env/nvme_env.h"
#include "store/store_set.h"
#include "store/superblock.h"
#include "worker/config.h"

namespace leap {

class Volumes {
 public:
  struct Offline {
    std::string data_dir;
    Error error;
  };

  /// Makes the superblocks and metadata of every directory that has none, and all of them again with `force`. Returns
  /// one line per directory for the operator. Errors: kAlreadyExists (all formatted already, not force), kNotFound (not
  /// enough empty namespaces), and those of BlockStore::format.
  static Result<std::vector<std::string>> format(const WorkerConfig& config, bool force);

  /// Errors: no directory could be opened (kUnreachable), identity, metadata and configuration errors of any directory.
  static Result<std::unique_ptr<Volumes>> open(const WorkerConfig& config);
  ~Volumes();
  Volumes(const Volumes&) = delete;
  Volumes& operator=(const Volumes&) = delete;

  /// Closes the stores (persisting their state), then the environment. Idempotent. The first error, after all was
  /// tried.
  Result<> close(Nanos limit);

  [[nodiscard]] StoreSet& stores() { return *stores_; }  ///< until close()
  [[nodiscard]] NvmeEnv& env() { return *env_; }
  [[nodiscard]] const std::vector<Offline>& offline() const { return offline_; }

 private:
  Volumes() = default;
  Result<> start_env(const WorkerConfig& config);
  Result<> open_directory(const WorkerConfig& config, std::size_t index);
  Result<std::string> format_directory(const WorkerConfig& config, std::size_t index, std::uint32_t worker_id,
                                       bool force);
  /// The superblock of a directory that has one.
  Result<std::optional<Superblock>> formatted_before(const WorkerConfig& config, std::size_t index);
  /// The device named in a directory's binding or in the configuration.
  Result<BlockDevice*> find_device(const std::string& name, FileBdev::Fit fit);
  Result<BlockDevice*> next_unformatted();
  Result<std::string> device_for_format(const WorkerConfig& config, std::size_t index);

  std::unique_ptr<NvmeEnv> env_;
  std::map<std::string, std::unique_ptr<BlockDevice>> local_;  // by the string; open, so locked, until the end
  std::vector<BlockDevice*> taken_;                            // by directories of this run
  std::unique_ptr<StoreSet> stores_ = std::make_unique<StoreSet>();
  std::vector<Offline> offline_;
};

}  // namespace leap
