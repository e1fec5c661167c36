// Superblock: who a device is. 4 KiB, checksummed, at both ends of the device.
//
//   0                64 KiB   1 MiB                                     size - 64 KiB      size
//   +----------------+--------+------------------------------------------+------------------+
//   | superblock     | spare  | data: extents of blocks, 4 KiB pages     | superblock copy  |
//   | lease (+4 KiB) |        |                                          |                  |
//   +----------------+--------+------------------------------------------+------------------+
//
// A device is bound by what is written here, never by its position or name. The copy with the higher epoch wins; a
// damaged one is rewritten from the other. Encoding is pure; the I/O functions are tasks on a channel.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "bdev/block_device.h"
#include "poller/task.h"
#include "store/types.h"

namespace leap {

struct Superblock {
  static constexpr std::size_t kBytes = 4096;
  static constexpr std::uint64_t kArea = 64 * 1024;  ///< at each end of the device
  static constexpr std::uint64_t kDataStart = 1024 * 1024;
  static constexpr std::uint64_t kLeaseOffset = 4096;  ///< within the first area
  static constexpr std::uint32_t kVersion = 1;         ///< the newest format this code reads and writes
  static constexpr std::size_t kMaxClusterId = 127;
  static constexpr std::uint64_t kMinDeviceSize = 4 * kDataStart;

  std::uint32_t version = kVersion;
  Uuid device_uuid;     ///< of this formatting of the device
  Uuid namespace_uuid;  ///< what the device called itself when it was formatted; nil: nothing
  Uuid storage_id;      ///< of the data directory
  std::uint32_t worker_id = 0;
  std::string cluster_id;
  std::uint64_t device_size = 0;  ///< bytes
  std::uint32_t block_size = 0;   ///< of the device, bytes
  std::uint64_t data_start = 0;   ///< first byte for extents
  std::uint64_t data_end = 0;     ///< one past the last
  std::uint64_t epoch = 0;        ///< grows with every open
  std::int64_t created_ms = 0;    ///< wall clock

  [[nodiscard]] std::uint64_t data_bytes() const { return data_end - data_start; }
  friend bool operator==(const Superblock&, const Superblock&) = default;
};

/// Geometry and identity for a device of this size. kInvalidArgument: too small, bad block size, bad cluster id.
Result<Superblock> make_superblock(const BlockDeviceInfo& device, std::string_view cluster_id, std::uint32_t worker_id,
                                   const Uuid& storage_id);

void encode_superblock(const Superblock& superblock, std::span<std::byte, Superblock::kBytes> out);

/// kNotFound: no superblock there; kCorrupt: damaged; kUnsupported: written by a newer version. Checks every field.
Result<Superblock> decode_superblock(std::span<const std::byte> bytes);

struct LoadedSuperblock {
  Superblock superblock;
  bool repair_first = false;  ///< the copy at the start is damaged or behind
  bool repair_last = false;
};

/// Reads both copies. kNotFound (not formatted), kCorrupt (both damaged), kUnsupported, kWrongState (device smaller
/// than recorded), device errors. A device that has grown is fine: the copy at its recorded end is used.
Task<Result<LoadedSuperblock>> load_superblock(BlockChannel& channel, NvmePoller& poller, DmaPool& pool,
                                               std::uint64_t device_size);

/// The first byte that is not zero in what formatting takes for itself: [0, kDataStart) and the last kArea. Nothing: all
/// zeros, which is how a device that nobody uses looks. File systems, partition tables and RAID members show up there.
Task<Result<std::optional<std::uint64_t>>> find_foreign_data(BlockChannel& channel, NvmePoller& poller, DmaPool& pool,
                                                             std::uint64_t device_size);

/// Writes the copy at the end, then the one at the start, flushing after each: one of them is always whole.
Task<Result<>> store_superblock(BlockChannel& channel, NvmePoller& poller, DmaPool& pool, Superblock superblock);

}  // namespace leap
