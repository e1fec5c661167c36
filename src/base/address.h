// SocketAddress: an IPv4 or IPv6 address with a port, ready for bind(2), connect(2) and accept(2).
//
// A value type, no heap. from_numeric() and parse() of a numeric text never block; a *name* asks the resolver
// (getaddrinfo(3)), which may take seconds: start-up and helper threads only, never a poller.
//
//   LEAP_TRY(const SocketAddress listen, SocketAddress::parse("127.0.0.1:4420"));     // also "[::1]:4420"
//   LEAP_TRY(const SocketAddress peer, SocketAddress::resolve(traddr, 4420));
//   ::connect(fd, peer.data(), peer.size());
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/result.h"

namespace leap {

enum class AddressFamily : std::uint8_t { kAny, kIpv4, kIpv6 };

class SocketAddress {
 public:
  /// 0.0.0.0:0
  SocketAddress();

  /// "HOST:PORT" where HOST is a dotted IPv4 address, an IPv6 address in brackets or a name. The port is required.
  static Result<SocketAddress> parse(std::string_view text);
  /// The host alone, without brackets. A name with both families gives IPv4 unless `family` says otherwise, because
  /// that is what targets listen on by default. kNotFound when the name does not exist.
  static Result<SocketAddress> resolve(std::string_view host, std::uint16_t port,
                                       AddressFamily family = AddressFamily::kAny);
  /// As resolve(), but a name is kInvalidArgument: never blocks.
  static Result<SocketAddress> from_numeric(std::string_view host, std::uint16_t port,
                                            AddressFamily family = AddressFamily::kAny);
  /// From what accept(2), getsockname(2) and getpeername(2) fill in. kUnsupported for other families.
  static Result<SocketAddress> from_sockaddr(const sockaddr* address, socklen_t size);

  [[nodiscard]] AddressFamily family() const;
  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] SocketAddress with_port(std::uint16_t port) const;
  [[nodiscard]] bool is_loopback() const;

  /// The numeric host, without brackets: "127.0.0.1", "::1", "fe80::1%2".
  [[nodiscard]] std::string host() const;
  /// "127.0.0.1:4420" or "[::1]:4420"; parse() reads it back.
  [[nodiscard]] std::string to_string() const;

  // For the socket calls.
  [[nodiscard]] const sockaddr* data() const { return &storage_.generic; }
  [[nodiscard]] socklen_t size() const;
  [[nodiscard]] int os_family() const { return storage_.generic.sa_family; }

  friend bool operator==(const SocketAddress& a, const SocketAddress& b);

 private:
  union Storage {
    sockaddr generic;
    sockaddr_in v4;
    sockaddr_in6 v6;
  };
  Storage storage_;
};

}  // namespace leap

template <>
struct fmt::formatter<leap::SocketAddress> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const leap::SocketAddress& address, Context& context) const {
    return fmt::formatter<std::string_view>::format(address.to_string(), context);
  }
};
