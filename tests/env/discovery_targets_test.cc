// Targets of the configuration that are discovery services: what they list is connected.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "env_fixture.h"
#include "support/local_target.h"

namespace leap::test {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using namespace std::chrono_literals;

constexpr const char* kFirst = "nqn.2024-01.io.leap:first";
constexpr const char* kSecond = "nqn.2024-01.io.leap:second";

nvme::TransportAddress discovery_of(const LocalTarget& target) {
  nvme::TransportAddress address = target.address();
  address.subnqn = nvme::kDiscoveryNqn;
  return address;
}

TEST(DiscoveryTargets, WhatAServiceAndItsReferralsListIsConnected) {
  LocalTarget first({.nqn = kFirst, .devices = {"mem:?size=8MiB"}});
  LocalTarget second({.nqn = kSecond, .devices = {"mem:?size=8MiB"}});
  first.target().set_referrals({second.endpoint()}).value();
  second.target().set_referrals({first.endpoint()}).value();
  NvmeEnvConfig config = small_config({discovery_of(first)});
  config.targets[0].header_digest = true;
  auto env = NvmeEnv::start(config).value();
  const auto targets = env->targets();
  ASSERT_THAT(targets, SizeIs(2));
  EXPECT_EQ(targets[0].address.subnqn, kFirst);
  EXPECT_EQ(targets[1].address.subnqn, kSecond);
  for (const TargetStatus& target : targets) EXPECT_TRUE(target.up) << target.error->to_string();
  EXPECT_THAT(env->devices(), SizeIs(2));
  for (const auto& controller : env->controllers()) EXPECT_TRUE(controller->config().header_digest);
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST(DiscoveryTargets, OneAddressOfASubsystemIsOneTarget) {
  LocalTarget first({.nqn = kFirst, .devices = {"mem:?size=8MiB"}});
  LocalTarget second({.nqn = kSecond, .devices = {"mem:?size=8MiB"}});
  second.target().set_referrals({first.endpoint()}).value();
  NvmeEnvConfig config = small_config({discovery_of(first), discovery_of(second), first.address()});
  config.targets[2].data_digest = true;
  auto env = NvmeEnv::start(config).value();
  const auto targets = env->targets();
  ASSERT_THAT(targets, SizeIs(2));
  EXPECT_EQ(targets[0].address.subnqn, kSecond);
  EXPECT_EQ(targets[1].address.subnqn, kFirst);
  EXPECT_TRUE(env->controllers()[1]->config().data_digest) << "what is configured by name is taken as configured";
  EXPECT_THAT(env->devices(), SizeIs(2));
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST(DiscoveryTargets, AServiceWithoutAnAnswerIsReportedAndTheOthersAreUp) {
  LocalTarget target({.nqn = kFirst, .devices = {"mem:?size=8MiB"}});
  TargetConfig for_friends;
  for_friends.allowed_hosts = {"nqn.2024-01.io.leap:friend"};
  LocalTarget strict({.nqn = kSecond, .devices = {"mem:?size=8MiB"}, .target = for_friends});
  nvme::TransportAddress nobody = discovery_of(target);
  nvme::TransportAddress nameless = discovery_of(target);
  nameless.traddr = "no-such-host.invalid";
  nobody.trsvcid = 1;
  auto env = NvmeEnv::start(small_config({nobody, nameless, discovery_of(strict), discovery_of(target)})).value();
  const auto targets = env->targets();
  ASSERT_THAT(targets, SizeIs(4));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_FALSE(targets[i].up);
    ASSERT_TRUE(targets[i].error.has_value()) << i;
  }
  EXPECT_THAT(targets[0].error->message(), HasSubstr("refused"));
  EXPECT_THAT(targets[1].error->message(), HasSubstr("no-such-host.invalid"));
  EXPECT_EQ(targets[2].error->kind(), Errc::kNotFound) << targets[2].error->to_string();
  EXPECT_TRUE(targets[3].up);
  EXPECT_TRUE(env->stop(5s).ok());
}

}  // namespace
}  // namespace leap::test
