#include "target/admin_socket.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "base/address.h"
#include "base/log.h"
#include "target/chaos/spec.h"
#include "target/target.h"

namespace leap {
namespace {

constexpr std::size_t kLongestLine = 16 * 1024;

Error os_error(const std::string& what) { return Error::os(errno, what); }

Result<UniqueFd> listen_on(int family, const sockaddr* address, socklen_t size, const std::string& where) {
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return os_error("socket");
  const int yes = 1;
  if (family != AF_UNIX) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(fd.get(), address, size) != 0) {
    if (errno == EADDRINUSE) return Error(Errc::kAlreadyExists, fmt::format("admin socket {}: in use", where));
    return os_error(fmt::format("admin socket {}: bind", where));
  }
  if (::listen(fd.get(), 4) != 0) return os_error(fmt::format("admin socket {}: listen", where));
  return fd;
}

Result<UniqueFd> listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error(Errc::kInvalidArgument, fmt::format("admin socket {}: the path is too long", path))
        .in(ErrorDomain::kConfig);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return listen_on(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address, path);
}

bool send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<AdminSocket>> AdminSocket::open(const std::string& where, NvmeTarget& target) {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop.valid()) return os_error("eventfd");
  if (where.starts_with('/')) {
    LEAP_TRY(UniqueFd listener, listen_unix(where));
    return std::unique_ptr<AdminSocket>(new AdminSocket(std::move(listener), std::move(stop), where, where, target));
  }
  LEAP_TRY(const SocketAddress wanted, SocketAddress::parse(where));
  if (!wanted.is_loopback()) {
    return Error(Errc::kInvalidArgument, fmt::format("admin socket {}: only loopback: it has no authentication", where))
        .in(ErrorDomain::kConfig);
  }
  LEAP_TRY(UniqueFd listener, listen_on(wanted.os_family(), wanted.data(), wanted.size(), where));
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) return os_error("getsockname");
  LEAP_TRY(const SocketAddress address, SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&bound), size));
  return std::unique_ptr<AdminSocket>(
      new AdminSocket(std::move(listener), std::move(stop), address.to_string(), "", target));
}

AdminSocket::AdminSocket(UniqueFd listener, UniqueFd stop, std::string address, std::string path, NvmeTarget& target)
    : listener_(std::move(listener)),
      stop_(std::move(stop)),
      address_(std::move(address)),
      path_(std::move(path)),
      target_(target),
      thread_([this] { run(); }) {}

AdminSocket::~AdminSocket() {
  const std::uint64_t one = 1;
  while (::write(stop_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  thread_.join();
  if (!path_.empty()) ::unlink(path_.c_str());
}

/// False when it is time to stop.
bool AdminSocket::wait_readable(int fd) const {
  std::array<pollfd, 2> waits{{{fd, POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  while (::poll(waits.data(), waits.size(), -1) < 0) {
    if (errno != EINTR) return false;
  }
  return waits[1].revents == 0;
}

void AdminSocket::run() {
  while (wait_readable(listener_.get())) {
    const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.valid()) serve(client.get());
  }
}

void AdminSocket::serve(int client) {
  std::string pending;
  std::array<char, 4096> chunk;
  while (wait_readable(client)) {
    const ssize_t got = ::recv(client, chunk.data(), chunk.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    pending.append(chunk.data(), static_cast<std::size_t>(got));
    for (std::size_t end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
      std::string line = pending.substr(0, end);
      pending.erase(0, end + 1);
      if (line.ends_with('\r')) line.pop_back();
      if (!send_all(client, answer(line))) return;
    }
    if (pending.size() > kLongestLine) return;
  }
}

std::string AdminSocket::answer(std::string_view line) {
  const std::size_t space = line.find(' ');
  const std::string_view command = line.substr(0, space);
  const std::string_view rest = space == std::string_view::npos ? std::string_view{} : line.substr(space + 1);
  if (command == "chaos" && rest.empty()) return target_.chaos_report() + "ok\n";
  if (command == "chaos") {
    const Result<> set = target_.set_chaos(rest == "off" ? std::string_view{} : rest);
    if (!set.ok()) return fmt::format("error: {}\n", set.error().message());
    log_info("target: chaos is now '{}'", rest);
    return "ok\n";
  }
  if (command == "metrics" && rest.empty()) {
    MetricsText page;
    target_.append_metrics(page);
    return page.text() + "ok\n";
  }
  if (command == "help" && rest.empty())
    return fmt::format("chaos [SPEC | off]\nmetrics\n{}ok\n", target::chaos_help());
  return fmt::format("error: unknown command '{}': chaos, metrics, help\n", command);
}

}  // namespace leap
