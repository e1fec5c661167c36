#include "poller/async_stream.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

namespace leap {
namespace {

/// What one stream may move per turn before others get one. A call counts as kCallCost bytes, so that tiny requests are
/// bounded as well: 64 of them.
constexpr std::size_t kShare = std::size_t{1} << 20;
constexpr std::size_t kCallCost = kShare / 64;

Error closed_error(const std::string& peer) {
  return Error(Errc::kClosed, fmt::format("connection to {} closed", peer))
      .in(ErrorDomain::kTransport)
      .retryable_if(true);
}

Error timeout_error(const std::string& peer, const char* doing) {
  return Error(Errc::kTimedOut, fmt::format("{} {}: deadline passed", doing, peer)).in(ErrorDomain::kTransport);
}

}  // namespace

/// An awaiter: tries at once, and otherwise waits in its stream's slot until poll() has finished it, the deadline
/// passes or the stream is closed. Lives in the frame of the task; whichever of frame and stream dies first lets go.
class AsyncStream::Operation {
 public:
  Operation(AsyncStream& stream, Operation*& slot, TimePoint deadline)
      : stream_(stream), slot_(&slot), timer_(stream.poller_.timers(), &Operation::expire, this), deadline_(deadline) {}
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  virtual ~Operation() {
    if (!waiting_) return;
    leave();
    stream_.update_interest();
  }

  /// Does what can be done now; true when there is nothing left to wait for.
  virtual bool advance() = 0;

  virtual bool await_ready() {
    stop_early_ = !stream_.spend(kCallCost);
    return !stop_early_ && advance();
  }
  void await_suspend(std::coroutine_handle<> handle) {
    LEAP_CHECK(*slot_ == nullptr, fmt::format("two tasks wait for the same direction of {}", stream_.peer_));
    resumer_.set(handle);
    *slot_ = this;
    waiting_ = true;
    if (deadline_ != TimePoint::max()) timer_.arm(deadline_);
    stream_.update_interest();
    // Hot only where an answer may come any moment: room to write, or a connection, is announced by the descriptor.
    if (waiting_ && (stream_.reading_ == this || stop_early_)) stream_.poller_.heat(stream_);
  }
  /// False: the deadline passed.
  bool await_resume() const { return !timed_out_; }

  /// Lets the task go on.
  void finish() {
    leave();
    timer_.cancel();
    stream_.poller_.schedule(resumer_);
  }
  void orphan() { waiting_ = false; }
  [[nodiscard]] std::size_t moved() const { return moved_; }
  [[nodiscard]] bool stop_early() const { return stop_early_; }

 protected:
  AsyncStream& stream_;
  std::size_t moved_ = 0;    // bytes
  bool stop_early_ = false;  // there may be more to do at once, but the stream has had its share of this turn

 private:
  void leave() {
    waiting_ = false;
    *slot_ = nullptr;
  }
  static void expire(void* self) {
    auto& operation = *static_cast<Operation*>(self);
    operation.timed_out_ = true;
    operation.finish();
    operation.stream_.update_interest();
  }

  Operation** slot_;
  Resumer resumer_;
  Timer timer_;
  TimePoint deadline_;
  bool waiting_ = false;
  bool timed_out_ = false;
};

class AsyncStream::ReadOperation final : public Operation {
 public:
  ReadOperation(AsyncStream& stream, std::span<std::byte> out, std::size_t min, TimePoint deadline)
      : Operation(stream, stream.reading_, deadline), out_(out), min_(min) {}

  bool advance() override {
    // Payload of some size goes straight to its place; small reads go through the buffer, many per system call.
    constexpr std::size_t kDirect = 4096;
    stop_early_ = false;
    moved_ += stream_.rx_.copy_out(out_.subspan(moved_));
    while (moved_ < min_) {
      if (stream_.closed() || stream_.end_of_stream_ || stream_.watch_errno_ != 0) return true;
      const auto rest = out_.subspan(moved_);
      RxBuffer::Filled filled;
      if (!stream_.receive(rest.size() >= kDirect ? rest : std::span<std::byte>{}, filled)) return false;
      moved_ += filled.direct;
      moved_ += stream_.rx_.copy_out(out_.subspan(moved_));
      if (moved_ >= min_) break;
      // The level-triggered wait tells when more has come, and so does the next turn while the stream is hot.
      if (filled.drained) return false;
      stop_early_ = !stream_.spend(filled.total > 0 ? static_cast<std::size_t>(filled.total) : 0);
      if (stop_early_) return false;
    }
    return true;
  }

  [[nodiscard]] Result<std::size_t> result() const {
    if (moved_ >= min_) return moved_;
    if (stream_.end_of_stream_ && stream_.receive_errno_ == 0 && moved_ == 0 && !stream_.closed())
      return std::size_t{0};
    return stream_.read_error();
  }

 private:
  std::span<std::byte> out_;
  std::size_t min_;
};

class AsyncStream::WriteOperation final : public Operation {
 public:
  WriteOperation(AsyncStream& stream, std::span<iovec> pieces, TimePoint deadline)
      : Operation(stream, stream.writing_, deadline), pieces_(pieces) {
    drop(0);
  }

  bool advance() override {
    constexpr std::size_t kMaxIov = 256;
    stop_early_ = false;
    while (!pieces_.empty()) {
      if (stream_.closed()) return true;
      if (stream_.watch_errno_ != 0) return true;
      const ssize_t sent = stream_.stream_->writev(pieces_.data(), static_cast<int>(std::min(pieces_.size(), kMaxIov)));
      if (sent == -EINTR) continue;
      if (sent == -EAGAIN || sent == 0) return false;
      if (sent < 0) {
        errno_ = static_cast<int>(-sent);
        return true;
      }
      moved_ += static_cast<std::size_t>(sent);
      drop(static_cast<std::size_t>(sent));
      stop_early_ = !pieces_.empty() && !stream_.spend(static_cast<std::size_t>(sent));
      if (stop_early_) return false;
    }
    return true;
  }

  [[nodiscard]] Result<> result() const {
    if (pieces_.empty()) return {};
    if (stream_.closed()) return closed_error(stream_.peer_).context("write");
    return Error::os(errno_ != 0 ? errno_ : stream_.watch_errno_, fmt::format("write to {}", stream_.peer_));
  }

 private:
  /// Takes `bytes` off the front, and pieces that are empty.
  void drop(std::size_t bytes) {
    while (!pieces_.empty() && bytes >= pieces_.front().iov_len) {
      bytes -= pieces_.front().iov_len;
      pieces_ = pieces_.subspan(1);
    }
    if (bytes > 0) {
      pieces_.front().iov_base = static_cast<std::byte*>(pieces_.front().iov_base) + bytes;
      pieces_.front().iov_len -= bytes;
    }
  }

  std::span<iovec> pieces_;
  int errno_ = 0;
};

class AsyncStream::ConnectOperation final : public Operation {
 public:
  ConnectOperation(AsyncStream& stream, TimePoint deadline) : Operation(stream, stream.writing_, deadline) {}

  // Only what the poller reports says that the attempt is over.
  bool await_ready() override { return false; }
  bool advance() override {
    errno_ = stream_.stream_->connect_error();
    return errno_ != EINPROGRESS;
  }
  [[nodiscard]] int error() const { return stream_.watch_errno_ != 0 ? stream_.watch_errno_ : errno_; }

 private:
  int errno_ = EINPROGRESS;
};

AsyncStream::AsyncStream(NvmePoller& poller, std::unique_ptr<Stream> stream, std::size_t receive_buffer, bool connected)
    : poller_(poller),
      stream_(std::move(stream)),
      peer_(stream_->peer()),
      rx_(receive_buffer),
      connected_(connected),
      turn_(poller.probe().turns.load(std::memory_order_relaxed)) {}

Result<std::unique_ptr<AsyncStream>> AsyncStream::open(NvmePoller& poller, std::unique_ptr<Stream> raw) {
  auto stream = std::unique_ptr<AsyncStream>(new AsyncStream(poller, std::move(raw), kDefaultReceiveBuffer, true));
  stream->update_interest();
  if (stream->watch_errno_ != 0)
    return Error::os(stream->watch_errno_, fmt::format("watch connection to {}", stream->peer_));
  return stream;
}

AsyncStream::~AsyncStream() {
  for (Operation* operation : {reading_, writing_}) {
    if (operation != nullptr) operation->orphan();
  }
  if (stream_ != nullptr) stream_->detach();
}

Task<Result<std::unique_ptr<AsyncStream>>> AsyncStream::connect(NvmePoller& poller, Net& net, SocketAddress address,
                                                                TimePoint deadline) {
  LEAP_CO_TRY(auto raw, net.connect(address));
  auto stream = std::unique_ptr<AsyncStream>(new AsyncStream(poller, std::move(raw), kDefaultReceiveBuffer, false));
  ConnectOperation operation(*stream, deadline);
  const bool in_time = co_await operation;
  if (!in_time) co_return timeout_error(stream->peer_, "connect to");
  if (operation.error() != 0) co_return Error::os(operation.error(), fmt::format("connect to {}", stream->peer_));
  stream->connected_ = true;
  stream->update_interest();
  co_return std::move(stream);
}

Task<Result<bool>> AsyncStream::read_exact(std::span<std::byte> out, TimePoint deadline) {
  if (out.empty()) co_return true;
  Result<std::size_t> got = co_await read_some(out, out.size(), deadline);
  if (!got.ok()) co_return std::move(got).error();
  co_return got.value() == out.size();
}

Task<Result<std::size_t>> AsyncStream::read_some(std::span<std::byte> out, std::size_t min, TimePoint deadline) {
  LEAP_CHECK(min > 0 && min <= out.size(), fmt::format("read at least {} bytes into {}", min, out.size()));
  ReadOperation operation(*this, out, min, deadline);
  const bool in_time = co_await operation;
  update_interest();  // room for reading ahead may have come or gone
  if (!in_time) co_return timeout_error(peer_, "read from");
  co_return operation.result();
}

Task<Result<>> AsyncStream::write_all(std::span<iovec> pieces, TimePoint deadline) {
  WriteOperation operation(*this, pieces, deadline);
  const bool in_time = co_await operation;
  if (!in_time) co_return timeout_error(peer_, "write to");
  co_return operation.result();
}

void AsyncStream::close() {
  if (stream_ == nullptr) return;
  stream_->detach();
  stream_.reset();
  attached_ = false;
  poller_.cool(*this);
  for (Operation* operation : {reading_, writing_}) {
    if (operation != nullptr) operation->finish();
  }
}

Error AsyncStream::read_error() const {
  if (receive_errno_ != 0) return Error::os(receive_errno_, fmt::format("read from {}", peer_));
  if (watch_errno_ != 0) return Error::os(watch_errno_, fmt::format("watch connection to {}", peer_));
  return closed_error(peer_).context("read");
}

bool AsyncStream::receive(std::span<std::byte> direct, RxBuffer::Filled& filled) {
  do {
    filled = rx_.fill(*stream_, direct);
  } while (filled.total == -EINTR);
  if (filled.total == -EAGAIN) return false;
  if (filled.total <= 0) {
    end_of_stream_ = true;
    receive_errno_ = static_cast<int>(-filled.total);
  }
  return true;
}

bool AsyncStream::spend(std::size_t bytes) {
  const std::uint64_t turn = poller_.probe().turns.load(std::memory_order_relaxed);
  if (turn != turn_) {
    turn_ = turn;
    spent_ = 0;
  }
  spent_ += bytes;
  return spent_ <= kShare;
}

Interest AsyncStream::interest() const {
  const bool room = !end_of_stream_ && rx_.data().size() < rx_.capacity();
  return {.read = connected_ && (reading_ != nullptr || room), .write = writing_ != nullptr};
}

void AsyncStream::update_interest() {
  if (stream_ == nullptr) return;
  const Interest wanted = interest();
  const bool anything = wanted.read || wanted.write;
  if (attached_ && anything) {
    stream_->set_interest(wanted);
  } else if (attached_) {
    // A broken connection is reported in every wait, asked for or not: with nobody here who would do something about
    // it, the poller could not sleep any more.
    stream_->detach();
    attached_ = false;
  } else if (anything) {
    const Result<> attached = stream_->attach(poller_, *this, wanted);
    attached_ = attached.ok();
    if (attached_) return;
    watch_errno_ = attached.error().os_errno() != 0 ? attached.error().os_errno() : EIO;
    for (Operation* operation : {reading_, writing_}) {
      if (operation != nullptr) operation->finish();
    }
  }
}

std::size_t AsyncStream::progress(Operation* operation) {
  if (operation == nullptr) return 0;
  const std::size_t before = operation->moved();
  const bool finished = operation->advance();
  const std::size_t moved = operation->moved() - before;
  if (finished) operation->finish();
  return finished || moved > 0 ? 1 : 0;
}

std::size_t AsyncStream::read_ahead() {
  if (!connected_ || end_of_stream_ || rx_.data().size() == rx_.capacity()) return 0;
  RxBuffer::Filled filled;
  return receive({}, filled) ? 1 : 0;
}

std::size_t AsyncStream::poll() {
  const bool reading = reading_ != nullptr;
  std::size_t work = progress(reading_);
  work += progress(writing_);
  if (!reading) work += read_ahead();
  update_interest();
  // Turns are for those who wait for an answer; the rest is told by the descriptor when there is something to do.
  if (reading_ == nullptr && (writing_ == nullptr || !writing_->stop_early())) poller_.cool(*this);
  return work;
}

}  // namespace leap
