// How data moves: R2T sequences, H2CData checks, C2HData forms, digests, padding, and streams cut at every byte.
#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::Fes;
using nvme::GenericStatus;
using nvme::Nsid;
using nvme::PduType;

TEST(R2T, AsksForEverythingAtOnceByDefault) {
  Rig rig;
  auto hosts = rig.io_host();
  const Bytes data = pattern(256 * 1024, 1);
  const Reply reply = hosts.io->write(1, 8, data, Via::kR2T);
  ASSERT_TRUE(reply.ok());
  ASSERT_EQ(reply.r2ts, 1U);
  EXPECT_EQ(hosts.io->r2ts[0].r2to, 0U);
  EXPECT_EQ(hosts.io->r2ts[0].r2tl, data.size());
  EXPECT_TRUE(same(hosts.io->read(1, 8, 512).data, data));
}

TEST(R2T, IsCutToItsLimitAndSeveralAreOutstandingOnlyIfBothSidesAllowIt) {
  TargetConfig config;
  config.max_r2t_bytes = 8192;
  config.max_r2ts = 3;
  Rig rig(config);
  for (const std::uint32_t host_allows : {1U, 2U, 16U}) {
    nvme::ConnectionParams wanted;
    wanted.maxr2t = host_allows;
    auto hosts = rig.io_host(wanted);
    const Bytes data = pattern(8192 * 4 + 512, host_allows);
    hosts.io->answer_r2ts = false;
    const nvme::Cid cid = hosts.io->submit(nvme::make_write(Nsid{1}, 0, 65), data, Via::kR2T);
    while (hosts.io->pump()) {
    }
    ASSERT_EQ(hosts.io->r2ts.size(), std::min(host_allows, 3U)) << "outstanding at once";
    std::set<std::uint16_t> tags;
    for (const auto& r2t : hosts.io->r2ts) EXPECT_TRUE(tags.insert(r2t.ttag).second) << "two R2Ts with one tag";
    // Answer them one by one: each makes room for the next.
    std::uint32_t next = 0;
    for (std::size_t i = 0; i < hosts.io->r2ts.size(); ++i) {
      const auto r2t = hosts.io->r2ts[i];
      EXPECT_EQ(r2t.r2to, next);
      EXPECT_EQ(r2t.r2tl, std::min<std::size_t>(8192, data.size() - next));
      next += r2t.r2tl;
      hosts.io->send_pdu(nvme::make_h2c_data(cid, r2t.ttag, r2t.r2to, r2t.r2tl, true, hosts.io->params()),
                         std::span(data).subspan(r2t.r2to, r2t.r2tl));
      while (hosts.io->pump()) {
      }
    }
    EXPECT_EQ(next, data.size());
    EXPECT_TRUE(hosts.io->wait(cid).ok());
    EXPECT_EQ(hosts.io->r2ts.size(), 5U);
    EXPECT_TRUE(same(hosts.io->read(1, 0, 65).data, data));
  }
}

TEST(R2T, IsAnsweredInAsManyH2CDataAsTheHostLikes) {
  TargetConfig config;
  config.max_h2c_data = 4096;
  Rig rig(config);
  for (const bool digests : {false, true}) {
    nvme::ConnectionParams wanted;
    wanted.hdgst = wanted.ddgst = digests;
    auto hosts = rig.io_host(wanted);
    for (const std::uint32_t chunk : {4096U, 1000U, 512U, 4U}) {
      hosts.io->h2c_chunk = chunk;
      const Bytes data = pattern(16384, chunk);
      ASSERT_TRUE(hosts.io->write(1, 0, data, Via::kR2T).ok());
      EXPECT_TRUE(same(hosts.io->read(1, 0, 32).data, data));
    }
  }
}

/// A host in the middle of a write of 8 KiB whose R2T has come.
class H2CDataTest : public ::testing::Test {
 protected:
  H2CDataTest() : hosts(rig.io_host()) {
    io = hosts.io.get();
    io->answer_r2ts = false;
    cid = io->submit(nvme::make_write(Nsid{1}, 0, 16), data, Via::kR2T);
    while (io->pump()) {
    }
    EXPECT_EQ(io->r2ts.size(), 1U);
    ttag = io->r2ts.at(0).ttag;
  }
  void send(nvme::Cid to, std::uint16_t tag, std::uint32_t offset, std::uint32_t size, bool last) {
    io->send_pdu(nvme::make_h2c_data(to, tag, offset, size, last, io->params()), Bytes(size));
    while (io->pump()) {
    }
  }
  void expect_fault(Fes fes, std::uint32_t fei) {
    ASSERT_TRUE(io->term_req);
    EXPECT_EQ(io->term_req->fes, static_cast<std::uint16_t>(fes));
    EXPECT_EQ(io->term_req->fei(), fei);
    EXPECT_TRUE(io->closed());
    EXPECT_FALSE(hosts.admin->closed()) << "the admin queue is not to blame";
  }

  Rig rig;
  Rig::Hosts hosts;
  TestHost* io = nullptr;
  Bytes data = pattern(8192, 1);
  nvme::Cid cid;
  std::uint16_t ttag = 0;
};

TEST_F(H2CDataTest, WithATagNobodyGaveOutIsRefused) {
  send(cid, static_cast<std::uint16_t>(ttag + 1), 0, 512, false);
  expect_fault(Fes::kInvalidHeaderField, nvme::pdu_field::kTtag);
}
TEST_F(H2CDataTest, WithATagPastTheLastSlotIsRefused) {
  send(cid, 0xFFFF, 0, 512, false);
  expect_fault(Fes::kInvalidHeaderField, nvme::pdu_field::kTtag);
}
TEST_F(H2CDataTest, ForAnotherCommandIsRefused) {
  send(nvme::Cid{static_cast<std::uint16_t>(cid.value() + 1)}, ttag, 0, 512, false);
  expect_fault(Fes::kInvalidHeaderField, nvme::pdu_field::kCccid);
}
TEST_F(H2CDataTest, OutOfOrderIsRefused) {
  send(cid, ttag, 512, 512, false);
  expect_fault(Fes::kDataTransferOutOfRange, 0);
}
TEST_F(H2CDataTest, SentTwiceIsRefused) {
  send(cid, ttag, 0, 512, false);
  send(cid, ttag, 0, 512, false);
  expect_fault(Fes::kDataTransferOutOfRange, 0);
}
TEST_F(H2CDataTest, PastTheEndIsRefused) {
  send(cid, ttag, 0, 8196, true);
  expect_fault(Fes::kDataTransferOutOfRange, 0);
}
TEST_F(H2CDataTest, MarkedLastTooEarlyIsRefused) {
  send(cid, ttag, 0, 4096, true);
  expect_fault(Fes::kInvalidHeaderField, nvme::pdu_field::kFlags);
}
TEST_F(H2CDataTest, NotMarkedLastAtTheEndIsRefused) {
  send(cid, ttag, 0, 8192, false);
  expect_fault(Fes::kInvalidHeaderField, nvme::pdu_field::kFlags);
}
TEST_F(H2CDataTest, AfterTheCommandHasCompletedIsRefused) {
  send(cid, ttag, 0, 8192, true);
  EXPECT_TRUE(io->take_reply(cid)->ok());
  send(cid, ttag, 0, 8192, true);
  expect_fault(Fes::kInvalidHeaderField, nvme::pdu_field::kTtag);
}
TEST_F(H2CDataTest, LongerThanMaxH2CDataIsRefusedBeforeItIsRead) {
  auto pdu = nvme::make_h2c_data(cid, ttag, 0, 8192, true, io->params());
  pdu.header.plen = 24 + (1U << 20) + 4;
  pdu.datal = (1U << 20) + 4;
  io->send_bytes(nvme::wire::bytes_of(pdu));
  while (io->pump()) {
  }
  expect_fault(Fes::kDataTransferLimitExceeded, 0);
}
TEST_F(H2CDataTest, WhoseLengthContradictsThePduIsRefused) {
  auto pdu = nvme::make_h2c_data(cid, ttag, 0, 8192, true, io->params());
  pdu.datal = 4096;
  io->send_bytes(nvme::wire::bytes_of(pdu));
  while (io->pump()) {
  }
  expect_fault(Fes::kInvalidHeaderField, nvme::pdu_field::kDataLength);
}
TEST_F(H2CDataTest, ThatStopsHalfwayLeavesTheOthersAlone) {
  io->send_bytes(io->build(nvme::make_h2c_data(cid, ttag, 0, 8192, true, io->params()), Bytes(100)));
  io->close();
  EXPECT_EQ(rig.target().probe().connections_now, 1U);
  auto again = rig.ready();
  ASSERT_TRUE(again->connect(1, hosts.admin->cntlid).ok());
  EXPECT_TRUE(again->read(1, 0, 1).ok());
}

TEST(C2HData, CarriesSuccessOrIsFollowedByAResponseAsConfigured) {
  for (const auto mode : {C2hSuccess::kNever, C2hSuccess::kWithoutFlowControl, C2hSuccess::kAlways}) {
    TargetConfig config;
    config.c2h_success = mode;
    Rig rig(config);
    for (const bool no_flow_control : {false, true}) {
      auto admin = rig.admin();
      auto io = rig.ready();
      ASSERT_TRUE(io->connect({.qid = nvme::Qid{1}, .entries = 32, .disable_sq_flow_control = no_flow_control},
                              io->connect_data(admin->cntlid))
                      .ok());
      const Reply reply = io->read(1, 0, 8);
      ASSERT_TRUE(reply.ok());
      EXPECT_EQ(reply.success_flag,
                mode == C2hSuccess::kAlways || (mode == C2hSuccess::kWithoutFlowControl && no_flow_control));
      EXPECT_FALSE(io->pump()) << "exactly one end";
      const Reply failed = io->read(1, 1 << 20, 8);
      EXPECT_FALSE(failed.success_flag);
      EXPECT_TRUE(failed.data.empty()) << "no data with an error";
    }
  }
}

TEST(C2HData, IsCutToItsLimitWithLastAndSuccessOnlyAtTheEnd) {
  TargetConfig config;
  config.max_c2h_data = 16384;
  Rig rig(config);
  nvme::ConnectionParams wanted;
  wanted.ddgst = true;
  for (const auto& params : {nvme::ConnectionParams{}, wanted}) {
    auto hosts = rig.io_host(params);
    const Bytes data = pattern(40960, 3);
    ASSERT_TRUE(hosts.io->write(1, 0, data, Via::kR2T).ok());
    const Reply reply = hosts.io->read(1, 0, 80);
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply.c2h_pdus, 3U);
    EXPECT_TRUE(same(reply.data, data));
    hosts.admin->close();
  }
}

TEST(C2HData, HasExactlyTheseBytes) {
  Rig rig;
  auto hosts = rig.io_host();
  const Bytes data = pattern(512, 7);
  ASSERT_TRUE(hosts.io->write(1, 3, data).ok());
  auto read = nvme::make_read(Nsid{1}, 3, 1);
  read.cid = nvme::Cid{0x1234};
  read.set_sgl(nvme::SglDescriptor::transport(512));
  hosts.io->submit_raw(read);
  Bytes answer;
  ASSERT_TRUE(hosts.io->wire().receive(answer));
  Bytes expected(24 + 512);
  expected[0] = std::byte{0x07};  // C2HData
  expected[1] = std::byte{0x0C};  // LAST_PDU, SUCCESS
  expected[2] = std::byte{24};    // HLEN
  expected[3] = std::byte{24};    // PDO
  expected[4] = std::byte{0x18};  // PLEN 536
  expected[5] = std::byte{0x02};
  expected[8] = std::byte{0x34};  // CCCID
  expected[9] = std::byte{0x12};
  expected[17] = std::byte{0x02};  // DATAL 512; DATAO 0
  std::copy(data.begin(), data.end(), expected.begin() + 24);
  EXPECT_EQ(answer, expected);
}

TEST(Padding, FollowsTheHostsAlignment) {
  Rig rig;
  for (const int hpda : {0, 1, 7, 15, 31}) {
    for (const bool digest : {false, true}) {
      nvme::ConnectionParams wanted;
      wanted.hpda = static_cast<std::uint8_t>(hpda);
      wanted.hdgst = digest;
      auto hosts = rig.io_host(wanted);
      auto read = nvme::make_read(Nsid{1}, 0, 1);
      read.cid = nvme::Cid{9};
      read.set_sgl(nvme::SglDescriptor::transport(512));
      hosts.io->submit_raw(read);
      const auto pdu = hosts.io->next();
      ASSERT_TRUE(pdu);
      EXPECT_EQ(pdu->header.pdo % ((hpda + 1) * 4), 0);
      EXPECT_GE(pdu->header.pdo, digest ? 28 : 24);
      EXPECT_EQ(pdu->data().size(), 512U);
      hosts.admin->close();
    }
  }
}

/// Every combination of digests, with streams that deliver and take a few bytes at a time.
class CutStreamTest : public ::testing::TestWithParam<std::tuple<bool, bool, std::size_t>> {};
INSTANTIATE_TEST_SUITE_P(DigestsAndCuts, CutStreamTest,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(),
                                            ::testing::Values(1, 2, 3, 7, 23, 71, 73, 4096)));

TEST_P(CutStreamTest, NothingDependsOnWhereTheStreamIsCut) {
  TestDevice device({.size = Rig::kSize, .block_size = 512});
  auto memory = MemBdev::create({.size = Rig::kSize, .block_size = 512, .name = "m"}).value();
  TargetConfig config;
  config.max_r2t_bytes = 4096;
  config.max_r2ts = 2;
  config.namespaces = {Rig::namespace_on(*memory), Rig::namespace_on(device)};
  Rig rig(config);
  nvme::ConnectionParams wanted;
  wanted.hdgst = std::get<0>(GetParam());
  wanted.ddgst = std::get<1>(GetParam());
  wanted.maxr2t = 2;
  auto hosts = rig.io_host(wanted);
  rig.cables.back()->read_limit = std::get<2>(GetParam());
  for (const std::uint32_t nsid : {1U, 2U}) {
    const Bytes small = pattern(1024, nsid);
    const Bytes large = pattern(10240, nsid + 10);
    const auto a = hosts.io->submit(nvme::make_write(Nsid{nsid}, 0, 2), small);
    const auto b = hosts.io->submit(nvme::make_write(Nsid{nsid}, 16, 20), large, Via::kR2T);
    const auto c = hosts.io->submit(nvme::make_flush(Nsid{nsid}));
    for (const auto cid : {a, b, c}) EXPECT_TRUE(hosts.io->wait(cid).ok());
    EXPECT_TRUE(same(hosts.io->read(nsid, 0, 2).data, small));
    EXPECT_TRUE(same(hosts.io->read(nsid, 16, 20).data, large));
  }
  EXPECT_EQ(rig.target().probe().digest_errors, 0U);
}

TEST(DataDigest, MismatchFailsTheCommandAloneAndWritesNothing) {
  TestDevice device({.size = Rig::kSize, .block_size = 512});
  auto memory = MemBdev::create({.size = Rig::kSize, .block_size = 512, .name = "m"}).value();
  TargetConfig config;
  config.max_r2t_bytes = 4096;
  config.namespaces = {Rig::namespace_on(*memory), Rig::namespace_on(device)};
  Rig rig(config);
  nvme::ConnectionParams wanted;
  wanted.ddgst = true;
  auto hosts = rig.io_host(wanted);
  for (const std::uint32_t nsid : {1U, 2U}) {
    for (const Via via : {Via::kCapsule, Via::kR2T}) {
      hosts.io->corrupt_data_digest = true;
      const Reply reply = hosts.io->write(nsid, 0, pattern(8192, 1), via);
      EXPECT_STATUS(reply, GenericStatus::kTransientTransportError);
      EXPECT_FALSE(reply.status().dnr) << "worth another try";
      hosts.io->corrupt_data_digest = false;
      EXPECT_TRUE(same(hosts.io->read(nsid, 0, 16).data, Bytes(8192))) << "damaged data stays out of the device";
    }
    EXPECT_TRUE(hosts.io->write(nsid, 0, pattern(8192, 1)).ok());
  }
  EXPECT_EQ(rig.target().probe().digest_errors, 6U) << "two R2Ts of 4 KiB count twice";
}

TEST(Batches, ManyCommandsInOneReadAreAnsweredInOneWrite) {
  Rig rig;
  auto hosts = rig.io_host();
  auto& cable = *rig.cables.back();
  Bytes burst;
  for (std::uint16_t i = 0; i < 31; ++i) {
    auto read = nvme::make_read(Nsid{1}, i, 1);
    read.cid = nvme::Cid{static_cast<std::uint16_t>(100 + i)};
    read.set_sgl(nvme::SglDescriptor::transport(512));
    const Bytes pdu = hosts.io->build(nvme::make_capsule_cmd(read, 0, {}));
    burst.insert(burst.end(), pdu.begin(), pdu.end());
  }
  const auto reads = cable.reads;
  const auto writes = cable.writes;
  hosts.io->send_bytes(burst);
  rig.settle();
  EXPECT_EQ(cable.reads, reads + 1);
  EXPECT_EQ(cable.writes, writes + 1);
  for (int i = 0; i < 31; ++i) EXPECT_TRUE(hosts.io->next());
}

}  // namespace
}  // namespace leap::target::testing
