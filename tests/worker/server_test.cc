// The worker around its sessions: starting, stopping, limits, slow and broken clients, metrics.
#include <sstream>
#include <thread>

#include "base/alloc_counter.h"
#include "worker/worker_fixture.h"

namespace leap::testing {
namespace {

WorkerConfig config_with(void (*change)(WorkerConfig&)) {
  WorkerConfig config;
  change(config);
  return config;
}

/// The value of a sample; -1 when the page has none of that name.
double sample(const std::string& page, const std::string& name) {
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + " ")) return std::stod(line.substr(name.size() + 1));
  }
  return -1;
}

std::string metrics(WorkerEnv& env) {
  MetricsText page;
  env.worker().write_metrics(page);
  return page.text();
}

TEST(WorkerStart, PortInUseIsAClearErrorAndLeavesNothingBound) {
  WorkerEnv env;
  WorkerConfig second = env.config();
  second.rpc_port = env.worker().rpc_address().port();
  Result<std::unique_ptr<Worker>> worker = Worker::start(second, env.parts());
  ASSERT_FALSE(worker.ok());
  EXPECT_EQ(worker.error().kind(), Errc::kAlreadyExists) << worker.error().to_string();
  EXPECT_NE(worker.error().message().find(std::to_string(second.rpc_port)), std::string::npos);
  EXPECT_NE(worker.error().message().find("rpc_port"), std::string::npos) << worker.error().message();

  second.rpc_port = 0;
  second.web_port = env.worker().web_port();
  worker = Worker::start(second, env.parts());
  ASSERT_FALSE(worker.ok());
  EXPECT_EQ(worker.error().kind(), Errc::kAlreadyExists) << worker.error().to_string();
  EXPECT_NE(worker.error().message().find("web_port"), std::string::npos) << worker.error().message();

  WireClient client = env.connect();
  client.put(1, stamped(1, 0, 100), kMebi);
  EXPECT_TRUE(same(client.get(1, 100), stamped(1, 0, 100))) << "the first worker is not disturbed";
}

TEST(WorkerStart, UnknownHostNameIsAClearError) {
  WorkerEnv env;
  WorkerConfig config = env.config();
  config.hostname = "no-such-host.invalid";
  const auto worker = Worker::start(config, env.parts());
  ASSERT_FALSE(worker.ok());
  EXPECT_NE(worker.error().message().find("no-such-host.invalid"), std::string::npos) << worker.error().message();
}

TEST(WorkerStop, CommittedBlocksSurviveAndUncommittedOnesDoNot) {
  WorkerEnv env;
  {
    WireClient client = env.connect();
    client.put(1, stamped(1, 0, 200'000), kMebi);
    ASSERT_TRUE(client.open_write({.id = 2, .capacity = kMebi}).ok());
    ASSERT_TRUE(client.write(stamped(2, 0, 100'000)).ok());
    ASSERT_TRUE(client.open_write({.id = 1, .capacity = kMebi}).ok());
    ASSERT_TRUE(client.write(stamped(1, 0, 100'000, 2)).ok());
    ASSERT_TRUE(client.flush(0).ok());
    env.stop();
    EXPECT_TRUE(client.closed());
  }
  env.start();
  WireClient client = env.connect();
  EXPECT_TRUE(same(client.get(1, 200'000), stamped(1, 0, 200'000)));
  EXPECT_EQ(client.read_kind(2), 29);
}

TEST(WorkerStop, RequestInProgressIsFinishedAndAnswered) {
  WorkerEnv env;
  WireClient busy = env.connect(), idle = env.connect();
  ASSERT_TRUE(idle.close_read().ok());
  ASSERT_TRUE(busy.open_write({.id = 1, .capacity = kMebi}).ok());
  const rpc::FrameHead head{.code = kWrite, .status = 0xF3, .req_id = busy.req_id, .seq_id = 1};
  const Bytes frame = WireClient::frame(head, {}, stamped(1, 0, 50'000));
  busy.send(std::span(frame).first(20'000));
  std::thread stopping([&] { env.worker().stop().value(); });
  EXPECT_TRUE(idle.closed()) << "idle connections end at once";
  busy.send(std::span(frame).subspan(20'000));
  EXPECT_TRUE(busy.read_reply(head).ok());
  EXPECT_TRUE(busy.closed());
  stopping.join();
}

TEST(WorkerStop, ClientThatStallsInsideAFrameIsCutOffAtTheDeadline) {
  WorkerEnv env({.config = config_with([](WorkerConfig& c) { c.leap.stop_timeout = std::chrono::milliseconds(50); })});
  WireClient client = env.connect();
  client.put(2, stamped(2, 0, 5000), kMebi);
  ASSERT_TRUE(client.open_write({.id = 1, .capacity = kMebi}).ok());
  const Bytes frame =
      WireClient::frame({.code = kWrite, .status = 0xF3, .req_id = client.req_id, .seq_id = 1}, {}, Bytes(50'000));
  client.send(std::span(frame).first(20'000));
  const TimePoint begin = Clock::system().now();
  env.stop();
  EXPECT_LT(Clock::system().now() - begin, std::chrono::seconds(3));
  EXPECT_TRUE(client.closed());
  env.start();
  EXPECT_TRUE(same(env.connect().get(2, 5000), stamped(2, 0, 5000)));
}

TEST(WorkerLimits, ConnectionsBeyondTheLimitAreClosedAtOnce) {
  WorkerEnv env({.config = config_with([](WorkerConfig& c) { c.leap.max_sessions = 3; })});
  std::vector<WireClient> admitted;
  for (int i = 0; i < 3; ++i) {
    admitted.push_back(env.connect());
    ASSERT_TRUE(admitted.back().close_read().ok());
  }
  EXPECT_TRUE(env.connect().closed());
  EXPECT_TRUE(admitted[0].close_read().ok()) << "the others go on";
  admitted.pop_back();
  EXPECT_TRUE(eventually([&] { return env.worker().server().sessions() == 2; }));
  EXPECT_TRUE(env.connect().close_read().ok());
  EXPECT_EQ(sample(metrics(env), "leap_worker_sessions_refused_total"), 1);
}

TEST(WorkerLimits, HeadersUpToTheCapAreReceivedAndLargerOnesCloseTheConnection) {
  WorkerEnv env(
      {.config = config_with([](WorkerConfig& c) { c.leap.max_header = c.leap.header_memory = 65ULL << 20; })});
  WireClient client = env.connect();
  EXPECT_EQ(client.call(82, RequestStatus::kRunning, Bytes(64U << 20)).kind(), 10000) << "a batch of 64 MiB";
  EXPECT_TRUE(client.close_read().ok());
  client.send(WireClient::frame({.code = 82, .status = 0xF3}, Bytes((65U << 20) + 1)));
  EXPECT_TRUE(client.closed());
}

TEST(WorkerLimits, HeaderMemoryIsSharedByAllConnections) {
  WorkerEnv env(
      {.config = config_with([](WorkerConfig& c) { c.leap.max_header = c.leap.header_memory = 8ULL << 20; })});
  WireClient hog = env.connect(), other = env.connect();
  const Bytes frame = WireClient::frame({.code = 82, .status = 0xF3, .req_id = 1, .seq_id = 1}, Bytes(8U << 20));
  hog.send(std::span(frame).first(7U << 20));  // and stalls
  ASSERT_TRUE(eventually([&] { return env.worker().server().header_memory_in_use() > (7U << 20); }));
  WireClient refused = env.connect();
  refused.send(WireClient::frame({.code = 82, .status = 0xF3}, Bytes(4U << 20)));
  EXPECT_TRUE(refused.closed());
  EXPECT_TRUE(other.close_read().ok()) << "small headers are always received";
  hog.send(std::span(frame).subspan(7U << 20));
  EXPECT_FALSE(hog.read_reply({.code = 82, .status = 0xF3, .req_id = 1, .seq_id = 1}).ok());
  // The reply may arrive a moment before the memory it took is free.
  EXPECT_TRUE(eventually([&] { return env.worker().server().header_memory_in_use() == 0; })) << "and given back";
  EXPECT_EQ(other.call(82, RequestStatus::kRunning, Bytes(4U << 20)).kind(), 10000);
}

TEST(WorkerLimits, IdleConnectionsAreClosedOnlyIfAskedFor) {
  const auto timeout = std::chrono::milliseconds(60);
  WorkerEnv closing({.config = config_with([](WorkerConfig& c) {
                       c.io_timeout = std::chrono::milliseconds(60);
                       c.io_close_idle = true;
                     })});
  WireClient idle = closing.connect();
  ASSERT_TRUE(idle.close_read().ok());
  EXPECT_TRUE(idle.closed());

  WorkerEnv patient({.config = config_with([](WorkerConfig& c) { c.io_timeout = std::chrono::milliseconds(60); })});
  WireClient slow = patient.connect();
  ASSERT_TRUE(slow.open_write({.id = 1, .capacity = kMebi}).ok());
  const rpc::FrameHead head{.code = kWrite, .status = 0xF3, .req_id = slow.req_id, .seq_id = 1};
  const Bytes frame = WireClient::frame(head, {}, stamped(1, 0, 50'000));
  slow.send(std::span(frame).first(10));
  // The interruption itself is what is tested: nothing to wait for but time.
  std::this_thread::sleep_for(2 * timeout);
  slow.send(std::span(frame).subspan(10, 30'000));
  std::this_thread::sleep_for(2 * timeout);
  slow.send(std::span(frame).subspan(30'010));
  EXPECT_TRUE(slow.read_reply(head).ok());
  EXPECT_TRUE(slow.complete({.id = 1, .capacity = kMebi, .length = 50'000}).ok());
  EXPECT_TRUE(same(slow.get(1, 50'000), stamped(1, 0, 50'000)));
}

TEST(WorkerLimits, ClientsThatDoNotTakeTheirRepliesStopNobody) {
  WorkerEnv env({.pool_bytes = 8ULL << 20,
                 .config = config_with([](WorkerConfig& c) { c.leap.send_timeout = std::chrono::milliseconds(500); })});
  constexpr std::int64_t kLength = 16 << 20;
  WireClient writer = env.connect();
  writer.put(1, stamped(1, 0, kLength), kLength);
  std::vector<WireClient> stalled;
  for (int i = 0; i < 12; ++i) {
    stalled.push_back(env.connect());
    const int small = 4096;
    ::setsockopt(stalled.back().fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    ASSERT_TRUE(stalled.back().open_read({.id = 1, .len = kLength, .chunk = 16 << 20}).ok());
    stalled.back().send(WireClient::frame({.code = kRead, .status = 0xF3, .req_id = 1, .seq_id = 1}));
  }
  // While replies are stuck, writes go on ...
  for (std::int64_t id = 2; id < 8; ++id) writer.put(id, stamped(id, 0, 300'000), kMebi);
  // ... and reads do when the stalled clients have been dropped.
  for (std::int64_t id = 2; id < 8; ++id) ASSERT_TRUE(same(writer.get(id, 300'000), stamped(id, 0, 300'000)));
  EXPECT_TRUE(eventually([&] { return env.worker().server().sessions() <= 1; }));
}

TEST(WorkerLimits, RepliesLargerThanTheBuffersAreSentInPieces) {
  WorkerEnv env({.pool_bytes = 3ULL << 20, .config = {}});
  constexpr std::int64_t kLength = (16 << 20) - 5;
  WireClient client = env.connect();
  const Bytes data = stamped(1, 0, kLength);
  client.put(1, data, 16 << 20);
  EXPECT_TRUE(same(client.get(1, kLength, 16 << 20), data));
}

TEST(WorkerLimits, IdleSessionsHoldNoBuffers) {
  WorkerEnv env;
  std::vector<WireClient> clients;
  const std::size_t before = env.buffers_in_use();
  for (std::int64_t i = 1; i <= 20; ++i) {
    clients.push_back(env.connect());
    clients.back().put(i, stamped(i, 0, 100'000), kMebi);
    ASSERT_TRUE(clients.back().open_read({.id = i, .len = 100'000}).ok());
    ASSERT_TRUE(clients.back().read().ok());
  }
  EXPECT_LE(env.buffers_in_use(), before);
}

TEST(WorkerSessions, AreSpreadOverThePollers) {
  WorkerEnv env;
  std::vector<WireClient> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(env.connect());
    ASSERT_TRUE(clients.back().close_read().ok());
  }
  for (const SessionProbe* probe : env.worker().server().probes()) EXPECT_EQ(probe->open_sessions.value(), 4);
}

TEST(WorkerSessions, ManyClientsAtOnceGetTheirOwnBytes) {
  WorkerEnv env;
  constexpr int kClients = 16;
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) {
    threads.emplace_back([&env, i] {
      WireClient client = env.connect();
      for (std::int64_t round = 0; round < 4; ++round) {
        const std::int64_t id = 1000 * (i + 1) + round;
        const auto length = static_cast<std::size_t>(150'000 + 7 * i + round);
        client.put(id, stamped(id, 0, length), kMebi);
        EXPECT_TRUE(same(client.get(id, static_cast<std::int64_t>(length), 33'333), stamped(id, 0, length)));
        if (round % 2 == 0) continue;
        EXPECT_TRUE(client.cancel({.id = id, .capacity = kMebi}).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(env.store().space().blocks, 2u * kClients);
}

Task<std::uint64_t> allocations() { co_return thread_allocations(); }

TEST(WorkerSessions, RunningFramesAllocateNothing) {
  if (!alloc_counting_available()) GTEST_SKIP() << "this build does not count allocations";
  WorkerEnv env;
  WireClient client = env.connect();
  const auto count = [&] {
    std::uint64_t sum = 0;
    for (const PollerContext& context : env.contexts())
      sum += context.poller->run([](NvmePoller&) { return allocations(); });
    return sum;
  };
  constexpr std::uint64_t kFrames = 200;
  const Bytes data = stamped(1, 0, 4096);
  ASSERT_TRUE(client.open_write({.id = 1, .capacity = 8 << 20}).ok());
  for (int i = 0; i < 1100; ++i) ASSERT_TRUE(client.write(data).ok());  // warm-up
  std::uint64_t before = count();
  for (std::uint64_t i = 0; i < kFrames; ++i) ASSERT_TRUE(client.write(data).ok());
  // Counting itself takes a few; the store allocates once per extent and per checksum segment, not per frame.
  EXPECT_LT(count() - before, kFrames / 4);
  ASSERT_TRUE(client.complete({.id = 1, .capacity = 8 << 20, .length = 4096 * 1300}).ok());

  ASSERT_TRUE(client.open_read({.id = 1, .len = 4096 * 1300, .chunk = 4096}).ok());
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(client.read().ok());
  before = count();
  for (std::uint64_t i = 0; i < kFrames; ++i) ASSERT_TRUE(client.read().ok());
  EXPECT_LT(count() - before, kFrames / 4);
}

TEST(WorkerMetrics, CurvinesNamesAreThereFromTheStart) {
  WorkerEnv env;
  const std::string page = metrics(env);
  const char* counters[] = {"write_bytes", "write_time_us", "write_count", "write_blocks",
                            "read_bytes",  "read_time_us",  "read_count",  "read_blocks"};
  const char* gauges[] = {
      "capacity",         "available", "fs_used", "failed_disks", "total_disks", "num_blocks", "num_blocks_to_delete",
      "used_memory_bytes"};
  for (const std::string name : counters)
    EXPECT_NE(page.find("# TYPE " + name + " counter\n"), std::string::npos) << name;
  for (const std::string name : gauges) {
    EXPECT_NE(page.find("# TYPE " + name + " gauge\n"), std::string::npos) << name;
    EXPECT_GE(sample(page, name), 0) << name;
  }
  for (const std::string name : {"read_blocks", "write_blocks"}) {
    EXPECT_EQ(sample(page, name + "{type=\"local\"}"), 0);
    EXPECT_EQ(sample(page, name + "{type=\"remote\"}"), 0);
  }
  EXPECT_EQ(sample(page, "total_disks"), 1);
  EXPECT_EQ(sample(page, "failed_disks"), 0);
}

TEST(WorkerMetrics, BytesAreThoseTransferred) {
  WorkerEnv env;
  WireClient client = env.connect();
  client.put(1, stamped(1, 0, 300'000), kMebi);
  client.get(1, 300'000, 100'000);
  client.get(1, 1000);
  EXPECT_EQ(client.open_read({.id = 99, .len = 1}).kind(), 29);
  const std::string page = metrics(env);
  EXPECT_EQ(sample(page, "write_bytes"), 300'000);
  EXPECT_EQ(sample(page, "write_count"), 3);
  EXPECT_EQ(sample(page, "write_blocks{type=\"remote\"}"), 1);
  EXPECT_EQ(sample(page, "read_bytes"), 301'000);
  EXPECT_EQ(sample(page, "read_count"), 4);
  EXPECT_EQ(sample(page, "read_blocks{type=\"remote\"}"), 2);
  EXPECT_EQ(sample(page, "num_blocks"), 1);
  EXPECT_EQ(sample(page, "leap_worker_error_replies_total"), 1);
}

TEST(WorkerCompatibility, RejectedClientKeepsItsConnectionAndIsJudgedAgain) {
  WorkerEnv env({.config = config_with([](WorkerConfig& c) {
                   c.compatibility.mode = "enforce";
                   c.compatibility.min_client_version = "0.4.1";
                 })});
  WireClient client = env.connect();
  const Reply refused = client.open_write({.id = 1, .capacity = kMebi});  // says nothing about itself
  EXPECT_EQ(refused.kind(), 10000);
  EXPECT_NE(refused.text().find("client rejected by compatibility policy"), std::string::npos) << refused.text();
  proto::BlockReadRequest open;
  open.set_id(1);
  open.set_len(1);
  open.set_chunk_size(1);
  open.mutable_component_info()->set_release_version("0.4.1");
  EXPECT_EQ(client.call(kRead, RequestStatus::kOpen, WireClient::header_of(open)).kind(), 29)
      << "let in: the block is unknown";
  EXPECT_TRUE(client.open_write({.id = 1, .capacity = kMebi}).ok()) << "let in for the whole connection";
}

}  // namespace
}  // namespace leap::testing
