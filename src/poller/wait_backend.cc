#include "poller/wait_backend.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <fmt/format.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/sys.h"

namespace leap {
namespace {

class EpollBackend final : public WaitBackend {
 public:
  EpollBackend(UniqueFd epoll_fd, UniqueFd event_fd) : epoll_(std::move(epoll_fd)), event_(std::move(event_fd)) {}

  Result<> watch(int fd, Pollable& pollable, Interest interest) override {
    return control(EPOLL_CTL_ADD, fd, pollable, interest);
  }
  Result<> rewatch(int fd, Pollable& pollable, Interest interest) override {
    return control(EPOLL_CTL_MOD, fd, pollable, interest);
  }
  void unwatch(int fd) override { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

  std::size_t wait(Nanos timeout, std::span<Pollable*> ready) override {
    std::array<epoll_event, 64> events;
    const int limit = static_cast<int>(std::min(events.size(), ready.size()));
    const int n = sys::epoll_wait(epoll_.get(), events.data(), limit, timeout);
    if (n < 0) LEAP_CHECK(n == -EINTR, Error::os(-n, "epoll_wait").message());
    std::size_t count = 0;
    for (int i = 0; i < n; ++i) {
      auto* pollable = static_cast<Pollable*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (pollable == nullptr) {
        drain_event();
      } else {
        ready[count++] = pollable;
      }
    }
    return count;
  }

  void wake() override {
    const std::uint64_t one = 1;
    ++sys::counters().wake;
    // EAGAIN would mean 2^64 - 1 pending wake-ups: the poller is about to wake anyway.
    while (::write(event_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

  Result<> init() {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = nullptr;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, event_.get(), &event) != 0)
      return Error::os(errno, "epoll_ctl(eventfd)");
    return {};
  }

 private:
  Result<> control(int op, int fd, Pollable& pollable, Interest interest) {
    epoll_event event{};
    event.events = (interest.read ? EPOLLIN | EPOLLRDHUP : 0U) | (interest.write ? EPOLLOUT : 0U);
    event.data.ptr = &pollable;
    if (::epoll_ctl(epoll_.get(), op, fd, &event) != 0) return Error::os(errno, fmt::format("watch descriptor {}", fd));
    return {};
  }

  void drain_event() {
    std::uint64_t value = 0;
    ++sys::counters().wake;
    while (::read(event_.get(), &value, sizeof value) < 0 && errno == EINTR) {
    }
  }

  UniqueFd epoll_;
  UniqueFd event_;
};

}  // namespace

Result<std::unique_ptr<WaitBackend>> WaitBackend::epoll() {
  UniqueFd epoll_fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_fd.valid()) return Error::os(errno, "epoll_create1");
  UniqueFd event_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_fd.valid()) return Error::os(errno, "eventfd");
  auto backend = std::make_unique<EpollBackend>(std::move(epoll_fd), std::move(event_fd));
  LEAP_TRY_VOID(backend->init());
  return std::unique_ptr<WaitBackend>(std::move(backend));
}

}  // namespace leap
