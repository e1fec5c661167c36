// co_await allocate(poller, pool, size): a DMA buffer, waiting for room if there is none (back-pressure, in FIFO
// order).
//
//   LEAP_CO_TRY(DmaBuf buffer, co_await allocate(poller, pool, 128 * 1024));
//
// Threading: the poller that owns the pool. Destroying the waiting task withdraws the request.
#pragma once

#include <coroutine>
#include <cstddef>
#include <optional>
#include <utility>

#include "memory/dma_pool.h"
#include "poller/poller.h"

namespace leap {

class DmaAwaiter final : private DmaPool::Waiter {
 public:
  DmaAwaiter(NvmePoller& poller, DmaPool& pool, std::size_t size) : poller_(poller), pool_(pool), size_(size) {}

  bool await_ready() {
    Result<> queued = pool_.allocate(size_, *this);
    if (!queued.ok()) outcome_.emplace(std::move(queued).error());
    return outcome_.has_value();
  }
  void await_suspend(std::coroutine_handle<> handle) { resumer_.set(handle); }
  Result<DmaBuf> await_resume() { return std::move(*outcome_); }

 private:
  void on_buffer(DmaBuf buffer) override {
    outcome_.emplace(std::move(buffer));
    if (resumer_.waiting()) poller_.schedule(resumer_);
  }

  NvmePoller& poller_;
  DmaPool& pool_;
  std::size_t size_;
  Resumer resumer_;
  std::optional<Result<DmaBuf>> outcome_;
};

/// Errors: kInvalidArgument when the pool can never serve `size`.
[[nodiscard]] inline DmaAwaiter allocate(NvmePoller& poller, DmaPool& pool, std::size_t size) {
  return DmaAwaiter(poller, pool, size);
}

}  // namespace leap
