// A network and a wait backend without sockets or time, for driving queue pairs byte by byte on one thread.
//
//   FakeLoop loop;                        // a poller on a ManualClock, a buffer pool, a FakeNet
//   loop.net.wire(0).to_host ...          // what the peer sends; read_limit splits it
//   loop.settle();                        // turns until nothing happens any more
//
// Readiness is level-triggered, as with epoll: a stream with unread bytes is reported by every wait.
#pragma once

#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "memory/arena.h"
#include "memory/dma_pool.h"
#include "poller/net.h"
#include "poller/poller.h"

namespace leap::test {

/// One connection as both ends see it.
struct Wire {
  std::deque<std::byte> to_host;      // sent by the peer, not yet received
  std::vector<std::byte> to_peer;     // sent by the host
  std::size_t read_limit = SIZE_MAX;  // bytes one read gives at most
  std::size_t write_room = SIZE_MAX;  // bytes the host can still write before it would block
  bool connecting = false;            // the attempt is still going on
  int connect_error = 0;
  bool peer_closed = false;  // end of stream after to_host
  int reset = 0;             // errno of every further call
  bool host_closed = false;
  bool host_shut_down = false;
  std::size_t reads = 0;
  std::size_t writes = 0;

  Pollable* pollable = nullptr;
  Interest interest;
  [[nodiscard]] bool readable() const { return !to_host.empty() || peer_closed || reset != 0; }
  [[nodiscard]] bool ready() const {
    if (pollable == nullptr || connecting) return false;
    return (interest.read && readable()) || (interest.write && (write_room > 0 || connect_error != 0)) || reset != 0;
  }
};

class FakeStream final : public Stream {
 public:
  explicit FakeStream(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
  ~FakeStream() override {
    wire_->pollable = nullptr;
    wire_->host_closed = true;
  }

  ssize_t readv(const iovec* iov, int count) override {
    ++wire_->reads;
    if (wire_->reset != 0) return -wire_->reset;
    if (wire_->to_host.empty()) return wire_->peer_closed ? 0 : -EAGAIN;
    std::size_t left = wire_->read_limit;
    ssize_t total = 0;
    for (int i = 0; i < count; ++i) {
      auto* out = static_cast<std::byte*>(iov[i].iov_base);
      for (std::size_t at = 0; at < iov[i].iov_len && left > 0 && !wire_->to_host.empty(); ++at, --left, ++total) {
        out[at] = wire_->to_host.front();
        wire_->to_host.pop_front();
      }
    }
    return total;
  }
  ssize_t writev(const iovec* iov, int count) override {
    ++wire_->writes;
    if (wire_->reset != 0) return -wire_->reset;
    if (wire_->peer_closed) return -EPIPE;
    if (wire_->write_room == 0) return -EAGAIN;
    ssize_t total = 0;
    for (int i = 0; i < count; ++i) {
      const auto* data = static_cast<const std::byte*>(iov[i].iov_base);
      const std::size_t take = std::min(iov[i].iov_len, wire_->write_room);
      wire_->to_peer.insert(wire_->to_peer.end(), data, data + take);
      if (wire_->write_room != SIZE_MAX) wire_->write_room -= take;
      total += static_cast<ssize_t>(take);
      if (take < iov[i].iov_len) break;
    }
    return total;
  }
  void shutdown_write() override { wire_->host_shut_down = true; }
  Result<> attach(NvmePoller& /*poller*/, Pollable& pollable, Interest interest) override {
    wire_->pollable = &pollable;
    wire_->interest = interest;
    return {};
  }
  void set_interest(Interest interest) override { wire_->interest = interest; }
  void detach() override { wire_->pollable = nullptr; }
  int connect_error() override { return wire_->connect_error; }
  [[nodiscard]] std::string peer() const override { return "fake"; }

 private:
  std::shared_ptr<Wire> wire_;
};

class FakeNet final : public Net {
 public:
  Result<std::unique_ptr<Stream>> connect(const SocketAddress& /*address*/) override {
    wires.push_back(std::make_shared<Wire>());
    if (prepare) prepare(*wires.back());
    return std::unique_ptr<Stream>(std::make_unique<FakeStream>(wires.back()));
  }
  Result<std::unique_ptr<Acceptor>> listen(const SocketAddress& /*address*/) override {
    return Error(Errc::kUnsupported, "the fake network only connects");
  }
  [[nodiscard]] Wire& wire(std::size_t index) { return *wires.at(index); }

  std::vector<std::shared_ptr<Wire>> wires;  // in order of connection
  std::function<void(Wire&)> prepare;        // called for each new connection
};

class FakeBackend final : public WaitBackend {
 public:
  explicit FakeBackend(FakeNet& net) : net_(net) {}
  Result<> watch(int /*fd*/, Pollable& /*pollable*/, Interest /*interest*/) override { return {}; }
  Result<> rewatch(int /*fd*/, Pollable& /*pollable*/, Interest /*interest*/) override { return {}; }
  void unwatch(int /*fd*/) override {}
  std::size_t wait(Nanos /*timeout*/, std::span<Pollable*> ready) override {
    std::size_t count = 0;
    for (auto& wire : net_.wires) {
      if (wire->ready() && count < ready.size()) ready[count++] = wire->pollable;
    }
    return count;
  }
  void wake() override {}

 private:
  FakeNet& net_;
};

class FakeLoop {
 public:
  explicit FakeLoop(std::uint64_t pool_bytes = 16ULL << 20)
      : arena_(HugePageArena::create({.size = pool_bytes, .highest = PageKind::kSmall}).value()),
        pool_holder_(std::make_unique<DmaPool>(arena_.memory())),
        poller_holder_(NvmePoller::create({}, clock, std::make_unique<FakeBackend>(net)).value()),
        pool(*pool_holder_),
        poller(*poller_holder_) {}

  /// Turns until several in a row have done nothing; between turns the peer has its say.
  void settle() {
    for (int idle = 0; idle < 3;) {
      bool busy = poller.run_once() > 0;
      if (peer) busy = peer() || busy;
      idle = busy ? 0 : idle + 1;
    }
  }
  /// Moves time on in steps, so that timers armed by timers fire too.
  void advance(Nanos by, int steps = 1) {
    for (int i = 0; i < steps; ++i) {
      clock.advance(by / steps);
      settle();
    }
  }
  /// Starts a task as a call to the poller would: inside one of its turns.
  void spawn(Task<void> task) {
    struct Call {
      NvmePoller& poller;
      Task<void>& task;
      static void run(void* context) {
        auto& call = *static_cast<Call*>(context);
        call.poller.spawn(std::move(call.task));
      }
    } call{poller, task};
    LEAP_CHECK(poller.try_post(&Call::run, &call), "mailbox full");
    poller.run_once();
  }
  /// Runs a task to its end and returns its result. It must end without the clock moving.
  template <typename T>
  T run(Task<T> task) {
    std::optional<T> result;
    spawn(store(std::move(task), result));
    settle();
    LEAP_CHECK(result.has_value(), "the task is still waiting");
    return std::move(*result);
  }

 private:
  template <typename T>
  static Task<void> store(Task<T> task, std::optional<T>& result) {
    result.emplace(co_await task);
  }

 public:
  ManualClock clock;
  FakeNet net;

 private:
  HugePageArena arena_;
  std::unique_ptr<DmaPool> pool_holder_;
  std::unique_ptr<NvmePoller> poller_holder_;

 public:
  DmaPool& pool;
  NvmePoller& poller;
  std::function<bool()> peer;  // returns whether it did anything
};

}  // namespace leap::test
