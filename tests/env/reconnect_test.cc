// What I/O sees when targets go away, come back, fall silent or are there twice: real targets in this process.
#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "env/nvme_env.h"
#include "env_fixture.h"
#include "poller/dma_await.h"
#include "poller/sync.h"
#include "support/faulty_device.h"
#include "support/local_target.h"
#include "support/tcp_proxy.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using test::eventually;
using test::FaultyDevice;
using test::LocalTarget;
using test::small_config;
using test::Stopwatch;
using test::TcpProxy;
using testing::HasSubstr;
using testing::SizeIs;

constexpr std::uint32_t kIo = 4096;

NvmeEnvConfig quick(const std::vector<nvme::TransportAddress>& targets) {
  NvmeEnvConfig config = small_config(targets);
  config.reconnect_delay = 5ms;
  config.reconnect_delay_max = 20ms;
  config.fast_io_fail_timeout = 10s;
  config.keep_alive_timeout = 1s;
  return config;
}

/// A target over a device that outlives it, at an address that stays.
class Revivable {
 public:
  explicit Revivable(std::vector<FaultyDevice*> devices, std::string nqn = LocalTarget::kNqn)
      : devices_(std::move(devices)), nqn_(std::move(nqn)) {
    start();
    endpoint_ = target_->endpoint();
  }
  void start() {
    LocalTarget::Options options{.nqn = nqn_};
    for (FaultyDevice* device : devices_) {
      NamespaceConfig ns;
      ns.device = device;
      ns.name = device->info().name;
      ns.uuid = device->info().uuid;
      options.target.namespaces.push_back(ns);
    }
    if (endpoint_.port() != 0) options.target.listen = {endpoint_};
    target_ = std::make_unique<LocalTarget>(std::move(options));
  }
  void stop() { target_.reset(); }
  void set_devices(std::vector<FaultyDevice*> devices) { devices_ = std::move(devices); }
  [[nodiscard]] LocalTarget& target() { return *target_; }
  [[nodiscard]] nvme::TransportAddress address() const { return target_->address(); }

 private:
  std::vector<FaultyDevice*> devices_;
  std::string nqn_;
  SocketAddress endpoint_;
  std::unique_ptr<LocalTarget> target_;
};

/// Writes and reads stamped pages in turn until told to stop; counts what went wrong. One lane, own pages.
struct Load {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> done{0};
  std::atomic<std::uint64_t> errors{0};
  std::atomic<std::uint64_t> wrong{0};
  std::string first_error;
};

Task<void> load_lane(NvmePoller& poller, DmaPool& pool, BlockChannel& channel, Load& load, std::uint64_t lane) {
  for (std::uint64_t round = 1; !load.stop; ++round) {
    const std::uint64_t offset = (lane * 16 + round % 16) * kIo;
    Result<DmaBuf> data = co_await allocate(poller, pool, kIo);
    for (std::size_t i = 0; i < kIo; i += 16) {
      const std::uint64_t stamp[2] = {offset + i, round};
      std::memcpy(data->data() + i, stamp, sizeof stamp);
    }
    const Result<> written = co_await channel.write(offset, std::move(data).value());
    if (!written.ok()) {
      if (load.errors++ == 0) load.first_error = written.error().to_string();
      co_await poller.sleep_for(1ms);
      continue;
    }
    Result<DmaBuf> buffer = co_await allocate(poller, pool, kIo);
    Result<DmaBuf> read = co_await channel.read(offset, std::move(buffer).value());
    if (!read.ok()) {
      if (load.errors++ == 0) load.first_error = read.error().to_string();
      co_await poller.sleep_for(1ms);
      continue;
    }
    for (std::size_t i = 0; i < kIo; i += 16) {
      std::uint64_t stamp[2];
      std::memcpy(stamp, read->data() + i, sizeof stamp);
      if (stamp[0] != offset + i || stamp[1] != round) ++load.wrong;
    }
    ++load.done;
  }
}

Task<void> run_lanes(NvmePoller& poller, DmaPool& pool, BlockDevice& device, Load& load, std::uint64_t lanes) {
  auto channel = device.open_channel(poller, pool).value();
  TaskGroup group(poller);
  for (std::uint64_t lane = 0; lane < lanes; ++lane) group.spawn(load_lane(poller, pool, *channel, load, lane));
  co_await group.wait();
}

/// A load on the first poller, from a thread of its own.
class Running {
 public:
  Running(NvmeEnv& env, BlockDevice& device) {
    const PollerContext context = env.pollers().front();
    thread_ = std::thread([this, context, &device] {
      context.poller->run([&](NvmePoller& poller) { return run_lanes(poller, *context.pool, device, load, 8); });
    });
  }
  ~Running() { finish(); }
  void finish() {
    load.stop = true;
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] bool makes_progress() {
    const std::uint64_t before = load.done;
    return eventually([&] { return load.done >= before + 50; });
  }
  /// It goes on, and nothing has gone wrong so far. Ends it.
  void expect_well() {
    EXPECT_TRUE(makes_progress());
    finish();
    EXPECT_EQ(load.errors, 0U) << load.first_error;
    EXPECT_EQ(load.wrong, 0U);
  }
  Load load;

 private:
  std::thread thread_;
};

class ReconnectTest : public testing::Test {
 protected:
  ReconnectTest() { set_log_level(LogLevel::kOff); }
  FaultyDevice disk{{.size = 8 << 20, .block_size = 4096, .name = "disk"}};
  FaultyDevice other{{.size = 8 << 20, .block_size = 4096, .name = "other"}};
};

Result<> write_and_flush(NvmeEnv& env, BlockDevice& device, std::function<void()> between);

Result<> read_once(NvmeEnv& env, BlockDevice& device) {
  const PollerContext context = env.pollers().front();
  return context.poller->run([&](NvmePoller& poller) {
    return [](NvmePoller& p, DmaPool& pool, BlockDevice& d) -> Task<Result<>> {
      LEAP_CO_TRY(auto channel, d.open_channel(p, pool));
      LEAP_CO_TRY(DmaBuf buffer, co_await allocate(p, pool, kIo));
      Result<DmaBuf> read = co_await channel->read(0, std::move(buffer));
      if (!read.ok()) co_return std::move(read).error();
      co_return Result<>{};
    }(poller, *context.pool, device);
  });
}

TEST_F(ReconnectTest, ATargetThatWasDownAtStartJoinsLater) {
  Revivable target({&disk});
  const auto address = target.address();
  target.stop();
  auto env = NvmeEnv::start(quick({address})).value();
  EXPECT_THAT(env->devices(), SizeIs(0));
  EXPECT_FALSE(env->targets()[0].up);
  target.start();
  ASSERT_TRUE(eventually([&] { return env->find(disk.info().uuid.to_string()) != nullptr; }));
  EXPECT_TRUE(eventually([&] { return env->targets()[0].up; }));
  EXPECT_TRUE(read_once(*env, *env->devices()[0]).ok());
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST_F(ReconnectTest, ALoadGoesOnWithoutAnErrorWhenItsTargetIsRestarted) {
  Revivable target({&disk});
  auto env = NvmeEnv::start(quick({target.address()})).value();
  Running running(*env, *env->devices()[0]);
  for (int restart = 0; restart < 3; ++restart) {
    ASSERT_TRUE(running.makes_progress());
    target.stop();
    target.start();
  }
  running.expect_well();
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST_F(ReconnectTest, ALoadGoesOnWhenItsConnectionsAreCutAgainAndAgain) {
  Revivable target({&disk});
  TcpProxy proxy(target.target().endpoint());
  auto env = NvmeEnv::start(quick({target.target().address(proxy.endpoint())})).value();
  Running running(*env, *env->devices()[0]);
  for (int cut = 0; cut < 10; ++cut) {
    ASSERT_TRUE(running.makes_progress()) << cut;
    proxy.cut_all();
  }
  running.expect_well();
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST_F(ReconnectTest, WithoutAPathIoFailsAfterFastIoFailTimeout) {
  Revivable target({&disk});
  NvmeEnvConfig config = quick({target.address()});
  config.fast_io_fail_timeout = 200ms;
  auto env = NvmeEnv::start(config).value();
  BlockDevice& device = *env->devices()[0];
  target.stop();
  const Stopwatch watch;
  const Result<> failed = read_once(*env, device);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind(), Errc::kUnreachable) << failed.error().to_string();
  EXPECT_THAT(failed.error().message(), HasSubstr("reconnecting"));
  EXPECT_GE(watch.elapsed(), 190ms);
  EXPECT_LT(watch.elapsed(), 5s);
  target.start();
  EXPECT_TRUE(eventually([&] { return read_once(*env, device).ok(); }));
}

TEST_F(ReconnectTest, WhatTheControllerRefusesForNowIsSentAgainSoOften) {
  Revivable target({&disk});
  NvmeEnvConfig config = quick({target.address()});
  config.io_retry_count = 3;
  auto env = NvmeEnv::start(config).value();
  BlockDevice& device = *env->devices()[0];
  const auto begun = [&] { return disk.count(FaultyDevice::kRead); };
  const std::size_t before = begun();
  disk.fail_next(FaultyDevice::kRead, 3, Error(Errc::kBusy, "not now"));
  EXPECT_TRUE(read_once(*env, device).ok());
  EXPECT_EQ(begun() - before, 4U);
  disk.fail_next(FaultyDevice::kRead, 4, Error(Errc::kBusy, "not now"));
  EXPECT_EQ(read_once(*env, device).error().nvme_status().sc, 0x82) << "Namespace Not Ready";
  EXPECT_EQ(begun() - before, 8U);
  disk.fail_next(FaultyDevice::kRead, 1, Error(Errc::kPermission, "never"));
  EXPECT_FALSE(read_once(*env, device).ok());
  EXPECT_EQ(begun() - before, 9U) << "DNR";
}

// A command that the controller has answered is over, even if the answer is that it gave up half way.
TEST_F(ReconnectTest, WhatWasAnsweredWithAnErrorFencesNothing) {
  Revivable target({&disk});
  auto env = NvmeEnv::start(quick({target.address()})).value();
  auto& device = static_cast<NvmeBdev&>(*env->devices()[0]);
  disk.fail_next(FaultyDevice::kWrite, 1, Error(Errc::kInternal, "half way"));
  EXPECT_TRUE(write_and_flush(*env, device, [] {}).ok());
  EXPECT_EQ(device.fence().size(), 0U);
  EXPECT_TRUE(write_and_flush(*env, device, [] {}).ok()) << "the same place again, without a wait";
}

Result<> write_and_flush(NvmeEnv& env, BlockDevice& device, std::function<void()> between) {
  const PollerContext context = env.pollers().front();
  return context.poller->run([&](NvmePoller& poller) {
    return [](NvmePoller& p, DmaPool& pool, BlockDevice& d, std::function<void()>& then) -> Task<Result<>> {
      LEAP_CO_TRY(auto channel, d.open_channel(p, pool));
      LEAP_CO_TRY(DmaBuf data, co_await allocate(p, pool, kIo));
      LEAP_CO_TRY_VOID(co_await channel->write(0, std::move(data)));
      std::thread(then).join();  // a target is not stopped on a poller
      Result<> first = co_await channel->flush();
      if (first.ok()) co_return first;
      EXPECT_TRUE((co_await channel->flush()).ok()) << "said once";
      co_return first;
    }(poller, *context.pool, device, between);
  });
}

// What a target had in its volatile cache may be gone with it: no flush of the next association may claim otherwise.
TEST_F(ReconnectTest, AFlushAfterALossDoesNotVouchForWhatWasWrittenBefore) {
  Revivable target({&disk});
  auto env = NvmeEnv::start(quick({target.address()})).value();
  BlockDevice& device = *env->devices()[0];
  EXPECT_TRUE(write_and_flush(*env, device, [] {}).ok());
  const Result<> lost = write_and_flush(*env, device, [&] {
    target.stop();
    target.start();
  });
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.error().kind(), Errc::kIo);
  EXPECT_THAT(lost.error().message(), HasSubstr("counts as lost"));
  EXPECT_TRUE(write_and_flush(*env, device, [] {}).ok());
}

TEST_F(ReconnectTest, PatienceEndsAfterCtrlLossTimeout) {
  Revivable target({&disk});
  NvmeEnvConfig config = quick({target.address()});
  config.ctrl_loss_timeout = 100ms;
  auto env = NvmeEnv::start(config).value();
  target.stop();
  ASSERT_TRUE(eventually([&] {
    const auto status = env->targets()[0];
    return !status.up && read_once(*env, *env->devices()[0]).error().message().find("is lost") != std::string::npos;
  }));
  const Stopwatch watch;
  EXPECT_FALSE(read_once(*env, *env->devices()[0]).ok());
  EXPECT_LT(watch.elapsed(), 5s) << "nothing to wait for";
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST_F(ReconnectTest, NamespacesAreFoundAgainByUuidWhateverTheirPlace) {
  Revivable target({&disk, &other});
  auto env = NvmeEnv::start(quick({target.address()})).value();
  BlockDevice* const first = env->find(disk.info().uuid.to_string());
  ASSERT_NE(first, nullptr);
  disk.bytes()[0] = std::byte{0x11};
  other.bytes()[0] = std::byte{0x22};
  target.stop();
  target.set_devices({&other, &disk});
  target.start();
  const PollerContext context = env->pollers().front();
  const int byte = context.poller->run([&](NvmePoller& poller) {
    return [](NvmePoller& p, DmaPool& pool, BlockDevice& d) -> Task<int> {
      auto channel = d.open_channel(p, pool).value();
      Result<DmaBuf> buffer = co_await allocate(p, pool, kIo);
      Result<DmaBuf> read = co_await channel->read(0, std::move(buffer).value());
      co_return read.ok() ? static_cast<int>(read->bytes()[0]) : -1;
    }(poller, *context.pool, *first);
  });
  EXPECT_EQ(byte, 0x11);
}

TEST_F(ReconnectTest, ASilentTargetIsFoundByItsKeepAliveAndNotWaitedForWhenStopping) {
  Revivable target({&disk});
  TcpProxy proxy(target.target().endpoint());
  auto env = NvmeEnv::start(quick({target.target().address(proxy.endpoint())})).value();
  proxy.freeze();
  const Stopwatch watch;
  EXPECT_TRUE(eventually([&] { return !env->targets()[0].up; }));
  EXPECT_LT(watch.elapsed(), 5s);
  const Stopwatch stopping;
  static_cast<void>(env->stop(2s).ok());
  EXPECT_LT(stopping.elapsed(), 5s);
}

TEST_F(ReconnectTest, ACommandThatIsNotAnsweredTimesOutAndTheDeviceIsUsableAgain) {
  Revivable target({&disk});
  NvmeEnvConfig config = quick({target.address()});
  config.io_timeout = 200ms;
  config.abort_timeout = 100ms;
  auto env = NvmeEnv::start(config).value();
  BlockDevice& device = *env->devices()[0];
  ASSERT_TRUE(read_once(*env, device).ok());
  disk.stall(true);
  const Stopwatch watch;
  const Result<> failed = read_once(*env, device);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind(), Errc::kTimedOut) << failed.error().to_string();
  EXPECT_LT(watch.elapsed(), 2s);
  disk.stall(false);
  EXPECT_TRUE(eventually([&] { return read_once(*env, device).ok(); }));
  EXPECT_TRUE(env->stop(5s).ok());
}

class MultipathTest : public ReconnectTest, public testing::WithParamInterface<PathPolicy> {};

INSTANTIATE_TEST_SUITE_P(Policies, MultipathTest,
                         testing::Values(PathPolicy::kActivePassive, PathPolicy::kRoundRobin, PathPolicy::kLeastQueued),
                         [](const auto& instance) {
                           std::string name(to_string(instance.param));
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(MultipathTest, ALoadGoesOnWithoutAnErrorWhenOneOfTwoTargetsDies) {
  Revivable a({&disk}, "nqn.2024-01.io.leap:a");
  Revivable b({&disk}, "nqn.2024-01.io.leap:b");
  NvmeEnvConfig config = quick({a.address(), b.address()});
  config.path_policy = GetParam();
  auto env = NvmeEnv::start(config).value();
  ASSERT_THAT(env->devices(), SizeIs(1)) << "one namespace, two paths";
  EXPECT_THAT(env->targets()[0].device_names, SizeIs(1));
  EXPECT_THAT(env->targets()[1].device_names, SizeIs(1));
  Running running(*env, *env->devices()[0]);
  ASSERT_TRUE(running.makes_progress());
  a.stop();
  ASSERT_TRUE(running.makes_progress());
  EXPECT_TRUE(eventually([&] { return !env->targets()[0].up; }));
  a.start();
  ASSERT_TRUE(eventually([&] { return env->targets()[0].up; }));
  b.stop();
  ASSERT_TRUE(running.makes_progress());
  b.start();
  running.expect_well();
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST_F(ReconnectTest, TwoNamespacesWithOneUuidButDifferentSizesAreNotTakenForOne) {
  FaultyDevice twin({.size = 16 << 20, .block_size = 4096, .name = "disk"});
  Revivable a({&disk}, "nqn.2024-01.io.leap:a");
  Revivable b({&twin}, "nqn.2024-01.io.leap:b");
  auto env = NvmeEnv::start(quick({a.address(), b.address()})).value();
  EXPECT_THAT(env->devices(), SizeIs(1));
  ASSERT_TRUE(env->targets()[1].error.has_value());
  EXPECT_EQ(env->targets()[1].error->kind(), Errc::kAlreadyExists);
}

// A write whose path died may still be executed there. It is sent again at once; a newer write to its place waits.
TEST_F(ReconnectTest, ALostWriteCannotUndoANewerOne) {
  Revivable a({&disk}, "nqn.2024-01.io.leap:a");
  TcpProxy proxy(a.target().endpoint());
  FaultyDevice mirror({.size = 8 << 20, .block_size = 4096, .name = "disk"});
  Revivable b({&mirror}, "nqn.2024-01.io.leap:b");
  NvmeEnvConfig config = quick({a.target().address(proxy.endpoint()), b.address()});
  auto env = NvmeEnv::start(config).value();
  auto& device = static_cast<NvmeBdev&>(*env->devices()[0]);
  disk.stall(true);  // the write reaches a, and stays there
  const PollerContext context = env->pollers().front();
  std::atomic<bool> first_done{false};
  std::atomic<bool> second_done{false};
  std::thread writer([&] {
    context.poller->run([&](NvmePoller& poller) {
      return [](NvmePoller& p, DmaPool& pool, BlockDevice& d, std::atomic<bool>& one,
                std::atomic<bool>& two) -> Task<void> {
        auto channel = d.open_channel(p, pool).value();
        Result<DmaBuf> data = co_await allocate(p, pool, kIo);
        EXPECT_TRUE((co_await channel->write(0, std::move(data).value())).ok());
        one = true;
        Result<DmaBuf> newer = co_await allocate(p, pool, kIo);
        EXPECT_TRUE((co_await channel->write(0, std::move(newer).value())).ok());
        two = true;
      }(poller, *context.pool, device, first_done, second_done);
    });
  });
  ASSERT_TRUE(eventually([&] { return disk.waiting() == 1; }));
  proxy.refuse(true);
  proxy.cut_all();
  ASSERT_TRUE(eventually([&] { return first_done.load(); })) << "the first is repeated on the other path at once";
  EXPECT_TRUE(eventually([&] { return device.probe().fence_waits.value() == 1; })) << "the second waits";
  EXPECT_FALSE(second_done);
  EXPECT_EQ(device.probe().fenced.value(), 1U);
  // a's Keep Alive Timeout of 1 s and the margin prove that the first write can no longer come.
  EXPECT_TRUE(eventually([&] { return second_done.load(); }));
  writer.join();
  disk.stall(false);
  EXPECT_TRUE(env->stop(5s).ok());
}

}  // namespace
}  // namespace leap
