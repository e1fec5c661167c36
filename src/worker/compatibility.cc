#include "worker/compatibility.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/log.h"
#include "rpc/component.h"

namespace leap {
namespace {

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view next_part(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  const std::string_view part = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return part;
}

/// Dot-separated identifiers: numbers by value and before words, words by character, fewer before more (SemVer 2.0.0,
/// 11.4).
std::strong_ordering compare_prerelease(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    const std::string_view left = next_part(a, '.'), right = next_part(b, '.');
    const auto left_number = number(left), right_number = number(right);
    std::strong_ordering order = left.compare(right) <=> 0;
    if (left_number && right_number)
      order = *left_number <=> *right_number;
    else if (left_number || right_number)
      order = left_number ? std::strong_ordering::less : std::strong_ordering::greater;
    if (order != 0) return order;
  }
  return !a.empty() <=> !b.empty();
}

}  // namespace

std::optional<ReleaseVersion> ReleaseVersion::parse(std::string_view text) {
  if (text.starts_with('v') || text.starts_with('V')) text.remove_prefix(1);
  text = text.substr(0, text.find('+'));
  ReleaseVersion version;
  if (const std::size_t dash = text.find('-'); dash != std::string_view::npos) {
    version.prerelease = text.substr(dash + 1);
    if (version.prerelease.empty()) return std::nullopt;
    text = text.substr(0, dash);
  }
  if (std::ranges::count(text, '.') != 2) return std::nullopt;
  const auto major = number(next_part(text, '.')), minor = number(next_part(text, '.')), patch = number(text);
  if (!major || !minor || !patch) return std::nullopt;
  version.major = *major;
  version.minor = *minor;
  version.patch = *patch;
  return version;
}

std::strong_ordering operator<=>(const ReleaseVersion& a, const ReleaseVersion& b) {
  if (const auto order = a.major <=> b.major; order != 0) return order;
  if (const auto order = a.minor <=> b.minor; order != 0) return order;
  if (const auto order = a.patch <=> b.patch; order != 0) return order;
  if (a.prerelease.empty() || b.prerelease.empty()) return a.prerelease.empty() <=> b.prerelease.empty();
  return compare_prerelease(a.prerelease, b.prerelease);
}

CompatibilityPolicy::CompatibilityPolicy(const CompatibilityConfig& config)
    : enforce_(config.mode == "enforce"),
      minimum_(ReleaseVersion::parse(config.min_client_version)),
      blocked_(config.blocked_versions) {}

CompatibilityPolicy::Decision CompatibilityPolicy::doubt(std::string reason) const {
  return {enforce_ ? Verdict::kReject : Verdict::kWarn, std::move(reason)};
}

CompatibilityPolicy::Decision CompatibilityPolicy::judge(const proto::ComponentInfoProto* info) const {
  if (info == nullptr) {
    if (!enforce_) return {};
    return {Verdict::kReject, "the client does not report its version"};
  }
  const std::string& release = info->release_version();
  const auto version = ReleaseVersion::parse(release);
  const bool blocked = std::ranges::any_of(blocked_, [&](const std::string& entry) {
    const auto other = ReleaseVersion::parse(entry);
    return entry == release || (version && other && *version == *other);
  });
  if (blocked) return {Verdict::kReject, fmt::format("version {} is blocked", release)};
  if (info->protocol_version() != rpc::kProtocolVersion) {
    return doubt(fmt::format("protocol version {} instead of {}", info->protocol_version(), rpc::kProtocolVersion));
  }
  if (minimum_ && !version) return doubt(fmt::format("'{}' is no version", release));
  if (minimum_ && *version < *minimum_) return doubt(fmt::format("version {} is too old", release));
  return {};
}

Result<> ClientGate::admit(const proto::ComponentInfoProto* info) {
  if (admitted_) return {};
  const CompatibilityPolicy::Decision decision = policy_.judge(info);
  if (decision.verdict == CompatibilityPolicy::Verdict::kReject) {
    return Error(Errc::kWrongState, fmt::format("client rejected by compatibility policy: {}", decision.reason))
        .in(ErrorDomain::kRpc);
  }
  static RateLimiter limiter(10, std::chrono::minutes(1));
  if (decision.verdict == CompatibilityPolicy::Verdict::kWarn) {
    if (const auto pass = limiter.admit()) {
      log_warn("client {} may be incompatible: {} ({} more not logged)", peer_, decision.reason, pass->suppressed);
    }
  }
  admitted_ = true;
  return {};
}

}  // namespace leap
