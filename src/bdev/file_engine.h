// FileEngine: asynchronous I/O on one file for one poller: io_uring where the kernel and the container allow it, a few
// threads with pread/pwrite where they do not. which() says what runs.
//
// Threading: created, used and destroyed on its poller's thread. Destruction waits for what is in flight: the kernel
// must not write into a buffer that has been given back.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "memory/dma_pool.h"
#include "poller/blocking_pool.h"
#include "poller/poller.h"

namespace leap {

enum class FileEngineKind : std::uint8_t { kIoUring, kThreads };

class FileEngine {
 public:
  virtual ~FileEngine() = default;
  /// Fills the whole buffer; the end of the file inside it is an error (kIo): somebody cut the file.
  virtual Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) = 0;
  virtual Task<Result<>> write(std::uint64_t offset, DmaBuf data) = 0;
  virtual Task<Result<>> datasync() = 0;
  /// fallocate(2) with `mode` (punch hole, zero range).
  virtual Task<Result<>> allocate(int mode, std::uint64_t offset, std::uint64_t length) = 0;
  [[nodiscard]] virtual std::string_view which() const = 0;

  /// `fd` stays the caller's and must outlive the engine. kThreads works on `threads`, which may be shared and must
  /// outlive the engine, or else on a few of its own. Error: os, when the kind is not available here.
  static Result<std::unique_ptr<FileEngine>> create(FileEngineKind kind, NvmePoller& poller, int fd, std::string name,
                                                    BlockingPool* threads = nullptr);
  /// io_uring if this process may use it (checked once), else threads.
  static FileEngineKind best();
};

Result<std::unique_ptr<FileEngine>> make_uring_engine(NvmePoller& poller, int fd, std::string name);
std::unique_ptr<FileEngine> make_thread_engine(NvmePoller& poller, int fd, std::string name, BlockingPool* threads);
/// The threads that kThreads engines of one file share.
std::unique_ptr<BlockingPool> make_file_threads();

}  // namespace leap
