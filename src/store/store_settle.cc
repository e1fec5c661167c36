// Changes of which nobody knows whether they are on the disk: a write or sync of the metadata failed half way. The
// metadata shows the state before, and the next write of it that succeeds makes that certain (BdevMetaStore::write).
//
// Until then the block refuses writes and removal, a new one stays in the index without a session, and the space that
// the change gave to it is nobody's ("draining"). Whoever wants the block next settles it, and so does its Cancel.
#include <fmt/format.h>

#include "base/log.h"
#include "store/store_core.h"

namespace leap {
namespace {

// A change that changes nothing.
MetaBatch probe_batch() {
  MetaBatch batch;
  batch.erase(MetaFamily::kSystem, "probe");
  return batch;
}

}  // namespace

void StoreCore::leave_unsettled(BlockId id, std::vector<Extent> space) {
  std::uint64_t bytes = 0;
  for (const Extent& extent : space) bytes += extent.length;
  draining_bytes.fetch_add(bytes);
  log_warn("{}: block {}: a change of its metadata failed half way; {} bytes stay unused until it is settled",
           config.name, id, bytes);
  {
    const std::lock_guard lock(unsettled_mutex_);
    unsettled_[id] = std::move(space);
  }
  const BlockIndex::Locked block = index.lock(id);
  if (BlockEntry* const entry = block.find()) entry->flags |= BlockEntry::kUncertain;
}

bool StoreCore::all_settled() {
  const std::lock_guard lock(unsettled_mutex_);
  return unsettled_.empty();
}

bool StoreCore::is_unsettled(BlockId id) {
  const std::lock_guard lock(unsettled_mutex_);
  return unsettled_.contains(id);
}

Task<Result<>> StoreCore::settle(StorePoller& at, BlockId id) {
  if (!is_unsettled(id)) co_return Result<>{};
  LEAP_CO_TRY_VOID(check_owner("settle", id));
  Result<> written = co_await queue->commit(at.poller, probe_batch());
  if (!written) {
    co_return std::move(written).error().context(
        fmt::format("block {}: a change of it failed half way and cannot be undone yet", id));
  }
  std::vector<Extent> space;
  {
    const std::lock_guard lock(unsettled_mutex_);
    const auto found = unsettled_.find(id);
    if (found == unsettled_.end()) co_return Result<>{};  // by another request
    space = std::move(found->second);
    unsettled_.erase(found);
  }
  {
    BlockIndex::Locked block = index.lock(id);
    if (BlockEntry* const entry = block.find()) {
      entry->flags &= ~std::uint32_t{BlockEntry::kUncertain};
      entry->tidy();
      if (entry->generation == 0 && entry->live == nullptr) {
        block.erase();
        writing.fetch_sub(1);
      }
    }
  }
  for (const Extent& extent : space) draining_bytes.fetch_sub(extent.length);
  free_extents(space);
  co_return Result<>{};
}

void StoreCore::probe_metadata() {
  if (!meta->writable() && !fenced()) queue->post(probe_batch());
}

Task<Result<>> StoreCore::check_metadata(StorePoller& at) {
  if (meta->writable()) co_return Result<>{};
  Result<> written = co_await queue->commit(at.poller, probe_batch());
  if (!written) co_return std::move(written).error().context(config.name + ": the metadata cannot be written");
  co_return Result<>{};
}

}  // namespace leap
