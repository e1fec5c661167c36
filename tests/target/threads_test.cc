// Real threads, real sockets, real files: queues of one controller on different pollers, and the TargetRunner.
#include <atomic>
#include <filesystem>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/affinity.h"
#include "base/log.h"
#include "nvme/admin_command.h"
#include "nvme/features.h"
#include "rig.h"
#include "socket_wire.h"
#include "target/target_runner.h"

namespace leap::target::testing {
namespace {

using nvme::Nsid;

std::unique_ptr<TestHost> dial(const SocketAddress& address) {
  auto wire = SocketWire::connect(address);
  if (wire == nullptr) return nullptr;
  auto host = std::make_unique<TestHost>(std::move(wire));
  if (!host->handshake().has_value()) return nullptr;
  return host;
}

std::unique_ptr<TestHost> dial_admin(const SocketAddress& address) {
  auto host = dial(address);
  if (host == nullptr || !host->connect(0).ok()) return nullptr;
  if (!host->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok()) return nullptr;
  return host;
}

TargetRunner::Options options_for(std::vector<std::string> namespaces, std::size_t pollers) {
  TargetRunner::Options options;
  options.target.nqn = "nqn.2024-01.io.leap:test";
  options.target.listen = {SocketAddress::parse("127.0.0.1:0").value()};
  options.target.linger_timeout = std::chrono::milliseconds(200);
  options.namespaces = std::move(namespaces);
  options.pool_bytes = 8 * kMiB;
  const auto cores = allowed_cores();
  for (std::size_t i = 0; i < pollers; ++i) options.cores.push_back(cores[i % cores.size()]);
  return options;
}

class RunnerTest : public ::testing::Test {
 protected:
  RunnerTest() {
    set_log_level(LogLevel::kOff);
    path = std::filesystem::temp_directory_path() / ("leap_target_test." + std::to_string(::getpid()));
    std::filesystem::remove(path);
  }
  ~RunnerTest() override { std::filesystem::remove(path); }
  void start(std::vector<std::string> namespaces, std::size_t pollers) {
    auto created = TargetRunner::create(options_for(std::move(namespaces), pollers));
    ASSERT_TRUE(created.ok()) << created.error().to_string();
    runner = std::move(created).value();
    const Result<> started = runner->start();
    ASSERT_TRUE(started.ok()) << started.error().to_string();
    address = runner->target().addresses().front();
  }
  [[nodiscard]] std::string file(const std::string& size = "16MiB") const {
    return "file://" + path.string() + "?size=" + size;
  }

  std::filesystem::path path;
  std::unique_ptr<TargetRunner> runner;
  SocketAddress address;
};

/// Writes and verifies its own part of a namespace through one queue.
void exercise(TestHost& io, std::uint32_t nsid, std::uint64_t first_lba, int rounds, std::atomic<int>& failures) {
  for (int round = 0; round < rounds; ++round) {
    const auto seed = static_cast<std::uint32_t>(first_lba) + static_cast<std::uint32_t>(round);
    const Bytes small = pattern(4096, seed);
    const Bytes large = pattern(65536, seed + 1'000'000);
    const auto a = io.submit(nvme::make_write(Nsid{nsid}, first_lba, 1), small);
    const auto b = io.submit(nvme::make_write(Nsid{nsid}, first_lba + 1, 16), large, Via::kR2T);
    if (!io.wait(a).ok() || !io.wait(b).ok()) ++failures;
    const auto c = io.submit(nvme::make_read(Nsid{nsid}, first_lba, 1), {}, Via::kR2T, 4096);
    const auto d = io.submit(nvme::make_read(Nsid{nsid}, first_lba + 1, 16), {}, Via::kR2T, 65536);
    if (!same(io.wait(c).data, small) || !same(io.wait(d).data, large)) ++failures;
    if (!io.execute(nvme::make_flush(Nsid{nsid})).ok()) ++failures;
  }
}

TEST_F(RunnerTest, QueuesOfOneControllerOnDifferentPollersServeTheSameNamespaces) {
  start({"mem:?size=16MiB", file()}, 2);
  auto admin = dial_admin(address);
  ASSERT_TRUE(admin);
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (std::uint16_t queue = 1; queue <= 4; ++queue) {
    threads.emplace_back([&, queue] {
      auto io = dial(address);
      if (io == nullptr || !io->connect(queue, admin->cntlid, 32).ok()) {
        ++failures;
        return;
      }
      for (const std::uint32_t nsid : {1U, 2U}) exercise(*io, nsid, std::uint64_t{queue} * 100, 20, failures);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  const auto probe = runner->target().probe();
  EXPECT_EQ(probe.reads, 4U * 2 * 20 * 2);
  EXPECT_EQ(probe.failed_commands, 0U);
  EXPECT_TRUE(runner->stop(std::chrono::seconds(10)).ok());
}

TEST_F(RunnerTest, ResetsAndDisconnectsRaceWithIoOnOtherPollers) {
  start({"mem:?size=16MiB"}, 2);
  std::atomic<bool> stop{false};
  std::atomic<int> rounds{0};
  auto admin = dial_admin(address);
  ASSERT_TRUE(admin);
  const std::uint16_t cntlid = admin->cntlid;
  std::vector<std::thread> threads;
  for (std::uint16_t queue = 1; queue <= 3; ++queue) {
    threads.emplace_back([&, queue] {
      while (!stop) {
        auto io = dial(address);
        if (io == nullptr || !io->connect(queue, cntlid, 32).ok()) continue;
        // Until the connection is taken away.
        for (std::uint64_t lba = queue * 100U; !stop; ++lba) {
          const Reply reply = io->write(1, lba % 3000, pattern(4096, queue), Via::kCapsule, 4096);
          if (reply.lost) break;
        }
        ++rounds;
      }
    });
  }
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(admin->property_set(nvme::PropertyOffset::kCc, 0).ok());
    while (nvme::Csts{admin->property_get(nvme::PropertyOffset::kCsts).cqe.dw0}.rdy()) std::this_thread::yield();
    ASSERT_TRUE(admin->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
    const int seen = rounds;
    while (rounds < seen + 1 && i % 2 == 0) {
      ASSERT_TRUE(admin->property_set(nvme::PropertyOffset::kCc, 0).ok());
      while (nvme::Csts{admin->property_get(nvme::PropertyOffset::kCsts).cqe.dw0}.rdy()) std::this_thread::yield();
      ASSERT_TRUE(admin->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
    }
  }
  stop = true;
  admin->close();  // ends the association, and with it every queue
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(runner->stop(std::chrono::seconds(10)).ok());
}

TEST_F(RunnerTest, EventsReachAdminQueuesOnAnyPoller) {
  start({"mem:?size=1MiB"}, 2);
  std::vector<std::unique_ptr<TestHost>> admins;
  std::vector<nvme::Cid> requests;
  for (int i = 0; i < 4; ++i) {
    admins.push_back(dial_admin(address));
    ASSERT_TRUE(admins.back());
    ASSERT_TRUE(
        admins.back()->execute(nvme::make_set_features(nvme::FeatureId::kAsyncEventConfiguration, 1U << 8)).ok());
    requests.push_back(admins.back()->submit(nvme::make_async_event_request()));
  }
  runner->target().notify_namespace_changed(1);
  for (std::size_t i = 0; i < admins.size(); ++i) EXPECT_TRUE(admins[i]->wait(requests[i]).ok());
}

TEST_F(RunnerTest, StopsUnderLoad) {
  start({"mem:?size=16MiB", file()}, 2);
  auto admin = dial_admin(address);
  ASSERT_TRUE(admin);
  std::atomic<int> begun{0};
  std::vector<std::thread> threads;
  for (std::uint16_t queue = 1; queue <= 4; ++queue) {
    threads.emplace_back([&, queue] {
      auto io = dial(address);
      if (io == nullptr || !io->connect(queue, admin->cntlid, 32).ok()) return;
      for (;; ++begun) {
        const Reply reply = io->write(queue % 2 + 1U, queue * 20U, pattern(65536, queue), Via::kR2T, 4096);
        if (reply.lost) return;
      }
    });
  }
  while (begun < 100) std::this_thread::yield();
  EXPECT_TRUE(runner->stop(std::chrono::seconds(10)).ok());
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(SocketWire::connect(address), nullptr) << "nobody listens any more";
}

TEST_F(RunnerTest, AFileKeepsItsContentsAndItsIdentityAcrossRestarts) {
  const Bytes data = pattern(8192, 3);
  Bytes identity;
  const auto descriptors = nvme::make_identify_descriptors(Nsid{1});
  for (int run = 0; run < 2; ++run) {
    start({file()}, 1);
    auto admin = dial_admin(address);
    auto io = dial(address);
    ASSERT_TRUE(admin && io && io->connect(1, admin->cntlid).ok());
    const Reply reply = admin->execute(descriptors, {}, Via::kR2T, 4096);
    if (run == 0) {
      identity = reply.data;
      ASSERT_TRUE(io->write(1, 7, data, Via::kCapsule, 4096, true).ok());
    } else {
      EXPECT_TRUE(same(reply.data, identity));
      EXPECT_TRUE(same(io->read(1, 7, 2, 4096).data, data));
    }
    EXPECT_TRUE(runner->stop(std::chrono::seconds(10)).ok());
    runner.reset();
  }
}

TEST_F(RunnerTest, SaysWhatIsWrongAtOnce) {
  start({"mem:?size=1MiB"}, 1);
  auto second = options_for({"mem:?size=1MiB"}, 1);
  second.target.listen = {address};
  auto created = TargetRunner::create(std::move(second));
  ASSERT_TRUE(created.ok());
  const Result<> started = created.value()->start();
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.error().to_string(), ::testing::HasSubstr(address.to_string()));
  const auto error_of = [](TargetRunner::Options options) {
    const auto result = TargetRunner::create(std::move(options));
    return result.ok() ? std::string() : result.error().message();
  };
  EXPECT_THAT(error_of(options_for({"floppy:a"}, 1)), ::testing::HasSubstr("floppy:a"));
  EXPECT_THAT(error_of(options_for({"nvme+tcp://127.0.0.1:4420/nqn"}, 1)), ::testing::HasSubstr("nvme+tcp"));
  EXPECT_THAT(error_of(options_for({"file:///no/such/place/disk?size=1MiB"}, 1)),
              ::testing::HasSubstr("/no/such/place/disk"));
  auto bad_nqn = options_for({"mem:?size=1MiB"}, 1);
  bad_nqn.target.nqn = "disk";
  EXPECT_THAT(error_of(std::move(bad_nqn)), ::testing::HasSubstr("disk"));
  auto bad_pool = options_for({"mem:?size=1MiB"}, 1);
  bad_pool.pool_bytes = 1000;
  EXPECT_THAT(error_of(std::move(bad_pool)), ::testing::HasSubstr("1000"));
}

}  // namespace
}  // namespace leap::target::testing
