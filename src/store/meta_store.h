// BdevMetaStore: the records of store/record.h in RocksDB. Atomic batches, durable when synced, one owner at a time.
//
// Opening takes RocksDB's LOCK: a second process (or a second open in this one) is refused with kBusy. A damaged
// database is kCorrupt with RocksDB's own words; nothing is repaired behind anybody's back. A write-ahead log that ends
// in the middle of a record (power loss) is accepted up to there, because nothing behind it was ever acknowledged; any
// other damage is not.
//
// A write that failed may be on the disk all the same, and a later start would find it there. So what it touched is
// remembered as it was, and the next write that succeeds puts that back first, in the same batch: from then on it is
// certain that the failed one has no effect. RocksDB gives up for good after most failures; it is then opened anew, as
// soon as its directory can be written again. Until then the state before the failure can be read.
//
// Threading: any thread, writes one at a time, and every call blocks: never on a poller (commits go through
// CommitQueue, reads through a BlockingPool).
//
//   MetaBatch batch;
//   batch.put(MetaFamily::kBlocks, block_key(record.id), encode(record));
//   LEAP_TRY_VOID(meta.write(batch, true));                                  // all or nothing, durable
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "store/record.h"

namespace rocksdb {
class Env;
}

namespace leap {

enum class MetaFamily : std::uint8_t { kBlocks, kCrcs, kExtents, kSystem };
inline constexpr std::size_t kMetaFamilies = 4;

/// Changes that happen together. A value type.
class MetaBatch {
 public:
  struct Change {
    MetaFamily family;
    bool erase;
    std::string key;
    std::string value;
  };

  void put(MetaFamily family, std::string key, std::string value) {
    bytes_ += key.size() + value.size();
    changes_.push_back({family, false, std::move(key), std::move(value)});
  }
  void erase(MetaFamily family, std::string key) {
    bytes_ += key.size();
    changes_.push_back({family, true, std::move(key), {}});
  }
  [[nodiscard]] bool empty() const { return changes_.empty(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] const std::vector<Change>& changes() const { return changes_; }

 private:
  std::vector<Change> changes_;
  std::size_t bytes_ = 0;
};

class BdevMetaStore {
 public:
  struct Config {
    std::string dir;
    rocksdb::Env* env =
        nullptr;  ///< the file system underneath; nullptr: the machine's. A seam for crash and fault tests
  };

  /// Makes an empty store that belongs to `identity`. kAlreadyExists when there is one and not `force`; kBusy when it
  /// is open.
  static Result<> create(const Config& config, const IdentityRecord& identity, bool force);
  /// Errors: kNotFound (nothing there), kBusy (in use), kCorrupt, kIo.
  static Result<std::unique_ptr<BdevMetaStore>> open(const Config& config);
  ~BdevMetaStore();
  BdevMetaStore(const BdevMetaStore&) = delete;
  BdevMetaStore& operator=(const BdevMetaStore&) = delete;

  /// Several batches as one atomic write. An error leaves it open whether they are durable (may_have_executed()) until
  /// a later write succeeds: then they are not.
  Result<> write(const std::vector<const MetaBatch*>& batches, bool sync);
  Result<> write(const MetaBatch& batch, bool sync) { return write({&batch}, sync); }

  /// Nothing when there is no such key.
  Result<std::optional<std::string>> get(MetaFamily family, std::string_view key);
  /// kNotFound when there is none; kCorrupt when it is damaged or another block's.
  Result<BlockRecord> load_block(BlockId id);
  Result<CrcSegment> load_crcs(BlockId id, std::uint64_t generation, std::uint32_t segment);
  Result<IdentityRecord> load_identity();

  /// Visits every record of a family whose key starts with `prefix`, in key order, until `visit` returns false.
  Result<> scan(MetaFamily family, std::string_view prefix,
                const std::function<bool(std::string_view key, std::string_view value)>& visit);

  /// Whether the last write succeeded. After one that failed each later one asks RocksDB to go on first. Any thread.
  [[nodiscard]] bool writable() const;
  [[nodiscard]] const std::string& dir() const { return config_.dir; }

 private:
  struct Database;
  BdevMetaStore(Config config, std::unique_ptr<Database> db);

  static Result<std::unique_ptr<Database>> open_database(const Config& config);
  Result<> go_on();
  Result<> try_write(const std::vector<const MetaBatch*>& batches, bool sync);
  void remember(const std::vector<const MetaBatch*>& batches);

  const Config config_;
  std::atomic<bool> write_failed_{false};
  std::shared_mutex database_mutex_;  // exclusive while the database is replaced
  std::unique_ptr<Database> db_;      // nothing: opening it anew has failed
  /// What failed writes have touched, as it was before: nothing means it was not there.
  std::map<std::pair<MetaFamily, std::string>, std::optional<std::string>> before_;
};

}  // namespace leap
