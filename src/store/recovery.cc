#include "store/recovery.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/log.h"
#include "store/page_map.h"
#include "store/store_core.h"

namespace leap {
namespace {

struct Claim {
  Extent extent;
  BlockId owner;
};

std::string name(Extent extent) { return fmt::format("[{}, {})", extent.device_offset, extent.end()); }

class Recovery {
 public:
  Recovery(StoreCore& core, const IdentityRecord& identity) : core_(core), identity_(identity) {}
  Result<> run();

 private:
  Result<> scan_blocks();
  void take_block(std::string_view key, std::string_view value);
  void find_overlaps();
  void drop_damaged();
  Result<> scan_extents();
  void take_extent(std::string_view key, std::string_view value);
  void pass_claims_before(std::uint64_t offset);
  void judge_stray(const ExtentRecord& record, bool key_is_reused);
  void close_unreadable(std::uint64_t next);
  Result<> build_space();
  Result<> check_snapshot();
  Result<> collect_garbage();

  [[nodiscard]] bool inside(Extent e) const {
    return e.device_offset >= core_.superblock.data_start && e.end() <= core_.superblock.data_end;
  }
  void quarantine(Extent extent);
  void problem(std::string text) { core_.recovery.add(std::move(text)); }

  StoreCore& core_;
  const IdentityRecord& identity_;
  std::vector<Claim> claims_;
  std::unordered_set<BlockId> damaged_;
  std::vector<Extent> quarantined_;
  std::vector<Extent> released_;  // of generations that have been replaced: free for good
  MetaBatch repairs_;

  // While the extents family is compared with the claims.
  std::size_t next_claim_ = 0;
  std::optional<std::uint64_t> unreadable_;  // start of an extent whose record is damaged and that nobody claims
};

void Recovery::quarantine(Extent extent) {
  const std::uint64_t start = std::max(extent.device_offset, core_.superblock.data_start);
  const std::uint64_t end = std::min(extent.end(), core_.superblock.data_end);
  if (start < end) quarantined_.push_back({start, end - start});
}

void Recovery::take_block(std::string_view key, std::string_view value) {
  const std::optional<BlockId> id = parse_block_key(key);
  Result<BlockRecord> record = decode_block_record(value);
  if (!id || !record || record->id != *id) {
    const std::string who = id ? fmt::format("block {}", *id) : fmt::format("a key of {} bytes", key.size());
    problem(fmt::format("{}: {}; not served", who,
                        record ? "its record belongs to another block" : record.error().message()));
    return;
  }
  for (const MappedExtent& extent : record->extents) {
    if (!inside(extent.device())) {
      problem(fmt::format("block {}: extent {} is outside the data area; not served", *id, name(extent.device())));
      damaged_.insert(*id);
    }
  }
  for (const MappedExtent& extent : record->extents) claims_.push_back({extent.device(), *id});
  core_.index.lock(*id).insert().set_committed(*record);
}

Result<> Recovery::scan_blocks() {
  return core_.meta->scan(MetaFamily::kBlocks, {}, [this](std::string_view key, std::string_view value) {
    take_block(key, value);
    return true;
  });
}

void Recovery::find_overlaps() {
  std::sort(claims_.begin(), claims_.end(),
            [](const Claim& a, const Claim& b) { return a.extent.device_offset < b.extent.device_offset; });
  const Claim* furthest = nullptr;  // of those before, the one that reaches furthest
  for (const Claim& claim : claims_) {
    if (furthest != nullptr && furthest->extent.end() > claim.extent.device_offset) {
      problem(fmt::format("blocks {} and {} both claim space: {} and {}; neither is served", furthest->owner,
                          claim.owner, name(furthest->extent), name(claim.extent)));
      damaged_.insert(furthest->owner);
      damaged_.insert(claim.owner);
    }
    if (furthest == nullptr || claim.extent.end() > furthest->extent.end()) furthest = &claim;
  }
}

void Recovery::drop_damaged() {
  if (damaged_.empty()) return;
  for (const Claim& claim : claims_) {
    if (damaged_.contains(claim.owner)) quarantine(claim.extent);
  }
  std::erase_if(claims_, [this](const Claim& claim) { return damaged_.contains(claim.owner); });
  for (const BlockId id : damaged_) core_.index.lock(id).erase();
}

// Claims in front of `offset` that had no extent record of their own: the record is made again.
void Recovery::pass_claims_before(std::uint64_t offset) {
  for (; next_claim_ < claims_.size() && claims_[next_claim_].extent.device_offset < offset; ++next_claim_) {
    const Claim& claim = claims_[next_claim_];
    problem(fmt::format("block {}: extent {} had no extent record; written again", claim.owner, name(claim.extent)));
    repairs_.put(MetaFamily::kExtents, extent_key(claim.extent.device_offset),
                 encode(ExtentRecord{claim.extent, claim.owner, core_.index.lock(claim.owner).insert().generation}));
  }
}

// An extent record that no block record confirms. `key_is_reused`: a repaired record takes its place.
void Recovery::judge_stray(const ExtentRecord& record, bool key_is_reused) {
  std::uint64_t owner_generation = 0;
  {
    const BlockIndex::Locked block = core_.index.lock(record.owner);
    if (const BlockEntry* entry = block.find()) owner_generation = entry->generation;
  }
  if (owner_generation > record.generation) {
    problem(fmt::format("extent {} of block {} is older than the block; dropped", name(record.extent), record.owner));
    if (!key_is_reused) repairs_.erase(MetaFamily::kExtents, extent_key(record.extent.device_offset));
    released_.push_back(record.extent);
    return;
  }
  if (!damaged_.contains(record.owner)) {
    problem(fmt::format("extent {} belongs to block {}, which does not know it; quarantined", name(record.extent),
                        record.owner));
  }
  quarantine(record.extent);
}

// A damaged extent record tells where its extent starts, not where it ends: at most up to the next thing known.
void Recovery::close_unreadable(std::uint64_t next) {
  if (!unreadable_) return;
  const std::uint64_t start = *std::exchange(unreadable_, std::nullopt);
  if (next_claim_ < claims_.size()) next = std::min(next, claims_[next_claim_].extent.device_offset);
  if (next > start) quarantine({start, next - start});
}

void Recovery::take_extent(std::string_view key, std::string_view value) {
  const std::optional<std::uint64_t> offset = parse_extent_key(key);
  if (!offset) {
    problem(fmt::format("an extent key of {} bytes; ignored", key.size()));
    return;
  }
  close_unreadable(*offset);
  pass_claims_before(*offset);
  Result<ExtentRecord> record = decode_extent_record(value);
  const bool valid = record && record->extent.device_offset == *offset;
  const Claim* const claim = next_claim_ < claims_.size() ? &claims_[next_claim_] : nullptr;
  if (claim != nullptr && claim->extent.device_offset == *offset) {
    if (valid && record->extent == claim->extent && record->owner == claim->owner) {
      ++next_claim_;
      return;
    }
    // The block's own record is the authority; what else this record covered is judged on its own.
    pass_claims_before(*offset + 1);
    if (valid) judge_stray(*record, true);
    return;
  }
  if (!valid) {
    problem(fmt::format("extent record at {}: {}; quarantined up to the next extent", *offset,
                        record ? "says it is another" : record.error().message()));
    unreadable_ = *offset / kStorePage * kStorePage;
    return;
  }
  judge_stray(*record, false);
}

Result<> Recovery::scan_extents() {
  LEAP_TRY_VOID(core_.meta->scan(MetaFamily::kExtents, {}, [this](std::string_view key, std::string_view value) {
    take_extent(key, value);
    return true;
  }));
  close_unreadable(core_.superblock.data_end);
  pass_claims_before(UINT64_MAX);
  return {};
}

// Extents in ascending order, overlaps melted.
std::vector<Extent> melt(std::vector<Extent> extents) {
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.device_offset < b.device_offset; });
  std::vector<Extent> out;
  for (const Extent& extent : extents) {
    if (!out.empty() && extent.device_offset <= out.back().end()) {
      out.back().length = std::max(out.back().end(), extent.end()) - out.back().device_offset;
    } else {
      out.push_back(extent);
    }
  }
  return out;
}

Result<> Recovery::build_space() {
  std::vector<Extent> allocated;
  allocated.reserve(claims_.size() + quarantined_.size());
  for (const Claim& claim : claims_) allocated.push_back(claim.extent);
  // What a served block occupies is not quarantined, whatever else points at it.
  const std::vector<Extent> held = subtract(melt(quarantined_), allocated);
  std::uint64_t bytes = 0;
  for (const Extent& extent : held) bytes += extent.length;
  core_.quarantined_bytes = bytes;
  allocated.insert(allocated.end(), held.begin(), held.end());
  return core_.allocator->rebuild(melt(std::move(allocated)));
}

// What a clean shutdown wrote down must be what the records say.
Result<> Recovery::check_snapshot() {
  if (!identity_.clean) return {};
  LEAP_TRY(const std::optional<std::string> value, core_.meta->get(MetaFamily::kSystem, kAllocatorKey));
  if (!value) {
    problem("the allocator snapshot of the clean shutdown is missing");
    return {};
  }
  Result<AllocatorRecord> record = decode_allocator_record(*value);
  if (!record) {
    problem(record.error().message());
    return {};
  }
  const BdevOffsetAllocator::Snapshot rebuilt = core_.allocator->snapshot();
  core_.recovery.clean_shutdown = record->epoch == identity_.epoch && record->state == rebuilt;
  if (core_.recovery.clean_shutdown) return {};

  // Allocated then and not claimed now: something lost its record. Not handed out until somebody has looked.
  const std::vector<Extent> area = {{core_.superblock.data_start, core_.superblock.data_bytes()}};
  const auto allocated_in = [&area](const BdevOffsetAllocator::Snapshot& s) {
    std::vector<Extent> free = s.free;
    if (area[0].end() > s.cursor) free.push_back({s.cursor, area[0].end() - s.cursor});
    return subtract(area, melt(std::move(free)));
  };
  BdevOffsetAllocator check({.begin = core_.superblock.data_start, .end = core_.superblock.data_end});
  if (Result<> sound = check.restore(record->state); !sound) {
    problem("the allocator snapshot is unusable: " + sound.error().message());
    return {};
  }
  const std::vector<Extent> was = allocated_in(record->state);
  const std::vector<Extent> now = allocated_in(rebuilt);
  for (const Extent& lost : subtract(subtract(was, now), melt(released_))) {
    problem(fmt::format("{} was allocated at the clean shutdown and belongs to nobody now; quarantined", name(lost)));
    quarantine(lost);
  }
  for (const Extent& gained : subtract(now, was)) {
    problem(fmt::format("{} was free at the clean shutdown and is claimed now", name(gained)));
  }
  return quarantined_.empty() ? Result<>() : build_space();
}

// Checksums whose last reader was gone, or went with the last process.
Result<> Recovery::collect_garbage() {
  return core_.meta->scan(MetaFamily::kSystem, kGarbagePrefix, [this](std::string_view key, std::string_view value) {
    Result<GarbageRecord> record = decode_garbage_record(value);
    if (!record) {
      problem(record.error().message());
      return true;
    }
    for (const GarbageRecord::Item& item : record->items) {
      repairs_.erase(MetaFamily::kCrcs, crc_key(record->id, item.generation, item.segment));
    }
    repairs_.erase(MetaFamily::kSystem, std::string(key));
    return true;
  });
}

Result<> Recovery::run() {
  LEAP_TRY_VOID(scan_blocks());
  find_overlaps();
  drop_damaged();
  LEAP_TRY_VOID(scan_extents());
  LEAP_TRY_VOID(build_space());
  LEAP_TRY_VOID(check_snapshot());
  LEAP_TRY_VOID(collect_garbage());
  if (!repairs_.empty()) LEAP_TRY_VOID(core_.meta->write(repairs_, true));
  core_.finalized = core_.index.size();
  core_.recovery.blocks = core_.index.size();
  core_.recovery.extents = claims_.size();
  core_.recovery.quarantined_bytes = core_.quarantined_bytes;
  return {};
}

}  // namespace

Result<> recover(StoreCore& core, const IdentityRecord& identity) {
  Recovery recovery(core, identity);
  LEAP_TRY_VOID(recovery.run());
  for (const std::string& problem : core.recovery.problems) log_warn("{}: recovery: {}", core.config.name, problem);
  return {};
}

}  // namespace leap
