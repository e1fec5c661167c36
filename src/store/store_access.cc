// Who may use a block. Decisions are made under the index lock of the block, in functions that do not suspend; the
// tasks around them wait, load what the entry does not hold, and try again when the block has changed meanwhile.
#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "store/store_core.h"

namespace leap {
namespace {

// Sessions in transition (detaching, committing, being removed) settle within a device write and a sync.
constexpr Nanos kPatience = std::chrono::seconds(10);
constexpr Nanos kRetryAfter = std::chrono::milliseconds(1);
constexpr int kPinAttempts = 64;

Error store_error(Errc kind, std::string text) { return Error(kind, std::move(text)).in(ErrorDomain::kStore); }

Error busy(BlockId id, const char* why) { return store_error(Errc::kBusy, fmt::format("block {}: {}", id, why)); }

Error not_found(BlockId id) { return store_error(Errc::kNotFound, fmt::format("block {} not exists", id)); }

Task<Result<BlockRecord>> load_record(StorePoller& at, BlockingPool& blocking, BdevMetaStore& meta, BlockId id) {
  co_return co_await blocking.run(at.poller, [&meta, id] { return meta.load_block(id); });
}

std::uint64_t bytes_in(const std::vector<Extent>& extents) {
  std::uint64_t sum = 0;
  for (const Extent& extent : extents) sum += extent.length;
  return sum;
}

}  // namespace

struct StoreCore::Attachment {
  std::shared_ptr<PendingWrite> pending;  // got it
  std::optional<Error> refused;
  bool unsettled = false;   // an earlier change of the block failed half way
  bool needs_base = false;  // pending has a committed generation that must be loaded
  // None of them: the block is in transition, try again.
};

// Promises what the block may still grow by: a rewrite pays for growth only, what it overwrites is taken as it comes.
Result<> StoreCore::settle_reservation(PendingWrite& pending, std::uint64_t wanted) {
  const std::uint64_t base = pending.base == nullptr ? 0 : pending.base->map().mapped_bytes();
  const std::uint64_t has = bytes_in(pending.owned) + base;
  const std::uint64_t total = page_round_up(wanted);
  const std::uint64_t target = total - std::min(total, has);
  if (target > pending.reserved) {
    Result<> promised = allocator->reserve(target - pending.reserved);
    if (!promised) return std::move(promised).error().context(fmt::format("open block {}", pending.id));
  } else {
    allocator->unreserve(pending.reserved - target);
  }
  pending.reserved = target;
  return {};
}

StoreCore::Attachment StoreCore::take_over(PendingWrite& pending, std::uint64_t wanted) {
  Attachment outcome;
  switch (pending.phase) {
    case PendingWrite::Phase::kAttached:
      outcome.refused = busy(pending.id, "another session is writing it");
      return outcome;
    case PendingWrite::Phase::kDetaching:
    case PendingWrite::Phase::kCommitting: return outcome;
    case PendingWrite::Phase::kParked: break;
  }
  if (Result<> promised = settle_reservation(pending, wanted); !promised) {
    outcome.refused = std::move(promised).error();
    return outcome;
  }
  pending.phase = PendingWrite::Phase::kAttached;
  pending.capacity = wanted;
  return outcome;
}

std::shared_ptr<Generation> StoreCore::publish(BlockEntry& entry, BlockRecord record) {
  BlockLive& live = entry.need_live();
  if (std::shared_ptr<Generation> held = live.committed.lock()) return held;
  auto generation = std::make_shared<Generation>(*this, std::move(record));
  live.committed = generation;
  return generation;
}

StoreCore::Attachment StoreCore::begin_write(BlockIndex::Locked& block, BlockId id, std::uint64_t wanted) {
  Attachment outcome;
  auto pending = std::make_shared<PendingWrite>(*this, id);
  pending->capacity = wanted;
  BlockEntry* entry = block.find();
  if (entry == nullptr) {
    if (Result<> promised = settle_reservation(*pending, wanted); !promised) {
      outcome.refused = std::move(promised).error();
      return outcome;
    }
    block.insert().need_live().pending = pending;
    writing.fetch_add(1);
    outcome.pending = std::move(pending);
    return outcome;
  }
  // A rewrite holds its base from the start, so that nothing can take it away.
  if (std::shared_ptr<Generation> held = entry->need_live().committed.lock())
    pending->base = std::move(held);
  else if (std::optional<BlockRecord> record = entry->compact_record())
    pending->base = publish(*entry, std::move(*record));
  else
    outcome.needs_base = true;
  entry->live->pending = pending;
  outcome.pending = std::move(pending);
  return outcome;
}

StoreCore::Attachment StoreCore::try_attach(BlockId id, std::uint64_t wanted, Intent intent) {
  BlockIndex::Locked block = index.lock(id);
  BlockEntry* const entry = block.find();
  Attachment outcome;
  if (intent == Intent::kFinish && (entry == nullptr || entry->live == nullptr || entry->live->pending == nullptr)) {
    outcome.refused = busy(id, "its write session was ended by another request just now");
    return outcome;
  }
  if (entry == nullptr) return begin_write(block, id, wanted);
  outcome.unsettled = (entry->flags & BlockEntry::kUncertain) != 0;
  if (outcome.unsettled) return outcome;
  BlockLive& live = entry->need_live();
  if (live.removing) return outcome;
  if (live.pending == nullptr) return begin_write(block, id, wanted);
  const std::shared_ptr<PendingWrite> pending = live.pending;
  outcome = take_over(*pending, wanted);
  if (!outcome.refused && pending->phase == PendingWrite::Phase::kAttached) outcome.pending = pending;
  return outcome;
}

// Fetches the committed generation a rewrite starts from. On failure the session is gone again.
Task<Result<>> StoreCore::load_base(StorePoller& at, std::shared_ptr<PendingWrite> pending) {
  Result<BlockRecord> record = co_await load_record(at, *blocking, *meta, pending->id);
  if (!record) {
    discard(pending);
    co_return std::move(record).error();
  }
  {
    BlockIndex::Locked block = index.lock(pending->id);
    BlockEntry* const entry = block.find();
    // An attached session keeps others from committing; only a removal can have come between, and it revokes.
    if (!pending->revoked && entry != nullptr && entry->generation == record->generation) {
      pending->base = publish(*entry, std::move(*record));
      co_return Result<>{};
    }
  }
  discard(pending);
  co_return busy(pending->id, "it was removed or replaced while it was being opened");
}

Task<Result<std::shared_ptr<PendingWrite>>> StoreCore::attach(StorePoller& at, BlockId id, std::uint64_t wanted,
                                                              Intent intent) {
  LEAP_CO_TRY_VOID(check_owner("open", id));
  LEAP_CO_TRY_VOID(co_await check_metadata(at));
  const TimePoint give_up = at.poller.clock().now() + kPatience;
  Attachment outcome;
  for (;;) {
    outcome = try_attach(id, wanted, intent);
    if (outcome.refused) co_return std::move(*outcome.refused);
    if (outcome.pending != nullptr) break;
    if (outcome.unsettled) {
      LEAP_CO_TRY_VOID(co_await settle(at, id));
      continue;
    }
    if (at.poller.clock().now() >= give_up) co_return busy(id, "an earlier request for it is still under way");
    co_await at.poller.sleep_for(kRetryAfter);
  }
  const std::shared_ptr<PendingWrite> pending = outcome.pending;
  if (outcome.needs_base) LEAP_CO_TRY_VOID(co_await load_base(at, pending));
  if (pending->base != nullptr && !pending->changed && pending->reserved == 0 && pending->owned.empty()) {
    // A rewrite that starts: its view is the committed generation.
    pending->base_pages = pages_for(pending->base->map().logical_end());
    pending->set_length(pending->base->length());
    Result<> promised = settle_reservation(*pending, wanted);
    if (!promised) {
      discard(pending);
      co_return std::move(promised).error();
    }
  }
  co_return pending;
}

Task<Result<std::shared_ptr<Generation>>> StoreCore::pin(StorePoller& at, BlockId id) {
  for (int attempt = 0; attempt < kPinAttempts; ++attempt) {
    {
      BlockIndex::Locked block = index.lock(id);
      BlockEntry* const entry = block.find();
      if (entry == nullptr || entry->generation == 0) co_return not_found(id);
      if (entry->live != nullptr) {
        if (entry->live->removing) co_return not_found(id);
        if (std::shared_ptr<Generation> held = entry->live->committed.lock()) co_return held;
      }
      if (std::optional<BlockRecord> record = entry->compact_record()) co_return publish(*entry, std::move(*record));
    }
    Result<BlockRecord> record = co_await load_record(at, *blocking, *meta, id);
    if (!record && record.error().kind() != Errc::kNotFound) co_return std::move(record).error();
    if (!record) continue;  // removed just now: the next look at the index says so
    BlockIndex::Locked block = index.lock(id);
    BlockEntry* const entry = block.find();
    const bool removing = entry != nullptr && entry->live != nullptr && entry->live->removing;
    if (entry == nullptr || removing || entry->generation != record->generation) continue;
    co_return publish(*entry, std::move(*record));
  }
  co_return store_error(Errc::kCorrupt, fmt::format("block {}: its record is not the one that was committed", id));
}

void StoreCore::tidy(BlockId id) {
  BlockIndex::Locked block = index.lock(id);
  if (BlockEntry* entry = block.find()) entry->tidy();
}

void StoreCore::begin_detach(PendingWrite& pending) {
  const BlockIndex::Locked block = index.lock(pending.id);
  pending.phase = PendingWrite::Phase::kDetaching;
}

void StoreCore::park(const std::shared_ptr<PendingWrite>& pending, TimePoint now) {
  const TimePoint until = now + config.detach_grace;
  {
    const BlockIndex::Locked block = index.lock(pending->id);
    if (pending->revoked) return;
    pending->phase = PendingWrite::Phase::kParked;
    pending->parked_until = until;
  }
  const std::lock_guard lock(parked_mutex_);
  parked_.push_back({until, pending->id});
}

void StoreCore::discard(const std::shared_ptr<PendingWrite>& pending) {
  BlockIndex::Locked block = index.lock(pending->id);
  BlockEntry* const entry = block.find();
  if (entry == nullptr || entry->live == nullptr || entry->live->pending != pending) return;
  entry->live->pending.reset();
  // A commit that failed half way keeps a new block in the index until it is settled.
  if (entry->generation != 0 || (entry->flags & BlockEntry::kUncertain) != 0) {
    entry->tidy();
    return;
  }
  block.erase();
  writing.fetch_sub(1);
}

void StoreCore::expire_parked(TimePoint now) {
  for (;;) {
    BlockId id;
    {
      const std::lock_guard lock(parked_mutex_);
      if (parked_.empty() || parked_.front().until > now) return;
      id = parked_.front().id;
      parked_.pop_front();
    }
    std::shared_ptr<PendingWrite> expired;
    {
      const BlockIndex::Locked block = index.lock(id);
      BlockEntry* const entry = block.find();
      if (entry == nullptr || entry->live == nullptr || entry->live->pending == nullptr) continue;
      PendingWrite& pending = *entry->live->pending;
      // Opened again and parked again meanwhile: a later entry of the list is about that.
      if (pending.phase != PendingWrite::Phase::kParked || pending.parked_until > now) continue;
      pending.phase = PendingWrite::Phase::kDetaching;
      expired = entry->live->pending;
    }
    if (now != TimePoint::max())
      log_info("{}: block {}: the write session nobody came back for is dropped", config.name, id);
    probe.blocks_cancelled.add();
    discard(expired);
  }
}

// Takes the session out of the index; whoever holds it fails from now on.
std::shared_ptr<PendingWrite> StoreCore::revoke(BlockEntry& entry) {
  std::shared_ptr<PendingWrite> pending = std::move(entry.live->pending);
  entry.live->pending.reset();
  pending->revoked = true;
  return pending;
}

Task<Result<>> StoreCore::cancel(StorePoller& at, BlockId id) {
  const TimePoint give_up = at.poller.clock().now() + kPatience;
  for (;;) {
    std::shared_ptr<PendingWrite> revoked;  // outlives the lock: giving its space back takes others
    bool unsettled = false, has_session = false;
    {
      BlockIndex::Locked block = index.lock(id);
      BlockEntry* const entry = block.find();
      if (entry == nullptr) co_return Result<>{};
      const BlockLive* const live = entry->live.get();
      unsettled = (entry->flags & BlockEntry::kUncertain) != 0;
      has_session = live != nullptr && live->pending != nullptr;
      const bool in_transition =
          live != nullptr &&
          (live->removing || (has_session && live->pending->phase == PendingWrite::Phase::kCommitting));
      if (!in_transition && !unsettled) {
        if (!has_session) break;
        revoked = revoke(*entry);
        probe.blocks_cancelled.add();
        if (entry->generation == 0) {
          block.erase();
          writing.fetch_sub(1);
        } else {
          entry->tidy();
        }
        co_return Result<>{};
      }
    }
    if (unsettled) {
      LEAP_CO_TRY_VOID(co_await settle(at, id));
      // That was the session's end; what was committed before it stays.
      if (!has_session) co_return Result<>{};
      continue;
    }
    if (at.poller.clock().now() >= give_up) co_return busy(id, "a commit or removal of it is still under way");
    co_await at.poller.sleep_for(kRetryAfter);
  }
  Result<> removed = co_await remove(at, id);
  if (!removed && removed.error().kind() == Errc::kNotFound) co_return Result<>{};
  co_return removed;
}

}  // namespace leap
