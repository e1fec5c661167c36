// BlockReader: a pinned view of one committed generation of a block, read in verified pieces.
//
//   LEAP_CO_TRY(auto reader, co_await store.open_reader(poller, BlockId{42}));
//   LEAP_CO_TRY(ReadChunk chunk, co_await reader->read(offset, 128 * 1024));
//   for (const DmaBuf& piece : chunk.pieces()) tx.append(piece);
//
// What it reads never changes: a rewrite, a delete or a cancel by others leaves this generation and its space alone
// until the reader is gone. Every page's CRC32C is checked; holes and everything past length() come back as zeros.
//
// Threading: lives, is used and dies on the poller that opened it. Several reads may be in flight. A reader must
// outlive its reads, and must be gone before the store is closed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "memory/dma_pool.h"
#include "poller/task.h"
#include "store/types.h"

namespace leap {

class ReaderCore;

/// The bytes of one read, in order, in at most kMaxPieces buffers: made for one writev. Move-only; owns its memory.
class ReadChunk {
 public:
  static constexpr std::size_t kMaxBytes = std::size_t{16} << 20;
  static constexpr std::size_t kMaxPieces = kMaxBytes / DmaPool::kMaxBuffer + 1;  // + 1: the start may be unaligned

  ReadChunk() = default;
  ReadChunk(ReadChunk&&) noexcept = default;
  ReadChunk& operator=(ReadChunk&&) noexcept = default;

  [[nodiscard]] std::span<DmaBuf> pieces() { return {pieces_.data(), count_}; }
  [[nodiscard]] std::span<const DmaBuf> pieces() const { return {pieces_.data(), count_}; }
  [[nodiscard]] std::size_t size() const {
    std::size_t sum = 0;
    for (const DmaBuf& piece : pieces()) sum += piece.size();
    return sum;
  }
  void append(DmaBuf piece) {
    LEAP_DCHECK(count_ < kMaxPieces, "too many pieces");
    pieces_[count_++] = std::move(piece);
  }

 private:
  std::array<DmaBuf, kMaxPieces> pieces_;
  std::size_t count_ = 0;
};

class BlockReader {
 public:
  explicit BlockReader(std::unique_ptr<ReaderCore> core);
  ~BlockReader();
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  [[nodiscard]] BlockId id() const;
  [[nodiscard]] std::uint64_t length() const;      ///< committed length
  [[nodiscard]] std::uint64_t generation() const;  ///< grows with every commit

  /// Exactly `n` bytes from `offset`; what lies past length() is zeros. n in 1..ReadChunk::kMaxBytes, and at most half
  /// of the poller's pool. Waits for buffers when the pool is empty. Errors: kInvalidArgument; kCorrupt (a page failed
  /// its checksum: names block, offset and device offset; the block is marked damaged); whatever the device reports.
  Task<Result<ReadChunk>> read(std::uint64_t offset, std::size_t n);

 private:
  std::unique_ptr<ReaderCore> core_;
};

}  // namespace leap
