// What becomes durable, and in which order:
//
//   data written (by the writer) -> device flush -> one synced batch -> switched in the index -> acknowledged
//
// The batch of a commit carries the block's record, the checksum segments that changed, the difference in the extents
// family, and a garbage record naming the checksum segments it replaces. Space that the new generation does not use any
// more is given to the old one, which frees it when its last reader is gone.
#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "store/store_core.h"

namespace leap {
namespace {

constexpr Nanos kPatience = std::chrono::seconds(10);
constexpr Nanos kRetryAfter = std::chrono::milliseconds(1);

Error store_error(Errc kind, std::string text) { return Error(kind, std::move(text)).in(ErrorDomain::kStore); }

std::uint32_t segment_of(std::uint64_t logical) { return static_cast<std::uint32_t>(logical / kSegmentBytes); }

// Calls fn(segment) once for each segment that `map` has pages in, ascending.
template <typename Fn>
void for_each_segment(const PageMap& map, Fn&& fn) {
  std::optional<std::uint32_t> last;
  for (const MappedExtent& extent : map.extents()) {
    std::uint32_t segment = segment_of(extent.logical_offset);
    if (last && segment <= *last) segment = *last + 1;
    for (; segment <= segment_of(extent.logical_end() - 1); ++segment) {
      fn(segment);
      last = segment;
    }
  }
}

// Adds the generation of the checksums from `segment` on; segments come in ascending order.
void add_run(std::vector<CrcRun>& runs, std::uint32_t segment, std::uint64_t generation) {
  if (runs.empty())
    runs.push_back({0, generation});
  else if (runs.back().generation != generation)
    runs.push_back({segment, generation});
}

bool has_pages(const PageMap& map, std::uint32_t segment) {
  const std::uint64_t start = std::uint64_t{segment} * kSegmentBytes;
  const PageMap::Run run = map.at(start, kSegmentBytes);
  return run.device_offset.has_value() || run.length < kSegmentBytes;
}

void erase_extents(MetaBatch& batch, const PageMap& map) {
  for (const MappedExtent& extent : map.extents()) batch.erase(MetaFamily::kExtents, extent_key(extent.device_offset));
}

}  // namespace

struct StoreCore::CommitPlan {
  BlockRecord record;
  PageMap map;
  PageMap dirty;  // clipped to the length
  MetaBatch batch;
  MetaBatch garbage;             // what the old generation takes with it
  std::vector<Extent> replaced;  // space of the old generation that the new one does not use
  std::vector<Extent> unused;    // space of the session that was not needed in the end
  std::vector<std::shared_ptr<const CrcSegment>> segments;
};

Result<> StoreCore::begin_commit(PendingWrite& pending) {
  LEAP_TRY_VOID(check_owner("commit", pending.id));
  const BlockIndex::Locked block = index.lock(pending.id);
  if (pending.revoked) {
    return store_error(Errc::kCancelled,
                       fmt::format("block {} was cancelled or removed by another request", pending.id));
  }
  pending.phase = PendingWrite::Phase::kCommitting;
  return {};
}

Result<> StoreCore::check_flushed(PendingWrite& pending) const {
  const std::optional<std::uint64_t> since = std::exchange(pending.unflushed_since, std::nullopt);
  if (!since || *since == flush_epoch.load()) return {};
  return store_error(Errc::kIo, fmt::format("block {}: a flush of the device failed after some of it was written; that "
                                            "may be lost",
                                            pending.id));
}

void StoreCore::commit_failed(PendingWrite& pending, const Error& error) {
  probe.commit_failures.add();
  if (!pending.error) pending.error = error;
  const BlockIndex::Locked block = index.lock(pending.id);
  pending.phase = PendingWrite::Phase::kAttached;
}

// Checksums: a segment with a page written in this session is written whole under the new generation; the others stay
// where they are.
Task<Result<>> StoreCore::plan_segments(StorePoller& at, PendingWrite& pending, CommitPlan& plan) {
  static const std::vector<CrcRun> kNoRuns;
  const std::vector<CrcRun>& old_runs = pending.base == nullptr ? kNoRuns : pending.base->crc_runs();
  std::vector<std::uint32_t> segments;
  for_each_segment(plan.map, [&segments](std::uint32_t segment) { segments.push_back(segment); });
  for (const std::uint32_t number : segments) {
    if (!has_pages(plan.dirty, number)) {
      add_run(plan.record.crc_runs, number, crc_generation(old_runs, number).value_or(0));
      continue;
    }
    add_run(plan.record.crc_runs, number, plan.record.generation);
    auto segment = std::make_shared<CrcSegment>();
    segment->id = pending.id;
    segment->generation = plan.record.generation;
    segment->index = number;
    std::shared_ptr<const CrcSegment> old;
    const std::uint64_t start = std::uint64_t{number} * kSegmentBytes;
    for (std::uint64_t page = 0; page < kPagesPerSegment;) {
      const std::uint64_t offset = start + page * kStorePage;
      const PageMap::Run run = plan.map.at(offset, (kPagesPerSegment - page) * kStorePage);
      const std::uint64_t pages = run.length / kStorePage;
      if (run.device_offset) segment->crcs.resize(page + pages);
      for (std::uint64_t i = 0; run.device_offset && i < pages; ++i) {
        const std::uint64_t at_page = page + i;
        if (pending.base == nullptr || plan.dirty.at(start + at_page * kStorePage, kStorePage).device_offset) {
          segment->crcs[at_page] = pending.crcs.get(start / kStorePage + at_page);
          continue;
        }
        if (old == nullptr) {
          LEAP_CO_TRY(old, co_await load_segment(at, pending.id, old_runs, number));
        }
        if (at_page < old->crcs.size()) segment->crcs[at_page] = old->crcs[at_page];
      }
      page += pages;
    }
    plan.batch.put(MetaFamily::kCrcs, crc_key(pending.id, plan.record.generation, number), encode(*segment));
    plan.segments.push_back(std::move(segment));
  }
  co_return Result<>{};
}

void StoreCore::plan_extents(const PendingWrite& pending, CommitPlan& plan) {
  std::map<std::uint64_t, std::uint64_t> old;
  if (pending.base != nullptr) {
    for (const MappedExtent& extent : pending.base->map().extents()) old.emplace(extent.device_offset, extent.length);
  }
  for (const MappedExtent& extent : plan.map.extents()) {
    const auto same = old.find(extent.device_offset);
    const bool unchanged = same != old.end() && same->second == extent.length;
    if (same != old.end()) old.erase(same);
    if (unchanged) continue;
    plan.batch.put(MetaFamily::kExtents, extent_key(extent.device_offset),
                   encode(ExtentRecord{extent.device(), pending.id, plan.record.generation}));
  }
  for (const auto& [offset, length] : old) plan.batch.erase(MetaFamily::kExtents, extent_key(offset));

  const std::vector<Extent> now = device_ranges(plan.map);
  std::vector<Extent> owned = pending.owned;
  normalize(owned);
  plan.unused = subtract(owned, now);
  if (pending.base == nullptr) return;
  plan.replaced = subtract(device_ranges(pending.base->map()), now);

  GarbageRecord garbage{pending.id, plan.record.generation, {}};
  const std::vector<CrcRun>& old_runs = pending.base->crc_runs();
  for_each_segment(pending.base->map(), [&](std::uint32_t segment) {
    const std::uint64_t was = crc_generation(old_runs, segment).value_or(0);
    if (has_pages(plan.map, segment) && crc_generation(plan.record.crc_runs, segment) == was) return;
    garbage.items.push_back({segment, was});
    plan.garbage.erase(MetaFamily::kCrcs, crc_key(pending.id, was, segment));
  });
  if (garbage.items.empty()) return;
  const std::string key = garbage_key(garbage.id, garbage.generation);
  plan.batch.put(MetaFamily::kSystem, key, encode(garbage));
  plan.garbage.erase(MetaFamily::kSystem, key);
}

BlockInfo StoreCore::finish_commit(const std::shared_ptr<PendingWrite>& pending, CommitPlan& plan) {
  for (std::shared_ptr<const CrcSegment>& segment : plan.segments) crc_cache.insert(std::move(segment));
  const bool is_new = pending->base == nullptr;
  BlockInfo info;
  {
    BlockIndex::Locked block = index.lock(pending->id);
    BlockEntry& entry = block.insert();
    entry.set_committed(plan.record);
    BlockLive& live = entry.need_live();
    live.pending.reset();
    live.committed.reset();
    // Only somebody who reads the old generation needs the new one in memory: it guards what the two share.
    if (!is_new) {
      std::shared_ptr<Generation> next = publish(entry, std::move(plan.record));
      pending->base->retire(std::move(plan.replaced), std::move(plan.garbage), std::move(next));
    }
    info = entry.info();
  }
  free_extents(plan.unused);
  pending->owned.clear();
  pending->base.reset();  // the last reader of it, perhaps: frees what was replaced
  tidy(pending->id);
  if (is_new) {
    writing.fetch_sub(1);
    finalized.fetch_add(1);
  }
  probe.blocks_committed.add();
  return info;
}

Task<Result<BlockInfo>> StoreCore::commit(StorePoller& at, std::shared_ptr<PendingWrite> pending) {
  LEAP_CO_TRY_VOID(begin_commit(*pending));
  Result<> flushed = co_await at.flush();
  if (flushed) flushed = check_flushed(*pending);
  if (!flushed) {
    commit_failed(*pending, flushed.error());
    co_return std::move(flushed).error();
  }
  CommitPlan plan;
  const std::uint64_t end = page_round_up(pending->length);
  if (pending->base != nullptr) plan.map = pending->base->map();
  plan.map.truncate(std::min(end, pending->base_pages * kStorePage));
  plan.dirty = pending->dirty;
  plan.dirty.truncate(end);
  plan.map.overlay(plan.dirty);
  if (plan.map.extents().size() > kMaxBlockExtents) {
    Error scattered = store_error(Errc::kNoSpace, fmt::format("block {} would be in {} pieces (limit {})", pending->id,
                                                              plan.map.extents().size(), kMaxBlockExtents));
    commit_failed(*pending, scattered);
    co_return scattered;
  }
  plan.record = {pending->id, next_generation(), pending->length, pending->capacity, plan.map.extents(), {}};
  Result<> planned = co_await plan_segments(at, *pending, plan);
  if (!planned) {
    commit_failed(*pending, planned.error());
    co_return std::move(planned).error();
  }
  plan_extents(*pending, plan);
  plan.batch.put(MetaFamily::kBlocks, block_key(pending->id), encode(plan.record));
  Result<> durable = co_await queue->commit(at.poller, std::move(plan.batch));
  if (!durable) {
    if (durable.error().may_have_executed()) leave_unsettled(pending->id, std::exchange(pending->owned, {}));
    commit_failed(*pending, durable.error());
    co_return std::move(durable).error().context(fmt::format("commit block {}", pending->id));
  }
  co_return finish_commit(pending, plan);
}

struct StoreCore::Removal {
  bool done = false;                       // nothing was committed: there is nothing to make durable
  bool retry = false;                      // in transition
  bool unsettled = false;                  // an earlier change failed half way
  std::shared_ptr<PendingWrite> revoked;   // freed without the lock
  std::shared_ptr<Generation> generation;  // null with neither flag: must be loaded
};

Result<StoreCore::Removal> StoreCore::begin_remove(BlockId id) {
  Removal removal;
  BlockIndex::Locked block = index.lock(id);
  BlockEntry* const entry = block.find();
  if (entry == nullptr) return store_error(Errc::kNotFound, fmt::format("block {} not exists", id));
  removal.unsettled = (entry->flags & BlockEntry::kUncertain) != 0;
  if (removal.unsettled) return removal;
  BlockLive& live = entry->need_live();
  removal.retry = live.removing || (live.pending != nullptr && live.pending->phase == PendingWrite::Phase::kCommitting);
  if (removal.retry) return removal;
  if (live.pending != nullptr) removal.revoked = revoke(*entry);
  if (entry->generation == 0) {
    block.erase();
    writing.fetch_sub(1);
    probe.blocks_removed.add();
    removal.done = true;
    return removal;
  }
  live.removing = true;
  removal.generation = live.committed.lock();
  if (removal.generation == nullptr) {
    if (std::optional<BlockRecord> record = entry->compact_record())
      removal.generation = publish(*entry, std::move(*record));
  }
  return removal;
}

void StoreCore::abandon_removal(BlockId id) {
  const BlockIndex::Locked block = index.lock(id);
  BlockEntry* const entry = block.find();
  if (entry == nullptr) return;
  entry->live->removing = false;
  entry->tidy();
}

Task<Result<>> StoreCore::load_for_removal(StorePoller& at, BlockId id, Removal& removal) {
  BdevMetaStore& from = *meta;
  Result<BlockRecord> record = co_await blocking->run(at.poller, [&from, id] { return from.load_block(id); });
  if (!record) {
    abandon_removal(id);
    co_return std::move(record).error();
  }
  const BlockIndex::Locked block = index.lock(id);
  removal.generation = publish(*block.find(), std::move(*record));
  co_return Result<>{};
}

Task<Result<>> StoreCore::remove(StorePoller& at, BlockId id) {
  LEAP_CO_TRY_VOID(check_owner("remove", id));
  const TimePoint give_up = at.poller.clock().now() + kPatience;
  Removal removal;
  for (;;) {
    LEAP_CO_TRY(removal, begin_remove(id));
    if (removal.done) co_return Result<>{};
    if (removal.unsettled) {
      LEAP_CO_TRY_VOID(co_await settle(at, id));
      continue;
    }
    if (!removal.retry) break;
    if (at.poller.clock().now() >= give_up) {
      co_return store_error(Errc::kBusy,
                            fmt::format("remove block {}: an earlier request for it is still under way", id));
    }
    co_await at.poller.sleep_for(kRetryAfter);
  }
  removal.revoked.reset();
  if (removal.generation == nullptr) LEAP_CO_TRY_VOID(co_await load_for_removal(at, id, removal));

  const std::shared_ptr<Generation> generation = std::move(removal.generation);
  GarbageRecord record{id, next_generation(), {}};
  MetaBatch checksums;
  for_each_segment(generation->map(), [&](std::uint32_t segment) {
    const std::uint64_t was = crc_generation(generation->crc_runs(), segment).value_or(0);
    record.items.push_back({segment, was});
    checksums.erase(MetaFamily::kCrcs, crc_key(id, was, segment));
  });
  MetaBatch batch;
  batch.erase(MetaFamily::kBlocks, block_key(id));
  erase_extents(batch, generation->map());
  // Readers still need the checksums: leave them, with a note so that a crash does not leave them for ever.
  const std::string key = garbage_key(id, record.generation);
  batch.put(MetaFamily::kSystem, key, encode(record));
  checksums.erase(MetaFamily::kSystem, key);

  Result<> durable = co_await queue->commit(at.poller, std::move(batch));
  if (!durable) {
    if (durable.error().may_have_executed()) leave_unsettled(id, {});
    abandon_removal(id);
    co_return std::move(durable).error().context(fmt::format("remove block {}", id));
  }
  {
    BlockIndex::Locked block = index.lock(id);
    block.erase();
    generation->retire(device_ranges(generation->map()), std::move(checksums), nullptr);
  }
  finalized.fetch_sub(1);
  probe.blocks_removed.add();
  co_return Result<>{};
}

}  // namespace leap
