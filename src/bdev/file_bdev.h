// FileBdev: a block device in a file or on a kernel block device (file:///path?size=...): the VFS path.
//
// Direct I/O where the file system offers it for blocks of this size (buffered otherwise, and said so), flush() is
// fdatasync(2). The file is locked for this process: a second opener is refused, and so is a kernel block device that
// is mounted or has another exclusive user. Used as a back end of the target, as the store's device where there is no
// NVMe, and as the comparison for everything that bypasses the kernel.
#pragma once

#include <atomic>
#include <filesystem>

#include "base/fd.h"
#include "bdev/block_device.h"
#include "bdev/file_engine.h"
#include "bdev/range_lock.h"

namespace leap {

class FileBdev final : public BlockDevice {
 public:
  /// What may be done to get a file of the size that is asked for. A larger one is never cut.
  enum class Fit : std::uint8_t {
    kExtend,  ///< a missing file is made, a smaller one extended (sparse)
    kMake,    ///< a missing or empty file is extended; a smaller one is somebody's: kAlreadyExists
    kAsIs,    ///< nothing: a missing file is kNotFound, a smaller one kWrongState
  };
  struct Config {
    std::filesystem::path path;
    std::uint64_t size = 0;  ///< bytes; 0 = as large as it is
    Fit fit = Fit::kExtend;
    std::uint32_t block_size = 4096;  ///< bytes, a power of two from 512 to 64 KiB
    FileEngineKind engine = FileEngine::best();
    bool direct = true;  ///< try O_DIRECT
  };
  /// Errors: os (no such directory, no permission), kBusy (locked or mounted), kInvalidArgument (sizes; a file larger
  /// than `size` is never cut; a block device with sectors larger than block_size).
  static Result<std::unique_ptr<FileBdev>> open(Config config);

  [[nodiscard]] const BlockDeviceInfo& info() const override { return info_; }
  [[nodiscard]] bool online() const override { return true; }
  Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& pool) override;

 private:
  FileBdev(UniqueFd fd, FileEngineKind engine, bool direct);

  UniqueFd fd_;
  FileEngineKind engine_;
  bool direct_;
  std::unique_ptr<BlockingPool> threads_;  // of all channels, with kThreads
  BlockDeviceInfo info_;
  RangeLock lock_;
  std::atomic<bool> sync_failed_{false};
};

}  // namespace leap
