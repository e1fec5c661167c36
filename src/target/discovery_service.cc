#include "target/discovery_service.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "nvme/nqn.h"

namespace leap::target {
namespace {

/// How a host writes this address: without the zone, which means something on our machine only, and as IPv4 where a
/// listener for both families was reached over IPv4.
std::string address_for_hosts(const SocketAddress& address) {
  std::string host = address.host();
  host.resize(std::min(host.find('%'), host.size()));
  constexpr std::string_view kMapped = "::ffff:";
  if (host.starts_with(kMapped) && host.find('.') != std::string::npos) host.erase(0, kMapped.size());
  return host;
}

bool is_ipv6(std::string_view host) { return host.find(':') != std::string_view::npos; }

/// Whether a host that reached `reached` may have done so through this wildcard listener: an IPv6 one takes both.
bool covers(const SocketAddress& wildcard, const SocketAddress& reached) {
  return wildcard.family() == AddressFamily::kIpv6 || !is_ipv6(address_for_hosts(reached));
}

}  // namespace

bool is_wildcard(const SocketAddress& address) { return address.host() == "0.0.0.0" || address.host() == "::"; }

template <typename T>
bool DiscoveryService::replace(T& value, T with) {
  const std::lock_guard lock(mutex_);
  if (value == with) return false;
  value = std::move(with);
  ++generation_;
  return true;
}

bool DiscoveryService::set_addresses(std::vector<SocketAddress> addresses) {
  return replace(addresses_, std::move(addresses));
}
bool DiscoveryService::set_allowed_hosts(std::vector<std::string> hosts) {
  return replace(allowed_hosts_, std::move(hosts));
}
bool DiscoveryService::set_referrals(std::vector<SocketAddress> referrals) {
  return replace(referrals_, std::move(referrals));
}

bool DiscoveryService::allows_locked(std::string_view host_nqn) const {
  return allowed_hosts_.empty() || std::ranges::find(allowed_hosts_, host_nqn) != allowed_hosts_.end();
}

bool DiscoveryService::allows(std::string_view host_nqn) const {
  const std::lock_guard lock(mutex_);
  return allows_locked(host_nqn);
}

nvme::DiscoveryEntry DiscoveryService::entry(nvme::DiscoverySubtype subtype, std::string_view nqn,
                                             const SocketAddress& address, std::size_t port_id) const {
  const std::string host = address_for_hosts(address);
  nvme::DiscoveryEntry entry;
  entry.trtype = nvme::DiscoveryTrtype::kTcp;
  entry.adrfam = is_ipv6(host) ? nvme::DiscoveryAdrfam::kIpv6 : nvme::DiscoveryAdrfam::kIpv4;
  entry.subtype = subtype;
  // As Linux says it: no statement about secure channels (we have none), SQ flow control may be disabled.
  entry.treq = nvme::kTreqSecureChannelNotSpecified | nvme::kTreqDisableSqFlowControl;
  entry.portid = static_cast<std::uint16_t>(port_id);
  entry.cntlid = nvme::kDynamicCntlid;
  entry.asqsz = admin_entries_;
  nvme::fill_spaces(entry.trsvcid, std::to_string(address.port()));
  nvme::fill_nul(entry.subnqn, nqn);
  nvme::fill_spaces(entry.traddr, host);
  entry.tsas[0] = static_cast<std::uint8_t>(nvme::TcpSecurity::kNone);
  return entry;
}

std::vector<std::byte> DiscoveryService::page(std::string_view host_nqn, const SocketAddress& reached) const {
  using enum nvme::DiscoverySubtype;
  std::vector<nvme::DiscoveryEntry> entries;
  std::vector<std::pair<SocketAddress, std::size_t>> ports;
  const std::lock_guard lock(mutex_);
  bool same_for_all = true;
  for (std::size_t i = 0; i < addresses_.size(); ++i) {
    const SocketAddress& listener = addresses_[i];
    if (!is_wildcard(listener)) {
      ports.emplace_back(listener, i + 1);
      continue;
    }
    same_for_all = false;
    if (is_wildcard(reached))
      ports.emplace_back(listener, i + 1);  // the transport does not know: better than nothing
    else if (covers(listener, reached))
      ports.emplace_back(reached.with_port(listener.port()), i + 1);
  }
  for (const auto& [address, id] : ports) {
    entries.push_back(entry(kCurrentDiscovery, nvme::kDiscoveryNqn, address, id));
    entries.back().eflags = nvme::kEflagsExplicitPersistent;
    // What a wildcard is shown as depends on the way the host came.
    if (same_for_all) entries.back().eflags |= nvme::kEflagsDuplicateInfo;
  }
  if (allows_locked(host_nqn)) {
    for (const auto& [address, id] : ports) entries.push_back(entry(kNvm, nqn_, address, id));
  }
  for (std::size_t i = 0; i < referrals_.size(); ++i) {
    entries.push_back(entry(kReferral, nvme::kDiscoveryNqn, referrals_[i], addresses_.size() + i + 1));
  }
  nvme::DiscoveryHeader header;
  header.genctr = generation_;
  header.numrec = entries.size();
  std::vector<std::byte> page(nvme::discovery_entry_offset(entries.size()));
  std::memcpy(page.data(), &header, sizeof header);
  if (!entries.empty()) {
    std::memcpy(page.data() + sizeof header, entries.data(), entries.size() * sizeof(nvme::DiscoveryEntry));
  }
  return page;
}

}  // namespace leap::target
