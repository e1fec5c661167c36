#include "base/address.h"

#include <arpa/inet.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include <net/if.h>
#include <netdb.h>

namespace leap {
namespace {

// NI_MAXHOST: a longer host is no host name, whatever the resolver would make of it.
constexpr std::size_t kMaxHost = 1025;

struct FreeAddrInfo {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

int to_os(AddressFamily family) {
  switch (family) {
    case AddressFamily::kAny: return AF_UNSPEC;
    case AddressFamily::kIpv4: return AF_INET;
    case AddressFamily::kIpv6: return AF_INET6;
  }
  return AF_UNSPEC;
}

Error lookup_failed(std::string_view host, int code, int saved_errno) {
  const std::string what = fmt::format("resolve host \"{}\"", host);
  if (code == EAI_SYSTEM) return Error::os(saved_errno, what);
  const Errc kind = code == EAI_AGAIN ? Errc::kUnreachable : code == EAI_MEMORY ? Errc::kExhausted : Errc::kNotFound;
  return Error(kind, fmt::format("{}: {}", what, ::gai_strerror(code)))
      .in(ErrorDomain::kOs)
      .retryable_if(code == EAI_AGAIN || code == EAI_MEMORY);
}

Result<SocketAddress> look_up(std::string_view host, std::uint16_t port, AddressFamily family, int flags) {
  const std::string name(host);
  addrinfo hints{};
  hints.ai_family = to_os(family);
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* raw = nullptr;
  if (const int code = ::getaddrinfo(name.c_str(), nullptr, &hints, &raw); code != 0) {
    return lookup_failed(host, code, errno);
  }
  const std::unique_ptr<addrinfo, FreeAddrInfo> list(raw);
  const addrinfo* chosen = nullptr;
  for (const addrinfo* entry = list.get(); entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family != AF_INET && entry->ai_family != AF_INET6) continue;
    if (chosen == nullptr || (chosen->ai_family == AF_INET6 && entry->ai_family == AF_INET)) chosen = entry;
  }
  if (chosen == nullptr) return lookup_failed(host, EAI_NONAME, 0);
  LEAP_TRY(const SocketAddress address, SocketAddress::from_sockaddr(chosen->ai_addr, chosen->ai_addrlen));
  return address.with_port(port);
}

Result<> check_host(std::string_view host) {
  if (host.empty()) return Error(Errc::kInvalidArgument, "network address: the host is empty");
  if (host.size() >= kMaxHost || host.find('\0') != std::string_view::npos) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("network address \"{}…\": no valid host name", host.substr(0, 32)));
  }
  return {};
}

bool is_ipv4(std::string_view host) {
  in_addr ignored{};
  return ::inet_pton(AF_INET, std::string(host).c_str(), &ignored) == 1;
}

}  // namespace

SocketAddress::SocketAddress() {
  std::memset(&storage_, 0, sizeof storage_);
  storage_.v4.sin_family = AF_INET;
}

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return Error(Errc::kInvalidArgument, fmt::format("network address \"{}\": {}", text.substr(0, 128), why));
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad("expected HOST:PORT");
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size()) return bad("the port must be 0 to 65535");
  if (!host.starts_with('[')) {
    if (host.find(':') != std::string_view::npos) return bad("an IPv6 address needs brackets, e.g. [::1]:4420");
    return resolve(host, port);
  }
  if (!host.ends_with(']')) return bad("the bracket is not closed");
  host = host.substr(1, host.size() - 2);
  return from_numeric(host, port, AddressFamily::kIpv6);
}

Result<SocketAddress> SocketAddress::from_numeric(std::string_view host, std::uint16_t port, AddressFamily family) {
  LEAP_TRY_VOID(check_host(host));
  // getaddrinfo would also take inet_aton's shorthands ("127.1", "0x7f000001"); those are typos here.
  const bool v6 = host.find(':') != std::string_view::npos;
  const bool wanted = family == AddressFamily::kAny || v6 == (family == AddressFamily::kIpv6);
  if (wanted && (v6 || is_ipv4(host))) {
    Result<SocketAddress> address = look_up(host, port, family, AI_NUMERICHOST);
    if (address) return address;
  }
  const std::string_view expected = family == AddressFamily::kIpv4   ? "an IPv4"
                                    : family == AddressFamily::kIpv6 ? "an IPv6"
                                                                     : "a numeric";
  return Error(Errc::kInvalidArgument, fmt::format("network address \"{}\": expected {} address", host, expected));
}

Result<SocketAddress> SocketAddress::resolve(std::string_view host, std::uint16_t port, AddressFamily family) {
  LEAP_TRY_VOID(check_host(host));
  const bool looks_numeric =
      host.find(':') != std::string_view::npos || host.find_first_not_of("0123456789.") == std::string_view::npos;
  if (looks_numeric) return from_numeric(host, port, family);
  return look_up(host, port, family, 0);
}

Result<SocketAddress> SocketAddress::from_sockaddr(const sockaddr* address, socklen_t size) {
  SocketAddress result;
  sa_family_t family = AF_UNSPEC;
  if (address != nullptr && size >= sizeof(sockaddr_in)) std::memcpy(&family, &address->sa_family, sizeof family);
  if (family == AF_INET) {
    std::memcpy(&result.storage_.v4, address, sizeof(sockaddr_in));
  } else if (family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    std::memcpy(&result.storage_.v6, address, sizeof(sockaddr_in6));
  } else {
    return Error(Errc::kUnsupported,
                 fmt::format("socket address of family {} ({} bytes): only IPv4 and IPv6", family, size));
  }
  return result;
}

AddressFamily SocketAddress::family() const {
  return os_family() == AF_INET6 ? AddressFamily::kIpv6 : AddressFamily::kIpv4;
}

std::uint16_t SocketAddress::port() const {
  return ntohs(os_family() == AF_INET6 ? storage_.v6.sin6_port : storage_.v4.sin_port);
}

SocketAddress SocketAddress::with_port(std::uint16_t port) const {
  SocketAddress result = *this;
  (os_family() == AF_INET6 ? result.storage_.v6.sin6_port : result.storage_.v4.sin_port) = htons(port);
  return result;
}

bool SocketAddress::is_loopback() const {
  if (os_family() == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&storage_.v6.sin6_addr);
  return ntohl(storage_.v4.sin_addr.s_addr) >> 24 == 127;
}

std::string SocketAddress::host() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* source = os_family() == AF_INET6 ? static_cast<const void*>(&storage_.v6.sin6_addr)
                                               : static_cast<const void*>(&storage_.v4.sin_addr);
  ::inet_ntop(os_family(), source, text.data(), static_cast<socklen_t>(text.size()));
  std::string result = text.data();
  if (os_family() == AF_INET6 && storage_.v6.sin6_scope_id != 0) {
    result += fmt::format("%{}", storage_.v6.sin6_scope_id);
  }
  return result;
}

std::string SocketAddress::to_string() const {
  if (os_family() == AF_INET6) return fmt::format("[{}]:{}", host(), port());
  return fmt::format("{}:{}", host(), port());
}

socklen_t SocketAddress::size() const { return os_family() == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in); }

bool operator==(const SocketAddress& a, const SocketAddress& b) {
  if (a.os_family() != b.os_family() || a.port() != b.port()) return false;
  if (a.os_family() == AF_INET) return a.storage_.v4.sin_addr.s_addr == b.storage_.v4.sin_addr.s_addr;
  return std::memcmp(&a.storage_.v6.sin6_addr, &b.storage_.v6.sin6_addr, sizeof(in6_addr)) == 0 &&
         a.storage_.v6.sin6_scope_id == b.storage_.v6.sin6_scope_id;
}

}  // namespace leap
