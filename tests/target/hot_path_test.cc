// The price of a command: heap allocations and calls on the stream.
#include <functional>

#include <gtest/gtest.h>

#include "base/alloc_counter.h"
#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::Nsid;

class HotPathTest : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  HotPathTest() {
    memory = MemBdev::create({.size = Rig::kSize, .block_size = 512, .name = "m"}).value();
    TargetConfig config;
    config.namespaces = {Rig::namespace_on(*memory), Rig::namespace_on(device)};
    rig = std::make_unique<Rig>(config);
    hosts = rig->io_host({}, 64);
    cable = rig->cables.back().get();
  }
  /// What a burst of 32 commands of 4 KiB allocates in the target; each is answered.
  std::uint64_t allocations_of(const std::function<Bytes(std::uint16_t)>& capsule) {
    std::uint64_t allocated = 0;
    for (int round = 0; round < 3; ++round) {  // the first rounds warm the pools up
      Bytes burst;
      for (std::uint16_t cid = 1; cid <= 32; ++cid) {
        const Bytes pdu = capsule(cid);
        burst.insert(burst.end(), pdu.begin(), pdu.end());
      }
      cable->from_target.clear();
      cable->from_target.reserve(1 << 20);
      hosts.io->send_bytes(burst);
      const std::uint64_t before = thread_allocations();
      rig->settle();
      allocated = thread_allocations() - before;
      EXPECT_GE(cable->from_target.size(), 32U * 24);
    }
    return allocated;
  }

  TestDevice device{{.size = Rig::kSize, .block_size = 512}};
  std::unique_ptr<MemBdev> memory;
  std::unique_ptr<Rig> rig;
  Rig::Hosts hosts;
  Cable* cable = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Backends, HotPathTest, ::testing::Values(1U, 2U),
                         [](const auto& instance) { return instance.param == 1 ? "Memory" : "Channel"; });

TEST_P(HotPathTest, ReadsAndWritesAllocateNothing) {
  if (!alloc_counting_available()) GTEST_SKIP() << "allocations are not counted in sanitizer builds";
  const Bytes data = pattern(4096, 1);
  EXPECT_EQ(allocations_of([&](std::uint16_t cid) {
              auto cmd = nvme::make_read(Nsid{GetParam()}, cid * 8U, 8);
              cmd.cid = nvme::Cid{cid};
              cmd.set_sgl(nvme::SglDescriptor::transport(4096));
              return hosts.io->build(nvme::make_capsule_cmd(cmd, 0, {}));
            }),
            0U);
  EXPECT_EQ(allocations_of([&](std::uint16_t cid) {
              auto cmd = nvme::make_write(Nsid{GetParam()}, cid * 8U, 8);
              cmd.cid = nvme::Cid{cid};
              cmd.set_sgl(nvme::SglDescriptor::in_capsule(4096));
              return hosts.io->build(nvme::make_capsule_cmd(cmd, 4096, {}), data);
            }),
            0U);
}

TEST_P(HotPathTest, ABurstIsOneReadAndOneWrite) {
  Bytes burst;
  for (std::uint16_t cid = 1; cid <= 32; ++cid) {
    auto cmd = nvme::make_read(Nsid{1}, cid * 8U, 8);
    cmd.cid = nvme::Cid{cid};
    cmd.set_sgl(nvme::SglDescriptor::transport(4096));
    const Bytes pdu = hosts.io->build(nvme::make_capsule_cmd(cmd, 0, {}));
    burst.insert(burst.end(), pdu.begin(), pdu.end());
  }
  const auto calls = cable->reads + cable->writes;
  hosts.io->send_bytes(burst);
  rig->settle();
  EXPECT_EQ(cable->reads + cable->writes, calls + 2) << "32 commands";
}

}  // namespace
}  // namespace leap::target::testing
