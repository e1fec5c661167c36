// TestDevice: a block device that does what a test tells it: hold I/O back, fail, lose what was not flushed.
//
// Not mapped, so the target uses its channels. Writes land in a volatile cache; flush() makes them durable;
// power_loss() forgets the rest. With cache off, writes are durable at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdev/block_device.h"
#include "poller/sync.h"

namespace leap::target::testing {

class TestDevice final : public BlockDevice {
 public:
  struct Options {
    std::uint64_t size = 1 << 20;
    std::uint32_t block_size = 512;
    bool volatile_cache = true;
    std::string name = "test";
  };
  explicit TestDevice(Options options) : cache_(options.size), durable_(options.size) {
    info_.name = options.name;
    info_.size = options.size;
    info_.block_size = options.block_size;
    info_.optimal_io = 65536;
    info_.volatile_write_cache = options.volatile_cache;
    info_.supports_discard = true;
  }

  [[nodiscard]] const BlockDeviceInfo& info() const override { return info_; }
  [[nodiscard]] bool online() const override { return true; }
  Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& /*pool*/) override {
    if (refuse_channels) return Error(Errc::kUnreachable, "device is away");
    poller_ = &poller;
    ++channels;
    return std::unique_ptr<BlockChannel>(std::make_unique<Channel>(*this));
  }

  /// I/O waits until let_go().
  void hold() { held_.emplace(*poller_); }
  void let_go() {
    if (held_) held_->set();
  }
  [[nodiscard]] std::span<std::byte> contents() { return cache_; }
  [[nodiscard]] std::span<const std::byte> durable() const { return durable_; }

  std::optional<Error> fail_with;  ///< every I/O, until cleared
  bool refuse_channels = false;
  std::size_t channels = 0;
  std::size_t reads = 0, writes = 0, flushes = 0, discards = 0, zeroes = 0;
  std::size_t in_flight = 0;

 private:
  class Channel final : public BlockChannel {
   public:
    explicit Channel(TestDevice& device) : device_(device) {}
    ~Channel() override { --device_.channels; }
    Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) override {
      ++device_.reads;
      LEAP_CO_TRY_VOID(co_await device_.enter());
      std::memcpy(buffer.data(), device_.cache_.data() + offset, buffer.size());
      co_return std::move(buffer);
    }
    Task<Result<>> write(std::uint64_t offset, DmaBuf data, Sharing /*sharing*/) override {
      ++device_.writes;
      LEAP_CO_TRY_VOID(co_await device_.enter());
      std::memcpy(device_.cache_.data() + offset, data.data(), data.size());
      if (!device_.info_.volatile_write_cache) device_.durable_ = device_.cache_;
      co_return Result<>{};
    }
    Task<Result<>> flush() override {
      ++device_.flushes;
      LEAP_CO_TRY_VOID(co_await device_.enter());
      device_.durable_ = device_.cache_;
      co_return Result<>{};
    }
    Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) override {
      ++device_.discards;
      LEAP_CO_TRY_VOID(co_await device_.enter());
      std::memset(device_.cache_.data() + offset, 0xDD, length);
      co_return Result<>{};
    }
    Task<Result<>> write_zeroes(std::uint64_t offset, std::uint64_t length) override {
      ++device_.zeroes;
      LEAP_CO_TRY_VOID(co_await device_.enter());
      std::memset(device_.cache_.data() + offset, 0, length);
      co_return Result<>{};
    }

   private:
    TestDevice& device_;
  };

  Task<Result<>> enter() {
    ++in_flight;
    if (held_) co_await held_->wait();
    --in_flight;
    if (fail_with) co_return *fail_with;
    co_return Result<>{};
  }

  BlockDeviceInfo info_;
  std::vector<std::byte> cache_;
  std::vector<std::byte> durable_;
  NvmePoller* poller_ = nullptr;
  std::optional<AsyncEvent> held_;
};

}  // namespace leap::target::testing
