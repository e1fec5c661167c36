#include "client/worker_connection.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/uuid.h"
#include "rpc/error_codec.h"

namespace leap {

WorkerConnection::WorkerConnection(NvmePoller& poller, std::unique_ptr<AsyncStream> stream, SocketAddress address,
                                   Config config)
    : poller_(poller),
      stream_(std::move(stream)),
      address_(std::move(address)),
      config_(std::move(config)),
      in_(*stream_, {.max_header = config_.max_reply_header}),
      out_(*stream_),
      ids_(entropy_seed()) {
  if (config_.client_name.empty()) config_.client_name = Uuid::random().to_string();
}

Task<Result<std::unique_ptr<WorkerConnection>>> WorkerConnection::connect(NvmePoller& poller, Net& net,
                                                                          SocketAddress address, Config config) {
  const TimePoint deadline = poller.clock().now() + config.connect_timeout;
  auto stream = co_await AsyncStream::connect(poller, net, address, deadline);
  if (!stream.ok()) co_return std::move(stream).error().context("worker");
  co_return std::unique_ptr<WorkerConnection>(
      new WorkerConnection(poller, std::move(*stream), std::move(address), std::move(config)));
}

std::int64_t WorkerConnection::new_request_id() { return static_cast<std::int64_t>(ids_.next() | (1ULL << 63U)); }

Task<Result<std::size_t>> WorkerConnection::call(Call call) {
  const auto what = [](const WorkerConnection& self, const Call& request) {
    return fmt::format("worker {}: {} {}", self.address_, rpc::to_string(request.code), rpc::to_string(request.status));
  };
  if (busy_ || stream_->closed()) {
    co_return Error(Errc::kClosed, "connection is no longer usable")
        .in(ErrorDomain::kTransport)
        .context(what(*this, call));
  }
  busy_ = true;
  // Not poller_.now(): the caller may have spent the turn computing.
  Result<std::size_t> got = co_await exchange(call, poller_.clock().now() + config_.data_timeout);
  busy_ = false;
  if (!got.ok()) co_return std::move(got).error().context(what(*this, call));
  co_return got;
}

Error WorkerConnection::broken(std::string text) {
  stream_->close();
  return Error(Errc::kProtocol, std::move(text)).in(ErrorDomain::kRpc);
}

Task<Result<std::size_t>> WorkerConnection::exchange(Call call, TimePoint deadline) {
  if (call.header != nullptr) out_.set_message(*call.header);
  out_.add_data(call.data);
  const rpc::FrameHead request{.code = static_cast<std::uint8_t>(call.code),
                               .status = rpc::request_byte(call.status),
                               .req_id = call.req_id,
                               .seq_id = call.seq_id};
  Result<> sent = co_await out_.send(request, deadline);
  if (!sent.ok()) {
    stream_->close();
    co_return std::move(sent).error().maybe_executed();
  }
  Result<bool> more = co_await in_.next(deadline);
  if (more.ok() && !more.value()) more = Error(Errc::kClosed, "closed by the worker").in(ErrorDomain::kTransport);
  if (!more.ok()) {
    stream_->close();
    co_return std::move(more).error().maybe_executed();
  }
  const rpc::FrameHead& reply = in_.head();
  if (reply.req_id != call.req_id || reply.seq_id != call.seq_id) {
    co_return broken(
        fmt::format("reply has ids {}/{}, expected {}/{}", reply.req_id, reply.seq_id, call.req_id, call.seq_id));
  }
  if (reply.response() != rpc::ResponseStatus::kSuccess) {
    Result<> error = co_await read_error(deadline);
    co_return std::move(error).error();
  }
  const std::size_t size = in_.data_left();
  if (size > call.reply_data.size()) {
    co_return broken(fmt::format("reply brings {} bytes, at most {} expected", size, call.reply_data.size()));
  }
  Result<> read = co_await in_.read_data(call.reply_data.first(size), deadline);
  if (!read.ok()) {
    stream_->close();
    co_return std::move(read).error();
  }
  if (call.reply_header != nullptr) {
    Result<> parsed = rpc::parse_header(in_.header(), *call.reply_header);
    if (!parsed.ok()) co_return broken(parsed.error().message());
  }
  co_return size;
}

/// Never succeeds: returns the error that the worker sent, or why it could not be read.
Task<Result<>> WorkerConnection::read_error(TimePoint deadline) {
  // Errors are short. A longer one is cut off by the sender; nobody may make us hold 16 MiB of text.
  constexpr std::size_t kMaxPayload = 64 * 1024;
  if (in_.data_left() > kMaxPayload) co_return broken(fmt::format("error reply of {} bytes", in_.data_left()));
  std::vector<std::byte> payload(in_.data_left());
  Result<> read = co_await in_.read_data(payload, deadline);
  if (!read.ok()) {
    stream_->close();
    co_return read;
  }
  Result<rpc::RemoteError> remote = rpc::decode_error(payload);
  if (!remote.ok()) co_return broken(remote.error().message());
  co_return rpc::to_error(*remote);
}

}  // namespace leap
