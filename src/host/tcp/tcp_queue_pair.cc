#include "host/tcp/tcp_queue_pair.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/mutation.h"
#include "base/units.h"
#include "nvme/status.h"

namespace leap {

using nvme::DataDirection;
using nvme::Fes;

namespace {

/// How long a failed connection waits for the peer to take the TermReq and close (the specification allows 30 s).
constexpr Nanos kLinger = std::chrono::seconds(1);

nvme::ConnectionParams wanted_params(const TcpQueuePair::TcpConfig& config) {
  nvme::ConnectionParams params;
  params.hdgst = config.header_digest;
  params.ddgst = config.data_digest;
  params.maxr2t = config.maxr2t;
  params.in_capsule_bytes = std::max(config.in_capsule_bytes, nvme::kAdminInCapsuleBytes);
  params.max_c2h_bytes = config.queue.max_transfer;
  return params;
}

nvme::PduMonitor::Config monitor_config(const TcpQueuePair::TcpConfig& config) {
  return {.end = nvme::ConnectionEnd::kHost,
          .commands = config.queue.depth,
          .r2ts = config.maxr2t,
          .in_capsule_bytes = config.in_capsule_bytes};
}

/// "48 54 54 50 (HTTP)": what a peer of another kind said.
std::string quote(std::span<const std::byte> bytes) {
  constexpr std::size_t kShown = 16;
  std::string hex;
  std::string text;
  for (const std::byte byte : bytes.first(std::min(bytes.size(), kShown))) {
    const auto value = std::to_integer<unsigned char>(byte);
    hex += fmt::format("{:02x} ", value);
    text += std::isprint(value) != 0 ? static_cast<char>(value) : '.';
  }
  return fmt::format("{}({})", hex, text);
}

}  // namespace

TcpQueuePair::TcpQueuePair(NvmePoller& poller, SocketAddress address, TcpConfig config)
    : QueuePair(poller, config.queue),
      address_(std::move(address)),
      config_(std::move(config)),
      params_(wanted_params(config_)),
      checker_(nvme::PduChecker::make(config_.protocol_checker, monitor_config(config_), address_.to_string())),
      receiver_(*this, params_, config_.receive_buffer),
      sender_(params_, config_.queue.depth),
      commands_(config_.queue.depth),
      connect_done_(poller),
      linger_timer_(poller.timers(), &TcpQueuePair::on_linger_expired, this) {
  receiver_.set_checker(checker_.get());
  sender_.set_checker(checker_.get());
  for (std::uint32_t i = 0; i < config_.queue.depth; ++i) commands_[i].bind(*this, request_at(i));
}

TcpQueuePair::~TcpQueuePair() { close(); }

Error TcpQueuePair::transport_error(Errc kind, std::string message) const {
  return Error(kind, std::move(message))
      .in(ErrorDomain::kTransport)
      .with_scope(ErrorScope::kQueuePair)
      .retryable_if(true);
}

// --- connecting ---

Task<Result<std::unique_ptr<TcpQueuePair>>> TcpQueuePair::connect(NvmePoller& poller, Net& net, SocketAddress address,
                                                                  TcpConfig config, TimePoint deadline) {
  LEAP_CHECK(config.maxr2t >= 1 && config.maxr2t <= kMaxR2T, "MAXR2T out of range");
  std::unique_ptr<TcpQueuePair> queue_pair(new TcpQueuePair(poller, std::move(address), std::move(config)));
  LEAP_CO_TRY_VOID(queue_pair->begin(net));
  Timer timer(poller.timers(), &TcpQueuePair::on_connect_expired, queue_pair.get());
  timer.arm(deadline);
  co_await queue_pair->connect_done_.wait();
  if (queue_pair->failure()) co_return Error(*queue_pair->failure()).context(queue_pair->name());
  co_return std::move(queue_pair);
}

Result<> TcpQueuePair::begin(Net& net) {
  LEAP_TRY(stream_, net.connect(address_));
  LEAP_TRY_VOID(stream_->attach(poller(), *this, Interest{.read = false, .write = true}));
  phase_ = Phase::kTcpConnecting;
  return {};
}

void TcpQueuePair::on_connected() {
  if (const int error = stream_->connect_error(); error != 0) {
    fail(Error::os(error, fmt::format("connect to {}", address_.to_string())).with_scope(ErrorScope::kQueuePair));
    return;
  }
  phase_ = Phase::kInitialising;
  stream_->set_interest(Interest{});
  sender_.ic_req(params_);
  flush();
}

void TcpQueuePair::on_connect_expired(void* self) {
  auto& queue_pair = *static_cast<TcpQueuePair*>(self);
  queue_pair.fail(queue_pair.connect_timeout_error());
}

Error TcpQueuePair::connect_timeout_error() const {
  if (phase_ == Phase::kTcpConnecting) {
    return transport_error(Errc::kTimedOut, fmt::format("connect to {}: no answer in time", address_.to_string()));
  }
  return transport_error(
      Errc::kTimedOut,
      fmt::format("{} accepted the connection but did not answer ICReq in time: is it an NVMe/TCP target?",
                  address_.to_string()));
}

bool TcpQueuePair::on_ic_resp(const nvme::IcRespPdu& pdu) {
  const nvme::ConnectionParams granted = nvme::negotiate(params_, pdu);
  if (granted.hdgst != params_.hdgst || granted.ddgst != params_.ddgst) {
    fail(transport_error(Errc::kUnsupported, fmt::format("{} declines {} digests", address_.to_string(),
                                                         granted.hdgst != params_.hdgst ? "header" : "data"))
             .retryable_if(false));
    return false;
  }
  params_ = granted;
  receiver_.initialised();
  phase_ = Phase::kUp;
  established();
  connect_done_.set();
  return true;
}

// --- sending ---

void TcpQueuePair::transmit(NvmeRequest& request) {
  TcpCommand& command = commands_[request.index];
  command.begin();
  const bool always_fits = qid() == nvme::kAdminQid || request.command.is_fabrics();
  sender_.capsule(command, always_fits ? nvme::kAdminInCapsuleBytes : config_.in_capsule_bytes);
  poller().at_turn_end(*this);
  poller().heat(*this);
}

void TcpQueuePair::on_turn_end() {
  if (stream_ != nullptr) flush();
}

void TcpQueuePair::flush() {
  const int error = sender_.flush(*stream_);
  if (error < 0) {
    // The peer may have said why before it closed.
    if (error == -EPIPE || error == -ECONNRESET) receiver_.receive(*stream_);
    if (stream_ != nullptr) {
      fail(Error::os(-error, fmt::format("send to {}", address_.to_string()))
               .with_scope(ErrorScope::kQueuePair)
               .retryable_if(true));
    }
    return;
  }
  update_interest();
}

void TcpQueuePair::update_interest() {
  if (stream_ != nullptr) stream_->set_interest(Interest{.read = true, .write = sender_.blocked()});
}

// --- receiving ---

std::size_t TcpQueuePair::poll() {
  if (stream_ == nullptr) return 0;
  if (phase_ == Phase::kTcpConnecting) {
    on_connected();
    return 1;
  }
  if (phase_ == Phase::kLingering) return linger();
  std::size_t work = receive();
  if (stream_ != nullptr && sender_.blocked()) {
    // Only bytes that left are work: a poller that waits for room must be able to go to sleep.
    const std::uint64_t before = sender_.bytes_sent();
    flush();
    if (sender_.bytes_sent() != before) ++work;
  }
  // With nothing to wait for, looking every turn is wasted: the descriptor tells.
  if (expected() == 0) Pollable::unlink();
  return work;
}

std::size_t TcpQueuePair::receive() {
  const TimePoint now = poller().now();
  if (!pacer_.due(now, poller().probe().sleeps.load(std::memory_order_relaxed))) return 0;
  answers_ = 0;
  const std::size_t work = receiver_.receive(*stream_);
  pacer_.on_read(now, answers_, expected(), receiver_.payload_left());
  return work;
}

template <typename Pdu>
bool TcpQueuePair::protocol_error(const nvme::PduError& error, const Pdu& pdu, const char* reason) {
  const Termination termination{error, nvme::wire::bytes_of(pdu)};
  termination_ = &termination;
  fail(nvme::pdu_error(error, pdu.header, nvme::PduDirection::kToHost,
                       fmt::format("{}: {}", address_.to_string(), reason))
           .retryable_if(true));
  termination_ = nullptr;
  return false;
}

template <typename Pdu>
TcpCommand* TcpQueuePair::command_for(nvme::Cid cid, std::uint32_t cid_offset, const Pdu& pdu) {
  NvmeRequest* request = find(cid);
  if (request == nullptr) [[unlikely]] {
    protocol_error(nvme::bad_field(cid_offset), pdu, "a command that is not outstanding");
    return nullptr;
  }
  TcpCommand& command = commands_[request->index];
  if (command.answered || !sender_.reached_wire(command)) [[unlikely]] {
    const char* reason = command.answered ? "a command that is answered already" : "a command that was not sent yet";
    protocol_error({Fes::kPduSequenceError, 0}, pdu, reason);
    return nullptr;
  }
  return &command;
}

bool TcpQueuePair::on_data(const nvme::C2HDataPdu& pdu, std::span<std::byte>& destination) {
  TcpCommand* command = command_for(pdu.cccid, nvme::pdu_field::kCccid, pdu);
  if (command == nullptr) return false;
  NvmeRequest& request = command->request();
  if (request.direction != DataDirection::kControllerToHost) {
    return protocol_error(nvme::bad_field(nvme::pdu_field::kCccid), pdu, "data for a command that reads none");
  }
  if (command->last_seen) return protocol_error({Fes::kPduSequenceError, 0}, pdu, "data after the last data PDU");
  if (pdu.datao != command->moved) {
    return protocol_error(nvme::bad_field(nvme::pdu_field::kDataOffset), pdu, "data out of order");
  }
  if (pdu.datal > request.length - command->moved) {
    return protocol_error({Fes::kDataTransferOutOfRange, 0}, pdu, "more data than the command asked for");
  }
  destination = request.data.bytes().subspan(command->moved, pdu.datal);
  command->moved += pdu.datal;
  return true;
}

bool TcpQueuePair::on_data_end(const nvme::C2HDataPdu& pdu, bool intact) {
  // The head was accepted and nothing else was parsed since, but a handler may have ended the command's queue pair.
  NvmeRequest* request = find(pdu.cccid);
  if (request == nullptr) return false;
  TcpCommand& command = commands_[request->index];
  if (!intact) {
    counters().digest_errors.add();
    command.damaged = true;
  }
  if (!pdu.header.last_pdu()) return true;
  command.last_seen = true;
  if (!pdu.header.success() || LEAP_MUTATION(success_flag_ignored)) return true;
  if (command.moved != request->length) {
    return protocol_error({Fes::kPduSequenceError, 0}, pdu, "success before all data");
  }
  nvme::Completion completion;  // what the response capsule left out would have said
  completion.cid = pdu.cccid;
  completion.sqid = qid();
  deliver(command, completion);
  return stream_ != nullptr && phase_ == Phase::kUp;
}

bool TcpQueuePair::on_response(const nvme::CapsuleRespPdu& pdu) {
  constexpr std::uint32_t kCidOffset = offsetof(nvme::CapsuleRespPdu, cqe) + offsetof(nvme::Completion, cid);
  TcpCommand* command = command_for(pdu.cqe.cid, kCidOffset, pdu);
  if (command == nullptr) return false;
  NvmeRequest& request = command->request();
  // NVMe has no short transfer: success means that every byte has moved.
  if (pdu.cqe.ok() && request.direction != DataDirection::kNone && command->moved != request.length) {
    return protocol_error({Fes::kPduSequenceError, 0}, pdu, "success before all data");
  }
  if (command->references > 0 || command->grants > 0) {
    // Answered before its data has left. An error may be; success may not, because R2T data in our queue was not seen
    // by the controller. Either way the buffer is still the transmit queue's.
    if (pdu.cqe.ok() && command->grants > 0) {
      return protocol_error({Fes::kPduSequenceError, 0}, pdu, "success before all data");
    }
    sender_.cancel_grants(*command);
    if (command->references > 0) {
      command->answered = true;
      command->completion = pdu.cqe;
      return true;
    }
  }
  deliver(*command, pdu.cqe);
  return stream_ != nullptr && phase_ == Phase::kUp;
}

void TcpQueuePair::on_held_command_free(TcpCommand& command) { deliver(command, command.completion); }

void TcpQueuePair::deliver(TcpCommand& command, const nvme::Completion& completion) {
  ++answers_;
  if (command.damaged && completion.ok()) [[unlikely]] {
    complete_corrupt(command.request());
  } else {
    complete(command.request(), completion);
  }
}

bool TcpQueuePair::on_r2t(const nvme::R2TPdu& pdu) {
  TcpCommand* command = command_for(pdu.cccid, nvme::pdu_field::kCccid, pdu);
  if (command == nullptr) return false;
  NvmeRequest& request = command->request();
  if (request.direction != DataDirection::kHostToController || command->in_capsule) {
    return protocol_error(nvme::bad_field(nvme::pdu_field::kCccid), pdu, "R2T for a command that has no data to send");
  }
  if (command->grants >= params_.maxr2t) {
    return protocol_error({Fes::kR2TLimitExceeded, 0}, pdu, "more R2Ts than MAXR2T");
  }
  if (pdu.r2to != command->moved) {
    return protocol_error(nvme::bad_field(nvme::pdu_field::kDataOffset), pdu, "R2T out of order");
  }
  if (pdu.r2tl > request.length - command->moved) {
    return protocol_error({Fes::kDataTransferOutOfRange, 0}, pdu, "R2T beyond the command's data");
  }
  command->moved += pdu.r2tl;
  ++command->grants;
  sender_.grant(*command, pdu.ttag, pdu.r2to, pdu.r2tl);
  poller().at_turn_end(*this);
  return true;
}

void TcpQueuePair::on_term_req(const nvme::TermReqPdu& pdu) {
  const auto fes = static_cast<Fes>(pdu.fes);
  fail(transport_error(Errc::kProtocol,
                       fmt::format("{} ended the connection: {} (FES {:#x}, FEI {:#x})", address_.to_string(),
                                   nvme::to_string(fes, nvme::PduDirection::kToHost), pdu.fes, pdu.fei())));
}

void TcpQueuePair::on_invalid(const nvme::PduError& error, const nvme::PduHeader& header,
                              std::span<const std::byte> quoted) {
  if (phase_ == Phase::kInitialising) {
    fail(transport_error(Errc::kProtocol, fmt::format("{} does not speak NVMe/TCP: its answer to ICReq begins with {}",
                                                      address_.to_string(), quote(receiver_.unread())))
             .retryable_if(false));
    return;
  }
  const bool digest = error.fes == Fes::kHeaderDigestError;
  const Termination termination{error, quoted};
  termination_ = &termination;
  Error cause = nvme::pdu_error(error, header, nvme::PduDirection::kToHost, address_.to_string());
  if (digest) cause = transport_error(Errc::kCorrupt, cause.message());
  fail(std::move(cause).retryable_if(true));
  termination_ = nullptr;
}

void TcpQueuePair::on_stream_end(int error) {
  if (error != 0) {
    fail(Error::os(error, fmt::format("receive from {}", address_.to_string()))
             .with_scope(ErrorScope::kQueuePair)
             .retryable_if(true));
    return;
  }
  const char* when =
      phase_ == Phase::kInitialising ? "closed the connection instead of answering ICReq" : "closed the connection";
  fail(transport_error(Errc::kClosed, fmt::format("{} {}", address_.to_string(), when)));
}

// --- ending ---

bool TcpQueuePair::quiesce(const Error& cause) {
  TurnEndHook::unlink();
  // A PDU that is half out cannot be taken back, and a TermReq can only follow a whole one. Commands queued behind it
  // must not go out either: their callers are told that they failed.
  const bool cut = sender_.blocked();
  sender_.clear();
  if (termination_ != nullptr && !cut && stream_ != nullptr) {
    log_warn("{}: {}: sending H2CTermReq", name(), cause.message());
    sender_.term_req(termination_->error.fes, termination_->error.fei, termination_->quoted);
    if (sender_.flush(*stream_) == 0 && !sender_.blocked()) {
      sender_.clear();
      stream_->shutdown_write();
      phase_ = Phase::kLingering;
      linger_timer_.arm(poller().now() + kLinger);
    }
  }
  if (phase_ != Phase::kLingering) close_stream();
  connect_done_.set();
  return true;
}

bool TcpQueuePair::may_have_reached_peer(const NvmeRequest& request) const {
  if (LEAP_MUTATION(failure_says_not_executed)) return false;
  return sender_.reached_wire(commands_[request.index]);
}

std::size_t TcpQueuePair::linger() {
  Pollable::unlink();
  std::array<std::byte, 4096> scratch;
  const iovec iov{scratch.data(), scratch.size()};
  const ssize_t received = stream_->readv(&iov, 1);
  if (received == -EAGAIN || received == -EINTR) return 0;
  if (received <= 0) close_stream();
  return 1;
}

void TcpQueuePair::on_linger_expired(void* self) { static_cast<TcpQueuePair*>(self)->close_stream(); }

void TcpQueuePair::close_stream() {
  phase_ = Phase::kDown;
  linger_timer_.cancel();
  Pollable::unlink();
  if (stream_ == nullptr) return;
  stream_->detach();
  stream_.reset();
}

}  // namespace leap
