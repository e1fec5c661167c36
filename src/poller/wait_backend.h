// WaitBackend: the poller's single wait over everything: sockets, rings, the mailbox's wake-up, and the next deadline.
//
// A seam: production uses epoll and an eventfd; a simulation supplies one that moves virtual time instead of sleeping.
#pragma once

#include <memory>
#include <span>

#include "base/clock.h"
#include "base/result.h"
#include "poller/pollable.h"

namespace leap {

class WaitBackend {
 public:
  virtual ~WaitBackend() = default;

  /// Level-triggered: a descriptor that stays readable is reported by every wait. Errors and hang-ups count as
  /// readable.
  virtual Result<> watch(int fd, Pollable& pollable, Interest interest) = 0;
  /// Changes what is reported.
  virtual Result<> rewatch(int fd, Pollable& pollable, Interest interest) = 0;
  virtual void unwatch(int fd) = 0;

  /// Sleeps until a watched descriptor is ready, wake() is called or `timeout` has passed (negative: no limit; zero:
  /// looks only). Fills `ready`, returns how many; the wake-up itself is not reported.
  virtual std::size_t wait(Nanos timeout, std::span<Pollable*> ready) = 0;

  /// Any thread: ends the current or the next wait.
  virtual void wake() = 0;

  static Result<std::unique_ptr<WaitBackend>> epoll();
};

}  // namespace leap
