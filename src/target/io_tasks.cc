#include "target/io_tasks.h"

#include <algorithm>
#include <cstring>

#include "base/mutation.h"
#include "poller/dma_await.h"
#include "target/device_status.h"

namespace leap::target {

using nvme::GenericStatus;
using nvme::NvmOpcode;
using nvme::status;

namespace {

constexpr NvmeStatusCode kSuccess{};

NvmeStatusCode not_ready() { return status(GenericStatus::kNamespaceNotReady); }

/// The shard's scratch buffer for one command; taken out while a read owns it, and replaced if the read keeps it.
class ScratchLease {
 public:
  explicit ScratchLease(Shard& shard) : shard_(shard) {}
  ~ScratchLease() { shard_.scratch_lock().release(); }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;

 private:
  Shard& shard_;
};

/// Reads the next piece of `range` into the scratch buffer. The caller holds the lease.
Task<Result<>> read_to_scratch(Shard& shard, BlockChannel& channel, std::uint64_t offset, std::size_t bytes) {
  if (!shard.scratch().valid()) {
    LEAP_CO_TRY(shard.scratch(), co_await allocate(shard.poller(), shard.pool(), Shard::kScratchBytes));
  }
  DmaBuf part = shard.scratch().slice(0, bytes);
  Result<DmaBuf> data = co_await channel.read(offset, std::move(part));
  if (!data.ok()) {
    // The device may still write into it: it returns to the pool by itself, and the next command takes a new one.
    if (data.error().may_have_executed()) shard.scratch().reset();
    co_return std::move(data).error();
  }
  co_return Result<>{};
}

}  // namespace

Task<NvmeStatusCode> read_device(Session& session, Request& request, NamespaceAccess& access, ByteRange range) {
  if (!access.channel) co_return not_ready();
  const Result<> room = co_await session.acquire_buffer(request, static_cast<std::uint32_t>(range.bytes));
  if (!room.ok()) co_return status(GenericStatus::kInternalError);
  Result<DmaBuf> data = co_await access.channel->read(range.offset, std::move(request.buffer));
  request.data = {};
  if (!data.ok()) co_return device_status(data.error(), NvmOpcode::kRead);
  request.buffer = std::move(data).value();
  request.data = request.buffer.bytes();
  co_return kSuccess;
}

Task<NvmeStatusCode> write_device(Request& request, NamespaceAccess& access, std::uint64_t offset, bool then_flush) {
  request.data = {};
  // Whole blocks only, so no read-modify-write can undo a neighbour: no range lock needed.
  const Result<> written =
      co_await access.channel->write(offset, std::move(request.buffer), BlockChannel::Sharing::kExclusive);
  if (!written.ok() && !LEAP_MUTATION(write_error_swallowed))
    co_return device_status(written.error(), NvmOpcode::kWrite);
  if (!then_flush) co_return kSuccess;
  const NvmeStatusCode flushed = co_await flush_device(access, NvmOpcode::kWrite);
  co_return flushed;
}

Task<NvmeStatusCode> flush_device(NamespaceAccess& access, NvmOpcode opcode) {
  if (!access.channel) co_return not_ready();
  const Result<> flushed = co_await access.channel->flush();
  if (!flushed.ok()) co_return device_status(flushed.error(), opcode);
  co_return kSuccess;
}

Task<NvmeStatusCode> flush_all(Session& session) {
  NvmeStatusCode outcome = kSuccess;
  const std::vector<NamespacePin> namespaces = session.shard().pin_namespaces();
  for (const NamespacePin& access : namespaces) {
    if (!access->ns->volatile_write_cache()) continue;
    const NvmeStatusCode flushed = co_await flush_device(*access, NvmOpcode::kFlush);
    if (!flushed.ok() && outcome.ok()) outcome = flushed;
  }
  co_return outcome;
}

Task<NvmeStatusCode> zero_device(Session& session, NamespaceAccess& access, ByteRange range, bool then_flush) {
  if (!access.memory.empty()) {
    while (range.bytes > 0) {
      if (session.is_closing()) co_return status(GenericStatus::kAbortedSqDeletion);
      const std::uint64_t step = std::min(range.bytes, kMemoryWorkPerTurn);
      std::memset(access.memory.data() + range.offset, 0, step);
      range.offset += step;
      range.bytes -= step;
      co_await session.shard().poller().yield();
    }
  } else {
    if (!access.channel) co_return not_ready();
    const Result<> zeroed = co_await access.channel->write_zeroes(range.offset, range.bytes);
    if (!zeroed.ok()) co_return device_status(zeroed.error(), NvmOpcode::kWriteZeroes);
  }
  if (!then_flush) co_return kSuccess;
  const NvmeStatusCode flushed = co_await flush_device(access, NvmOpcode::kWriteZeroes);
  co_return flushed;
}

Task<NvmeStatusCode> discard_device(Session& session, NamespaceAccess& access, std::vector<ByteRange> ranges) {
  for (const ByteRange range : ranges) {
    if (!access.memory.empty()) {
      const NvmeStatusCode zeroed = co_await zero_device(session, access, range, false);
      if (!zeroed.ok()) co_return zeroed;
      continue;
    }
    if (!access.channel) co_return not_ready();
    const Result<> discarded = co_await access.channel->discard(range.offset, range.bytes);
    if (!discarded.ok()) co_return device_status(discarded.error(), NvmOpcode::kDatasetManagement);
  }
  co_return kSuccess;
}

Task<NvmeStatusCode> compare_device(Session& session, Request& request, NamespaceAccess& access, std::uint64_t offset) {
  if (!access.channel) co_return not_ready();
  Shard& shard = session.shard();
  co_await shard.scratch_lock().acquire();
  const ScratchLease lease(shard);
  std::span<const std::byte> expected = request.data;
  while (!expected.empty()) {
    const std::size_t step = std::min(expected.size(), Shard::kScratchBytes);
    const Result<> got = co_await read_to_scratch(shard, *access.channel, offset, step);
    if (!got.ok()) co_return device_status(got.error(), NvmOpcode::kCompare);
    if (std::memcmp(shard.scratch().data(), expected.data(), step) != 0) {
      co_return status(nvme::MediaStatus::kCompareFailure, nvme::kDnr);
    }
    expected = expected.subspan(step);
    offset += step;
  }
  co_return kSuccess;
}

Task<NvmeStatusCode> verify_device(Session& session, NamespaceAccess& access, ByteRange range) {
  if (!access.channel) co_return not_ready();
  Shard& shard = session.shard();
  // One piece per turn of the lease: a Verify of gigabytes must not keep every Compare waiting.
  while (range.bytes > 0) {
    if (session.is_closing()) co_return status(GenericStatus::kAbortedSqDeletion);
    const std::size_t step = std::min<std::uint64_t>(range.bytes, Shard::kScratchBytes);
    co_await shard.scratch_lock().acquire();
    const ScratchLease lease(shard);
    const Result<> got = co_await read_to_scratch(shard, *access.channel, range.offset, step);
    if (!got.ok()) co_return device_status(got.error(), NvmOpcode::kVerify);
    range.offset += step;
    range.bytes -= step;
  }
  co_return kSuccess;
}

}  // namespace leap::target
