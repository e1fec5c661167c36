// Identify, log pages and features.
#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "nvme/identify.h"
#include "nvme/identify_namespace.h"
#include "nvme/log_page.h"
#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::Cns;
using nvme::CommandStatus;
using nvme::FeatureId;
using nvme::FeatureSelect;
using nvme::GenericStatus;
using nvme::LogPage;

template <typename T>
T load(const Bytes& data) {
  return nvme::wire::load<T>(data).value();
}

Reply identify(TestHost& host, const nvme::IdentifyFields& fields) {
  return host.execute(nvme::make_identify(fields), {}, Via::kR2T, 4096);
}
Reply get_log(TestHost& host, const nvme::GetLogPageFields& fields) {
  return host.execute(nvme::make_get_log_page(fields), {}, Via::kR2T, static_cast<std::uint32_t>(fields.bytes));
}
Reply set_feature(TestHost& host, FeatureId id, std::uint32_t value) {
  return host.execute(nvme::make_set_features(id, value));
}
Reply get_feature(TestHost& host, FeatureId id, FeatureSelect select = FeatureSelect::kCurrent) {
  return host.execute(nvme::make_get_features(id, select));
}

/// Three namespaces: 1 in memory with 512-byte blocks, 2 with a volatile cache and 4096-byte blocks, 5 in memory.
class AdminTest : public ::testing::Test {
 protected:
  AdminTest() {
    small = MemBdev::create({.size = 1 << 20, .block_size = 512, .name = "small"}).value();
    last = MemBdev::create({.size = 1 << 16, .block_size = 512, .name = "last"}).value();
    TargetConfig config;
    config.firmware = "1.2.3";
    config.namespaces = {Rig::namespace_on(*last, 5), Rig::namespace_on(cached, 2), Rig::namespace_on(*small, 1)};
    rig = std::make_unique<Rig>(config);
    host = rig->admin();
  }

  std::unique_ptr<MemBdev> small;
  std::unique_ptr<MemBdev> last;
  TestDevice cached{{.size = 8 << 20, .block_size = 4096, .volatile_cache = true, .name = "cached"}};
  std::unique_ptr<Rig> rig;
  std::unique_ptr<TestHost> host;
};

TEST_F(AdminTest, IdentifyControllerSaysWhatTheTargetCanDo) {
  const Reply reply = identify(*host, {.cns = Cns::kController});
  ASSERT_TRUE(reply.ok());
  const auto id = load<nvme::IdentifyController>(reply.data);
  EXPECT_EQ(id.model(), "Leap NVMe/TCP target");
  EXPECT_EQ(id.firmware(), "1.2.3");
  EXPECT_EQ(id.serial().substr(0, 4), "LEAP");
  EXPECT_EQ(id.serial().size(), 20U);
  EXPECT_EQ(id.cntlid.value(), host->cntlid);
  EXPECT_EQ(id.ver.raw, 0x00010400U);
  EXPECT_EQ(id.max_transfer_bytes(4096), 1U << 20);
  EXPECT_EQ(id.cntrltype, nvme::ControllerType::kIo);
  EXPECT_EQ(id.sqes, 0x66);
  EXPECT_EQ(id.cqes, 0x44);
  EXPECT_EQ(id.maxcmd, 128);
  EXPECT_EQ(id.nn, 1024U);
  EXPECT_EQ(id.mnan, 1024U);
  EXPECT_EQ(id.oncs, nvme::kOncsCompare | nvme::kOncsDatasetManagement | nvme::kOncsWriteZeroes |
                         nvme::kOncsSaveSelect | nvme::kOncsVerify);
  EXPECT_TRUE(id.volatile_write_cache());
  EXPECT_EQ(id.vwc & 6, 6) << "Flush may name all namespaces";
  EXPECT_NE(id.sgls & 3, 0U);
  EXPECT_NE(id.sgls & nvme::kSglsOffset, 0U);
  EXPECT_NE(id.sgls & nvme::kSglsTransportDataBlock, 0U);
  EXPECT_EQ(id.in_capsule_data_bytes(), 8192U);
  EXPECT_EQ(id.iorcsz, 1U);
  EXPECT_EQ(id.icdoff, 0);
  EXPECT_EQ(id.msdbd, 1);
  EXPECT_EQ(id.ofcs, nvme::kOfcsDisconnect);
  EXPECT_GT(id.kas, 0);
  EXPECT_EQ(id.subsystem_nqn(), "nqn.2024-01.io.leap:test");
  EXPECT_EQ(id.oaes, nvme::kOaesNamespaceAttribute);
  EXPECT_NE(id.ctratt & nvme::kCtrattTrafficBasedKeepAlive, 0U);
}

TEST_F(AdminTest, IdentityIsTheSameAfterARestart) {
  const Bytes before = identify(*host, {.cns = Cns::kNamespaceDescriptors, .nsid = nvme::Nsid{1}}).data;
  const auto serial = load<nvme::IdentifyController>(identify(*host, {}).data).sn;
  rig->stop();
  TargetConfig config;
  config.namespaces = {Rig::namespace_on(*small)};
  Rig again(config);
  auto later = again.admin();
  EXPECT_EQ(identify(*later, {.cns = Cns::kNamespaceDescriptors, .nsid = nvme::Nsid{1}}).data, before);
  EXPECT_EQ(load<nvme::IdentifyController>(identify(*later, {}).data).sn, serial);
}

TEST_F(AdminTest, IdentifyNamespaceDescribesTheDevice) {
  const auto ns = load<nvme::IdentifyNamespace>(identify(*host, {.cns = Cns::kNamespace, .nsid = nvme::Nsid{2}}).data);
  EXPECT_EQ(ns.nsze, 2048U);
  EXPECT_EQ(ns.ncap, 2048U);
  EXPECT_EQ(ns.block_bytes(), 4096U);
  EXPECT_EQ(ns.size_bytes(), 8U << 20);
  EXPECT_EQ(ns.nlbaf, 0);
  EXPECT_EQ(ns.nmic, nvme::kNmicShared);
  EXPECT_EQ(ns.nows, 15) << "optimal_io is 64 KiB";
  const auto small_ns =
      load<nvme::IdentifyNamespace>(identify(*host, {.cns = Cns::kNamespace, .nsid = nvme::Nsid{1}}).data);
  EXPECT_EQ(small_ns.block_bytes(), 512U);
  EXPECT_EQ(small_ns.npwg, 7) << "whole 4 KiB pages";
  EXPECT_NE(small_ns.nguid, ns.nguid);
}

TEST_F(AdminTest, NamespaceIdsThatAreNotActive) {
  const Reply hole = identify(*host, {.cns = Cns::kNamespace, .nsid = nvme::Nsid{3}});
  ASSERT_TRUE(hole.ok()) << "an inactive namespace reads as zeros";
  EXPECT_EQ(hole.data, Bytes(4096));
  for (const std::uint32_t nsid : {0U, 1025U, 0xFFFFFFFEU, 0xFFFFFFFFU}) {
    EXPECT_STATUS(identify(*host, {.cns = Cns::kNamespace, .nsid = nvme::Nsid{nsid}}),
                  GenericStatus::kInvalidNamespaceOrFormat);
    EXPECT_STATUS(identify(*host, {.cns = Cns::kNamespaceDescriptors, .nsid = nvme::Nsid{nsid}}),
                  GenericStatus::kInvalidNamespaceOrFormat);
  }
  EXPECT_STATUS(identify(*host, {.cns = Cns::kNamespaceDescriptors, .nsid = nvme::Nsid{3}}),
                GenericStatus::kInvalidNamespaceOrFormat);
}

TEST_F(AdminTest, DescriptorsCarryUuidNguidAndCommandSet) {
  const Bytes page = identify(*host, {.cns = Cns::kNamespaceDescriptors, .nsid = nvme::Nsid{1}}).data;
  const auto ns = load<nvme::IdentifyNamespace>(identify(*host, {.cns = Cns::kNamespace, .nsid = nvme::Nsid{1}}).data);
  nvme::DescriptorCursor cursor(page);
  std::set<nvme::DescriptorType> seen;
  while (const auto descriptor = cursor.next()) {
    seen.insert(descriptor->type);
    if (descriptor->type == nvme::DescriptorType::kNguid) {
      EXPECT_TRUE(std::equal(descriptor->id.begin(), descriptor->id.end(), ns.nguid.begin()));
    }
    if (descriptor->type == nvme::DescriptorType::kUuid) {
      EXPECT_FALSE(descriptor->uuid().is_nil());
    }
    if (descriptor->type == nvme::DescriptorType::kCsi) {
      EXPECT_EQ(descriptor->id[0], std::byte{0});
    }
  }
  EXPECT_FALSE(cursor.malformed());
  EXPECT_EQ(seen.size(), 3U);
}

TEST_F(AdminTest, ListsActiveNamespacesAboveAnId) {
  const auto list = [&](std::uint32_t after, Cns cns = Cns::kActiveNamespaceList) {
    std::vector<std::uint32_t> ids;
    for (const auto id :
         load<nvme::NamespaceList>(identify(*host, {.cns = cns, .nsid = nvme::Nsid{after}}).data).entries())
      ids.push_back(id.value());
    return ids;
  };
  EXPECT_EQ(list(0), (std::vector<std::uint32_t>{1, 2, 5}));
  EXPECT_EQ(list(2), (std::vector<std::uint32_t>{5}));
  EXPECT_EQ(list(5), (std::vector<std::uint32_t>{}));
  EXPECT_EQ(list(0, Cns::kIoCommandSetActiveNamespaceList), (std::vector<std::uint32_t>{1, 2, 5}));
  EXPECT_STATUS(identify(*host, {.cns = Cns::kActiveNamespaceList, .nsid = nvme::Nsid{0xFFFFFFFE}}),
                GenericStatus::kInvalidNamespaceOrFormat);
  EXPECT_STATUS(identify(*host, {.cns = Cns::kActiveNamespaceList, .nsid = nvme::Nsid{0xFFFFFFFF}}),
                GenericStatus::kInvalidNamespaceOrFormat);
}

TEST_F(AdminTest, OtherStructuresAndUnknownOnes) {
  EXPECT_TRUE(identify(*host, {.cns = Cns::kIoCommandSetController}).ok());
  EXPECT_TRUE(identify(*host, {.cns = Cns::kIoCommandSetNamespace, .nsid = nvme::Nsid{1}}).ok());
  EXPECT_STATUS(identify(*host, {.cns = Cns::kIoCommandSetNamespace, .nsid = nvme::Nsid{3}}),
                GenericStatus::kInvalidNamespaceOrFormat);
  EXPECT_STATUS(identify(*host, {.cns = Cns::kIoCommandSetController, .csi = nvme::Csi::kZoned}),
                GenericStatus::kInvalidField);
  EXPECT_EQ(load_le64(identify(*host, {.cns = Cns::kIoCommandSets}).data.data()), 1U);
  EXPECT_TRUE(identify(*host, {.cns = Cns::kIndependentNamespace, .nsid = nvme::Nsid{1}}).ok());
  auto second = rig->admin();
  const Bytes list = identify(*host, {.cns = Cns::kControllerList, .cntid = nvme::Cntlid{0}}).data;
  EXPECT_EQ(load_le16(list.data()), 2);
  EXPECT_EQ(load_le16(list.data() + 2), host->cntlid);
  EXPECT_EQ(load_le16(list.data() + 4), second->cntlid);
  for (const int cns : {0x04, 0x10, 0x11, 0x12, 0x14, 0x15, 0x16, 0x17, 0x20, 0x80, 0xFF}) {
    EXPECT_STATUS(identify(*host, {.cns = static_cast<Cns>(cns)}), GenericStatus::kInvalidField) << cns;
  }
}

TEST_F(AdminTest, DataPointersOfAdminCommandsAreChecked) {
  const auto with = [&](nvme::SglDescriptor sgl) {
    auto cmd = nvme::make_identify_controller();
    cmd.cid = nvme::Cid{2000};
    cmd.set_sgl(sgl);
    host->submit_raw(cmd);
    const auto pdu = host->next();
    EXPECT_TRUE(pdu.has_value());
    Reply reply;
    reply.cqe = pdu->as<nvme::CapsuleRespPdu>().cqe;
    return reply;
  };
  EXPECT_STATUS(with(nvme::SglDescriptor::transport(4092)), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(with(nvme::SglDescriptor::transport(8192)), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(with(nvme::SglDescriptor::transport(0)), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(with(nvme::SglDescriptor::in_capsule(4096)), GenericStatus::kSglDescriptorTypeInvalid);
  EXPECT_STATUS(with(nvme::SglDescriptor::data_block(0, 4096)), GenericStatus::kSglDescriptorTypeInvalid);
  for (int type = 0; type < 256; ++type) {
    if (type == 0x01 || type == 0x5A) continue;
    auto sgl = nvme::SglDescriptor::transport(4096);
    sgl.identifier = static_cast<std::uint8_t>(type);
    EXPECT_STATUS(with(sgl), GenericStatus::kSglDescriptorTypeInvalid) << type;
  }
}

TEST_F(AdminTest, FailuresAppearInTheErrorLogNewestFirst) {
  EXPECT_STATUS(identify(*host, {.cns = static_cast<Cns>(0x99)}), GenericStatus::kInvalidField);
  EXPECT_STATUS(identify(*host, {.cns = Cns::kNamespace, .nsid = nvme::Nsid{1077}}),
                GenericStatus::kInvalidNamespaceOrFormat);
  const Reply reply = get_log(*host, {.lid = LogPage::kErrorInformation, .bytes = 64 * 64});
  ASSERT_TRUE(reply.ok());
  const auto newest = *nvme::wire::load<nvme::ErrorLogEntry>(reply.data);
  const auto older = *nvme::wire::load<nvme::ErrorLogEntry>(reply.data, 64);
  EXPECT_EQ(newest.error_count, 2U);
  EXPECT_EQ(newest.nsid.value(), 1077U);
  EXPECT_TRUE(nvme::same_code(newest.status(), nvme::status(GenericStatus::kInvalidNamespaceOrFormat)));
  EXPECT_EQ(older.error_count, 1U);
  EXPECT_EQ(nvme::wire::load<nvme::ErrorLogEntry>(reply.data, 128)->error_count, 0U);
}

TEST_F(AdminTest, LogPagesReadInPartsAndReadAsZerosBehindTheirEnd) {
  const Bytes whole = get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = 512}).data;
  EXPECT_EQ(whole[0], std::byte{1});
  EXPECT_EQ(std::memcmp(whole.data() + 8, "1.2.3   ", 8), 0);
  const Bytes part = get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = 8, .offset = 8}).data;
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 8));
  const Bytes tail = get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = 16, .offset = 508}).data;
  EXPECT_EQ(Bytes(tail.begin() + 4, tail.end()), Bytes(12));
  EXPECT_TRUE(get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = 4, .offset = 512}).ok());
  EXPECT_STATUS(get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = 4, .offset = 516}),
                GenericStatus::kInvalidField);
  EXPECT_STATUS(get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = 4, .offset = 2}), GenericStatus::kInvalidField);
  EXPECT_STATUS(get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = 4, .offset = ~std::uint64_t{3}}),
                GenericStatus::kInvalidField);
  EXPECT_STATUS(get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = 4, .index_offset = true}),
                GenericStatus::kInvalidField);
  EXPECT_STATUS(get_log(*host, {.lid = LogPage::kFirmwareSlot, .bytes = (1U << 20) + 4}), GenericStatus::kInvalidField);
  auto huge = nvme::make_get_log_page({.lid = LogPage::kSmart, .bytes = std::uint64_t{1} << 34});
  EXPECT_STATUS(host->execute(huge, {}, Via::kR2T, 4096), GenericStatus::kInvalidField);
}

TEST_F(AdminTest, KnowsWhichLogPagesItHas) {
  const auto supported =
      load<nvme::SupportedLogPages>(get_log(*host, {.lid = LogPage::kSupportedLogPages, .bytes = 1024}).data);
  for (int lid = 0; lid < 256; ++lid) {
    const auto page = static_cast<LogPage>(lid);
    const Reply reply = get_log(*host, {.lid = page, .bytes = 512});
    if (supported.supports(page)) {
      EXPECT_TRUE(reply.ok()) << lid;
    } else {
      EXPECT_STATUS(reply, CommandStatus::kInvalidLogPage) << lid;
    }
  }
  const auto effects =
      load<nvme::CommandEffectsLog>(get_log(*host, {.lid = LogPage::kCommandsSupportedAndEffects, .bytes = 4096}).data);
  EXPECT_EQ(effects.of(nvme::NvmOpcode::kWrite), nvme::kEffectSupported | nvme::kEffectContentChange);
  EXPECT_EQ(effects.of(nvme::NvmOpcode::kRead), nvme::kEffectSupported);
  EXPECT_EQ(effects.of(nvme::NvmOpcode::kCopy), 0U);
  EXPECT_EQ(effects.of(nvme::AdminOpcode::kFormatNvm), 0U);
}

TEST_F(AdminTest, SmartLogCountsTheTraffic) {
  auto io = rig->ready();
  ASSERT_TRUE(io->connect(1, host->cntlid).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(io->write(1, 0, pattern(4096, 1)).ok());
  ASSERT_TRUE(io->read(1, 0, 8).ok());
  const auto smart = load<nvme::SmartLog>(get_log(*host, {.lid = LogPage::kSmart, .bytes = 512}).data);
  EXPECT_EQ(smart.host_writes.low, 3U);
  EXPECT_EQ(smart.host_reads.low, 1U);
  EXPECT_EQ(smart.data_units_written.low, 1U);
  EXPECT_EQ(smart.available_spare, 100);
  EXPECT_STATUS(get_log(*host, {.lid = LogPage::kSmart, .nsid = nvme::Nsid{1}, .bytes = 512}),
                GenericStatus::kInvalidField);
}

TEST_F(AdminTest, NegotiatesTheNumberOfQueuesBeforeThereAreAny) {
  Reply reply = set_feature(*host, FeatureId::kNumberOfQueues, nvme::NumberOfQueues{.sq = 4, .cq = 2}.to_dword());
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(nvme::NumberOfQueues::from_dword(reply.cqe.dw0), (nvme::NumberOfQueues{.sq = 2, .cq = 2}));
  EXPECT_EQ(get_feature(*host, FeatureId::kNumberOfQueues).cqe.dw0, reply.cqe.dw0);
  auto io = rig->ready();
  EXPECT_STATUS(io->connect(3, host->cntlid), nvme::FabricsStatus::kConnectInvalidParameters);
  ASSERT_TRUE(io->connect(2, host->cntlid).ok());
  EXPECT_STATUS(set_feature(*host, FeatureId::kNumberOfQueues, 0), GenericStatus::kCommandSequenceError);
  auto other = rig->admin();
  reply = set_feature(*other, FeatureId::kNumberOfQueues, nvme::NumberOfQueues{.sq = 60000, .cq = 60000}.to_dword());
  EXPECT_EQ(nvme::NumberOfQueues::from_dword(reply.cqe.dw0).sq, 64U);
  EXPECT_STATUS(set_feature(*other, FeatureId::kNumberOfQueues, 0xFFFF), GenericStatus::kInvalidField);
  EXPECT_STATUS(set_feature(*other, FeatureId::kNumberOfQueues, 0xFFFF0000), GenericStatus::kInvalidField);
}

TEST_F(AdminTest, FeaturesRememberWhatIsSetAndKnowTheirDefaults) {
  ASSERT_TRUE(set_feature(*host, FeatureId::kKeepAliveTimer, 12345).ok());
  EXPECT_EQ(get_feature(*host, FeatureId::kKeepAliveTimer).cqe.dw0, 12400U) << "rounded up to KAS, 100 ms";
  EXPECT_EQ(get_feature(*host, FeatureId::kKeepAliveTimer, FeatureSelect::kDefault).cqe.dw0, 0U);
  ASSERT_TRUE(set_feature(*host, FeatureId::kVolatileWriteCache, 0).ok());
  EXPECT_EQ(get_feature(*host, FeatureId::kVolatileWriteCache).cqe.dw0, 0U);
  EXPECT_EQ(get_feature(*host, FeatureId::kVolatileWriteCache, FeatureSelect::kDefault).cqe.dw0, 1U);
  const std::uint32_t events = nvme::AsyncEventConfig{.namespace_attribute = true}.to_dword();
  ASSERT_TRUE(set_feature(*host, FeatureId::kAsyncEventConfiguration, events).ok());
  EXPECT_EQ(get_feature(*host, FeatureId::kAsyncEventConfiguration).cqe.dw0, events);
  ASSERT_TRUE(set_feature(*host, FeatureId::kTemperatureThreshold, 350).ok());
  EXPECT_EQ(get_feature(*host, FeatureId::kTemperatureThreshold).cqe.dw0, 350U);
  ASSERT_TRUE(set_feature(*host, FeatureId::kArbitration, 3).ok());
  EXPECT_EQ(get_feature(*host, FeatureId::kArbitration).cqe.dw0, 3U);
  const auto capabilities = nvme::FeatureCapabilities::from_dword(
      get_feature(*host, FeatureId::kKeepAliveTimer, FeatureSelect::kCapabilities).cqe.dw0);
  EXPECT_TRUE(capabilities.changeable);
  EXPECT_FALSE(capabilities.saveable);
}

TEST_F(AdminTest, RefusesFeaturesItDoesNotHaveAndUsesThatMakeNoSense) {
  for (int fid = 0; fid < 256; ++fid) {
    const auto id = static_cast<FeatureId>(fid);
    const bool known = fid == 0x01 || fid == 0x02 || (fid >= 0x04 && fid <= 0x07) || fid == 0x0A || fid == 0x0B ||
                       fid == 0x0F || fid == 0x81;
    if (known) continue;
    EXPECT_STATUS(set_feature(*host, id, 0), GenericStatus::kInvalidField) << fid;
    EXPECT_STATUS(get_feature(*host, id), GenericStatus::kInvalidField) << fid;
  }
  EXPECT_STATUS(host->execute(nvme::make_set_features(FeatureId::kArbitration, 0, nvme::kNoNamespace, true)),
                CommandStatus::kFeatureNotSaveable);
  EXPECT_STATUS(host->execute(nvme::make_set_features(FeatureId::kArbitration, 0, nvme::Nsid{1})),
                CommandStatus::kFeatureNotNamespaceSpecific);
  EXPECT_STATUS(host->execute(nvme::make_set_features(FeatureId::kArbitration, 0, nvme::Nsid{99})),
                GenericStatus::kInvalidNamespaceOrFormat);
  EXPECT_TRUE(host->execute(nvme::make_set_features(FeatureId::kErrorRecovery, 5, nvme::Nsid{1})).ok());
  EXPECT_STATUS(set_feature(*host, FeatureId::kPowerManagement, 1), GenericStatus::kInvalidField);
  EXPECT_STATUS(get_feature(*host, FeatureId::kArbitration, static_cast<FeatureSelect>(4)),
                GenericStatus::kInvalidField);
  EXPECT_STATUS(set_feature(*host, FeatureId::kHostIdentifier, 1), GenericStatus::kCommandSequenceError);
}

TEST_F(AdminTest, TellsTheHostItsOwnIdentifier) {
  const auto extended = nvme::make_get_features(FeatureId::kHostIdentifier, FeatureSelect::kCurrent, nvme::kNoNamespace,
                                                nvme::kExtendedHostId);
  const Reply reply = host->execute(extended, {}, Via::kR2T, 16);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(std::memcmp(reply.data.data(), host->identity.id.bytes.data(), 16), 0);
  EXPECT_STATUS(get_feature(*host, FeatureId::kHostIdentifier), GenericStatus::kHostIdInconsistentFormat);
}

TEST_F(AdminTest, WithoutAVolatileCacheThereIsNothingToSwitchOff) {
  Rig plain;
  auto admin = plain.admin();
  EXPECT_FALSE(load<nvme::IdentifyController>(identify(*admin, {}).data).volatile_write_cache());
  EXPECT_STATUS(set_feature(*admin, FeatureId::kVolatileWriteCache, 0), GenericStatus::kInvalidField);
  EXPECT_STATUS(get_feature(*admin, FeatureId::kVolatileWriteCache), GenericStatus::kInvalidField);
}

TEST_F(AdminTest, RefusesOpcodesItDoesNotHave) {
  for (int opcode = 0; opcode < 256; ++opcode) {
    const std::set<int> known{0x02, 0x06, 0x08, 0x09, 0x0A, 0x0C, 0x18, 0x7F};
    if (known.contains(opcode)) continue;
    nvme::Command cmd;
    cmd.opcode = static_cast<std::uint8_t>(opcode);
    const Reply reply = host->execute(cmd);
    EXPECT_STATUS(reply, GenericStatus::kInvalidOpcode) << opcode;
    EXPECT_TRUE(reply.status().dnr);
  }
}

TEST_F(AdminTest, NothingButKeepAliveWorksBeforeTheControllerIsEnabled) {
  auto fresh = rig->ready();
  ASSERT_TRUE(fresh->connect(0).ok());
  EXPECT_STATUS(identify(*fresh, {}), GenericStatus::kCommandSequenceError);
  EXPECT_TRUE(fresh->execute(nvme::make_keep_alive()).ok());
}

TEST(Discovery, HasNoNamespacesNoIoQueuesAndFewCommands) {
  Rig rig;
  auto host = rig.ready();
  host->subnqn = nvme::kDiscoveryNqn;
  ASSERT_TRUE(host->connect(0).ok());
  ASSERT_TRUE(host->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
  EXPECT_STATUS(identify(*host, {.cns = Cns::kNamespace, .nsid = nvme::Nsid{1}}), GenericStatus::kInvalidField);
  EXPECT_STATUS(identify(*host, {.cns = Cns::kActiveNamespaceList}), GenericStatus::kInvalidField);
  EXPECT_STATUS(get_log(*host, {.lid = LogPage::kSmart, .bytes = 512}), CommandStatus::kInvalidLogPage);
  EXPECT_STATUS(set_feature(*host, FeatureId::kNumberOfQueues, 0), GenericStatus::kInvalidField);
  EXPECT_STATUS(host->execute(nvme::make_abort(nvme::Qid{0}, nvme::Cid{1})), GenericStatus::kInvalidOpcode);
  auto io = rig.ready();
  io->subnqn = nvme::kDiscoveryNqn;
  EXPECT_STATUS(io->connect(1, host->cntlid), nvme::FabricsStatus::kConnectInvalidParameters);
  io->subnqn = "nqn.2024-01.io.leap:test";
  EXPECT_STATUS(io->connect(1, host->cntlid), nvme::FabricsStatus::kConnectInvalidParameters);
  auto admin = rig.admin();
  EXPECT_STATUS(get_log(*admin, {.lid = LogPage::kDiscovery, .bytes = 1024}), CommandStatus::kInvalidLogPage);
}

TEST(Discovery, EndsAfterTwoIdleMinutesWithoutKeepAlive) {
  Rig rig;
  auto host = rig.ready();
  host->subnqn = nvme::kDiscoveryNqn;
  ASSERT_TRUE(host->connect(0).ok());
  rig.advance(std::chrono::seconds(100));
  EXPECT_TRUE(host->execute(nvme::make_keep_alive()).ok());
  rig.advance(std::chrono::seconds(100));
  EXPECT_FALSE(host->closed());
  rig.advance(std::chrono::seconds(121));
  rig.advance(std::chrono::seconds(121));
  EXPECT_TRUE(host->closed());
}

}  // namespace
}  // namespace leap::target::testing
