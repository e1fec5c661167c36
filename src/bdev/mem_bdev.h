// MemBdev: a block device in this process's memory (mem:?size=...). Contents start as zeros and die with it.
#pragma once

#include "bdev/block_device.h"
#include "memory/arena.h"

namespace leap {

class MemBdev final : public BlockDevice {
 public:
  struct Config {
    std::uint64_t size = 0;           ///< bytes, a multiple of block_size
    std::uint32_t block_size = 4096;  ///< bytes, a power of two from 512 to 64 KiB
    std::string name = "mem";         ///< unique in the process; the UUID derives from it
  };
  /// Memory is taken from the system as it is touched. Errors: kInvalidArgument, kExhausted.
  static Result<std::unique_ptr<MemBdev>> create(Config config);

  [[nodiscard]] const BlockDeviceInfo& info() const override { return info_; }
  [[nodiscard]] bool online() const override { return true; }
  Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& pool) override;
  [[nodiscard]] std::span<std::byte> mapped() override { return arena_.memory().first(info_.size); }

 private:
  MemBdev(BlockDeviceInfo info, HugePageArena arena) : info_(std::move(info)), arena_(std::move(arena)) {}

  BlockDeviceInfo info_;
  HugePageArena arena_;
};

}  // namespace leap
