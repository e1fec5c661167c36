#include "target/config.h"

#include <algorithm>
#include <bit>
#include <set>

#include <fmt/format.h>

#include "memory/dma_pool.h"
#include "nvme/nqn.h"
#include "target/chaos/spec.h"
#include "target/discovery_service.h"

namespace leap {
namespace {

constexpr std::size_t kMaxReferrals = 64;

Error bad(std::string what) {
  return Error(Errc::kInvalidArgument, "NVMe target: " + std::move(what)).in(ErrorDomain::kConfig);
}

Result<> in_range(const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high,
                  std::uint64_t multiple = 1) {
  if (value >= low && value <= high && value % multiple == 0) return {};
  if (multiple == 1) return bad(fmt::format("{} is {}, must be {} to {}", name, value, low, high));
  return bad(fmt::format("{} is {}, must be a multiple of {} from {} to {}", name, value, multiple, low, high));
}

Result<> positive(const char* name, Nanos value) {
  if (value > Nanos{0}) return {};
  return bad(fmt::format("{} must be positive", name));
}

Result<> printable(const char* name, const std::string& text, std::size_t limit) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
  if (text.size() <= limit && ascii) return {};
  return bad(fmt::format("{} must be at most {} printable ASCII characters", name, limit));
}

Result<> check_limits(const TargetConfig& c) {
  LEAP_TRY_VOID(in_range("queue_depth", c.queue_depth, 2, 1024));
  LEAP_TRY_VOID(in_range("max_io_queues", c.max_io_queues, 1, 1024));
  LEAP_TRY_VOID(in_range("max_controllers", c.max_controllers, 1, 4096));
  LEAP_TRY_VOID(in_range("max_connections", c.max_connections, 1, 65536));
  LEAP_TRY_VOID(in_range("in_capsule_data_size", c.in_capsule_data_size, 0, 64 * kKiB, 16));
  LEAP_TRY_VOID(in_range("max_io_size", c.max_io_size, 4 * kKiB, DmaPool::kMaxBuffer));
  if (!std::has_single_bit(c.max_io_size))
    return bad(fmt::format("max_io_size is {}, must be a power of two", c.max_io_size));
  LEAP_TRY_VOID(in_range("max_h2c_data", c.max_h2c_data, 4 * kKiB, kMiB, 4));
  LEAP_TRY_VOID(in_range("max_c2h_data", c.max_c2h_data, 16 * kKiB, kMiB, 4));
  LEAP_TRY_VOID(in_range("max_r2t_bytes", c.max_r2t_bytes, 4 * kKiB, kMiB, 4));
  LEAP_TRY_VOID(in_range("max_r2ts", c.max_r2ts, 1, 16));
  LEAP_TRY_VOID(positive("handshake_timeout", c.handshake_timeout));
  LEAP_TRY_VOID(positive("stall_timeout", c.stall_timeout));
  LEAP_TRY_VOID(positive("linger_timeout", c.linger_timeout));
  return positive("max_keep_alive", c.max_keep_alive);
}

Result<> check_namespaces(std::vector<NamespaceConfig>& namespaces) {
  std::set<std::uint32_t> taken;
  for (const NamespaceConfig& ns : namespaces) {
    if (ns.device == nullptr) return bad("a namespace has no device");
    if (ns.nsid == 0) continue;
    LEAP_TRY_VOID(in_range("nsid", ns.nsid, 1, kMaxNsid));
    if (!taken.insert(ns.nsid).second) return bad(fmt::format("nsid {} is used twice", ns.nsid));
  }
  std::uint32_t next = 1;
  for (NamespaceConfig& ns : namespaces) {
    if (ns.nsid != 0) continue;
    while (taken.contains(next)) ++next;
    if (next > kMaxNsid) return bad(fmt::format("more than {} namespaces", kMaxNsid));
    ns.nsid = next;
    taken.insert(next);
  }
  std::set<std::string> names;
  for (NamespaceConfig& ns : namespaces) {
    if (ns.name.empty()) ns.name = ns.device->info().name;
    if (!names.insert(ns.name).second && ns.uuid.is_nil()) {
      return bad(fmt::format("two namespaces are named '{}': their identities would be the same", ns.name));
    }
  }
  return {};
}

}  // namespace

Result<> validate_allowed_hosts(const std::vector<std::string>& hosts) {
  for (const std::string& host : hosts) {
    if (auto named = nvme::validate_nqn(host); !named.ok()) {
      return std::move(named).error().context("NVMe target: allowed_hosts");
    }
  }
  return {};
}

Result<> validate_referrals(const std::vector<SocketAddress>& referrals) {
  if (referrals.size() > kMaxReferrals) {
    return bad(fmt::format("{} referrals, at most {} are possible", referrals.size(), kMaxReferrals));
  }
  for (const SocketAddress& referral : referrals) {
    if (referral.port() == 0 || target::is_wildcard(referral))
      return bad(fmt::format("a referral to {} leads nowhere", referral.to_string()));
  }
  return {};
}

Result<> TargetConfig::validate() {
  if (listen.empty()) return bad("no address to listen on");
  if (auto named = nvme::validate_nqn(nqn); !named.ok()) return std::move(named).error().context("NVMe target: nqn");
  if (nqn == nvme::kDiscoveryNqn) return bad("nqn is the well-known discovery NQN, which every target serves anyway");
  LEAP_TRY_VOID(validate_allowed_hosts(allowed_hosts));
  LEAP_TRY_VOID(validate_referrals(referrals));
  LEAP_TRY_VOID(printable("serial", serial, 20));
  LEAP_TRY_VOID(printable("firmware", firmware, 8));
  LEAP_TRY_VOID(check_limits(*this));
  if (auto spec = target::ChaosSpec::parse(chaos); !spec.ok()) return std::move(spec).error().context("NVMe target");
  return check_namespaces(namespaces);
}

}  // namespace leap
