// Our host against our target, over real sockets: every way data moves, on several pollers, digests on and off.
#include <gtest/gtest.h>

#include "../support/poller_thread.h"
#include "../support/stamped.h"
#include "host/controller.h"
#include "nvme/nvm_command.h"
#include "poller/dma_await.h"
#include "target/target_runner.h"

namespace leap::test {
namespace {

using std::chrono::seconds;

constexpr const char* kNqn = "nqn.2024-01.io.example:interop";

struct Way {
  const char* name;
  bool digests;
  std::uint32_t in_capsule;
  std::uint32_t maxh2c;
  std::uint32_t maxc2h;
  std::uint32_t r2t_bytes;
  std::uint32_t r2ts;
  C2hSuccess success;
};
void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

struct Tally {
  std::uint64_t commands = 0;
  std::uint64_t errors = 0;
  std::uint64_t wrong = 0;
};

Task<void> write_and_verify(QueuePair& qp, NvmePoller& poller, DmaPool& pool, NamespaceInfo ns, std::size_t bytes,
                            std::uint64_t first_byte, Tally& tally) {
  const std::uint64_t lba = first_byte / ns.block_size;
  const auto blocks = static_cast<std::uint32_t>(bytes / ns.block_size);
  for (std::uint32_t generation = 1; generation <= 3; ++generation) {
    Result<DmaBuf> allocated = co_await allocate(poller, pool, bytes);
    DmaBuf data = std::move(allocated).value();
    stamp(data, lba, generation);
    CommandResult written = co_await qp.execute(nvme::make_write(ns.nsid, lba, blocks), std::move(data),
                                                nvme::DataDirection::kHostToController);
    if (!written.status.ok()) {
      ++tally.errors;
      continue;
    }
    std::memset(written.data.data(), 0, bytes);
    CommandResult read = co_await qp.execute(nvme::make_read(ns.nsid, lba, blocks), std::move(written.data),
                                             nvme::DataDirection::kControllerToHost);
    tally.commands += 2;
    if (!read.status.ok())
      ++tally.errors;
    else if (!stamped(read.data, lba, generation))
      ++tally.wrong;
  }
}

Task<Result<Tally>> work(NvmeController& controller, NvmePoller& poller, DmaPool& pool, std::uint64_t base) {
  LEAP_CO_TRY(QueuePair* const qp, co_await controller.open_io_queue(poller, pool));
  const NamespaceInfo ns = controller.namespaces().front();
  Tally tally;
  TaskGroup group(poller);
  std::uint64_t at = base;
  for (int round = 0; round < 4; ++round) {
    for (const std::size_t bytes : {4096UL, 8192UL, 16384UL, 131072UL, 1048576UL}) {
      group.spawn(write_and_verify(*qp, poller, pool, ns, bytes, at, tally));
      at += bytes;
    }
  }
  co_await group.wait();
  CommandResult flushed = co_await qp->execute(nvme::make_flush(ns.nsid));
  if (!flushed.status.ok()) ++tally.errors;
  co_return tally;
}

class Interop : public ::testing::TestWithParam<Way> {};

TEST_P(Interop, WhatIsWrittenIsRead) {
  const Way& way = GetParam();
  TargetRunner::Options options;
  options.target.nqn = kNqn;
  options.target.listen = {SocketAddress::parse("127.0.0.1:0").value()};
  options.target.in_capsule_data_size = way.in_capsule;
  options.target.max_h2c_data = way.maxh2c;
  options.target.max_c2h_data = way.maxc2h;
  options.target.max_r2t_bytes = way.r2t_bytes;
  options.target.max_r2ts = way.r2ts;
  options.target.c2h_success = way.success;
  options.namespaces = {"mem:?size=32MiB"};
  auto runner = TargetRunner::create(std::move(options)).value();
  runner->start().value();

  PollerThread home;
  PollerThread other;
  ControllerConfig config;
  const auto port = runner->target().addresses().front().port();
  config.address = nvme::TransportAddress::parse(fmt::format("nvme+tcp://127.0.0.1:{}/{}", port, kNqn)).value();
  config.hostnqn = "nqn.2024-01.io.example:host";
  config.hostid = Uuid::from_name("host");
  config.header_digest = config.data_digest = way.digests;
  auto connected =
      home.run([&](NvmePoller& poller) { return NvmeController::connect(poller, home.pool(), Net::system(), config); });
  ASSERT_TRUE(connected.ok()) << connected.error().to_string();
  auto controller = std::move(connected).value();
  ASSERT_EQ(controller->namespaces().size(), 1U);
  EXPECT_FALSE(controller->namespaces()[0].uuid_is_derived);

  std::optional<Result<Tally>> elsewhere;
  std::thread driver([&] {
    elsewhere.emplace(other.run([&](NvmePoller& poller) { return work(*controller, poller, other.pool(), 16 << 20); }));
  });
  const Result<Tally> here = home.run([&](NvmePoller& poller) { return work(*controller, poller, home.pool(), 0); });
  driver.join();
  for (const Result<Tally>* tally : std::initializer_list<const Result<Tally>*>{&here, &*elsewhere}) {
    ASSERT_TRUE(tally->ok()) << tally->error().to_string();
    EXPECT_EQ((*tally)->errors, 0U);
    EXPECT_EQ((*tally)->wrong, 0U);
    EXPECT_EQ((*tally)->commands, 4U * 5 * 3 * 2);
  }
  const Result<> ended = home.run([&](NvmePoller&) { return controller->shutdown(seconds(5)); });
  EXPECT_TRUE(ended.ok()) << ended.error().to_string();
  controller.reset();
  EXPECT_TRUE(runner->stop(seconds(5)).ok());
}

INSTANTIATE_TEST_SUITE_P(
    Ways, Interop,
    ::testing::Values(Way{"plain", false, 8192, 1 << 20, 1 << 20, 1 << 20, 1, C2hSuccess::kAlways},
                      Way{"digests", true, 8192, 1 << 20, 1 << 20, 1 << 20, 1, C2hSuccess::kAlways},
                      Way{"responses", false, 0, 1 << 20, 65536, 1 << 20, 1, C2hSuccess::kNever},
                      Way{"small_pieces", true, 0, 4096, 16384, 4096, 4, C2hSuccess::kWithoutFlowControl}),
    [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace leap::test
