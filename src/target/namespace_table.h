// NamespaceTable: the namespaces of a subsystem at one moment. A value; copies share the namespaces.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "target/namespace.h"

namespace leap::target {

class NamespaceTable {
 public:
  using Entry = std::shared_ptr<const Namespace>;

  /// In ascending order of nsid.
  [[nodiscard]] const std::vector<Entry>& all() const { return entries_; }
  /// nullptr: no such namespace.
  [[nodiscard]] Entry find(nvme::Nsid nsid) const {
    const auto at = position(nsid);
    return at != entries_.end() && (*at)->nsid() == nsid ? *at : nullptr;
  }
  [[nodiscard]] std::uint32_t max_nsid() const { return entries_.empty() ? 0 : entries_.back()->nsid().value(); }
  /// 0: none is left.
  [[nodiscard]] std::uint32_t lowest_free() const {
    for (std::uint32_t nsid = 1; nsid <= kMaxNsid; ++nsid) {
      if (find(nvme::Nsid{nsid}) == nullptr) return nsid;
    }
    return 0;
  }
  [[nodiscard]] bool any_volatile_write_cache() const {
    return std::ranges::any_of(entries_, [](const Entry& ns) { return ns->volatile_write_cache(); });
  }

  /// Adds it, or puts it in the place of the one with its nsid.
  void put(Namespace ns) {
    const auto at = position(ns.nsid());
    auto entry = std::make_shared<const Namespace>(std::move(ns));
    if (at != entries_.end() && (*at)->nsid() == entry->nsid())
      entries_[static_cast<std::size_t>(at - entries_.begin())] = std::move(entry);
    else
      entries_.insert(at, std::move(entry));
  }
  /// False: there was none.
  bool remove(nvme::Nsid nsid) {
    return std::erase_if(entries_, [&](const Entry& ns) { return ns->nsid() == nsid; }) > 0;
  }

 private:
  [[nodiscard]] std::vector<Entry>::const_iterator position(nvme::Nsid nsid) const {
    return std::ranges::lower_bound(entries_, nsid, {}, [](const Entry& ns) { return ns->nsid(); });
  }

  std::vector<Entry> entries_;
};

}  // namespace leap::target
