// SocketTarget: a FakeTarget behind a real listening socket, served by a thread of its own; and two servers that are no
// targets at all.
#pragma once

#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <poll.h>
#include <unistd.h>

#include "base/fd.h"
#include "fake_target.h"

namespace leap::test {

/// A socket listening on a port of the loopback interface.
class LoopbackListener {
 public:
  LoopbackListener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const bool listening = ::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                           ::listen(fd_.get(), 64) == 0 &&
                           ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0;
    LEAP_CHECK(listening, "listen on the loopback interface");
    port_ = ntohs(address.sin_port);
  }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  void close() { fd_.reset(); }

 private:
  UniqueFd fd_;
  std::uint16_t port_ = 0;
};

class SocketTarget {
 public:
  explicit SocketTarget(FakeTarget::Options options = {})
      : target_(std::move(options)), stop_(::eventfd(0, EFD_CLOEXEC)) {
    thread_ = std::thread([this] { run(); });
  }
  ~SocketTarget() { stop(); }

  void stop() {
    if (!thread_.joinable()) return;
    const std::uint64_t one = 1;
    LEAP_CHECK(::write(stop_.get(), &one, sizeof one) == sizeof one, "wake the target");
    thread_.join();
  }
  [[nodiscard]] std::uint16_t port() const { return listener_.port(); }

 private:
  struct Client {
    UniqueFd fd;
    std::unique_ptr<FakeTarget::Connection> connection;
  };

  void run() {
    for (;;) {
      std::vector<pollfd> fds{{stop_.get(), POLLIN, 0}, {listener_.fd(), POLLIN, 0}};
      for (const Client& client : clients_) fds.push_back({client.fd.get(), POLLIN, 0});
      ::poll(fds.data(), fds.size(), -1);
      if (fds[0].revents != 0) break;
      for (std::size_t i = fds.size(); i-- > 2;) {
        if (fds[i].revents != 0 && !serve(clients_[i - 2]))
          clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(i - 2));
      }
      if (fds[1].revents != 0)
        clients_.push_back({UniqueFd(::accept(listener_.fd(), nullptr, nullptr)), target_.accept()});
    }
    clients_.clear();
  }
  static bool serve(Client& client) {
    std::vector<std::byte> buffer(1 << 18);
    const ssize_t got = ::recv(client.fd.get(), buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    PeerConnection& wire = client.connection->wire;
    wire.in.insert(wire.in.end(), buffer.begin(), buffer.begin() + got);
    client.connection->serve();
    std::size_t sent = 0;
    while (sent < wire.out.size()) {
      const ssize_t count = ::send(client.fd.get(), wire.out.data() + sent, wire.out.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return false;
      sent += static_cast<std::size_t>(count);
    }
    wire.out.clear();
    return true;
  }

  FakeTarget target_;  // the thread's
  LoopbackListener listener_;
  UniqueFd stop_;
  std::vector<Client> clients_;
  std::thread thread_;
};

}  // namespace leap::test
