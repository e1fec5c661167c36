#include "target/tcp/connection.h"

#include <algorithm>

#include "target/core.h"
#include "target/limits.h"

namespace leap::target {
namespace {

/// An ICReq and nothing else: whoever connects without speaking NVMe/TCP costs next to nothing.
constexpr std::size_t kHandshakeReceive = sizeof(nvme::IcReqPdu);
constexpr std::size_t kHandshakePieces = 8;
constexpr std::size_t kHandshakeHeaders = 512;

/// Enough for a whole capsule with all its data, and for many small ones in one system call.
constexpr std::size_t kReceiveBuffer = 128 * 1024;
constexpr std::size_t kLargestCapsule = 255 + 64 * 1024 + nvme::kDigestBytes;  // PDO is one byte
static_assert(kReceiveBuffer >= kLargestCapsule + 4096);

/// Besides the responses: ICResp, C2HTermReq.
constexpr std::size_t kSpareControl = 16;
/// Receives per turn; the second and later ones only while payload follows.
constexpr int kMaxReceives = 4;

constexpr std::size_t kMaxHead = nvme::kMaxPduHeadBytes;

}  // namespace

Connection::Connection(Shard& shard, ConnectionId id, std::unique_ptr<Stream> stream)
    : shard_(shard),
      id_(id),
      stream_(std::move(stream)),
      peer_(stream_->peer()),
      local_(stream_->local_address()),
      rx_(kHandshakeReceive),
      tx_(kHandshakePieces, kHandshakeHeaders),
      session_(shard, *this),
      deadline_(shard.poller().timers(), &Connection::deadline_passed, this),
      handshake_deadline_(shard.poller().clock().now() + session_.subsystem().config().handshake_timeout) {
  if (shard.core().chaos != nullptr) {
    auto chaos = std::make_unique<ChaosStream>(std::move(stream_), *shard.core().chaos);
    chaos_ = chaos.get();
    stream_ = std::move(chaos);
  }
  const TargetConfig& config = session_.subsystem().config();
  params_.hdgst = config.header_digest;
  params_.ddgst = config.data_digest;
  params_.cpda = 0;  // Linux accepts nothing else
  params_.maxh2cdata = config.max_h2c_data;
  params_.in_capsule_bytes = std::max(config.in_capsule_data_size, nvme::kAdminInCapsuleBytes);
  const nvme::PduMonitor::Config monitor{.end = nvme::ConnectionEnd::kController,
                                         .commands = max_entries(config, true),
                                         .r2ts = config.max_r2ts,
                                         .in_capsule_bytes = config.in_capsule_data_size};
  checker_ = nvme::PduChecker::make(config.protocol_checker, monitor, peer_);
  deadline_.arm(handshake_deadline_);
}

Result<std::unique_ptr<Connection>> Connection::open(Shard& shard, ConnectionId id, std::unique_ptr<Stream> stream) {
  auto connection = std::unique_ptr<Connection>(new Connection(shard, id, std::move(stream)));
  LEAP_TRY_VOID(connection->stream_->attach(shard.poller(), *connection, Interest{}));
  return connection;
}

Connection::~Connection() {
  state_ = ConnectionState::kClosed;
  if (stream_ != nullptr) stream_->detach();
  tx_.clear();
  session_.end();
  // Only a stopped poller leaves requests behind: its tasks are gone, and so is whatever might still touch their
  // memory.
  if (slots_ != nullptr) {
    for (std::size_t i = 0; i < slots_->count(); ++i) slots_->at(i)->buffer.reset();
  }
}

void Connection::allocate_queue() {
  const TargetConfig& config = session_.subsystem().config();
  const std::size_t slots = max_entries(config, true);
  const std::size_t data_pdus = (std::size_t{config.max_io_size} + config.max_c2h_data - 1) / config.max_c2h_data;
  // A copy may take two pieces; each C2HData is a head, a reference and a digest, and a response capsule ends it all.
  const std::size_t pieces = std::max<std::size_t>(data_pdus * 5, std::size_t{config.max_r2ts} * 2) + 2;
  const std::size_t headers =
      std::max<std::size_t>(data_pdus * (kMaxHead + nvme::kDigestBytes), config.max_r2ts * kMaxHead) + kMaxHead;
  slots_ = std::make_unique<RequestSlots>(slots);
  rx_ = RxBuffer(kReceiveBuffer);
  tx_ = TxQueue(slots * pieces + kSpareControl, slots * headers + kSpareControl * kMaxHead);
}

bool Connection::enter(ConnectionEvent event) {
  const ConnectionState next = next_state(state_, event);
  if (next == state_) return false;
  state_ = next;
  return true;
}

std::size_t Connection::poll() {
  std::size_t work = 0;
  if (blocked_) {
    const std::uint64_t before = tx_.bytes_sent();
    flush();
    if (tx_.bytes_sent() != before) ++work;
  }
  for (int i = 0; i < kMaxReceives && may_receive(); ++i) {
    if (!receive_once()) break;
    ++work;
    if (payload_.remaining == 0) break;
  }
  return work;
}

bool Connection::may_receive() const {
  return stream_ != nullptr && state_ != ConnectionState::kDraining && state_ != ConnectionState::kClosed;
}

void Connection::update_interest() {
  if (stream_ != nullptr) stream_->set_interest({.read = may_receive(), .write = blocked_});
}

void Connection::close_now(CloseReason reason) { abort(reason); }

void Connection::close_gracefully(CloseReason reason) {
  if (state_ == ConnectionState::kHandshake) {
    abort(reason);
    return;
  }
  if (!enter(ConnectionEvent::kFinish)) return;
  reason_ = reason;
  drop_transfers();
  session_.closing(reason);
  half_close_if_done();
  update_interest();
}

void Connection::abort(CloseReason reason) {
  const bool was_lingering = state_ == ConnectionState::kLingering;
  if (!enter(ConnectionEvent::kAbort)) return;
  if (!was_lingering) reason_ = reason;  // a lingering connection ends for the reason it lingers
  deadline_.cancel();
  stream_->detach();
  stream_.reset();
  tx_.clear();
  session_.closing(reason_);
  drop_transfers();
  while (!sending_.empty()) release(sending_.front());
  check_quiet();
}

/// Gives up on data that hosts still owe us: nobody will read it any more.
void Connection::drop_transfers() {
  payload_ = {};
  awaiting_data_ = 0;
  if (slots_ == nullptr) return;
  for (std::size_t i = 0; i < slots_->count(); ++i) {
    Request& request = *slots_->at(i);
    if (request.state == RequestState::kReceiving) release(request);
  }
}

void Connection::release(Request& request) {
  session_.release(request);
  slots_->give_back(request);
}

void Connection::work_done() {
  half_close_if_done();
  check_quiet();
}

void Connection::check_quiet() {
  if (state_ != ConnectionState::kDraining || session_.pending() > 0) return;
  if (slots_ != nullptr && slots_->used() > 0) return;
  // The session leaves its controller when the shard destroys us, with none of our frames on the stack.
  enter(ConnectionEvent::kQuiet);
  shard_.counters().closed[static_cast<std::size_t>(reason_)].add();
  shard_.retire(*this);
}

void Connection::half_close_if_done() {
  if (state_ != ConnectionState::kLingering || half_closed_ || !tx_.empty()) return;
  const bool answered = slots_ == nullptr || (slots_->used() == 0 && session_.pending() == 0);
  if (!answered && !faulted_) return;
  half_closed_ = true;
  stream_->shutdown_write();
  linger_deadline_ = shard_.poller().clock().now() + session_.subsystem().config().linger_timeout;
  deadline_.arm(linger_deadline_);
}

/// Starts the stall clock, unless a deadline is being watched already: that one looks at everything.
void Connection::watch_for_stall() {
  if (deadline_.armed()) return;
  progress_mark_ = tx_.bytes_sent() + bytes_received_;
  progress_at_ = shard_.poller().now();
  deadline_.arm(progress_at_ + session_.subsystem().config().stall_timeout);
}

void Connection::deadline_passed(void* self) {
  auto& c = *static_cast<Connection*>(self);
  const TimePoint now = c.shard_.poller().clock().now();
  if (c.half_closed_) {
    if (now >= c.linger_deadline_)
      c.abort(c.reason_);
    else
      c.deadline_.arm(c.linger_deadline_);
    return;
  }
  if (!c.session_.connected() && now >= c.handshake_deadline_) {
    c.abort(CloseReason::kHandshakeTimeout);
    return;
  }
  const bool owed = c.blocked_ || c.awaiting_data_ > 0;
  const std::uint64_t progress = c.tx_.bytes_sent() + c.bytes_received_;
  if (!owed || progress != c.progress_mark_) {
    c.progress_mark_ = progress;
    c.progress_at_ = now;
  }
  const TimePoint stalled_at = c.progress_at_ + c.session_.subsystem().config().stall_timeout;
  if (owed && now >= stalled_at) {
    c.abort(CloseReason::kStalled);
    return;
  }
  if (!c.session_.connected())
    c.deadline_.arm(owed ? std::min(stalled_at, c.handshake_deadline_) : c.handshake_deadline_);
  else if (owed)
    c.deadline_.arm(stalled_at);
}

}  // namespace leap::target
