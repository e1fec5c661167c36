// MemoryNet: a network inside a test. Single-threaded, no system calls, no time of its own.
//
// The target's end is a real Stream; the test's end is a Cable, through which bytes go in any portions. A Cable also
// plays a peer that doesn't read (limit room) or reads one byte at a time.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "poller/net.h"

namespace leap::target::testing {

/// What both ends of one connection share.
struct Cable {
  std::deque<std::byte> to_target;
  std::vector<std::byte> from_target;
  bool host_closed = false;           ///< the target reads end of stream once it has read everything
  bool target_closed = false;         ///< the target's stream is gone
  bool target_half_closed = false;    ///< the target has shut down its sending side
  std::size_t read_limit = SIZE_MAX;  ///< bytes per readv of the target
  std::size_t write_room = SIZE_MAX;  ///< bytes the target may still write
  std::size_t reads = 0;              ///< readv calls that returned data
  std::size_t writes = 0;             ///< writev calls that took data
  NvmePoller* poller = nullptr;
  Pollable* pollable = nullptr;
  Interest interest;

  void wake() const {
    if (poller != nullptr && pollable != nullptr) poller->heat(*pollable);
  }
  void send(std::span<const std::byte> bytes) {
    to_target.insert(to_target.end(), bytes.begin(), bytes.end());
    wake();
  }
  void close() {
    host_closed = true;
    wake();
  }
  void give_room(std::size_t bytes) {
    write_room = write_room > SIZE_MAX - bytes ? SIZE_MAX : write_room + bytes;
    wake();
  }
};

class MemoryStream final : public Stream {
 public:
  explicit MemoryStream(std::shared_ptr<Cable> cable) : cable_(std::move(cable)) {}
  ~MemoryStream() override {
    detach();
    cable_->target_closed = true;
  }

  ssize_t readv(const iovec* iov, int count) override {
    Cable& c = *cable_;
    if (c.to_target.empty()) return c.host_closed ? 0 : -EAGAIN;
    std::size_t left = std::min(c.read_limit, c.to_target.size());
    std::size_t total = 0;
    for (int i = 0; i < count && left > 0; ++i) {
      const std::size_t part = std::min(left, iov[i].iov_len);
      auto* to = static_cast<std::byte*>(iov[i].iov_base);
      std::copy_n(c.to_target.begin(), part, to);
      c.to_target.erase(c.to_target.begin(), c.to_target.begin() + static_cast<std::ptrdiff_t>(part));
      left -= part;
      total += part;
    }
    ++c.reads;
    return static_cast<ssize_t>(total);
  }
  ssize_t writev(const iovec* iov, int count) override {
    Cable& c = *cable_;
    if (c.host_closed) return -EPIPE;
    std::size_t total = 0;
    for (int i = 0; i < count && c.write_room > 0; ++i) {
      const std::size_t part = std::min(c.write_room, iov[i].iov_len);
      const auto* from = static_cast<const std::byte*>(iov[i].iov_base);
      c.from_target.insert(c.from_target.end(), from, from + part);
      if (c.write_room != SIZE_MAX) c.write_room -= part;
      total += part;
    }
    if (total == 0) return -EAGAIN;
    ++c.writes;
    return static_cast<ssize_t>(total);
  }
  void shutdown_write() override { cable_->target_half_closed = true; }
  Result<> attach(NvmePoller& poller, Pollable& pollable, Interest interest) override {
    cable_->poller = &poller;
    cable_->pollable = &pollable;
    cable_->interest = interest;
    cable_->wake();
    return {};
  }
  void set_interest(Interest interest) override { cable_->interest = interest; }
  void detach() override { cable_->pollable = nullptr; }
  int connect_error() override { return 0; }
  [[nodiscard]] std::string peer() const override { return "host"; }
  [[nodiscard]] SocketAddress local_address() const override { return SocketAddress::parse("192.0.2.7:4420").value(); }

 private:
  std::shared_ptr<Cable> cable_;
};

/// One listener; dial() connects to it.
class MemoryNet final : public Net {
 public:
  std::shared_ptr<Cable> dial() {
    auto cable = std::make_shared<Cable>();
    waiting_.push_back(cable);
    if (poller_ != nullptr) poller_->heat(*pollable_);
    return cable;
  }
  Result<std::unique_ptr<Stream>> connect(const SocketAddress& /*address*/) override {
    return Error(Errc::kUnreachable, "nobody listens in a test");
  }
  Result<std::unique_ptr<Acceptor>> listen(const SocketAddress& address) override {
    if (refuse_listen) return Error(Errc::kAlreadyExists, "listen on " + address.to_string() + ": address in use");
    return std::unique_ptr<Acceptor>(std::make_unique<MemoryAcceptor>(*this, address));
  }

  bool refuse_listen = false;
  int accept_errors = 0;  ///< accepts that fail before the next one succeeds

 private:
  class MemoryAcceptor final : public Acceptor {
   public:
    MemoryAcceptor(MemoryNet& net, SocketAddress address) : net_(net), address_(std::move(address)) {}
    Result<std::unique_ptr<Stream>> accept() override {
      if (net_.waiting_.empty()) return std::unique_ptr<Stream>();
      if (net_.accept_errors > 0) {
        --net_.accept_errors;
        return Error::os(EMFILE, "accept");
      }
      auto cable = net_.waiting_.front();
      net_.waiting_.pop_front();
      return std::unique_ptr<Stream>(std::make_unique<MemoryStream>(std::move(cable)));
    }
    Result<> attach(NvmePoller& poller, Pollable& pollable) override {
      net_.poller_ = &poller;
      net_.pollable_ = &pollable;
      if (!net_.waiting_.empty()) poller.heat(pollable);
      return {};
    }
    void detach() override { net_.poller_ = nullptr; }
    [[nodiscard]] SocketAddress local_address() const override { return address_; }

   private:
    MemoryNet& net_;
    SocketAddress address_;
  };

  std::deque<std::shared_ptr<Cable>> waiting_;
  NvmePoller* poller_ = nullptr;
  Pollable* pollable_ = nullptr;
};

/// Never sleeps, knows no descriptors.
class NoWait final : public WaitBackend {
 public:
  Result<> watch(int, Pollable&, Interest) override { return {}; }
  Result<> rewatch(int, Pollable&, Interest) override { return {}; }
  void unwatch(int) override {}
  std::size_t wait(Nanos, std::span<Pollable*>) override { return 0; }
  void wake() override {}
};

}  // namespace leap::target::testing
