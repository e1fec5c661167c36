// ReadBlock as any peer sees it: protocol checklist B.3.
#include <atomic>
#include <thread>

#include "worker/worker_fixture.h"

namespace leap::testing {
namespace {

class ReadBlock : public WorkerTest {
 protected:
  static std::int64_t stored(std::size_t length) {
    const std::int64_t id = new_id();
    WireClient client = connect();
    client.put(id, stamped(id, 0, length), static_cast<std::int64_t>(length) + 100);
    return id;
  }
};

TEST_F(ReadBlock, UnknownBlockIsKind29) {
  WireClient client = connect();
  EXPECT_EQ(client.read_kind(new_id()), 29);
  EXPECT_EQ(client.read_kind(-5), 29);
  EXPECT_EQ(client.read_kind(0), 29);
}

TEST_F(ReadBlock, LimitsOfTheOpenAreChecked) {
  WireClient client = connect();
  const std::int64_t id = stored(5000);
  using Read = WireClient::Read;
  EXPECT_EQ(client.open_read(Read{.id = id, .len = -1}).kind(), 28);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = (std::int64_t{100} << 30) + 1}).kind(), 28);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = std::int64_t{100} << 30}).kind(), 0);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = 5000, .off = -1}).kind(), 28);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = 5000, .off = 5001}).kind(), 28);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = 5000, .chunk = 0}).kind(), 28);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = 5000, .chunk = -1}).kind(), 28);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = 5000, .chunk = (16 << 20) + 1}).kind(), 28);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = 5000, .chunk = 16 << 20}).kind(), 0);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = 5000, .read_ahead_len = (16 << 20) + 1}).kind(), 28);
  EXPECT_EQ(client.open_read(Read{.id = id, .len = 5000, .read_ahead = false, .read_ahead_len = 1LL << 40}).kind(), 0);
  EXPECT_EQ(client.open_read(Read{.id = id + 1000, .len = -1}).kind(), 29) << "an unknown block comes first";
}

TEST_F(ReadBlock, OpenAtTheEndIsLegalAndReadingThereIsNot) {
  WireClient client = connect();
  const std::int64_t id = stored(5000);
  ASSERT_TRUE(client.open_read({.id = id, .len = 5000, .off = 5000}).ok());
  EXPECT_EQ(client.read().kind(), 1);
  EXPECT_TRUE(same(client.read_at(4000).data, stamped(id, 4000, 1000))) << "a seek back helps";
  ASSERT_TRUE(client.open_read({.id = id, .len = 0}).ok());
  EXPECT_EQ(client.read().kind(), 1) << "a block of length 0 has no bytes";
}

TEST_F(ReadBlock, ChunksAreAsLongAsAskedFor) {
  constexpr std::size_t kLength = 600'001;
  const std::int64_t id = stored(kLength);
  const Bytes all = stamped(id, 0, kLength);
  WireClient client = connect();
  for (const std::int32_t chunk : {4095, 4096, 131072, 599'999, 16 << 20}) {
    for (const std::int64_t off : {0, 1, 4096, 123'457}) {
      ASSERT_TRUE(client.open_read({.id = id, .len = kLength, .off = off, .chunk = chunk}).ok());
      for (std::size_t at = static_cast<std::size_t>(off); at < kLength;) {
        const std::size_t n = std::min<std::size_t>(static_cast<std::size_t>(chunk), kLength - at);
        const Reply reply = client.read();
        ASSERT_TRUE(reply.header.empty());
        ASSERT_TRUE(same(reply.data, std::span(all).subspan(at, n))) << chunk << " from " << off << " at " << at;
        at += n;
      }
    }
  }
  ASSERT_TRUE(client.open_read({.id = id, .len = kLength, .off = 599'000, .chunk = 1}).ok());
  for (std::size_t at = 599'000; at < 599'100; ++at) {
    ASSERT_TRUE(same(client.read().data, std::span(all).subspan(at, 1))) << at;
  }
}

TEST_F(ReadBlock, LengthIsTheClients) {
  const std::int64_t id = stored(10'000);
  WireClient client = connect();
  Bytes longer = stamped(id, 0, 10'000);
  longer.resize(50'000);
  EXPECT_TRUE(same(client.get(id, 50'000, 4096), longer)) << "zeros behind the end, nothing from the device";
  EXPECT_TRUE(same(client.get(id, 7777, 4096), stamped(id, 0, 7777)));
  ASSERT_TRUE(client.open_read({.id = id, .len = 7777, .off = 7000}).ok());
  EXPECT_EQ(client.read().data.size(), 777u);
  EXPECT_EQ(client.read().kind(), 1);
}

TEST_F(ReadBlock, SeeksGoAnywhereInsideTheLength) {
  const std::int64_t id = stored(100'000);
  WireClient client = connect();
  ASSERT_TRUE(client.open_read({.id = id, .len = 100'000, .chunk = 1000}).ok());
  for (const std::int64_t at : {50'000, 0, 99'500, 99'500, 3, 99'999}) {
    const std::size_t n = std::min<std::size_t>(1000, 100'000 - static_cast<std::size_t>(at));
    EXPECT_TRUE(same(client.read_at(at).data, stamped(id, static_cast<std::uint64_t>(at), n))) << at;
  }
  EXPECT_EQ(client.read_at(100'000).kind(), 1);
  EXPECT_EQ(client.read_at(100'001).kind(), 1);
  EXPECT_EQ(client.read_at(-1).kind(), 1);
  EXPECT_EQ(client.read_at(INT64_MIN).kind(), 1);
  EXPECT_TRUE(same(client.read_at(5).data, stamped(id, 5, 1000)));
  EXPECT_TRUE(same(client.read().data, stamped(id, 1005, 1000)));
}

TEST_F(ReadBlock, ShortCircuitReplyHasNoPathAndTheSessionWorks) {
  const std::int64_t id = stored(5000);
  WireClient client = connect();
  const Reply opened = client.open_read({.id = id, .len = 5000, .short_circuit = true});
  ASSERT_TRUE(opened.ok());
  proto::BlockReadResponse reply;
  rpc::parse_header(opened.header, reply).value();
  EXPECT_FALSE(reply.has_path());
  EXPECT_EQ(reply.len(), 5000);
  EXPECT_EQ(reply.storage_type(), proto::STORAGE_TYPE_SPDK_DISK);
  EXPECT_TRUE(same(client.read().data, stamped(id, 0, 5000)));
}

TEST_F(ReadBlock, CompleteNeedsNothingButTheRightSession) {
  const std::int64_t id = stored(5000);
  WireClient client = connect();
  EXPECT_TRUE(client.close_read().ok()) << "without a session";
  ASSERT_TRUE(client.open_read({.id = id, .len = 5000}).ok());
  const std::int64_t ours = client.req_id;
  client.req_id = 77;
  EXPECT_EQ(client.close_read().kind(), 10000);
  EXPECT_TRUE(client.read().ok()) << "Running does not check the id";
  client.req_id = ours;
  EXPECT_EQ(client.call(kRead, RequestStatus::kCancel).kind(), 10000);
  EXPECT_TRUE(client.call(kRead, RequestStatus::kComplete, WireClient::read_header({.id = id})).ok())
      << "with a header";
  EXPECT_EQ(client.read().kind(), 10000) << "the session is over";
  EXPECT_TRUE(client.close_read().ok());
}

TEST_F(ReadBlock, DataSentWithARunningIsIgnored) {
  const std::int64_t id = stored(5000);
  WireClient client = connect();
  ASSERT_TRUE(client.open_read({.id = id, .len = 5000, .chunk = 1000}).ok());
  EXPECT_TRUE(same(client.call(kRead, RequestStatus::kRunning, {}, Bytes(70'000)).data, stamped(id, 0, 1000)));
  EXPECT_TRUE(same(client.read().data, stamped(id, 1000, 1000)));
}

TEST_F(ReadBlock, ManyReadersSeeTheSameBytesWhileTheBlockIsDeleted) {
  constexpr std::size_t kLength = 400'000, kReaders = 48;
  const std::int64_t id = stored(kLength);
  const Bytes all = stamped(id, 0, kLength);
  std::vector<WireClient> readers;
  for (std::size_t i = 0; i < kReaders; ++i) {
    readers.push_back(connect());
    ASSERT_TRUE(readers.back().open_read({.id = id, .len = kLength, .chunk = 20'000}).ok());
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (WireClient& reader : readers) {
    threads.emplace_back([&reader, &all, &wrong] {
      for (std::size_t at = 0; at < kLength; at += 20'000) {
        const Reply reply = reader.read();
        if (!same(reply.data, std::span(all).subspan(at, 20'000))) wrong.fetch_add(1);
      }
    });
  }
  WireClient other = connect();
  EXPECT_TRUE(other.cancel({.id = id, .capacity = kMebi}).ok());
  const std::int64_t tenant = new_id();
  other.put(tenant, stamped(tenant, 0, kLength), kMebi);  // would reuse the space if it could
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(other.read_kind(id), 29);
}

}  // namespace
}  // namespace leap::testing
