// BlockWriter: the one open write session of a block.
//
//   LEAP_CO_TRY(auto writer, co_await store.open_writer(poller, BlockId{42}, {.capacity = 128 << 20}));
//   LEAP_CO_TRY(auto room, co_await writer->prepare(frame.size()));      // receive straight into the DMA buffer
//   writer->produced(co_await socket.read(room));
//   LEAP_CO_TRY(BlockInfo info, co_await writer->complete(length));      // durable from here on
//
// What is written is invisible until complete() succeeds, and then visible as a whole: a new block appears, a committed
// block switches to its new generation (copy-on-write; readers of the old one keep it). Sequential data is written to
// the device once per page, in chunks of up to 1 MiB, several in flight; an unfilled last page stays in memory.
//
// Errors are sticky: after a failed write, complete() returns the first error until the writer is cancelled. A block
// that was cancelled or removed by somebody else makes every operation fail with kCancelled.
//
// Threading: lives, is used and dies on the poller that opened it; one operation at a time. Destroying a writer that is
// neither completed nor cancelled detaches it: what it wrote is kept for the grace time (BlockStore::Config) and is
// found again by the next open_writer(), complete(id) or cancel(id), from any poller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "poller/task.h"
#include "store/types.h"

namespace leap {

class WriterCore;

/// FileAllocOptsProto as far as it reaches the store.
struct ResizeRequest {
  std::uint64_t length = 0;
  bool truncate = false;    ///< false: the length must not shrink
  bool zero_range = false;  ///< forget everything written and committed: [0, length) reads as zeros
};

class BlockWriter {
 public:
  explicit BlockWriter(std::unique_ptr<WriterCore> core);
  ~BlockWriter();
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  [[nodiscard]] BlockId id() const;
  [[nodiscard]] std::uint64_t capacity() const;
  [[nodiscard]] std::uint64_t position() const;  ///< where the next byte goes
  [[nodiscard]] std::uint64_t length() const;    ///< the block would have if it were committed now
  [[nodiscard]] bool is_rewrite() const;         ///< the block has a committed generation
  [[nodiscard]] Result<> status() const;         ///< the first error, if any

  /// Makes `error` the sticky error, for a session that refused a request of its client.
  void fail(Error error);

  /// Contiguous room for at least 1 and at most `want` bytes at position(), to be filled by the caller. Waits for
  /// buffers (back-pressure). Valid until the next call on this writer. Errors: kInvalidArgument (want == 0, or
  /// position() + want past the capacity: "exceeds block size"), the sticky error, kCancelled.
  Task<Result<std::span<std::byte>>> prepare(std::size_t want);
  /// The memory that prepare(want) makes unavailable to others until produced(), at most.
  [[nodiscard]] std::size_t prepared_bytes(std::size_t want) const;
  /// The first `n` bytes of the last prepare() are now data; position() moves on.
  void produced(std::size_t n);
  /// prepare + copy + produced for callers that have the bytes elsewhere. Refused as a whole when it would end past the
  /// capacity.
  Task<Result<>> write(std::span<const std::byte> data);

  /// Moves position() to `offset` < capacity. Skipped bytes that were never written read as zeros.
  Task<Result<>> seek(std::uint64_t offset);
  /// Returns when everything written so far is durable on the device. (It becomes readable only with complete().)
  Task<Result<>> flush();
  /// Sets the length of the uncommitted block; new bytes read as zeros, cut ones never reappear.
  Task<Result<>> resize(ResizeRequest request);

  /// Commits with exactly `length` bytes. First write: length must not exceed what was written or resized to
  /// (kInvalidArgument, the block stays uncommitted); a rewrite is extended with zeros. Shorter truncates. length >
  /// capacity() aborts the block ("invalid block length"). Repeating it after success with the same length succeeds. On
  /// success the block is readable and survives power loss.
  Task<Result<BlockInfo>> complete(std::uint64_t length);
  /// Rewrite: the committed generation stays. New block: gone.
  Task<Result<>> cancel();
  /// What the destructor does, but returns when the block can be opened by others.
  Task<void> detach();

 private:
  std::unique_ptr<WriterCore> core_;
};

}  // namespace leap
