// StoreCore: what BlockStore, its readers and its writers share. Internal to the room.
//
// The pieces and their locks:
//   index      a mutex per shard; decides who may write, read or remove a block (store_access.cc)
//   allocator  one mutex; who owns which bytes of the device
//   meta+queue RocksDB; written by the commit thread only, read on the blocking pool
//   pollers    one StorePoller each: channel, buffers, group flush; that poller's thread only
// Lock order: index shard -> allocator or commit queue. Nothing is locked across a suspension.
//
// The life of a block:  (none) --open--> writing --commit--> finalized --open--> rewriting --commit--> finalized
//                                   \--cancel/crash--> (none)             \--cancel/crash--> finalized, as before
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "poller/blocking_pool.h"
#include "store/allocator.h"
#include "store/block_index.h"
#include "store/block_store.h"
#include "store/commit_queue.h"
#include "store/crc_cache.h"
#include "store/housekeeper.h"
#include "store/lease.h"
#include "store/meta_store.h"
#include "store/store_poller.h"

namespace leap {

class StoreCore final : public Reclaimer, public PendingOwner {
 public:
  StoreCore(BlockStore::Config config, BlockDevice& device);
  ~StoreCore() override;

  /// Proof that the store stays open: held by every reader, writer and running operation.
  class Use {
   public:
    Use() = default;
    Use(Use&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
    Use& operator=(Use&& other) noexcept {
      std::swap(core_, other.core_);
      return *this;
    }
    ~Use() {
      if (core_ != nullptr) core_->leave();
    }

   private:
    friend class StoreCore;
    explicit Use(StoreCore& core) : core_(&core) {}
    StoreCore* core_ = nullptr;
  };

  /// kClosed while the store is being closed.
  Result<Use> enter();
  /// The context of a poller given to open(); CHECKs that it is one and that this is its thread.
  StorePoller& at(NvmePoller& poller);

  // --- store_access.cc: who may use a block ---

  enum class Intent : std::uint8_t {
    kWrite,   ///< make a session if there is none
    kFinish,  ///< only go on with an abandoned one
  };
  /// The write session of `id`, made, taken over or refused; its base is loaded.
  Task<Result<std::shared_ptr<PendingWrite>>> attach(StorePoller& at, BlockId id, std::uint64_t capacity,
                                                     Intent intent);
  /// The committed generation of `id`, kept alive by the result.
  Task<Result<std::shared_ptr<Generation>>> pin(StorePoller& at, BlockId id);
  /// A reader or writer of `id` has gone.
  void tidy(BlockId id);
  /// From now on openers of the block wait for the session instead of being refused.
  void begin_detach(PendingWrite& pending);
  /// The session has come to rest: keeps it for the grace time.
  void park(const std::shared_ptr<PendingWrite>& pending, TimePoint now);
  /// Ends a session without a commit: the block is what it was before.
  void discard(const std::shared_ptr<PendingWrite>& pending);
  /// Ends parked sessions whose grace time is over (all of them: TimePoint::max()).
  void expire_parked(TimePoint now);
  Task<Result<>> cancel(StorePoller& at, BlockId id);

  // --- store_commit.cc: what becomes durable ---

  /// Makes the session's state the committed one. The caller has written everything and waited for it. On failure the
  /// session is still there, with `error` set.
  Task<Result<BlockInfo>> commit(StorePoller& at, std::shared_ptr<PendingWrite> pending);
  Task<Result<>> remove(StorePoller& at, BlockId id);

  // --- store_settle.cc: what failed half way ---

  /// A change of the block failed and may be on the disk all the same; `space` must not be used meanwhile.
  void leave_unsettled(BlockId id, std::vector<Extent> space);
  /// Makes certain that such a change has no effect, also after a restart. Does nothing for any other block.
  Task<Result<>> settle(StorePoller& at, BlockId id);
  /// False: only a recovery can tell what is allocated.
  bool all_settled();
  /// The error of writing metadata, if the last attempt failed and another one does too.
  Task<Result<>> check_metadata(StorePoller& at);
  /// If the last attempt to write metadata failed: tries again, in the background.
  void probe_metadata();

  /// After a flush that covers all of the session's writes: kIo if an earlier one failed with some of them unflushed.
  Result<> check_flushed(PendingWrite& pending) const;

  // --- checksums ---

  /// From the cache, else from the metadata. `runs` are the generation's.
  Task<Result<std::shared_ptr<const CrcSegment>>> load_segment(StorePoller& at, BlockId id,
                                                               const std::vector<CrcRun>& runs, std::uint32_t index);
  /// Counts and reports a checksum error; the block is marked, everything else goes on.
  Error checksum_error(BlockId id, std::uint64_t offset, std::uint64_t device_offset, std::uint32_t expected,
                       std::uint32_t found);

  void reclaim(std::vector<Extent> extents, MetaBatch garbage) override;
  void drop_pending(PendingWrite& pending) override;

  /// At the very end: lost commands cannot reach the device any more.
  void free_draining();

  [[nodiscard]] SpaceInfo space() const;
  [[nodiscard]] bool fenced() const { return fenced_.load(std::memory_order_relaxed); }
  /// kBusy once the device belongs to another worker.
  [[nodiscard]] Result<> check_owner(const char* operation, BlockId id) const;
  /// The device belongs to somebody else now: nothing is written or committed any more.
  void fence(const Error& why);
  std::uint64_t next_generation() { return superblock.epoch << kEpochShift | ++commits_; }

  // Set up by open (block_store.cc, recovery.cc), constant afterwards.
  const BlockStore::Config config;
  BlockDevice& device;
  Superblock superblock;
  RecoveryReport recovery;
  std::uint64_t capacity = 0;  ///< bytes for blocks: the data area or the configured limit
  std::vector<std::unique_ptr<StorePoller>> pollers;
  std::unique_ptr<BdevOffsetAllocator> allocator;
  std::unique_ptr<BdevMetaStore> meta;
  std::unique_ptr<CommitQueue> queue;
  std::unique_ptr<BlockingPool> blocking;
  std::unique_ptr<Housekeeper> housekeeper;
  std::optional<DeviceLease> lease;  ///< used on the first poller only

  BlockIndex index;
  CrcCache crc_cache;
  StoreProbe probe;
  /// Failed flushes of the device so far. A device (or a kernel's page cache) that fails one may have dropped any
  /// write that was not durable yet, and reports the next flush as a success: see check_flushed().
  std::atomic<std::uint64_t> flush_epoch{0};
  std::atomic<std::uint64_t> finalized{0};
  std::atomic<std::uint64_t> writing{0};
  std::atomic<std::uint64_t> quarantined_bytes{0};
  std::atomic<std::uint64_t> draining_bytes{0};

  // Closing.
  void begin_close() { closing_.store(true); }
  /// Waits until nothing uses the store; false when `timeout` passes first.
  bool wait_unused(Nanos timeout);
  [[nodiscard]] std::uint64_t uses() const { return uses_.load(); }

 private:
  struct Attachment;
  struct Removal;
  struct CommitPlan;

  void leave();
  Attachment try_attach(BlockId id, std::uint64_t capacity, Intent intent);
  Attachment take_over(PendingWrite& pending, std::uint64_t capacity);
  Attachment begin_write(BlockIndex::Locked& block, BlockId id, std::uint64_t capacity);
  Task<Result<>> load_base(StorePoller& at, std::shared_ptr<PendingWrite> pending);
  std::shared_ptr<Generation> publish(BlockEntry& entry, BlockRecord record);
  static std::shared_ptr<PendingWrite> revoke(BlockEntry& entry);
  Result<> settle_reservation(PendingWrite& pending, std::uint64_t capacity);

  Result<> begin_commit(PendingWrite& pending);
  void commit_failed(PendingWrite& pending, const Error& error);
  bool is_unsettled(BlockId id);
  Task<Result<>> plan_segments(StorePoller& at, PendingWrite& pending, CommitPlan& plan);
  static void plan_extents(const PendingWrite& pending, CommitPlan& plan);
  BlockInfo finish_commit(const std::shared_ptr<PendingWrite>& pending, CommitPlan& plan);
  Result<Removal> begin_remove(BlockId id);
  Task<Result<>> load_for_removal(StorePoller& at, BlockId id, Removal& removal);
  void abandon_removal(BlockId id);
  void free_extents(const std::vector<Extent>& extents);

  std::atomic<std::uint64_t> commits_{0};
  std::atomic<bool> fenced_{false};

  std::mutex parked_mutex_;
  struct Parked {
    TimePoint until;
    BlockId id;
  };
  std::deque<Parked> parked_;  // ascending: the grace time is the same for all

  std::mutex unsettled_mutex_;
  std::map<BlockId, std::vector<Extent>> unsettled_;  // with the space that waits for it

  std::mutex draining_mutex_;
  std::vector<Extent> draining_;

  std::atomic<bool> closing_{false};
  std::atomic<std::uint64_t> uses_{0};
  std::mutex unused_mutex_;
  std::condition_variable unused_;
};

}  // namespace leap
