// CompatibilityPolicy: which clients may use this worker, decided on the first Open of a connection.
//
//   step                                                                     diagnose   enforce
//   release version is blocked                                               reject     reject
//   protocol version outside ours                                            warn       reject
//   a minimum is set, and the release is older, absent or not a version      warn       reject
//   the client does not say who it is                                        allow      reject
//
// Versions are [v]X.Y.Z[-prerelease][+build], ordered as semantic versions; the build is ignored. A bound or mode in
// the configuration that makes no sense is as if it were not there, as Curvine treats it.
//
// Threading: immutable after construction.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "proto/common.pb.h"

namespace leap {

struct ReleaseVersion {
  std::uint64_t major = 0;
  std::uint64_t minor = 0;
  std::uint64_t patch = 0;
  std::string prerelease;  ///< "alpha.1"; empty: a release, which comes after all its prereleases

  static std::optional<ReleaseVersion> parse(std::string_view text);
  friend std::strong_ordering operator<=>(const ReleaseVersion& a, const ReleaseVersion& b);
  friend bool operator==(const ReleaseVersion& a, const ReleaseVersion& b) { return (a <=> b) == 0; }
};

struct CompatibilityConfig {
  std::string mode = "diagnose";  ///< or "enforce"
  std::string min_client_version;
  std::vector<std::string> blocked_versions;
};

class CompatibilityPolicy {
 public:
  enum class Verdict : std::uint8_t { kAllow, kWarn, kReject };
  struct Decision {
    Verdict verdict = Verdict::kAllow;
    std::string reason;  ///< empty when allowed
  };

  CompatibilityPolicy() : CompatibilityPolicy(CompatibilityConfig{}) {}
  explicit CompatibilityPolicy(const CompatibilityConfig& config);

  /// `info`: nullptr when the client sent none.
  [[nodiscard]] Decision judge(const proto::ComponentInfoProto* info) const;

 private:
  [[nodiscard]] Decision doubt(std::string reason) const;

  bool enforce_;
  std::optional<ReleaseVersion> minimum_;
  std::vector<std::string> blocked_;
};

/// The policy at one connection: asked at every Open until the client has been let in.
class ClientGate {
 public:
  ClientGate(const CompatibilityPolicy& policy, std::string peer) : policy_(policy), peer_(std::move(peer)) {}

  /// Error kWrongState: "client rejected by compatibility policy: ...". A doubtful client is logged and let in.
  [[nodiscard]] Result<> admit(const proto::ComponentInfoProto* info);
  [[nodiscard]] const std::string& peer() const { return peer_; }

 private:
  const CompatibilityPolicy& policy_;
  const std::string peer_;
  bool admitted_ = false;
};

}  // namespace leap
