#include "worker/session.h"

#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "proto/leap.pb.h"
#include "rpc/component.h"
#include "rpc/error_codec.h"

namespace leap {
namespace {

RateLimiter& log_limit() {
  static RateLimiter limiter(20, std::chrono::minutes(1));
  return limiter;
}

}  // namespace

Session::Session(SessionContext& context, std::unique_ptr<AsyncStream> stream)
    : context_(context),
      stream_(std::move(stream)),
      in_(*stream_, {.max_header = context.config.max_header}, &context.headers),
      out_(*stream_),
      gate_(context.policy, stream_->peer()),
      write_(context, gate_, *stream_),
      read_(context, gate_) {}

void Session::drain() {
  draining_ = true;
  if (!serving_) stream_->close();
}

Task<void> Session::run() {
  while (!draining_) {
    const Result<bool> more = co_await in_.next(context_.idle_deadline());
    if (!more.ok()) log_end(more.error());
    if (!more.ok() || !more.value()) break;
    const rpc::FrameHead& head = in_.head();
    if (head.request() == rpc::RequestStatus::kHeartbeat) {
      const Result<> skipped = co_await in_.skip_data(context_.idle_deadline());
      if (skipped.ok()) continue;
      break;
    }
    if (rpc::is_empty_message(head.status)) break;
    serving_ = true;
    const bool go_on = co_await serve();
    serving_ = false;
    if (!go_on) break;
  }
  co_await write_.drop();
  read_.drop();
  stream_->close();
}

/// Serves one request. False: the connection is over.
Task<bool> Session::serve() {
  const TimePoint begin = context_.poller.clock().now();
  Result<bool> outcome = co_await dispatch();
  const Nanos took = context_.poller.clock().now() - begin;
  if (in_.failed() || out_.failed()) {
    if (!outcome.ok()) log_end(outcome.error());
    co_return false;
  }
  if (took > context_.config.io_slow_threshold) {
    if (const auto pass = log_limit().admit()) {
      log_warn("slow request: code {} {} of {} took {} ({} more lines not logged)", in_.head().code,
               rpc::to_string(in_.head().request()), gate_.peer(), format_duration(took), pass->suppressed);
    }
  }
  // Data that nobody wanted must leave the stream, or the next frame would begin inside it.
  const Result<> skipped = co_await in_.skip_data(context_.idle_deadline());
  if (!skipped.ok()) co_return false;
  const Result<> sent = co_await send_reply(std::move(outcome));
  co_return sent.ok();
}

/// True: the reply has been sent already.
Task<Result<bool>> Session::dispatch() {
  switch (static_cast<rpc::RpcCode>(in_.head().code)) {
    case rpc::RpcCode::kWriteBlock: {
      // A frame of another kind begins an empty session of that kind.
      read_.drop();
      Result<> written = co_await write_.handle(in_, out_);
      if (!written.ok()) co_return std::move(written).error();
      co_return false;
    }
    case rpc::RpcCode::kReadBlock: {
      if (!write_.idle()) co_await write_.drop();
      Result<bool> read = co_await read_.handle(in_, out_);
      co_return read;
    }
    case rpc::RpcCode::kLeapWorkerInfo: {
      LEAP_CO_TRY_VOID(answer_info());
      co_return false;
    }
    default: break;
  }
  co_return Error(Errc::kUnsupported, fmt::format("Unsupported request type: {}", in_.head().code))
      .in(ErrorDomain::kRpc);
}

/// What Leap's tools want to know. Leaves an open session as it is: a reader can ask which generation it has opened.
Result<> Session::answer_info() {
  proto::LeapWorkerInfoRequest request;
  LEAP_TRY_VOID(rpc::parse_header(in_.header(), request));
  proto::LeapWorkerInfoResponse info;
  info.set_web_port(context_.config.web_port);
  info.set_release_version(rpc::kReleaseVersion);
  info.set_cluster_id(context_.config.cluster_id);
  if (request.has_block_id()) {
    LEAP_TRY(const StoreSet::Listed found, context_.store.stat(BlockId{request.block_id()}));
    proto::LeapBlockInfo& block = *info.mutable_block();
    block.set_id(found.info.id.value());
    block.set_finalized(found.info.state == BlockState::kFinalized);
    block.set_length(found.info.length);
    block.set_capacity(found.info.capacity);
    block.set_generation(found.info.generation);
    block.set_allocated_bytes(found.info.allocated_bytes);
    block.set_rewriting(found.info.rewriting);
    block.set_damaged(found.info.damaged);
    block.set_storage_type(std::string(to_string(found.type)));
  }
  out_.set_message(info);
  return {};
}

Task<Result<>> Session::send_reply(Result<bool> outcome) {
  if (outcome.ok() && outcome.value()) co_return Result<>{};
  const TimePoint deadline = context_.poller.clock().now() + context_.config.send_timeout;
  if (outcome.ok()) {
    Result<> sent = co_await out_.send(rpc::reply_head(in_.head(), rpc::ResponseStatus::kSuccess), deadline);
    co_return sent;
  }
  context_.probe.error_replies.add();
  log_debug("code {} {} of {}: {}", in_.head().code, rpc::to_string(in_.head().request()), gate_.peer(),
            outcome.error().to_string());
  const std::string payload = rpc::encode_error(outcome.error());
  out_.clear();
  out_.add_data(std::as_bytes(std::span(payload)));
  Result<> sent = co_await out_.send(rpc::reply_head(in_.head(), rpc::ResponseStatus::kError), deadline);
  co_return sent;
}

void Session::log_end(const Error& error) {
  if (error.kind() != Errc::kProtocol && error.kind() != Errc::kExhausted) {
    log_debug("connection of {} ended: {}", gate_.peer(), error.to_string());
    return;
  }
  context_.probe.protocol_errors.add();
  if (const auto pass = log_limit().admit()) {
    log_warn("closing the connection of {}: {} ({} more lines not logged)", gate_.peer(), error.message(),
             pass->suppressed);
  }
}

}  // namespace leap
