// StoreSet: the data directories of a worker, each a BlockStore, behind one interface.
//
// A block lives in one store. New blocks go round robin over the directories of the requested type that have the space
// (kDisk matches any type; no match falls back to any directory), as Curvine's protocol 4.5 says. A store that is not
// there (device offline, failed to open) is simply not in the set: its blocks are unknown, nothing is re-mapped.
//
//   StoreSet set;
//   set.add(StorageType::kSpdkDisk, std::move(store));
//   LEAP_CO_TRY(OpenedWriter open, co_await set.open_writer(poller, id, {.capacity = n, .type = StorageType::kDisk}));
//
// Threading: add() and close() from the control thread, before and after use; the rest as BlockStore's functions.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "store/block_store.h"

namespace leap {

class StoreSet {
 public:
  struct OpenWrite {
    std::uint64_t capacity = 0;
    std::uint64_t offset = 0;
    StorageType type = StorageType::kDisk;
  };
  struct OpenedWriter {
    std::unique_ptr<BlockWriter> writer;
    StorageType type = StorageType::kDisk;  ///< of the directory that has the block
  };
  struct OpenedReader {
    std::unique_ptr<BlockReader> reader;
    StorageType type = StorageType::kDisk;
  };
  struct Directory {
    StorageType type = StorageType::kDisk;
    std::unique_ptr<BlockStore> store;
  };
  /// Position in list(): starts at {}.
  struct Cursor {
    std::size_t directory = 0;
    std::uint32_t within = 0;
  };
  struct Listed {
    BlockInfo info;
    StorageType type = StorageType::kDisk;
  };
  struct ListPage {
    std::vector<Listed> blocks;
    std::optional<Cursor> next;
  };

  /// kAlreadyExists: a directory with the same storage id is there already (a copied device).
  Result<> add(StorageType type, std::unique_ptr<BlockStore> store);
  /// A directory whose blocks are not known now: an id that is unknown may be one of them. A writer that means to go on
  /// with such a block (offset > 0) is refused with kIo; one that starts at 0 brings all of it.
  void note_offline() { ++offline_; }
  /// Closes all; the first error, after all were tried. Idempotent.
  Result<> close();

  /// As BlockStore::open_writer. kNoSpace names the type and the bytes when no directory has room.
  Task<Result<OpenedWriter>> open_writer(NvmePoller& poller, BlockId id, OpenWrite options);
  Task<Result<OpenedReader>> open_reader(NvmePoller& poller, BlockId id);
  Task<Result<BlockInfo>> complete(NvmePoller& poller, BlockId id, std::uint64_t length, std::uint64_t capacity);
  Task<Result<>> cancel(NvmePoller& poller, BlockId id);
  Task<Result<>> remove(NvmePoller& poller, BlockId id);

  [[nodiscard]] Result<Listed> stat(BlockId id) const;
  [[nodiscard]] ListPage list(Cursor cursor, std::size_t limit) const;
  [[nodiscard]] SpaceInfo space() const;
  [[nodiscard]] const std::vector<Directory>& directories() const { return directories_; }
  void write_metrics(MetricsText& page) const;

 private:
  static constexpr std::size_t kTypes = 6;

  [[nodiscard]] Directory* find(BlockId id);
  [[nodiscard]] const Directory* find(BlockId id) const;
  Result<Directory*> choose(StorageType type, std::uint64_t capacity);
  Directory* choose_matching(StorageType type, bool any_type, std::uint64_t capacity);

  std::vector<Directory> directories_;
  std::size_t offline_ = 0;
  std::array<std::atomic<std::size_t>, kTypes> last_used_{};
  std::mutex placing_mutex_;
  std::set<BlockId> placing_;  // new ids between the choice of a directory and their entry in its index
};

}  // namespace leap
