// BlockDevice and BlockChannel: a device addressed in bytes, from many pollers.
//
// A BlockDevice is the thing itself (identity, size, limits), shared and thread-safe. A BlockChannel is one poller's
// way to it: its own queue pairs or ring, used on that poller's thread only, any number of I/Os in flight. NvmeBdev,
// FileBdev and MemBdev implement the pair; the block store, the target and the benchmarks do not know which they have.
//
//   auto channel = device.open_channel(poller, pool).value();
//   LEAP_CO_TRY(DmaBuf data, co_await channel->read(8192, std::move(buf)));       // fills buf.size() bytes
//   LEAP_CO_TRY_VOID(co_await channel->write(8192, std::move(data)));
//   LEAP_CO_TRY_VOID(co_await channel->flush());                                  // durable from here on
//
// Offsets and lengths are bytes and may be anything inside the device: what is not aligned to block_size() is done by
// read-modify-write under a range lock. Aligned I/O, which is what the store does, never is.
//
// Ownership: an I/O takes its buffer along and gives it back when it is over, never earlier (DESIGN rule 4.1). When an
// I/O fails with may_have_executed(), its buffer is gone: the device may still be using it; it returns to the pool by
// itself.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/uuid.h"
#include "memory/dma_pool.h"
#include "poller/poller.h"

namespace leap {

class BlockChannel;

struct BlockDeviceInfo {
  std::string name;                   ///< stable and unique in the process: "nvme-<uuid>", the path of a file
  Uuid uuid;                          ///< of the namespace (UUID, else NGUID); nil when the device has none
  std::uint64_t size = 0;             ///< bytes
  std::uint32_t block_size = 0;       ///< bytes, power of two: alignment of the device's own reads and writes
  std::uint32_t optimal_io = 0;       ///< bytes: larger I/O is split at this size
  bool volatile_write_cache = false;  ///< true: a write is durable only after flush()
  bool supports_discard = false;
  bool discard_zeroes = false;  ///< what has been discarded (whole blocks) reads as zeros
  std::string description;      ///< one line for people: model, transport, address
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  [[nodiscard]] virtual const BlockDeviceInfo& info() const = 0;
  /// False while the device cannot be reached (controller lost, file gone): opening channels and I/O will fail.
  [[nodiscard]] virtual bool online() const = 0;

  /// Called on `poller`'s thread; the channel lives, is used and dies there, or after the poller has stopped. It
  /// outlives the tasks that use it: nobody may be waiting for an I/O of a channel that is destroyed. `pool` supplies
  /// bounce and RMW buffers.
  virtual Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& pool) = 0;

  /// The device's memory, if it is memory (mem: devices): lets the target serve it without a copy. Empty otherwise.
  [[nodiscard]] virtual std::span<std::byte> mapped() { return {}; }
};

class BlockChannel {
 public:
  virtual ~BlockChannel() = default;

  /// Who else may be writing. kExclusive promises that no other write in flight shares a device block with this one
  /// (the store owns its extents); it must be aligned, and skips the range lock.
  enum class Sharing : std::uint8_t { kShared, kExclusive };

  // An empty buffer or a length of 0 is a success that does nothing, inside the device.

  /// Fills `buffer` (its whole size) from `offset` and hands it back.
  /// Errors: kInvalidArgument (past the end), nvme, transport, os.
  virtual Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) = 0;
  /// Writes the whole of `data`. Not durable before a later flush() unless the device has no volatile cache.
  virtual Task<Result<>> write(std::uint64_t offset, DmaBuf data, Sharing sharing = Sharing::kShared) = 0;
  /// Returns when every write completed before this call is durable.
  virtual Task<Result<>> flush() = 0;
  /// Tells the device that [offset, offset + length) is no longer needed. Contents afterwards are undefined. Best
  /// effort: success on devices that cannot.
  virtual Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) = 0;
  /// Makes the range read as zeros.
  virtual Task<Result<>> write_zeroes(std::uint64_t offset, std::uint64_t length) = 0;
};

}  // namespace leap
