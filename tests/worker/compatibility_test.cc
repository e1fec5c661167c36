#include "worker/compatibility.h"

#include <gtest/gtest.h>

namespace leap {
namespace {

using Verdict = CompatibilityPolicy::Verdict;

proto::ComponentInfoProto client(const std::string& version, std::uint32_t protocol = 1) {
  proto::ComponentInfoProto info;
  info.set_release_version(version);
  info.set_protocol_version(protocol);
  return info;
}

Verdict judge(const CompatibilityConfig& config, const proto::ComponentInfoProto* info) {
  return CompatibilityPolicy(config).judge(info).verdict;
}

TEST(ReleaseVersion, OrdersAsSemanticVersionsDo) {
  const char* ascending[] = {"0.3.6-alpha", "0.4.0-alpha",  "0.4.0-alpha.1", "0.4.0-alpha.beta",
                             "0.4.0-beta",  "0.4.0-beta.2", "0.4.0-beta.11", "0.4.0-rc.1",
                             "0.4.0",       "v0.4.1",       "0.10.0",        "1.0.0"};
  for (std::size_t i = 0; i < std::size(ascending); ++i) {
    for (std::size_t k = 0; k < std::size(ascending); ++k) {
      const auto a = ReleaseVersion::parse(ascending[i]).value(), b = ReleaseVersion::parse(ascending[k]).value();
      EXPECT_EQ(a < b, i < k) << ascending[i] << " " << ascending[k];
      EXPECT_EQ(a == b, i == k);
    }
  }
  EXPECT_EQ(ReleaseVersion::parse("0.4.1+spdk.3"), ReleaseVersion::parse("v0.4.1"));
}

TEST(ReleaseVersion, WhatIsNoVersionIsNone) {
  for (const char* text :
       {"", "v", "1", "1.2", "1.2.3.4", "1.2.x", "1.2.3-", "1..3", "-1.2.3", "99999999999999999999.0.0"}) {
    EXPECT_FALSE(ReleaseVersion::parse(text).has_value()) << text;
  }
}

TEST(CompatibilityPolicy, DecidesAsTheTableSays) {
  const CompatibilityConfig plain{};
  CompatibilityConfig diagnose, enforce;
  diagnose.min_client_version = enforce.min_client_version = "0.4.0";
  diagnose.blocked_versions = enforce.blocked_versions = {"0.4.5"};
  enforce.mode = "enforce";
  struct Case {
    const char* what;
    proto::ComponentInfoProto info;
    Verdict diagnose, enforce;
  };
  const Case cases[] = {
      {"equal", client("0.4.0"), Verdict::kAllow, Verdict::kAllow},
      {"newer", client("1.0.0"), Verdict::kAllow, Verdict::kAllow},
      {"older", client("0.3.6-alpha"), Verdict::kWarn, Verdict::kReject},
      {"absent", client(""), Verdict::kWarn, Verdict::kReject},
      {"unparseable", client("trunk"), Verdict::kWarn, Verdict::kReject},
      {"blocked", client("0.4.5"), Verdict::kReject, Verdict::kReject},
      {"blocked with build", client("v0.4.5+x"), Verdict::kReject, Verdict::kReject},
      {"other protocol", client("0.4.0", 2), Verdict::kWarn, Verdict::kReject},
      {"protocol 0", client("0.4.0", 0), Verdict::kWarn, Verdict::kReject},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(judge(diagnose, &c.info), c.diagnose) << c.what;
    EXPECT_EQ(judge(enforce, &c.info), c.enforce) << c.what;
  }
  EXPECT_EQ(judge(plain, nullptr), Verdict::kAllow);
  EXPECT_EQ(judge(diagnose, nullptr), Verdict::kAllow);
  EXPECT_EQ(judge(enforce, nullptr), Verdict::kReject);
  proto::ComponentInfoProto silent;  // protocol_version absent: 1
  silent.set_release_version("0.4.0");
  EXPECT_EQ(judge(enforce, &silent), Verdict::kAllow);
}

TEST(CompatibilityPolicy, NonsenseInTheConfigurationDegradesToLenient) {
  CompatibilityConfig config;
  config.mode = "paranoid";
  config.min_client_version = "latest";
  const auto old = client("0.0.1");
  EXPECT_EQ(judge(config, &old), Verdict::kAllow);
  EXPECT_EQ(judge(config, nullptr), Verdict::kAllow);
}

TEST(ClientGate, ForgetsARejectionAndRemembersAnAdmission) {
  CompatibilityConfig config;
  config.mode = "enforce";
  const CompatibilityPolicy policy(config);
  ClientGate gate(policy, "10.0.0.1:5");
  EXPECT_FALSE(gate.admit(nullptr).ok());
  const auto info = client("0.4.1");
  EXPECT_TRUE(gate.admit(&info).ok());
  EXPECT_TRUE(gate.admit(nullptr).ok());
}

}  // namespace
}  // namespace leap
