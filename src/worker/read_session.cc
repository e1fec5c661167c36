#include "worker/read_session.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/scope_exit.h"

namespace leap {
namespace {

Error refused(Errc kind, std::string text) { return Error(kind, std::move(text)).in(ErrorDomain::kRpc); }

Result<> check_open(const proto::BlockReadRequest& request, std::uint64_t max_block_size) {
  const auto bad = [&](std::string_view what, std::int64_t value) {
    return refused(Errc::kInvalidArgument, fmt::format("read block {}: {} {}", request.id(), what, value));
  };
  if (request.len() < 0 || static_cast<std::uint64_t>(request.len()) > max_block_size)
    return bad("length", request.len());
  if (request.off() < 0 || request.off() > request.len()) return bad("offset", request.off());
  if (request.chunk_size() <= 0 || request.chunk_size() > std::int64_t{rpc::kMaxData})
    return bad("chunk size", request.chunk_size());
  if (request.enable_read_ahead() && request.read_ahead_len() > std::int64_t{rpc::kMaxData}) {
    return bad("read-ahead", request.read_ahead_len());
  }
  return {};
}

}  // namespace

Task<Result<bool>> ReadSession::handle(rpc::FrameReader& in, rpc::FrameWriter& out) {
  Result<> result;
  switch (in.head().request()) {
    case rpc::RequestStatus::kOpen: result = co_await open(in, out); break;
    case rpc::RequestStatus::kRunning:
      result = co_await running(in, out);
      if (result.ok()) co_return true;
      break;
    case rpc::RequestStatus::kComplete: result = complete(in); break;
    default:
      result = refused(Errc::kUnsupported, fmt::format("Unsupported request type: {} of code {}",
                                                       rpc::to_string(in.head().request()), in.head().code));
  }
  if (!result.ok()) co_return std::move(result).error();
  co_return false;
}

Task<Result<>> ReadSession::open(rpc::FrameReader& in, rpc::FrameWriter& out) {
  drop();
  proto::BlockReadRequest request;
  LEAP_CO_TRY_VOID(rpc::parse_header(in.header(), request));
  LEAP_CO_TRY_VOID(gate_.admit(request.has_component_info() ? &request.component_info() : nullptr));
  // The order of the checks is the protocol's: whether the block is known comes first.
  Result<StoreSet::OpenedReader> opened = co_await context_.store.open_reader(context_.poller, BlockId{request.id()});
  if (!opened.ok()) co_return std::move(opened).error();
  LEAP_CO_TRY_VOID(check_open(request, context_.config.max_block_size));
  reader_ = std::move(opened->reader);
  req_id_ = in.head().req_id;
  length_ = static_cast<std::uint64_t>(request.len());
  position_ = static_cast<std::uint64_t>(request.off());
  chunk_size_ = static_cast<std::uint32_t>(request.chunk_size());
  context_.probe.read_blocks.add();

  // No path, whatever short_circuit says; the session is usable all the same.
  proto::BlockReadResponse reply;
  reply.set_id(request.id());
  reply.set_len(request.len());
  reply.set_storage_type(static_cast<proto::StorageTypeProto>(opened->type));
  out.set_message(reply);
  co_return Result<>{};
}

Result<> ReadSession::seek(std::span<const std::byte> header) {
  proto::DataHeaderProto request;
  LEAP_TRY_VOID(rpc::parse_header(header, request));
  if (request.offset() < 0 || static_cast<std::uint64_t>(request.offset()) > length_) {
    return refused(Errc::kIo, fmt::format("read block {}: seek to {} outside its length of {}", reader_->id(),
                                          request.offset(), length_));
  }
  position_ = static_cast<std::uint64_t>(request.offset());
  return {};
}

Task<Result<>> ReadSession::running(rpc::FrameReader& in, rpc::FrameWriter& out) {
  if (reader_ == nullptr)
    co_return refused(Errc::kWrongState, "Uninitialized: no block is open for reading on this connection");
  const TimePoint begin = context_.poller.clock().now();
  if (!in.header().empty()) {
    LEAP_CO_TRY_VOID(seek(in.header()));
  }
  const std::uint64_t size = std::min<std::uint64_t>(chunk_size_, length_ - position_);
  if (size == 0) {
    co_return refused(Errc::kIo, fmt::format("read block {}: offset exceeds block length {}", reader_->id(), length_));
  }
  LEAP_CO_TRY_VOID(co_await in.skip_data(context_.idle_deadline()));  // nobody sends any
  LEAP_CO_TRY_VOID(co_await send(in, out, static_cast<std::size_t>(size)));
  SessionProbe& probe = context_.probe;
  probe.read_count.add();
  probe.read_bytes.add(size);
  probe.read_time_us.add(static_cast<std::uint64_t>((context_.poller.clock().now() - begin).count() / 1000));
  co_return Result<>{};
}

/// Reads and sends `size` bytes. Only an error before the first byte has left can be told to the client; a later one
/// leaves the frame incomplete (out.failed()), and the connection is closed.
Task<Result<>> ReadSession::send(rpc::FrameReader& in, rpc::FrameWriter& out, std::size_t size) {
  const TimePoint deadline = context_.poller.clock().now() + context_.config.send_timeout;
  for (std::size_t done = 0; done < size;) {
    const std::size_t part = std::min(size - done, context_.reply_segment);
    const std::size_t charge = context_.reply_charge(position_ + done, part);
    co_await context_.reply_memory.acquire(charge);
    const auto permit = defer([&] { context_.reply_memory.release(charge); });
    Result<ReadChunk> chunk = co_await reader_->read(position_ + done, part);
    if (!chunk.ok()) co_return std::move(chunk).error();
    for (const DmaBuf& piece : chunk->pieces()) out.add_data(piece.bytes());
    Result<> sent;
    if (done == 0)
      sent = co_await out.send_first(rpc::reply_head(in.head(), rpc::ResponseStatus::kSuccess), size, deadline);
    else
      sent = co_await out.send_more(deadline);
    if (!sent.ok()) co_return sent;
    done += part;
  }
  position_ += size;
  co_return Result<>{};
}

Result<> ReadSession::complete(const rpc::FrameReader& in) {
  if (reader_ != nullptr && in.head().req_id != req_id_) {
    return refused(Errc::kWrongState,
                   fmt::format("request id {} is not the session's ({})", in.head().req_id, req_id_));
  }
  drop();
  return {};
}

}  // namespace leap
