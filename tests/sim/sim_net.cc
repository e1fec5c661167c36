#include "sim_net.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace leap::sim {

using std::chrono::milliseconds;

/// Readiness of what is attached to one poller, in a seeded order.
class SimBackend final : public WaitBackend {
 public:
  explicit SimBackend(SimNet& net) : net_(net) {}

  Result<> watch(int fd, Pollable& pollable, Interest interest) override {
    watches_[fd] = {net_.sources_.at(fd), &pollable, interest};
    return {};
  }
  Result<> rewatch(int fd, Pollable& pollable, Interest interest) override { return watch(fd, pollable, interest); }
  void unwatch(int fd) override { watches_.erase(fd); }

  std::size_t wait(Nanos /*timeout*/, std::span<Pollable*> ready) override {
    std::size_t count = 0;
    for (const auto& [fd, watch] : watches_) {
      if (count < ready.size() && watch.source->ready(watch.interest)) ready[count++] = watch.pollable;
    }
    if (count > 1)
      std::rotate(ready.begin(), ready.begin() + static_cast<std::ptrdiff_t>(net_.rng_.below(count)),
                  ready.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  void wake() override {}

 private:
  struct Watch {
    SimSource* source;
    Pollable* pollable;
    Interest interest;
  };
  SimNet& net_;
  std::map<int, Watch> watches_;
};

/// One end of a connection.
class SimStream final : public Stream, private SimSource {
 public:
  SimStream(SimNet& net, std::shared_ptr<SimLink> link, std::size_t end)
      : net_(net), link_(std::move(link)), end_(end), fd_(net.next_fd_++) {
    link_->ends[end_].open = true;
    ++net_.open_streams_;
    net_.sources_[fd_] = this;
  }
  ~SimStream() override {
    detach();
    net_.sources_.erase(fd_);
    --net_.open_streams_;
    net_.close(*link_, end_);
  }

  ssize_t readv(const iovec* iov, int count) override { return net_.read(*link_, end_, iov, count); }
  ssize_t writev(const iovec* iov, int count) override { return net_.write(*link_, end_, iov, count); }
  void shutdown_write() override {
    link_->ends[end_].shut_down = true;
    net_.finish(link_->to[1 - end_]);
  }
  Result<> attach(NvmePoller& poller, Pollable& pollable, Interest interest) override {
    LEAP_CHECK(poller_ == nullptr, "a stream is attached to one poller at a time");
    LEAP_TRY_VOID(poller.watch(fd_, pollable, interest));
    poller_ = &poller;
    pollable_ = &pollable;
    return {};
  }
  void set_interest(Interest interest) override {
    if (poller_ != nullptr) poller_->rewatch(fd_, *pollable_, interest).ignore("cannot fail");
  }
  void detach() override {
    if (poller_ != nullptr) std::exchange(poller_, nullptr)->unwatch(fd_);
  }
  int connect_error() override { return link_->connecting ? EINPROGRESS : link_->connect_error; }
  [[nodiscard]] std::string peer() const override { return end_ == SimNet::kHost ? "sim-target" : "sim-host"; }
  [[nodiscard]] SocketAddress local_address() const override { return link_->address; }

 private:
  [[nodiscard]] bool ready(Interest interest) const override {
    if (link_->connecting) return false;
    if (link_->connect_error != 0) return true;
    const SimLink::End& end = link_->ends[end_];
    if (end.error != 0 && net_.now() >= end.error_at) return true;
    return (interest.read && net_.readable(*link_, end_)) || (interest.write && net_.writable(*link_, end_));
  }

  SimNet& net_;
  std::shared_ptr<SimLink> link_;
  const std::size_t end_;
  const int fd_;
  NvmePoller* poller_ = nullptr;
  Pollable* pollable_ = nullptr;
};

class SimAcceptor final : public Acceptor, private SimSource {
 public:
  SimAcceptor(SimNet& net, SocketAddress address) : net_(net), address_(std::move(address)), fd_(net.next_fd_++) {
    net_.sources_[fd_] = this;
    net_.listener_ = this;
  }
  ~SimAcceptor() override {
    detach();
    net_.sources_.erase(fd_);
    net_.listener_ = nullptr;
    // What nobody has accepted is turned away.
    for (const auto& link : std::exchange(net_.backlog_, {})) net_.reset(*link, SimNet::kHost, net_.now());
  }

  Result<std::unique_ptr<Stream>> accept() override {
    if (net_.backlog_.empty()) return std::unique_ptr<Stream>();
    if (net_.rng_.chance(net_.plan_.accept_error)) return Error::os(EMFILE, "accept");
    auto link = std::move(net_.backlog_.front());
    net_.backlog_.pop_front();
    return std::unique_ptr<Stream>(std::make_unique<SimStream>(net_, std::move(link), SimNet::kTarget));
  }
  Result<> attach(NvmePoller& poller, Pollable& pollable) override {
    LEAP_TRY_VOID(poller.watch(fd_, pollable));
    poller_ = &poller;
    return {};
  }
  void detach() override {
    if (poller_ != nullptr) std::exchange(poller_, nullptr)->unwatch(fd_);
  }
  [[nodiscard]] SocketAddress local_address() const override { return address_; }

 private:
  [[nodiscard]] bool ready(Interest /*interest*/) const override { return !net_.backlog_.empty(); }

  SimNet& net_;
  SocketAddress address_;
  const int fd_;
  NvmePoller* poller_ = nullptr;
};

SimNet::SimNet(const Clock& clock, Rng rng, const NetPlan& plan, Trace& trace)
    : clock_(clock), rng_(rng), plan_(plan), trace_(trace) {}

SimNet::~SimNet() = default;

std::unique_ptr<WaitBackend> SimNet::make_backend() { return std::make_unique<SimBackend>(*this); }

// --- connecting ---

Result<std::unique_ptr<Stream>> SimNet::connect(const SocketAddress& address) {
  forget_dead_links();
  auto link = std::make_shared<SimLink>();
  link->address = address;
  link->settled_at = now() + Nanos(plan_.latency_min_ns + static_cast<std::int64_t>(rng_.below(200'000)));
  if (rng_.chance(plan_.lose_connect)) link->settled_at = TimePoint::max();
  if (rng_.chance(plan_.refuse)) link->connect_error = ECONNREFUSED;
  if (link->settled_at == TimePoint::max() || link->connect_error != 0) ++faults_;
  choose_fault(*link);
  links_.push_back(link);
  trace_.note(Trace::Event::kConnect, links_.size(), link->connect_error);
  return std::unique_ptr<Stream>(std::make_unique<SimStream>(*this, std::move(link), kHost));
}

void SimNet::choose_fault(SimLink& link) {
  if (!rng_.chance(plan_.fault)) return;
  constexpr std::array kKinds{NetFault::kReset,     NetFault::kReset, NetFault::kHalfClose,
                              NetFault::kBlackhole, NetFault::kStall, NetFault::kBlackhole};
  // The handshake has no digests: nobody could tell.
  constexpr std::uint64_t kHandshakeBytes = 128;
  const NetFault kind = rng_.chance(plan_.corrupt) ? NetFault::kCorrupt : kKinds[rng_.below(kKinds.size())];
  SimLink::Pipe& pipe = link.to[rng_.below(2)];
  pipe.fault = kind;
  // Often early, where connections are set up; sometimes exactly between two PDUs of the set-up.
  const std::uint64_t within = rng_.chance(0.3) ? 2'000 : plan_.fault_within;
  pipe.fault_at = rng_.below(within) + (kind == NetFault::kCorrupt ? kHandshakeBytes : 0);
}

Result<std::unique_ptr<Acceptor>> SimNet::listen(const SocketAddress& address) {
  if (listener_ != nullptr) return Error(Errc::kAlreadyExists, "listen on " + address.to_string());
  return std::unique_ptr<Acceptor>(std::make_unique<SimAcceptor>(*this, address));
}

void SimNet::settle() {
  for (const auto& link : links_) {
    if (!link->connecting || now() < link->settled_at) continue;
    link->connecting = false;
    if (!link->ends[kHost].open) continue;
    if (listener_ == nullptr) link->connect_error = ECONNREFUSED;
    if (link->connect_error == 0) backlog_.push_back(link);
  }
}

// --- bytes ---

TimePoint SimNet::arrival(SimLink::Pipe& pipe) {
  const auto spread = static_cast<std::uint64_t>(plan_.latency_max_ns - plan_.latency_min_ns + 1);
  std::int64_t latency = plan_.latency_min_ns + static_cast<std::int64_t>(rng_.below(spread));
  if (rng_.chance(plan_.late_segment)) {
    latency += static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>(plan_.late_max_ns)));
  }
  pipe.last_arrival = std::max(pipe.last_arrival, now() + Nanos(latency));
  return pipe.last_arrival;
}

std::size_t SimNet::arrived(const SimLink::Pipe& pipe) const {
  std::uint64_t end = pipe.read;
  for (const SimLink::Segment& segment : pipe.segments) {
    if (segment.at > now()) break;
    end = segment.end;
  }
  return static_cast<std::size_t>(end - pipe.read);
}

std::size_t SimNet::part(std::size_t available) {
  if (available <= 1 || !rng_.chance(plan_.split)) return available;
  // Around the sizes of PDU heads as often as anywhere.
  const std::size_t most = rng_.chance(0.5) ? std::min<std::size_t>(available, 160) : available;
  return 1 + rng_.below(most);
}

ssize_t SimNet::read(SimLink& link, std::size_t end, const iovec* iov, int count) {
  if (link.connecting) return -EAGAIN;
  SimLink::Pipe& pipe = link.to[end];
  const SimLink::End& self = link.ends[end];
  const std::size_t available = arrived(pipe);
  const bool broken = self.error != 0 && now() >= self.error_at;
  if (broken && (self.loses_unread || available == 0)) return -self.error;
  if (available == 0) return pipe.fin && now() >= *pipe.fin ? 0 : -EAGAIN;
  std::size_t left = part(available);
  std::size_t total = 0;
  for (int i = 0; i < count && left > 0; ++i) {
    const std::size_t step = std::min(left, iov[i].iov_len);
    std::memcpy(iov[i].iov_base, pipe.bytes.data() + pipe.consumed, step);
    trace_.note_bytes(Trace::Event::kReceive, {pipe.bytes.data() + pipe.consumed, step});
    pipe.consumed += step;
    left -= step;
    total += step;
  }
  pipe.read += total;
  while (!pipe.segments.empty() && pipe.segments.front().end <= pipe.read) pipe.segments.pop_front();
  if (pipe.consumed > pipe.bytes.size() / 2) {
    pipe.bytes.erase(pipe.bytes.begin(), pipe.bytes.begin() + static_cast<std::ptrdiff_t>(pipe.consumed));
    pipe.consumed = 0;
  }
  return static_cast<ssize_t>(total);
}

ssize_t SimNet::write(SimLink& link, std::size_t end, const iovec* iov, int count) {
  if (link.connecting) return -EAGAIN;
  SimLink::End& self = link.ends[end];
  if (self.error != 0 && now() >= self.error_at) return -self.error;
  if (self.shut_down) return -EPIPE;
  SimLink::Pipe& pipe = link.to[1 - end];
  std::size_t offered = 0;
  for (int i = 0; i < count; ++i) offered += iov[i].iov_len;
  const std::size_t under_way = static_cast<std::size_t>(pipe.written - pipe.read);
  const std::size_t room = plan_.window - std::min(plan_.window, under_way);
  const std::size_t bytes = part(std::min(room, offered));
  if (bytes == 0) return offered == 0 ? 0 : -EAGAIN;
  // Nobody is there to read it, and its TCP says so.
  const bool peer_gone =
      end == kHost
          ? !link.ends[kTarget].open &&
                std::ranges::find_if(backlog_, [&](const auto& l) { return l.get() == &link; }) == backlog_.end()
          : !link.ends[kHost].open;
  if (peer_gone || pipe.cut) {
    if (peer_gone) reset(link, end, arrival(pipe));
    return static_cast<ssize_t>(bytes);
  }
  append(pipe, iov, count, bytes);
  if (pipe.fault != NetFault::kNone && pipe.written > pipe.fault_at) strike(link, 1 - end);
  return static_cast<ssize_t>(bytes);
}

void SimNet::append(SimLink::Pipe& pipe, const iovec* iov, int count, std::size_t bytes) {
  for (int i = 0; i < count && bytes > 0; ++i) {
    const auto* from = static_cast<const std::byte*>(iov[i].iov_base);
    const std::size_t step = std::min(bytes, iov[i].iov_len);
    pipe.bytes.insert(pipe.bytes.end(), from, from + step);
    trace_.note_bytes(Trace::Event::kSend, {from, step});
    pipe.written += step;
    bytes -= step;
  }
  pipe.segments.push_back({arrival(pipe), pipe.written});
}

// --- ending ---

void SimNet::strike(SimLink& link, std::size_t towards) {
  SimLink::Pipe& pipe = link.to[towards];
  const NetFault fault = std::exchange(pipe.fault, NetFault::kNone);
  ++faults_;
  const std::size_t behind = static_cast<std::size_t>(pipe.written - std::max(pipe.fault_at, pipe.read));
  const auto lose_rest = [&] {
    pipe.bytes.resize(pipe.bytes.size() - behind);
    pipe.written -= behind;
    while (!pipe.segments.empty() && pipe.segments.back().end > pipe.written) {
      const SimLink::Segment last = pipe.segments.back();
      pipe.segments.pop_back();
      const std::uint64_t before = pipe.segments.empty() ? pipe.read : pipe.segments.back().end;
      if (pipe.written > before) pipe.segments.push_back({last.at, pipe.written});
    }
    pipe.cut = true;
  };
  switch (fault) {
    case NetFault::kNone: return;
    case NetFault::kCorrupt: {
      std::byte& victim = pipe.bytes[pipe.bytes.size() - behind];
      victim ^= static_cast<std::byte>(1U << rng_.below(8));
      // One that costs only a command leaves the connection to the next.
      pipe.fault = NetFault::kCorrupt;
      pipe.fault_at = pipe.written + rng_.below(plan_.fault_within);
      return;
    }
    case NetFault::kStall: {
      const TimePoint late = now() + milliseconds(1 + rng_.below(1500));
      pipe.last_arrival = std::max(pipe.last_arrival, late);
      pipe.segments.back().at = pipe.last_arrival;
      return;
    }
    case NetFault::kReset:
      lose_rest();
      reset(link, towards, arrival(pipe));
      reset(link, 1 - towards, now() + Nanos(static_cast<std::int64_t>(rng_.below(100'000))));
      return;
    case NetFault::kHalfClose:
      lose_rest();
      finish(pipe);
      reset(link, 1 - towards, now() + milliseconds(rng_.below(100)));
      return;
    case NetFault::kBlackhole: {
      lose_rest();
      link.to[1 - towards].cut = true;
      const TimePoint noticed = now() + milliseconds(20 + rng_.below(plan_.blackhole_max_ms));
      reset(link, kHost, noticed);
      reset(link, kTarget, noticed);
      return;
    }
  }
}

void SimNet::reset(SimLink& link, std::size_t end, TimePoint at) {
  SimLink::End& self = link.ends[end];
  if (self.error != 0 && self.error_at <= at) return;
  self.error = ECONNRESET;
  self.error_at = at;
  self.loses_unread = rng_.chance(0.5);
}

void SimNet::finish(SimLink::Pipe& pipe) {
  if (!pipe.fin) pipe.fin = arrival(pipe);
}

void SimNet::close(SimLink& link, std::size_t end) {
  link.ends[end].open = false;
  const bool unread = link.to[end].written > link.to[end].read;
  if (link.to[1 - end].cut) return;  // its peer hears nothing of it
  finish(link.to[1 - end]);
  if (unread) reset(link, 1 - end, arrival(link.to[1 - end]));
}

void SimNet::lose_target() {
  for (const auto& link : links_) {
    const bool silently = rng_.chance(0.5);
    link->to[kHost].cut = link->to[kTarget].cut = true;
    reset(*link, kTarget, now());
    reset(*link, kHost, silently ? now() + milliseconds(rng_.below(3000)) : now());
  }
  backlog_.clear();
}

void SimNet::heal() {
  plan_.refuse = plan_.lose_connect = plan_.accept_error = plan_.fault = 0.0;
  for (const auto& link : links_) link->to[kHost].fault = link->to[kTarget].fault = NetFault::kNone;
}

// --- what there is ---

bool SimNet::readable(const SimLink& link, std::size_t end) const {
  return arrived(link.to[end]) > 0 || (link.to[end].fin && now() >= *link.to[end].fin);
}

bool SimNet::writable(const SimLink& link, std::size_t end) const {
  return link.to[1 - end].written - link.to[1 - end].read < plan_.window;
}

TimePoint SimNet::next_event() const {
  TimePoint next = TimePoint::max();
  const auto consider = [&](TimePoint at) {
    if (at > now()) next = std::min(next, at);
  };
  for (const auto& link : links_) {
    if (link->connecting) consider(link->settled_at);
    for (std::size_t end = 0; end < 2; ++end) {
      if (!link->ends[end].open) continue;
      if (link->ends[end].error != 0) consider(link->ends[end].error_at);
      const SimLink::Pipe& pipe = link->to[end];
      for (const SimLink::Segment& segment : pipe.segments) {
        consider(segment.at);
        if (segment.at > now()) break;
      }
      if (pipe.fin) consider(*pipe.fin);
    }
  }
  return next;
}

std::size_t SimNet::half_dead() const {
  return static_cast<std::size_t>(std::ranges::count_if(links_, [this](const auto& link) {
    const bool waiting = std::ranges::find(backlog_, link) != backlog_.end();
    return !link->ends[kHost].open && (link->ends[kTarget].open || waiting);
  }));
}

void SimNet::forget_dead_links() {
  std::erase_if(links_, [this](const auto& link) {
    const bool waiting = std::ranges::find(backlog_, link) != backlog_.end();
    return !link->ends[kHost].open && !link->ends[kTarget].open && !waiting;
  });
}

}  // namespace leap::sim
