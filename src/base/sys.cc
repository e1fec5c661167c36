#include "base/sys.h"

#include <cerrno>
#include <ctime>

#include <unistd.h>

namespace leap::sys {
namespace {

thread_local constinit Counters t_counters;

template <typename R>
R negative_errno(R result) {
  return result < 0 ? static_cast<R>(-errno) : result;
}

}  // namespace

Counters& counters() { return t_counters; }

ssize_t readv(int fd, const iovec* iov, int count) {
  ++t_counters.receive;
  return negative_errno(::readv(fd, iov, count));
}

ssize_t sendmsg(int fd, const iovec* iov, int count) {
  ++t_counters.send;
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(iov);
  message.msg_iovlen = static_cast<std::size_t>(count);
  return negative_errno(::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

int epoll_wait(int epfd, epoll_event* events, int max_events, Nanos timeout) {
  ++t_counters.wait;
  if (timeout.count() <= 0) return negative_errno(::epoll_wait(epfd, events, max_events, timeout.count() < 0 ? -1 : 0));
  timespec ts{};
  ts.tv_sec = timeout.count() / 1'000'000'000;
  ts.tv_nsec = timeout.count() % 1'000'000'000;
  const int n = ::epoll_pwait2(epfd, events, max_events, &ts, nullptr);
  if (n >= 0 || (errno != ENOSYS && errno != EPERM)) return negative_errno(n);
  // Kernels before 5.11, and seccomp profiles that do not know the call: round up, so that a deadline is never early.
  const auto ms = (timeout.count() + 999'999) / 1'000'000;
  return negative_errno(::epoll_wait(epfd, events, max_events, ms > 1'000'000 ? 1'000'000 : static_cast<int>(ms)));
}

ssize_t pread(int fd, void* data, std::size_t size, std::int64_t offset) {
  ++t_counters.storage;
  return negative_errno(::pread(fd, data, size, offset));
}

ssize_t pwrite(int fd, const void* data, std::size_t size, std::int64_t offset) {
  ++t_counters.storage;
  return negative_errno(::pwrite(fd, data, size, offset));
}

int fdatasync(int fd) {
  ++t_counters.storage;
  return negative_errno(::fdatasync(fd));
}

}  // namespace leap::sys
