// WriterCore: how the bytes of one write session get to the device. Internal to the room; BlockWriter is its face.
//
// Bytes land in a staged DMA buffer that starts at a page boundary. What happens to it:
//
//   event                              whole pages                      unfilled last page
//   buffer full                        written, several in flight       (none)
//   next byte elsewhere, detach,       written                          kept in ordinary memory (PendingWrite::cached),
//   buffers run out (spill)                                             merged with what the page held before
//   flush, complete                    written                          written too, padded with zeros or what it held
//
// A page written before in this session is written in place (nobody can see it), any other goes to newly allocated
// space. Every I/O in flight is for pages before the staged ones, so they never overlap; going backwards waits for them
// first. Bytes of a page past the block's length are always zeros.
//
// Threading: its poller's thread, one operation at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "poller/sync.h"
#include "store/block_writer.h"
#include "store/pending_write.h"
#include "store/store_core.h"

namespace leap {

class WriterCore final : public StagedWriter {
 public:
  WriterCore(StoreCore& core, StorePoller& at, StoreCore::Use use, std::shared_ptr<PendingWrite> pending,
             std::uint64_t position);
  /// A session that is not finished is discarded; with I/O in flight its space stays out of use.
  ~WriterCore() override;

  [[nodiscard]] BlockId id() const { return id_; }
  [[nodiscard]] std::uint64_t capacity() const { return capacity_; }
  [[nodiscard]] std::uint64_t position() const { return position_; }
  [[nodiscard]] std::uint64_t length() const {
    return p_ == nullptr ? completed_.value_or(BlockInfo{}).length : p_->length;
  }
  [[nodiscard]] bool is_rewrite() const { return is_rewrite_; }
  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] NvmePoller& poller() const { return at_.poller; }
  /// Why nothing more can be written: finished, cancelled by others, or the first error.
  [[nodiscard]] Result<> usable() const;
  /// Remembers the first error.
  void fail(const Error& error);

  Task<Result<std::span<std::byte>>> prepare(std::size_t want);
  [[nodiscard]] std::size_t prepared_bytes(std::size_t want) const;
  void produced(std::size_t n);
  Task<Result<>> seek(std::uint64_t offset);
  Task<Result<>> flush();
  Task<Result<>> resize(ResizeRequest request);
  Task<Result<BlockInfo>> complete(std::uint64_t length);
  Task<Result<>> cancel();
  Task<void> detach();

  void spill() override;

 private:
  enum class Tail : std::uint8_t { kKeep, kWrite };
  using CachedPage = PendingWrite::CachedPage;

  // writer_core.cc: staging
  Task<Result<>> open_stage(std::size_t want);
  [[nodiscard]] std::size_t stage_size(std::size_t needed) const;
  [[nodiscard]] std::uint64_t stage_end() const { return stage_page_ * kStorePage + fill_; }
  void withdraw();
  Task<Result<>> close_stage(Tail tail);
  [[nodiscard]] bool tail_needs_merge() const;
  Task<Result<>> merge_tail();
  void finish_stage(Tail tail);
  void keep_page(std::uint64_t page, std::span<const std::byte> bytes, bool dirty);
  Task<Result<>> set_length(std::uint64_t length);
  Task<Result<>> settle(Tail tail);
  Task<void> come_to_rest();
  void give_up();
  void finish();

  // writer_pages.cc: pages between memory and device
  [[nodiscard]] bool has_content(std::uint64_t page) const;
  Task<Result<DmaBuf>> fetch_page(std::uint64_t page, DmaBuf into);
  Task<Result<>> load_page(std::uint64_t page);
  Task<Result<>> write_cached();
  void submit(DmaBuf buffer, std::uint64_t page);
  Result<std::vector<Extent>> place(std::uint64_t page, std::uint64_t bytes);
  std::uint64_t look_ahead(std::uint64_t page, std::uint64_t bytes) const;
  void own(Extent extent);
  void issue(std::uint64_t device_offset, DmaBuf part, std::uint64_t end_page);
  static Task<void> write_run(WriterCore& self, std::uint64_t device_offset, DmaBuf part);
  Task<void> wait_in_flight(std::size_t at_most);

  StoreCore& core_;
  StorePoller& at_;
  StoreCore::Use use_;
  std::shared_ptr<PendingWrite> p_;  // null when finished
  const BlockId id_;
  const std::uint64_t capacity_;
  const bool is_rewrite_;
  std::uint64_t position_;
  bool finished_ = false;
  std::optional<BlockInfo> completed_;

  DmaBuf stage_;
  std::uint64_t stage_page_ = 0;  // of its first byte
  std::size_t fill_ = 0;          // valid bytes from its start
  bool stage_dirty_ = false;      // holds bytes that are nowhere else
  bool preloaded_ = false;        // its first page held the page's content before it was filled
  bool tail_merged_ = false;      // what is behind fill_ in its last page is the page's content
  bool exposed_ = false;          // the caller may be writing into it
  std::size_t next_chunk_ = 0;    // grows while the writer is sequential

  std::size_t in_flight_ = 0;
  std::uint64_t in_flight_end_ = 0;  // one past the highest page in flight
  AsyncEvent progress_;
};

}  // namespace leap
