#include "bdev/nvme_bdev.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/mutation.h"
#include "base/units.h"
#include "bdev/chunked_channel.h"
#include "bdev/nvme_lanes.h"
#include "nvme/nvm_command.h"
#include "poller/dma_await.h"

namespace leap {
namespace {

using nvme::DataDirection;

class NvmeChannel final : public ChunkedChannel {
 public:
  NvmeChannel(NvmePoller& poller, DmaPool& pool, NvmeBdev& device, RangeLock& lock)
      : ChunkedChannel(poller, pool, device.info(), lock),
        device_(device),
        ns_(device.ns()),
        lanes_(device, poller, pool),
        losses_seen_(device.losses()) {}

 protected:
  Task<Result<DmaBuf>> read_aligned(std::uint64_t offset, DmaBuf buffer) override {
    const nvme::Command command = nvme::make_read(ns_.nsid, lba(offset), blocks(buffer.size()));
    return perform({"read", offset, 0}, command, std::move(buffer), DataDirection::kControllerToHost);
  }

  Task<Result<>> write_aligned(std::uint64_t offset, DmaBuf data) override {
    const nvme::Command command = nvme::make_write(ns_.nsid, lba(offset), blocks(data.size()));
    const std::uint64_t size = data.size();
    const Result<DmaBuf> written =
        co_await perform({"write", offset, size}, command, std::move(data), DataDirection::kHostToController);
    if (!written.ok()) co_return written.error();
    co_return Result<>{};
  }

  Task<Result<>> flush_all() override {
    // Without a volatile write cache every completed write is durable (NVMe Base 2.0, 7.1).
    if (!ns_.volatile_write_cache || LEAP_MUTATION(flush_not_sent)) co_return Result<>{};
    Result<> flushed = co_await run({"flush", 0, 0, true}, nvme::make_flush(ns_.nsid));
    const std::uint64_t losses = device_.losses();
    if (flushed.ok() && std::exchange(losses_seen_, losses) != losses) {
      flushed = Error(Errc::kIo, fmt::format("flush of {}: a controller was lost with writes in its volatile cache; "
                                             "what was written since the flush before counts as lost",
                                             info_.name))
                    .with_scope(ErrorScope::kDevice);
    }
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
      const Intent intent{"write zeroes", first * ns_.block_size, std::uint64_t{count} * ns_.block_size};
      Result<> zeroed = co_await run(intent, nvme::make_write_zeroes(ns_.nsid, first, count));
      if (!zeroed.ok()) co_return of_several(std::move(zeroed).error(), first > lba(offset));
      first += count;
      left -= count;
    }
    co_return Result<>{};
  }

 private:
  /// What a command is for. `changes`: bytes from `offset` that it changes; 0: it may be executed any number of times.
  struct Intent {
    const char* operation;
    std::uint64_t offset;
    std::uint64_t changes;
    bool flush = false;
    [[nodiscard]] std::uint64_t end() const { return offset + changes; }
  };

  [[nodiscard]] std::uint64_t lba(std::uint64_t offset) const { return offset / ns_.block_size; }
  [[nodiscard]] std::uint32_t blocks(std::uint64_t size) const {
    return static_cast<std::uint32_t>(size / ns_.block_size);
  }

  /// The error of an operation of several commands: the earlier ones, if any, have been executed.
  [[nodiscard]] static Error of_several(Error error, bool earlier) {
    if (earlier) return std::move(error).maybe_executed();
    return error;
  }

  /// One command until it has succeeded, or may not or need not be sent again. Hands the buffer back.
  Task<Result<DmaBuf>> perform(Intent intent, nvme::Command command, DmaBuf data, DataDirection direction) {
    std::uint32_t refusals = 0;
    bool fenced = false;                   // the range is closed on our account: what we repeat is the same bytes
    TimePoint give_up = TimePoint::max();  // known when something has gone wrong
    bool doubtful = false;                 // some attempt may have been executed, whatever became of the last
    for (;;) {
      if (intent.changes != 0 && !fenced && !device_.fence().open(intent.offset, intent.end(), poller_.now()))
          [[unlikely]] {
        LEAP_CO_TRY_VOID(co_await wait_for_fence(intent));
      }
      NvmeLanes::Lane* lane = lanes_.pick();
      if (lane == nullptr) {
        if (give_up == TimePoint::max()) give_up = poller_.clock().now() + device_.config().fast_io_fail_timeout;
        Result<NvmeLanes::Lane*> waited = co_await lanes_.wait(give_up);
        if (!waited.ok()) co_return explain(std::move(waited).error(), intent, doubtful);
        lane = waited.value();
      }
      const NvmeLanes::Ticket ticket(lanes_, *lane);
      command.nsid = nvme::Nsid(lane->path->nsid.load(std::memory_order_relaxed));
      // A queue pair that fails keeps the buffer until its transport has let go of it; the memory stays ours through this.
      DmaBuf kept = data.valid() ? data.slice(0, data.size()) : DmaBuf();
      const bool flush = intent.flush;
      if (flush) lane->path->unflushed.store(false, std::memory_order_release);
      CommandResult result = co_await lane->queue.queue->execute(command, std::move(data), direction);
      if (result.status.ok()) [[likely]] {
        if (intent.changes != 0 && ns_.volatile_write_cache) lane->path->mark_unflushed();
        co_return std::move(result.data);
      }
      if (flush) lane->path->mark_unflushed();  // nobody knows what it has covered
      const Error& error = result.status.error();
      doubtful = doubtful || error.may_have_executed();
      // What the controller has answered, with whatever status, is over. What it has not may still come.
      if (error.domain() != ErrorDomain::kNvme && error.may_have_executed() && intent.changes != 0) {
        device_.fence().close(intent.offset, intent.end(), lane->queue.association->fence(), std::move(result.fence));
        device_.probe().fenced.add();
        fenced = true;
      }
      if (!error.retryable()) co_return explain(std::move(result.status).error(), intent, doubtful);
      if (give_up == TimePoint::max()) give_up = poller_.clock().now() + device_.config().fast_io_fail_timeout;
      const bool path_failed = error.scope() == ErrorScope::kQueuePair || error.scope() == ErrorScope::kController;
      const bool enough = path_failed ? poller_.clock().now() >= give_up : refusals >= device_.config().retries;
      if (enough) co_return explain(std::move(result.status).error(), intent, doubtful);
      device_.probe().retries.add();
      if (path_failed) {
        if (flush) device_.count_loss();
        device_.probe().failovers.add();
        lanes_.avoid(*lane);
        if (!result.data.valid()) co_await let_go(*lane);
      } else {
        co_await pause(*lane, error, refusals++);
      }
      data = result.data.valid() ? std::move(result.data) : std::move(kept);
    }
  }

  Task<Result<>> run(Intent intent, nvme::Command command) {
    const Result<DmaBuf> done = co_await perform(intent, command, DmaBuf(), DataDirection::kNone);
    if (!done.ok()) co_return done.error();
    co_return Result<>{};
  }

  Task<Result<>> deallocate(nvme::DsmRange range) {
    LEAP_CO_TRY(DmaBuf data, co_await allocate(poller_, pool_, sizeof(nvme::DsmRange)));
    std::memcpy(data.data(), &range, sizeof range);
    const Intent intent{"discard", range.slba * ns_.block_size, std::uint64_t{range.blocks} * ns_.block_size};
    const Result<DmaBuf> done =
        co_await perform(intent, nvme::make_dsm(ns_.nsid, 1), std::move(data), DataDirection::kHostToController);
    if (!done.ok()) co_return done.error();
    co_return Result<>{};
  }

  /// Until the transport of a failed queue pair can no longer touch the memory of its requests: nearly always at once.
  Task<void> let_go(const NvmeLanes::Lane& lane) {
    constexpr Nanos kLook = std::chrono::milliseconds(1);
    while (lane.queue.queue->state() == QueuePairState::kFailed) co_await poller_.sleep_for(kLook);
  }

  /// Until a write that was lost before this one was sent can no longer be executed.
  Task<Result<>> wait_for_fence(Intent intent) {
    constexpr Nanos kLook = std::chrono::milliseconds(2);
    device_.probe().fence_waits.add();
    while (!device_.fence().open(intent.offset, intent.end(), poller_.clock().now())) co_await poller_.sleep_for(kLook);
    co_return Result<>{};
  }

  /// What the controller asks for (CRD, NVMe Base 2.0, 3.3.3.2), or at once the first time, then ever longer.
  [[nodiscard]] NvmePoller::SleepAwaiter pause(const NvmeLanes::Lane& lane, const Error& error,
                                               std::uint32_t refusals) const {
    constexpr std::uint32_t kLongest = 100;
    const std::uint8_t crd = error.nvme_status().crd;
    if (crd != 0) return poller_.sleep_for(lane.queue.association->info().retry_delays[crd - 1U]);
    const std::uint32_t ms = refusals == 0 ? 0 : std::min(1U << std::min(refusals - 1, 10U), kLongest);
    return poller_.sleep_for(std::chrono::milliseconds(ms));
  }

  [[nodiscard]] Error explain(Error error, const Intent& intent, bool doubtful) const {
    return std::move(error).maybe_executed(doubtful).context(
        fmt::format("{} at {} on {}", intent.operation, intent.offset, info_.name));
  }

  NvmeBdev& device_;
  const NamespaceInfo& ns_;
  NvmeLanes lanes_;
  std::uint64_t losses_seen_;
};

}  // namespace

Result<std::unique_ptr<NvmeBdev>> NvmeBdev::create(ControllerLink& link, const NamespaceInfo& ns, Config config) {
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
  auto device = std::unique_ptr<NvmeBdev>(new NvmeBdev(ns, config));
  BlockDeviceInfo& info = device->info_;
  info.name = name;
  info.uuid = ns.uuid;
  info.size = ns.size();
  info.block_size = ns.block_size;
  info.optimal_io = std::min(most_blocks, nvme::kMaxBlocksPerCommand) * ns.block_size;
  info.volatile_write_cache = ns.volatile_write_cache;
  info.supports_discard = ns.supports(nvme::kOncsDatasetManagement);
  const auto association = link.association();
  const std::string who =
      association != nullptr ? fmt::format("{} ({}), ", association->info().model, association->info().serial) : "";
  info.description =
      fmt::format("{}namespace {} of {}, {}", who, ns.nsid.value(), link.name(), format_bytes(info.size));
  device->paths_.push_back(std::make_unique<NvmePath>(link, ns.nsid));
  device->path_count_.store(1, std::memory_order_release);
  return device;
}

Result<> NvmeBdev::add_path(ControllerLink& link, const NamespaceInfo& ns) {
  const bool same = ns.uuid == ns_.uuid && !ns.uuid_is_derived && !ns_.uuid_is_derived && ns.blocks == ns_.blocks &&
                    ns.block_size == ns_.block_size;
  if (!same || std::min(ns.max_transfer, config_.max_io) < info_.optimal_io) {
    return Error(Errc::kAlreadyExists,
                 fmt::format("namespace {} of {} has the UUID of {}, but not its size, format or limits: not used",
                             ns.nsid.value(), link.name(), info_.name));
  }
  const std::lock_guard lock(mutex_);
  paths_.push_back(std::make_unique<NvmePath>(link, ns.nsid));
  path_count_.store(static_cast<std::uint32_t>(paths_.size()), std::memory_order_release);
  return {};
}

void NvmeBdev::refresh(const ControllerLink& link, const std::vector<NamespaceInfo>& namespaces) {
  for (NvmePath* path : paths()) {
    if (&path->link != &link) continue;
    const void* const association = link.association().get();
    const bool same_as_before = std::exchange(path->association_seen, association) == association;
    if (!same_as_before && path->unflushed.exchange(false, std::memory_order_acq_rel)) count_loss();
    const auto found = std::ranges::find_if(namespaces, [&](const NamespaceInfo& ns) { return ns.uuid == ns_.uuid; });
    const bool there = found != namespaces.end();
    const bool same = there && found->block_size == ns_.block_size && found->blocks >= ns_.blocks;
    if (there) path->nsid.store(found->nsid.value(), std::memory_order_relaxed);
    if (same && found->blocks > ns_.blocks) {
      log_info("{}: has grown at {} to {}; used up to {} until the next start", info_.name, link.name(),
               format_bytes(found->size()), format_bytes(info_.size));
    }
    if (path->present.exchange(same, std::memory_order_acq_rel) == same) continue;
    if (same)
      log_info("{}: back at {} as namespace {}", info_.name, link.name(), found->nsid.value());
    else
      log_error("{}: {} at {}: not used there", info_.name, there ? "has shrunk or changed its format" : "is gone",
                link.name());
  }
}

std::uint64_t NvmeBdev::losses() {
  for (NvmePath* path : paths()) {
    if (!path->usable() && path->unflushed.exchange(false, std::memory_order_acq_rel)) count_loss();
  }
  return losses_.load(std::memory_order_acquire);
}

bool NvmeBdev::online() const {
  return std::ranges::any_of(paths(), [](const NvmePath* path) { return path->usable(); });
}

std::vector<NvmePath*> NvmeBdev::paths() const {
  const std::lock_guard lock(mutex_);
  std::vector<NvmePath*> all;
  for (const auto& path : paths_) all.push_back(path.get());
  return all;
}

Result<std::unique_ptr<BlockChannel>> NvmeBdev::open_channel(NvmePoller& poller, DmaPool& pool) {
  return std::unique_ptr<BlockChannel>(std::make_unique<NvmeChannel>(poller, pool, *this, lock_));
}

}  // namespace leap
