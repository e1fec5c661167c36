// TcpProxy: a TCP forwarder in front of a server, whose connections a test can freeze, cut, or cut in the middle of the
// data.
//
//   TcpProxy proxy(target.endpoint());
//   ... connect to proxy.endpoint() ...
//   proxy.cut(1);                 // connections count from 0, in the order in which they were accepted
//   proxy.cut_after(1, 1000);     // 1000 more bytes to the client, then the end
//   proxy.freeze();               // accepts, and keeps everything open, but moves nothing
//
// Threading: calls from any thread; a call has taken effect when it returns.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/address.h"
#include "base/check.h"
#include "base/fd.h"

namespace leap::test {

class TcpProxy {
 public:
  explicit TcpProxy(SocketAddress server)
      : server_(server), listener_(make_listener()), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    thread_ = std::thread([this] { run(); });
  }
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;
  ~TcpProxy() {
    call([this] { stop_ = true; });
    thread_.join();
  }

  [[nodiscard]] SocketAddress endpoint() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    LEAP_CHECK(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
    return SocketAddress::from_numeric("127.0.0.1", ntohs(address.sin_port)).value();
  }
  /// Accepted so far.
  [[nodiscard]] std::size_t connections() const { return accepted_.load(); }

  void freeze() {
    call([this] { frozen_ = true; });
  }
  void thaw() {
    call([this] { frozen_ = false; });
  }
  /// New connections are closed at once.
  void refuse(bool yes) {
    call([this, yes] { refusing_ = yes; });
  }
  void cut(std::size_t connection) {
    call([this, connection] { links_.at(connection)->close(); });
  }
  void cut_all() {
    call([this] {
      for (auto& link : links_) link->close();
    });
  }
  /// `bytes` more to the client, then the end.
  void cut_after(std::size_t connection, std::size_t bytes) {
    call([this, connection, bytes] { links_.at(connection)->down.budget = bytes; });
  }

 private:
  struct Pipe {
    std::vector<char> pending;
    std::size_t budget = std::numeric_limits<std::size_t>::max();
  };
  struct Link {
    UniqueFd client, server;
    Pipe up, down;
    void close() {
      client.reset();
      server.reset();
    }
    [[nodiscard]] bool open() const { return client.valid(); }
  };

  static UniqueFd make_listener() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    LEAP_CHECK(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, std::strerror(errno));
    LEAP_CHECK(::listen(fd.get(), 64) == 0, std::strerror(errno));
    return fd;
  }

  void call(std::function<void()> action) {
    std::promise<void> done;
    {
      const std::lock_guard lock(mutex_);
      calls_.push_back([&] {
        action();
        done.set_value();
      });
    }
    const std::uint64_t one = 1;
    LEAP_CHECK(::write(wake_.get(), &one, sizeof one) == sizeof one, "eventfd");
    done.get_future().wait();
  }

  void accept_one() {
    UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client.valid()) return;
    auto link = std::make_unique<Link>();
    UniqueFd server(
        ::socket(server_.family() == AddressFamily::kIpv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!refusing_ && ::connect(server.get(), server_.data(), server_.size()) == 0) {
      LEAP_CHECK(::fcntl(server.get(), F_SETFL, O_NONBLOCK) == 0, "fcntl");
      link->client = std::move(client);
      link->server = std::move(server);
    }
    links_.push_back(std::move(link));
    accepted_.fetch_add(1);
  }

  /// Moves what can be moved one way; false when the connection is over.
  static bool move(int from, int to, Pipe& pipe) {
    if (pipe.pending.empty()) {
      char buffer[65536];
      const ssize_t got = ::recv(from, buffer, std::min(sizeof buffer, pipe.budget), 0);
      if (got == 0) return false;
      if (got < 0) return errno == EAGAIN || errno == EINTR;
      if (pipe.budget != std::numeric_limits<std::size_t>::max()) pipe.budget -= static_cast<std::size_t>(got);
      pipe.pending.assign(buffer, buffer + got);
    }
    const ssize_t put = ::send(to, pipe.pending.data(), pipe.pending.size(), MSG_NOSIGNAL);
    if (put < 0) return errno == EAGAIN || errno == EINTR;
    pipe.pending.erase(pipe.pending.begin(), pipe.pending.begin() + put);
    return pipe.budget > 0 || !pipe.pending.empty();
  }

  void run() {
    while (!stop_) {
      std::vector<pollfd> fds{{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
      std::vector<Link*> open;
      for (auto& link : links_) {
        if (frozen_ || !link->open()) continue;
        open.push_back(link.get());
        const auto events = [](const Pipe& in, const Pipe& out) {
          return static_cast<short>((in.pending.empty() ? POLLIN : 0) | (out.pending.empty() ? 0 : POLLOUT));
        };
        fds.push_back({link->client.get(), events(link->up, link->down), 0});
        fds.push_back({link->server.get(), events(link->down, link->up), 0});
      }
      ::poll(fds.data(), fds.size(), -1);
      for (std::size_t i = 0; i < open.size(); ++i) {
        Link& link = *open[i];
        const short client = fds[2 + 2 * i].revents;
        const short server = fds[3 + 2 * i].revents;
        bool alive = true;
        if ((client & ~POLLOUT) != 0 || (server & POLLOUT) != 0)
          alive = move(link.client.get(), link.server.get(), link.up);
        if (alive && ((server & ~POLLOUT) != 0 || (client & POLLOUT) != 0))
          alive = move(link.server.get(), link.client.get(), link.down);
        if (!alive) link.close();
      }
      if (fds[0].revents != 0) accept_one();
      if (fds[1].revents != 0) run_calls();
    }
  }

  void run_calls() {
    std::uint64_t count = 0;
    if (::read(wake_.get(), &count, sizeof count) != sizeof count) return;
    std::vector<std::function<void()>> calls;
    {
      const std::lock_guard lock(mutex_);
      calls.swap(calls_);
    }
    for (auto& each : calls) each();
  }

  const SocketAddress server_;
  const UniqueFd listener_;
  const UniqueFd wake_;
  std::mutex mutex_;
  std::vector<std::function<void()>> calls_;
  std::atomic<std::size_t> accepted_{0};
  // The proxy's thread only.
  std::vector<std::unique_ptr<Link>> links_;
  bool frozen_ = false;
  bool refusing_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace leap::test
