// FileEngine over pread/pwrite on a few threads: where io_uring is not allowed, and as the plain VFS path to compare
// with.

#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>

#include "base/sys.h"
#include "bdev/file_engine.h"
#include "poller/blocking_pool.h"

namespace leap {
namespace {

constexpr std::size_t kThreads = 4;

/// Calls `step(done)` until `size` bytes are through; returns how many were, or -errno.
template <typename Step>
ssize_t complete_transfer(std::size_t size, Step step) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = step(done);
    if (n == -EINTR) continue;
    if (n < 0) return n;
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return static_cast<ssize_t>(done);
}

class ThreadEngine final : public FileEngine {
 public:
  ThreadEngine(NvmePoller& poller, int fd, std::string name, BlockingPool* threads)
      : poller_(poller),
        fd_(fd),
        name_(std::move(name)),
        own_(threads == nullptr ? make_file_threads() : nullptr),
        threads_(threads != nullptr ? *threads : *own_) {}

  Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) override {
    const std::size_t size = buffer.size();
    std::byte* data = buffer.data();
    const int fd = fd_;
    const ssize_t got = co_await threads_.run(poller_, [fd, data, size, offset] {
      return complete_transfer(size, [=](std::size_t done) {
        return sys::pread(fd, data + done, size - done, static_cast<std::int64_t>(offset + done));
      });
    });
    if (got < 0)
      co_return Error::os(static_cast<int>(-got), fmt::format("read {} bytes at {} of {}", size, offset, name_));
    if (static_cast<std::size_t>(got) != size) {
      co_return Error(Errc::kIo,
                      fmt::format("read {} bytes at {} of {}: the file ends after {}", size, offset, name_, got));
    }
    co_return std::move(buffer);
  }

  Task<Result<>> write(std::uint64_t offset, DmaBuf data) override {
    const std::size_t size = data.size();
    const std::byte* from = data.data();
    const int fd = fd_;
    const ssize_t put = co_await threads_.run(poller_, [fd, from, size, offset] {
      return complete_transfer(size, [=](std::size_t done) {
        return sys::pwrite(fd, from + done, size - done, static_cast<std::int64_t>(offset + done));
      });
    });
    if (put < 0)
      co_return Error::os(static_cast<int>(-put), fmt::format("write {} bytes at {} of {}", size, offset, name_));
    if (static_cast<std::size_t>(put) != size) {
      co_return Error(Errc::kNoSpace,
                      fmt::format("write {} bytes at {} of {}: only {} were taken", size, offset, name_, put));
    }
    co_return Result<>{};
  }

  Task<Result<>> datasync() override {
    const int fd = fd_;
    const int result = co_await threads_.run(poller_, [fd] { return sys::fdatasync(fd); });
    if (result < 0) co_return Error::os(-result, fmt::format("flush {}", name_));
    co_return Result<>{};
  }

  Task<Result<>> allocate(int mode, std::uint64_t offset, std::uint64_t length) override {
    const int fd = fd_;
    const int failed = co_await threads_.run(poller_, [fd, mode, offset, length] {
      return ::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0 ? 0 : errno;
    });
    if (failed != 0) co_return Error::os(failed, fmt::format("fallocate {} bytes at {} of {}", length, offset, name_));
    co_return Result<>{};
  }

  [[nodiscard]] std::string_view which() const override { return "pread/pwrite threads"; }

 private:
  NvmePoller& poller_;
  const int fd_;
  const std::string name_;
  const std::unique_ptr<BlockingPool> own_;
  BlockingPool& threads_;
};

}  // namespace

std::unique_ptr<BlockingPool> make_file_threads() {
  return std::make_unique<BlockingPool>(BlockingPool::Config{.name = "leap-file", .threads = kThreads});
}

std::unique_ptr<FileEngine> make_thread_engine(NvmePoller& poller, int fd, std::string name, BlockingPool* threads) {
  return std::make_unique<ThreadEngine>(poller, fd, std::move(name), threads);
}

}  // namespace leap
