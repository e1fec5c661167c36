// What the client puts on the wire, and what it makes of replies, against a worker that is only a function.
#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "client/connection_pool.h"
#include "client/fake_worker.h"
#include "client/transfer.h"
#include "client/worker_info.h"
#include "proto/leap.pb.h"
#include "rpc/error_codec.h"
#include "rpc/golden_frames.h"

namespace leap {
namespace {

using rpc::RequestStatus;
using testing::FakeWorker;
using testing::reply_to;
using testing::Request;

constexpr BlockId kBlock{16793993217};
constexpr std::uint64_t kCapacity = 134217728;

std::vector<std::byte> encoded(const google::protobuf::MessageLite& message) {
  std::vector<std::byte> out(rpc::header_size(message));
  rpc::encode_header(message, out);
  return out;
}

std::vector<std::byte> opened(std::uint64_t capacity) {
  proto::BlockWriteResponse reply;
  reply.set_id(kBlock.value());
  reply.set_off(0);
  reply.set_block_size(static_cast<std::int64_t>(capacity));
  reply.set_storage_type(proto::STORAGE_TYPE_SPDK_DISK);
  return encoded(reply);
}

std::vector<std::byte> error_reply(const Request& request, rpc::ErrorKind kind, std::string_view text) {
  const std::string payload = rpc::encode_error(kind, text);
  return reply_to(request, {}, std::as_bytes(std::span(payload)), rpc::ResponseStatus::kError);
}

/// Answers everything with success: a block that consists of the bytes 0, 1, 2, ... (mod 251).
std::vector<std::byte> agreeable(const Request& request) {
  static std::uint64_t position = 0, length = 0, chunk = 0;
  if (request.head.request() == RequestStatus::kOpen && request.head.code == 80)
    return reply_to(request, opened(kCapacity), {});
  if (request.head.request() == RequestStatus::kOpen) {
    proto::BlockReadRequest open;
    rpc::parse_header(request.header(), open).value();
    position = static_cast<std::uint64_t>(open.off());
    length = static_cast<std::uint64_t>(open.len());
    chunk = static_cast<std::uint64_t>(open.chunk_size());
    return reply_to(request, {}, {});
  }
  if (request.head.code == 80 || request.head.request() != RequestStatus::kRunning) return reply_to(request, {}, {});
  if (request.head.header_size > 0) {
    proto::DataHeaderProto seek;
    rpc::parse_header(request.header(), seek).value();
    position = static_cast<std::uint64_t>(seek.offset());
  }
  std::vector<std::byte> data(std::min(chunk, length - position));
  for (std::byte& b : data) b = static_cast<std::byte>(position++ % 251);
  return reply_to(request, {}, data);
}

class Client : public ::testing::Test {
 protected:
  Client() : poller_(NvmePoller::create({.name = "client"}).value()) { poller_->start().value(); }

  WorkerConnection::Config config() {
    WorkerConnection::Config config;
    config.client_name = "c0ffee00-0000-4000-8000-000000000001";
    config.component = {.name = "client", .release_version = "0.4.1", .git_commit = "bff4e7dc", .git_branch = "main"};
    return config;
  }
  std::unique_ptr<WorkerConnection> connect(FakeWorker& worker) { return connect(worker, config()); }
  std::unique_ptr<WorkerConnection> connect(FakeWorker& worker, const WorkerConnection::Config& config) {
    return poller_->run([&](NvmePoller& p) { return WorkerConnection::connect(p, worker, {}, config); }).value();
  }
  Result<std::unique_ptr<RemoteWriter>> open_write(WorkerConnection& connection) {
    return poller_->run(
        [&](NvmePoller&) { return RemoteWriter::open(connection, {.id = kBlock, .capacity = kCapacity}); });
  }

  std::unique_ptr<NvmePoller> poller_;
};

/// The golden frame with the request id of what was really sent: ids are random.
std::vector<std::byte> golden(std::size_t number, const Request& like) {
  auto bytes = rpc::golden::frame(number);
  std::copy_n(like.frame.begin() + 10, 8, bytes.begin() + 10);
  return bytes;
}

Task<Result<>> write_as_golden(WorkerConnection& connection) {
  LEAP_CO_TRY(auto writer,
              co_await RemoteWriter::open(connection, {.id = kBlock, .capacity = kCapacity, .chunk_size = 131072}));
  const std::string hello = "hello world!", tail = "tail";
  LEAP_CO_TRY_VOID(co_await writer->write(std::as_bytes(std::span(hello))));
  writer->seek(4096);
  LEAP_CO_TRY_VOID(co_await writer->write(std::as_bytes(std::span(tail))));
  LEAP_CO_TRY_VOID(co_await writer->flush());
  co_return co_await writer->complete(4100);
}

TEST_F(Client, WriterSendsTheGoldenFrames) {
  FakeWorker worker(agreeable);
  auto connection = connect(worker);
  poller_->run([&](NvmePoller&) { return write_as_golden(*connection); }).value();
  ASSERT_EQ(worker.requests.size(), 5u);
  const std::size_t numbers[] = {1, 3, 5, 6, 7};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(worker.requests[i].frame, golden(numbers[i], worker.requests[i])) << "A" << numbers[i];
    EXPECT_EQ(worker.requests[i].head.req_id, worker.requests[0].head.req_id);
    EXPECT_LT(worker.requests[i].head.req_id, 0);
  }
}

Task<Result<>> read_as_golden(WorkerConnection& connection) {
  LEAP_CO_TRY(auto reader,
              co_await RemoteReader::open(connection,
                                          {.id = kBlock, .length = 4100, .chunk_size = 131072, .short_circuit = true}));
  std::vector<std::byte> buffer(131072);
  LEAP_CO_TRY(const std::size_t all, co_await reader->read(buffer));
  LEAP_CHECK(all == 4100, "one chunk holds the block");
  reader->seek(4096);
  LEAP_CO_TRY(const std::size_t tail, co_await reader->read(buffer));
  LEAP_CHECK(tail == 4 && buffer[0] == std::byte{4096 % 251}, "four bytes from 4096");
  co_return co_await reader->close();
}

TEST_F(Client, ReaderSendsTheGoldenFrames) {
  FakeWorker worker(agreeable);
  auto connection = connect(worker);
  poller_->run([&](NvmePoller&) { return read_as_golden(*connection); }).value();
  ASSERT_EQ(worker.requests.size(), 4u);
  const std::size_t numbers[] = {10, 12, 14, 15};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(worker.requests[i].frame, golden(numbers[i], worker.requests[i])) << "A" << numbers[i];
  }
}

TEST_F(Client, ErrorReplyKeepsItsKindAndTheConnection) {
  FakeWorker worker([](const Request& r) {
    return r.head.code == 81 ? error_reply(r, rpc::ErrorKind::kBlockNotFound, "Block 5 not found") : agreeable(r);
  });
  auto connection = connect(worker);
  const auto reader =
      poller_->run([&](NvmePoller&) { return RemoteReader::open(*connection, {.id = BlockId{5}, .length = 1}); });
  ASSERT_FALSE(reader.ok());
  EXPECT_EQ(reader.error().kind(), Errc::kNotFound);
  EXPECT_NE(reader.error().message().find("ReadBlock Open: Block 5 not found (BlockNotFound)"), std::string::npos)
      << reader.error().message();
  EXPECT_TRUE(connection->usable());
  EXPECT_TRUE(open_write(*connection).ok()) << "the next session runs on the same connection";
}

TEST_F(Client, ReplyThatIsNotOursClosesTheConnection) {
  const FakeWorker::Handler bad[] = {
      [](const Request& r) {
        Request other = r;
        other.head.req_id ^= 1;
        return reply_to(other, {}, {});
      },
      [](const Request& r) {
        Request other = r;
        other.head.seq_id += 1;
        return reply_to(other, {}, {});
      },
      [](const Request& r) { return reply_to(r, {}, std::vector<std::byte>(100)); },  // data nobody asked for
      [](const Request& r) { return reply_to(r, std::vector<std::byte>(3, std::byte{0xFF}), {}); },  // no protobuf
      [](const Request& r) { return reply_to(r, {}, std::vector<std::byte>(3), rpc::ResponseStatus::kError); },
      [](const Request&) { return std::vector<std::byte>(22, std::byte{0xFF}); },
  };
  for (const auto& handler : bad) {
    FakeWorker worker(handler);
    auto connection = connect(worker);
    const auto writer = open_write(*connection);
    ASSERT_FALSE(writer.ok());
    EXPECT_EQ(writer.error().kind(), Errc::kProtocol) << writer.error().to_string();
    EXPECT_FALSE(connection->usable());
    EXPECT_EQ(open_write(*connection).error().kind(), Errc::kClosed);
  }
}

/// A worker whose block has `lengths[i]` bytes and generation i + 1 when it is described for the i-th time.
class Rewritten {
 public:
  explicit Rewritten(std::vector<std::uint64_t> lengths) : lengths_(std::move(lengths)) {}

  std::vector<std::byte> operator()(const Request& request) {
    if (request.head.code != 120) return agreeable(request);
    const std::size_t now = std::min(described_++, lengths_.size() - 1);
    proto::LeapWorkerInfoResponse reply;
    proto::LeapBlockInfo& block = *reply.mutable_block();
    block.set_id(kBlock.value());
    block.set_finalized(true);
    block.set_length(lengths_[now]);
    block.set_generation(now + 1);
    return reply_to(request, encoded(reply), {});
  }

 private:
  std::vector<std::uint64_t> lengths_;
  std::size_t described_ = 0;
};

TEST_F(Client, WholeBlockIsOfOneGenerationAlthoughItWasRewrittenBeforeItWasOpened) {
  // Described as 5000 bytes; rewritten to 300 before it is opened; quiet from then on.
  FakeWorker worker(Rewritten({5000, 300}));
  auto connection = connect(worker);
  std::size_t seen = 0;
  const BlockSink sink = [&](std::span<const std::byte> bytes) -> Result<> {
    seen += bytes.size();
    return {};
  };
  const auto length = poller_->run([&](NvmePoller&) { return get_whole_block(*connection, kBlock, sink); });
  ASSERT_TRUE(length.ok()) << length.error().to_string();
  EXPECT_EQ(*length, 300u);
  EXPECT_EQ(seen, 300u) << "nothing of the first attempt";
}

TEST_F(Client, WholeBlockThatIsRewrittenAllTheTimeIsAnErrorWithoutData) {
  FakeWorker worker(Rewritten(std::vector<std::uint64_t>(100, 5000)));
  auto connection = connect(worker);
  const BlockSink sink = [](std::span<const std::byte>) { return Error(Errc::kInternal, "data of an unknown age"); };
  const auto length = poller_->run([&](NvmePoller&) { return get_whole_block(*connection, kBlock, sink); });
  ASSERT_FALSE(length.ok());
  EXPECT_EQ(length.error().kind(), Errc::kBusy) << length.error().to_string();
  EXPECT_TRUE(connection->usable());
}

TEST_F(Client, WorkerThatChangesTheCapacityIsRefused) {
  FakeWorker worker([](const Request& r) { return reply_to(r, opened(kCapacity / 2), {}); });
  auto connection = connect(worker);
  EXPECT_EQ(open_write(*connection).error().kind(), Errc::kProtocol);
}

TEST_F(Client, LateReplyIsATimeoutAndClosesTheConnection) {
  FakeWorker worker([](const Request&) { return std::vector<std::byte>{}; });
  WorkerConnection::Config impatient = config();
  impatient.data_timeout = std::chrono::milliseconds(20);
  auto connection = connect(worker, impatient);
  const auto writer = open_write(*connection);
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(writer.error().kind(), Errc::kTimedOut);
  EXPECT_TRUE(writer.error().may_have_executed());
  EXPECT_FALSE(connection->usable());
}

TEST_F(Client, PutCutsTheStreamIntoChunksAndCommitsItsLength) {
  FakeWorker worker(agreeable);
  auto connection = connect(worker);
  std::size_t left = 100'000;
  const BlockSource source = [&](std::span<std::byte> out) -> Result<std::size_t> {
    const std::size_t n = std::min({left, out.size(), std::size_t{777}});  // a pipe gives what it has
    left -= n;
    return n;
  };
  const auto length = poller_->run([&](NvmePoller&) {
    return put_block(*connection, {.id = kBlock, .capacity = kCapacity, .chunk_size = 40'000}, source);
  });
  ASSERT_TRUE(length.ok()) << length.error().to_string();
  EXPECT_EQ(*length, 100'000u);
  ASSERT_EQ(worker.requests.size(), 5u);
  EXPECT_EQ(worker.requests[1].head.data_size, 40'000u);
  EXPECT_EQ(worker.requests[3].head.data_size, 20'000u);
  EXPECT_EQ(worker.requests[4].head.request(), RequestStatus::kComplete);
  proto::BlockWriteRequest complete;
  rpc::parse_header(worker.requests[4].header(), complete).value();
  EXPECT_EQ(complete.block().block_size(), 100'000);
  EXPECT_EQ(complete.off(), 100'000);
}

TEST_F(Client, PutThatFailsCancelsTheBlock) {
  int frames = 0;
  FakeWorker worker([&](const Request& r) {
    return ++frames == 3 ? error_reply(r, rpc::ErrorKind::kIo, "write error") : agreeable(r);
  });
  auto connection = connect(worker);
  const BlockSource endless = [](std::span<std::byte> out) -> Result<std::size_t> { return out.size(); };
  const auto length = poller_->run([&](NvmePoller&) {
    return put_block(*connection, {.id = kBlock, .capacity = kCapacity, .chunk_size = 4096}, endless);
  });
  EXPECT_EQ(length.error().kind(), Errc::kIo);
  EXPECT_EQ(worker.requests.back().head.request(), RequestStatus::kCancel);
}

TEST_F(Client, GetDeliversEveryByteInOrder) {
  FakeWorker worker(agreeable);
  auto connection = connect(worker);
  std::vector<std::byte> all;
  const BlockSink sink = [&](std::span<const std::byte> bytes) -> Result<> {
    all.insert(all.end(), bytes.begin(), bytes.end());
    return {};
  };
  poller_
      ->run([&](NvmePoller&) {
        return get_block(*connection, {.id = kBlock, .length = 10'001, .offset = 1, .chunk_size = 4096}, sink);
      })
      .value();
  ASSERT_EQ(all.size(), 10'000u);
  for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], static_cast<std::byte>((i + 1) % 251));
}

Task<Result<bool>> use_pool(ConnectionPool& pool, bool leave_broken) {
  LEAP_CO_TRY(ConnectionPool::Lease lease, co_await pool.acquire({}));
  if (leave_broken) lease->close();
  co_return lease->usable();
}

TEST_F(Client, PoolReusesAConnectionUnlessItBroke) {
  FakeWorker worker(agreeable);
  ConnectionPool pool(*poller_, worker, {});
  const auto use = [&](bool leave_broken) {
    return poller_->run([&](NvmePoller&) { return use_pool(pool, leave_broken); }).value();
  };
  EXPECT_TRUE(use(false));
  EXPECT_TRUE(use(false));
  EXPECT_EQ(worker.connections, 1);
  EXPECT_EQ(pool.idle(), 1u);
  EXPECT_FALSE(use(true));
  EXPECT_EQ(pool.idle(), 0u);
  EXPECT_TRUE(use(false));
  EXPECT_EQ(worker.connections, 2);
}

TEST_F(Client, NobodyListeningIsAClearError) {
  const auto nowhere = SocketAddress::parse("127.0.0.1:1").value();
  const auto connection =
      poller_->run([&](NvmePoller& p) { return WorkerConnection::connect(p, Net::system(), nowhere, {}); });
  ASSERT_FALSE(connection.ok());
  EXPECT_EQ(connection.error().kind(), Errc::kUnreachable);
  EXPECT_NE(connection.error().message().find("127.0.0.1:1"), std::string::npos);
}

}  // namespace
}  // namespace leap
