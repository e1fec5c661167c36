// Framing and connection rules, as any peer sees them: protocol checklist B.1.
#include "rpc/golden_frames.h"
#include "worker/worker_fixture.h"

namespace leap::testing {
namespace {

using Framing = WorkerTest;

constexpr std::int64_t kBlock = 16793993217;
constexpr std::int64_t kCapacity = 134217728;

/// Sends golden frame A<request> and compares every byte of the answer with A<reply>.
void exchange_golden(WireClient& client, std::size_t request, std::size_t reply) {
  client.send(rpc::golden::frame(request));
  const Bytes wanted = rpc::golden::frame(reply);
  EXPECT_TRUE(same(client.receive(wanted.size()), wanted)) << "A" << reply << " after A" << request;
}

TEST_F(Framing, GoldenSessionIsAnsweredByteForByte) {
  WireClient writer = connect();
  exchange_golden(writer, 1, 2);
  exchange_golden(writer, 3, 4);
  const auto success = [](std::size_t request) {
    Bytes reply = rpc::golden::frame(request);
    reply.resize(rpc::kPrefixSize);
    reply[3] = std::byte{0x12};
    for (std::size_t i = 4; i < 8; ++i) reply[i] = std::byte{0};
    reply[9] &= std::byte{0x0F};
    return reply;
  };
  for (const std::size_t running : {5u, 6u}) {
    writer.send(rpc::golden::frame(running));
    EXPECT_TRUE(same(writer.receive(rpc::kPrefixSize), success(running))) << "reply to A" << running;
  }
  exchange_golden(writer, 7, 8);

  WireClient reader = connect();
  exchange_golden(reader, 10, 11);
  Bytes content = bytes_of("hello world!");
  content.resize(4096);
  const Bytes tail = bytes_of("tail");
  content.insert(content.end(), tail.begin(), tail.end());
  reader.send(rpc::golden::frame(12));
  const Bytes all = reader.receive(rpc::kPrefixSize + content.size());
  EXPECT_TRUE(same(std::span(all).subspan(rpc::kPrefixSize), content));
  reader.send(rpc::golden::frame(14));
  const Bytes last = reader.receive(rpc::kPrefixSize + 4);
  EXPECT_TRUE(same(std::span(last).subspan(rpc::kPrefixSize), tail));
  exchange_golden(reader, 15, 16);
}

TEST_F(Framing, FramesArrivingByteByByteAreTheSame) {
  WireClient client = connect();
  for (const std::size_t n : {1u, 3u, 5u, 7u}) {
    for (const std::byte byte : rpc::golden::frame(n)) client.send({&byte, 1});
    client.receive(n == 1 ? 37 : rpc::kPrefixSize);
  }
  EXPECT_TRUE(same(client.get(kBlock, 12), bytes_of("hello world!")));
}

TEST_F(Framing, IdsAreEchoedWhateverTheyAre) {
  WireClient client = connect();
  for (const std::int64_t id : {INT64_MIN, INT64_MAX, std::int64_t{-1}, std::int64_t{0}}) {
    for (const std::int32_t seq : {-1, 0, INT32_MIN, INT32_MAX}) {
      // Success and error; call() compares the ids.
      EXPECT_TRUE(client.call({.code = kRead, .status = 0xF5, .req_id = id, .seq_id = seq}).ok());
      EXPECT_FALSE(client.call({.code = kRead, .status = 0xF3, .req_id = id, .seq_id = seq}).ok());
    }
  }
}

TEST_F(Framing, SixteenMebibytesOfDataAreTakenInOneFrame) {
  WireClient client = connect();
  const Bytes data = stamped(7, 0, rpc::kMaxData);
  ASSERT_TRUE(client.open_write({.id = 7, .capacity = kCapacity}).ok());
  EXPECT_EQ(client.write(data).text(), "success");
  EXPECT_EQ(client.complete({.id = 7, .capacity = kCapacity, .length = rpc::kMaxData}).text(), "success");
  EXPECT_TRUE(same(client.get(7, rpc::kMaxData, rpc::kMaxData), data));
}

TEST_F(Framing, LengthsOutOfBoundsCloseOnlyTheirConnection) {
  WireClient bystander = connect();
  bystander.put(1, stamped(1, 0, 5000), kMebi);
  const char* prefixes[] = {
      "0100001300000000"
      "50f3"
      "0000000000000001"
      "00000001",  // 16 MiB + 1 of data
      "0000001100000000"
      "50f3"
      "0000000000000001"
      "00000001",  // -1 bytes of data
      "ffffffff00000000"
      "50f3"
      "0000000000000001"
      "00000001",
      "00000012ffffffff"
      "50f3"
      "0000000000000001"
      "00000001",  // negative header
      "2000001220000000"
      "50f3"
      "0000000000000001"
      "00000001",  // 512 MiB of header
  };
  for (const char* prefix : prefixes) {
    WireClient client = connect();
    client.send(rpc::golden::bytes_of(prefix));
    EXPECT_TRUE(client.closed()) << prefix;
  }
  EXPECT_TRUE(same(bystander.get(1, 5000), stamped(1, 0, 5000)));
}

TEST_F(Framing, EmptyMessageClosesSilently) {
  for (const std::uint8_t status : {std::uint8_t{0xFF}, std::uint8_t{0x66}, std::uint8_t{0x2E}}) {
    WireClient client = connect();
    client.send(WireClient::frame({.code = kWrite, .status = status, .req_id = 1, .seq_id = 1}));
    EXPECT_TRUE(client.closed()) << int{status};
  }
}

TEST_F(Framing, KeepAliveIsSwallowedWhateverItCarries) {
  WireClient client = connect();
  client.send(rpc::golden::frame(19));
  client.send(WireClient::frame({.code = kWrite, .status = 0xF0}, bytes_of("header"), bytes_of("and data")));
  client.send(WireClient::frame({.code = 200, .status = 0x10}));
  EXPECT_TRUE(client.close_read().ok()) << "the first reply is to the first request that is one";
}

TEST_F(Framing, UnknownCodesAndOneShotRequestsLeaveTheSessionAlone) {
  WireClient client = connect();
  const Bytes data = stamped(3, 0, 10'000);
  ASSERT_TRUE(client.open_write({.id = 3, .capacity = kMebi}).ok());
  ASSERT_TRUE(client.write(std::span(data).first(6000)).ok());
  for (const std::uint8_t code : {std::uint8_t{0}, std::uint8_t{14}, std::uint8_t{82}, std::uint8_t{255}}) {
    const Reply reply =
        client.call(code, RequestStatus::kRpc, bytes_of("whatever"), bytes_of("data that nobody reads"));
    EXPECT_EQ(reply.kind(), 10000) << int{code};
    EXPECT_NE(reply.text().find("Unsupported request type"), std::string::npos) << reply.text();
  }
  EXPECT_EQ(client.call(kWrite, RequestStatus::kRpc).kind(), 10000);
  EXPECT_EQ(client.call({.code = kWrite, .status = 0x0F, .req_id = client.req_id, .seq_id = 9}).kind(), 10000);
  ASSERT_TRUE(client.write(std::span(data).subspan(6000)).ok());
  EXPECT_TRUE(client.complete({.id = 3, .capacity = kMebi, .length = 10'000}).ok());
  EXPECT_TRUE(same(client.get(3, 10'000), data));

  ASSERT_TRUE(client.open_read({.id = 3, .len = 10'000, .chunk = 5000}).ok());
  EXPECT_EQ(client.call(99, RequestStatus::kOpen).kind(), 10000);
  EXPECT_EQ(client.call(kRead, RequestStatus::kRpc).kind(), 10000);
  EXPECT_EQ(client.call(kRead, RequestStatus::kCancel).kind(), 10000);
  EXPECT_TRUE(same(client.read().data, std::span(data).first(5000)));
}

TEST_F(Framing, RequestsOfAnotherKindBeginAnEmptySession) {
  WireClient client = connect();
  ASSERT_TRUE(client.open_write({.id = 4, .capacity = kMebi}).ok());
  ASSERT_TRUE(client.write(bytes_of("1234")).ok());
  EXPECT_EQ(client.read().kind(), 10000) << "no block is open for reading";
  EXPECT_EQ(client.write(bytes_of("5678")).kind(), 10000) << "and the write session is gone";
  // What it wrote waits for whoever names the block.
  EXPECT_TRUE(client.complete({.id = 4, .capacity = kMebi, .length = 4}).ok());
  EXPECT_TRUE(same(client.get(4, 4), bytes_of("1234")));
}

TEST_F(Framing, MissingFieldsAndUnknownOnesAreTolerated) {
  WireClient client = connect();
  client.new_session();
  // An Open with nothing but an id, a capacity, storage type 77, and a field that nobody knows.
  const Bytes header = rpc::golden::bytes_of(
      "0a0408051"
      "84d"
      "18808080"
      "01"
      "c03e05");
  proto::BlockWriteRequest lenient;
  ASSERT_TRUE(rpc::parse_header(header, lenient).ok());
  const Reply opened = client.call(kWrite, RequestStatus::kOpen, header);
  ASSERT_TRUE(opened.ok()) << opened.text();
  proto::BlockWriteResponse reply;
  rpc::parse_header(opened.header, reply).value();
  EXPECT_EQ(reply.id(), 5);
  EXPECT_EQ(reply.storage_type(), proto::STORAGE_TYPE_SPDK_DISK);
  ASSERT_TRUE(client.write(bytes_of("abc")).ok());
  EXPECT_TRUE(client.complete({.id = 5, .capacity = 2097152, .length = 3}).ok());
  EXPECT_EQ(client.call(kWrite, RequestStatus::kOpen).kind(), 28) << "an empty header is block 0 of capacity 0";
}

TEST_F(Framing, HeaderThatIsNoMessageIsAnErrorReply) {
  WireClient client = connect();
  for (const auto status : {RequestStatus::kOpen, RequestStatus::kComplete, RequestStatus::kCancel}) {
    EXPECT_EQ(client.call(kWrite, status, bytes_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")).kind(), 10000);
  }
  EXPECT_EQ(client.call(kRead, RequestStatus::kOpen, bytes_of("\x0a")).kind(), 10000);
  EXPECT_TRUE(client.close_read().ok()) << "the connection goes on";
}

TEST_F(Framing, PipelinedRequestsAreAnsweredInOrder) {
  WireClient client = connect();
  client.put(6, stamped(6, 0, 100'000), kMebi);
  ASSERT_TRUE(client.open_read({.id = 6, .len = 100'000, .chunk = 1000}).ok());
  Bytes all;
  for (std::int32_t i = 0; i < 100; ++i) {
    const Bytes one = WireClient::frame({.code = kRead, .status = 0xF3, .req_id = 1, .seq_id = i});
    all.insert(all.end(), one.begin(), one.end());
  }
  client.send(all);
  for (std::int32_t i = 0; i < 100; ++i) {
    const Reply reply = client.read_reply({.code = kRead, .status = 0xF3, .req_id = 1, .seq_id = i});
    ASSERT_TRUE(same(reply.data, stamped(6, static_cast<std::uint64_t>(i) * 1000, 1000)));
  }
}

TEST_F(Framing, ConnectionsDroppedWithoutAByteLeaveNothing) {
  for (int round = 0; round < 5; ++round) {
    std::vector<WireClient> clients;
    for (int i = 0; i < 60; ++i) clients.push_back(connect());
  }
  EXPECT_TRUE(eventually([&] { return env().worker().server().sessions() == 0; }));
}

TEST_F(Framing, RandomBytesHurtNobodyElse) {
  WireClient bystander = connect();
  bystander.put(8, stamped(8, 0, 70'000), kMebi);
  std::uint64_t state = 88172645463325252ULL;
  for (int i = 0; i < 200; ++i) {
    WireClient client = connect();
    Bytes bytes = rpc::golden::frame(static_cast<std::size_t>(i) % 19 + 1);
    for (int flips = 0; flips < 6; ++flips) {
      state ^= state << 13U, state ^= state >> 7U, state ^= state << 17U;
      bytes[state % bytes.size()] = static_cast<std::byte>(state >> 40U);
    }
    client.send(bytes);
  }
  EXPECT_TRUE(same(bystander.get(8, 70'000), stamped(8, 0, 70'000)));
}

}  // namespace
}  // namespace leap::testing
