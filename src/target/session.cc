#include "target/session.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/mutation.h"
#include "nvme/discovery.h"
#include "nvme/pdu.h"
#include "poller/dma_await.h"
#include "target/admin_queue.h"
#include "target/core.h"
#include "target/fabrics.h"
#include "target/io_queue.h"

namespace leap::target {

using nvme::GenericStatus;
using nvme::kDnr;
using nvme::status;

namespace {

constexpr std::uint16_t kNoSqhd = 0xFFFF;  // Connect's answer to a host that disabled SQ flow control

/// What one connection may hold of its poller's pool: room for one command of any size, and no more than an eighth.
std::size_t share_bytes(Shard& shard) {
  return std::max<std::size_t>(shard.core().subsystem->config().max_io_size, shard.pool().capacity() / 8);
}

/// What a buffer of `bytes` takes from the pool: powers of two from 4 KiB.
std::uint32_t pool_bytes(std::uint32_t bytes) {
  return std::bit_ceil(std::max<std::uint32_t>(bytes, DmaPool::kPageSize));
}

}  // namespace

Session::Session(Shard& shard, Transport& transport)
    : shard_(shard), transport_(transport), share_(shard.poller(), share_bytes(shard)) {}

Session::~Session() { end(); }

Subsystem& Session::subsystem() { return *shard_.core().subsystem; }

Step Session::begin(Request& request) {
  if (connected()) {
    head_ = head_ + 1 == entries_ ? 0 : head_ + 1;
    controller_->mark_active(qid_);
  }
  if (request.digest_failed) return request.fail(status(GenericStatus::kTransientTransportError));
  if (!request.refused.ok()) return request.fail(request.refused);
  const nvme::Command& cmd = request.cmd;
  // Fabrics knows neither PRPs nor metadata segments, and we announce no fused operations (NVMe Base 2.0, 3.3.3.1).
  if (cmd.psdt() != nvme::Psdt::kSgl || cmd.fuse() != nvme::Fuse::kNormal) {
    return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
  if (cmd.is_fabrics()) return begin_fabrics_command(*this, request);
  if (!connected()) return request.fail(status(GenericStatus::kCommandSequenceError, kDnr));
  return queue_->begin(request);
}

Step Session::execute(Request& request) {
  if (request.cmd.is_fabrics()) return execute_connect(*this, request);
  return queue_->execute(request);
}

void Session::establish(Established established) {
  controller_ = std::move(established.controller);
  qid_ = established.connect.qid;
  entries_ = established.connect.entries;
  head_ = 1 % entries_;  // Connect itself was the first entry
  flow_control_disabled_ = established.connect.disable_sq_flow_control;
  if (qid_ == nvme::kAdminQid)
    queue_ = std::make_unique<AdminQueue>(*this, established.connect.kato_ms);
  else
    queue_ = std::make_unique<IoQueue>(*this);
}

void Session::closing(CloseReason reason) {
  if (closing_) return;
  closing_ = true;
  if (!queue_) return;
  queue_->closing();
  if (qid_ != nvme::kAdminQid) return;
  controller_->end(reason == CloseReason::kStopping ? reason : CloseReason::kAssociationEnded, &shard_);
}

void Session::end() {
  closing(CloseReason::kPeerClosed);
  if (!controller_) return;
  // An I/O queue leaves its controller only now that nothing of it executes any more: a reset waits for that.
  if (qid_ != nvme::kAdminQid) controller_->detach_queue(qid_);
  queue_.reset();
  controller_.reset();
}

std::optional<NvmeStatusCode> Session::claim_data(Request& request, nvme::DataDirection direction, std::uint64_t bytes,
                                                  LengthRule rule) {
  const nvme::SglDescriptor& sgl = request.cmd.dptr;
  const bool to_controller = direction == nvme::DataDirection::kHostToController;
  if (sgl.is_in_capsule() && to_controller) {
    if (sgl.address > request.capsule_bytes) return status(GenericStatus::kSglOffsetInvalid, kDnr);
    if (sgl.length > request.capsule_bytes - sgl.address) return status(GenericStatus::kDataSglLengthInvalid, kDnr);
    const bool io_command = is_io() && !request.cmd.is_fabrics();
    const std::uint32_t limit = io_command ? subsystem().config().in_capsule_data_size : nvme::kAdminInCapsuleBytes;
    if (sgl.length > limit) return status(GenericStatus::kDataSglLengthInvalid, kDnr);
    request.in_capsule = true;
    request.capsule_offset = static_cast<std::uint32_t>(sgl.address);
  } else if (!sgl.is_transport()) {
    return status(GenericStatus::kSglDescriptorTypeInvalid, kDnr);
  }
  const bool fits = rule == LengthRule::kExact ? sgl.length == bytes : sgl.length >= bytes;
  if (!fits || sgl.length == 0 || sgl.length > subsystem().config().max_io_size) {
    return status(GenericStatus::kDataSglLengthInvalid, kDnr);
  }
  request.direction = direction;
  if (to_controller) request.length = sgl.length;
  return std::nullopt;
}

bool Session::try_buffer(Request& request, std::uint32_t bytes) {
  const std::uint32_t charge = pool_bytes(bytes);
  if (!share_.try_acquire(charge)) return false;
  auto buffer = shard_.pool().try_allocate(bytes);
  if (!buffer) {
    share_.release(charge);
    return false;
  }
  request.charged = charge;
  request.buffer = std::move(*buffer);
  request.data = request.buffer.bytes();
  return true;
}

Step Session::receive_into_buffer(Request& request) {
  if (try_buffer(request, request.length)) return Step::kReceive;
  request.enter(RequestState::kAwaitBuffer);
  ++pending_;
  shard_.counters().buffer_waits.add();
  shard_.poller().spawn(await_buffer(*this, request));
  return Step::kAwaitBuffer;
}

Task<void> Session::await_buffer(Session& session, Request& request) {
  // Never on the caller's stack: it may be in the middle of parsing.
  co_await session.shard_.poller().yield();
  const Result<> got = co_await session.acquire_buffer(request, request.length);
  --session.pending_;
  if (got.ok() && !session.closing_) {
    session.transport_.buffer_ready(request);
    co_return;
  }
  request.fail(status(session.closing_ ? GenericStatus::kAbortedSqDeletion : GenericStatus::kInternalError));
  session.transport_.complete(request);
}

Task<Result<>> Session::acquire_buffer(Request& request, std::uint32_t bytes) {
  if (try_buffer(request, bytes)) co_return Result<>{};
  const std::uint32_t charge = pool_bytes(bytes);
  co_await share_.acquire(charge);
  request.charged = charge;
  Result<DmaBuf> buffer = co_await allocate(shard_.poller(), shard_.pool(), bytes);
  if (!buffer.ok()) co_return std::move(buffer).error();
  request.buffer = std::move(buffer).value();
  request.data = request.buffer.bytes();
  co_return Result<>{};
}

void Session::release(Request& request) {
  request.buffer.reset();
  request.ns.reset();
  if (LEAP_MUTATION(share_of_the_pool_kept)) return;
  if (request.charged != 0) share_.release(std::exchange(request.charged, 0));
}

Step Session::run(Request& request, Task<NvmeStatusCode> work) {
  request.enter(RequestState::kExecuting);
  ++pending_;
  shard_.poller().spawn(drive(*this, request, std::move(work)));
  return Step::kPending;
}

Task<void> Session::drive(Session& session, Request& request, Task<NvmeStatusCode> work) {
  const NvmeStatusCode outcome = co_await work;
  request.status = outcome;
  if (!outcome.ok()) request.direction = nvme::DataDirection::kNone;
  --session.pending_;
  session.transport_.complete(request);
}

void Session::run_detached(Task<void> work) {
  ++pending_;
  shard_.poller().spawn(drive_detached(*this, std::move(work)));
}

Task<void> Session::drive_detached(Session& session, Task<void> work) {
  co_await work;
  --session.pending_;
  session.transport_.work_done();
}

nvme::Completion Session::completion(const Request& request) {
  nvme::Completion cqe;
  cqe.dw0 = request.dw0;
  cqe.dw1 = request.dw1;
  cqe.sqid = qid_;
  cqe.cid = LEAP_MUTATION(answer_to_another_command) ? nvme::Cid(request.cmd.cid.value() ^ 1U) : request.cmd.cid;
  cqe.set_status(request.status);
  cqe.sqhd = static_cast<std::uint16_t>(head_);
  if (flow_control_disabled_) {
    const bool connect = request.cmd.is_fabrics() && nvme::fctype_of(request.cmd) == nvme::Fctype::kConnect;
    cqe.sqhd = connect ? kNoSqhd : std::uint16_t{0};
  }
  if (!request.status.ok()) note_failure(request);
  return cqe;
}

void Session::note_failure(const Request& request) {
  shard_.counters().failed_commands.add();
  if (!controller_) return;
  // A host that resets or withdraws its event requests has not made an error.
  if (qid_ == nvme::kAdminQid && request.cmd.admin_opcode() == nvme::AdminOpcode::kAsyncEventRequest) return;
  nvme::ErrorLogEntry entry;
  entry.sqid = qid_;
  entry.cid = request.cmd.cid;
  entry.status_word = nvme::encode_status(request.status);
  entry.parameter_location = 0xFFFF;
  entry.trtype = static_cast<std::uint8_t>(nvme::DiscoveryTrtype::kTcp);
  if (!request.cmd.is_fabrics()) entry.nsid = request.cmd.nsid;
  if (is_io()) entry.lba = request.cmd.cdw10_11();
  controller_->errors().add(entry);
}

}  // namespace leap::target
