// TestDevice: a device in memory that misbehaves on request.
//
// It has a volatile cache like a real one: a write is durable only after a flush that was issued after the write had
// completed. lose_power() throws away (or keeps, page by page, as a seed says) what was not flushed. Contents start as
// 0xA5, so that whoever reads space that was never written sees a previous tenant; zeros where the superblocks go, as on
// a device that may be formatted.
//
// Threading: any number of pollers; a mutex around the memory. Every I/O suspends at least once.
#pragma once

#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "base/random.h"
#include "bdev/block_device.h"

namespace leap::test {

class TestDevice final : public BlockDevice {
 public:
  static constexpr std::byte kPoison{0xA5};
  static constexpr std::uint64_t kPage = 4096;

  explicit TestDevice(std::uint64_t size, bool volatile_cache = true) : now_(size, kPoison), durable_(size, kPoison) {
    info_.name = "test";
    info_.uuid = Uuid::from_name("test");
    info_.size = size;
    info_.block_size = 512;
    info_.optimal_io = 128 * 1024;
    info_.volatile_write_cache = volatile_cache;
    const std::vector<std::byte> head(std::min(size, kDataStart)), tail(std::min<std::uint64_t>(size, 128 * 1024));
    overwrite(0, head);
    overwrite(size - tail.size(), tail);
  }

  [[nodiscard]] const BlockDeviceInfo& info() const override { return info_; }
  [[nodiscard]] bool online() const override { return true; }
  Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& /*pool*/) override {
    return std::unique_ptr<BlockChannel>(std::make_unique<Channel>(*this, poller));
  }

  // --- faults, any thread ---

  /// The `n`-th write from now on (0: the next) and, if `all_after`, every later one fails.
  void fail_writes(int n, bool all_after, bool may_have_executed = false) {
    const std::lock_guard lock(mutex_);
    fail_write_in_ = n;
    fail_all_writes_ = all_after;
    maybe_executed_ = may_have_executed;
  }
  void fail_reads(int n) {
    const std::lock_guard lock(mutex_);
    fail_read_in_ = n;
  }
  void fail_flushes(int n) {
    const std::lock_guard lock(mutex_);
    fail_flush_in_ = n;
  }
  void heal() {
    const std::lock_guard lock(mutex_);
    fail_write_in_ = fail_read_in_ = fail_flush_in_ = -1;
    fail_all_writes_ = false;
  }
  /// Writes wait until released.
  void hold_writes(bool hold) {
    const std::lock_guard lock(mutex_);
    hold_writes_ = hold;
  }
  [[nodiscard]] int held_writes() const {
    const std::lock_guard lock(mutex_);
    return held_;
  }
  /// What was not flushed is lost; each such page survives with the given probability (a drive writes back when it
  /// likes).
  void lose_power(Rng& rng, double survival = 0.0) {
    const std::lock_guard lock(mutex_);
    for (const std::uint64_t page : unflushed_) {
      if (rng.chance(survival)) std::memcpy(durable_.data() + page * kPage, now_.data() + page * kPage, kPage);
    }
    unflushed_.clear();
    now_ = durable_;
  }
  void flip_byte(std::uint64_t offset) {
    const std::lock_guard lock(mutex_);
    now_[offset] ^= std::byte{0x40};
    durable_[offset] ^= std::byte{0x40};
  }
  void overwrite(std::uint64_t offset, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    std::memcpy(now_.data() + offset, bytes.data(), bytes.size());
    std::memcpy(durable_.data() + offset, bytes.data(), bytes.size());
  }
  [[nodiscard]] std::vector<std::byte> peek(std::uint64_t offset, std::size_t size) const {
    const std::lock_guard lock(mutex_);
    return {now_.begin() + static_cast<std::ptrdiff_t>(offset),
            now_.begin() + static_cast<std::ptrdiff_t>(offset + size)};
  }
  /// As if a smaller device had been plugged in.
  void shrink(std::uint64_t size) { info_.size = size; }

  [[nodiscard]] std::uint64_t writes() const { return count(writes_); }
  [[nodiscard]] std::uint64_t reads() const { return count(reads_); }
  [[nodiscard]] std::uint64_t flushes() const { return count(flushes_); }
  [[nodiscard]] std::uint64_t bytes_written() const { return count(bytes_written_); }
  /// Writes that were not whole pages or not marked exclusive, and writes that overlapped one in flight.
  [[nodiscard]] std::uint64_t violations() const { return count(violations_); }
  /// How often each page of the data area was written.
  [[nodiscard]] std::uint64_t most_writes_of_a_page() const {
    const std::lock_guard lock(mutex_);
    std::uint64_t most = 0;
    for (const auto& [page, n] : page_writes_) most = std::max(most, n);
    return most;
  }
  void forget_counts() {
    const std::lock_guard lock(mutex_);
    page_writes_.clear();
    writes_ = reads_ = flushes_ = bytes_written_ = violations_ = 0;
  }

 private:
  static constexpr std::uint64_t kDataStart = 1 << 20;

  class Channel final : public BlockChannel {
   public:
    Channel(TestDevice& device, NvmePoller& poller) : device_(device), poller_(poller) {}

    Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) override {
      co_await poller_.yield();
      Result<> read = device_.do_read(offset, buffer.bytes());
      if (!read) co_return std::move(read).error();
      co_return std::move(buffer);
    }
    Task<Result<>> write(std::uint64_t offset, DmaBuf data, Sharing sharing) override {
      device_.begin_write(offset, data.size(), sharing);
      co_await poller_.yield();
      while (device_.is_held()) co_await poller_.sleep_for(std::chrono::microseconds(200));
      co_return device_.do_write(offset, data.bytes());
    }
    Task<Result<>> flush() override {
      std::set<std::uint64_t> covered = device_.begin_flush();
      co_await poller_.yield();
      co_return device_.do_flush(std::move(covered));
    }
    Task<Result<>> discard(std::uint64_t /*offset*/, std::uint64_t /*length*/) override { co_return Result<>{}; }
    Task<Result<>> write_zeroes(std::uint64_t offset, std::uint64_t length) override {
      const std::vector<std::byte> zeros(length);
      device_.overwrite(offset, zeros);
      co_return Result<>{};
    }

   private:
    TestDevice& device_;
    NvmePoller& poller_;
  };

  static bool due(int& countdown) {
    if (countdown < 0) return false;
    return countdown-- == 0;
  }
  Error fault(const char* what) const {
    return Error(Errc::kIo, std::string("test device: ") + what).maybe_executed(maybe_executed_);
  }

  void begin_write(std::uint64_t offset, std::uint64_t size, BlockChannel::Sharing sharing) {
    const std::lock_guard lock(mutex_);
    if (offset >= kDataStart &&
        (offset % kPage != 0 || size % kPage != 0 || sharing != BlockChannel::Sharing::kExclusive)) {
      ++violations_;
    }
    for (std::uint64_t page = offset / kPage; page <= (offset + size - 1) / kPage; ++page) {
      if (!in_flight_.insert(page).second) ++violations_;
      if (offset >= kDataStart) ++page_writes_[page];
    }
    if (hold_writes_ && offset >= kDataStart) ++held_;
  }
  bool is_held() const {
    const std::lock_guard lock(mutex_);
    return hold_writes_;
  }
  Result<> do_write(std::uint64_t offset, std::span<const std::byte> data) {
    const std::lock_guard lock(mutex_);
    ++writes_;
    bytes_written_ += data.size();
    for (std::uint64_t page = offset / kPage; page <= (offset + data.size() - 1) / kPage; ++page)
      in_flight_.erase(page);
    if (offset + data.size() > info_.size) return fault("write past the end");
    if (due(fail_write_in_) || (fail_all_writes_ && fail_write_in_ < 0)) return fault("write failed on purpose");
    std::memcpy(now_.data() + offset, data.data(), data.size());
    for (std::uint64_t page = offset / kPage; page <= (offset + data.size() - 1) / kPage; ++page) {
      if (info_.volatile_write_cache)
        unflushed_.insert(page);
      else
        std::memcpy(durable_.data() + page * kPage, now_.data() + page * kPage, kPage);
    }
    return {};
  }
  Result<> do_read(std::uint64_t offset, std::span<std::byte> into) {
    const std::lock_guard lock(mutex_);
    ++reads_;
    if (offset + into.size() > info_.size) return fault("read past the end");
    if (due(fail_read_in_)) return fault("read failed on purpose");
    std::memcpy(into.data(), now_.data() + offset, into.size());
    return {};
  }
  std::set<std::uint64_t> begin_flush() {
    const std::lock_guard lock(mutex_);
    return unflushed_;
  }
  Result<> do_flush(std::set<std::uint64_t> covered) {
    const std::lock_guard lock(mutex_);
    ++flushes_;
    if (due(fail_flush_in_)) return fault("flush failed on purpose");
    for (const std::uint64_t page : covered) {
      std::memcpy(durable_.data() + page * kPage, now_.data() + page * kPage, kPage);
      unflushed_.erase(page);
    }
    return {};
  }
  [[nodiscard]] std::uint64_t count(const std::uint64_t& counter) const {
    const std::lock_guard lock(mutex_);
    return counter;
  }

  BlockDeviceInfo info_;
  mutable std::mutex mutex_;
  std::vector<std::byte> now_;
  std::vector<std::byte> durable_;
  std::set<std::uint64_t> unflushed_;
  std::set<std::uint64_t> in_flight_;
  std::map<std::uint64_t, std::uint64_t> page_writes_;
  int fail_write_in_ = -1;
  int fail_read_in_ = -1;
  int fail_flush_in_ = -1;
  bool fail_all_writes_ = false;
  bool maybe_executed_ = false;
  bool hold_writes_ = false;
  int held_ = 0;
  std::uint64_t writes_ = 0, reads_ = 0, flushes_ = 0, bytes_written_ = 0, violations_ = 0;
};

}  // namespace leap::test
