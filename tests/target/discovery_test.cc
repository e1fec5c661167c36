// What the discovery service of a target lists, for whom, and how its persistent hosts hear of changes.
#include "nvme/discovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nvme/log_page.h"
#include "rig.h"
#include "target/discovery_service.h"

namespace leap::target::testing {
namespace {

using nvme::DiscoveryEntry;
using nvme::DiscoverySubtype;
using nvme::LogPage;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kNqn = "nqn.2024-01.io.leap:test";

SocketAddress address(const char* text) { return SocketAddress::parse(text).value(); }

struct Log {
  nvme::DiscoveryHeader header;
  std::vector<DiscoveryEntry> entries;

  [[nodiscard]] std::vector<std::string> of(DiscoverySubtype subtype) const {
    std::vector<std::string> found;
    for (const DiscoveryEntry& entry : entries) {
      if (entry.subtype == subtype) found.push_back(std::string(entry.address()) + " " + std::string(entry.service()));
    }
    return found;
  }
};

/// An enabled discovery controller.
std::unique_ptr<TestHost> discovery_host(Rig& rig, std::uint32_t kato_ms = 0) {
  auto host = rig.ready();
  host->subnqn = nvme::kDiscoveryNqn;
  EXPECT_TRUE(host->connect(0, 0xFFFF, 32, kato_ms).ok());
  EXPECT_TRUE(host->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
  return host;
}

Log read_log(TestHost& host, bool retain = false) {
  constexpr std::uint32_t kBytes = 16 * 1024;
  const nvme::GetLogPageFields fields{.lid = LogPage::kDiscovery, .bytes = kBytes, .retain_event = retain};
  const Reply reply = host.execute(nvme::make_get_log_page(fields), {}, Via::kR2T, kBytes);
  EXPECT_TRUE(reply.ok());
  Log log{nvme::wire::load<nvme::DiscoveryHeader>(reply.data).value(), {}};
  for (std::uint64_t i = 0; i < log.header.numrec; ++i) {
    log.entries.push_back(nvme::wire::load<DiscoveryEntry>(reply.data, nvme::discovery_entry_offset(i)).value());
  }
  return log;
}

TargetConfig listening(std::vector<const char*> addresses) {
  TargetConfig config;
  for (const char* text : addresses) config.listen.push_back(address(text));
  return config;
}

TEST(DiscoveryLog, ListsEveryListenerAtTheAddressTheHostReached) {
  Rig rig(listening({"0.0.0.0:4420", "10.1.2.3:4421"}));
  auto host = discovery_host(rig);
  const Log log = read_log(*host);
  EXPECT_EQ(log.header.recfmt, 0);
  EXPECT_THAT(log.of(DiscoverySubtype::kCurrentDiscovery), ElementsAre("192.0.2.7 4420", "10.1.2.3 4421"));
  EXPECT_THAT(log.of(DiscoverySubtype::kNvm), ElementsAre("192.0.2.7 4420", "10.1.2.3 4421"));
  ASSERT_EQ(log.entries.size(), 4U);
  EXPECT_NE(log.entries[2].portid, log.entries[3].portid);
  EXPECT_EQ(log.entries[0].portid, log.entries[2].portid);
}

TEST(DiscoveryLog, SaysWhatHostsNeedToConnect) {
  Rig rig;
  auto host = discovery_host(rig);
  const Log log = read_log(*host);
  ASSERT_EQ(log.entries.size(), 2U);
  for (const DiscoveryEntry& entry : log.entries) {
    EXPECT_EQ(entry.trtype, nvme::DiscoveryTrtype::kTcp);
    EXPECT_EQ(entry.adrfam, nvme::DiscoveryAdrfam::kIpv4);
    EXPECT_EQ(entry.treq, nvme::kTreqDisableSqFlowControl) << "as the Linux target: tools know no other";
    EXPECT_EQ(entry.cntlid, nvme::kDynamicCntlid);
    EXPECT_GE(entry.asqsz, 32);
    EXPECT_EQ(entry.tsas[0], 0);
  }
  EXPECT_EQ(log.entries[0].subsystem_nqn(), nvme::kDiscoveryNqn);
  EXPECT_EQ(log.entries[0].eflags, nvme::kEflagsExplicitPersistent | nvme::kEflagsDuplicateInfo);
  EXPECT_EQ(log.entries[1].subsystem_nqn(), kNqn);
  EXPECT_EQ(log.entries[1].eflags, 0);
}

TEST(DiscoveryLog, CanBeReadInPieces) {
  Rig rig;
  auto host = discovery_host(rig);
  const Log log = read_log(*host);
  const nvme::GetLogPageFields fields{.lid = LogPage::kDiscovery, .bytes = 1024, .offset = 2048};
  const Reply piece = host->execute(nvme::make_get_log_page(fields), {}, Via::kR2T, 1024);
  ASSERT_TRUE(piece.ok());
  EXPECT_EQ(nvme::wire::load<DiscoveryEntry>(piece.data).value(), log.entries.at(1));
}

TEST(DiscoveryLog, IsOfTheAddressFamilyTheHostCameThrough) {
  DiscoveryService service(kNqn, 32);
  service.set_addresses({address("[::]:4420"), address("0.0.0.0:4421"), address("[fe80::1]:4422")});
  const auto listed = [&](const char* reached) {
    std::vector<std::string> found;
    const auto page = service.page("nqn.2024-01.io.leap:host", address(reached));
    for (std::size_t at = 1024; at < page.size(); at += 1024) {
      const auto entry = nvme::wire::load<DiscoveryEntry>(page, at).value();
      const bool v6 = entry.adrfam == nvme::DiscoveryAdrfam::kIpv6;
      if (entry.subtype == DiscoverySubtype::kNvm) found.push_back((v6 ? "6 " : "4 ") + std::string(entry.address()));
    }
    return found;
  };
  EXPECT_THAT(listed("[2001:db8::7]:4420"), ElementsAre("6 2001:db8::7", "6 fe80::1"));
  EXPECT_THAT(listed("[::ffff:192.0.2.7]:4420"), ElementsAre("4 192.0.2.7", "4 192.0.2.7", "6 fe80::1"));
  EXPECT_THAT(listed("192.0.2.7:4421"), ElementsAre("4 192.0.2.7", "4 192.0.2.7", "6 fe80::1"));
}

TEST(DiscoveryLog, ShowsHostsThatMayNotConnectNothingButItself) {
  TargetConfig config;
  config.allowed_hosts = {"nqn.2024-01.io.leap:friend"};
  config.referrals = {address("10.9.9.9:8009")};
  Rig rig(config);
  auto stranger = discovery_host(rig);
  const Log log = read_log(*stranger);
  EXPECT_THAT(log.of(DiscoverySubtype::kNvm), ElementsAre());
  EXPECT_THAT(log.of(DiscoverySubtype::kCurrentDiscovery), ElementsAre("127.0.0.1 4420"));
  EXPECT_THAT(log.of(DiscoverySubtype::kReferral), ElementsAre("10.9.9.9 8009"));
  auto friendly = rig.ready();
  friendly->identity.nqn = "nqn.2024-01.io.leap:friend";
  friendly->subnqn = nvme::kDiscoveryNqn;
  ASSERT_TRUE(friendly->connect(0).ok());
  ASSERT_TRUE(friendly->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
  EXPECT_THAT(read_log(*friendly).of(DiscoverySubtype::kNvm), ElementsAre("127.0.0.1 4420"));
}

TEST(DiscoveryLog, PointsToOtherDiscoveryServices) {
  TargetConfig config;
  config.referrals = {address("10.9.9.9:8009"), address("[2001:db8::9]:8009")};
  Rig rig(config);
  auto host = discovery_host(rig);
  const Log log = read_log(*host);
  EXPECT_THAT(log.of(DiscoverySubtype::kReferral), ElementsAre("10.9.9.9 8009", "2001:db8::9 8009"));
  EXPECT_EQ(log.entries.back().subsystem_nqn(), nvme::kDiscoveryNqn);
  EXPECT_EQ(log.entries.back().adrfam, nvme::DiscoveryAdrfam::kIpv6);
}

TEST(DiscoveryLog, RefusesReferralsThatLeadNowhere) {
  Rig rig;
  EXPECT_THAT(rig.target().set_referrals({address("10.9.9.9:0")}).error().message(), HasSubstr("nowhere"));
  EXPECT_THAT(rig.target().set_referrals({address("0.0.0.0:8009")}).error().message(), HasSubstr("nowhere"));
  EXPECT_THAT(rig.target().set_referrals(std::vector(65, address("10.9.9.9:8009"))).error().message(),
              HasSubstr("at most 64"));
  EXPECT_FALSE(rig.target().set_allowed_hosts({"somebody"}).ok());
}

class DiscoveryChange : public ::testing::Test {
 protected:
  DiscoveryChange() : host(discovery_host(rig, 60'000)) {
    const auto config = nvme::AsyncEventConfig{.discovery_log_change = true}.to_dword();
    EXPECT_TRUE(host->execute(nvme::make_set_features(nvme::FeatureId::kAsyncEventConfiguration, config)).ok());
  }
  std::optional<Reply> event(nvme::Cid cid) {
    while (host->pump()) {
    }
    return host->take_reply(cid);
  }

  Rig rig;
  std::unique_ptr<TestHost> host;
};

TEST_F(DiscoveryChange, CountsAndIsReportedUntilTheLogWasRead) {
  const std::uint64_t before = read_log(*host).header.genctr;
  const auto first = host->submit(nvme::make_async_event_request());
  EXPECT_FALSE(event(first));
  ASSERT_TRUE(rig.target().set_referrals({address("10.9.9.9:8009")}).ok());
  const auto reported = event(first);
  ASSERT_TRUE(reported);
  EXPECT_EQ(nvme::AsyncEvent::from_dword(reported->cqe.dw0), nvme::kDiscoveryChangedEvent);
  const auto second = host->submit(nvme::make_async_event_request());
  ASSERT_TRUE(rig.target().set_allowed_hosts({"nqn.2024-01.io.leap:friend"}).ok());
  EXPECT_FALSE(event(second)) << "masked";
  EXPECT_EQ(read_log(*host, true).header.genctr, before + 2);
  EXPECT_EQ(read_log(*host).header.genctr, before + 2);
  ASSERT_TRUE(rig.target().set_allowed_hosts({}).ok());
  EXPECT_TRUE(event(second)) << "reading it re-arms the event";
}

TEST_F(DiscoveryChange, IsNoneWhenNothingChanged) {
  const std::uint64_t before = read_log(*host).header.genctr;
  const auto cid = host->submit(nvme::make_async_event_request());
  ASSERT_TRUE(rig.target().set_referrals({}).ok());
  rig.target().notify_namespace_changed(1);
  EXPECT_FALSE(event(cid));
  EXPECT_EQ(read_log(*host).header.genctr, before);
}

TEST_F(DiscoveryChange, DoesNotConcernIoControllers) {
  auto other = rig.admin();
  const auto everything = nvme::AsyncEventConfig{.namespace_attribute = true, .discovery_log_change = true}.to_dword();
  ASSERT_TRUE(other->execute(nvme::make_set_features(nvme::FeatureId::kAsyncEventConfiguration, everything)).ok());
  const auto cid = other->submit(nvme::make_async_event_request());
  ASSERT_TRUE(rig.target().set_referrals({address("10.9.9.9:8009")}).ok());
  while (other->pump()) {
  }
  EXPECT_FALSE(other->take_reply(cid));
}

}  // namespace
}  // namespace leap::target::testing
