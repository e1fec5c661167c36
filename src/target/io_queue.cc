#include "target/io_queue.h"

#include <cstring>

#include "base/mutation.h"
#include "target/core.h"
#include "target/io_tasks.h"

namespace leap::target {

using nvme::GenericStatus;
using nvme::kDnr;
using nvme::NvmOpcode;
using nvme::status;

namespace {

/// A DSM page for 256 ranges, which hosts may send whole whatever the number of ranges.
constexpr std::uint32_t kMaxDsmBytes = nvme::kMaxDsmRanges * sizeof(nvme::DsmRange);

}  // namespace

Step IoQueue::begin(Request& request) {
  ShardProbe& counters = session_.shard().counters();
  if (!session_.controller()->io_allowed()) return request.fail(status(GenericStatus::kCommandSequenceError));
  switch (request.cmd.nvm_opcode()) {
    case NvmOpcode::kRead: counters.reads.add(); return read(request);
    case NvmOpcode::kWrite: counters.writes.add(); return begin_write(request);
    default: break;
  }
  counters.other_commands.add();
  switch (request.cmd.nvm_opcode()) {
    case NvmOpcode::kFlush: return flush(request);
    case NvmOpcode::kCompare: return begin_compare(request);
    case NvmOpcode::kWriteZeroes: return write_zeroes(request);
    case NvmOpcode::kDatasetManagement: return begin_dsm(request);
    case NvmOpcode::kVerify: return verify(request);
    default: return request.fail(status(GenericStatus::kInvalidOpcode, kDnr));
  }
}

Step IoQueue::execute(Request& request) {
  switch (request.cmd.nvm_opcode()) {
    case NvmOpcode::kWrite: return execute_write(request);
    case NvmOpcode::kCompare: return execute_compare(request);
    case NvmOpcode::kDatasetManagement: return execute_dsm(request);
    default: return request.fail(status(GenericStatus::kInternalError));
  }
}

bool IoQueue::pin(Request& request) {
  NamespaceAccess* const access = session_.shard().find(request.cmd.nsid);
  if (access != nullptr) request.ns = NamespacePin(*access);
  return access != nullptr;
}

std::optional<NvmeStatusCode> IoQueue::locate(Request& request, bool moves_data, Extent& extent) {
  if (!pin(request)) return status(GenericStatus::kInvalidNamespaceOrFormat, kDnr);
  const Namespace* const ns = request.ns->ns.get();
  const nvme::RwFields fields = nvme::rw_fields(request.cmd);
  // No namespace here has protection information to insert, strip or check.
  if (fields.prinfo != 0) return status(nvme::CommandStatus::kInvalidProtectionInformation, kDnr);
  if (!nvme::in_range(fields.slba, fields.blocks, ns->blocks())) return status(GenericStatus::kLbaOutOfRange, kDnr);
  extent.access = &*request.ns;
  extent.offset = fields.slba << ns->block_shift();
  extent.bytes = std::uint64_t{fields.blocks} << ns->block_shift();
  if (moves_data && extent.bytes > session_.subsystem().config().max_io_size)
    return status(GenericStatus::kInvalidField, kDnr);
  return std::nullopt;
}

IoQueue::Extent IoQueue::extent_of(const Request& request) {
  const Namespace& ns = *request.ns->ns;
  const nvme::RwFields fields = nvme::rw_fields(request.cmd);
  return {.access = &*request.ns,
          .offset = fields.slba << ns.block_shift(),
          .bytes = std::uint64_t{fields.blocks} << ns.block_shift()};
}

bool IoQueue::must_flush(const Request& request, const Extent& extent) const {
  if (!extent.access->ns->volatile_write_cache()) return false;
  return nvme::rw_fields(request.cmd).fua || !session_.controller()->write_cache_enabled();
}

Step IoQueue::read(Request& request) {
  Extent extent;
  if (const auto error = locate(request, true, extent)) return request.fail(*error);
  if (const auto error = session_.claim_data(request, nvme::DataDirection::kControllerToHost, extent.bytes)) {
    return request.fail(*error);
  }
  session_.shard().counters().read_bytes.add(extent.bytes);
  if (!extent.access->memory.empty() && session_.in_place(request)) {
    request.data = extent.access->memory.subspan(extent.offset, extent.bytes);
    return Step::kComplete;
  }
  return session_.run(request, read_device(session_, request, *extent.access, {extent.offset, extent.bytes}));
}

Step IoQueue::begin_write(Request& request) {
  Extent extent;
  if (const auto error = locate(request, true, extent)) return request.fail(*error);
  if (const auto error = session_.claim_data(request, nvme::DataDirection::kHostToController, extent.bytes)) {
    return request.fail(*error);
  }
  session_.shard().counters().written_bytes.add(extent.bytes);
  if (!extent.access->memory.empty() && session_.in_place(request)) {
    request.data = extent.access->memory.subspan(extent.offset, extent.bytes);
    return Step::kReceive;
  }
  if (!extent.access->channel) return request.fail(status(GenericStatus::kNamespaceNotReady));
  return session_.receive_into_buffer(request);
}

Step IoQueue::execute_write(Request& request) {
  const Extent extent = extent_of(request);
  const bool then_flush = must_flush(request, extent);
  if (request.buffer.valid())
    return session_.run(request, write_device(request, *extent.access, extent.offset, then_flush));
  if (then_flush) return session_.run(request, flush_device(*extent.access, NvmOpcode::kWrite));
  return Step::kComplete;
}

Step IoQueue::flush(Request& request) {
  if (request.cmd.nsid == nvme::kAllNamespaces) {
    if (!session_.shard().any_volatile_write_cache()) return Step::kComplete;
    return session_.run(request, flush_all(session_));
  }
  if (!pin(request)) return request.fail(status(GenericStatus::kInvalidNamespaceOrFormat, kDnr));
  if (!request.ns->ns->volatile_write_cache() || LEAP_MUTATION(flush_answered_at_once)) return Step::kComplete;
  return session_.run(request, flush_device(*request.ns, NvmOpcode::kFlush));
}

Step IoQueue::write_zeroes(Request& request) {
  Extent extent;
  if (const auto error = locate(request, false, extent)) return request.fail(*error);
  const bool then_flush = must_flush(request, extent);
  if (!extent.access->memory.empty() && extent.bytes <= kMemoryWorkPerTurn && !then_flush) {
    std::memset(extent.access->memory.data() + extent.offset, 0, extent.bytes);
    return Step::kComplete;
  }
  return session_.run(request, zero_device(session_, *extent.access, {extent.offset, extent.bytes}, then_flush));
}

Step IoQueue::begin_dsm(Request& request) {
  if (!pin(request)) return request.fail(status(GenericStatus::kInvalidNamespaceOrFormat, kDnr));
  const nvme::DsmFields fields = nvme::dsm_fields(request.cmd);
  const std::uint64_t needed = std::uint64_t{fields.ranges} * sizeof(nvme::DsmRange);
  if (const auto error =
          session_.claim_data(request, nvme::DataDirection::kHostToController, needed, LengthRule::kAtLeast)) {
    return request.fail(*error);
  }
  if (request.length > kMaxDsmBytes) return request.fail(status(GenericStatus::kDataSglLengthInvalid, kDnr));
  request.page = std::make_unique<std::byte[]>(request.length);
  request.data = {request.page.get(), request.length};
  return Step::kReceive;
}

Step IoQueue::execute_dsm(Request& request) {
  const Namespace& ns = *request.ns->ns;
  const nvme::DsmFields fields = nvme::dsm_fields(request.cmd);
  std::vector<ByteRange> ranges;
  ranges.reserve(fields.ranges);
  for (std::size_t i = 0; i < fields.ranges; ++i) {
    nvme::DsmRange range;
    std::memcpy(&range, request.data.data() + i * sizeof range, sizeof range);
    if (!nvme::in_range(range.slba, range.blocks, ns.blocks()))
      return request.fail(status(GenericStatus::kLbaOutOfRange, kDnr));
    if (range.blocks == 0) continue;
    ranges.push_back({range.slba << ns.block_shift(), std::uint64_t{range.blocks} << ns.block_shift()});
  }
  // The other attributes are hints about future access; we have no use for them.
  if (!fields.deallocate || ranges.empty()) return Step::kComplete;
  return session_.run(request, discard_device(session_, *request.ns, std::move(ranges)));
}

Step IoQueue::begin_compare(Request& request) {
  Extent extent;
  if (const auto error = locate(request, true, extent)) return request.fail(*error);
  if (const auto error = session_.claim_data(request, nvme::DataDirection::kHostToController, extent.bytes)) {
    return request.fail(*error);
  }
  return session_.receive_into_buffer(request);
}

Step IoQueue::execute_compare(Request& request) {
  const Extent extent = extent_of(request);
  if (extent.access->memory.empty()) {
    return session_.run(request, compare_device(session_, request, *extent.access, extent.offset));
  }
  if (std::memcmp(extent.access->memory.data() + extent.offset, request.data.data(), extent.bytes) != 0) {
    return request.fail(status(nvme::MediaStatus::kCompareFailure, kDnr));
  }
  return Step::kComplete;
}

Step IoQueue::verify(Request& request) {
  Extent extent;
  if (const auto error = locate(request, false, extent)) return request.fail(*error);
  // Memory has no media errors to find.
  if (!extent.access->memory.empty()) return Step::kComplete;
  return session_.run(request, verify_device(session_, *extent.access, {extent.offset, extent.bytes}));
}

}  // namespace leap::target
