// TransportAddress: where a controller is and which subsystem is meant, read from what an operator writes.
//
// Two forms:
//   SPDK:  trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.2024-01.io.example:disk1 [hostnqn:...]
//   [ns:1]
//          keys in any case and order, each at most once; trtype and traddr are required.
//   URI:   nvme+tcp://127.0.0.1:4420/nqn.2024-01.io.example:disk1?ns=1&hostnqn=...
//          nvme+tcp://[::1]:4420/NQN    nvme+rdma://...    nvme+pcie://0000:01:00.0    nvme+vfio-user:///path/to/socket
//
// Without subnqn the discovery service is meant. The port defaults to 4420, to 8009 for the discovery service. Whatever
// is wrong is an Errc::kInvalidArgument of domain kConfig that quotes the bad token. Not for the I/O path.
//
//   LEAP_TRY(TransportAddress address, TransportAddress::parse(text));
//   address.to_string()   // SPDK's form again, canonical; parse(to_string()) == address
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "nvme/ids.h"
#include "nvme/nqn.h"

namespace leap::nvme {

enum class Trtype : std::uint8_t { kTcp, kRdma, kPcie, kVfioUser };
enum class Adrfam : std::uint8_t {
  kNone,
  kIpv4,
  kIpv6
};  ///< kNone: PCIe, vfio-user, and host names (the resolver decides)

[[nodiscard]] std::string_view to_string(Trtype trtype);  ///< "TCP", "RDMA", "PCIE", "VFIOUSER", as SPDK spells them
[[nodiscard]] std::string_view to_string(Adrfam adrfam);  ///< "IPv4", "IPv6", "none"

struct TransportAddress {
  Trtype trtype = Trtype::kTcp;
  Adrfam adrfam = Adrfam::kNone;
  std::string traddr{};       ///< IP address or host name; PCI address; path of a vfio-user socket. Never empty.
  std::uint16_t trsvcid = 0;  ///< TCP or RDMA port; 0 for PCIe and vfio-user
  std::string subnqn{kDiscoveryNqn};
  std::string hostnqn{};       ///< empty: the caller's default
  std::optional<Nsid> nsid{};  ///< one namespace of the subsystem, or all of them

  /// Either form; see the top of this file.
  [[nodiscard]] static Result<TransportAddress> parse(std::string_view text);
  /// True when the text starts like one of the two forms ("trtype:" anywhere, or "nvme+"): device strings have others.
  [[nodiscard]] static bool looks_like(std::string_view text);

  [[nodiscard]] bool is_discovery() const { return subnqn == kDiscoveryNqn; }
  [[nodiscard]] bool over_ip() const { return trtype == Trtype::kTcp || trtype == Trtype::kRdma; }
  /// "127.0.0.1:4420", "[::1]:4420", "0000:01:00.0", "/path": for log lines.
  [[nodiscard]] std::string endpoint() const;
  /// SPDK's form with every known key.
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const TransportAddress&, const TransportAddress&) = default;
};

}  // namespace leap::nvme
