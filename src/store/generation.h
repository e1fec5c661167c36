// Generation: one committed version of a block. Immutable while anyone can read it; its space outlives its last user.
//
//   gen 7 (superseded, 2 readers) --next--> gen 9 (superseded, no reader) --next--> gen 12 (current)
//   frees {e1} when it dies                  frees {e4, e5} when it dies
//
// A reader holds its generation, an older generation holds the next one. So an extent that gen 9 shares with gen 7 and
// gen 12 dropped is freed only when gen 7 is gone too. retire() names what to free; it is called once, after the commit
// or delete that dropped it is durable. The destructor then hands the space back.
//
// Threading: shared between pollers through shared_ptr (copied at open and close only, never per I/O). retire() by the
// one who committed; everything else is const.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "store/meta_store.h"
#include "store/page_map.h"
#include "store/record.h"

namespace leap {

/// Where freed space goes. Outlives every Generation.
class Reclaimer {
 public:
  virtual ~Reclaimer() = default;
  /// `extents` are free from now on; `garbage` is metadata to drop some time.
  virtual void reclaim(std::vector<Extent> extents, MetaBatch garbage) = 0;
};

class Generation {
 public:
  Generation(Reclaimer& reclaimer, BlockRecord record)
      : reclaimer_(reclaimer),
        id_(record.id),
        number_(record.generation),
        length_(record.length),
        capacity_(record.capacity),
        map_(std::move(record.extents)),
        crc_runs_(std::move(record.crc_runs)) {}
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  [[nodiscard]] BlockId id() const { return id_; }
  [[nodiscard]] std::uint64_t number() const { return number_; }
  [[nodiscard]] std::uint64_t length() const { return length_; }
  [[nodiscard]] std::uint64_t capacity() const { return capacity_; }
  [[nodiscard]] const PageMap& map() const { return map_; }
  [[nodiscard]] const std::vector<CrcRun>& crc_runs() const { return crc_runs_; }

  /// What to free when the last user is gone. `next` is the generation that shares the rest; null after a delete.
  void retire(std::vector<Extent> freed, MetaBatch garbage, std::shared_ptr<Generation> next);

 private:
  Reclaimer& reclaimer_;
  const BlockId id_;
  const std::uint64_t number_;
  const std::uint64_t length_;
  const std::uint64_t capacity_;
  const PageMap map_;
  const std::vector<CrcRun> crc_runs_;

  std::vector<Extent> freed_;
  MetaBatch garbage_;
  std::shared_ptr<Generation> next_;
};

}  // namespace leap
