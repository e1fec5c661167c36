// The client against a real worker on a device in memory, over loopback.
#include "client/admin_client.h"
#include "client/connection_pool.h"
#include "client/transfer.h"
#include "client/worker_info.h"
#include "worker/worker_fixture.h"

namespace leap::testing {
namespace {

class EndToEnd : public WorkerTest {
 protected:
  /// Connects, runs body(connection) and disconnects, all on the client's poller.
  template <typename Body>
  auto with_connection(Body body) {
    return client_.run([&](NvmePoller& poller) { return connected(poller, env().worker().rpc_address(), body); });
  }
  AdminClient admin() { return {"127.0.0.1", env().worker().web_port()}; }
  Result<std::uint64_t> put(BlockId id, const Bytes& data, std::uint64_t capacity = kMebi) {
    std::size_t at = 0;
    const BlockSource source = [&](std::span<std::byte> out) -> Result<std::size_t> {
      const std::size_t n = std::min(out.size(), data.size() - at);
      std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), n, out.begin());
      at += n;
      return n;
    };
    const RemoteWriteOptions options{.id = id, .capacity = capacity};
    return with_connection([&](WorkerConnection& c) { return put_block(c, options, source); });
  }
  Result<Bytes> get(BlockId id, std::uint64_t length) {
    Bytes all;
    const BlockSink sink = [&](std::span<const std::byte> bytes) -> Result<> {
      all.insert(all.end(), bytes.begin(), bytes.end());
      return {};
    };
    const RemoteReadOptions options{.id = id, .length = length};
    Result<> done = with_connection([&](WorkerConnection& c) { return get_block(c, options, sink); });
    if (!done.ok()) return std::move(done).error();
    return all;
  }

  test::PollerThread client_{1U << 20U};

 private:
  template <typename Body>
  static auto connected(NvmePoller& poller, SocketAddress address, Body& body)
      -> std::invoke_result_t<Body&, WorkerConnection&> {
    const WorkerConnection::Config defaults;
    Result<std::unique_ptr<WorkerConnection>> connection =
        co_await WorkerConnection::connect(poller, Net::system(), address, defaults);
    if (!connection.ok()) co_return std::move(connection).error();
    auto result = co_await body(**connection);
    co_return result;
  }
};

TEST_F(EndToEnd, PutAndGetMoveEveryByte) {
  for (const std::size_t size : {0u, 1u, 4095u, 4096u, 131072u, 1'000'003u}) {
    const BlockId id{new_id()};
    const Bytes data = stamped(id.value(), 0, size);
    const Result<std::uint64_t> length = put(id, data);
    ASSERT_TRUE(length.ok()) << length.error().to_string();
    EXPECT_EQ(*length, size);
    const Result<Bytes> back = get(id, size);
    ASSERT_TRUE(back.ok()) << back.error().to_string();
    EXPECT_TRUE(same(*back, data));
  }
}

TEST_F(EndToEnd, PutLargerThanTheCapacityFailsAndLeavesNothing) {
  const BlockId id{new_id()};
  const Result<std::uint64_t> length = put(id, stamped(id.value(), 0, 200'000), 150'000);
  ASSERT_FALSE(length.ok());
  EXPECT_EQ(length.error().kind(), Errc::kInvalidArgument) << length.error().to_string();
  EXPECT_NE(length.error().message().find("exceeds block size"), std::string::npos);
  EXPECT_EQ(get(id, 1).error().kind(), Errc::kNotFound);
}

Task<Result<>> reuse_twice(ConnectionPool& pool, SocketAddress address, BlockId id, Bytes& out) {
  {
    LEAP_CO_TRY(ConnectionPool::Lease lease, co_await pool.acquire(address));
    const RemoteReadOptions unknown{.id = BlockId{id.value() + 5000}, .length = 1};
    const auto missing = co_await RemoteReader::open(*lease, unknown);
    LEAP_CHECK(!missing.ok() && missing.error().kind() == Errc::kNotFound, "an unknown block");
  }
  LEAP_CHECK(pool.idle() == 1, "an error reply does not spoil the connection");
  LEAP_CO_TRY(ConnectionPool::Lease lease, co_await pool.acquire(address));
  const RemoteReadOptions options{.id = id, .length = out.size()};
  LEAP_CO_TRY(auto reader, co_await RemoteReader::open(*lease, options));
  LEAP_CO_TRY(const std::size_t n, co_await reader->read(out));
  out.resize(n);
  co_return co_await reader->close();
}

Task<Result<>> with_pool(NvmePoller& poller, SocketAddress address, BlockId id, Bytes& out) {
  ConnectionPool pool(poller, Net::system(), {});
  Result<> done = co_await reuse_twice(pool, address, id, out);
  co_return done;
}

TEST_F(EndToEnd, PooledConnectionServesTheNextBlock) {
  const BlockId id{new_id()};
  ASSERT_TRUE(put(id, stamped(id.value(), 0, 5000)).ok());
  Bytes out(5000);
  const std::uint64_t before =
      env().worker().server().probes()[0]->opened.value() + env().worker().server().probes()[1]->opened.value();
  client_.run([&](NvmePoller& poller) { return with_pool(poller, env().worker().rpc_address(), id, out); }).value();
  const std::uint64_t after =
      env().worker().server().probes()[0]->opened.value() + env().worker().server().probes()[1]->opened.value();
  EXPECT_EQ(after - before, 1u);
  EXPECT_TRUE(same(out, stamped(id.value(), 0, 5000)));
}

TEST_F(EndToEnd, RpcPortTellsTheWebPort) {
  const auto info = with_connection([](WorkerConnection& c) { return fetch_worker_info(c); });
  ASSERT_TRUE(info.ok()) << info.error().to_string();
  EXPECT_EQ(info->web_port, env().worker().web_port());
  EXPECT_EQ(info->cluster_id, "test");
}

TEST_F(EndToEnd, RpcPortDescribesABlock) {
  const BlockId id{new_id()};
  const auto describe = [&] { return with_connection([&](WorkerConnection& c) { return fetch_block_info(c, id); }); };
  EXPECT_EQ(describe().error().kind(), Errc::kNotFound) << "not stored yet";
  ASSERT_TRUE(put(id, stamped(id.value(), 0, 5000)).ok());
  const auto first = describe();
  ASSERT_TRUE(first.ok()) << first.error().to_string();
  const auto over_http = admin().stat(id).value();
  EXPECT_EQ(first->info.state, BlockState::kFinalized);
  EXPECT_EQ(first->info.length, 5000u);
  EXPECT_EQ(first->info.generation, over_http.info.generation);
  EXPECT_EQ(first->info.capacity, over_http.info.capacity);
  EXPECT_EQ(first->info.allocated_bytes, over_http.info.allocated_bytes);
  EXPECT_EQ(first->storage_type, over_http.storage_type);
  ASSERT_TRUE(put(id, stamped(id.value(), 0, 6000)).ok());
  EXPECT_GT(describe()->info.generation, first->info.generation);
}

TEST_F(EndToEnd, WholeBlockNeedsNoLength) {
  for (const std::size_t size : {0u, 4097u, 1'000'003u}) {
    const BlockId id{new_id()};
    const Bytes data = stamped(id.value(), 0, size);
    ASSERT_TRUE(put(id, data).ok());
    Bytes all;
    const BlockSink sink = [&](std::span<const std::byte> bytes) -> Result<> {
      all.insert(all.end(), bytes.begin(), bytes.end());
      return {};
    };
    const auto length = with_connection([&](WorkerConnection& c) { return get_whole_block(c, id, sink); });
    ASSERT_TRUE(length.ok()) << length.error().to_string();
    EXPECT_EQ(*length, size);
    EXPECT_TRUE(same(all, data));
  }
}

TEST_F(EndToEnd, AdminListsStatsAndDeletes) {
  AdminClient http = admin();
  std::vector<BlockId> ids;
  for (int i = 0; i < 25; ++i) {
    ids.emplace_back(new_id());
    ASSERT_TRUE(put(ids.back(), stamped(ids.back().value(), 0, 1000 + static_cast<std::size_t>(i))).ok());
  }
  const auto block = http.stat(ids[3]);
  ASSERT_TRUE(block.ok()) << block.error().to_string();
  EXPECT_EQ(block->info.id, ids[3]);
  EXPECT_EQ(block->info.length, 1003u);
  EXPECT_EQ(block->info.state, BlockState::kFinalized);
  EXPECT_EQ(block->storage_type, "SPDK_DISK");

  std::vector<BlockId> listed;
  std::string cursor;
  for (int pages = 0; pages < 1000; ++pages) {
    const auto page = http.list(cursor, 4);
    ASSERT_TRUE(page.ok()) << page.error().to_string();
    for (const auto& entry : page->blocks) listed.push_back(entry.info.id);
    if (!page->next) break;
    cursor = *page->next;
  }
  std::ranges::sort(listed);
  EXPECT_EQ(std::ranges::adjacent_find(listed), listed.end()) << "no block twice";
  for (const BlockId id : ids) EXPECT_TRUE(std::ranges::binary_search(listed, id));

  EXPECT_TRUE(http.remove(ids[3]).ok());
  EXPECT_EQ(http.remove(ids[3]).error().kind(), Errc::kNotFound);
  EXPECT_EQ(http.stat(ids[3]).error().kind(), Errc::kNotFound);
  EXPECT_EQ(get(ids[3], 10).error().kind(), Errc::kNotFound);
}

TEST_F(EndToEnd, AdminServesMetricsAndStatus) {
  AdminClient http = admin();
  const auto page = http.metrics();
  ASSERT_TRUE(page.ok());
  EXPECT_NE(page->find("# TYPE write_bytes counter"), std::string::npos);
  EXPECT_NE(page->find("leap_store_"), std::string::npos) << "what the store counts is there too";
  const auto status = http.status();
  ASSERT_TRUE(status.ok());
  EXPECT_NE(status->find("\"cluster_id\": \"test\""), std::string::npos) << *status;
}

TEST_F(EndToEnd, AdminRefusesNonsense) {
  AdminClient http = admin();
  EXPECT_EQ(http.list("not-a-cursor", 10).error().kind(), Errc::kInvalidArgument);
  EXPECT_EQ(http.list("9999999999999999999999.1", 10).error().kind(), Errc::kInvalidArgument);
  EXPECT_EQ(http.list("", 0).error().kind(), Errc::kInvalidArgument);
  EXPECT_TRUE(http.list("99.0", 10).value().blocks.empty()) << "a cursor behind the end";
  EXPECT_EQ(AdminClient("127.0.0.1", 1).status().error().kind(), Errc::kUnreachable);
  EXPECT_EQ(
      AdminClient("127.0.0.1", env().worker().rpc_address().port(), std::chrono::seconds(2)).stat(BlockId{1}).ok(),
      false)
      << "the RPC port does not speak HTTP";
}

}  // namespace
}  // namespace leap::testing
