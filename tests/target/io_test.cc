// NVM commands over memory and over channels: what they do, and the status of every bad one.
#include <cstring>

#include <gtest/gtest.h>

#include "nvme/nvm_command.h"
#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::GenericStatus;
using nvme::MediaStatus;
using nvme::Nsid;
using nvme::NvmOpcode;

constexpr std::uint64_t kBlocks = Rig::kSize / 512;

/// Every test runs over memory (namespace 1) and over a device with channels (namespace 2).
class IoTest : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  IoTest() {
    TargetConfig config;
    memory = MemBdev::create({.size = Rig::kSize, .block_size = 512, .name = "memory"}).value();
    config.namespaces = {Rig::namespace_on(*memory, 1), Rig::namespace_on(device, 2)};
    rig = std::make_unique<Rig>(config);
    hosts = rig->io_host();
    io = hosts.io.get();
  }
  [[nodiscard]] std::span<std::byte> contents() { return nsid() == 1 ? memory->mapped() : device.contents(); }
  [[nodiscard]] std::uint32_t nsid() const { return GetParam(); }

  TestDevice device{{.size = Rig::kSize, .block_size = 512, .volatile_cache = true, .name = "device"}};
  std::unique_ptr<MemBdev> memory;
  std::unique_ptr<Rig> rig;
  Rig::Hosts hosts;
  TestHost* io = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Backends, IoTest, ::testing::Values(1U, 2U),
                         [](const auto& instance) { return instance.param == 1 ? "Memory" : "Channel"; });

TEST_P(IoTest, WritesAndReadsTheBlocksThatWereNamed) {
  for (const Via via : {Via::kCapsule, Via::kR2T}) {
    for (const std::size_t blocks : {1U, 7U, 16U}) {
      const Bytes data =
          pattern(blocks * 512, static_cast<std::uint32_t>(blocks) + static_cast<std::uint32_t>(via) * 100);
      const std::uint64_t lba = 100 + blocks;
      ASSERT_TRUE(io->write(nsid(), lba, data, via).ok());
      EXPECT_TRUE(same(contents().subspan(lba * 512, data.size()), data));
      EXPECT_EQ(contents()[lba * 512 - 1], std::byte{0}) << "the block before";
      const Reply reply = io->read(nsid(), lba, static_cast<std::uint32_t>(blocks));
      ASSERT_TRUE(reply.ok());
      EXPECT_TRUE(same(reply.data, data));
      ASSERT_TRUE(io->execute(nvme::make_write_zeroes(Nsid{nsid()}, lba, static_cast<std::uint32_t>(blocks))).ok());
    }
  }
}

TEST_P(IoTest, TransfersUpToMdts) {
  const Bytes data = pattern(1 << 20, 5);
  ASSERT_TRUE(io->write(nsid(), 0, data, Via::kR2T).ok());
  const Reply reply = io->read(nsid(), 0, 2048);
  ASSERT_TRUE(reply.ok());
  EXPECT_TRUE(same(reply.data, data));
}

TEST_P(IoTest, TheFirstAndTheLastBlockAreInsideAndNothingElseIs) {
  const Bytes block = pattern(512, 1);
  EXPECT_TRUE(io->write(nsid(), kBlocks - 1, block).ok());
  EXPECT_TRUE(io->read(nsid(), kBlocks - 1, 1).ok());
  struct Case {
    std::uint64_t lba;
    std::uint32_t blocks;
  };
  for (const Case& c : {Case{kBlocks, 1}, Case{kBlocks - 1, 2}, Case{~std::uint64_t{0}, 1},
                        Case{~std::uint64_t{0} - 1, 2}, Case{std::uint64_t{1} << 63, 16}, Case{kBlocks + 1, 1}}) {
    const Reply read = io->read(nsid(), c.lba, c.blocks);
    EXPECT_STATUS(read, GenericStatus::kLbaOutOfRange) << c.lba;
    EXPECT_TRUE(read.status().dnr);
    EXPECT_STATUS(io->write(nsid(), c.lba, Bytes(c.blocks * 512)), GenericStatus::kLbaOutOfRange) << c.lba;
    EXPECT_STATUS(io->write(nsid(), c.lba, Bytes(c.blocks * 512), Via::kR2T), GenericStatus::kLbaOutOfRange) << c.lba;
    EXPECT_STATUS(io->execute(nvme::make_compare(Nsid{nsid()}, c.lba, c.blocks), Bytes(c.blocks * 512)),
                  GenericStatus::kLbaOutOfRange);
    EXPECT_STATUS(io->execute(nvme::make_write_zeroes(Nsid{nsid()}, c.lba, c.blocks)), GenericStatus::kLbaOutOfRange);
    EXPECT_STATUS(io->execute(nvme::make_verify(Nsid{nsid()}, c.lba, c.blocks)), GenericStatus::kLbaOutOfRange);
  }
  EXPECT_STATUS(io->execute(nvme::make_write_zeroes(Nsid{nsid()}, 0, 65536)), GenericStatus::kLbaOutOfRange);
}

TEST_P(IoTest, SizesThatDoNotFitTheCommand) {
  const auto read = nvme::make_read(Nsid{nsid()}, 0, 2);
  EXPECT_STATUS(io->execute(read, {}, Via::kR2T, 512), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(io->execute(read, {}, Via::kR2T, 1536), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(io->execute(read, {}, Via::kR2T, 0), GenericStatus::kDataSglLengthInvalid);
  const auto write = nvme::make_write(Nsid{nsid()}, 0, 2);
  EXPECT_STATUS(io->execute(write, Bytes(512)), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(io->execute(write, Bytes(1028), Via::kR2T), GenericStatus::kDataSglLengthInvalid);
  // More than MDTS, whatever the SGL says.
  EXPECT_STATUS(io->execute(nvme::make_read(Nsid{nsid()}, 0, 2049), {}, Via::kR2T, 2049 * 512),
                GenericStatus::kLbaOutOfRange);
  EXPECT_EQ(io->r2ts.size(), 0U) << "no data is asked for in vain";
}

TEST_P(IoTest, DataPointersAreChecked) {
  const auto with = [&](nvme::Command cmd, nvme::SglDescriptor sgl, std::span<const std::byte> capsule = {}) {
    cmd.cid = nvme::Cid{3000};
    cmd.set_sgl(sgl);
    io->submit_raw(cmd, capsule);
    const auto pdu = io->next();
    EXPECT_TRUE(pdu.has_value());
    Reply reply;
    if (pdu) reply.cqe = pdu->as<nvme::CapsuleRespPdu>().cqe;
    return reply;
  };
  const auto write = nvme::make_write(Nsid{nsid()}, 0, 1);
  EXPECT_STATUS(with(nvme::make_read(Nsid{nsid()}, 0, 1), nvme::SglDescriptor::in_capsule(512)),
                GenericStatus::kSglDescriptorTypeInvalid);
  EXPECT_STATUS(with(write, nvme::SglDescriptor::data_block(0x1000, 512)), GenericStatus::kSglDescriptorTypeInvalid);
  EXPECT_STATUS(with(write, nvme::SglDescriptor::in_capsule(512)), GenericStatus::kDataSglLengthInvalid)
      << "an empty capsule";
  EXPECT_STATUS(with(write, nvme::SglDescriptor::in_capsule(512), Bytes(508)), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(with(write, nvme::SglDescriptor::in_capsule(512, 4), Bytes(512)), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(with(write, nvme::SglDescriptor::in_capsule(512, ~std::uint64_t{0}), Bytes(512)),
                GenericStatus::kSglOffsetInvalid);
  // An offset that stays inside is fine.
  Bytes capsule = pattern(1024, 9);
  EXPECT_TRUE(with(write, nvme::SglDescriptor::in_capsule(512, 512), capsule).cqe.ok());
  EXPECT_TRUE(same(contents().first(512), std::span(capsule).subspan(512)));
}

TEST_P(IoTest, NamespacesThatAreNotThere) {
  for (const std::uint32_t id : {0U, 3U, 1024U, 0xFFFFFFFEU, 0xFFFFFFFFU}) {
    EXPECT_STATUS(io->read(id, 0, 1), GenericStatus::kInvalidNamespaceOrFormat);
    EXPECT_STATUS(io->write(id, 0, Bytes(512)), GenericStatus::kInvalidNamespaceOrFormat);
    EXPECT_STATUS(io->execute(nvme::make_write_zeroes(Nsid{id}, 0, 1)), GenericStatus::kInvalidNamespaceOrFormat);
    EXPECT_STATUS(io->execute(nvme::make_verify(Nsid{id}, 0, 1)), GenericStatus::kInvalidNamespaceOrFormat);
    EXPECT_STATUS(io->execute(nvme::make_dsm(Nsid{id}, 1), Bytes(16)), GenericStatus::kInvalidNamespaceOrFormat);
    if (id != 0xFFFFFFFF) {
      EXPECT_STATUS(io->execute(nvme::make_flush(Nsid{id})), GenericStatus::kInvalidNamespaceOrFormat);
    }
  }
}

TEST_P(IoTest, ThereIsNoProtectionInformation) {
  const auto read = nvme::make_read(Nsid{nsid()}, 0, 1, {.prinfo = 8});
  EXPECT_STATUS(io->execute(read, {}, Via::kR2T, 512), nvme::CommandStatus::kInvalidProtectionInformation);
}

TEST_P(IoTest, OpcodesThatDoNotExist) {
  for (int opcode = 0; opcode < 256; ++opcode) {
    if (opcode <= 2 || opcode == 5 || opcode == 8 || opcode == 9 || opcode == 0x0C || opcode == 0x7F) continue;
    nvme::Command cmd;
    cmd.opcode = static_cast<std::uint8_t>(opcode);
    cmd.nsid = Nsid{nsid()};
    EXPECT_STATUS(io->execute(cmd), GenericStatus::kInvalidOpcode) << opcode;
  }
}

TEST_P(IoTest, WriteZeroesClearsExactlyTheRange) {
  ASSERT_TRUE(io->write(nsid(), 0, pattern(8192, 3)).ok());
  ASSERT_TRUE(io->execute(nvme::make_write_zeroes(Nsid{nsid()}, 4, 3)).ok());
  const Bytes before = pattern(8192, 3);
  EXPECT_TRUE(same(contents().first(4 * 512), std::span(before).first(4 * 512)));
  EXPECT_TRUE(same(contents().subspan(4 * 512, 3 * 512), Bytes(3 * 512)));
  EXPECT_TRUE(same(contents().subspan(7 * 512, 512), std::span(before).subspan(7 * 512, 512)));
  ASSERT_TRUE(io->write(nsid(), 0, pattern(8192, 3)).ok());
  EXPECT_TRUE(io->execute(nvme::make_write_zeroes(Nsid{nsid()}, 0, kBlocks)).ok()) << "the whole namespace";
  EXPECT_TRUE(same(contents(), Bytes(Rig::kSize)));
}

TEST_P(IoTest, CompareTellsWhetherTheBlocksAreEqual) {
  const Bytes data = pattern(300 * 512, 4);
  ASSERT_TRUE(io->write(nsid(), 10, data, Via::kR2T).ok());
  EXPECT_TRUE(io->execute(nvme::make_compare(Nsid{nsid()}, 10, 300), data, Via::kR2T).ok());
  EXPECT_TRUE(io->execute(nvme::make_compare(Nsid{nsid()}, 10, 1), std::span(data).first(512)).ok());
  Bytes different = data;
  different.back() ^= std::byte{1};
  EXPECT_STATUS(io->execute(nvme::make_compare(Nsid{nsid()}, 10, 300), different, Via::kR2T),
                MediaStatus::kCompareFailure);
  EXPECT_TRUE(same(contents().subspan(10 * 512, data.size()), data)) << "Compare writes nothing";
}

TEST_P(IoTest, VerifyReadsWithoutMovingData) {
  EXPECT_TRUE(io->execute(nvme::make_verify(Nsid{nsid()}, 0, kBlocks)).ok());
}

TEST_P(IoTest, DatasetManagementDeallocatesTheRangesItIsGiven) {
  ASSERT_TRUE(io->write(nsid(), 0, pattern(8192, 6)).ok());
  // Linux sends a page for 256 ranges, however few there are.
  Bytes page(4096);
  const nvme::DsmRange ranges[] = {{.blocks = 2, .slba = 1}, {.blocks = 0, .slba = 5}, {.blocks = 1, .slba = 8}};
  std::memcpy(page.data(), ranges, sizeof ranges);
  ASSERT_TRUE(io->execute(nvme::make_dsm(Nsid{nsid()}, 3), page).ok());
  const Bytes before = pattern(8192, 6);
  const auto unchanged = [&](std::size_t block) {
    return same(contents().subspan(block * 512, 512), std::span(before).subspan(block * 512, 512));
  };
  EXPECT_TRUE(unchanged(0));
  EXPECT_FALSE(unchanged(1));
  EXPECT_FALSE(unchanged(2));
  EXPECT_TRUE(unchanged(3));
  EXPECT_TRUE(unchanged(5));
  EXPECT_FALSE(unchanged(8));
  EXPECT_TRUE(io->execute(nvme::make_dsm(Nsid{nsid()}, 3, false), page).ok()) << "hints alone";
  EXPECT_STATUS(io->execute(nvme::make_dsm(Nsid{nsid()}, 3), std::span(page).first(32)),
                GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(io->execute(nvme::make_dsm(Nsid{nsid()}, 1), Bytes(8192)), GenericStatus::kDataSglLengthInvalid);
}

TEST_P(IoTest, DatasetManagementChecksEveryRangeBeforeItTouchesOne) {
  ASSERT_TRUE(io->write(nsid(), 0, pattern(512, 6)).ok());
  const nvme::DsmRange ranges[] = {{.blocks = 1, .slba = 0}, {.blocks = 0xFFFFFFFF, .slba = 1}};
  Bytes page(sizeof ranges);
  std::memcpy(page.data(), ranges, sizeof ranges);
  EXPECT_STATUS(io->execute(nvme::make_dsm(Nsid{nsid()}, 2), page), GenericStatus::kLbaOutOfRange);
  EXPECT_TRUE(same(contents().first(512), pattern(512, 6)));
}

/// A device with a volatile cache: what is durable when.
class DurabilityTest : public IoTest {};
INSTANTIATE_TEST_SUITE_P(Channel, DurabilityTest, ::testing::Values(2U));

TEST_P(DurabilityTest, FlushMakesEarlierWritesDurable) {
  const Bytes data = pattern(512, 1);
  ASSERT_TRUE(io->write(2, 0, data).ok());
  EXPECT_FALSE(same(device.durable().first(512), data));
  ASSERT_TRUE(io->execute(nvme::make_flush(Nsid{2})).ok());
  EXPECT_TRUE(same(device.durable().first(512), data));
  EXPECT_EQ(device.flushes, 1U);
  ASSERT_TRUE(io->execute(nvme::make_flush(nvme::kAllNamespaces)).ok());
  EXPECT_EQ(device.flushes, 2U);
  ASSERT_TRUE(io->execute(nvme::make_flush(Nsid{1})).ok());
  EXPECT_EQ(device.flushes, 2U) << "memory has nothing to flush";
}

TEST_P(DurabilityTest, ForceUnitAccessIsDurableWhenItCompletes) {
  const Bytes data = pattern(512, 2);
  for (const Via via : {Via::kCapsule, Via::kR2T}) {
    const std::uint64_t lba = via == Via::kCapsule ? 3 : 4;
    ASSERT_TRUE(io->write(2, lba, data, via, 512, true).ok());
    EXPECT_TRUE(same(device.durable().subspan(lba * 512, 512), data));
  }
  EXPECT_EQ(device.flushes, 2U);
  ASSERT_TRUE(io->execute(nvme::make_write_zeroes(Nsid{2}, 3, 1, {.fua = true})).ok());
  EXPECT_EQ(device.flushes, 3U);
}

TEST_P(DurabilityTest, EveryWriteIsDurableWhileTheCacheIsSwitchedOff) {
  ASSERT_TRUE(hosts.admin->execute(nvme::make_set_features(nvme::FeatureId::kVolatileWriteCache, 0)).ok());
  const Bytes data = pattern(512, 3);
  ASSERT_TRUE(io->write(2, 5, data).ok());
  EXPECT_TRUE(same(device.durable().subspan(5 * 512, 512), data));
  ASSERT_TRUE(hosts.admin->execute(nvme::make_set_features(nvme::FeatureId::kVolatileWriteCache, 1)).ok());
  ASSERT_TRUE(io->write(2, 6, data).ok());
  EXPECT_FALSE(same(device.durable().subspan(6 * 512, 512), data));
}

TEST_P(DurabilityTest, ShutdownFlushesBeforeItReportsCompletion) {
  ASSERT_TRUE(io->write(2, 0, pattern(512, 4)).ok());
  device.hold();
  auto cc = nvme::Cc::enabled();
  cc.set_shn(nvme::ShutdownNotification::kNormal);
  ASSERT_TRUE(hosts.admin->property_set(nvme::PropertyOffset::kCc, cc.raw).ok());
  const auto shst = [&] { return nvme::Csts{hosts.admin->property_get(nvme::PropertyOffset::kCsts).cqe.dw0}.shst(); };
  EXPECT_EQ(shst(), nvme::ShutdownStatus::kOccurring);
  EXPECT_STATUS(io->read(2, 0, 1), GenericStatus::kCommandSequenceError) << "no I/O after shutdown has begun";
  device.let_go();
  rig->settle();
  EXPECT_EQ(shst(), nvme::ShutdownStatus::kComplete);
  EXPECT_TRUE(same(device.durable().first(512), pattern(512, 4)));
}

TEST_P(DurabilityTest, DeviceErrorsReachTheHostAsTheirStatus) {
  device.fail_with = Error(Errc::kIo, "broken");
  EXPECT_STATUS(io->read(2, 0, 1), MediaStatus::kUnrecoveredReadError);
  EXPECT_STATUS(io->write(2, 0, Bytes(512)), MediaStatus::kWriteFault);
  EXPECT_STATUS(io->execute(nvme::make_flush(Nsid{2})), MediaStatus::kWriteFault);
  EXPECT_STATUS(io->execute(nvme::make_flush(nvme::kAllNamespaces)), MediaStatus::kWriteFault);
  EXPECT_STATUS(io->execute(nvme::make_verify(Nsid{2}, 0, 1)), MediaStatus::kUnrecoveredReadError);
  EXPECT_STATUS(io->execute(nvme::make_compare(Nsid{2}, 0, 1), Bytes(512)), MediaStatus::kUnrecoveredReadError);
  EXPECT_STATUS(io->execute(nvme::make_write_zeroes(Nsid{2}, 0, 1)), MediaStatus::kWriteFault);
  device.fail_with = Error(Errc::kIo, "media").with_nvme({.sct = 2, .sc = 0x86, .dnr = true});
  EXPECT_STATUS(io->read(2, 0, 1), MediaStatus::kAccessDenied);
  device.fail_with.reset();
  EXPECT_TRUE(io->read(2, 0, 1).ok()) << "the connection is none the worse";
  EXPECT_EQ(rig->pool().probe().bytes_in_use, 128U * 1024) << "the scratch buffer alone";
}

TEST_P(DurabilityTest, ADeviceThatCannotBeOpenedIsNotReadyUntilItCan) {
  TestDevice away({.size = Rig::kSize, .name = "away"});
  away.refuse_channels = true;
  TargetConfig config;
  config.namespaces = {Rig::namespace_on(away)};
  Rig other(config);
  auto second = other.io_host();
  for (const Via via : {Via::kCapsule, Via::kR2T}) {
    EXPECT_STATUS(second.io->write(1, 0, Bytes(512), via), GenericStatus::kNamespaceNotReady);
  }
  const Reply reply = second.io->read(1, 0, 1);
  EXPECT_STATUS(reply, GenericStatus::kNamespaceNotReady);
  EXPECT_FALSE(reply.status().dnr);
  EXPECT_STATUS(second.io->execute(nvme::make_verify(Nsid{1}, 0, 1)), GenericStatus::kNamespaceNotReady);
  away.refuse_channels = false;
  auto third = other.ready();
  ASSERT_TRUE(third->connect(2, second.admin->cntlid).ok());
  EXPECT_TRUE(third->read(1, 0, 1).ok());
  EXPECT_TRUE(second.io->read(1, 0, 1).ok());
}

TEST(IoSizes, ABlockCountOverMdtsIsAnInvalidField) {
  TargetConfig config;
  config.max_io_size = 4096;
  Rig rig(config);
  auto hosts = rig.io_host();
  EXPECT_TRUE(hosts.io->read(1, 0, 8).ok());
  EXPECT_STATUS(hosts.io->read(1, 0, 9), GenericStatus::kInvalidField);
  EXPECT_STATUS(hosts.io->write(1, 0, Bytes(9 * 512), Via::kR2T), GenericStatus::kInvalidField);
  EXPECT_TRUE(hosts.io->execute(nvme::make_write_zeroes(Nsid{1}, 0, 100)).ok()) << "MDTS limits transfers only";
}

TEST(IoSizes, InCapsuleDataIsLimitedOnIoQueuesButNotForFabricsCommands) {
  TargetConfig config;
  config.in_capsule_data_size = 0;
  Rig rig(config);
  auto hosts = rig.io_host();  // Connect carries 1024 bytes in its capsule
  EXPECT_STATUS(hosts.io->write(1, 0, Bytes(512)), GenericStatus::kDataSglLengthInvalid);
  EXPECT_TRUE(hosts.io->write(1, 0, Bytes(512), Via::kR2T).ok());
}

TEST(IoSizes, LargeInCapsuleDataWorks) {
  TargetConfig config;
  config.in_capsule_data_size = 65536;
  Rig rig(config);
  auto hosts = rig.io_host();
  const Bytes data = pattern(65536, 8);
  for (int i = 0; i < 4; ++i)
    hosts.io->submit(nvme::make_write(Nsid{1}, static_cast<std::uint64_t>(i) * 128, 128), data);
  for (std::uint16_t cid = 2; cid <= 5; ++cid) EXPECT_TRUE(hosts.io->wait(nvme::Cid{cid}).ok());
  EXPECT_TRUE(same(hosts.io->read(1, 384, 128).data, data));
}

TEST(IoState, IoStopsWhenTheControllerIsDisabled) {
  Rig rig;
  auto hosts = rig.io_host();
  ASSERT_TRUE(hosts.io->read(1, 0, 1).ok());
  ASSERT_TRUE(hosts.admin->property_set(nvme::PropertyOffset::kCc, 0).ok());
  EXPECT_TRUE(hosts.io->closed()) << "a reset deletes the I/O queues";
  EXPECT_FALSE(hosts.admin->closed());
}

}  // namespace
}  // namespace leap::target::testing
