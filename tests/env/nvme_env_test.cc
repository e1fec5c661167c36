// NvmeEnv against real targets in this process: what starts, what is reported, what is found, and that everything
// stops.

#include "env/nvme_env.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include "base/log.h"
#include "env_fixture.h"
#include "poller/dma_await.h"
#include "poller/sync.h"
#include "support/local_target.h"
#include "support/tcp_proxy.h"

namespace leap {
namespace {

using namespace std::chrono_literals;
using test::back_to;
using test::eventually;
using test::Footprint;
using test::LocalTarget;
using test::small_config;
using test::Stopwatch;
using test::TcpProxy;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class NvmeEnvTest : public testing::Test {
 protected:
  NvmeEnvTest() { set_log_level(LogLevel::kOff); }
};

/// An address where nobody listens.
SocketAddress closed_port() {
  const TcpProxy proxy(SocketAddress::from_numeric("127.0.0.1", 1).value());
  return proxy.endpoint();  // gone with the proxy
}

nvme::TransportAddress address_of(const SocketAddress& endpoint, const std::string& nqn = LocalTarget::kNqn) {
  nvme::TransportAddress address;
  address.adrfam = nvme::Adrfam::kIpv4;
  address.traddr = endpoint.host();
  address.trsvcid = endpoint.port();
  address.subnqn = nqn;
  return address;
}

/// Writes and reads back one block through `device` on `context`'s poller.
Result<> round_trip(const PollerContext& context, BlockDevice& device) {
  return context.poller->run([&](NvmePoller& poller) {
    return [](NvmePoller& p, DmaPool& pool, BlockDevice& d) -> Task<Result<>> {
      LEAP_CO_TRY(auto channel, d.open_channel(p, pool));
      LEAP_CO_TRY(DmaBuf data, co_await allocate(p, pool, 4096));
      for (std::size_t i = 0; i < data.size(); ++i) data.bytes()[i] = static_cast<std::byte>(i * 7 + 3);
      LEAP_CO_TRY_VOID(co_await channel->write(8192, std::move(data)));
      LEAP_CO_TRY(DmaBuf empty, co_await allocate(p, pool, 4096));
      LEAP_CO_TRY(DmaBuf read, co_await channel->read(8192, std::move(empty)));
      for (std::size_t i = 0; i < read.size(); ++i) {
        if (read.bytes()[i] != static_cast<std::byte>(i * 7 + 3))
          co_return Error(Errc::kCorrupt, "read something else");
      }
      co_return Result<>{};
    }(poller, *context.pool, device);
  });
}

// --- starting ---

TEST_F(NvmeEnvTest, FindsTheNamespacesOfATargetByUuidAndByName) {
  LocalTarget target({.devices = {"mem:?size=8MiB", "mem:?size=16MiB&block=512"}});
  auto env = NvmeEnv::start(small_config({target.address()})).value();
  ASSERT_THAT(env->devices(), SizeIs(2));
  BlockDevice& first = *env->devices()[0];
  BlockDevice& second = *env->devices()[1];
  EXPECT_EQ(first.info().size, 8 * kMiB);
  EXPECT_EQ(second.info().size, 16 * kMiB);
  EXPECT_EQ(second.info().block_size, 512U);
  EXPECT_NE(first.info().uuid, second.info().uuid);
  for (BlockDevice* device : env->devices()) {
    EXPECT_TRUE(device->online());
    EXPECT_EQ(env->find(device->info().uuid.to_string()), device);
    EXPECT_EQ(env->find(device->info().name), device);
    EXPECT_TRUE(round_trip(env->pollers().front(), *device).ok());
  }
  EXPECT_EQ(env->find("nvme-" + Uuid::random().to_string()), nullptr);
  EXPECT_EQ(env->find(Uuid::random().to_string()), nullptr);
  EXPECT_EQ(env->find(Uuid().to_string()), nullptr);
  EXPECT_EQ(env->find(""), nullptr);
  const auto targets = env->targets();
  ASSERT_THAT(targets, SizeIs(1));
  EXPECT_TRUE(targets[0].up);
  EXPECT_FALSE(targets[0].error.has_value());
  EXPECT_THAT(targets[0].device_names, ElementsAre(first.info().name, second.info().name));
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST_F(NvmeEnvTest, KnowsADeviceAgainAfterARestartWhateverItsPlace) {
  LocalTarget one({.nqn = "nqn.2024-01.io.leap:one", .devices = {"mem:?size=8MiB"}});
  LocalTarget two({.nqn = "nqn.2024-01.io.leap:two", .devices = {"mem:?size=16MiB"}});
  auto env = NvmeEnv::start(small_config({one.address(), two.address()})).value();
  const Uuid small = env->devices().at(0)->info().uuid;
  const Uuid large = env->devices().at(1)->info().uuid;
  env = nullptr;
  env = NvmeEnv::start(small_config({two.address(), one.address()})).value();
  EXPECT_EQ(env->find(small.to_string())->info().size, 8 * kMiB);
  EXPECT_EQ(env->find(large.to_string())->info().size, 16 * kMiB);
  env = nullptr;
  env = NvmeEnv::start(small_config({address_of(closed_port()), two.address()})).value();
  EXPECT_EQ(env->find(small.to_string()), nullptr);
  EXPECT_EQ(env->find(large.to_string())->info().size, 16 * kMiB);
}

TEST_F(NvmeEnvTest, OnlyOneIsUpAtATime) {
  auto env = NvmeEnv::start(small_config()).value();
  const auto second = NvmeEnv::start(small_config());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), Errc::kBusy);
  EXPECT_THAT(second.error().message(), HasSubstr("already up"));
  // The refused one has not taken the place of the first.
  EXPECT_EQ(NvmeEnv::start(small_config()).error().kind(), Errc::kBusy);
  EXPECT_TRUE(env->stop(1s).ok());
  EXPECT_TRUE(NvmeEnv::start(small_config()).ok());
}

TEST_F(NvmeEnvTest, RefusesABadConfigurationAndACoreThatIsNotOurs) {
  const Footprint before;
  NvmeEnvConfig config = small_config();
  config.hugepage = 0;
  EXPECT_EQ(NvmeEnv::start(config).error().kind(), Errc::kInvalidArgument);
  config = small_config();
  config.reactor_mask = "[1023]";
  const auto refused = NvmeEnv::start(config);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kInvalidArgument);
  EXPECT_THAT(refused.error().message(),
              HasSubstr("worker.spdk_disk.reactor_mask: core 1023 of [1023] does not exist or is not allowed"));
  config = small_config();
  config.hugepage = 1ULL << 60;
  const auto too_much = NvmeEnv::start(config);
  ASSERT_FALSE(too_much.ok());
  // A start that failed leaves nothing behind, not even the claim to be the only one.
  EXPECT_TRUE(back_to(before));
  EXPECT_TRUE(NvmeEnv::start(small_config()).ok());
}

TEST_F(NvmeEnvTest, WithoutTargetsThereAreStillPollersAndMemory) {
  NvmeEnvConfig config = small_config();
  config.targets.resize(1);  // disabled: nobody looks at it
  auto env = NvmeEnv::start(config).value();
  EXPECT_THAT(env->pollers(), SizeIs(1));
  EXPECT_THAT(env->targets(), IsEmpty());
  EXPECT_THAT(env->devices(), IsEmpty());
  EXPECT_THAT(env->controllers(), IsEmpty());
  const int answer = env->pollers()[0].poller->run([](NvmePoller&) -> Task<int> { co_return 42; });
  EXPECT_EQ(answer, 42);
}

TEST_F(NvmeEnvTest, ReportsTheMemoryItGot) {
  auto env = NvmeEnv::start(small_config()).value();
  EXPECT_GE(env->arena().memory().size(), 16 * kMiB);
  EXPECT_THAT(env->arena().report(), HasSubstr(std::string(to_string(env->arena().page_kind()))));
  EXPECT_EQ(env->pollers()[0].pool->capacity(), 16 * kMiB);
}

TEST_F(NvmeEnvTest, PinsOnePollerToEachCoreOfTheMask) {
  const auto cores = allowed_cores();
  if (cores.size() < 2) GTEST_SKIP() << "one core only";
  NvmeEnvConfig config = small_config();
  config.app_name = "pin-test";
  config.reactor_mask = format_core_mask(std::vector<unsigned>{cores[0], cores[1]});
  auto env = NvmeEnv::start(config).value();
  ASSERT_THAT(env->pollers(), SizeIs(2));
  for (std::size_t i = 0; i < 2; ++i) {
    const auto [only, name] = env->pollers()[i].poller->run([](NvmePoller&) -> Task<std::pair<int, std::string>> {
      cpu_set_t mask;
      CPU_ZERO(&mask);
      EXPECT_EQ(::sched_getaffinity(0, sizeof mask, &mask), 0);
      EXPECT_EQ(CPU_COUNT(&mask), 1);
      int core = 0;
      while (core < CPU_SETSIZE && !CPU_ISSET(core, &mask)) ++core;
      char text[16] = {};
      EXPECT_EQ(::pthread_getname_np(::pthread_self(), text, sizeof text), 0);
      co_return std::pair<int, std::string>(core, text);
    });
    EXPECT_EQ(only, static_cast<int>(cores[i]));
    EXPECT_EQ(name, fmt::format("pin-test-{}", cores[i]));
    EXPECT_EQ(env->pollers()[i].pool->capacity(), 8 * kMiB);
  }
  // The control thread has not been pinned along the way.
  cpu_set_t mine;
  ASSERT_EQ(::sched_getaffinity(0, sizeof mine, &mine), 0);
  EXPECT_EQ(static_cast<std::size_t>(CPU_COUNT(&mine)), cores.size());
}

TEST_F(NvmeEnvTest, EveryKeyReachesWhatItConfigures) {
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  TcpProxy proxy(target.endpoint());
  NvmeEnvConfig config = small_config({target.address(), target.address(proxy.endpoint())});
  config.app_name = "keys";
  config.hugepage = 24 * kMiB;
  config.io_queue_depth = 17;
  config.io_queue_requests = 333;
  config.io_timeout = 7s;
  config.keep_alive_timeout = 11s;
  config.qpair_acquire_timeout = 6s;
  config.spin_iter = 77;
  config.spin_max = 9us;
  config.dma_buffer_size = 64 * kKiB;
  config.targets[1].io_queues = 3;
  config.targets[1].io_timeout = 2s;
  config.targets[1].keep_alive_timeout = 13s;
  config.targets[1].header_digest = true;
  config.targets[1].data_digest = true;
  config.targets[1].protocol_checker = true;
  config.targets[1].address.hostnqn = "nqn.2024-01.io.leap:someone-else";
  auto env = NvmeEnv::start(config).value();
  EXPECT_EQ(env->arena().memory().size(), 24 * kMiB);
  const NvmePoller::Config& poller = env->pollers()[0].poller->config();
  EXPECT_THAT(poller.name, testing::StartsWith("keys-"));
  EXPECT_EQ(poller.mailbox_capacity, 333U);
  EXPECT_EQ(poller.spin_iterations, 77U);
  EXPECT_EQ(poller.spin_max, 9us);
  EXPECT_EQ(env->devices().at(0)->info().optimal_io, 64 * kKiB);
  ASSERT_THAT(env->controllers(), SizeIs(2));
  const NvmeController& inherits = *env->controllers()[0];
  EXPECT_EQ(inherits.config().io_queue_depth, 17U);
  EXPECT_EQ(inherits.info().io_queue_entries, 17U);
  EXPECT_EQ(inherits.config().max_io_queues, 1U);  // one per poller
  EXPECT_EQ(inherits.config().io_timeout, 7s);
  EXPECT_EQ(inherits.config().keep_alive_timeout, 11s);
  EXPECT_EQ(inherits.config().connect_timeout, 6s);
  EXPECT_FALSE(inherits.config().header_digest);
  EXPECT_FALSE(inherits.config().hostid.is_nil());
  const NvmeController& overrides = *env->controllers()[1];
  EXPECT_EQ(overrides.config().max_io_queues, 3U);
  EXPECT_EQ(overrides.config().io_timeout, 2s);
  EXPECT_EQ(overrides.config().keep_alive_timeout, 13s);
  EXPECT_TRUE(overrides.config().header_digest);
  EXPECT_TRUE(overrides.config().data_digest);
  EXPECT_TRUE(overrides.config().protocol_checker);
  EXPECT_EQ(overrides.config().hostnqn, "nqn.2024-01.io.leap:someone-else");
  EXPECT_NE(overrides.config().hostid, inherits.config().hostid);
}

// --- targets that are not there ---

TEST_F(NvmeEnvTest, WhatCannotBeReachedIsReportedAndTheOthersAreUp) {
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  TargetConfig for_friends;
  for_friends.allowed_hosts = {"nqn.2024-01.io.leap:friend"};
  LocalTarget strict({.nqn = "nqn.2024-01.io.leap:strict", .devices = {"mem:?size=8MiB"}, .target = for_friends});
  nvme::TransportAddress unknown = target.address();
  unknown.subnqn = "nqn.2024-01.io.leap:unknown";
  nvme::TransportAddress nameless = target.address();
  nameless.traddr = "no-such-host.invalid";
  nvme::TransportAddress discovery = target.address();
  discovery.subnqn = nvme::kDiscoveryNqn;
  NvmeEnvConfig config =
      small_config({address_of(closed_port()), nameless, unknown, strict.address(), discovery, target.address()});
  config.expand_discovery = false;
  auto env = NvmeEnv::start(config).value();
  const auto targets = env->targets();
  ASSERT_THAT(targets, SizeIs(6));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_FALSE(targets[i].up) << i;
    ASSERT_TRUE(targets[i].error.has_value()) << i;
    EXPECT_THAT(targets[i].device_names, IsEmpty());
  }
  EXPECT_EQ(targets[0].error->kind(), Errc::kUnreachable) << targets[0].error->to_string();
  EXPECT_THAT(targets[0].error->message(), HasSubstr("Connection refused"));
  EXPECT_THAT(targets[1].error->message(), HasSubstr("no-such-host.invalid"));
  EXPECT_EQ(targets[1].address.traddr, "no-such-host.invalid");  // as configured
  EXPECT_THAT(targets[2].error->message(), HasSubstr("nqn.2024-01.io.leap:unknown"));
  EXPECT_EQ(targets[3].error->kind(), Errc::kPermission) << targets[3].error->to_string();
  EXPECT_TRUE(targets[4].error.has_value());
  EXPECT_THAT(targets[4].error->message(), HasSubstr("discovery controller"));
  EXPECT_TRUE(targets[5].up);
  EXPECT_FALSE(targets[5].error.has_value());
  ASSERT_THAT(env->devices(), SizeIs(1));
  EXPECT_TRUE(round_trip(env->pollers().front(), *env->devices()[0]).ok());
  EXPECT_TRUE(env->stop(5s).ok());
}

TEST_F(NvmeEnvTest, SilentTargetsCostOneTimeoutTogether) {
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  TcpProxy silent[4] = {TcpProxy(target.endpoint()), TcpProxy(target.endpoint()), TcpProxy(target.endpoint()),
                        TcpProxy(target.endpoint())};
  std::vector<nvme::TransportAddress> addresses{target.address()};
  for (TcpProxy& proxy : silent) {
    proxy.freeze();
    addresses.push_back(target.address(proxy.endpoint()));
  }
  NvmeEnvConfig config = small_config(addresses);
  config.qpair_acquire_timeout = 700ms;
  const Stopwatch watch;
  auto env = NvmeEnv::start(config).value();
  EXPECT_GE(watch.elapsed(), 600ms);
  EXPECT_LT(watch.elapsed(), 2 * 700ms);
  EXPECT_TRUE(env->targets()[0].up);
  for (std::size_t i = 1; i < addresses.size(); ++i) {
    EXPECT_FALSE(env->targets()[i].up);
    EXPECT_EQ(env->targets()[i].error->kind(), Errc::kTimedOut) << env->targets()[i].error->to_string();
  }
}

// A target that answers on its admin queue and no longer on its I/O queues must not hold up the others either.
TEST_F(NvmeEnvTest, AnIoQueueThatCannotBeOpenedIsReportedAndTheControllerStaysUp) {
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  TcpProxy proxy(target.endpoint());
  NvmeEnvConfig config = small_config({target.address(proxy.endpoint())});
  config.qpair_acquire_timeout = 2s;
  std::thread refuse([&] {
    EXPECT_TRUE(eventually([&] { return proxy.connections() > 0; }));
    proxy.refuse(true);
  });
  auto env = NvmeEnv::start(config).value();
  refuse.join();
  const TargetStatus status = env->targets()[0];
  EXPECT_TRUE(status.up);
  ASSERT_TRUE(status.error.has_value());
  EXPECT_THAT(status.device_names, SizeIs(1));
  EXPECT_FALSE(round_trip(env->pollers()[0], *env->devices()[0]).ok());
  // When it comes back, the next I/O makes the queue.
  proxy.refuse(false);
  EXPECT_TRUE(round_trip(env->pollers()[0], *env->devices()[0]).ok());
}

TEST_F(NvmeEnvTest, ANamespaceReachedThroughTwoTargetsIsOneDeviceWithTwoPaths) {
  LocalTarget target({.devices = {"mem:?size=8MiB", "mem:?size=8MiB"}});
  TcpProxy other_way(target.endpoint());
  auto env = NvmeEnv::start(small_config({target.address(), target.address(other_way.endpoint())})).value();
  ASSERT_THAT(env->devices(), SizeIs(2));
  for (const TargetStatus& status : env->targets()) {
    EXPECT_TRUE(status.up);
    EXPECT_FALSE(status.error.has_value());
    EXPECT_THAT(status.device_names, SizeIs(2));
  }
  const auto paths = static_cast<NvmeBdev*>(env->devices()[0])->paths();
  ASSERT_THAT(paths, SizeIs(2));
  EXPECT_EQ(paths[1]->link.config().controller.address.trsvcid, other_way.endpoint().port());
}

TEST_F(NvmeEnvTest, AnAddressWithANamespaceBindsOnlyThatOne) {
  LocalTarget target({.devices = {"mem:?size=8MiB", "mem:?size=16MiB", "mem:?size=24MiB"}});
  nvme::TransportAddress address = target.address();
  address.nsid = nvme::Nsid(2);
  auto env = NvmeEnv::start(small_config({address})).value();
  ASSERT_THAT(env->devices(), SizeIs(1));
  EXPECT_EQ(env->devices()[0]->info().size, 16 * kMiB);
}

TEST_F(NvmeEnvTest, FewerQueuesThanPollersServeTheFirstPollers) {
  const auto cores = allowed_cores();
  if (cores.size() < 2) GTEST_SKIP() << "one core only";
  TargetConfig narrow;
  narrow.max_io_queues = 1;
  LocalTarget target({.devices = {"mem:?size=8MiB"}, .target = narrow});
  NvmeEnvConfig config = small_config({target.address()});
  config.reactor_mask = format_core_mask(std::vector<unsigned>{cores[0], cores[1]});
  auto env = NvmeEnv::start(config).value();
  const TargetStatus status = env->targets()[0];
  EXPECT_TRUE(status.up);
  ASSERT_TRUE(status.error.has_value());
  EXPECT_EQ(status.error->kind(), Errc::kExhausted);
  EXPECT_THAT(status.error->message(), HasSubstr("has 1 I/O queues for 2 pollers"));
  ASSERT_THAT(env->pollers(), SizeIs(1)) << "who cannot do I/O gets no clients";
  EXPECT_TRUE(round_trip(env->pollers()[0], *env->devices()[0]).ok());
}

TEST_F(NvmeEnvTest, ATargetThatDiesIsReportedAndTheOthersLiveOn) {
  LocalTarget stays({.nqn = "nqn.2024-01.io.leap:stays", .devices = {"mem:?size=8MiB"}});
  LocalTarget dies({.nqn = "nqn.2024-01.io.leap:dies", .devices = {"mem:?size=8MiB"}});
  TcpProxy proxy(dies.endpoint());
  auto env = NvmeEnv::start(small_config({dies.address(proxy.endpoint()), stays.address()})).value();
  BlockDevice* const device = env->devices().at(0);
  EXPECT_TRUE(device->online());
  proxy.refuse(true);
  proxy.cut_all();
  EXPECT_TRUE(eventually([&] { return !env->targets()[0].up; }));
  ASSERT_TRUE(env->targets()[0].error.has_value());
  EXPECT_THAT(env->targets()[0].device_names, SizeIs(1));  // still the same device, offline
  EXPECT_FALSE(device->online());
  EXPECT_EQ(env->find(device->info().name), device);
  const Result<> failed = round_trip(env->pollers()[0], *device);
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(failed.error().message(), HasSubstr(device->info().name));
  EXPECT_TRUE(env->targets()[1].up);
  EXPECT_TRUE(round_trip(env->pollers()[0], *env->devices()[1]).ok());
  EXPECT_TRUE(env->stop(2s).ok()) << "a controller that is gone cannot be told, which is no surprise";
}

TEST_F(NvmeEnvTest, WhoAsksALostDeviceAgainAndAgainLeavesOthersTheirTurn) {
  constexpr int kTurns = 3;
  constexpr int kPatience = 1000;
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  TcpProxy proxy(target.endpoint());
  auto env = NvmeEnv::start(small_config({target.address(proxy.endpoint())})).value();
  proxy.refuse(true);
  proxy.cut_all();
  ASSERT_TRUE(eventually([&] { return !env->targets()[0].up; }));
  const PollerContext& context = env->pollers()[0];
  int turns = 0;
  const int refused = context.poller->run([&](NvmePoller& poller) {
    return [](NvmePoller& p, DmaPool& pool, BlockDevice& device, int& others) -> Task<int> {
      auto channel = device.open_channel(p, pool).value();
      TaskGroup group(p);
      group.spawn([](NvmePoller& own, int& count) -> Task<void> {
        for (; count < kTurns; ++count) co_await own.yield();
      }(p, others));
      int attempts = 0;
      while (others < kTurns && attempts < kPatience) {
        Result<DmaBuf> buffer = co_await allocate(p, pool, 4096);
        Result<DmaBuf> read = co_await channel->read(0, std::move(buffer).value());
        if (!read.ok()) ++attempts;
      }
      co_await group.wait();
      co_return attempts;
    }(poller, *context.pool, *env->devices()[0], turns);
  });
  EXPECT_EQ(turns, kTurns);
  EXPECT_LT(refused, kPatience);
}

// --- stopping ---

TEST_F(NvmeEnvTest, StopIsIdempotentAndLeavesNothing) {
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  const Footprint before;
  auto env = NvmeEnv::start(small_config({target.address()})).value();
  EXPECT_TRUE(env->stop(5s).ok());
  EXPECT_TRUE(env->stop(5s).ok());
  EXPECT_THAT(env->devices(), IsEmpty());
  EXPECT_THAT(env->targets(), IsEmpty());
  EXPECT_THAT(env->pollers(), IsEmpty());
  EXPECT_EQ(env->find("x"), nullptr);
  EXPECT_TRUE(eventually([&] { return target.target().probe().connections_now == 0; }));
  EXPECT_TRUE(back_to(before));
}

TEST_F(NvmeEnvTest, StartsAndStopsFiftyTimesWithoutLosingAnything) {
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  const auto once = [&] {
    auto env = NvmeEnv::start(small_config({target.address(), address_of(closed_port())})).value();
    ASSERT_THAT(env->devices(), SizeIs(1));
    ASSERT_TRUE(round_trip(env->pollers()[0], *env->devices()[0]).ok());
    ASSERT_TRUE(env->stop(5s).ok());
  };
  for (int i = 0; i < 5; ++i) once();  // what is kept for the life of the process
  ASSERT_TRUE(eventually([&] { return target.target().probe().connections_now == 0; }));
  const Footprint before;
  for (int i = 0; i < 50; ++i) once();
  ASSERT_TRUE(eventually([&] { return target.target().probe().connections_now == 0; }));
  EXPECT_TRUE(back_to(before));
  // Fifty arenas would be 800 MiB.
  EXPECT_LT(Footprint().mapped_bytes, before.mapped_bytes + 100 * kMiB);
  EXPECT_EQ(target.target().probe().controllers_now, 0U);
}

TEST_F(NvmeEnvTest, StoppingIsBoundedWhenATargetHasGoneSilent) {
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  TcpProxy proxy(target.endpoint());
  const Footprint before;
  auto env = NvmeEnv::start(small_config({target.address(proxy.endpoint())})).value();
  ASSERT_TRUE(round_trip(env->pollers()[0], *env->devices()[0]).ok());
  proxy.freeze();
  const Stopwatch watch;
  const Result<> stopped = env->stop(500ms);
  EXPECT_LT(watch.elapsed(), 3s);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().kind(), Errc::kTimedOut) << stopped.error().to_string();
  // Everything is stopped nevertheless.
  EXPECT_THAT(env->pollers(), IsEmpty());
  EXPECT_TRUE(env->stop(1s).ok());
  env = nullptr;
  proxy.cut_all();
  EXPECT_TRUE(back_to(before));
  EXPECT_TRUE(NvmeEnv::start(small_config({target.address()})).ok());
}

TEST_F(NvmeEnvTest, TheDestructorStopsToo) {
  LocalTarget target({.devices = {"mem:?size=8MiB"}});
  const Footprint before;
  { auto env = NvmeEnv::start(small_config({target.address()})).value(); }
  EXPECT_TRUE(eventually([&] { return target.target().probe().controllers_now == 0; }));
  EXPECT_TRUE(back_to(before));
}

}  // namespace
}  // namespace leap
