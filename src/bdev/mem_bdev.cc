#include "bdev/mem_bdev.h"

#include <bit>
#include <cstring>

#include <fmt/format.h>

#include "base/units.h"

namespace leap {
namespace {

/// Memory needs no alignment, no splitting and no waiting: every call is over when it returns.
class MemChannel final : public BlockChannel {
 public:
  MemChannel(const BlockDeviceInfo& info, std::span<std::byte> memory) : info_(info), memory_(memory) {}

  Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) override {
    LEAP_CO_TRY(const auto range, locate("read", offset, buffer.size()));
    if (!range.empty()) std::memcpy(buffer.data(), range.data(), range.size());
    co_return std::move(buffer);
  }
  Task<Result<>> write(std::uint64_t offset, DmaBuf data, Sharing /*sharing*/) override {
    LEAP_CO_TRY(const auto range, locate("write", offset, data.size()));
    if (!range.empty()) std::memcpy(range.data(), data.data(), range.size());
    co_return Result<>{};
  }
  Task<Result<>> flush() override { co_return Result<>{}; }
  Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) override { return write_zeroes(offset, length); }
  Task<Result<>> write_zeroes(std::uint64_t offset, std::uint64_t length) override {
    LEAP_CO_TRY(const auto range, locate("write zeroes", offset, length));
    if (!range.empty()) std::memset(range.data(), 0, range.size());
    co_return Result<>{};
  }

 private:
  Result<std::span<std::byte>> locate(const char* operation, std::uint64_t offset, std::uint64_t length) const {
    if (offset > memory_.size() || length > memory_.size() - offset) {
      return Error(Errc::kInvalidArgument, fmt::format("{} {} bytes at {} on {}: the device has {} bytes", operation,
                                                       length, offset, info_.name, memory_.size()));
    }
    return memory_.subspan(offset, length);
  }

  const BlockDeviceInfo& info_;
  std::span<std::byte> memory_;
};

}  // namespace

Result<std::unique_ptr<MemBdev>> MemBdev::create(Config config) {
  if (!std::has_single_bit(config.block_size) || config.block_size < 512 || config.block_size > 65536) {
    return Error(
        Errc::kInvalidArgument,
        fmt::format("memory device: block size {} is not a power of two from 512 to 65536", config.block_size));
  }
  if (config.size == 0 || config.size % config.block_size != 0) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("memory device: size {} is not a positive multiple of its block size {}", config.size,
                             config.block_size));
  }
  LEAP_TRY(auto arena, HugePageArena::create({.size = config.size, .highest = PageKind::kTransparent}));
  BlockDeviceInfo info;
  info.name = config.name;
  info.uuid = Uuid::from_name(config.name);
  info.size = config.size;
  info.block_size = config.block_size;
  info.optimal_io = static_cast<std::uint32_t>(DmaPool::kMaxBuffer);
  info.supports_discard = true;
  info.discard_zeroes = true;
  info.description = fmt::format("memory, {}", format_bytes(config.size));
  return std::unique_ptr<MemBdev>(new MemBdev(std::move(info), std::move(arena)));
}

Result<std::unique_ptr<BlockChannel>> MemBdev::open_channel(NvmePoller& /*poller*/, DmaPool& /*pool*/) {
  return std::unique_ptr<BlockChannel>(std::make_unique<MemChannel>(info_, mapped()));
}

}  // namespace leap
