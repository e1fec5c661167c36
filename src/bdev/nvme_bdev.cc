#include "bdev/nvme_bdev.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/mutation.h"
#include "base/units.h"
#include "bdev/chunked_channel.h"
#include "nvme/nvm_command.h"
#include "poller/dma_await.h"

namespace leap {
namespace {

class NvmeChannel final : public ChunkedChannel {
 public:
  NvmeChannel(NvmePoller& poller, DmaPool& pool, const BlockDeviceInfo& info, RangeLock& lock,
              NvmeController& controller, const NamespaceInfo& ns, std::uint32_t retries)
      : ChunkedChannel(poller, pool, info, lock), controller_(controller), ns_(ns), retries_(retries) {}

 protected:
  Task<Result<DmaBuf>> read_aligned(std::uint64_t offset, DmaBuf buffer) override {
    const nvme::Command command = nvme::make_read(ns_.nsid, lba(offset), blocks(buffer.size()));
    for (std::uint32_t attempt = 0;; ++attempt) {
      if (!ready()) LEAP_CO_TRY_VOID(co_await connect());
      CommandResult result =
          co_await queue_->execute(command, std::move(buffer), nvme::DataDirection::kControllerToHost);
      if (result.status.ok()) co_return std::move(result.data);
      // Reading twice changes nothing, so it does not matter whether the first one was executed.
      const bool again = attempt < retries_ && result.status.error().retryable() && result.data.valid();
      if (!again) co_return explain(std::move(result.status).error(), "read", offset);
      buffer = std::move(result.data);
      co_await pause(attempt);
    }
  }

  Task<Result<>> write_aligned(std::uint64_t offset, DmaBuf data) override {
    const nvme::Command command = nvme::make_write(ns_.nsid, lba(offset), blocks(data.size()));
    for (std::uint32_t attempt = 0;; ++attempt) {
      if (!ready()) LEAP_CO_TRY_VOID(co_await connect());
      CommandResult result = co_await queue_->execute(command, std::move(data), nvme::DataDirection::kHostToController);
      if (result.status.ok()) co_return Result<>{};
      const bool again = worth_repeating(result.status.error(), attempt) && result.data.valid();
      if (!again) co_return explain(std::move(result.status).error(), "write", offset);
      data = std::move(result.data);
      co_await pause(attempt);
    }
  }

  Task<Result<>> flush_all() override {
    // Without a volatile write cache every completed write is durable (NVMe Base 2.0, 7.1).
    if (!ns_.volatile_write_cache || LEAP_MUTATION(flush_not_sent)) co_return Result<>{};
    Result<> flushed = co_await run(nvme::make_flush(ns_.nsid), "flush", 0);
    co_return flushed;
  }

  Task<Result<>> discard_aligned(std::uint64_t offset, std::uint64_t length) override {
    constexpr std::uint64_t kMaxBlocks = UINT32_MAX;
    for (std::uint64_t first = lba(offset), left = length / ns_.block_size; left > 0;) {
      nvme::DsmRange range;
      range.blocks = static_cast<std::uint32_t>(std::min(left, kMaxBlocks));
      range.slba = first;
      Result<> discarded = co_await deallocate(range);
      if (!discarded.ok()) co_return of_several(std::move(discarded).error(), first > lba(offset));
      first += range.blocks;
      left -= range.blocks;
    }
    co_return Result<>{};
  }

  Task<Result<>> write_zeroes_aligned(std::uint64_t offset, std::uint64_t length) override {
    if (!ns_.supports(nvme::kOncsWriteZeroes)) {
      Result<> written = co_await write_plain_zeroes(offset, length);
      co_return written;
    }
    for (std::uint64_t first = lba(offset), left = length / ns_.block_size; left > 0;) {
      const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, nvme::kMaxBlocksPerCommand));
      Result<> zeroed =
          co_await run(nvme::make_write_zeroes(ns_.nsid, first, count), "write zeroes", first * ns_.block_size);
      if (!zeroed.ok()) co_return of_several(std::move(zeroed).error(), first > lba(offset));
      first += count;
      left -= count;
    }
    co_return Result<>{};
  }

 private:
  [[nodiscard]] std::uint64_t lba(std::uint64_t offset) const { return offset / ns_.block_size; }
  [[nodiscard]] std::uint32_t blocks(std::uint64_t size) const {
    return static_cast<std::uint32_t>(size / ns_.block_size);
  }
  [[nodiscard]] bool ready() const { return queue_ != nullptr && queue_->live(); }

  /// The error of an operation of several commands: the earlier ones, if any, have been executed.
  [[nodiscard]] static Error of_several(Error error, bool earlier) {
    if (earlier) return std::move(error).maybe_executed();
    return error;
  }

  /// Only what certainly did not execute: repeating can then undo nothing newer.
  [[nodiscard]] bool worth_repeating(const Error& error, std::uint32_t attempt) const {
    const bool harmless = !error.may_have_executed() || LEAP_MUTATION(retries_what_may_have_executed);
    return attempt < retries_ && error.retryable() && harmless;
  }

  /// At once the first time, then ever longer: a controller that is busy, or a namespace that is not ready, needs time.
  [[nodiscard]] NvmePoller::SleepAwaiter pause(std::uint32_t attempt) const {
    constexpr std::uint32_t kLongest = 100;
    const std::uint32_t ms = attempt == 0 ? 0 : std::min(1U << std::min(attempt - 1, 10U), kLongest);
    return poller_.sleep_for(std::chrono::milliseconds(ms));
  }

  Task<Result<>> connect() {
    Result<QueuePair*> queue = co_await controller_.open_io_queue(poller_, pool_);
    if (!queue.ok()) {
      // A lost controller refuses without a wait: who asks again and again must not take everybody else's turns.
      co_await poller_.yield();
      co_return std::move(queue).error().context(info_.name);
    }
    queue_ = queue.value();
    co_return Result<>{};
  }

  Task<Result<>> run(nvme::Command command, const char* operation, std::uint64_t offset) {
    for (std::uint32_t attempt = 0;; ++attempt) {
      if (!ready()) LEAP_CO_TRY_VOID(co_await connect());
      CommandResult result = co_await queue_->execute(command);
      if (result.status.ok()) co_return Result<>{};
      if (!worth_repeating(result.status.error(), attempt))
        co_return explain(std::move(result.status).error(), operation, offset);
      co_await pause(attempt);
    }
  }

  Task<Result<>> deallocate(nvme::DsmRange range) {
    LEAP_CO_TRY(DmaBuf data, co_await allocate(poller_, pool_, sizeof(nvme::DsmRange)));
    std::memcpy(data.data(), &range, sizeof range);
    const nvme::Command command = nvme::make_dsm(ns_.nsid, 1);
    for (std::uint32_t attempt = 0;; ++attempt) {
      if (!ready()) LEAP_CO_TRY_VOID(co_await connect());
      CommandResult result = co_await queue_->execute(command, std::move(data), nvme::DataDirection::kHostToController);
      if (result.status.ok()) co_return Result<>{};
      const bool again = worth_repeating(result.status.error(), attempt) && result.data.valid();
      if (!again) co_return explain(std::move(result.status).error(), "discard", range.slba * ns_.block_size);
      data = std::move(result.data);
      co_await pause(attempt);
    }
  }

  [[nodiscard]] Error explain(Error error, const char* operation, std::uint64_t offset) const {
    return std::move(error).context(fmt::format("{} at {} on {}", operation, offset, info_.name));
  }

  NvmeController& controller_;
  const NamespaceInfo& ns_;
  const std::uint32_t retries_;
  QueuePair* queue_ = nullptr;  // the controller's; lives as long as it
};

}  // namespace

Result<std::unique_ptr<NvmeBdev>> NvmeBdev::create(NvmeController& controller, const NamespaceInfo& ns, Config config) {
  const std::string name = fmt::format("nvme-{}", ns.uuid.to_string());
  constexpr std::uint32_t kLargestBlock = 64 * 1024;
  if (ns.block_size > kLargestBlock) {
    return Error(Errc::kUnsupported,
                 fmt::format("{}: blocks of {} bytes (at most {})", name, ns.block_size, kLargestBlock));
  }
  const std::uint32_t most_blocks = std::min(ns.max_transfer, config.max_io) / ns.block_size;
  if (most_blocks == 0) {
    return Error(Errc::kInvalidArgument, fmt::format("{}: at most {} bytes per command, less than a block of {}", name,
                                                     std::min(ns.max_transfer, config.max_io), ns.block_size));
  }
  auto device = std::unique_ptr<NvmeBdev>(new NvmeBdev(controller, ns, config));
  BlockDeviceInfo& info = device->info_;
  info.name = name;
  info.uuid = ns.uuid;
  info.size = ns.size();
  info.block_size = ns.block_size;
  info.optimal_io = std::min(most_blocks, nvme::kMaxBlocksPerCommand) * ns.block_size;
  info.volatile_write_cache = ns.volatile_write_cache;
  info.supports_discard = ns.supports(nvme::kOncsDatasetManagement);
  const ControllerInfo& identity = controller.info();
  info.description = fmt::format("{} ({}), namespace {} of {} at {}, {}", identity.model, identity.serial,
                                 ns.nsid.value(), identity.subnqn, identity.endpoint, format_bytes(info.size));
  return device;
}

Result<std::unique_ptr<BlockChannel>> NvmeBdev::open_channel(NvmePoller& poller, DmaPool& pool) {
  return std::unique_ptr<BlockChannel>(
      std::make_unique<NvmeChannel>(poller, pool, info_, lock_, controller_, ns_, config_.retries));
}

}  // namespace leap
