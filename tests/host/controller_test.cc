// Connecting to a controller: every step, and what can go wrong with it.
#include "controller_fixture.h"

namespace leap::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(ControllerStates, FollowTheirTable) {
  using S = ControllerState;
  using E = ControllerEvent;
  EXPECT_EQ(next_state(S::kConnecting, E::kReady), S::kLive);
  EXPECT_EQ(next_state(S::kLive, E::kAdminLost), S::kFailed);
  EXPECT_EQ(next_state(S::kLive, E::kShutdown), S::kShuttingDown);
  EXPECT_EQ(next_state(S::kFailed, E::kShutdown), S::kShuttingDown);
  EXPECT_EQ(next_state(S::kShuttingDown, E::kAdminLost), S::kShuttingDown);
  EXPECT_EQ(next_state(S::kShuttingDown, E::kStopped), S::kStopped);
  for (const E event : {E::kReady, E::kAdminLost, E::kShutdown, E::kStopped}) {
    EXPECT_EQ(next_state(S::kStopped, event), S::kStopped);
  }
}

TEST_F(ControllerTest, ConnectsAndKnowsWhatItIsConnectedTo) {
  connect();
  const ControllerInfo& info = controller->info();
  EXPECT_TRUE(controller->live());
  EXPECT_EQ(info.model, "Fake Target");
  EXPECT_EQ(info.serial, "FAKE0001");
  EXPECT_EQ(info.cntlid, nvme::Cntlid{7});
  EXPECT_EQ(info.version, nvme::make_version(2, 0, 0));
  EXPECT_EQ(info.max_transfer, 128U * 1024);
  EXPECT_EQ(info.in_capsule_bytes, 8192U);
  EXPECT_EQ(info.io_queues, 4U) << "the target grants four of sixteen";
  EXPECT_EQ(info.io_queue_entries, 128U);
  EXPECT_EQ(target.kato_ms, 15000U);
}

TEST_F(ControllerTest, ReadsNamespacesWithTheirIdentities) {
  target.namespaces.resize(3);
  target.namespaces[0].uuid = Uuid::from_name("first");
  target.namespaces[1].nsid = nvme::Nsid{5};
  target.namespaces[1].block_shift = 12;
  target.namespaces[1].nguid.fill(std::byte{0x42});
  target.namespaces[2].nsid = nvme::Nsid{900};
  connect();
  const auto found = controller->namespaces();
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].uuid, Uuid::from_name("first"));
  EXPECT_EQ(found[0].block_size, 512U);
  EXPECT_EQ(found[0].blocks, 2048U);
  EXPECT_TRUE(found[0].volatile_write_cache);
  EXPECT_EQ(found[0].max_transfer, 128U * 1024);
  EXPECT_TRUE(found[0].supports(nvme::kOncsWriteZeroes));
  EXPECT_EQ(found[1].nsid, nvme::Nsid{5});
  EXPECT_EQ(found[1].block_size, 4096U);
  EXPECT_EQ(found[1].uuid.bytes, target.namespaces[1].nguid) << "no UUID: the NGUID";
  EXPECT_FALSE(found[1].uuid_is_derived);
  EXPECT_TRUE(found[2].uuid_is_derived);
  EXPECT_FALSE(found[2].uuid.is_nil());
}

TEST_F(ControllerTest, DerivedIdentitiesAreStableAndDistinct) {
  target.namespaces.resize(2);
  target.namespaces[1].nsid = nvme::Nsid{2};
  connect();
  const auto before = controller->namespaces();
  EXPECT_NE(before[0].uuid, before[1].uuid);
  ASSERT_TRUE(loop.run(controller->shutdown(seconds(1))).ok());
  controller.reset();
  connect();
  EXPECT_EQ(controller->namespaces(), before);
}

TEST_F(ControllerTest, DoesWithoutDescriptors) {
  target.options.descriptors = false;
  target.namespaces[0].nguid.fill(std::byte{0x17});
  connect();
  ASSERT_EQ(controller->namespaces().size(), 1U);
  EXPECT_EQ(controller->namespaces()[0].uuid.bytes, target.namespaces[0].nguid);
}

TEST_F(ControllerTest, LeavesOutNamespacesItCannotUse) {
  target.namespaces.resize(4);
  for (std::uint32_t i = 0; i < 4; ++i) target.namespaces[i].nsid = nvme::Nsid{i + 1};
  target.namespaces[0].metadata = 8;
  target.namespaces[1].csi = nvme::Csi::kZoned;
  target.namespaces[2].block_shift = 3;
  connect();
  ASSERT_EQ(controller->namespaces().size(), 1U);
  EXPECT_EQ(controller->namespaces()[0].nsid, nvme::Nsid{4});
}

TEST_F(ControllerTest, LooksAtABoundedNumberOfNamespaces) {
  config.max_namespaces = 3;
  target.namespaces.resize(10);
  for (std::uint32_t i = 0; i < 10; ++i) {
    target.namespaces[i].nsid = nvme::Nsid{i + 1};
    target.namespaces[i].memory.resize(4096);
  }
  connect();
  EXPECT_EQ(controller->namespaces().size(), 3U);
}

TEST_F(ControllerTest, RejectsANamespaceListThatRunsInCircles) {
  target.namespaces.resize(2);
  target.namespaces[1].nsid = nvme::Nsid{2};
  target.options.unsorted_list = true;
  const Connected connected = try_connect();
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().kind(), Errc::kProtocol);
}

TEST_F(ControllerTest, WaitsForReady) {
  target.options.ready_after = 20;
  connect();
  EXPECT_TRUE(controller->live());
}

TEST_F(ControllerTest, GivesUpOnAControllerThatNeverBecomesReady) {
  target.options.ready_after = UINT32_MAX;
  const Connected connected = try_connect();
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().kind(), Errc::kTimedOut);
  EXPECT_NE(connected.error().message().find("2000 ms"), std::string::npos) << connected.error().message();
}

TEST_F(ControllerTest, ReportsAFatalControllerStatus) {
  target.options.fatal = true;
  const Connected connected = try_connect();
  ASSERT_FALSE(connected.ok());
  EXPECT_NE(connected.error().message().find("CSTS.CFS"), std::string::npos);
}

TEST_F(ControllerTest, NamesTheSubsystemThatDoesNotExist) {
  target.options.subnqn = "nqn.2024-01.io.example:other";
  const Connected connected = try_connect();
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().kind(), Errc::kNotFound);
  EXPECT_NE(connected.error().message().find("no subsystem nqn.2024-01.io.example:fake"), std::string::npos);
}

TEST_F(ControllerTest, NamesTheHostThatIsNotAllowed) {
  target.options.allowed_host = "nqn.2024-01.io.example:somebody";
  const Connected connected = try_connect();
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().kind(), Errc::kPermission);
  EXPECT_NE(connected.error().message().find(kHost), std::string::npos);
}

TEST_F(ControllerTest, SaysThatItCannotAuthenticate) {
  target.options.authreq = 1;
  const Connected connected = try_connect();
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().kind(), Errc::kUnsupported);
}

TEST_F(ControllerTest, EverySilenceEndsWithinTheConnectTimeout) {
  // The target stops answering at the n-th command, for every n that connecting takes.
  config.connect_timeout = seconds(3);
  for (int silent_from = 0; silent_from < 40; ++silent_from) {
    SCOPED_TRACE(silent_from);
    int seen = 0;
    target.intercept = [&](FakeTarget::Connection&, const HostPdu&) { return seen++ >= silent_from; };
    const TimePoint start = loop.clock.now();
    Connected connected = try_connect();
    if (connected.ok()) {
      target.intercept = nullptr;
      controller = std::move(connected).value();
      EXPECT_GT(silent_from, 10);
      return;
    }
    EXPECT_EQ(connected.error().kind(), Errc::kTimedOut);
    EXPECT_LE(loop.clock.now() - start, seconds(3) + milliseconds(100));
    EXPECT_EQ(loop.pool.probe().bytes_in_use, 0U);
  }
  FAIL() << "connecting takes more than forty commands?";
}

TEST_F(ControllerTest, ALostConnectionAtAnyStepIsAnError) {
  for (int cut_at = 0; cut_at < 40; ++cut_at) {
    SCOPED_TRACE(cut_at);
    int seen = 0;
    target.intercept = [&](FakeTarget::Connection&, const HostPdu&) {
      if (seen++ < cut_at) return false;
      loop.net.wires.back()->peer_closed = true;
      return true;
    };
    Connected connected = try_connect();
    if (connected.ok()) {
      target.intercept = nullptr;
      controller = std::move(connected).value();
      return;
    }
    EXPECT_EQ(connected.error().kind(), Errc::kClosed);
  }
}

TEST_F(ControllerTest, MayBeDroppedWhileConnecting) {
  deaf = true;
  std::optional<Connected> result;
  loop.spawn(connect_into(loop, config, result));
  loop.settle();
  loop.poller.stop();
  EXPECT_FALSE(result.has_value());
  EXPECT_TRUE(loop.net.wire(0).host_closed);
}

TEST_F(ControllerTest, RefusesAConfigurationThatMakesNoSense) {
  const auto refused = [this](auto change) {
    config = make_config();
    change(config);
    const Connected connected = try_connect();
    EXPECT_FALSE(connected.ok());
    if (connected.ok()) return false;
    EXPECT_EQ(connected.error().domain(), ErrorDomain::kConfig) << connected.error().to_string();
    return loop.net.wires.empty();
  };
  EXPECT_TRUE(refused([](auto& c) { c.hostnqn = "me"; }));
  EXPECT_TRUE(refused([](auto& c) { c.hostnqn.clear(); }));
  EXPECT_TRUE(refused([](auto& c) { c.hostid = Uuid(); }));
  EXPECT_TRUE(refused([](auto& c) { c.address.subnqn = "disk1"; }));
  EXPECT_TRUE(refused([](auto& c) { c.address.trtype = nvme::Trtype::kRdma; }));
  EXPECT_TRUE(refused([](auto& c) { c.io_queue_depth = 1; }));
  EXPECT_TRUE(refused([](auto& c) { c.io_queue_depth = 4097; }));
  EXPECT_TRUE(refused([](auto& c) { c.max_io_queues = 0; }));
  EXPECT_TRUE(refused([](auto& c) { c.max_namespaces = 1025; }));
  EXPECT_TRUE(refused([](auto& c) { c.maxr2t = 0; }));
  EXPECT_TRUE(refused([](auto& c) { c.receive_buffer = 1024; }));
  EXPECT_TRUE(refused([](auto& c) { c.connect_timeout = Nanos{0}; }));
  EXPECT_TRUE(refused([](auto& c) { c.io_timeout = Nanos{-1}; }));
  EXPECT_TRUE(refused([](auto& c) { c.keep_alive_timeout = milliseconds(1); }));
}

}  // namespace
}  // namespace leap::test
