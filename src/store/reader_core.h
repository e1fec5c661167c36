// ReaderCore: verified reads of one pinned generation. Internal to the room; BlockReader is its face.
//
// A read is cut into buffers of up to 1 MiB, each buffer into runs (contiguous on the device, or hole); runs are read
// side by side, pages verified, and the edges trimmed off. The common read (one buffer, one run) is one device I/O, no
// copy, no lock.
//
// Threading: its poller's thread; any number of reads at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "store/block_reader.h"
#include "store/store_core.h"

namespace leap {

class ReaderCore {
 public:
  ReaderCore(StoreCore& core, StorePoller& at, StoreCore::Use use, std::shared_ptr<const Generation> generation)
      : core_(core), at_(at), use_(std::move(use)), generation_(std::move(generation)) {}
  ~ReaderCore();
  ReaderCore(const ReaderCore&) = delete;
  ReaderCore& operator=(const ReaderCore&) = delete;

  [[nodiscard]] const Generation& generation() const { return *generation_; }
  Task<Result<ReadChunk>> read(std::uint64_t offset, std::size_t n);

 private:
  Task<Result<ReadChunk>> read_many(std::uint64_t offset, std::size_t n, std::uint64_t begin, std::uint64_t end);
  Task<Result<DmaBuf>> fill(std::uint64_t begin, DmaBuf buffer);
  Task<Result<DmaBuf>> fill_runs(std::uint64_t begin, DmaBuf buffer);
  static Task<void> fill_piece(ReaderCore& self, std::uint64_t begin, DmaBuf& slot, Result<>& outcome);
  static Task<void> read_run(ReaderCore& self, std::uint64_t device_offset, DmaBuf part, Result<>& outcome);
  Task<Result<>> verify(std::uint64_t begin, std::span<const std::byte> pages);
  Task<Result<const CrcSegment*>> segment(std::uint32_t number);

  static constexpr std::size_t kKeptSegments = 4;  // 16 MiB of block: sequential and hot random reads take no lock

  StoreCore& core_;
  StorePoller& at_;
  StoreCore::Use use_;
  std::shared_ptr<const Generation> generation_;
  std::array<std::shared_ptr<const CrcSegment>, kKeptSegments> kept_;
};

}  // namespace leap
