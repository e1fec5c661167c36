#include "bdev/file_bdev.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/units.h"
#include "bdev/chunked_channel.h"

namespace leap {
namespace {

class FileChannel final : public ChunkedChannel {
 public:
  FileChannel(NvmePoller& poller, DmaPool& pool, const BlockDeviceInfo& info, RangeLock& lock,
              std::unique_ptr<FileEngine> engine, std::uint32_t memory_alignment, std::atomic<bool>& sync_failed)
      : ChunkedChannel(poller, pool, info, lock, memory_alignment),
        engine_(std::move(engine)),
        sync_failed_(sync_failed) {}

 protected:
  Task<Result<DmaBuf>> read_aligned(std::uint64_t offset, DmaBuf buffer) override {
    return engine_->read(offset, std::move(buffer));
  }
  Task<Result<>> write_aligned(std::uint64_t offset, DmaBuf data) override {
    return engine_->write(offset, std::move(data));
  }
  // The kernel reports a failed write-back once per open file, to whoever asks first, and forgets the pages: after it no
  // flush of this device can vouch for anything.
  Task<Result<>> flush_all() override {
    Result<> synced = co_await engine_->datasync();
    if (!synced.ok()) sync_failed_.store(true);
    if (synced.ok() && sync_failed_.load()) {
      synced = Error(Errc::kIo, fmt::format("flush {}: an earlier flush has failed and its data may be lost; "
                                            "open the device again",
                                            info_.name))
                   .with_scope(ErrorScope::kDevice);
    }
    co_return synced;
  }
  Task<Result<>> discard_aligned(std::uint64_t offset, std::uint64_t length) override {
    Result<> punched = co_await engine_->allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    // A file system without holes keeps what it was told to forget.
    if (!punched.ok() && punched.error().kind() == Errc::kUnsupported) co_return Result<>{};
    co_return punched;
  }
  Task<Result<>> write_zeroes_aligned(std::uint64_t offset, std::uint64_t length) override {
    Result<> punched = co_await engine_->allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    if (punched.ok() || punched.error().kind() != Errc::kUnsupported) co_return punched;
    Result<> written = co_await write_plain_zeroes(offset, length);
    co_return written;
  }

 private:
  std::unique_ptr<FileEngine> engine_;
  std::atomic<bool>& sync_failed_;
};

Result<UniqueFd> open_file(const FileBdev::Config& config, bool& direct) {
  const std::string path = config.path.string();
  struct stat status {};
  // O_EXCL on a block device means "not while it is mounted, or somebody else's".
  const bool block_device = ::stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode);
  const int flags = O_RDWR | O_CLOEXEC |
                    (block_device                                            ? O_EXCL
                     : config.size > 0 && config.fit != FileBdev::Fit::kAsIs ? O_CREAT
                                                                             : 0);
  constexpr mode_t kMode = 0600;
  if (direct) {
    UniqueFd fd(::open(path.c_str(), flags | O_DIRECT, kMode));
    if (fd.valid()) return fd;
    if (errno != EINVAL) return Error::os(errno, fmt::format("open {}", path));
    direct = false;  // tmpfs and a few others have no direct I/O
  }
  UniqueFd fd(::open(path.c_str(), flags, kMode));
  if (!fd.valid()) return Error::os(errno, fmt::format("open {}", path));
  return fd;
}

/// Direct I/O needs blocks as large as the sectors below, which only the kernel knows: ask it by reading one.
Result<> settle_direct(const FileBdev::Config& config, int fd, std::uint64_t size, bool& direct) {
  int sector = 0;
  if (::ioctl(fd, BLKSSZGET, &sector) == 0 && static_cast<std::uint32_t>(sector) > config.block_size) {
    return Error(Errc::kInvalidArgument, fmt::format("{}: block size {} is less than the {} of the device's sectors",
                                                     config.path.string(), config.block_size, sector));
  }
  if (!direct) return {};
  const std::unique_ptr<std::byte, decltype(&std::free)> block(
      static_cast<std::byte*>(std::aligned_alloc(config.block_size, config.block_size)), &std::free);
  const std::uint64_t last = size - config.block_size;
  if (::pread(fd, block.get(), config.block_size,
              static_cast<off_t>(std::min<std::uint64_t>(last, config.block_size))) >= 0)
    return {};
  if (errno != EINVAL) return Error::os(errno, fmt::format("read {}", config.path.string()));
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags & ~O_DIRECT) != 0)
    return Error::os(errno, fmt::format("turn off direct I/O on {}", config.path.string()));
  direct = false;
  return {};
}

Result<std::uint64_t> settle_size(const FileBdev::Config& config, int fd) {
  const auto path = config.path.string();
  struct stat status {};
  if (::fstat(fd, &status) != 0) return Error::os(errno, fmt::format("stat {}", path));
  std::uint64_t actual = static_cast<std::uint64_t>(status.st_size);
  if (S_ISBLK(status.st_mode)) {
    if (::ioctl(fd, BLKGETSIZE64, &actual) != 0) return Error::os(errno, fmt::format("size of {}", path));
  } else if (!S_ISREG(status.st_mode)) {
    return Error(Errc::kInvalidArgument, fmt::format("{} is neither a file nor a block device", path));
  }
  const std::uint64_t size = config.size > 0 ? config.size : actual / config.block_size * config.block_size;
  if (size == 0)
    return Error(Errc::kInvalidArgument, fmt::format("{} is empty: give it a size (file://{}?size=10GiB)", path, path));
  if (S_ISBLK(status.st_mode)) {
    if (size > actual)
      return Error(Errc::kInvalidArgument, fmt::format("{} has {} bytes, {} asked", path, actual, size));
  } else if (actual > size) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("{} has {} bytes, more than the size given ({}): it is not cut", path, actual, size));
  } else if (actual < size && config.fit == FileBdev::Fit::kMake && actual != 0) {
    return Error(Errc::kAlreadyExists,
                 fmt::format("{} is not empty: it has {} bytes, and is not extended to {}", path, actual, size));
  } else if (actual < size && config.fit == FileBdev::Fit::kAsIs) {
    return Error(Errc::kWrongState, fmt::format("{} has shrunk to {} bytes from {}", path, actual, size));
  } else if (actual < size && ::ftruncate(fd, static_cast<off_t>(size)) != 0) {
    return Error::os(errno, fmt::format("extend {} to {} bytes", path, size));
  }
  return size;
}

/// Whether discarded ranges become holes, which read as zeros, or keep what is in them: asked where nothing is lost,
/// behind the end. Block devices refuse the question, and count as not.
bool punches_holes(int fd, std::uint64_t size) {
  constexpr off_t kBytes = 65536;
  return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size), kBytes) == 0;
}

}  // namespace

Result<std::unique_ptr<FileBdev>> FileBdev::open(Config config) {
  if (!std::has_single_bit(config.block_size) || config.block_size < 512 || config.block_size > 65536) {
    return Error(Errc::kInvalidArgument, fmt::format("{}: block size {} is not a power of two from 512 to 65536",
                                                     config.path.string(), config.block_size));
  }
  // Before a file is made of it.
  if (config.size % config.block_size != 0) {
    return Error(Errc::kInvalidArgument, fmt::format("{}: size {} is not a multiple of the block size {}",
                                                     config.path.string(), config.size, config.block_size));
  }
  bool direct = config.direct;
  LEAP_TRY(UniqueFd fd, open_file(config, direct));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return Error(Errc::kBusy, fmt::format("{} is in use by another process", config.path.string()));
    return Error::os(errno, fmt::format("lock {}", config.path.string()));
  }
  LEAP_TRY(const std::uint64_t size, settle_size(config, fd.get()));
  LEAP_TRY_VOID(settle_direct(config, fd.get(), size, direct));
  auto device = std::unique_ptr<FileBdev>(new FileBdev(std::move(fd), config.engine, direct));
  std::error_code ignored;
  const auto absolute = std::filesystem::weakly_canonical(config.path, ignored);
  BlockDeviceInfo& info = device->info_;
  info.name = absolute.empty() ? config.path.string() : absolute.string();
  info.uuid = Uuid::from_name(info.name);
  info.size = size;
  info.block_size = config.block_size;
  info.optimal_io = static_cast<std::uint32_t>(DmaPool::kMaxBuffer);
  info.volatile_write_cache = true;
  info.supports_discard = true;
  info.discard_zeroes = punches_holes(device->fd_.get(), size);
  info.description =
      fmt::format("file {}, {}, {}, {}", info.name, format_bytes(size), direct ? "direct I/O" : "buffered I/O",
                  config.engine == FileEngineKind::kIoUring ? "io_uring" : "pread/pwrite threads");
  return device;
}

FileBdev::FileBdev(UniqueFd fd, FileEngineKind engine, bool direct)
    : fd_(std::move(fd)),
      engine_(engine),
      direct_(direct),
      threads_(engine == FileEngineKind::kThreads ? make_file_threads() : nullptr) {}

Result<std::unique_ptr<BlockChannel>> FileBdev::open_channel(NvmePoller& poller, DmaPool& pool) {
  LEAP_TRY(auto engine, FileEngine::create(engine_, poller, fd_.get(), info_.name, threads_.get()));
  const auto alignment = direct_ ? std::min(info_.block_size, static_cast<std::uint32_t>(DmaPool::kPageSize)) : 1U;
  return std::unique_ptr<BlockChannel>(
      std::make_unique<FileChannel>(poller, pool, info_, lock_, std::move(engine), alignment, sync_failed_));
}

}  // namespace leap
