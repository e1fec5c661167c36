#include "store/store_poller.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "store/block_store.h"

namespace leap {

std::size_t StorePoller::max_buffer() const {
  return std::clamp<std::size_t>(std::bit_floor(pool.capacity() / 8), DmaPool::kPageSize, DmaPool::kMaxBuffer);
}

Task<Result<DmaBuf>> StorePoller::buffer(std::size_t size) {
  if (std::optional<DmaBuf> ready = pool.try_allocate(size)) co_return std::move(*ready);
  // Sessions whose client is quiet may hold most of the pool: what they have staged is written now.
  while (StagedWriter* writer = staged.pop_front()) writer->spill();
  co_return co_await allocate(poller, pool, size);
}

Task<Result<>> StorePoller::flush() {
  if (!needs_flush) co_return Result<>{};
  const std::uint64_t mine = started_ + 1;
  while (finished_ < mine) {
    if (flushing_) {
      flushed_.reset();
      co_await flushed_.wait();
      continue;
    }
    flushing_ = true;
    ++started_;
    probe.device_flushes.add();
    Result<> done = co_await channel->flush();
    if (!done) {
      failed_ = started_;
      flush_epoch.fetch_add(1);
      failure_ = std::move(done).error();
    }
    finished_ = started_;
    flushing_ = false;
    flushed_.set();
  }
  if (failed_ >= mine) co_return *failure_;
  co_return Result<>{};
}

}  // namespace leap
