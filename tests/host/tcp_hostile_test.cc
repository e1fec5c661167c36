// A target that breaks the protocol: the queue pair fails with a typed error and an H2CTermReq, everything pending
// completes once, nothing is written where it does not belong, every buffer comes back.
#include "nvme/status.h"
#include "queue_pair_fixture.h"

namespace leap::test {
namespace {

using nvme::Fes;
using nvme::PduType;

class Hostile : public QueuePairTest {
 protected:
  Hostile() { config.in_capsule_bytes = 0; }

  /// A read and a write in flight, and a bystander that fails with them.
  void start() {
    connect();
    reading = &read(0, 4096);
    writing = &write(8, pattern(8192, 1));
    bystander = &flush();
    read_cid = expect_command().command().cid;
    write_cid = expect_command().command().cid;
    flush_cid = expect_command().command().cid;
  }
  void expect_failure(Fes fes) {
    deliver();
    expect_protocol_failure(fes);
    for (Outcome* outcome : {reading, writing, bystander}) {
      ASSERT_TRUE(outcome->done());
      if (outcome->ok()) continue;
      EXPECT_EQ(outcome->error().kind(), Errc::kProtocol);
      EXPECT_EQ(outcome->error().domain(), ErrorDomain::kTransport);
      EXPECT_EQ(outcome->error().scope(), ErrorScope::kQueuePair);
      EXPECT_TRUE(outcome->error().may_have_executed());
    }
  }
  void send_data_at(std::uint32_t offset, std::uint32_t bytes, bool last = false) {
    peer.send_data(read_cid, offset, pattern(bytes, 2), last, false);
  }

  Outcome* reading = nullptr;
  Outcome* writing = nullptr;
  Outcome* bystander = nullptr;
  nvme::Cid read_cid, write_cid, flush_cid;
};

TEST_F(Hostile, ResponseToAnUnknownCommand) {
  start();
  peer.respond(nvme::Cid{0x4321});
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, ResponseToACommandThatIsOver) {
  start();
  peer.respond(flush_cid);
  peer.respond(flush_cid);
  expect_failure(Fes::kInvalidHeaderField);
  EXPECT_TRUE(bystander->ok()) << "the first answer counts";
}

TEST_F(Hostile, LateResponseDoesNotEndTheSlotsNextCommand) {
  start();
  peer.respond(flush_cid);
  deliver();
  Outcome& next = flush();
  const auto next_cid = expect_command().command().cid;
  EXPECT_NE(next_cid, flush_cid);
  peer.respond(flush_cid);
  expect_failure(Fes::kInvalidHeaderField);
  EXPECT_FALSE(next.ok());
}

TEST_F(Hostile, DataForAnUnknownCommand) {
  start();
  peer.send_data(nvme::Cid{0x4321}, 0, pattern(512, 1), true, true);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, DataForAWrite) {
  start();
  peer.send_data(write_cid, 0, pattern(512, 1), true, true);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, DataForACommandWithoutData) {
  start();
  peer.send_data(flush_cid, 0, pattern(512, 1), true, true);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, MoreDataThanTheCommandAskedFor) {
  start();
  send_data_at(0, 8192);
  expect_failure(Fes::kDataTransferOutOfRange);
}

TEST_F(Hostile, DataThatRunsOverTheEnd) {
  start();
  send_data_at(0, 2048);
  send_data_at(2048, 2052);
  expect_failure(Fes::kDataTransferOutOfRange);
}

TEST_F(Hostile, DataWithAGap) {
  start();
  send_data_at(0, 1024);
  send_data_at(2048, 1024);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, DataThatOverlaps) {
  start();
  send_data_at(0, 1024);
  send_data_at(512, 1024);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, DataOffsetThatOverflows) {
  start();
  peer.send_data(read_cid, 0xFFFFFFFC, pattern(8, 1), true, false);
  expect_failure(Fes::kDataTransferOutOfRange);
}

TEST_F(Hostile, DataAfterTheLastDataPdu) {
  start();
  send_data_at(0, 1024, true);
  send_data_at(1024, 1024, true);
  expect_failure(Fes::kPduSequenceError);
}

TEST_F(Hostile, SuccessFlagWithoutLast) {
  start();
  auto pdu = nvme::make_c2h_data(read_cid, 0, 512, false, false, peer.params);
  pdu.header.flags |= nvme::kPduSuccess;
  peer.send(pdu, pattern(512, 1));
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, SuccessFlagBeforeAllData) {
  start();
  peer.send_data(read_cid, 0, pattern(2048, 1), true, true);
  expect_failure(Fes::kPduSequenceError);
}

TEST_F(Hostile, SuccessfulResponseBeforeAllDataOfARead) {
  start();
  send_data_at(0, 2048, true);
  peer.respond(read_cid);
  expect_failure(Fes::kPduSequenceError);
}

TEST_F(Hostile, SuccessfulResponseBeforeAllDataOfAWrite) {
  start();
  peer.send_r2t(write_cid, 1, 0, 4096);
  deliver();
  expect(PduType::kH2CData);
  peer.respond(write_cid);
  expect_failure(Fes::kPduSequenceError);
  EXPECT_FALSE(writing->ok()) << "half a write is not a write";
}

TEST_F(Hostile, SuccessfulResponseWhileTheR2TDataIsStillHere) {
  start();
  peer.send_r2t(write_cid, 1, 0, 8192);
  peer.respond(write_cid);
  expect_failure(Fes::kPduSequenceError);
}

TEST_F(Hostile, DataLengthThatDisagreesWithThePdu) {
  start();
  auto pdu = nvme::make_c2h_data(read_cid, 0, 512, true, true, peer.params);
  pdu.datal = 4096;
  peer.send(pdu, pattern(512, 1));
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, R2TForAnUnknownCommand) {
  start();
  peer.send_r2t(nvme::Cid{0x4321}, 1, 0, 512);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, R2TForARead) {
  start();
  peer.send_r2t(read_cid, 1, 0, 4096);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, R2TBeyondTheData) {
  start();
  peer.send_r2t(write_cid, 1, 0, 8196);
  expect_failure(Fes::kDataTransferOutOfRange);
}

TEST_F(Hostile, R2TThatOverflows) {
  start();
  peer.send_r2t(write_cid, 1, 0xFFFFFFF0, 0x100);
  expect_failure(Fes::kDataTransferOutOfRange);
}

TEST_F(Hostile, R2TOfNothing) {
  start();
  peer.send_r2t(write_cid, 1, 0, 0);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, R2TForTheSameDataTwice) {
  start();
  peer.send_r2t(write_cid, 1, 0, 4096);
  peer.send_r2t(write_cid, 2, 0, 4096);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, R2TWithAGap) {
  start();
  peer.send_r2t(write_cid, 1, 4096, 4096);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, R2TAfterAllDataWasAskedFor) {
  start();
  peer.send_r2t(write_cid, 1, 0, 8192);
  deliver();
  expect(PduType::kH2CData);
  peer.send_r2t(write_cid, 2, 8192, 4);
  expect_failure(Fes::kDataTransferOutOfRange);
}

TEST_F(Hostile, MoreR2TsThanAllowed) {
  config.maxr2t = 2;
  start();
  for (std::uint16_t i = 0; i < 3; ++i) peer.send_r2t(write_cid, i, i * 512U, 512);
  expect_failure(Fes::kR2TLimitExceeded);
}

TEST_F(Hostile, R2TForDataThatTravelledInTheCapsule) {
  config.in_capsule_bytes = 8192;
  start();
  peer.send_r2t(write_cid, 1, 0, 8192);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, ASecondIcResp) {
  start();
  peer.send(nvme::make_icresp(peer.params));
  expect_failure(Fes::kPduSequenceError);
}

TEST_F(Hostile, APduThatOnlyHostsSend) {
  start();
  peer.send(nvme::make_h2c_data(write_cid, 0, 0, 4, true, peer.params), pattern(4, 1));
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, AnUnknownPduType) {
  start();
  auto pdu = nvme::make_capsule_resp({}, peer.params);
  pdu.header.type = static_cast<PduType>(0x55);
  peer.send(pdu);
  expect_failure(Fes::kInvalidHeaderField);
}

TEST_F(Hostile, HeaderLengthsThatLie) {
  for (const auto& [hlen, plen] : {std::pair{24U, 0U}, {24U, 23U}, {24U, 0xFFFFFFFFU}, {0U, 24U}, {255U, 24U}}) {
    SCOPED_TRACE(plen);
    start();
    auto pdu = nvme::make_capsule_resp({}, peer.params);
    pdu.header.hlen = static_cast<std::uint8_t>(hlen);
    pdu.header.plen = plen;
    peer.send_raw(nvme::wire::bytes_of(pdu));
    expect_failure(Fes::kInvalidHeaderField);
    restart();
  }
}

TEST_F(Hostile, AWrongHeaderDigestIsCorruption) {
  config.header_digest = true;
  start();
  peer.respond(flush_cid);
  peer.out.back() ^= std::byte{0x80};
  deliver();
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  EXPECT_EQ(qp->failure()->kind(), Errc::kCorrupt);
  EXPECT_EQ(bystander->error().kind(), Errc::kCorrupt);
  EXPECT_EQ(bystander->error().domain(), ErrorDomain::kTransport);
  const auto term = expect(PduType::kH2CTermReq);
  EXPECT_EQ(term.as<nvme::TermReqPdu>().fes, static_cast<std::uint16_t>(Fes::kHeaderDigestError));
}

TEST_F(Hostile, ATermReqEndsTheConnectionWithItsReason) {
  start();
  peer.send(nvme::make_term_req(nvme::PduDirection::kToHost, Fes::kDataTransferLimitExceeded, 0, 24));
  peer.send_raw(pattern(24, 1));
  deliver();
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  EXPECT_EQ(reading->error().kind(), Errc::kProtocol);
  EXPECT_NE(reading->error().message().find("FES 0x5"), std::string::npos);
  expect_nothing();
}

TEST_F(Hostile, AnErrorBeforeTheDataLeftWaitsForTheBuffer) {
  start();
  wire().write_room = 0;
  peer.send_r2t(write_cid, 1, 0, 8192);
  deliver();
  peer.respond(write_cid, nvme::status(nvme::GenericStatus::kInternalError));
  deliver();
  EXPECT_FALSE(writing->done()) << "its data is still queued for sending";
  wire().write_room = 1000;
  pump();
  EXPECT_FALSE(writing->done());
  wire().write_room = SIZE_MAX;
  pump();
  ASSERT_TRUE(writing->done());
  EXPECT_EQ(writing->error().domain(), ErrorDomain::kNvme);
  EXPECT_EQ(writing->result->data.size(), 8192U);
  EXPECT_EQ(expect(PduType::kH2CData).data, pattern(8192, 1)) << "a PDU that has begun ends as it began";
  EXPECT_TRUE(qp->live());
}

TEST_F(Hostile, ASecondAnswerWhileTheFirstIsHeld) {
  start();
  wire().write_room = 0;
  peer.send_r2t(write_cid, 1, 0, 8192);
  deliver();
  peer.respond(write_cid, nvme::status(nvme::GenericStatus::kInternalError));
  peer.respond(write_cid, nvme::status(nvme::GenericStatus::kInternalError));
  deliver();
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  EXPECT_EQ(writing->error().kind(), Errc::kProtocol);
}

TEST_F(Hostile, EarlyErrorsAgainAndAgainDoNotFillTheQueueOfR2Ts) {
  offered.maxh2cdata = 4096;
  config.maxr2t = 2;
  connect();
  // One large write keeps the transmit queue full; behind it, R2Ts that are cancelled by an early error, many more than
  // there is room for at one time.
  Outcome& large = write(0, pattern(1 << 20, 1));
  const auto large_cid = expect_command().command().cid;
  wire().write_room = 0;
  peer.send_r2t(large_cid, 1, 0, 1 << 20);
  deliver();
  for (int i = 0; i < 100 && !HasFailure(); ++i) {
    Outcome& small = write(0, pattern(4096, 2));
    wire().write_room = 6000;
    deliver();
    nvme::Cid cid{};
    for (int turns = 0; turns < 2000 && cid == nvme::Cid{}; ++turns) {
      while (auto pdu = peer.next()) {
        if (pdu->header.type == PduType::kCapsuleCmd) cid = pdu->command().cid;
      }
      wire().write_room = 6000;
      pump();
    }
    wire().write_room = 0;
    peer.send_r2t(cid, 7, 0, 2048);
    peer.send_r2t(cid, 8, 2048, 2048);
    peer.respond(cid, nvme::status(nvme::GenericStatus::kInternalError));
    deliver();
    wire().write_room = SIZE_MAX;
    pump();
    while (peer.next()) {
    }
    ASSERT_TRUE(small.done());
    if (large.done()) break;
  }
  EXPECT_TRUE(qp->live());
}

TEST_F(Hostile, ResetInTheMiddleOfAPdu) {
  start();
  peer.send_data(read_cid, 0, pattern(4096, 1), true, true);
  peer.out.resize(1000);
  deliver();
  wire().reset = ECONNRESET;
  loop.settle();
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  EXPECT_EQ(reading->error().os_errno(), ECONNRESET);
  EXPECT_TRUE(reading->error().may_have_executed());
  EXPECT_TRUE(writing->done() && bystander->done());
}

TEST_F(Hostile, EndOfStreamInTheMiddleOfAPdu) {
  start();
  peer.send_data(read_cid, 0, pattern(4096, 1), true, true);
  peer.out.resize(10);
  deliver();
  wire().peer_closed = true;
  loop.settle();
  EXPECT_EQ(reading->error().kind(), Errc::kClosed);
  EXPECT_EQ(reading->error().domain(), ErrorDomain::kTransport);
}

TEST_F(Hostile, WhatWasNeverSentDidNotExecute) {
  connect();
  wire().write_room = 0;
  Outcome& unsent = write(0, pattern(4096, 1));
  loop.settle();
  wire().reset = ECONNRESET;
  loop.settle();
  ASSERT_TRUE(unsent.done());
  EXPECT_FALSE(unsent.error().may_have_executed());
}

TEST_F(Hostile, ResponseToACommandThatWasNotSentYet) {
  connect();
  Outcome& first = flush();
  const auto cid = expect_command().command().cid;
  wire().write_room = 0;
  read(0, 4096);
  loop.settle();
  peer.respond(nvme::Cid{static_cast<std::uint16_t>(cid.value() + 1)});  // the next slot, first generation
  deliver();
  EXPECT_EQ(qp->state(), QueuePairState::kClosed);
  EXPECT_EQ(first.error().kind(), Errc::kProtocol);
}

TEST_F(Hostile, LingersForTheTermReqAndThenCloses) {
  start();
  peer.respond(nvme::Cid{0x4321});
  expect_failure(Fes::kInvalidHeaderField);
  EXPECT_FALSE(wire().host_closed);
  // More nonsense is thrown away, and the end comes with or without the peer's help.
  for (int i = 0; i < 10; ++i) peer.respond(nvme::Cid{0x4321});
  deliver();
  EXPECT_FALSE(wire().host_closed);
  loop.advance(std::chrono::seconds(2));
  EXPECT_TRUE(wire().host_closed);
}

TEST_F(Hostile, RandomBytesNeverCrash) {
  std::uint64_t state = 42;
  const auto random = [&state] {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state >> 33);
  };
  for (int round = 0; round < 400; ++round) {
    start();
    // Valid PDUs with a few bytes changed: they get further than noise would.
    peer.send_data(read_cid, 0, pattern(2048, 1), false, false);
    peer.send_r2t(write_cid, 1, 0, 4096);
    peer.send_data(read_cid, 2048, pattern(2048, 2), true, true);
    peer.respond(flush_cid);
    peer.send_r2t(write_cid, 2, 4096, 4096);
    peer.respond(write_cid);
    for (std::uint32_t i = 0; i <= round % 4U; ++i) {
      const std::uint32_t choice = random() % 6;
      const std::size_t at = choice < 4 ? random() % 32 : random() % peer.out.size();
      peer.out[at] = static_cast<std::byte>(random());
    }
    deliver();
    wire().peer_closed = true;
    loop.settle();
    EXPECT_TRUE(reading->done() && writing->done() && bystander->done());
    restart();
  }
}

}  // namespace
}  // namespace leap::test
