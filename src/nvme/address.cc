#include "nvme/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "nvme/pdu.h"

namespace leap::nvme {
namespace {

constexpr std::size_t kMaxAddressText = 2048;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }
bool is_control_or_blank(char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7F; }

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}
bool starts_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && equals_ignoring_case(text.substr(0, prefix.size()), prefix);
}

Error bad(std::string message) { return Error(Errc::kInvalidArgument, std::move(message)).in(ErrorDomain::kConfig); }

bool is_ipv4(const std::string& text) {
  in_addr address{};
  return ::inet_pton(AF_INET, text.c_str(), &address) == 1;
}
/// An IPv6 literal, with or without a zone ("fe80::1%eth0").
bool is_ipv6(const std::string& text) {
  const std::size_t percent = text.find('%');
  if (percent != std::string::npos && percent + 1 == text.size()) return false;
  in6_addr address{};
  return ::inet_pton(AF_INET6, text.substr(0, percent).c_str(), &address) == 1;
}
/// A host name as a resolver takes it (RFC 1123, plus '_').
bool is_host_name(std::string_view text) {
  if (text.empty() || text.size() > 253 || text.front() == '.' || text.front() == '-') return false;
  bool has_letter = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = lower(text[i]);
    const bool letter = c >= 'a' && c <= 'z';
    has_letter = has_letter || letter;
    if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.') return false;
    if (c == '.' && i > 0 && text[i - 1] == '.') return false;
  }
  return has_letter;  // digits and dots alone are a mistyped IPv4 address
}

template <typename T>
std::optional<T> parse_number(std::string_view text, T least, T most, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) return std::nullopt;
  return value;
}

/// "[dddd:]bb:dd.f" in hexadecimal, to "dddd:bb:dd.f" in lower case.
std::optional<std::string> canonical_pci(std::string_view text) {
  std::uint32_t domain = 0;
  if (std::count(text.begin(), text.end(), ':') == 2) {
    const std::size_t colon = text.find(':');
    const auto value = parse_number<std::uint32_t>(text.substr(0, colon), 0, 0xFFFFFFFF, 16);
    if (!value) return std::nullopt;
    domain = *value;
    text.remove_prefix(colon + 1);
  }
  const std::size_t colon = text.find(':');
  const std::size_t dot = text.find('.');
  if (colon == text.npos || dot == text.npos || dot < colon) return std::nullopt;
  const auto bus = parse_number<unsigned>(text.substr(0, colon), 0, 0xFF, 16);
  const auto device = parse_number<unsigned>(text.substr(colon + 1, dot - colon - 1), 0, 0x1F, 16);
  const auto function = parse_number<unsigned>(text.substr(dot + 1), 0, 7, 16);
  if (!bus || !device || !function) return std::nullopt;
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", domain, *bus, *device, *function);
}

Result<Trtype> parse_trtype(std::string_view value) {
  if (equals_ignoring_case(value, "tcp")) return Trtype::kTcp;
  if (equals_ignoring_case(value, "rdma")) return Trtype::kRdma;
  if (equals_ignoring_case(value, "pcie")) return Trtype::kPcie;
  if (equals_ignoring_case(value, "vfiouser") || equals_ignoring_case(value, "vfio-user")) return Trtype::kVfioUser;
  return bad(fmt::format("trtype '{}' is not one of TCP, RDMA, PCIE, VFIOUSER", value));
}

Result<Adrfam> parse_adrfam(std::string_view value) {
  if (equals_ignoring_case(value, "ipv4")) return Adrfam::kIpv4;
  if (equals_ignoring_case(value, "ipv6")) return Adrfam::kIpv6;
  return bad(fmt::format("adrfam '{}' is not IPv4 or IPv6", value));
}

Result<std::uint16_t> parse_port(std::string_view value) {
  const auto port = parse_number<std::uint16_t>(value, 1, 65535);
  if (!port) return bad(fmt::format("port '{}' is not a number from 1 to 65535", value));
  return *port;
}

Result<Nsid> parse_nsid(std::string_view value) {
  const auto nsid = parse_number<std::uint32_t>(value, 1, kAllNamespaces.value() - 1);
  if (!nsid) return bad(fmt::format("namespace id '{}' is not a number from 1 to 4294967294", value));
  return Nsid{*nsid};
}

/// The parts as written, by either form, before they are judged together.
struct Parts {
  std::optional<std::string> trtype, adrfam, traddr, trsvcid, subnqn, hostnqn, ns;

  /// The slot of a key, or nullptr for an unknown one.
  std::optional<std::string>* slot(std::string_view key) {
    const std::array<std::pair<std::string_view, std::optional<std::string>*>, 8> slots{{{"trtype", &trtype},
                                                                                         {"adrfam", &adrfam},
                                                                                         {"traddr", &traddr},
                                                                                         {"trsvcid", &trsvcid},
                                                                                         {"subnqn", &subnqn},
                                                                                         {"hostnqn", &hostnqn},
                                                                                         {"ns", &ns},
                                                                                         {"nsid", &ns}}};
    for (const auto& [name, value] : slots) {
      if (equals_ignoring_case(key, name)) return value;
    }
    return nullptr;
  }
};

/// Splits SPDK's "key:value key:value"; like SPDK, '=' may stand for the first ':'.
Result<Parts> split_spdk(std::string_view text) {
  Parts parts;
  std::size_t at = 0;
  while (at < text.size()) {
    if (is_blank(text[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && !is_blank(text[end])) ++end;
    const std::string_view token = text.substr(at, end - at);
    at = end;
    const std::size_t separator = token.find_first_of(":=");
    if (separator == token.npos) return bad(fmt::format("'{}' is not of the form key:value", token));
    const std::string_view key = token.substr(0, separator);
    const std::string_view value = token.substr(separator + 1);
    auto* slot = parts.slot(key);
    if (slot == nullptr) {
      return bad(fmt::format("unknown key '{}' (known: trtype, adrfam, traddr, trsvcid, subnqn, hostnqn, ns)", key));
    }
    if (slot->has_value()) return bad(fmt::format("key '{}' is given twice", key));
    if (value.empty()) return bad(fmt::format("key '{}' has no value", key));
    *slot = std::string(value);
  }
  return parts;
}

/// Undoes %XX.
Result<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    const std::string_view digits = text.substr(i + 1, 2);
    const auto byte = digits.size() == 2 ? parse_number<unsigned>(digits, 0, 255, 16) : std::nullopt;
    if (!byte) return bad(fmt::format("'{}' is not a percent-encoded byte", text.substr(i, 3)));
    decoded.push_back(static_cast<char>(*byte));
    i += 2;
  }
  return decoded;
}

/// "host[:port]" or "[v6][:port]" into traddr and trsvcid.
Result<> split_authority(std::string_view authority, Parts& parts) {
  if (authority.empty()) return bad("the URI has no host");
  if (authority.find('@') != authority.npos) return bad("user information before '@' is not allowed in the URI");
  std::string_view host = authority;
  std::string_view port;
  bool has_port = false;
  if (authority.front() == '[') {
    const std::size_t close = authority.find(']');
    if (close == authority.npos) return bad(fmt::format("'{}' has no closing ']'", authority));
    host = authority.substr(1, close - 1);
    const std::string_view rest = authority.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') return bad(fmt::format("'{}' after ']' is not ':port'", rest));
    has_port = !rest.empty();
    if (has_port) port = rest.substr(1);
    parts.adrfam = "IPv6";
  } else if (const std::size_t colon = authority.find(':'); colon != authority.npos) {
    host = authority.substr(0, colon);
    port = authority.substr(colon + 1);
    has_port = true;
    if (port.find(':') != port.npos) return bad(fmt::format("write the IPv6 address in '{}' as [address]", authority));
  }
  LEAP_TRY(std::string decoded, percent_decode(host));
  if (decoded.empty()) return bad("the URI has no host");
  parts.traddr = std::move(decoded);
  if (has_port) parts.trsvcid = std::string(port);
  return {};
}

Result<> split_query(std::string_view query, Parts& parts) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view item = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const std::size_t equals = item.find('=');
    if (equals == item.npos) return bad(fmt::format("'{}' in the query is not of the form key=value", item));
    const std::string_view key = item.substr(0, equals);
    if (key != "ns" && key != "hostnqn") {
      return bad(fmt::format("unknown key '{}' in the query (known: ns, hostnqn)", key));
    }
    LEAP_TRY(std::string value, percent_decode(item.substr(equals + 1)));
    auto* slot = parts.slot(key);
    if (slot->has_value()) return bad(fmt::format("key '{}' is given twice", key));
    if (value.empty()) return bad(fmt::format("key '{}' has no value", key));
    *slot = std::move(value);
  }
  return {};
}

/// Splits "nvme+<transport>://authority/path?query".
Result<Parts> split_uri(std::string_view text) {
  Parts parts;
  const std::size_t scheme_end = text.find("://");
  if (scheme_end == text.npos) return bad(fmt::format("'{}' is not of the form nvme+transport://...", text));
  const std::string_view transport = text.substr(5, scheme_end - 5);  // after "nvme+"
  LEAP_TRY(const Trtype trtype, parse_trtype(transport));
  parts.trtype = std::string(transport);
  std::string_view rest = text.substr(scheme_end + 3);
  if (rest.find('#') != rest.npos) return bad("a fragment after '#' is not allowed in the URI");
  if (const std::size_t question = rest.find('?'); question != rest.npos) {
    LEAP_TRY_VOID(split_query(rest.substr(question + 1), parts));
    rest = rest.substr(0, question);
  }
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  const std::string_view authority = rest.substr(0, slash);
  const std::string_view path = rest.substr(slash);
  switch (trtype) {
    case Trtype::kVfioUser: {
      if (!authority.empty()) {
        return bad(fmt::format("'{}' stands where nothing may: write nvme+vfio-user:///path/to/socket", authority));
      }
      LEAP_TRY(std::string decoded, percent_decode(path));
      if (decoded.size() < 2) return bad("the URI has no socket path");
      parts.traddr = std::move(decoded);
      break;
    }
    case Trtype::kPcie:
      if (authority.empty()) return bad("the URI has no PCI address");
      if (path.size() > 1) return bad(fmt::format("'{}' after the PCI address is not allowed", path));
      parts.traddr = std::string(authority);
      break;
    case Trtype::kTcp:
    case Trtype::kRdma: {
      LEAP_TRY_VOID(split_authority(authority, parts));
      if (path.size() > 1) {
        LEAP_TRY(std::string decoded, percent_decode(path.substr(1)));
        parts.subnqn = std::move(decoded);
      }
      break;
    }
  }
  return parts;
}

/// adrfam, traddr, trsvcid of a transport over IP.
Result<> judge_ip(const Parts& parts, TransportAddress& address) {
  const std::string& host = address.traddr;
  const bool v4 = is_ipv4(host);
  const bool v6 = is_ipv6(host);
  if (!v4 && !v6 && !is_host_name(host)) {
    return bad(fmt::format("traddr '{}' is not an IP address or a host name", host));
  }
  address.adrfam = v4 ? Adrfam::kIpv4 : v6 ? Adrfam::kIpv6 : Adrfam::kNone;
  if (parts.adrfam) {
    LEAP_TRY(const Adrfam wanted, parse_adrfam(*parts.adrfam));
    if ((v4 || v6) && wanted != address.adrfam) {
      return bad(fmt::format("traddr '{}' is not an {} address", host, to_string(wanted)));
    }
    address.adrfam = wanted;
  }
  address.trsvcid = address.is_discovery() ? kNvmeTcpDiscoveryPort : kNvmeTcpPort;
  if (parts.trsvcid) {
    LEAP_TRY(address.trsvcid, parse_port(*parts.trsvcid));
  }
  if (address.is_discovery() && address.nsid)
    return bad("a namespace id needs a subnqn: the discovery service has none");
  return {};
}

/// traddr of PCIe and vfio-user, which have neither family nor port.
Result<> judge_local(const Parts& parts, TransportAddress& address) {
  if (parts.adrfam) return bad(fmt::format("adrfam does not go with trtype {}", to_string(address.trtype)));
  if (parts.trsvcid) return bad(fmt::format("trsvcid does not go with trtype {}", to_string(address.trtype)));
  if (address.trtype == Trtype::kPcie) {
    auto pci = canonical_pci(address.traddr);
    if (!pci) return bad(fmt::format("traddr '{}' is not a PCI address such as 0000:01:00.0", address.traddr));
    address.traddr = std::move(*pci);
  } else if (address.traddr.front() != '/') {
    return bad(fmt::format("traddr '{}' is not an absolute path", address.traddr));
  }
  return {};
}

Result<TransportAddress> judge(const Parts& parts) {
  if (!parts.trtype) return bad("trtype is missing");
  if (!parts.traddr) return bad("traddr is missing");
  TransportAddress address;
  LEAP_TRY(address.trtype, parse_trtype(*parts.trtype));
  address.traddr = *parts.traddr;
  if (std::any_of(address.traddr.begin(), address.traddr.end(), is_control_or_blank)) {
    return bad("traddr holds a blank or a control character");
  }
  if (!address.over_ip()) address.subnqn.clear();
  if (parts.subnqn) {
    LEAP_TRY_VOID(validate_nqn(*parts.subnqn));
    address.subnqn = *parts.subnqn;
  }
  if (parts.hostnqn) {
    LEAP_TRY_VOID(validate_nqn(*parts.hostnqn));
    address.hostnqn = *parts.hostnqn;
  }
  if (parts.ns) {
    LEAP_TRY(address.nsid, parse_nsid(*parts.ns));
  }
  LEAP_TRY_VOID(address.over_ip() ? judge_ip(parts, address) : judge_local(parts, address));
  return address;
}

Result<TransportAddress> parse_either(std::string_view text) {
  if (text.size() > kMaxAddressText) {
    return bad(fmt::format("it has {} bytes, more than {}", text.size(), kMaxAddressText));
  }
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  if (text.empty()) return bad("it is empty");
  const bool is_uri = starts_ignoring_case(text, "nvme+");
  LEAP_TRY(const Parts parts, is_uri ? split_uri(text) : split_spdk(text));
  return judge(parts);
}

}  // namespace

std::string_view to_string(Trtype trtype) {
  switch (trtype) {
    case Trtype::kTcp: return "TCP";
    case Trtype::kRdma: return "RDMA";
    case Trtype::kPcie: return "PCIE";
    case Trtype::kVfioUser: return "VFIOUSER";
  }
  return "unknown";
}

std::string_view to_string(Adrfam adrfam) {
  switch (adrfam) {
    case Adrfam::kNone: return "none";
    case Adrfam::kIpv4: return "IPv4";
    case Adrfam::kIpv6: return "IPv6";
  }
  return "unknown";
}

Result<TransportAddress> TransportAddress::parse(std::string_view text) {
  auto address = parse_either(text);
  if (address) return address;
  constexpr std::size_t kShown = 128;
  std::string shown(text.substr(0, kShown));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < 0x20 || c == 0x7F; }, '?');
  if (text.size() > kShown) shown += "...";
  return std::move(address).error().in(ErrorDomain::kConfig).context(fmt::format("NVMe address '{}'", shown));
}

bool TransportAddress::looks_like(std::string_view text) {
  if (starts_ignoring_case(text, "nvme+")) return true;
  constexpr std::string_view kKey = "trtype";
  for (std::size_t i = 0; i + kKey.size() < text.size(); ++i) {
    const char after = text[i + kKey.size()];
    if ((i == 0 || is_blank(text[i - 1])) && (after == ':' || after == '=') &&
        starts_ignoring_case(text.substr(i), kKey)) {
      return true;
    }
  }
  return false;
}

std::string TransportAddress::endpoint() const {
  if (!over_ip()) return traddr;
  const bool brackets = traddr.find(':') != std::string::npos;
  return brackets ? fmt::format("[{}]:{}", traddr, trsvcid) : fmt::format("{}:{}", traddr, trsvcid);
}

std::string TransportAddress::to_string() const {
  std::string text = fmt::format("trtype:{}", leap::nvme::to_string(trtype));
  if (adrfam != Adrfam::kNone) text += fmt::format(" adrfam:{}", leap::nvme::to_string(adrfam));
  text += fmt::format(" traddr:{}", traddr);
  if (over_ip()) text += fmt::format(" trsvcid:{}", trsvcid);
  if (!subnqn.empty()) text += fmt::format(" subnqn:{}", subnqn);
  if (!hostnqn.empty()) text += fmt::format(" hostnqn:{}", hostnqn);
  if (nsid) text += fmt::format(" ns:{}", *nsid);
  return text;
}

}  // namespace leap::nvme
