#include "store/store_set.h"

#include <utility>

#include <fmt/format.h>

#include "base/units.h"

namespace leap {
namespace {

Error store_error(Errc kind, std::string text) { return Error(kind, std::move(text)).in(ErrorDomain::kStore); }

Error not_found(BlockId id) { return store_error(Errc::kNotFound, fmt::format("block {} not exists", id)); }

}  // namespace

Result<> StoreSet::add(StorageType type, std::unique_ptr<BlockStore> store) {
  for (const Directory& there : directories_) {
    if (there.store->superblock().storage_id == store->superblock().storage_id) {
      return store_error(Errc::kAlreadyExists,
                         fmt::format("{} and {} have the same storage id {}: one is a copy of the other",
                                     there.store->config().name, store->config().name, store->superblock().storage_id));
    }
  }
  directories_.push_back({type, std::move(store)});
  return {};
}

Result<> StoreSet::close() {
  Result<> first;
  for (const Directory& directory : directories_) {
    Result<> closed = directory.store->close();
    if (!closed && first) first = std::move(closed);
  }
  return first;
}

StoreSet::Directory* StoreSet::find(BlockId id) {
  for (Directory& directory : directories_) {
    if (directory.store->contains(id)) return &directory;
  }
  return nullptr;
}

const StoreSet::Directory* StoreSet::find(BlockId id) const {
  for (const Directory& directory : directories_) {
    if (directory.store->contains(id)) return &directory;
  }
  return nullptr;
}

StoreSet::Directory* StoreSet::choose_matching(StorageType type, bool any_type, std::uint64_t capacity) {
  std::atomic<std::size_t>& last = last_used_[static_cast<std::size_t>(any_type ? StorageType::kDisk : type)];
  const std::size_t start = last.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < directories_.size(); ++i) {
    const std::size_t index = (start + i) % directories_.size();
    Directory& directory = directories_[index];
    if (!any_type && directory.type != type) continue;
    if (!directory.store->healthy() || directory.store->space().available < page_round_up(capacity)) continue;
    last.store(index + 1, std::memory_order_relaxed);
    return &directory;
  }
  return nullptr;
}

Result<StoreSet::Directory*> StoreSet::choose(StorageType type, std::uint64_t capacity) {
  const bool any = type == StorageType::kDisk;
  Directory* directory = choose_matching(type, any, capacity);
  if (directory == nullptr && !any) directory = choose_matching(type, true, capacity);
  if (directory != nullptr) return directory;
  return store_error(Errc::kNoSpace, fmt::format("Not enough {} storage capacity for {} bytes ({} directories)",
                                                 to_string(type), capacity, directories_.size()));
}

Task<Result<StoreSet::OpenedWriter>> StoreSet::open_writer(NvmePoller& poller, BlockId id, OpenWrite options) {
  Directory* directory = nullptr;
  bool placing = false;
  {
    const std::lock_guard lock(placing_mutex_);
    directory = find(id);
    if (directory == nullptr) {
      if (offline_ != 0 && options.offset > 0) {
        co_return store_error(Errc::kIo, fmt::format("open block {} at {}: not in the directories that are there, and "
                                                     "{} are offline",
                                                     id, options.offset, offline_));
      }
      // Two sessions that create one id at the same time must not do so in two directories.
      if (placing_.contains(id))
        co_return store_error(Errc::kBusy, fmt::format("block {}: another session is creating it", id));
      LEAP_CO_TRY(directory, choose(options.type, options.capacity));
      placing_.insert(id);
      placing = true;
    }
  }
  Result<std::unique_ptr<BlockWriter>> writer =
      co_await directory->store->open_writer(poller, id, {.capacity = options.capacity, .offset = options.offset});
  if (placing) {
    const std::lock_guard lock(placing_mutex_);
    placing_.erase(id);
  }
  if (!writer) co_return std::move(writer).error();
  co_return OpenedWriter{std::move(*writer), directory->type};
}

Task<Result<StoreSet::OpenedReader>> StoreSet::open_reader(NvmePoller& poller, BlockId id) {
  const Directory* const directory = find(id);
  if (directory == nullptr) co_return not_found(id);
  LEAP_CO_TRY(std::unique_ptr<BlockReader> reader, co_await directory->store->open_reader(poller, id));
  co_return OpenedReader{std::move(reader), directory->type};
}

Task<Result<BlockInfo>> StoreSet::complete(NvmePoller& poller, BlockId id, std::uint64_t length,
                                           std::uint64_t capacity) {
  const Directory* const directory = find(id);
  if (directory == nullptr) co_return not_found(id);
  co_return co_await directory->store->complete(poller, id, length, capacity);
}

Task<Result<>> StoreSet::cancel(NvmePoller& poller, BlockId id) {
  const Directory* const directory = find(id);
  if (directory == nullptr) co_return Result<>{};
  co_return co_await directory->store->cancel(poller, id);
}

Task<Result<>> StoreSet::remove(NvmePoller& poller, BlockId id) {
  const Directory* const directory = find(id);
  if (directory == nullptr) co_return not_found(id);
  co_return co_await directory->store->remove(poller, id);
}

Result<StoreSet::Listed> StoreSet::stat(BlockId id) const {
  const Directory* const directory = find(id);
  if (directory == nullptr) return not_found(id);
  LEAP_TRY(const BlockInfo info, directory->store->stat(id));
  return Listed{info, directory->type};
}

StoreSet::ListPage StoreSet::list(Cursor cursor, std::size_t limit) const {
  ListPage page;
  while (cursor.directory < directories_.size() && page.blocks.size() < limit) {
    const Directory& directory = directories_[cursor.directory];
    const BlockStore::ListPage part = directory.store->list(cursor.within, limit - page.blocks.size());
    for (const BlockInfo& info : part.blocks) page.blocks.push_back({info, directory.type});
    if (part.next)
      cursor.within = *part.next;
    else
      cursor = {cursor.directory + 1, 0};
  }
  if (cursor.directory < directories_.size()) page.next = cursor;
  return page;
}

SpaceInfo StoreSet::space() const {
  SpaceInfo sum;
  double weighted = 0;
  for (const Directory& directory : directories_) {
    const SpaceInfo one = directory.store->space();
    sum.capacity += one.capacity;
    sum.allocated += one.allocated;
    sum.reserved += one.reserved;
    sum.free += one.free;
    sum.available += one.available;
    sum.largest_free_extent = std::max(sum.largest_free_extent, one.largest_free_extent);
    sum.draining += one.draining;
    sum.quarantined += one.quarantined;
    sum.blocks += one.blocks;
    sum.blocks_writing += one.blocks_writing;
    weighted += one.fragmentation * static_cast<double>(one.free);
  }
  if (sum.free != 0) sum.fragmentation = weighted / static_cast<double>(sum.free);
  return sum;
}

void StoreSet::write_metrics(MetricsText& page) const {
  for (const Directory& directory : directories_) directory.store->write_metrics(page);
}

}  // namespace leap
