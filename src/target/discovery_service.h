// DiscoveryService: what the well-known discovery subsystem of a target tells whom: its listeners, the subsystem behind
// them, and other discovery services it refers to.
//
//   entries, in this order                          shown to
//   -----------------------------------------------+------------------------------------------------
//   the discovery service itself, per listener      every host
//   the NVM subsystem, per listener                 hosts that may connect to it
//   referrals                                       every host
//
// A listener on a wildcard address is shown as the address the asking host itself reached; when that is of the other
// address family nobody can say which it would be, and the listener is left out. GENCTR counts the changes of this log;
// namespaces are not in it, so theirs do not count.
//
// Threading: any. A short mutex; never on the I/O path. Source: NVMe Base 2.0, 5.16.1.23, 3.1.3.3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "nvme/discovery.h"

namespace leap::target {

[[nodiscard]] bool is_wildcard(const SocketAddress& address);

class DiscoveryService {
 public:
  /// `nqn`: of the NVM subsystem. `admin_entries`: what an Admin submission queue may have.
  DiscoveryService(std::string nqn, std::uint16_t admin_entries)
      : nqn_(std::move(nqn)), admin_entries_(admin_entries) {}

  // True: the log is another one now; hosts with a persistent connection want to hear of it.
  bool set_addresses(std::vector<SocketAddress> addresses);
  bool set_allowed_hosts(std::vector<std::string> hosts);
  bool set_referrals(std::vector<SocketAddress> referrals);

  /// Whether the host may use the NVM subsystem.
  [[nodiscard]] bool allows(std::string_view host_nqn) const;
  /// The whole Discovery log page for this host, which reached us at `reached`.
  [[nodiscard]] std::vector<std::byte> page(std::string_view host_nqn, const SocketAddress& reached) const;

 private:
  template <typename T>
  bool replace(T& value, T with);
  [[nodiscard]] bool allows_locked(std::string_view host_nqn) const;
  [[nodiscard]] nvme::DiscoveryEntry entry(nvme::DiscoverySubtype subtype, std::string_view nqn,
                                           const SocketAddress& address, std::size_t port_id) const;

  const std::string nqn_;
  const std::uint16_t admin_entries_;
  mutable std::mutex mutex_;
  std::uint64_t generation_ = 0;
  std::vector<SocketAddress> addresses_;
  std::vector<std::string> allowed_hosts_;
  std::vector<SocketAddress> referrals_;
};

}  // namespace leap::target
