// StorePoller: one poller's share of a store: its channel to the device, its buffers, its group flush. Internal to the
// room.
//
// Threading: that poller's thread only.
//
//   LEAP_CO_TRY(DmaBuf buffer, co_await at.buffer(65536));      // waits; asks idle writers for theirs before it does
//   LEAP_CO_TRY_VOID(co_await at.flush());                      // shares one device flush with everybody waiting
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/intrusive_list.h"
#include "base/metrics.h"
#include "bdev/block_device.h"
#include "poller/dma_await.h"
#include "poller/sync.h"

namespace leap {

struct StoreProbe;

/// A writer that holds a staged buffer and is not using it right now.
class StagedWriter : public IntrusiveListNode {
 public:
  virtual ~StagedWriter() = default;
  /// Starts writing what is staged, so that its buffer comes back. May do nothing.
  virtual void spill() = 0;
};

struct StorePoller {
  StorePoller(NvmePoller& its_poller, DmaPool& its_pool, StoreProbe& its_probe, std::atomic<std::uint64_t>& epoch,
              bool volatile_cache)
      : poller(its_poller),
        pool(its_pool),
        probe(its_probe),
        flush_epoch(epoch),
        needs_flush(volatile_cache),
        gathering(its_poller, 1),
        flushed_(its_poller) {}

  NvmePoller& poller;
  DmaPool& pool;
  StoreProbe& probe;
  std::atomic<std::uint64_t>& flush_epoch;  ///< of the device: StoreCore::flush_epoch
  const bool needs_flush;                   ///< the device has a volatile write cache
  std::unique_ptr<BlockChannel> channel;
  AsyncSemaphore gathering;  ///< one task at a time may wait for buffers while it holds some: no deadlock
  IntrusiveList<StagedWriter> staged;
  Counter bytes_read;     ///< from the device, whole pages
  Counter bytes_written;  ///< to the device, padding included

  /// The largest buffer to ask this pool for, so that several users fit.
  [[nodiscard]] std::size_t max_buffer() const;
  /// `size` bytes, 1..max_buffer(). Waits for room.
  Task<Result<DmaBuf>> buffer(std::size_t size);
  /// Everything written through any channel before this call is durable, unless it belongs to an earlier flush_epoch:
  /// what a failed flush has dropped, no later one brings back. Free when the device has no volatile cache.
  Task<Result<>> flush();

 private:
  // Flush number n covers everyone who came before it started.
  AsyncEvent flushed_;
  bool flushing_ = false;
  std::uint64_t started_ = 0;
  std::uint64_t finished_ = 0;
  std::uint64_t failed_ = 0;  // the last number that failed
  std::optional<Error> failure_;
};

}  // namespace leap
