// AsyncEvents: which asynchronous events a controller owes its host, and the changed-namespace list behind one of them.
//
//   event \ state |  idle              owed                    reported (masked)
//   --------------+-----------------------------------------------------------------------------
//   raise()       |  -> owed           stays                   remembered: owed again once acknowledged
//   next()        |  nothing           -> reported, if enabled nothing
//   acknowledge() |  stays             -> idle                 -> idle
//
// An event that was reported is masked until the host has read the log page that goes with it, without Retain
// Asynchronous Event (NVMe Base 2.0, 5.2). Reading that page shows everything up to now, so it also settles what is
// owed.
//
// Threading: the controller's admin poller. Bounded: one bit per event, at most 1024 namespace ids.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "nvme/features.h"
#include "nvme/identify_namespace.h"

namespace leap::target {

enum class EventKind : std::uint8_t { kNamespaceChanged, kDiscoveryChanged };
inline constexpr std::size_t kEventKinds = 2;

class AsyncEvents {
 public:
  /// Set Features, Asynchronous Event Configuration.
  void configure(nvme::AsyncEventConfig config) { config_ = config; }
  [[nodiscard]] nvme::AsyncEventConfig config() const { return config_; }

  void raise(EventKind kind) { slot(kind).owed = true; }
  /// The next event to report, which is masked from now on; nullopt when the host is owed nothing it wants to hear.
  [[nodiscard]] std::optional<nvme::AsyncEvent> next() {
    for (const EventKind kind : {EventKind::kNamespaceChanged, EventKind::kDiscoveryChanged}) {
      Slot& s = slot(kind);
      if (!s.owed || s.masked || !enabled(kind)) continue;
      s = {.owed = false, .masked = true};
      return kind == EventKind::kNamespaceChanged ? nvme::kNamespaceChangedEvent : nvme::kDiscoveryChangedEvent;
    }
    return std::nullopt;
  }
  void acknowledge(EventKind kind) { slot(kind) = {}; }

  void add_changed(nvme::Nsid nsid) {
    const auto at = std::lower_bound(changed_.begin(), changed_.end(), nsid);
    if (at == changed_.end() || *at != nsid) changed_.insert(at, nsid);
  }
  /// Log page 04h: ascending; FFFFFFFFh alone when there are more than fit.
  [[nodiscard]] nvme::NamespaceList changed() const {
    nvme::NamespaceList list;
    if (changed_.size() > list.ids.size())
      list.ids[0] = nvme::kTooManyChanged;
    else
      std::copy(changed_.begin(), changed_.end(), list.ids.begin());
    return list;
  }
  void clear_changed() { changed_.clear(); }

 private:
  struct Slot {
    bool owed = false;
    bool masked = false;
  };
  Slot& slot(EventKind kind) { return slots_[static_cast<std::size_t>(kind)]; }
  [[nodiscard]] bool enabled(EventKind kind) const {
    return kind == EventKind::kNamespaceChanged ? config_.namespace_attribute : config_.discovery_log_change;
  }

  nvme::AsyncEventConfig config_;
  std::array<Slot, kEventKinds> slots_{};
  std::vector<nvme::Nsid> changed_;
};

}  // namespace leap::target
