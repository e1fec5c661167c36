// ChunkedChannel: any offset and length on top of a device that takes aligned I/O of bounded size.
//
// The one place for the rules every real device shares: bounds, splitting at optimal_io with all chunks in flight at
// once, and read-modify-write of unaligned edges under the device's range lock. A transport implements the *_aligned
// calls.
//
// What is aligned and fits one chunk (all the store's I/O) is passed straight on, without another coroutine in between.
// Unaligned I/O, and writing zeros by hand, goes through one bounce buffer that the channel keeps from its first use
// on, one at a time: it can never wait for buffers that its callers hold. When the pool has not even one block for it:
// kExhausted, retryable.
#pragma once

#include <optional>

#include "bdev/block_device.h"
#include "bdev/range_lock.h"
#include "poller/sync.h"

namespace leap {

class ChunkedChannel : public BlockChannel {
 public:
  Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) final;
  Task<Result<>> write(std::uint64_t offset, DmaBuf data, Sharing sharing) final;
  Task<Result<>> flush() final { return flush_all(); }
  Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) final;
  Task<Result<>> write_zeroes(std::uint64_t offset, std::uint64_t length) final;

 protected:
  /// `info` and `lock` belong to the device and outlive the channel. `memory_alignment`, a power of two up to
  /// block_size and 4096: what the device asks of addresses; buffers that lie elsewhere (slices) go through the bounce
  /// buffer.
  ChunkedChannel(NvmePoller& poller, DmaPool& pool, const BlockDeviceInfo& info, RangeLock& lock,
                 std::uint32_t memory_alignment = 1);

  // What a device implements: offset and size are multiples of block_size, inside the device, at most optimal_io bytes
  // (discard and write_zeroes: any multiple).
  virtual Task<Result<DmaBuf>> read_aligned(std::uint64_t offset, DmaBuf buffer) = 0;
  virtual Task<Result<>> write_aligned(std::uint64_t offset, DmaBuf data) = 0;
  virtual Task<Result<>> flush_all() = 0;
  virtual Task<Result<>> discard_aligned(std::uint64_t offset, std::uint64_t length) = 0;
  virtual Task<Result<>> write_zeroes_aligned(std::uint64_t offset, std::uint64_t length) = 0;

  /// For devices that cannot zero a range by themselves.
  Task<Result<>> write_plain_zeroes(std::uint64_t offset, std::uint64_t length);

  NvmePoller& poller_;
  DmaPool& pool_;
  const BlockDeviceInfo& info_;

 private:
  [[nodiscard]] bool aligned(std::uint64_t offset, const DmaBuf& buffer) const {
    const auto address = reinterpret_cast<std::uintptr_t>(buffer.data());
    return ((offset | buffer.size()) & (info_.block_size - 1)) == 0 && (address & (memory_alignment_ - 1)) == 0;
  }
  [[nodiscard]] bool inside(std::uint64_t offset, std::uint64_t length) const {
    return offset <= info_.size && length <= info_.size - offset;
  }
  /// One command of the device, as it is.
  [[nodiscard]] bool fits(std::uint64_t offset, const DmaBuf& buffer) const {
    return aligned(offset, buffer) && buffer.size() > 0 && buffer.size() <= info_.optimal_io &&
           inside(offset, buffer.size());
  }
  [[nodiscard]] std::uint64_t round_down(std::uint64_t offset) const {
    return offset & ~std::uint64_t{info_.block_size - 1};
  }
  [[nodiscard]] std::uint64_t round_up(std::uint64_t offset) const { return round_down(offset + info_.block_size - 1); }
  [[nodiscard]] Result<> check_range(const char* operation, std::uint64_t offset, std::uint64_t length) const;

  Task<Result<DmaBuf>> read_split(std::uint64_t offset, DmaBuf buffer);
  Task<Result<DmaBuf>> read_unaligned(std::uint64_t offset, DmaBuf buffer);
  Task<Result<>> write_locked(std::uint64_t offset, DmaBuf data);
  Task<Result<>> write_split(std::uint64_t offset, DmaBuf data);
  /// Read-modify-write of [offset, offset + length), zeros when there is no source. Under the range lock; `source`
  /// outlives it.
  Task<Result<>> modify(std::uint64_t offset, std::uint64_t length, const std::byte* source);
  Task<Result<DmaBuf>> fill_edges(std::uint64_t begin, std::uint64_t end, std::uint64_t keep_before,
                                  std::uint64_t keep_after, DmaBuf bounce);
  Task<Result<>> zero_range(std::uint64_t offset, std::uint64_t length);
  static Task<void> read_part(ChunkedChannel& self, std::uint64_t offset, DmaBuf part, Result<>& outcome);
  /// What became of the parts of a write.
  struct Parts {
    Result<> outcome;      ///< the first failure
    bool changed = false;  ///< some part has, or may have, changed the device
  };
  static Task<void> write_part(ChunkedChannel& self, std::uint64_t offset, DmaBuf part, Parts& parts);

  Result<DmaBuf> take_bounce();
  void keep_bounce(DmaBuf bounce);

  RangeLock& lock_;
  const std::uint32_t memory_alignment_;
  AsyncSemaphore bounce_turn_;
  DmaBuf bounce_;
};

}  // namespace leap
