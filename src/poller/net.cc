#include "poller/net.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/sys.h"

namespace leap {
namespace {

void set_option(int fd, int level, int name, int value) {
  // Best effort: a refused option makes a connection slower, not wrong.
  ::setsockopt(fd, level, name, &value, sizeof value);
}

class TcpStream final : public Stream {
 public:
  TcpStream(UniqueFd fd, SocketAddress peer) : fd_(std::move(fd)), peer_(std::move(peer)) {
    set_option(fd_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  }
  ~TcpStream() override { detach(); }

  ssize_t readv(const iovec* iov, int count) override { return sys::readv(fd_.get(), iov, count); }
  ssize_t writev(const iovec* iov, int count) override { return sys::sendmsg(fd_.get(), iov, count); }
  void shutdown_write() override { ::shutdown(fd_.get(), SHUT_WR); }

  Result<> attach(NvmePoller& poller, Pollable& pollable, Interest interest) override {
    LEAP_CHECK(poller_ == nullptr, "a stream is attached to one poller at a time");
    LEAP_TRY_VOID(poller.watch(fd_.get(), pollable, interest));
    poller_ = &poller;
    pollable_ = &pollable;
    interest_ = interest;
    return {};
  }
  void set_interest(Interest interest) override {
    if (poller_ == nullptr || interest == interest_) return;
    interest_ = interest;
    poller_->rewatch(fd_.get(), *pollable_, interest)
        .ignore("the descriptor is registered: MOD cannot fail for want of memory");
  }
  void detach() override {
    if (poller_ == nullptr) return;
    poller_->unwatch(fd_.get());
    poller_ = nullptr;
  }
  int connect_error() override {
    // SO_ERROR is 0 both while the attempt goes on and when it has succeeded; only the second is writable.
    pollfd writable{fd_.get(), POLLOUT, 0};
    if (::poll(&writable, 1, 0) == 0) return EINPROGRESS;
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
    return error;
  }
  [[nodiscard]] std::string peer() const override { return peer_.to_string(); }
  [[nodiscard]] SocketAddress local_address() const override {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    if (::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
    auto address = SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), size);
    return address.ok() ? std::move(address).value() : SocketAddress();
  }

 private:
  UniqueFd fd_;
  SocketAddress peer_;
  NvmePoller* poller_ = nullptr;
  Pollable* pollable_ = nullptr;
  Interest interest_;
};

class TcpAcceptor final : public Acceptor {
 public:
  TcpAcceptor(UniqueFd fd, SocketAddress local) : fd_(std::move(fd)), local_(std::move(local)) {}
  ~TcpAcceptor() override { detach(); }

  Result<std::unique_ptr<Stream>> accept() override {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    UniqueFd fd(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.valid()) {
      // A connection that died in the queue is the peer's business; the listener goes on.
      if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR || errno == EPROTO)
        return std::unique_ptr<Stream>();
      return Error::os(errno, fmt::format("accept on {}", local_.to_string()));
    }
    LEAP_TRY(auto peer, SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), size));
    return std::unique_ptr<Stream>(std::make_unique<TcpStream>(std::move(fd), std::move(peer)));
  }
  Result<> attach(NvmePoller& poller, Pollable& pollable) override {
    LEAP_CHECK(poller_ == nullptr, "an acceptor is attached to one poller at a time");
    LEAP_TRY_VOID(poller.watch(fd_.get(), pollable));
    poller_ = &poller;
    return {};
  }
  void detach() override {
    if (poller_ == nullptr) return;
    poller_->unwatch(fd_.get());
    poller_ = nullptr;
  }
  [[nodiscard]] SocketAddress local_address() const override { return local_; }

 private:
  UniqueFd fd_;
  SocketAddress local_;
  NvmePoller* poller_ = nullptr;
};

class SystemNet final : public Net {
 public:
  Result<std::unique_ptr<Stream>> connect(const SocketAddress& address) override {
    UniqueFd fd(::socket(address.os_family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return Error::os(errno, fmt::format("socket for {}", address.to_string()));
    if (::connect(fd.get(), address.data(), address.size()) != 0 && errno != EINPROGRESS && errno != EINTR) {
      return Error::os(errno, fmt::format("connect to {}", address.to_string()));
    }
    return std::unique_ptr<Stream>(std::make_unique<TcpStream>(std::move(fd), address));
  }

  Result<std::unique_ptr<Acceptor>> listen(const SocketAddress& address) override {
    const auto what = fmt::format("listen on {}", address.to_string());
    UniqueFd fd(::socket(address.os_family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return Error::os(errno, what);
    set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (::bind(fd.get(), address.data(), address.size()) != 0) return Error::os(errno, what);
    constexpr int kBacklog = 1024;
    if (::listen(fd.get(), kBacklog) != 0) return Error::os(errno, what);
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return Error::os(errno, what);
    LEAP_TRY(auto local, SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), size));
    return std::unique_ptr<Acceptor>(std::make_unique<TcpAcceptor>(std::move(fd), std::move(local)));
  }
};

}  // namespace

Net& Net::system() {
  static SystemNet net;
  return net;
}

}  // namespace leap
