// PollerThread: a running poller with its own arena and buffer pool, for tests.
#pragma once

#include <memory>
#include <utility>

#include "memory/arena.h"
#include "memory/dma_pool.h"
#include "poller/poller.h"

namespace leap::test {

class PollerThread {
 public:
  explicit PollerThread(std::uint64_t pool_bytes = 64ULL << 20, NvmePoller::Config config = {})
      : arena_(HugePageArena::create({.size = pool_bytes, .highest = PageKind::kSmall}).value()),
        poller_(NvmePoller::create(std::move(config)).value()),
        pool_(std::make_unique<DmaPool>(arena_.memory())) {
    poller_->start().value();
  }
  ~PollerThread() { poller_->stop(); }

  [[nodiscard]] NvmePoller& poller() { return *poller_; }
  [[nodiscard]] DmaPool& pool() { return *pool_; }

  /// Runs make(poller) -> Task<T> on the poller and returns its result.
  template <typename Make>
  auto run(Make make) {
    return poller_->run(std::move(make));
  }

 private:
  HugePageArena arena_;
  std::unique_ptr<NvmePoller> poller_;
  std::unique_ptr<DmaPool> pool_;
};

}  // namespace leap::test
