// SocketWire: a TestHost on a real TCP connection, blocking with a limit.
#pragma once

#include <sys/socket.h>
#include <sys/time.h>

#include <memory>

#include <unistd.h>

#include "base/address.h"
#include "base/fd.h"
#include "test_host.h"

namespace leap::target::testing {

class SocketWire final : public Wire {
 public:
  /// nullptr when nobody listens there.
  static std::unique_ptr<SocketWire> connect(const SocketAddress& address) {
    UniqueFd fd(::socket(address.os_family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid() || ::connect(fd.get(), address.data(), address.size()) != 0) return nullptr;
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return std::unique_ptr<SocketWire>(new SocketWire(std::move(fd)));
  }

  void send(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
  }
  bool receive(Bytes& into) override {
    std::byte buffer[65536];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (got <= 0) {
      closed_ = true;
      return false;
    }
    into.insert(into.end(), buffer, buffer + got);
    return true;
  }
  bool closed() override { return closed_; }
  void close() override { fd_.reset(); }

 private:
  explicit SocketWire(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
  bool closed_ = false;
};

}  // namespace leap::target::testing
