// FaultyDevice: a block device in memory that fails or stalls when a test says so. Behind a target it is what the other
// side of the wire does.
//
//   FaultyDevice device({.size = 1 << 20});
//   device.fail_next(FaultyDevice::kWrite, 2, Error(Errc::kBusy, "not ready"));    // the next two writes
//   device.stall(true);                                                           // I/O waits until stall(false)
//
// Threading: everything from any thread; channels on their pollers.
#pragma once

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdev/block_device.h"

namespace leap::test {

class FaultyDevice final : public BlockDevice {
 public:
  enum Operation : std::uint8_t { kRead, kWrite, kFlush, kDiscard, kZero };
  struct Options {
    std::uint64_t size = 1 << 20;
    std::uint32_t block_size = 512;
    bool volatile_cache = true;
    bool supports_discard = true;
    std::string name = "faulty";
  };

  explicit FaultyDevice(Options options) : bytes_(options.size) {
    info_.name = options.name;
    info_.uuid = Uuid::from_name(options.name);
    info_.size = options.size;
    info_.block_size = options.block_size;
    info_.optimal_io = 1U << 20;
    info_.volatile_write_cache = options.volatile_cache;
    info_.supports_discard = options.supports_discard;
    info_.description = "a device that does what a test says";
  }

  [[nodiscard]] const BlockDeviceInfo& info() const override { return info_; }
  [[nodiscard]] bool online() const override { return true; }
  Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& /*pool*/) override {
    return std::unique_ptr<BlockChannel>(std::make_unique<Channel>(*this, poller));
  }

  void fail_next(Operation operation, int times, Error error) {
    const std::lock_guard lock(mutex_);
    faults_[operation].times = times;
    faults_[operation].error = std::move(error);
  }
  void stall(bool yes) { stalled_.store(yes); }
  /// Operations begun, failed ones included.
  [[nodiscard]] std::size_t count(Operation operation) const { return counts_[operation].load(); }
  [[nodiscard]] std::size_t waiting() const { return waiting_.load(); }
  /// Not while I/O is under way.
  [[nodiscard]] std::vector<std::byte>& bytes() { return bytes_; }

 private:
  struct Fault {
    int times = 0;
    std::optional<Error> error;
  };

  class Channel final : public BlockChannel {
   public:
    Channel(FaultyDevice& device, NvmePoller& poller) : device_(device), poller_(poller) {}
    Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) override {
      LEAP_CO_TRY_VOID(co_await device_.begin(kRead, poller_));
      const std::lock_guard lock(device_.mutex_);
      std::memcpy(buffer.data(), device_.bytes_.data() + offset, buffer.size());
      co_return std::move(buffer);
    }
    Task<Result<>> write(std::uint64_t offset, DmaBuf data, Sharing /*sharing*/) override {
      LEAP_CO_TRY_VOID(co_await device_.begin(kWrite, poller_));
      const std::lock_guard lock(device_.mutex_);
      std::memcpy(device_.bytes_.data() + offset, data.data(), data.size());
      co_return Result<>{};
    }
    Task<Result<>> flush() override {
      LEAP_CO_TRY_VOID(co_await device_.begin(kFlush, poller_));
      co_return Result<>{};
    }
    Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) override {
      LEAP_CO_TRY_VOID(co_await device_.begin(kDiscard, poller_));
      const std::lock_guard lock(device_.mutex_);
      std::memset(device_.bytes_.data() + offset, 0xDD, length);
      co_return Result<>{};
    }
    Task<Result<>> write_zeroes(std::uint64_t offset, std::uint64_t length) override {
      LEAP_CO_TRY_VOID(co_await device_.begin(kZero, poller_));
      const std::lock_guard lock(device_.mutex_);
      std::memset(device_.bytes_.data() + offset, 0, length);
      co_return Result<>{};
    }

   private:
    FaultyDevice& device_;
    NvmePoller& poller_;
  };

  std::optional<Error> fault(Operation operation) {
    const std::lock_guard lock(mutex_);
    Fault& fault = faults_[operation];
    if (fault.times == 0) return std::nullopt;
    --fault.times;
    return fault.error;
  }

  Task<Result<>> begin(Operation operation, NvmePoller& poller) {
    counts_[operation].fetch_add(1);
    waiting_.fetch_add(1);
    while (stalled_.load()) co_await poller.sleep_for(std::chrono::milliseconds(1));
    waiting_.fetch_sub(1);
    if (auto error = fault(operation)) co_return std::move(*error);
    co_return Result<>{};
  }

  BlockDeviceInfo info_;
  std::mutex mutex_;  // bytes_ and faults_
  std::vector<std::byte> bytes_;
  std::array<Fault, 5> faults_;
  std::array<std::atomic<std::size_t>, 5> counts_{};
  std::atomic<bool> stalled_{false};
  std::atomic<std::size_t> waiting_{0};
};

}  // namespace leap::test
