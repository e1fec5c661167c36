// Asynchronous events, Abort, keep alive, reset, and how an association ends.
#include <gtest/gtest.h>

#include "nvme/identify_namespace.h"
#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::AsyncEvent;
using nvme::FeatureId;
using nvme::GenericStatus;
using nvme::LogPage;
using nvme::Nsid;

Reply changed_namespaces(TestHost& host, bool retain = false) {
  return host.execute(
      nvme::make_get_log_page({.lid = LogPage::kChangedNamespaces, .bytes = 4096, .retain_event = retain}), {},
      Via::kR2T, 4096);
}

class EventTest : public ::testing::Test {
 protected:
  EventTest() : host(rig.admin()) {}
  void want_events() {
    const auto config = nvme::AsyncEventConfig{.namespace_attribute = true}.to_dword();
    ASSERT_TRUE(host->execute(nvme::make_set_features(FeatureId::kAsyncEventConfiguration, config)).ok());
  }
  std::optional<Reply> event(nvme::Cid cid) {
    while (host->pump()) {
    }
    return host->take_reply(cid);
  }
  void change(std::uint32_t nsid) {
    rig.target().notify_namespace_changed(nsid);
    rig.settle();
  }

  Rig rig;
  std::unique_ptr<TestHost> host;
};

TEST_F(EventTest, AreHeldUntilSomethingHappens) {
  want_events();
  const auto cid = host->submit(nvme::make_async_event_request());
  EXPECT_FALSE(event(cid));
  EXPECT_TRUE(host->execute(nvme::make_keep_alive()).ok()) << "the queue goes on meanwhile";
  change(1);
  const auto reply = event(cid);
  ASSERT_TRUE(reply);
  ASSERT_TRUE(reply->ok());
  EXPECT_EQ(AsyncEvent::from_dword(reply->cqe.dw0), nvme::kNamespaceChangedEvent);
}

TEST_F(EventTest, ThatHappenedBeforeTheRequestAreReportedAtOnce) {
  change(1);
  want_events();
  EXPECT_TRUE(event(host->submit(nvme::make_async_event_request())));
}

TEST_F(EventTest, AreMaskedUntilTheirLogPageWasReadAndCollectMeanwhile) {
  want_events();
  change(1);
  EXPECT_TRUE(event(host->submit(nvme::make_async_event_request())));
  const auto second = host->submit(nvme::make_async_event_request());
  change(2);
  EXPECT_FALSE(event(second)) << "masked";
  Reply page = changed_namespaces(*host, true);
  EXPECT_EQ(nvme::wire::load<nvme::NamespaceList>(page.data)->entries().size(), 2U);
  change(3);
  EXPECT_FALSE(event(second)) << "RAE keeps the mask";
  page = changed_namespaces(*host);
  EXPECT_EQ(nvme::wire::load<nvme::NamespaceList>(page.data)->entries().size(), 3U);
  EXPECT_FALSE(event(second));
  EXPECT_TRUE(nvme::wire::load<nvme::NamespaceList>(changed_namespaces(*host).data)->entries().empty())
      << "cleared by reading";
  change(4);
  EXPECT_TRUE(event(second));
}

TEST_F(EventTest, AreNotSentToHostsThatDidNotAsk) {
  const auto cid = host->submit(nvme::make_async_event_request());
  change(1);
  EXPECT_FALSE(event(cid));
  want_events();
  EXPECT_TRUE(event(cid)) << "asking later is not too late";
}

TEST_F(EventTest, ReachEveryController) {
  want_events();
  auto other = rig.admin();
  ASSERT_TRUE(other->execute(nvme::make_set_features(FeatureId::kAsyncEventConfiguration, 1U << 8)).ok());
  const auto a = host->submit(nvme::make_async_event_request());
  const auto b = other->submit(nvme::make_async_event_request());
  change(1);
  EXPECT_TRUE(event(a));
  EXPECT_TRUE(other->wait(b).ok());
}

TEST_F(EventTest, RequestsAreLimited) {
  for (int i = 0; i < 4; ++i) host->submit(nvme::make_async_event_request());
  EXPECT_STATUS(host->execute(nvme::make_async_event_request()), nvme::CommandStatus::kAsyncEventRequestLimitExceeded);
  EXPECT_EQ(host->outstanding(), 4U);
}

TEST_F(EventTest, RequestsCanBeAborted) {
  const auto held = host->submit(nvme::make_async_event_request());
  const Reply abort = host->execute(nvme::make_abort(nvme::kAdminQid, held));
  ASSERT_TRUE(abort.ok());
  EXPECT_TRUE(nvme::was_aborted(abort.cqe.dw0));
  EXPECT_STATUS(host->wait(held), GenericStatus::kAbortRequested);
  for (int i = 0; i < 4; ++i) host->submit(nvme::make_async_event_request());
  const Reply missing = host->execute(nvme::make_abort(nvme::kAdminQid, nvme::Cid{0x7777}));
  ASSERT_TRUE(missing.ok());
  EXPECT_FALSE(nvme::was_aborted(missing.cqe.dw0));
}

TEST_F(EventTest, AbortOfAnIoCommandSaysThatItWasNotAborted) {
  auto io = rig.ready();
  ASSERT_TRUE(io->connect(1, host->cntlid).ok());
  const Reply reply = host->execute(nvme::make_abort(nvme::Qid{1}, nvme::Cid{1}));
  ASSERT_TRUE(reply.ok());
  EXPECT_FALSE(nvme::was_aborted(reply.cqe.dw0));
  EXPECT_STATUS(host->execute(nvme::make_abort(nvme::Qid{2}, nvme::Cid{1})), GenericStatus::kInvalidField);
}

TEST_F(EventTest, AResetReturnsHeldRequestsAndForgetsTheConfiguration) {
  want_events();
  const auto held = host->submit(nvme::make_async_event_request());
  ASSERT_TRUE(host->property_set(nvme::PropertyOffset::kCc, 0).ok());
  EXPECT_STATUS(host->wait(held), GenericStatus::kAbortedSqDeletion);
  ASSERT_TRUE(host->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
  EXPECT_EQ(host->execute(nvme::make_get_features(FeatureId::kAsyncEventConfiguration)).cqe.dw0, 0U);
}

TEST(KeepAlive, ASilentHostLosesAllItsConnections) {
  Rig rig;
  auto admin = rig.admin({}, 10'000);
  auto io = rig.ready();
  ASSERT_TRUE(io->connect(1, admin->cntlid).ok());
  auto other = rig.io_host();
  rig.advance(std::chrono::seconds(9));
  EXPECT_FALSE(admin->closed());
  rig.advance(std::chrono::seconds(11));
  rig.advance(std::chrono::seconds(11));
  EXPECT_TRUE(admin->closed());
  EXPECT_TRUE(io->closed());
  EXPECT_TRUE(other.io->read(1, 0, 1).ok()) << "another controller of the same host lives on";
  EXPECT_EQ(rig.target().probe().keep_alive_expirations, 1U);
  EXPECT_EQ(rig.target().probe().controllers_now, 1U);
  EXPECT_EQ(rig.target().probe().connections_now, 2U);
}

TEST(KeepAlive, AnyCommandOnAnyQueueKeepsTheAssociationAlive) {
  Rig rig;
  auto admin = rig.admin({}, 10'000);
  auto io = rig.ready();
  ASSERT_TRUE(io->connect(1, admin->cntlid).ok());
  for (int i = 0; i < 10; ++i) {
    rig.advance(std::chrono::seconds(7));
    if (i % 2 == 0) {
      EXPECT_TRUE(io->read(1, 0, 1).ok());
    } else {
      EXPECT_TRUE(admin->execute(nvme::make_keep_alive()).ok());
    }
  }
  EXPECT_FALSE(admin->closed());
}

TEST(KeepAlive, CanBeSwitchedOnAndOffLater) {
  Rig rig;
  auto admin = rig.admin();
  rig.advance(std::chrono::hours(24));
  ASSERT_TRUE(admin->execute(nvme::make_set_features(FeatureId::kKeepAliveTimer, 5000)).ok());
  ASSERT_TRUE(admin->execute(nvme::make_set_features(FeatureId::kKeepAliveTimer, 0)).ok());
  rig.advance(std::chrono::hours(24));
  EXPECT_FALSE(admin->closed());
  ASSERT_TRUE(admin->execute(nvme::make_set_features(FeatureId::kKeepAliveTimer, 5000)).ok());
  rig.advance(std::chrono::seconds(6));
  rig.advance(std::chrono::seconds(6));
  EXPECT_TRUE(admin->closed());
}

TEST(Association, EndsWithItsAdminQueue) {
  Rig rig;
  auto hosts = rig.io_host();
  auto second = rig.ready();
  ASSERT_TRUE(second->connect(2, hosts.admin->cntlid).ok());
  hosts.admin->close();
  EXPECT_TRUE(hosts.io->closed());
  EXPECT_TRUE(second->closed());
  EXPECT_EQ(rig.target().probe().controllers_now, 0U);
  auto late = rig.ready();
  EXPECT_STATUS(late->connect(3, hosts.admin->cntlid), nvme::FabricsStatus::kConnectInvalidParameters);
}

TEST(Association, ControllerIdsAreNotReusedAtOnce) {
  Rig rig;
  auto first = rig.admin();
  const auto id = first->cntlid;
  first->close();
  EXPECT_NE(rig.admin()->cntlid, id);
}

TEST(Reset, IsNotOverBeforeTheLastCommandOfTheOldQueuesIs) {
  TestDevice device({.size = Rig::kSize, .block_size = 512});
  TargetConfig config;
  config.namespaces = {Rig::namespace_on(device)};
  Rig rig(config);
  auto hosts = rig.io_host();
  device.hold();
  hosts.io->submit(nvme::make_write(Nsid{1}, 0, 1), Bytes(512));
  rig.settle();
  ASSERT_TRUE(hosts.admin->property_set(nvme::PropertyOffset::kCc, 0).ok());
  const auto csts = [&] { return nvme::Csts{hosts.admin->property_get(nvme::PropertyOffset::kCsts).cqe.dw0}; };
  EXPECT_TRUE(csts().rdy()) << "the device still works on a write";
  EXPECT_TRUE(hosts.io->closed());
  EXPECT_STATUS(hosts.admin->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw),
                GenericStatus::kCommandSequenceError);
  device.let_go();
  rig.settle();
  EXPECT_FALSE(csts().rdy());
  ASSERT_TRUE(hosts.admin->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
  auto io = rig.ready();
  EXPECT_TRUE(io->connect(1, hosts.admin->cntlid).ok());
}

TEST(Stop, AnswersWhatWasAcceptedThenClosesEverything) {
  TestDevice device({.size = Rig::kSize, .block_size = 512});
  TargetConfig config;
  config.namespaces = {Rig::namespace_on(device)};
  Rig rig(config);
  auto hosts = rig.io_host();
  device.hold();
  const auto cid = hosts.io->submit(nvme::make_write(Nsid{1}, 0, 1), Bytes(512));
  rig.settle();
  rig.target().begin_stop();
  rig.settle();
  EXPECT_FALSE(rig.target().stopped());
  hosts.io->submit(nvme::make_flush(Nsid{1}));  // too late: never answered
  rig.settle();
  device.let_go();
  EXPECT_TRUE(hosts.io->wait(cid).ok());
  hosts.io->close();
  hosts.admin->close();
  EXPECT_TRUE(rig.target().stopped());
  EXPECT_EQ(device.channels, 0U);
  EXPECT_EQ(rig.pool().probe().bytes_in_use, 0U);
}

TEST(Stop, DoesNotWaitLongForPeersThatStayConnected) {
  Rig rig;
  auto hosts = rig.io_host();
  rig.target().begin_stop();
  rig.settle();
  EXPECT_FALSE(rig.target().stopped());
  rig.advance(std::chrono::milliseconds(1100));
  EXPECT_TRUE(rig.target().stopped());
}

TEST(Stop, LeavesNothingBehindWhenThePollerWentFirst) {
  TestDevice device({.size = Rig::kSize, .block_size = 512});
  PoolMemory memory(4 << 20);
  MemoryNet net;
  ManualClock clock;
  auto poller = NvmePoller::create({}, clock, std::make_unique<NoWait>()).value();
  TargetConfig config;
  config.nqn = "nqn.2024-01.io.leap:test";
  config.listen = {SocketAddress::parse("127.0.0.1:4420").value()};
  config.namespaces = {Rig::namespace_on(device)};
  auto target = NvmeTarget::create(config, {{*poller, memory.pool}}, net).value();
  ASSERT_TRUE(target->start().ok());
  const auto settle = [&] {
    for (int i = 0; i < 5; ++i) poller->run_once();
  };
  settle();
  auto cable = net.dial();
  const auto icreq = nvme::make_icreq({});
  cable->send(nvme::wire::bytes_of(icreq));
  settle();
  EXPECT_EQ(cable->from_target.size(), 128U);
  poller->stop();
  target.reset();
  EXPECT_TRUE(cable->target_closed);
}

TEST(Metrics, NameWhatTheTargetDid) {
  Rig rig;
  auto hosts = rig.io_host();
  ASSERT_TRUE(hosts.io->read(1, 0, 8).ok());
  MetricsText page;
  rig.target().append_metrics(page);
  const std::string text = page.text();
  EXPECT_NE(text.find("leap_target_connections 2\n"), std::string::npos) << text;
  EXPECT_NE(text.find("leap_target_commands_total{kind=\"read\"} 1\n"), std::string::npos);
  EXPECT_NE(text.find("leap_target_read_bytes_total 4096\n"), std::string::npos);
}

}  // namespace
}  // namespace leap::target::testing
