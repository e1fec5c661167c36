// What a command costs the host: no heap allocation, and answers gathered into few system calls. Linked with the
// counting malloc; over real sockets, because only their calls are counted.
#include <gtest/gtest.h>

#include "../support/poller_thread.h"
#include "base/alloc_counter.h"
#include "base/sys.h"
#include "host/controller.h"
#include "nvme/nvm_command.h"
#include "poller/dma_await.h"
#include "socket_target.h"

namespace leap::test {
namespace {

struct Cost {
  std::uint64_t commands = 0;
  std::uint64_t errors = 0;
  std::uint64_t allocations = 0;
  std::uint64_t sends = 0;
};

Task<void> keep_busy(QueuePair& qp, NvmePoller& poller, DmaPool& pool, std::size_t bytes, std::uint32_t rounds,
                     Cost& cost) {
  Result<DmaBuf> allocated = co_await allocate(poller, pool, bytes);
  DmaBuf data = std::move(allocated).value();
  const auto blocks = static_cast<std::uint32_t>(bytes / 512);
  for (std::uint32_t i = 0; i < rounds; ++i) {
    const bool write = i % 2 == 0;
    const nvme::Command command =
        write ? nvme::make_write(nvme::Nsid{1}, 0, blocks) : nvme::make_read(nvme::Nsid{1}, 0, blocks);
    const auto direction = write ? nvme::DataDirection::kHostToController : nvme::DataDirection::kControllerToHost;
    CommandResult done = co_await qp.execute(command, std::move(data), direction);
    if (!done.status.ok()) ++cost.errors;
    ++cost.commands;
    data = std::move(done.data);
  }
}

Task<Cost> measure(QueuePair& qp, NvmePoller& poller, DmaPool& pool, std::size_t bytes, std::uint32_t depth,
                   std::uint32_t rounds) {
  Cost cost;
  TaskGroup group(poller);
  const std::uint64_t allocations = thread_allocations();
  const std::uint64_t sends = sys::counters().send;
  for (std::uint32_t i = 0; i < depth; ++i) group.spawn(keep_busy(qp, poller, pool, bytes, rounds, cost));
  co_await group.wait();
  cost.allocations = thread_allocations() - allocations;
  cost.sends = sys::counters().send - sends;
  co_return cost;
}

class IoCost : public ::testing::Test {
 protected:
  void SetUp() override {
    ControllerConfig config;
    const auto text = fmt::format("nvme+tcp://127.0.0.1:{}/nqn.2024-01.io.example:fake", target.port());
    config.address = nvme::TransportAddress::parse(text).value();
    config.hostnqn = "nqn.2024-01.io.example:host";
    config.hostid = Uuid::from_name("host");
    controller = host.run([&](NvmePoller& poller) {
                       return NvmeController::connect(poller, host.pool(), Net::system(), config);
                     })
                     .value();
    qp = host.run([&](NvmePoller& poller) { return controller->open_io_queue(poller, host.pool()); }).value();
  }
  void TearDown() override {
    host.run([&](NvmePoller&) { return controller->shutdown(std::chrono::seconds(5)); }).value();
  }
  Cost run(std::size_t bytes, std::uint32_t depth, std::uint32_t rounds) {
    return host.run([&](NvmePoller& poller) { return measure(*qp, poller, host.pool(), bytes, depth, rounds); });
  }

  SocketTarget target;
  PollerThread host;
  std::unique_ptr<NvmeController> controller;
  QueuePair* qp = nullptr;
};

TEST_F(IoCost, NoAllocationPerCommandOnceWarm) {
  if (!alloc_counting_available()) GTEST_SKIP() << "this executable does not count allocations";
  for (const std::size_t bytes : {4096UL, 65536UL}) {  // in the capsule and by R2T
    run(bytes, 32, 10);
    const Cost cost = run(bytes, 32, 50);
    EXPECT_EQ(cost.errors, 0U);
    EXPECT_EQ(cost.commands, 32U * 50);
    EXPECT_EQ(cost.allocations, 0U) << bytes << " bytes";
  }
}

TEST_F(IoCost, CommandsOfATurnShareASystemCall) {
  run(4096, 32, 10);
  const Cost cost = run(4096, 32, 100);
  EXPECT_LT(static_cast<double>(cost.sends) / static_cast<double>(cost.commands), 0.5);
}

}  // namespace
}  // namespace leap::test
