#include "store/block_reader.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/crc32c.h"
#include "store/reader_core.h"

namespace leap {
namespace {

Error refuse(BlockId id, std::string why) {
  return Error(Errc::kInvalidArgument, fmt::format("read block {}: {}", id, why)).in(ErrorDomain::kStore);
}

// The bytes [offset, offset + n) of a buffer that starts at `begin`.
DmaBuf trim(DmaBuf buffer, std::uint64_t begin, std::uint64_t offset, std::uint64_t end) {
  const std::uint64_t from = std::max(begin, offset);
  const std::uint64_t to = std::min(begin + buffer.size(), end);
  if (from == begin) {
    buffer.truncate(to - from);
    return buffer;
  }
  return buffer.slice(from - begin, to - from);
}

}  // namespace

BlockReader::BlockReader(std::unique_ptr<ReaderCore> core) : core_(std::move(core)) {}
BlockReader::~BlockReader() = default;

BlockId BlockReader::id() const { return core_->generation().id(); }
std::uint64_t BlockReader::length() const { return core_->generation().length(); }
std::uint64_t BlockReader::generation() const { return core_->generation().number(); }
Task<Result<ReadChunk>> BlockReader::read(std::uint64_t offset, std::size_t n) { return core_->read(offset, n); }

ReaderCore::~ReaderCore() {
  const BlockId id = generation_->id();
  generation_.reset();
  core_.tidy(id);
}

Task<Result<ReadChunk>> ReaderCore::read(std::uint64_t offset, std::size_t n) {
  if (n == 0 || n > ReadChunk::kMaxBytes || offset > kMaxBlockCapacity) {
    co_return refuse(generation_->id(),
                     fmt::format("{} bytes at {} (1..{} bytes at a time)", n, offset, ReadChunk::kMaxBytes));
  }
  const std::uint64_t begin = offset / kStorePage * kStorePage;
  const std::uint64_t end = page_round_up(offset + n);
  if (end - begin > at_.max_buffer()) co_return co_await read_many(offset, n, begin, end);
  LEAP_CO_TRY(DmaBuf buffer, co_await at_.buffer(end - begin));
  LEAP_CO_TRY(DmaBuf filled, co_await fill(begin, std::move(buffer)));
  ReadChunk chunk;
  chunk.append(trim(std::move(filled), begin, offset, offset + n));
  co_return chunk;
}

Task<Result<ReadChunk>> ReaderCore::read_many(std::uint64_t offset, std::size_t n, std::uint64_t begin,
                                              std::uint64_t end) {
  const std::size_t piece = at_.max_buffer();
  const std::size_t pieces = (end - begin + piece - 1) / piece;
  if (pieces > ReadChunk::kMaxPieces || end - begin > at_.pool.capacity() / 2) {
    co_return refuse(generation_->id(),
                     fmt::format("{} bytes at once from a buffer pool of {}", n, at_.pool.capacity()));
  }
  ReadChunk chunk;
  // Only one task of this poller waits for buffers while it holds others, so two can't wait for each other.
  co_await at_.gathering.acquire();
  Result<> gathered;
  for (std::size_t i = 0; i < pieces && gathered; ++i) {
    const std::uint64_t size = std::min<std::uint64_t>(piece, end - begin - i * piece);
    Result<DmaBuf> buffer = co_await at_.buffer(size);
    if (buffer)
      chunk.append(std::move(*buffer));
    else
      gathered = std::move(buffer).error();
  }
  at_.gathering.release();
  if (!gathered) co_return std::move(gathered).error();

  std::array<Result<>, ReadChunk::kMaxPieces> outcomes;
  TaskGroup group(at_.poller);
  for (std::size_t i = 0; i < pieces; ++i) {
    group.spawn(fill_piece(*this, begin + i * piece, chunk.pieces()[i], outcomes[i]));
  }
  co_await group.wait();
  for (std::size_t i = 0; i < pieces; ++i) {
    if (!outcomes[i]) co_return std::move(outcomes[i]).error();
    DmaBuf& slot = chunk.pieces()[i];
    slot = trim(std::move(slot), begin + i * piece, offset, offset + n);
  }
  co_return chunk;
}

Task<void> ReaderCore::fill_piece(ReaderCore& self, std::uint64_t begin, DmaBuf& slot, Result<>& outcome) {
  Result<DmaBuf> filled = co_await self.fill(begin, std::move(slot));
  if (filled)
    slot = std::move(*filled);
  else
    outcome = std::move(filled).error();
}

Task<Result<DmaBuf>> ReaderCore::fill(std::uint64_t begin, DmaBuf buffer) {
  const std::size_t size = buffer.size();
  const PageMap::Run first = generation_->map().at(begin, size);
  if (first.length < size) co_return co_await fill_runs(begin, std::move(buffer));
  if (!first.device_offset) {
    std::memset(buffer.data(), 0, size);
    co_return std::move(buffer);
  }
  LEAP_CO_TRY(DmaBuf read, co_await at_.channel->read(*first.device_offset, std::move(buffer)));
  at_.bytes_read.add(size);
  LEAP_CO_TRY_VOID(co_await verify(begin, read.bytes()));
  co_return std::move(read);
}

Task<Result<DmaBuf>> ReaderCore::fill_runs(std::uint64_t begin, DmaBuf buffer) {
  const std::size_t size = buffer.size();
  TaskGroup group(at_.poller);
  Result<> outcome;
  for (std::uint64_t at = 0; at < size;) {
    const PageMap::Run run = generation_->map().at(begin + at, size - at);
    if (run.device_offset)
      group.spawn(read_run(*this, *run.device_offset, buffer.slice(at, run.length), outcome));
    else
      std::memset(buffer.data() + at, 0, run.length);
    at += run.length;
  }
  co_await group.wait();
  if (!outcome) co_return std::move(outcome).error();
  LEAP_CO_TRY_VOID(co_await verify(begin, buffer.bytes()));
  co_return std::move(buffer);
}

Task<void> ReaderCore::read_run(ReaderCore& self, std::uint64_t device_offset, DmaBuf part, Result<>& outcome) {
  const std::size_t size = part.size();
  Result<DmaBuf> read = co_await self.at_.channel->read(device_offset, std::move(part));
  if (read)
    self.at_.bytes_read.add(size);
  else if (outcome)
    outcome = std::move(read).error();
}

Task<Result<const CrcSegment*>> ReaderCore::segment(std::uint32_t number) {
  std::shared_ptr<const CrcSegment>& slot = kept_[number % kKeptSegments];
  if (slot == nullptr || slot->index != number) {
    LEAP_CO_TRY(slot, co_await core_.load_segment(at_, generation_->id(), generation_->crc_runs(), number));
  }
  co_return slot.get();
}

// Mapped pages only: holes were made of zeros here and have no checksum.
Task<Result<>> ReaderCore::verify(std::uint64_t begin, std::span<const std::byte> pages) {
  const PageMap& map = generation_->map();
  for (std::uint64_t at = 0; at < pages.size();) {
    const std::uint64_t logical = begin + at;
    const std::uint64_t in_segment = kSegmentBytes - logical % kSegmentBytes;
    const PageMap::Run run = map.at(logical, std::min<std::uint64_t>(pages.size() - at, in_segment));
    if (!run.device_offset) {
      at += run.length;
      continue;
    }
    const auto number = static_cast<std::uint32_t>(logical / kSegmentBytes);
    // Valid until the next suspension: another read may put a different segment in its place.
    LEAP_CO_TRY(const CrcSegment* const crcs, co_await segment(number));
    std::size_t index = logical % kSegmentBytes / kStorePage;
    for (std::uint64_t done = 0; done < run.length; done += kStorePage, ++index) {
      const std::uint32_t expected = index < crcs->crcs.size() ? crcs->crcs[index] : 0;
      const std::uint32_t found = crc32c(pages.subspan(at + done, kStorePage));
      if (found == expected) continue;
      co_return core_.checksum_error(generation_->id(), logical + done, *run.device_offset + done, expected, found);
    }
    at += run.length;
  }
  co_return Result<>{};
}

}  // namespace leap
