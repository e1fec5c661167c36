#include "store/store_core.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"

namespace leap {

StoreCore::StoreCore(BlockStore::Config its_config, BlockDevice& its_device)
    : config(std::move(its_config)), device(its_device), crc_cache(config.crc_cache_bytes) {}

StoreCore::~StoreCore() {
  // What is still parked gives its space back through members that are declared before the index.
  expire_parked(TimePoint::max());
}

Result<StoreCore::Use> StoreCore::enter() {
  uses_.fetch_add(1);
  Use use(*this);
  if (closing_.load()) return Error(Errc::kClosed, config.name + " is closed").in(ErrorDomain::kStore);
  return use;
}

void StoreCore::leave() {
  if (uses_.fetch_sub(1) != 1 || !closing_.load()) return;
  const std::lock_guard lock(unused_mutex_);
  unused_.notify_all();
}

bool StoreCore::wait_unused(Nanos timeout) {
  std::unique_lock lock(unused_mutex_);
  return unused_.wait_for(lock, timeout, [this] { return uses_.load() == 0; });
}

StorePoller& StoreCore::at(NvmePoller& poller) {
  LEAP_DCHECK(poller.on_this_thread(), "a store operation runs on its own poller");
  for (const std::unique_ptr<StorePoller>& each : pollers) {
    if (&each->poller == &poller) return *each;
  }
  LEAP_CHECK(false, fmt::format("{} was not opened for poller {}", config.name, poller.name()));
}

Result<> StoreCore::check_owner(const char* operation, BlockId id) const {
  if (!fenced()) return {};
  return Error(Errc::kBusy, fmt::format("{} block {}: the device belongs to another worker now", operation, id))
      .in(ErrorDomain::kStore);
}

void StoreCore::fence(const Error& why) {
  if (fenced_.exchange(true)) return;
  log_error("{}: no more writes: {}", config.name, why.to_string());
}

void StoreCore::free_extents(const std::vector<Extent>& extents) {
  for (const Extent& extent : extents) {
    const Result<> freed = allocator->free(extent);
    // Keeping it allocated wastes it until the next start; handing it out twice would destroy data.
    if (!freed) log_error("{}: {}", config.name, freed.error().to_string());
  }
}

void StoreCore::reclaim(std::vector<Extent> extents, MetaBatch garbage) {
  free_extents(extents);
  if (!garbage.empty() && queue != nullptr) queue->post(std::move(garbage));
}

void StoreCore::drop_pending(PendingWrite& pending) {
  allocator->unreserve(std::exchange(pending.reserved, 0));
  if (pending.uncertain) {
    std::uint64_t bytes = 0;
    for (const Extent& extent : pending.owned) bytes += extent.length;
    draining_bytes.fetch_add(bytes);
    const std::lock_guard lock(draining_mutex_);
    draining_.insert(draining_.end(), pending.owned.begin(), pending.owned.end());
    if (bytes != 0) log_warn("{}: block {}: {} bytes stay unused until a restart", config.name, pending.id, bytes);
    return;
  }
  free_extents(pending.owned);
}

void StoreCore::free_draining() {
  const std::lock_guard lock(draining_mutex_);
  free_extents(std::exchange(draining_, {}));
  draining_bytes = 0;
}

SpaceInfo StoreCore::space() const {
  const BdevOffsetAllocator::Stats stats = allocator->stats();
  SpaceInfo info;
  info.capacity = capacity;
  info.allocated = stats.allocated;
  info.reserved = stats.reserved;
  info.free = capacity - std::min(capacity, stats.allocated);
  info.available = stats.free - std::min(stats.free, stats.reserved);
  info.largest_free_extent = stats.largest_free;
  info.draining = draining_bytes.load();
  info.quarantined = quarantined_bytes.load();
  info.blocks = finalized.load();
  info.blocks_writing = writing.load();
  info.fragmentation = stats.fragmentation;
  return info;
}

namespace {

// A blocking read that leaves nothing behind in the caller's frame but its result.
Task<Result<CrcSegment>> fetch_segment(StorePoller& at, BlockingPool& blocking, BdevMetaStore& meta, BlockId id,
                                       std::uint64_t generation, std::uint32_t index) {
  co_return co_await blocking.run(at.poller,
                                  [&meta, id, generation, index] { return meta.load_crcs(id, generation, index); });
}

}  // namespace

Task<Result<std::shared_ptr<const CrcSegment>>> StoreCore::load_segment(StorePoller& at, BlockId id,
                                                                        const std::vector<CrcRun>& runs,
                                                                        std::uint32_t segment) {
  using Segment = std::shared_ptr<const CrcSegment>;
  const std::optional<std::uint64_t> generation = crc_generation(runs, segment);
  if (!generation) {
    co_return Error(Errc::kCorrupt, fmt::format("block {}: no checksums for segment {}", id, segment))
        .in(ErrorDomain::kStore);
  }
  if (Segment cached = crc_cache.find(id, *generation, segment)) co_return cached;
  probe.crc_loads.add();
  LEAP_CO_TRY(CrcSegment loaded, co_await fetch_segment(at, *blocking, *meta, id, *generation, segment));
  Segment shared = std::make_shared<const CrcSegment>(std::move(loaded));
  crc_cache.insert(shared);
  co_return shared;
}

Error StoreCore::checksum_error(BlockId id, std::uint64_t offset, std::uint64_t device_offset, std::uint32_t expected,
                                std::uint32_t found) {
  probe.checksum_errors.add();
  {
    BlockIndex::Locked block = index.lock(id);
    if (BlockEntry* entry = block.find()) entry->flags |= BlockEntry::kDamaged;
  }
  Error error =
      Error(Errc::kCorrupt, fmt::format("block {} offset {}: checksum of the page at device offset {} is {:08x}, "
                                        "should be {:08x}",
                                        id, offset, device_offset, found, expected))
          .in(ErrorDomain::kStore);
  log_error("{}: {}", config.name, error.message());
  return error;
}

}  // namespace leap
