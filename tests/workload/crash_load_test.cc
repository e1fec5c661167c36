// A worker that goes away in the middle of it: what counts as lost, and what does not.
#include "workload/crash_load.h"

#include <gmock/gmock.h>

#include "client/admin_client.h"
#include "client/remote_writer.h"
#include "worker/worker_fixture.h"

namespace leap::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kFirst = 77;

class CrashLoadTest : public ::testing::Test {
 protected:
  CrashLoad::Config config() {
    return {.worker = env_.worker().rpc_address(), .first_block_id = kFirst, .blocks = 3, .block_size = 256 * 1024};
  }
  /// Runs until the load is in the middle of a write, and replaces the worker.
  void interrupt(CrashLoad& load) {
    const Result<> started = load.start();
    ASSERT_TRUE(started.ok()) << started.error().to_string();
    env_.stop();
    env_.start();
  }
  static Task<Result<>> scribble(NvmePoller& poller, SocketAddress worker, BlockId id) {
    const WorkerConnection::Config defaults;
    LEAP_CO_TRY(auto connection, co_await WorkerConnection::connect(poller, Net::system(), worker, defaults));
    const RemoteWriteOptions options{.id = id, .capacity = 256 * 1024};
    LEAP_CO_TRY(auto writer, co_await RemoteWriter::open(*connection, options));
    const Bytes one(1, std::byte{'x'});
    LEAP_CO_TRY_VOID(co_await writer->write(one));
    co_return co_await writer->complete(256 * 1024);
  }

  WorkerEnv env_;
  test::PollerThread client_{1U << 20U};
};

TEST_F(CrashLoadTest, FindsEverythingThatWasAcknowledgedAndLeavesNothing) {
  CrashLoad load(config());
  interrupt(load);
  const auto report = load.verify(env_.worker().rpc_address());
  ASSERT_TRUE(report.ok()) << report.error().to_string();
  EXPECT_EQ(report->errors, 0u) << report->first_error;
  EXPECT_GE(report->acknowledged, 6u);
  EXPECT_EQ(env_.store().space().blocks, 0u);
}

TEST_F(CrashLoadTest, NoticesAChangedByteAndAMissingBlock) {
  CrashLoad load(config());
  interrupt(load);
  const SocketAddress worker = env_.worker().rpc_address();
  const auto scribbled = client_.run([&](NvmePoller& p) { return scribble(p, worker, BlockId{kFirst}); });
  ASSERT_TRUE(scribbled.ok()) << scribbled.error().to_string();
  AdminClient admin("127.0.0.1", env_.worker().web_port());
  ASSERT_TRUE(admin.remove(BlockId{kFirst + 1}).ok());
  const auto report = load.verify(worker);
  ASSERT_TRUE(report.ok()) << report.error().to_string();
  EXPECT_EQ(report->errors, 2u) << report->first_error;
  EXPECT_THAT(report->first_error, HasSubstr("block 77"));
}

}  // namespace
}  // namespace leap::testing
