#include "client/remote_writer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace leap {
namespace {

Error bad_options(const RemoteWriteOptions& options, const char* what) {
  return Error(Errc::kInvalidArgument, fmt::format("write block {}: {}", options.id, what)).in(ErrorDomain::kRpc);
}

}  // namespace

RemoteWriter::RemoteWriter(WorkerConnection& connection, RemoteWriteOptions options)
    : connection_(connection),
      options_(std::move(options)),
      req_id_(connection.new_request_id()),
      position_(options_.offset) {}

proto::BlockWriteRequest RemoteWriter::request(std::uint64_t length, std::uint32_t chunk_size) const {
  proto::BlockWriteRequest request;
  auto& block = *request.mutable_block();
  block.set_id(options_.id.value());
  block.set_block_size(static_cast<std::int64_t>(length));
  block.set_storage_type(static_cast<proto::StorageTypeProto>(options_.type));
  block.set_file_type(proto::FILE_TYPE_FILE);
  request.set_off(static_cast<std::int64_t>(position_));
  request.set_block_size(static_cast<std::int64_t>(options_.capacity));
  request.set_short_circuit(options_.short_circuit);
  request.set_client_name(connection_.config().client_name);
  request.set_chunk_size(static_cast<std::int32_t>(chunk_size));
  connection_.config().component.fill(*request.mutable_component_info());
  return request;
}

WorkerConnection::Call RemoteWriter::next_call(rpc::RequestStatus status) {
  return {.code = rpc::RpcCode::kWriteBlock, .status = status, .req_id = req_id_, .seq_id = seq_id_++};
}

Task<Result<std::unique_ptr<RemoteWriter>>> RemoteWriter::open(WorkerConnection& connection,
                                                               RemoteWriteOptions options) {
  if (options.chunk_size == 0 || options.chunk_size > rpc::kMaxData) co_return bad_options(options, "chunk size");
  if (options.capacity > INT64_MAX || options.offset > options.capacity)
    co_return bad_options(options, "offset or capacity");
  auto writer = std::unique_ptr<RemoteWriter>(new RemoteWriter(connection, std::move(options)));
  proto::BlockWriteRequest header = writer->request(0, writer->options_.chunk_size);
  if (const auto& resize = writer->options_.resize) {
    auto& alloc = *header.mutable_block()->mutable_alloc_opts();
    alloc.set_truncate(resize->truncate);
    alloc.set_off(0);
    alloc.set_len(static_cast<std::int64_t>(resize->length));
    alloc.set_mode(resize->mode);
  }
  proto::BlockWriteResponse reply;
  WorkerConnection::Call call = writer->next_call(rpc::RequestStatus::kOpen);
  call.header = &header;
  call.reply_header = &reply;
  LEAP_CO_TRY(const std::size_t data, co_await connection.call(call));
  static_cast<void>(data);
  if (reply.block_size() != header.block_size()) {
    co_return Error(Errc::kProtocol, fmt::format("write block {}: opened with capacity {} instead of {}",
                                                 writer->options_.id, reply.block_size(), header.block_size()))
        .in(ErrorDomain::kRpc);
  }
  writer->type_ = static_cast<StorageType>(reply.storage_type());
  co_return std::move(writer);
}

void RemoteWriter::seek(std::uint64_t offset) {
  seek_pending_ = seek_pending_ || offset != position_;
  position_ = offset;
}

Task<Result<>> RemoteWriter::write(std::span<const std::byte> data) {
  proto::DataHeaderProto header;
  while (!data.empty()) {
    const auto chunk = data.first(std::min<std::size_t>(data.size(), options_.chunk_size));
    WorkerConnection::Call call = next_call(rpc::RequestStatus::kRunning);
    call.data = chunk;
    if (seek_pending_) {
      header.set_offset(static_cast<std::int64_t>(position_));
      header.set_flush(false);
      header.set_is_last(false);
      call.header = &header;
    }
    const Result<std::size_t> written = co_await connection_.call(call);
    if (!written.ok()) co_return written.error();
    seek_pending_ = false;
    position_ += chunk.size();
    data = data.subspan(chunk.size());
  }
  co_return Result<>{};
}

Task<Result<>> RemoteWriter::flush() {
  proto::DataHeaderProto header;
  header.set_offset(static_cast<std::int64_t>(position_));
  header.set_flush(true);
  header.set_is_last(false);
  WorkerConnection::Call call = next_call(rpc::RequestStatus::kRunning);
  call.header = &header;
  const Result<std::size_t> flushed = co_await connection_.call(call);
  if (!flushed.ok()) co_return flushed.error();
  co_return Result<>{};
}

Task<Result<>> RemoteWriter::finish(rpc::RequestStatus status, std::uint64_t length) {
  const proto::BlockWriteRequest header = request(length, 0);
  WorkerConnection::Call call = next_call(status);
  call.header = &header;
  const Result<std::size_t> done = co_await connection_.call(call);
  if (!done.ok()) co_return done.error();
  co_return Result<>{};
}

Task<Result<>> RemoteWriter::complete(std::uint64_t length) {
  Result<> done = co_await finish(rpc::RequestStatus::kComplete, length);
  co_return done;
}

Task<Result<>> RemoteWriter::cancel_block(WorkerConnection& connection, BlockId id) {
  RemoteWriteOptions options;
  options.id = id;
  RemoteWriter writer(connection, std::move(options));
  Result<> done = co_await writer.cancel();
  co_return done;
}

Task<Result<>> RemoteWriter::cancel() {
  Result<> done = co_await finish(rpc::RequestStatus::kCancel, 0);
  co_return done;
}

}  // namespace leap
