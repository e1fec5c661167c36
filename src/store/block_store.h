// BlockStore: blocks on one device. What is acknowledged is kept, what is not never shows, space is never handed out
// twice.
//
//   LEAP_TRY_VOID(BlockStore::format(pollers[0], device, {.meta_dir = dir, .cluster_id = "c1"}));    // explicit, once
//   LEAP_TRY(auto store, BlockStore::open({.meta_dir = dir, .cluster_id = "c1"}, device, pollers));
//   ... on a poller: co_await store->open_writer(poller, id, {.capacity = n}); co_await store->open_reader(poller, id);
//   LEAP_TRY_VOID(store->close());
//
// Commit order: data written -> device flush (if it has a volatile cache) -> one synced metadata batch -> switched in
// memory -> acknowledged. A page is reused only when the deletion or replacement that freed it is durable and its last
// reader or writer is gone. Uncommitted data is never in the metadata, so a crash reclaims it.
//
// One owner: the metadata directory is locked (RocksDB), and the device carries a lease (store/lease.h).
//
// Threading: format, open, close and the destructor block and belong to a control thread that is no poller, while the
// pollers run. Task functions run on one of the pollers given to open(). stat, list, space and probe: any thread.
// All readers and writers must be gone before the store is destroyed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "bdev/block_device.h"
#include "poller/poller_context.h"
#include "store/block_reader.h"
#include "store/block_writer.h"
#include "store/superblock.h"
#include "store/types.h"

namespace rocksdb {
class Env;
}

namespace leap {

class StoreCore;

struct StoreProbe {
  SharedCounter blocks_committed;  ///< new blocks and new generations
  SharedCounter blocks_removed;
  SharedCounter blocks_cancelled;  ///< by request, by the end of the grace time, by failure
  SharedCounter pages_merged;      ///< partial overwrites that had to read the page first
  SharedCounter device_flushes;
  SharedCounter checksum_errors;
  SharedCounter commit_failures;
  SharedCounter crc_loads;  ///< checksum segments fetched from the metadata store
  SharedCounter spills;     ///< staged data written early because buffers ran out
};

/// Counted where it happens, summed on demand.
struct StoreTotals {
  std::uint64_t bytes_read = 0;     ///< from the device, whole pages
  std::uint64_t bytes_written = 0;  ///< to the device, padding included
  std::uint64_t meta_commits = 0;   ///< changes made durable
  std::uint64_t meta_syncs = 0;     ///< synced batches that carried them (group commit)
};

class BlockStore {
 public:
  struct Config {
    std::string name = "store";                     ///< for messages: the data_dir entry
    std::string meta_dir{};                         ///< RocksDB directory, made by format()
    std::string cluster_id{};                       ///< must be the superblock's
    std::uint64_t capacity_limit = 0;               ///< bytes; 0: the whole device
    std::uint64_t set_aside = 0;                    ///< bytes never promised to writers (worker.dir_reserved)
    Nanos detach_grace = std::chrono::minutes(10);  ///< how long an abandoned write session is kept
    std::size_t writer_window = 4;                  ///< chunks in flight per writer, 1..64
    std::uint64_t allocate_ahead = 8ULL << 20;  ///< bytes a growing block allocates at once, at most; trimmed at commit
    std::uint64_t crc_cache_bytes = 64ULL << 20;      ///< memory for checksums of recently read blocks
    std::size_t blocking_threads = 2;                 ///< for metadata reads
    Nanos lease_heartbeat = std::chrono::seconds(5);  ///< the device lease is renewed this often
    Nanos lease_timeout = std::chrono::seconds(15);   ///< a foreign lease that stands still this long is dead
    Nanos close_timeout = std::chrono::seconds(30);   ///< close() waits this long for open readers and writers
    rocksdb::Env* meta_env = nullptr;                 ///< BdevMetaStore::Config::env: a seam for crash and fault tests

    [[nodiscard]] Result<> validate() const;
  };

  struct FormatOptions {
    std::string meta_dir{};    ///< created; must be empty or absent unless force
    std::string cluster_id{};  ///< 1..127 bytes
    std::uint32_t worker_id = 0;
    Uuid storage_id{};   ///< identity of the data directory; nil: a random one
    bool force = false;  ///< discard what an earlier format left, on the device and in meta_dir
  };

  struct OpenWrite {
    std::uint64_t capacity = 0;  ///< bytes the block may grow to; reserved until it is committed
    std::uint64_t offset = 0;    ///< first position(), <= capacity
  };

  struct ListPage {
    std::vector<BlockInfo> blocks;
    std::optional<std::uint32_t> next;  ///< cursor for the next call; nothing: the end
  };

  /// Makes the superblocks and an empty metadata directory. Errors: kAlreadyExists (formatted, or not empty where
  /// the superblocks go, and not force), kBusy (a live worker holds the device), kInvalidArgument (device too small, bad
  /// cluster id), device and file errors.
  static Result<Superblock> format(PollerContext context, BlockDevice& device, const FormatOptions& options);

  /// Verifies identity, takes the lease, recovers. Errors name the cause and the way out: kNotFound (not formatted,
  /// metadata missing), kWrongState (another cluster, another device's metadata, device shrunk), kBusy (another
  /// worker), kCorrupt, kUnsupported (newer format). Damaged single records do not fail it: see recovery().
  static Result<std::unique_ptr<BlockStore>> open(const Config& config, BlockDevice& device,
                                                  std::vector<PollerContext> pollers);
  /// Without close(): as a crash would leave it.
  ~BlockStore();
  BlockStore(const BlockStore&) = delete;
  BlockStore& operator=(const BlockStore&) = delete;

  /// Refuses new work, drops uncommitted blocks, waits for open handles (kTimedOut names how many; may be called
  /// again), persists the allocator, releases the lease. Idempotent.
  Result<> close();

  // --- on a poller given to open() ---

  /// Unknown id: a new block; finalized: a rewrite; abandoned by its session: goes on where that stopped.
  /// Errors: kBusy (another session writes it), kNoSpace (capacity not available), kInvalidArgument, kClosed.
  Task<Result<std::unique_ptr<BlockWriter>>> open_writer(NvmePoller& poller, BlockId id, OpenWrite options);
  /// Errors: kNotFound (unknown or never committed), kClosed.
  Task<Result<std::unique_ptr<BlockReader>>> open_reader(NvmePoller& poller, BlockId id);
  /// Complete without the session that wrote it (protocol 2.2.3): finalized with equal length succeeds, other lengths
  /// are kWrongState, an abandoned write session is committed, unknown is kNotFound, an open session elsewhere is
  /// kBusy.
  Task<Result<BlockInfo>> complete(NvmePoller& poller, BlockId id, std::uint64_t length, std::uint64_t capacity);
  /// Cancel without the session (protocol 2.2.4): a rewrite returns to the committed generation, a new block is
  /// dropped, a finalized one is deleted, unknown succeeds. An open session elsewhere loses the block.
  Task<Result<>> cancel(NvmePoller& poller, BlockId id);
  /// Deletes durably; readers keep what they have open, an open write session loses the block. Errors: kNotFound.
  Task<Result<>> remove(NvmePoller& poller, BlockId id);

  // --- any thread ---

  [[nodiscard]] bool contains(BlockId id) const;
  [[nodiscard]] Result<BlockInfo> stat(BlockId id) const;
  /// Some blocks from cursor on, in no particular order; at least `limit` unless it is the end.
  [[nodiscard]] ListPage list(std::uint32_t cursor, std::size_t limit) const;
  [[nodiscard]] SpaceInfo space() const;
  [[nodiscard]] const StoreProbe& probe() const;
  [[nodiscard]] StoreTotals totals() const;
  [[nodiscard]] const RecoveryReport& recovery() const;
  [[nodiscard]] const Superblock& superblock() const;
  [[nodiscard]] const Config& config() const;
  /// False once the device lease was lost to another worker or the metadata store refuses writes.
  [[nodiscard]] bool healthy() const;
  /// Everything above as Prometheus text, labelled with the name.
  void write_metrics(MetricsText& page) const;

 private:
  explicit BlockStore(std::unique_ptr<StoreCore> core);
  Task<Result<std::unique_ptr<BlockWriter>>> attach_writer(NvmePoller& poller, BlockId id, OpenWrite options,
                                                           bool may_create);
  std::unique_ptr<StoreCore> core_;
};

}  // namespace leap
