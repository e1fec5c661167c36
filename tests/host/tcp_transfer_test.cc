// Data in both directions: in the capsule, by R2T, by C2HData; digests; splits; order.
#include "nvme/fabrics.h"
#include "nvme/status.h"
#include "queue_pair_fixture.h"

namespace leap::test {
namespace {

using nvme::PduType;

/// What the peer is like, in the ways that change the data path.
struct Variant {
  const char* name;
  std::uint32_t in_capsule;
  std::uint32_t maxh2cdata;
  std::uint8_t cpda;
  bool digests;
};
void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

class Writes : public QueuePairTest, public ::testing::WithParamInterface<Variant> {
 protected:
  Writes() {
    config.in_capsule_bytes = GetParam().in_capsule;
    config.header_digest = config.data_digest = GetParam().digests;
    config.maxr2t = 4;
    offered.maxh2cdata = GetParam().maxh2cdata;
    offered.cpda = GetParam().cpda;
  }
  /// Receives the data of one R2T, whatever number of PDUs it comes in.
  std::vector<std::byte> collect(nvme::Cid cid, std::uint16_t ttag, std::uint32_t offset, std::uint32_t length) {
    std::vector<std::byte> got;
    while (got.size() < length) {
      const auto pdu = expect(PduType::kH2CData);
      const auto head = pdu.as<nvme::H2CDataPdu>();
      if (pdu.data.empty()) break;
      EXPECT_EQ(head.cccid, cid);
      EXPECT_EQ(head.ttag, ttag);
      EXPECT_EQ(head.datao, offset + got.size());
      EXPECT_LE(head.datal, peer.params.maxh2cdata);
      got.insert(got.end(), pdu.data.begin(), pdu.data.end());
      EXPECT_EQ(pdu.header.last_pdu(), got.size() == length);
    }
    return got;
  }
};

TEST_P(Writes, ArriveWhole) {
  connect();
  std::uint32_t seed = 1;
  for (const std::size_t bytes : {512UL, 4096UL, 4608UL, 8192UL, 131072UL}) {
    const auto content = pattern(bytes, seed++);
    Outcome& outcome = write(seed, content);
    const auto capsule = expect_command();
    const auto cid = capsule.command().cid;
    EXPECT_EQ(capsule.command().dptr.length, bytes);
    if (bytes <= GetParam().in_capsule) {
      EXPECT_TRUE(capsule.command().dptr.is_in_capsule());
      EXPECT_EQ(capsule.data, content);
    } else {
      EXPECT_TRUE(capsule.command().dptr.is_transport());
      EXPECT_TRUE(capsule.data.empty());
      peer.send_r2t(cid, 9, 0, static_cast<std::uint32_t>(bytes));
      deliver();
      EXPECT_EQ(collect(cid, 9, 0, static_cast<std::uint32_t>(bytes)), content);
    }
    EXPECT_FALSE(outcome.done());
    peer.respond(cid);
    deliver();
    ASSERT_TRUE(outcome.ok());
    EXPECT_EQ(bytes_of(outcome.result->data), content) << "the buffer comes back as it went";
  }
}

TEST_P(Writes, AnswerPartialR2TsOneAfterTheOther) {
  connect();
  const auto content = pattern(20480, 3);
  Outcome& outcome = write(0, content);
  const auto cid = expect_command().command().cid;
  std::vector<std::byte> got;
  for (const std::uint32_t length : {512U, 8192U, 4096U, 7680U}) {
    const auto offset = static_cast<std::uint32_t>(got.size());
    const auto ttag = static_cast<std::uint16_t>(100 + offset);
    peer.send_r2t(cid, ttag, offset, length);
    deliver();
    const auto part = collect(cid, ttag, offset, length);
    got.insert(got.end(), part.begin(), part.end());
  }
  EXPECT_EQ(got, content);
  peer.respond(cid);
  deliver();
  EXPECT_TRUE(outcome.ok());
}

TEST_P(Writes, AnswerSeveralOutstandingR2TsInOrder) {
  connect();
  const auto content = pattern(16384, 4);
  Outcome& outcome = write(0, content);
  const auto cid = expect_command().command().cid;
  for (std::uint16_t i = 0; i < 4; ++i) peer.send_r2t(cid, static_cast<std::uint16_t>(i + 1), i * 4096U, 4096);
  deliver();
  for (std::uint16_t i = 0; i < 4; ++i) {
    const auto part = collect(cid, static_cast<std::uint16_t>(i + 1), i * 4096U, 4096);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), content.begin() + i * 4096)) << "R2T " << i;
  }
  peer.respond(cid);
  deliver();
  EXPECT_TRUE(outcome.ok());
}

INSTANTIATE_TEST_SUITE_P(
    Peers, Writes,
    ::testing::Values(Variant{"plain", 4096, 131072, 0, false}, Variant{"no_in_capsule", 0, 131072, 0, false},
                      Variant{"in_capsule_8k", 8192, 131072, 0, false}, Variant{"small_maxh2cdata", 0, 4096, 0, false},
                      Variant{"aligned", 4096, 8192, 31, false}, Variant{"digests", 4096, 131072, 0, true},
                      Variant{"all_at_once", 4096, 4096, 15, true}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST_F(QueuePairTest, SendsEverythingOfATurnInOneCall) {
  connect();
  wire().writes = 0;
  for (int i = 0; i < 8; ++i) read(static_cast<std::uint64_t>(i), 4096);
  pump();
  EXPECT_EQ(wire().writes, 1U);
}

TEST_F(QueuePairTest, ConnectTravelsInTheCapsuleWhateverTheCapsuleSize) {
  config.in_capsule_bytes = 0;
  connect();
  DmaBuf data = buffer(1024);
  execute(nvme::make_connect({.recfmt = 0, .qid = nvme::Qid{1}, .entries = 8}), std::move(data),
          nvme::DataDirection::kHostToController);
  EXPECT_EQ(expect_command().data.size(), 1024U);
}

class Reads : public QueuePairTest, public ::testing::WithParamInterface<bool> {
 protected:
  Reads() { config.header_digest = config.data_digest = GetParam(); }
};

TEST_P(Reads, TakeSeveralDataPdusAndAResponse) {
  connect();
  const auto content = pattern(65536, 7);
  Outcome& outcome = read(16, content.size());
  const auto cid = expect_command().command().cid;
  std::uint32_t offset = 0;
  for (const std::uint32_t length : {512U, 4096U, 32768U, 28160U}) {
    const bool last = offset + length == content.size();
    peer.send_data(cid, offset, std::span(content).subspan(offset, length), last, false);
    offset += length;
    deliver();
  }
  EXPECT_FALSE(outcome.done()) << "no SUCCESS flag: the response is still to come";
  peer.respond(cid);
  deliver();
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(bytes_of(outcome.result->data), content);
}

TEST_P(Reads, EndWithTheSuccessFlag) {
  connect();
  const auto content = pattern(8192, 8);
  Outcome& outcome = read(16, content.size());
  const auto cid = expect_command().command().cid;
  peer.send_data(cid, 0, std::span(content).first(4096), false, false);
  peer.send_data(cid, 4096, std::span(content).subspan(4096), true, true);
  deliver();
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(bytes_of(outcome.result->data), content);
  EXPECT_EQ(outcome.result->status->cid, cid);
}

TEST_P(Reads, CompleteOutOfOrder) {
  connect();
  std::vector<Outcome*> outcomes;
  std::vector<nvme::Cid> cids;
  for (std::uint32_t i = 0; i < 8; ++i) outcomes.push_back(&read(i, 4096));
  for (int i = 0; i < 8; ++i) cids.push_back(expect_command().command().cid);
  for (const std::size_t i : {5UL, 0UL, 7UL, 2UL, 1UL, 6UL, 4UL, 3UL}) {
    peer.send_data(cids[i], 0, pattern(4096, static_cast<std::uint32_t>(i)), true, true);
  }
  deliver();
  for (std::uint32_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(outcomes[i]->ok());
    EXPECT_EQ(bytes_of(outcomes[i]->result->data), pattern(4096, i)) << "command " << i;
  }
}

TEST_P(Reads, InterleaveDataOfSeveralCommands) {
  connect();
  const auto a = pattern(8192, 1);
  const auto b = pattern(8192, 2);
  Outcome& first = read(0, 8192);
  Outcome& second = read(16, 8192);
  const auto cid_a = expect_command().command().cid;
  const auto cid_b = expect_command().command().cid;
  peer.send_data(cid_a, 0, std::span(a).first(4096), false, false);
  peer.send_data(cid_b, 0, std::span(b).first(4096), false, false);
  peer.send_data(cid_a, 4096, std::span(a).subspan(4096), true, true);
  peer.send_data(cid_b, 4096, std::span(b).subspan(4096), true, true);
  deliver();
  EXPECT_EQ(bytes_of(first.result->data), a);
  EXPECT_EQ(bytes_of(second.result->data), b);
}

TEST_P(Reads, GiveTheSameResultForEverySplitOfTheStream) {
  connect();
  const auto content = pattern(1536, 9);
  // One stream with every kind of PDU the host may get while it reads: data with padding, data, response, R2T.
  const auto round = [&](const std::function<void(std::span<const std::byte>)>& send_in_parts) {
    Outcome& reading = read(0, content.size());
    Outcome& writing = write(8, pattern(8192, 10));
    const auto read_cid = expect_command().command().cid;
    const auto write_cid = expect_command().command().cid;
    peer.send_data(read_cid, 0, std::span(content).first(512), false, false);
    peer.send_r2t(write_cid, 3, 0, 8192);
    peer.send_data(read_cid, 512, std::span(content).subspan(512), true, false);
    peer.respond(read_cid);
    const auto stream = std::exchange(peer.out, {});
    send_in_parts(stream);
    ASSERT_TRUE(reading.ok());
    EXPECT_EQ(bytes_of(reading.result->data), content);
    EXPECT_EQ(expect(PduType::kH2CData).data, pattern(8192, 10));
    peer.respond(write_cid);
    deliver();
    EXPECT_TRUE(writing.ok());
    forget();
  };
  const auto send = [&](std::span<const std::byte> bytes) {
    wire().to_host.insert(wire().to_host.end(), bytes.begin(), bytes.end());
    pump();
  };
  std::size_t length = 0;
  round([&](auto stream) {
    length = stream.size();
    send(stream);
  });
  for (std::size_t cut = 1; cut < length; ++cut) {
    SCOPED_TRACE(cut);
    round([&](auto stream) {
      send(stream.first(cut));
      send(stream.subspan(cut));
    });
    if (HasFailure()) break;
  }
  for (const std::size_t step : {1UL, 2UL, 3UL, 7UL, 25UL}) {
    SCOPED_TRACE(step);
    wire().read_limit = step;
    round(send);
    wire().read_limit = SIZE_MAX;
  }
}

TEST_P(Reads, ReceiveLargePayloadInPlace) {
  connect();
  // After the first large one, the buffer stays out of the way: no more than its head and a little passes through it.
  for (int i = 0; i < 4; ++i) {
    const auto content = pattern(131072, static_cast<std::uint32_t>(i));
    Outcome& outcome = read(0, content.size());
    const auto cid = expect_command().command().cid;
    wire().reads = 0;
    peer.send_data(cid, 0, content, true, true);
    deliver();
    ASSERT_TRUE(outcome.ok());
    EXPECT_EQ(bytes_of(outcome.result->data), content);
    EXPECT_LE(wire().reads, 8U);
  }
}

INSTANTIATE_TEST_SUITE_P(Digests, Reads, ::testing::Bool(),
                         [](const auto& tested) { return tested.param ? "on" : "off"; });

TEST_F(QueuePairTest, AcceptsPaddingBeforeTheData) {
  connect();
  const auto content = pattern(4096, 11);
  Outcome& outcome = read(0, 4096);
  const auto cid = expect_command().command().cid;
  auto pdu = nvme::make_c2h_data(cid, 0, 4096, true, true, peer.params);
  pdu.header.pdo = 64;
  pdu.header.plen += 40;
  peer.send(pdu, content);
  deliver();
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(bytes_of(outcome.result->data), content);
}

TEST_F(QueuePairTest, ReturnsTheControllersStatusWithTheBuffer) {
  connect();
  Outcome& outcome = read(0, 4096);
  const auto cid = expect_command().command().cid;
  peer.respond(cid, nvme::status(nvme::GenericStatus::kLbaOutOfRange, nvme::kDnr), 0x1234);
  deliver();
  ASSERT_TRUE(outcome.done() && !outcome.ok());
  EXPECT_EQ(outcome.error().domain(), ErrorDomain::kNvme);
  EXPECT_EQ(outcome.error().nvme_status().sc, 0x80);
  EXPECT_TRUE(outcome.error().nvme_status().dnr);
  EXPECT_NE(outcome.error().message().find("read of LBA 0+8 in namespace 1"), std::string::npos);
  EXPECT_EQ(outcome.result->data.size(), 4096U);
  EXPECT_EQ(outcome.result->dw0, 0x1234U);
  EXPECT_TRUE(qp->live());
}

TEST_F(QueuePairTest, AWrongDataDigestCostsOnlyItsCommand) {
  config.data_digest = true;
  connect();
  const auto content = pattern(4096, 12);
  Outcome& bad = read(0, 4096);
  Outcome& good = read(8, 4096);
  const auto bad_cid = expect_command().command().cid;
  const auto good_cid = expect_command().command().cid;
  peer.send_data(bad_cid, 0, content, true, true);
  peer.out.back() ^= std::byte{1};
  peer.send_data(good_cid, 0, content, true, true);
  deliver();
  ASSERT_TRUE(bad.done() && !bad.ok());
  EXPECT_EQ(bad.error().kind(), Errc::kCorrupt);
  EXPECT_EQ(bad.error().domain(), ErrorDomain::kTransport);
  EXPECT_EQ(bad.error().scope(), ErrorScope::kCommand);
  EXPECT_TRUE(bad.error().retryable());
  EXPECT_TRUE(good.ok());
  EXPECT_TRUE(qp->live());
  EXPECT_EQ(qp->probe().digest_errors.value(), 1U);
}

TEST_F(QueuePairTest, KeepsSendingWhenTheSocketIsFullNow) {
  config.in_capsule_bytes = 8192;
  connect();
  wire().write_room = 100;
  std::vector<Outcome*> outcomes;
  for (std::uint32_t i = 0; i < 4; ++i) outcomes.push_back(&write(i * 16, pattern(8192, i)));
  for (int i = 0; i < 2000 && peer.in.size() < 4 * (8192 + 72); ++i) {
    pump();
    wire().write_room = 37;
  }
  wire().write_room = SIZE_MAX;
  for (std::uint32_t i = 0; i < 4; ++i) {
    const auto capsule = expect_command();
    EXPECT_EQ(capsule.data, pattern(8192, i));
    peer.respond(capsule.command().cid);
  }
  deliver();
  for (Outcome* outcome : outcomes) EXPECT_TRUE(outcome->ok());
  EXPECT_FALSE(wire().interest.write) << "everything is out";
}

TEST_F(QueuePairTest, CapsulesOvertakeTheDataOfR2Ts) {
  config.in_capsule_bytes = 0;
  offered.maxh2cdata = 4096;
  connect();
  write(0, pattern(1 << 20, 1));
  const auto first = expect_command().command().cid;
  write(0, pattern(1 << 20, 2));
  const auto second = expect_command().command().cid;
  wire().write_room = 0;
  peer.send_r2t(first, 1, 0, 1 << 20);
  peer.send_r2t(second, 2, 0, 1 << 20);
  deliver();
  flush();
  loop.settle();
  wire().write_room = SIZE_MAX;
  pump();
  std::size_t data_before = 0;
  while (auto pdu = peer.next()) {
    if (pdu->header.type == PduType::kCapsuleCmd) break;
    data_before += pdu->data.size();
  }
  EXPECT_LT(data_before, std::size_t{3} << 19) << "the flush waited for two megabytes of data";
}

}  // namespace
}  // namespace leap::test
