#include "store/meta_store.h"

#include <array>
#include <atomic>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

namespace leap {
namespace {

constexpr std::array<const char*, kMetaFamilies> kFamilyNames = {"blocks", "crcs", "extents", "system"};
constexpr std::size_t kCacheBytes = std::size_t{32} << 20;
constexpr std::size_t kWriteBufferBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxLogBytes = std::size_t{128} << 20;

rocksdb::Options base_options(rocksdb::Env* env) {
  rocksdb::Options options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = false;
  options.paranoid_checks = true;
  // Only a record cut off at the end of the log is what a power loss leaves; anything else is damage and must be seen.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.recycle_log_file_num = 0;
  options.max_total_wal_size = kMaxLogBytes;
  options.max_background_jobs = 2;
  options.max_open_files = 512;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = 3;
  options.skip_stats_update_on_db_open = true;
  return options;
}

std::vector<rocksdb::ColumnFamilyDescriptor> families(const rocksdb::Options& options) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kCacheBytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  rocksdb::ColumnFamilyOptions family(options);
  family.write_buffer_size = kWriteBufferBytes;
  family.compression = rocksdb::kNoCompression;  // ids, offsets and checksums: nothing to squeeze
  family.level_compaction_dynamic_level_bytes = true;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  std::vector<rocksdb::ColumnFamilyDescriptor> all;
  all.emplace_back(rocksdb::kDefaultColumnFamilyName, rocksdb::ColumnFamilyOptions(options));
  for (const char* name : kFamilyNames) all.emplace_back(name, family);
  return all;
}

Error from_status(const rocksdb::Status& status, const std::string& what) {
  Errc kind = Errc::kIo;
  if (status.IsCorruption())
    kind = Errc::kCorrupt;
  else if (status.IsNotFound())
    kind = Errc::kNotFound;
  else if (status.IsNoSpace())
    kind = Errc::kNoSpace;
  else if (status.IsBusy())
    kind = Errc::kBusy;
  return Error(kind, fmt::format("{}: {}", what, status.ToString())).in(ErrorDomain::kStore);
}

Error open_error(const rocksdb::Status& status, const std::string& dir) {
  const std::string text = status.ToString();
  if (text.find("lock") != std::string::npos && (status.IsIOError() || status.IsBusy())) {
    return Error(Errc::kBusy, fmt::format("metadata directory {} is in use by another worker: {}", dir, text))
        .in(ErrorDomain::kStore);
  }
  if (status.IsInvalidArgument() && text.find("does not exist") != std::string::npos) {
    return Error(Errc::kNotFound, fmt::format("no metadata in {} (leap format makes it): {}", dir, text))
        .in(ErrorDomain::kStore);
  }
  // A file that the manifest names and that is gone or cut short is damage, whatever RocksDB calls it.
  const bool missing_file = status.IsPathNotFound() || text.find("No such file") != std::string::npos ||
                            text.find("Column families not opened") != std::string::npos ||
                            text.find("Column family not found") != std::string::npos;
  if (status.IsCorruption() || missing_file) {
    return Error(Errc::kCorrupt, fmt::format("metadata in {} is damaged: {}", dir, text)).in(ErrorDomain::kStore);
  }
  return from_status(status, "open metadata in " + dir);
}

rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

}  // namespace

struct BdevMetaStore::Database {
  rocksdb::DB* db = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;  // the default family first

  Database() = default;
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database() {
    if (db == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* handle : handles) db->DestroyColumnFamilyHandle(handle);
    delete db;
  }
  [[nodiscard]] rocksdb::ColumnFamilyHandle* family(MetaFamily which) const {
    return handles[static_cast<std::size_t>(which) + 1];
  }
};

BdevMetaStore::BdevMetaStore(Config config, std::unique_ptr<Database> db)
    : config_(std::move(config)), db_(std::move(db)) {}

BdevMetaStore::~BdevMetaStore() = default;

Result<> BdevMetaStore::create(const Config& config, const IdentityRecord& identity, bool force) {
  std::error_code failed;
  std::filesystem::create_directories(config.dir, failed);
  if (failed) return Error::os(failed.value(), "create metadata directory " + config.dir);
  rocksdb::Options options = base_options(config.env);
  const bool exists = options.env->FileExists(config.dir + "/CURRENT").ok();
  if (exists && !force) {
    return Error(Errc::kAlreadyExists, fmt::format("{} holds the metadata of a formatted device", config.dir))
        .in(ErrorDomain::kStore);
  }
  if (exists) {
    const rocksdb::Status destroyed = rocksdb::DestroyDB(config.dir, options);
    if (!destroyed.ok()) return open_error(destroyed, config.dir);
  }
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  auto database = std::make_unique<Database>();
  const rocksdb::Status opened =
      rocksdb::DB::Open(options, config.dir, families(options), &database->handles, &database->db);
  if (!opened.ok()) return open_error(opened, config.dir);
  BdevMetaStore store(config, std::move(database));
  MetaBatch batch;
  batch.put(MetaFamily::kSystem, std::string(kIdentityKey), encode(identity));
  return store.write(batch, true);
}

Result<std::unique_ptr<BdevMetaStore::Database>> BdevMetaStore::open_database(const Config& config) {
  const rocksdb::Options options = base_options(config.env);
  auto database = std::make_unique<Database>();
  const rocksdb::Status opened =
      rocksdb::DB::Open(options, config.dir, families(options), &database->handles, &database->db);
  if (!opened.ok()) return open_error(opened, config.dir);
  return database;
}

Result<std::unique_ptr<BdevMetaStore>> BdevMetaStore::open(const Config& config) {
  LEAP_TRY(auto database, open_database(config));
  return std::unique_ptr<BdevMetaStore>(new BdevMetaStore(config, std::move(database)));
}

// After a failed write RocksDB refuses everything: it may let itself be talked into going on, or is opened anew.
Result<> BdevMetaStore::go_on() {
  if (db_ != nullptr && db_->db->Resume().ok()) return {};
  // Not before there is hope: what is open can at least be read.
  rocksdb::Env* const env = config_.env != nullptr ? config_.env : rocksdb::Env::Default();
  const std::string probe = config_.dir + "/writable";
  const rocksdb::Status written = rocksdb::WriteStringToFile(env, "writable?\n", probe, true);
  if (!written.ok()) return from_status(written, "write to " + config_.dir);
  const std::unique_lock lock(database_mutex_);
  db_.reset();
  LEAP_TRY(db_, open_database(config_));
  return {};
}

// Of what a failed write has touched, the state that can be seen: RocksDB shows none of it.
void BdevMetaStore::remember(const std::vector<const MetaBatch*>& batches) {
  for (const MetaBatch* batch : batches) {
    for (const MetaBatch::Change& change : batch->changes()) {
      const auto [slot, added] = before_.try_emplace({change.family, change.key});
      if (!added) continue;  // an earlier failure: what was before that one counts
      Result<std::optional<std::string>> value = get(change.family, change.key);
      if (value)
        slot->second = std::move(*value);
      else
        before_.erase(slot);  // neither readable nor writable: only a recovery can help
    }
  }
}

Result<> BdevMetaStore::write(const std::vector<const MetaBatch*>& batches, bool sync) {
  if (!writable()) LEAP_TRY_VOID(go_on());
  Result<> written = try_write(batches, sync);
  // RocksDB refuses a write also for an error of the past, of a job in the background: that one may be over.
  if (!written && go_on()) return try_write(batches, sync);
  return written;
}

Result<> BdevMetaStore::try_write(const std::vector<const MetaBatch*>& batches, bool sync) {
  rocksdb::WriteBatch combined;
  const auto add = [&](MetaFamily family, const std::string& key, const std::string* value) {
    return value == nullptr ? combined.Delete(db_->family(family), key)
                            : combined.Put(db_->family(family), key, *value);
  };
  rocksdb::Status added;
  for (const auto& [key, value] : before_) {
    if (added.ok()) added = add(key.first, key.second, value ? &*value : nullptr);
  }
  for (const MetaBatch* batch : batches) {
    for (const MetaBatch::Change& change : batch->changes()) {
      if (added.ok()) added = add(change.family, change.key, change.erase ? nullptr : &change.value);
    }
  }
  if (!added.ok()) return from_status(added, "build a metadata batch");
  rocksdb::WriteOptions options;
  options.sync = sync || !before_.empty();
  const rocksdb::Status written = db_->db->Write(options, &combined);
  write_failed_ = !written.ok();
  if (written.ok()) {
    before_.clear();
    return {};
  }
  remember(batches);
  return from_status(written, "write metadata in " + config_.dir).maybe_executed();
}

bool BdevMetaStore::writable() const { return !write_failed_; }

Result<std::optional<std::string>> BdevMetaStore::get(MetaFamily family, std::string_view key) {
  const std::shared_lock lock(database_mutex_);
  if (db_ == nullptr)
    return Error(Errc::kIo, fmt::format("metadata in {} is not open", config_.dir)).in(ErrorDomain::kStore);
  std::string value;
  const rocksdb::Status status = db_->db->Get(rocksdb::ReadOptions(), db_->family(family), slice(key), &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return from_status(status, "read metadata in " + config_.dir);
  return std::optional<std::string>(std::move(value));
}

Result<BlockRecord> BdevMetaStore::load_block(BlockId id) {
  LEAP_TRY(const std::optional<std::string> value, get(MetaFamily::kBlocks, block_key(id)));
  if (!value) return Error(Errc::kNotFound, fmt::format("block {} has no record", id)).in(ErrorDomain::kStore);
  LEAP_TRY(BlockRecord record, decode_block_record(*value));
  if (record.id != id) {
    return Error(Errc::kCorrupt, fmt::format("the record of block {} says it is block {}", id, record.id))
        .in(ErrorDomain::kStore);
  }
  return record;
}

Result<CrcSegment> BdevMetaStore::load_crcs(BlockId id, std::uint64_t generation, std::uint32_t segment) {
  LEAP_TRY(const std::optional<std::string> value, get(MetaFamily::kCrcs, crc_key(id, generation, segment)));
  if (!value) {
    return Error(Errc::kCorrupt, fmt::format("block {}: the checksums of segment {} (generation {}) are missing", id,
                                             segment, generation))
        .in(ErrorDomain::kStore);
  }
  LEAP_TRY(CrcSegment record, decode_crc_segment(*value));
  if (record.id != id || record.generation != generation || record.index != segment) {
    return Error(Errc::kCorrupt, fmt::format("block {}: the checksums of segment {} belong to block {} segment {}", id,
                                             segment, record.id, record.index))
        .in(ErrorDomain::kStore);
  }
  return record;
}

Result<IdentityRecord> BdevMetaStore::load_identity() {
  LEAP_TRY(const std::optional<std::string> value, get(MetaFamily::kSystem, kIdentityKey));
  if (!value) {
    return Error(Errc::kCorrupt, fmt::format("metadata in {} has no identity record", config_.dir))
        .in(ErrorDomain::kStore);
  }
  return decode_identity_record(*value);
}

Result<> BdevMetaStore::scan(MetaFamily family, std::string_view prefix,
                             const std::function<bool(std::string_view key, std::string_view value)>& visit) {
  const std::shared_lock lock(database_mutex_);
  if (db_ == nullptr)
    return Error(Errc::kIo, fmt::format("metadata in {} is not open", config_.dir)).in(ErrorDomain::kStore);
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.readahead_size = std::size_t{2} << 20;
  const std::unique_ptr<rocksdb::Iterator> it(db_->db->NewIterator(options, db_->family(family)));
  for (it->Seek(slice(prefix)); it->Valid() && it->key().starts_with(slice(prefix)); it->Next()) {
    if (!visit(view(it->key()), view(it->value()))) return {};
  }
  if (!it->status().ok()) return from_status(it->status(), "scan metadata in " + config_.dir);
  return {};
}

}  // namespace leap
