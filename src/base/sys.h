// The system calls of the I/O path, counted.
//
// Every call a poller, queue pair, target or session makes while serving I/O goes through here, so that
// "system calls per I/O" is a number and not a belief. Counters are per thread; reading them costs nothing.
// Return values are those of the raw call with -errno instead of -1, so that no errno is lost on the way.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>

#include "base/clock.h"

namespace leap::sys {

struct Counters {
  std::uint64_t receive = 0;  ///< recv, readv, recvmsg
  std::uint64_t send = 0;     ///< send, writev, sendmsg
  std::uint64_t wait = 0;     ///< epoll_wait and friends
  std::uint64_t wake = 0;     ///< eventfd read and write
  std::uint64_t storage = 0;  ///< pread, pwrite, fdatasync, io_uring_enter
  [[nodiscard]] std::uint64_t total() const { return receive + send + wait + wake + storage; }
};

/// This thread's counters since it started.
Counters& counters();

ssize_t readv(int fd, const iovec* iov, int count);
ssize_t sendmsg(int fd, const iovec* iov, int count);  ///< MSG_NOSIGNAL | MSG_DONTWAIT
/// Waits until an event or `timeout` (negative: for ever; zero: just looks). Nanosecond resolution where the kernel has
/// it.
int epoll_wait(int epfd, epoll_event* events, int max_events, Nanos timeout);
ssize_t pread(int fd, void* data, std::size_t size, std::int64_t offset);
ssize_t pwrite(int fd, const void* data, std::size_t size, std::int64_t offset);
int fdatasync(int fd);

}  // namespace leap::sys
