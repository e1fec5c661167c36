#include "host/resolve.h"

#include <fmt/format.h>

namespace leap {
namespace {

AddressFamily family_of(nvme::Adrfam adrfam) {
  switch (adrfam) {
    case nvme::Adrfam::kIpv4: return AddressFamily::kIpv4;
    case nvme::Adrfam::kIpv6: return AddressFamily::kIpv6;
    case nvme::Adrfam::kNone: break;
  }
  return AddressFamily::kAny;
}

Result<> check_transport(const nvme::TransportAddress& address) {
  if (address.trtype == nvme::Trtype::kTcp) return {};
  return Error(Errc::kUnsupported,
               fmt::format("transport {} of {}: only TCP is supported", to_string(address.trtype), address.endpoint()))
      .in(ErrorDomain::kConfig);
}

}  // namespace

Result<nvme::TransportAddress> resolve_address(nvme::TransportAddress address) {
  LEAP_TRY_VOID(check_transport(address));
  LEAP_TRY(const SocketAddress found,
           SocketAddress::resolve(address.traddr, address.trsvcid, family_of(address.adrfam)));
  address.traddr = found.host();
  address.adrfam = found.family() == AddressFamily::kIpv6 ? nvme::Adrfam::kIpv6 : nvme::Adrfam::kIpv4;
  return address;
}

Result<SocketAddress> socket_address(const nvme::TransportAddress& address) {
  LEAP_TRY_VOID(check_transport(address));
  return SocketAddress::from_numeric(address.traddr, address.trsvcid, family_of(address.adrfam));
}

}  // namespace leap
