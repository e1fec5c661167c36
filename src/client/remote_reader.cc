#include "client/remote_reader.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace leap {
namespace {

/// What a client that does not tune read-ahead sends: eight chunks, within the worker's limit.
std::int64_t read_ahead(std::uint32_t chunk_size) {
  return std::min<std::int64_t>(8 * std::int64_t{chunk_size}, rpc::kMaxData);
}

}  // namespace

RemoteReader::RemoteReader(WorkerConnection& connection, RemoteReadOptions options)
    : connection_(connection), options_(options), req_id_(connection.new_request_id()), position_(options.offset) {}

WorkerConnection::Call RemoteReader::next_call(rpc::RequestStatus status) {
  return {.code = rpc::RpcCode::kReadBlock, .status = status, .req_id = req_id_, .seq_id = seq_id_++};
}

Task<Result<std::unique_ptr<RemoteReader>>> RemoteReader::open(WorkerConnection& connection,
                                                               RemoteReadOptions options) {
  if (options.chunk_size == 0 || options.chunk_size > rpc::kMaxData || options.length > INT64_MAX ||
      options.offset > options.length) {
    co_return Error(Errc::kInvalidArgument, fmt::format("read block {}: offset, length or chunk size", options.id))
        .in(ErrorDomain::kRpc);
  }
  auto reader = std::unique_ptr<RemoteReader>(new RemoteReader(connection, options));
  proto::BlockReadRequest header;
  header.set_id(options.id.value());
  header.set_off(static_cast<std::int64_t>(options.offset));
  header.set_len(static_cast<std::int64_t>(options.length));
  header.set_chunk_size(static_cast<std::int32_t>(options.chunk_size));
  header.set_short_circuit(options.short_circuit);
  header.set_enable_read_ahead(true);
  header.set_read_ahead_len(read_ahead(options.chunk_size));
  header.set_drop_cache_len(1024 * 1024);
  connection.config().component.fill(*header.mutable_component_info());
  proto::BlockReadResponse reply;
  WorkerConnection::Call call = reader->next_call(rpc::RequestStatus::kOpen);
  call.header = &header;
  call.reply_header = &reply;
  LEAP_CO_TRY(const std::size_t data, co_await connection.call(call));
  static_cast<void>(data);
  co_return std::move(reader);
}

void RemoteReader::seek(std::uint64_t offset) {
  LEAP_CHECK(offset <= options_.length, fmt::format("seek to {} in a block of {} bytes", offset, options_.length));
  seek_pending_ = seek_pending_ || offset != position_;
  position_ = offset;
}

Task<Result<std::size_t>> RemoteReader::read(std::span<std::byte> out) {
  const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(options_.chunk_size, options_.length - position_));
  if (want == 0) co_return std::size_t{0};
  LEAP_CHECK(out.size() >= want, fmt::format("room for {} of {} bytes", out.size(), want));
  WorkerConnection::Call call = next_call(rpc::RequestStatus::kRunning);
  call.reply_data = out.first(want);
  proto::DataHeaderProto header;
  if (seek_pending_) {
    header.set_offset(static_cast<std::int64_t>(position_));
    header.set_flush(false);
    header.set_is_last(false);
    call.header = &header;
  }
  const Result<std::size_t> got = co_await connection_.call(call);
  if (!got.ok()) co_return got.error();
  if (got.value() == 0) {
    connection_.close();
    co_return Error(Errc::kProtocol, fmt::format("read block {}: empty reply before the end", options_.id))
        .in(ErrorDomain::kRpc);
  }
  seek_pending_ = false;
  position_ += got.value();
  co_return got.value();
}

Task<Result<>> RemoteReader::close() {
  proto::BlockReadRequest header;
  header.set_id(options_.id.value());
  header.set_off(0);
  header.set_len(0);
  header.set_chunk_size(0);
  header.set_short_circuit(false);
  header.set_enable_read_ahead(true);
  header.set_read_ahead_len(4 * 1024 * 1024);
  header.set_drop_cache_len(1024 * 1024);
  connection_.config().component.fill(*header.mutable_component_info());
  WorkerConnection::Call call = next_call(rpc::RequestStatus::kComplete);
  call.header = &header;
  const Result<std::size_t> done = co_await connection_.call(call);
  if (!done.ok()) co_return done.error();
  co_return Result<>{};
}

}  // namespace leap
