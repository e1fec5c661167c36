// VirtualPoller: a poller driven by its test, in virtual time: waiting moves the clock instead of sleeping.
//
//   VirtualPoller sim;
//   ScriptedStream& peer = ...;                      // registers with sim.backend()
//   sim.poller().spawn(...);
//   sim.run_until([&] { return done; });             // false: everybody waits for something that never comes
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>

#include "base/clock.h"
#include "poller/poller.h"
#include "poller/wait_backend.h"

namespace leap::test {

/// Something that becomes ready, now or at a known time.
class VirtualSource {
 public:
  virtual ~VirtualSource() = default;
  [[nodiscard]] virtual bool readable(TimePoint now) = 0;
  [[nodiscard]] virtual bool writable(TimePoint now) = 0;
  /// A broken connection: reported whatever the interest is, as epoll does.
  [[nodiscard]] virtual bool hung_up() { return false; }
  /// When readable() or writable() next change by themselves; max(): never.
  [[nodiscard]] virtual TimePoint next_change(TimePoint now) = 0;
};

class VirtualBackend final : public WaitBackend {
 public:
  explicit VirtualBackend(ManualClock& clock) : clock_(clock) {}

  /// Gives `source` a descriptor number for NvmePoller::watch().
  int add(VirtualSource& source) {
    sources_[next_fd_] = &source;
    return next_fd_++;
  }
  void remove(int fd) {
    sources_.erase(fd);
    watched_.erase(fd);
  }

  Result<> watch(int fd, Pollable& pollable, Interest interest) override {
    if (fail_watch != 0) return Error::os(fail_watch, "watch");
    watched_[fd] = {&pollable, interest};
    return {};
  }
  Result<> rewatch(int fd, Pollable& pollable, Interest interest) override {
    watched_[fd] = {&pollable, interest};
    return {};
  }
  void unwatch(int fd) override { watched_.erase(fd); }

  std::size_t wait(Nanos timeout, std::span<Pollable*> ready) override {
    ++(timeout.count() == 0 ? looks : sleeps);
    std::size_t count = collect(ready);
    if (count > 0 || timeout.count() == 0 || std::exchange(woken_, false)) return count;
    TimePoint until = timeout.count() < 0 ? TimePoint::max() : clock_.now() + timeout;
    for (const auto& [fd, source] : sources_) until = std::min(until, source->next_change(clock_.now()));
    if (until == TimePoint::max()) {
      stuck = true;
      return 0;
    }
    clock_.set(std::max(until, clock_.now()));
    return collect(ready);
  }
  void wake() override {
    ++wakes;
    woken_ = true;
  }

  std::size_t looks = 0;   // wait(0)
  std::size_t sleeps = 0;  // other waits
  std::size_t wakes = 0;
  int fail_watch = 0;  // errno of the next watch() calls
  bool stuck = false;  // a wait without limit had nothing to wait for

 private:
  struct Watch {
    Pollable* pollable;
    Interest interest;
  };
  std::size_t collect(std::span<Pollable*> ready) {
    std::size_t count = 0;
    for (const auto& [fd, watch] : watched_) {
      VirtualSource& source = *sources_.at(fd);
      const bool tell = (watch.interest.read && source.readable(clock_.now())) ||
                        (watch.interest.write && source.writable(clock_.now())) || source.hung_up();
      if (tell && count < ready.size()) ready[count++] = watch.pollable;
    }
    return count;
  }

  ManualClock& clock_;
  std::map<int, VirtualSource*> sources_;
  std::map<int, Watch> watched_;
  int next_fd_ = 1000;
  bool woken_ = false;
};

class VirtualPoller {
 public:
  explicit VirtualPoller(NvmePoller::Config config = {}) {
    auto backend = std::make_unique<VirtualBackend>(clock_);
    backend_ = backend.get();
    poller_ = NvmePoller::create(std::move(config), clock_, std::move(backend)).value();
  }

  [[nodiscard]] NvmePoller& poller() { return *poller_; }
  [[nodiscard]] VirtualBackend& backend() { return *backend_; }
  [[nodiscard]] ManualClock& clock() { return clock_; }
  [[nodiscard]] std::uint64_t turns() const { return poller_->probe().turns.load(); }

  /// Turns and waits until `done()`; false when nothing can happen any more, or it took suspiciously long.
  template <typename Done>
  [[nodiscard]] bool run_until(Done done, int waits = 100'000) {
    for (; waits > 0 && !done(); --waits) {
      backend_->stuck = false;
      poller_->run_and_wait(Nanos{-1});
      if (backend_->stuck) break;
    }
    return done();
  }
  /// As long as something happens by itself. False: there was no end to it.
  [[nodiscard]] bool settle() {
    backend_->stuck = false;
    return run_until([this] { return backend_->stuck; });
  }
  void destroy() { poller_.reset(); }

 private:
  ManualClock clock_;
  VirtualBackend* backend_ = nullptr;
  std::unique_ptr<NvmePoller> poller_;
};

}  // namespace leap::test
