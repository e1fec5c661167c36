#include "queue_pair_fixture.h"

namespace leap::test {
namespace {

using nvme::Fes;
using nvme::PduType;
using std::chrono::seconds;

std::span<const std::byte> text(std::string_view chars) { return std::as_bytes(std::span(chars)); }

TEST_F(QueuePairTest, AsksForTheDigestsItIsConfiguredWith) {
  config.header_digest = true;
  config.maxr2t = 4;
  begin_connect();
  const auto icreq = expect(PduType::kIcReq).as<nvme::IcReqPdu>();
  EXPECT_EQ(icreq.pfv, 0);
  EXPECT_EQ(icreq.hpda, 0);
  EXPECT_EQ(icreq.dgst, nvme::kDgstHeader);
  EXPECT_EQ(icreq.maxr2t, 3U) << "0's based";
}

TEST_F(QueuePairTest, IsLiveAfterIcResp) {
  connect();
  EXPECT_TRUE(qp->live());
  EXPECT_EQ(qp->params().maxh2cdata, 131072U);
  EXPECT_FALSE(qp->params().hdgst) << "not asked for";
}

TEST_F(QueuePairTest, TakesDigestsThatAreGranted) {
  config.header_digest = config.data_digest = true;
  connect();
  EXPECT_TRUE(qp->params().hdgst);
  EXPECT_TRUE(qp->params().ddgst);
}

TEST_F(QueuePairTest, RefusesToRunWithoutTheDigestsItAskedFor) {
  config.data_digest = true;
  offered.ddgst = false;
  begin_connect();
  peer.answer_icreq(expect(PduType::kIcReq), offered);
  deliver();
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().kind(), Errc::kUnsupported);
  EXPECT_NE(connected()->error().message().find("declines data digests"), std::string::npos);
}

TEST_F(QueuePairTest, RejectsDigestsItDidNotAskFor) {
  begin_connect();
  expect(PduType::kIcReq);
  auto icresp = nvme::make_icresp(offered);
  peer.send(icresp);
  deliver();
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().kind(), Errc::kProtocol);
}

TEST_F(QueuePairTest, RejectsAMaxH2CDataBelowTheMinimum) {
  begin_connect();
  expect(PduType::kIcReq);
  offered.hdgst = offered.ddgst = false;
  offered.maxh2cdata = 2048;
  peer.send(nvme::make_icresp(offered));
  deliver();
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
}

TEST_F(QueuePairTest, RejectsAnUnknownPduFormatVersion) {
  begin_connect();
  expect(PduType::kIcReq);
  offered.hdgst = offered.ddgst = false;
  auto icresp = nvme::make_icresp(offered);
  icresp.pfv = 7;
  peer.send(icresp);
  deliver();
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().kind(), Errc::kProtocol);
}

TEST_F(QueuePairTest, PadsCapsuleDataToTheControllersAlignment) {
  offered.cpda = 31;  // 128 bytes
  connect();
  const auto content = pattern(4096, 5);
  write(8, content);
  const auto capsule = expect_command();
  EXPECT_EQ(capsule.header.pdo, 128);
  EXPECT_EQ(capsule.data, content);
  peer.respond(capsule.command().cid);
  deliver();
}

TEST_F(QueuePairTest, PadsH2CDataToTheControllersAlignment) {
  config.header_digest = true;
  offered.cpda = 7;  // 32 bytes: 24 of header and 4 of digest do not fit as they are
  config.in_capsule_bytes = 0;
  connect();
  const auto content = pattern(8192, 6);
  Outcome& outcome = write(8, content);
  const auto cid = expect_command().command().cid;
  peer.send_r2t(cid, 77, 0, 8192);
  deliver();
  const auto data = expect(PduType::kH2CData);
  EXPECT_EQ(data.header.pdo, 32);
  EXPECT_EQ(data.data, content);
  peer.respond(cid);
  deliver();
  EXPECT_TRUE(outcome.ok());
}

TEST_F(QueuePairTest, SaysWhatAnHttpServerAnswered) {
  begin_connect();
  peer.send_raw(text("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
  deliver();
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().kind(), Errc::kProtocol);
  EXPECT_NE(connected()->error().message().find("does not speak NVMe/TCP"), std::string::npos);
  EXPECT_NE(connected()->error().message().find("HTTP/1.1"), std::string::npos);
  EXPECT_TRUE(wire().host_closed);
}

TEST_F(QueuePairTest, SaysThatASilentPeerIsNoTarget) {
  begin_connect();
  loop.advance(seconds(9));
  EXPECT_FALSE(connected().has_value());
  loop.advance(seconds(2));
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().kind(), Errc::kTimedOut);
  EXPECT_NE(connected()->error().message().find("did not answer ICReq"), std::string::npos);
}

TEST_F(QueuePairTest, ReportsAConnectionThatIsNeverAccepted) {
  loop.net.prepare = [](Wire& wire) { wire.connecting = true; };
  begin_connect();
  loop.advance(seconds(11));
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().kind(), Errc::kTimedOut);
  EXPECT_NE(connected()->error().message().find("connect to"), std::string::npos);
}

TEST_F(QueuePairTest, ReportsARefusedConnection) {
  loop.net.prepare = [](Wire& wire) { wire.connect_error = ECONNREFUSED; };
  begin_connect();
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().os_errno(), ECONNREFUSED);
}

TEST_F(QueuePairTest, ReportsAPeerThatHangsUpInsteadOfAnswering) {
  begin_connect();
  wire().peer_closed = true;
  loop.settle();
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().kind(), Errc::kClosed);
}

TEST_F(QueuePairTest, ReportsATermReqInsteadOfIcResp) {
  begin_connect();
  const auto icreq = expect(PduType::kIcReq);
  peer.send(nvme::make_term_req(nvme::PduDirection::kToHost, Fes::kUnsupportedParameter, 8, 128));
  peer.send_raw(icreq.head);
  deliver();
  ASSERT_TRUE(connected().has_value() && !connected()->ok());
  EXPECT_EQ(connected()->error().kind(), Errc::kProtocol);
}

TEST_F(QueuePairTest, SurvivesBeingDroppedWhileConnecting) {
  begin_connect();
  loop.poller.stop();
  EXPECT_TRUE(wire().host_closed);
}

TEST_F(QueuePairTest, AcceptsIcRespInEverySplit) {
  for (std::size_t step = 1; step < sizeof(nvme::IcRespPdu); ++step) {
    FakeLoop own;
    own.net.prepare = [step](Wire& wire) { wire.read_limit = step; };
    nvme::ConnectionParams plain;
    own.peer = [&own, plain, sent = false]() mutable {
      if (sent || own.net.wires.empty()) return false;
      sent = true;
      const auto icresp = nvme::make_icresp(plain);
      const auto bytes = nvme::wire::bytes_of(icresp);
      own.net.wire(0).to_host.insert(own.net.wire(0).to_host.end(), bytes.begin(), bytes.end());
      return true;
    };
    auto connected = own.run(TcpQueuePair::connect(own.poller, own.net, SocketAddress(), config, TimePoint::max()));
    ASSERT_TRUE(connected.ok()) << "split after " << step;
  }
}

}  // namespace
}  // namespace leap::test
