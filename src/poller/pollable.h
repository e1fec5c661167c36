// Pollable: something a poller serves: a queue pair, a connection, a session, an io_uring.
#pragma once

#include <cstddef>

#include "base/clock.h"
#include "base/intrusive_list.h"

namespace leap {

/// What a pollable wants to be told about its descriptor. Errors and hang-ups are always told, and told again in every
/// wait: a pollable that can do nothing about them for now has to be unwatched, or the poller never sleeps.
struct Interest {
  bool read = true;
  bool write = false;
  friend constexpr bool operator==(Interest, Interest) = default;
};

/// Lives on one poller and is called on its thread only. Must be unwatched before it is destroyed; the hot list unlinks
/// itself then. Unwatching alone does not end the calls of one that is hot: NvmePoller::cool() does. It may destroy
/// itself, or any other pollable, from within poll().
class Pollable : public IntrusiveListNode {
 public:
  virtual ~Pollable() = default;

  /// Does what can be done now without blocking. Returns how much was done; 0 means "nothing", which lets the poller
  /// spin on or sleep. Called when its file descriptor is ready, and every turn while it is hot.
  ///
  /// Whoever stops early, to let others have a turn, returns what it did: it is called again before the poller sleeps,
  /// whatever its descriptor says. Counting attempts that achieved nothing as work keeps the poller awake for ever.
  /// NvmePoller::cool() from within poll() is allowed: the next call then comes when the descriptor is ready.
  virtual std::size_t poll() = 0;

 private:
  friend class NvmePoller;
  TimePoint worked_at_;     // last time it was heated or found work
  bool must_poll_ = false;  // heated, reported by its descriptor, or had work last time
  bool watched_ = false;    // has (had) a descriptor that tells when there is something to do
};

}  // namespace leap
