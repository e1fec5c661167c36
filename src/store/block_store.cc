#include "store/block_store.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "store/reader_core.h"
#include "store/recovery.h"
#include "store/store_core.h"
#include "store/writer_core.h"

namespace leap {
namespace {

Error store_error(Errc kind, std::string text) { return Error(kind, std::move(text)).in(ErrorDomain::kStore); }

LeaseIo lease_io(StorePoller& at) { return {*at.channel, at.poller, at.pool}; }

DeviceLease::Timing lease_timing(const BlockStore::Config& config) {
  return {.heartbeat = config.lease_heartbeat, .timeout = config.lease_timeout};
}

Result<> check_id(BlockId id) {
  if (id.value() > 0) return {};
  return store_error(Errc::kInvalidArgument, fmt::format("block id {} is not positive", id));
}

struct Identity {
  Superblock superblock;
  bool repaired = false;
};

// Who the device is, and whether it is ours to open. Takes the lease.
Task<Result<Identity>> identify(StoreCore& core, LeaseHolder self) {
  StorePoller& at = *core.pollers.front();
  const BlockDeviceInfo& device = core.device.info();
  LEAP_CO_TRY(LoadedSuperblock loaded, co_await load_superblock(*at.channel, at.poller, at.pool, device.size));
  const Superblock& s = loaded.superblock;
  if (s.cluster_id != core.config.cluster_id) {
    co_return store_error(Errc::kWrongState, fmt::format("the device belongs to cluster '{}', this worker to '{}'",
                                                         s.cluster_id, core.config.cluster_id));
  }
  if (device.block_size > kStorePage) {
    co_return store_error(Errc::kUnsupported, fmt::format("the device's block size is {} bytes (at most {})",
                                                          device.block_size, kStorePage));
  }
  LEAP_CO_TRY(core.lease, co_await DeviceLease::acquire(lease_io(at), std::move(self), lease_timing(core.config)));
  Identity identity;
  identity.repaired = loaded.repair_first || loaded.repair_last;
  identity.superblock = std::move(loaded.superblock);
  co_return identity;
}

Task<Result<>> write_identity(StoreCore& core) {
  StorePoller& at = *core.pollers.front();
  co_return co_await store_superblock(*at.channel, at.poller, at.pool, core.superblock);
}

Task<Result<>> open_channel(StoreCore& core, StorePoller& at) {
  LEAP_CO_TRY(at.channel, core.device.open_channel(at.poller, at.pool));
  co_return Result<>{};
}

Task<void> close_channel(StorePoller& at) {
  at.channel.reset();
  co_return;
}

Task<void> start_housekeeping(StoreCore& core) {
  core.housekeeper = std::make_unique<Housekeeper>(core, core.pollers.front()->poller);
  core.housekeeper->start();
  co_return;
}

Task<void> stop_housekeeping(StoreCore& core) {
  co_await core.housekeeper->stop();
  core.housekeeper.reset();
}

Task<Result<>> release_lease(StoreCore& core) {
  co_return co_await core.lease->release(lease_io(*core.pollers.front()));
}

Task<void> drop_lease(StoreCore& core) {
  core.lease.reset();
  co_return;
}

// The metadata directory must be this device's, and as new as the device.
Result<IdentityRecord> check_metadata(const StoreCore& core) {
  LEAP_TRY(IdentityRecord record, core.meta->load_identity());
  const Superblock& s = core.superblock;
  if (record.device_uuid != s.device_uuid || record.cluster_id != s.cluster_id) {
    return store_error(Errc::kWrongState,
                       fmt::format("metadata directory {} belongs to device {} of cluster '{}', not to {}",
                                   core.config.meta_dir, record.device_uuid, record.cluster_id, s.device_uuid));
  }
  if (record.epoch < s.epoch) {
    return store_error(Errc::kWrongState,
                       fmt::format("metadata directory {} is older than the device (epoch {}, the device "
                                   "says {}): an old copy; opening it would lose blocks",
                                   core.config.meta_dir, record.epoch, s.epoch));
  }
  return record;
}

// A new epoch: metadata first, so that it is never behind the device.
Result<> begin_epoch(StoreCore& core, const IdentityRecord& was) {
  core.superblock.epoch = std::max(was.epoch, core.superblock.epoch) + 1;
  core.recovery.epoch = core.superblock.epoch;
  MetaBatch batch;
  IdentityRecord now = was;
  now.epoch = core.superblock.epoch;
  now.clean = false;
  batch.put(MetaFamily::kSystem, std::string(kIdentityKey), encode(now));
  batch.erase(MetaFamily::kSystem, std::string(kAllocatorKey));
  LEAP_TRY_VOID(core.meta->write(batch, true));
  return core.pollers.front()->poller.run([&core](NvmePoller&) { return write_identity(core); });
}

Result<> end_epoch(StoreCore& core) {
  core.free_draining();
  IdentityRecord identity;
  identity.device_uuid = core.superblock.device_uuid;
  identity.cluster_id = core.superblock.cluster_id;
  identity.epoch = core.superblock.epoch;
  identity.clean = true;
  AllocatorRecord snapshot{core.superblock.epoch, core.finalized, core.allocator->snapshot()};
  MetaBatch batch;
  batch.put(MetaFamily::kSystem, std::string(kAllocatorKey), encode(snapshot));
  batch.put(MetaFamily::kSystem, std::string(kIdentityKey), encode(identity));
  return core.meta->write(batch, true);
}

Result<> open_steps(StoreCore& core) {
  const BlockStore::Config& config = core.config;
  for (const std::unique_ptr<StorePoller>& at : core.pollers) {
    LEAP_TRY_VOID(at->poller.run([&core, &at](NvmePoller&) { return open_channel(core, *at); }));
  }
  const LeaseHolder self = read_lease_holder();
  LEAP_TRY(Identity identity,
           core.pollers.front()->poller.run([&core, &self](NvmePoller&) { return identify(core, self); }));
  core.superblock = std::move(identity.superblock);
  core.recovery.superblock_repaired = identity.repaired;
  if (identity.repaired) core.recovery.add("one of the two superblocks was damaged or behind; written again");

  LEAP_TRY(core.meta, BdevMetaStore::open({.dir = config.meta_dir, .env = config.meta_env}));
  LEAP_TRY(const IdentityRecord record, check_metadata(core));

  core.capacity = core.superblock.data_bytes();
  if (config.capacity_limit != 0)
    core.capacity = std::min(core.capacity, config.capacity_limit / kStorePage * kStorePage);
  const std::uint64_t usable = core.capacity - std::min(core.capacity - kStorePage, page_round_up(config.set_aside));
  core.allocator = std::make_unique<BdevOffsetAllocator>(BdevOffsetAllocator::Config{
      .begin = core.superblock.data_start, .end = core.superblock.data_end, .limit = usable});
  LEAP_TRY_VOID(recover(core, record));
  LEAP_TRY_VOID(begin_epoch(core, record));

  core.queue = std::make_unique<CommitQueue>(*core.meta);
  core.blocking = std::make_unique<BlockingPool>(BlockingPool::Config{"store-meta", config.blocking_threads});
  core.pollers.front()->poller.run([&core](NvmePoller&) { return start_housekeeping(core); });
  return {};
}

// Stops everything that runs, in the order of dependence. `orderly`: also leaves a clean state behind.
Result<> shut_down(StoreCore& core, bool orderly) {
  Result<> outcome;
  const auto note = [&outcome](Result<> step) {
    if (!step && outcome) outcome = std::move(step);
  };
  if (core.housekeeper != nullptr) {
    core.pollers.front()->poller.run([&core](NvmePoller&) { return stop_housekeeping(core); });
  }
  if (core.queue != nullptr) core.queue->stop();
  if (core.blocking != nullptr) core.blocking->stop();
  if (orderly && !core.fenced()) {
    // After a commit that may or may not be on the disk only a recovery can tell what is allocated.
    if (core.all_settled()) note(end_epoch(core));
    note(core.pollers.front()->poller.run([&core](NvmePoller&) { return release_lease(core); }));
  }
  if (core.lease) core.pollers.front()->poller.run([&core](NvmePoller&) { return drop_lease(core); });
  core.meta.reset();
  for (const std::unique_ptr<StorePoller>& at : core.pollers) {
    if (at->channel != nullptr) at->poller.run([&at](NvmePoller&) { return close_channel(*at); });
  }
  return outcome;
}

// Format runs on a throw-away channel.
Task<Result<>> format_device(PollerContext context, BlockDevice& device, LeaseHolder self, Superblock superblock,
                             bool force) {
  LEAP_CO_TRY(const std::unique_ptr<BlockChannel> channel, device.open_channel(*context.poller, *context.pool));
  Result<LoadedSuperblock> there =
      co_await load_superblock(*channel, *context.poller, *context.pool, device.info().size);
  const bool formatted = there.ok() || there.error().kind() != Errc::kNotFound;
  if (formatted && there.ok() && !force) {
    co_return store_error(Errc::kAlreadyExists,
                          fmt::format("{} is formatted already (cluster '{}', device {}); force discards it",
                                      device.info().name, there->superblock.cluster_id, there->superblock.device_uuid));
  }
  if (formatted && !force) {
    co_return std::move(there).error().context(
        fmt::format("{} is not empty; force discards what is on it", device.info().name));
  }
  if (!force) {
    LEAP_CO_TRY(const std::optional<std::uint64_t> used,
                co_await find_foreign_data(*channel, *context.poller, *context.pool, device.info().size));
    if (used) {
      co_return store_error(
          Errc::kAlreadyExists,
          fmt::format("{} is not empty: the first byte that is not zero is at offset {}; force discards what is on it",
                      device.info().name, *used));
    }
  }
  const LeaseIo io{*channel, *context.poller, *context.pool};
  if (formatted) LEAP_CO_TRY_VOID(co_await DeviceLease::check_free(io, std::move(self), {}));
  LEAP_CO_TRY(DmaBuf page, co_await allocate(*context.poller, *context.pool, LeaseRecord::kBytes));
  encode_lease(LeaseRecord{}, std::span<std::byte, LeaseRecord::kBytes>(page.data(), LeaseRecord::kBytes));
  LEAP_CO_TRY_VOID(co_await channel->write(Superblock::kLeaseOffset, std::move(page)));
  co_return co_await store_superblock(*channel, *context.poller, *context.pool, std::move(superblock));
}

// Nothing is touched while the metadata directory is somebody's.
Result<> check_meta_dir(const BlockStore::FormatOptions& options) {
  if (options.meta_dir.empty()) return store_error(Errc::kInvalidArgument, "format: no metadata directory");
  const Result<std::unique_ptr<BdevMetaStore>> there = BdevMetaStore::open({.dir = options.meta_dir});
  if (!there && there.error().kind() == Errc::kNotFound) return {};
  if (!there && there.error().kind() == Errc::kBusy) return there.error();
  if (options.force) return {};
  return store_error(
      Errc::kAlreadyExists,
      fmt::format("format: {} holds the metadata of a formatted device; force discards it", options.meta_dir));
}

}  // namespace

Result<> BlockStore::Config::validate() const {
  const auto refuse = [this](std::string why) { return store_error(Errc::kInvalidArgument, name + ": " + why); };
  if (meta_dir.empty()) return refuse("no metadata directory");
  if (cluster_id.empty()) return refuse("no cluster id");
  if (capacity_limit != 0 && capacity_limit < kStorePage) return refuse("the capacity limit is below one page");
  if (writer_window < 1 || writer_window > 64) return refuse(fmt::format("writer_window {} (1..64)", writer_window));
  if (blocking_threads < 1 || blocking_threads > 64)
    return refuse(fmt::format("blocking_threads {} (1..64)", blocking_threads));
  if (lease_heartbeat <= Nanos::zero() || lease_timeout < 2 * lease_heartbeat) {
    return refuse("the lease timeout must be at least two heartbeats");
  }
  if (detach_grace < Nanos::zero() || close_timeout < Nanos::zero()) return refuse("a negative time");
  return {};
}

BlockStore::BlockStore(std::unique_ptr<StoreCore> core) : core_(std::move(core)) {}

BlockStore::~BlockStore() {
  // Sessions that are just being put to rest in the background are not worth a crash.
  core_->begin_close();
  core_->wait_unused(core_->config.close_timeout);
  const Result<> stopped = shut_down(*core_, false);
  stopped.ignore("nothing is written that could fail");
  LEAP_CHECK(core_->uses() == 0,
             fmt::format("{}: {} readers or writers outlive their store", core_->config.name, core_->uses()));
}

Result<Superblock> BlockStore::format(PollerContext context, BlockDevice& device, const FormatOptions& options) {
  const Uuid storage_id = options.storage_id.is_nil() ? Uuid::random() : options.storage_id;
  LEAP_TRY(const Superblock superblock,
           make_superblock(device.info(), options.cluster_id, options.worker_id, storage_id));
  LEAP_TRY_VOID(check_meta_dir(options));
  const LeaseHolder self = read_lease_holder();
  // The device first: if it refuses, the metadata of what is on it must still be there.
  LEAP_TRY_VOID(context.poller->run(
      [&](NvmePoller&) { return format_device(context, device, self, superblock, options.force); }));
  const IdentityRecord identity{superblock.device_uuid, superblock.cluster_id, superblock.epoch, false};
  LEAP_TRY_VOID(BdevMetaStore::create({.dir = options.meta_dir}, identity, options.force));
  return superblock;
}

Result<std::unique_ptr<BlockStore>> BlockStore::open(const Config& config, BlockDevice& device,
                                                     std::vector<PollerContext> pollers) {
  LEAP_TRY_VOID(config.validate());
  if (pollers.empty()) return store_error(Errc::kInvalidArgument, config.name + ": no poller to run on");
  auto core = std::make_unique<StoreCore>(config, device);
  for (const PollerContext& context : pollers) {
    core->pollers.push_back(std::make_unique<StorePoller>(*context.poller, *context.pool, core->probe,
                                                          core->flush_epoch, device.info().volatile_write_cache));
  }
  std::unique_ptr<BlockStore> store(new BlockStore(std::move(core)));
  const TimePoint start = Clock::system().now();
  Result<> opened = open_steps(*store->core_);
  if (!opened) return std::move(opened).error().context(fmt::format("open {} on {}", config.name, device.info().name));
  const RecoveryReport& report = store->core_->recovery;
  log_info("{}: {} blocks in {} extents, {} free of {}, epoch {}, {} shutdown, {} problems, opened in {}", config.name,
           report.blocks, report.extents, format_bytes(store->space().free), format_bytes(store->space().capacity),
           report.epoch, report.clean_shutdown ? "clean" : "unclean", report.problem_count,
           format_duration(Clock::system().now() - start));
  return store;
}

Result<> BlockStore::close() {
  StoreCore& core = *core_;
  if (core.meta == nullptr) return {};
  core.begin_close();
  core.expire_parked(TimePoint::max());
  if (!core.wait_unused(core.config.close_timeout)) {
    return store_error(Errc::kTimedOut, fmt::format("close {}: {} readers, writers or operations are still open",
                                                    core.config.name, core.uses()));
  }
  core.expire_parked(TimePoint::max());
  return shut_down(core, true);
}

Task<Result<std::unique_ptr<BlockWriter>>> BlockStore::open_writer(NvmePoller& poller, BlockId id, OpenWrite options) {
  return attach_writer(poller, id, options, true);
}

Task<Result<std::unique_ptr<BlockWriter>>> BlockStore::attach_writer(NvmePoller& poller, BlockId id, OpenWrite options,
                                                                     bool may_create) {
  LEAP_CO_TRY_VOID(check_id(id));
  if (options.capacity > kMaxBlockCapacity || options.offset > options.capacity) {
    co_return store_error(Errc::kInvalidArgument, fmt::format("open block {} at {} of {} bytes (at most {})", id,
                                                              options.offset, options.capacity, kMaxBlockCapacity));
  }
  StoreCore& core = *core_;
  StorePoller& at = core.at(poller);
  LEAP_CO_TRY(StoreCore::Use use, core.enter());
  const StoreCore::Intent intent = may_create ? StoreCore::Intent::kWrite : StoreCore::Intent::kFinish;
  LEAP_CO_TRY(std::shared_ptr<PendingWrite> pending, co_await core.attach(at, id, options.capacity, intent));
  auto writer = std::make_unique<WriterCore>(core, at, std::move(use), std::move(pending), options.offset);
  co_return std::make_unique<BlockWriter>(std::move(writer));
}

Task<Result<std::unique_ptr<BlockReader>>> BlockStore::open_reader(NvmePoller& poller, BlockId id) {
  StoreCore& core = *core_;
  StorePoller& at = core.at(poller);
  LEAP_CO_TRY(StoreCore::Use use, core.enter());
  LEAP_CO_TRY(std::shared_ptr<Generation> generation, co_await core.pin(at, id));
  co_return std::make_unique<BlockReader>(
      std::make_unique<ReaderCore>(core, at, std::move(use), std::move(generation)));
}

Task<Result<BlockInfo>> BlockStore::complete(NvmePoller& poller, BlockId id, std::uint64_t length,
                                             std::uint64_t capacity) {
  {
    const BlockIndex::Locked block = core_->index.lock(id);
    const BlockEntry* const entry = block.find();
    if (entry == nullptr || (entry->live != nullptr && entry->live->removing))
      co_return store_error(Errc::kNotFound, fmt::format("block {} not exists", id));
    if ((entry->flags & BlockEntry::kUncertain) != 0)
      co_return store_error(Errc::kWrongState, fmt::format("block {}: a commit of it failed half way", id));
    if (entry->live == nullptr || entry->live->pending == nullptr) {
      if (entry->length == length) co_return entry->info();
      co_return store_error(
          Errc::kWrongState,
          fmt::format("finalized block {} length mismatch: has {}, complete says {}", id, entry->length, length));
    }
  }
  const OpenWrite options{.capacity = capacity, .offset = 0};
  LEAP_CO_TRY(std::unique_ptr<BlockWriter> writer, co_await attach_writer(poller, id, options, false));
  co_return co_await writer->complete(length);
}

Task<Result<>> BlockStore::cancel(NvmePoller& poller, BlockId id) {
  StoreCore& core = *core_;
  StorePoller& at = core.at(poller);
  LEAP_CO_TRY(const StoreCore::Use use, core.enter());
  co_return co_await core.cancel(at, id);
}

Task<Result<>> BlockStore::remove(NvmePoller& poller, BlockId id) {
  StoreCore& core = *core_;
  StorePoller& at = core.at(poller);
  LEAP_CO_TRY(const StoreCore::Use use, core.enter());
  co_return co_await core.remove(at, id);
}

}  // namespace leap
