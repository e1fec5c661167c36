// ICReq and ICResp, and how a connection ends when the host breaks the protocol (NVMe TCP Transport 1.0, 3.1, 3.4).
#include <gtest/gtest.h>

#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::Fes;
using nvme::PduType;

Bytes bytes_of(const nvme::IcReqPdu& pdu) {
  const auto view = nvme::wire::bytes_of(pdu);
  return {view.begin(), view.end()};
}

/// Sends bytes and expects a C2HTermReq with these contents and then the end of our direction of the stream.
void expect_terminated(TestHost& host, std::span<const std::byte> bytes, Fes fes, std::uint32_t fei) {
  host.send_bytes(bytes);
  while (!host.term_req && host.pump()) {
  }
  ASSERT_TRUE(host.term_req) << "no C2HTermReq";
  EXPECT_EQ(host.term_req->fes, static_cast<std::uint16_t>(fes));
  EXPECT_EQ(host.term_req->fei(), fei);
  EXPECT_TRUE(host.closed());
  ASSERT_GE(host.term_quote.size(), 8U) << "the offending header is quoted";
  EXPECT_TRUE(std::equal(host.term_quote.begin(), host.term_quote.end(), bytes.begin()));
}

TEST(Handshake, AnswersExactlyThe128BytesAHostExpects) {
  Rig rig;
  auto host = rig.dial();
  Bytes request(128);
  request[2] = std::byte{128};  // HLEN
  request[4] = std::byte{128};  // PLEN
  host->send_bytes(request);
  Bytes answer;
  ASSERT_TRUE(host->wire().receive(answer));
  Bytes expected(128);
  expected[0] = std::byte{0x01};   // ICResp
  expected[2] = std::byte{128};    // HLEN
  expected[4] = std::byte{128};    // PLEN
  expected[14] = std::byte{0x10};  // MAXH2CDATA 1 MiB; PFV 0, CPDA 0, DGST 0
  EXPECT_EQ(answer, expected);
}

TEST(Handshake, GrantsTheDigestsThatAreAskedForAndNoOthers) {
  Rig rig;
  for (const bool header : {false, true}) {
    for (const bool data : {false, true}) {
      auto host = rig.dial();
      const auto response = host->handshake({.hdgst = header, .ddgst = data});
      ASSERT_TRUE(response);
      EXPECT_EQ(response->dgst, (header ? 1 : 0) | (data ? 2 : 0));
      EXPECT_EQ(response->cpda, 0) << "Linux accepts nothing else";
      EXPECT_GE(response->maxh2cdata, 4096U);
      EXPECT_EQ(response->maxh2cdata % 4, 0U);
      EXPECT_TRUE(host->connect(0).ok());
    }
  }
  TargetConfig config;
  config.header_digest = config.data_digest = false;
  Rig plain(config);
  EXPECT_EQ(plain.dial()->handshake({.hdgst = true, .ddgst = true})->dgst, 0);
}

TEST(Handshake, SurvivesBeingFedByteByByte) {
  Rig rig;
  auto host = rig.dial();
  const Bytes request = bytes_of(nvme::make_icreq({}));
  for (const std::byte byte : request) {
    host->send_bytes({&byte, 1});
    rig.settle();
  }
  const auto pdu = host->next();
  ASSERT_TRUE(pdu);
  EXPECT_EQ(pdu->type(), PduType::kIcResp);
}

TEST(Handshake, RefusesAnUnknownPduFormatVersion) {
  Rig rig;
  auto request = nvme::make_icreq({});
  request.pfv = 1;
  expect_terminated(*rig.dial(), bytes_of(request), Fes::kUnsupportedParameter, nvme::pdu_field::kPfv);
}

TEST(Handshake, RefusesAnAlignmentThatCannotBe) {
  Rig rig;
  auto request = nvme::make_icreq({});
  request.hpda = 32;
  expect_terminated(*rig.dial(), bytes_of(request), Fes::kInvalidHeaderField, nvme::pdu_field::kPda);
}

TEST(Handshake, RefusesCommandsBeforeIcReqAndASecondIcReq) {
  Rig rig;
  auto early = rig.dial();
  const auto capsule = early->build(nvme::make_capsule_cmd(nvme::make_keep_alive(), 0, {}));
  expect_terminated(*early, capsule, Fes::kPduSequenceError, 0);
  auto twice = rig.ready();
  expect_terminated(*twice, bytes_of(nvme::make_icreq({})), Fes::kPduSequenceError, 0);
}

TEST(Handshake, RefusesEveryMalformedCommonHeaderWithTheOffsetOfTheField) {
  Rig rig;
  struct Case {
    std::size_t byte;
    std::uint8_t value;
    std::uint32_t fei;
  };
  // A CapsuleCmd without data: type 4, HLEN 72, PLEN 72.
  for (const Case& c : {Case{0, 0x05, nvme::pdu_field::kType}, Case{0, 0x08, nvme::pdu_field::kType},
                        Case{0, 0xFF, nvme::pdu_field::kType}, Case{1, 0x01, nvme::pdu_field::kFlags},
                        Case{2, 71, nvme::pdu_field::kHlen}, Case{4, 71, nvme::pdu_field::kPlen}}) {
    auto host = rig.ready();
    auto bytes = host->build(nvme::make_capsule_cmd(nvme::make_keep_alive(), 0, {}));
    bytes[c.byte] = std::byte{c.value};
    expect_terminated(*host, bytes, Fes::kInvalidHeaderField, c.fei);
  }
}

TEST(Handshake, RefusesACapsuleLargerThanTheQueueTakesBeforeReadingIt) {
  Rig rig;
  auto host = rig.ready();
  auto bytes = host->build(nvme::make_capsule_cmd(nvme::make_keep_alive(), 8196, {}));
  bytes.resize(72);
  expect_terminated(*host, bytes, Fes::kInvalidHeaderField, nvme::pdu_field::kPlen);
}

TEST(Handshake, RefusesABadHeaderDigestAndSaysWhichItGot) {
  Rig rig;
  auto host = rig.ready({.hdgst = true});
  auto bytes = host->build(nvme::make_capsule_cmd(nvme::make_keep_alive(), 0, host->params()));
  bytes[72] ^= std::byte{1};
  expect_terminated(*host, bytes, Fes::kHeaderDigestError, load_le32(bytes.data() + 72));
}

TEST(Handshake, ATerminatedConnectionAnswersNothingMoreAndGoesAwayWhenThePeerClosesOrTimePasses) {
  Rig rig;
  for (const bool peer_closes : {true, false}) {
    auto host = rig.ready();
    host->send_bytes(bytes_of(nvme::make_icreq({})));
    host->send_pdu(nvme::make_capsule_cmd(nvme::make_keep_alive(), 0, {}));
    while (host->pump()) {
    }
    EXPECT_TRUE(host->term_req);
    EXPECT_TRUE(rig.cables.back()->target_half_closed);
    EXPECT_FALSE(rig.cables.back()->target_closed) << "the peer gets time to read the reason";
    if (peer_closes)
      host->close();
    else
      rig.advance(std::chrono::seconds(2));
    EXPECT_TRUE(rig.cables.back()->target_closed);
  }
  EXPECT_EQ(rig.target().probe().protocol_errors, 2U);
  EXPECT_EQ(rig.target().probe().connections_now, 0U);
}

TEST(Handshake, AcceptsTheHostsTerminationSilently) {
  Rig rig;
  auto host = rig.ready();
  const auto term = nvme::make_term_req(nvme::PduDirection::kToController, Fes::kPduSequenceError, 0, 0);
  host->send_bytes(nvme::wire::bytes_of(term));
  EXPECT_FALSE(host->pump());
  EXPECT_TRUE(rig.cables.back()->target_closed);
}

TEST(Handshake, ClosesPeersThatNeverConnect) {
  Rig rig;
  auto silent = rig.dial();
  auto half = rig.ready();
  auto chatty = rig.ready();
  rig.advance(std::chrono::seconds(9));
  EXPECT_STATUS(chatty->execute(nvme::make_keep_alive()), nvme::GenericStatus::kCommandSequenceError);
  EXPECT_FALSE(silent->closed());
  rig.advance(std::chrono::seconds(2));
  EXPECT_TRUE(silent->closed());
  EXPECT_TRUE(half->closed());
  EXPECT_TRUE(chatty->closed());
}

TEST(Handshake, TurnsAwayConnectionsOverTheLimitAndTakesThemAgainLater) {
  TargetConfig config;
  config.max_connections = 2;
  Rig rig(config);
  auto a = rig.ready();
  auto b = rig.ready();
  auto c = rig.dial();
  EXPECT_TRUE(c->closed());
  EXPECT_EQ(rig.target().probe().connections_refused, 1U);
  a->close();
  auto d = rig.ready();
  EXPECT_FALSE(d->closed());
}

TEST(Handshake, GoesOnAcceptingAfterRunningOutOfDescriptors) {
  Rig rig;
  rig.net.accept_errors = 1;
  auto host = rig.dial();
  host->send_bytes(bytes_of(nvme::make_icreq({})));
  EXPECT_FALSE(host->next()) << "paused";
  rig.advance(std::chrono::milliseconds(200));
  EXPECT_TRUE(host->next());
}

}  // namespace
}  // namespace leap::target::testing
