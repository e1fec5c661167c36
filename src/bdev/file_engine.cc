#include "bdev/file_engine.h"

#include <liburing.h>

namespace leap {

FileEngineKind FileEngine::best() {
  static const FileEngineKind kind = [] {
    io_uring ring{};
    if (io_uring_queue_init(2, &ring, 0) != 0) return FileEngineKind::kThreads;
    io_uring_queue_exit(&ring);
    return FileEngineKind::kIoUring;
  }();
  return kind;
}

Result<std::unique_ptr<FileEngine>> FileEngine::create(FileEngineKind kind, NvmePoller& poller, int fd,
                                                       std::string name, BlockingPool* threads) {
  if (kind == FileEngineKind::kIoUring) return make_uring_engine(poller, fd, std::move(name));
  return make_thread_engine(poller, fd, std::move(name), threads);
}

}  // namespace leap
