// PendingWrite: everything an uncommitted write session has produced, in memory that belongs to no poller.
//
// While a BlockWriter has it (kAttached) only that writer's poller touches it. When the session goes away the writer
// brings it into a resting state (no I/O, no DMA buffers: an unfilled page is copied to `cached`) and parks it in the
// index, where the next session, on any poller, finds it. Nothing of it is ever persisted: a crash forgets it, and with
// it its space.
//
// Ownership of space: `owned` holds every extent allocated for this session, used or ahead of use. A commit hands the
// used part to the new generation; the destructor returns the rest, or, when a write may still be on its way to the
// device (`uncertain`), leaves it draining.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/generation.h"
#include "store/page_map.h"
#include "store/record.h"
#include "store/types.h"

namespace leap {

struct PendingWrite;

/// Takes back what a PendingWrite that is not committed holds. Outlives it.
class PendingOwner {
 public:
  virtual ~PendingOwner() = default;
  virtual void drop_pending(PendingWrite& pending) = 0;
};

/// Checksums of the pages a session has written, by segment.
class CrcTable {
 public:
  using Segment = std::array<std::uint32_t, kPagesPerSegment>;

  void set(std::uint64_t page, std::uint32_t crc) {
    const auto index = static_cast<std::uint32_t>(page / kPagesPerSegment);
    if (last_ == nullptr || last_index_ != index) {
      std::unique_ptr<Segment>& segment = segments_[index];
      if (segment == nullptr) segment = std::make_unique<Segment>();
      last_ = segment.get();
      last_index_ = index;
    }
    (*last_)[page % kPagesPerSegment] = crc;
  }
  [[nodiscard]] std::uint32_t get(std::uint64_t page) const {
    const auto found = segments_.find(static_cast<std::uint32_t>(page / kPagesPerSegment));
    return found == segments_.end() ? 0 : (*found->second)[page % kPagesPerSegment];
  }
  void clear() {
    segments_.clear();
    last_ = nullptr;
  }

 private:
  std::map<std::uint32_t, std::unique_ptr<Segment>> segments_;
  Segment* last_ = nullptr;
  std::uint32_t last_index_ = 0;
};

struct PendingWrite {
  enum class Phase : std::uint8_t {
    kAttached,    ///< a BlockWriter has it
    kDetaching,   ///< its writer is bringing it to rest
    kParked,      ///< in the index only
    kCommitting,  ///< its metadata is on the way to the disk
  };

  /// One page kept in ordinary memory: the unfilled tail, or the page that is being merged into.
  struct CachedPage {
    std::uint64_t page = 0;
    bool dirty = false;  ///< newer than the device
    std::array<std::byte, kStorePage> bytes;
  };

  PendingWrite(PendingOwner& its_owner, BlockId its_id) : owner(its_owner), id(its_id) {}
  ~PendingWrite() { owner.drop_pending(*this); }
  PendingWrite(const PendingWrite&) = delete;
  PendingWrite& operator=(const PendingWrite&) = delete;

  PendingOwner& owner;
  const BlockId id;

  // Under the index lock of the block.
  Phase phase = Phase::kAttached;
  std::uint64_t capacity = 0;
  TimePoint parked_until;

  /// Set (under the index lock) when the block was cancelled or removed behind the session's back; read anywhere.
  std::atomic<bool> revoked{false};

  // The attached writer's.
  std::shared_ptr<Generation> base;              ///< null: a new block
  std::uint64_t base_pages = 0;                  ///< pages of the base that are still visible, from the start
  std::uint64_t length = 0;                      ///< of the block as it would be committed now
  std::atomic<std::uint64_t> visible_length{0};  ///< copy of `length` for stat()
  PageMap dirty;                                 ///< pages written in this session
  CrcTable crcs;                                 ///< of the pages in `dirty`
  std::unique_ptr<CachedPage> cached;
  std::vector<Extent> owned;
  Extent ahead;                                  ///< the part of `owned` that is not used yet
  std::uint64_t reserved = 0;                    ///< what is left of the reservation
  std::optional<Error> error;                    ///< the first one
  std::optional<std::uint64_t> unflushed_since;  ///< flush epoch of the oldest write that no flush has covered
  bool changed = false;                          ///< anything written or resized since the base
  bool uncertain = false;                        ///< a failed write may still take effect

  void set_length(std::uint64_t to) {
    length = to;
    visible_length.store(to, std::memory_order_relaxed);
  }
};

}  // namespace leap
