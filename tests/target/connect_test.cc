// Connect, Property Get and Set, Disconnect (NVMe Base 2.0, 6).
#include <gtest/gtest.h>

#include "rig.h"

namespace leap::target::testing {
namespace {

using nvme::ConnectInvalid;
using nvme::FabricsStatus;
using nvme::GenericStatus;
using nvme::PropertyOffset;

void expect_invalid(const Reply& reply, std::uint16_t offset, bool in_data) {
  EXPECT_STATUS(reply, FabricsStatus::kConnectInvalidParameters);
  EXPECT_TRUE(reply.status().dnr);
  const auto where = ConnectInvalid::from_dword(reply.cqe.dw0);
  EXPECT_EQ(where.ipo, offset);
  EXPECT_EQ(where.in_data, in_data);
}

TEST(Connect, GivesEachHostItsOwnControllerAndCountsTheQueueHead) {
  Rig rig;
  auto a = rig.ready();
  auto b = rig.ready();
  const Reply first = a->connect(0);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first.cqe.dw0 >> 16, 0U) << "no authentication required";
  EXPECT_EQ(first.cqe.sqhd, 1);
  EXPECT_EQ(first.cqe.sqid, nvme::kAdminQid);
  ASSERT_TRUE(b->connect(0).ok());
  EXPECT_NE(a->cntlid, b->cntlid);
  EXPECT_EQ(rig.target().probe().controllers_now, 2U);
  for (std::uint32_t i = 2; i < 70; ++i) {
    EXPECT_EQ(a->property_get(PropertyOffset::kVs).cqe.sqhd, i % 32) << "32 entries";
  }
  a->close();
  EXPECT_EQ(rig.target().probe().controllers_now, 1U);
}

TEST(Connect, MayTransferItsDataByR2TAndMayArriveByteByByte) {
  Rig rig;
  auto host = rig.ready();
  const auto data = host->connect_data();
  EXPECT_TRUE(
      host->execute(nvme::make_connect({.qid = nvme::Qid{0}, .entries = 32}), nvme::wire::bytes_of(data), Via::kR2T)
          .ok());
  auto slow = rig.ready({.hdgst = true, .ddgst = true});
  rig.cables.back()->read_limit = 1;
  EXPECT_TRUE(slow->connect(0).ok());
  EXPECT_TRUE(slow->property_get(PropertyOffset::kVs).ok());
}

TEST(Connect, DisablesSqFlowControlWhenAskedTo) {
  Rig rig;
  auto host = rig.ready();
  const Reply reply =
      host->connect({.qid = nvme::Qid{0}, .entries = 32, .disable_sq_flow_control = true}, host->connect_data());
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.cqe.sqhd, 0xFFFF);
}

TEST(Connect, NamesTheParameterThatIsWrong) {
  Rig rig;
  auto admin = rig.admin();
  const auto refused = [&](nvme::ConnectFields fields, auto change) {
    auto host = rig.ready();
    auto data = host->connect_data(fields.qid == nvme::kAdminQid ? 0xFFFF : admin->cntlid);
    change(data);
    return host->connect(fields, data);
  };
  const auto same = [](nvme::ConnectData&) {};
  const nvme::ConnectFields admin_queue{.qid = nvme::Qid{0}, .entries = 32};
  const nvme::ConnectFields io_queue{.qid = nvme::Qid{1}, .entries = 32};

  EXPECT_STATUS(refused({.recfmt = 1, .qid = nvme::Qid{0}, .entries = 32}, same), FabricsStatus::kIncompatibleFormat);
  expect_invalid(refused({.qid = nvme::Qid{0}, .entries = 1}, same), ConnectInvalid::kSqsize, false);
  expect_invalid(refused({.qid = nvme::Qid{0}, .entries = 129}, same), ConnectInvalid::kSqsize, false);
  expect_invalid(refused({.qid = nvme::Qid{1}, .entries = 65536}, same), ConnectInvalid::kSqsize, false);
  expect_invalid(refused(admin_queue, [](auto& d) { d.cntlid = nvme::Cntlid{1}; }), ConnectInvalid::kCntlid, true);
  expect_invalid(refused(admin_queue, [](auto& d) { d.cntlid = nvme::kAnyStaticCntlid; }), ConnectInvalid::kCntlid,
                 true);
  expect_invalid(refused(admin_queue, [](auto& d) { d.subnqn[0] = 'x'; }), ConnectInvalid::kSubnqn, true);
  expect_invalid(refused(admin_queue, [](auto& d) { d.subnqn.fill('x'); }), ConnectInvalid::kSubnqn, true);
  expect_invalid(refused(admin_queue, [](auto& d) { d.hostnqn.fill('x'); }), ConnectInvalid::kHostnqn, true);
  expect_invalid(refused(admin_queue, [](auto& d) { d.hostnqn.fill('\0'); }), ConnectInvalid::kHostnqn, true);
  expect_invalid(refused(io_queue, [](auto& d) { d.cntlid = nvme::Cntlid{999}; }), ConnectInvalid::kCntlid, true);
  expect_invalid(refused(io_queue, [](auto& d) { d.hostnqn[60] = 'x'; }), ConnectInvalid::kHostnqn, true);
  expect_invalid(refused(io_queue, [](auto& d) { d.hostid.bytes[0] ^= std::byte{1}; }), ConnectInvalid::kHostid, true);
  expect_invalid(refused({.qid = nvme::Qid{65}, .entries = 32}, same), ConnectInvalid::kQid, false);
  EXPECT_EQ(rig.target().probe().controllers_now, 1U);
}

TEST(Connect, WantsAllOf1024BytesOfData) {
  Rig rig;
  auto host = rig.ready();
  const auto data = host->connect_data();
  const auto bytes = nvme::wire::bytes_of(data);
  const auto connect = nvme::make_connect({.qid = nvme::Qid{0}, .entries = 32});
  EXPECT_STATUS(host->execute(connect, bytes.first(1020)), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(host->execute(connect), GenericStatus::kDataSglLengthInvalid);
  EXPECT_STATUS(host->execute(connect, Bytes(8196), Via::kR2T), GenericStatus::kDataSglLengthInvalid);
  Bytes longer(bytes.begin(), bytes.end());
  longer.resize(2048);
  EXPECT_TRUE(host->execute(connect, longer).ok());
}

TEST(Connect, OnlyOncePerConnectionAndOncePerQueueId) {
  Rig rig;
  auto hosts = rig.io_host();
  EXPECT_STATUS(hosts.io->connect(2, hosts.admin->cntlid), GenericStatus::kCommandSequenceError);
  EXPECT_STATUS(hosts.admin->connect(0), GenericStatus::kCommandSequenceError);
  auto other = rig.ready();
  EXPECT_STATUS(other->connect(1, hosts.admin->cntlid), GenericStatus::kCommandSequenceError);
  EXPECT_TRUE(other->connect(2, hosts.admin->cntlid).ok());
  hosts.io->close();
  auto again = rig.ready();
  EXPECT_TRUE(again->connect(1, hosts.admin->cntlid).ok()) << "the id is free once its connection is gone";
}

TEST(Connect, RefusesIoQueuesOfAControllerThatIsNotEnabled) {
  Rig rig;
  auto admin = rig.ready();
  ASSERT_TRUE(admin->connect(0).ok());
  auto io = rig.ready();
  EXPECT_STATUS(io->connect(1, admin->cntlid), GenericStatus::kCommandSequenceError);
  nvme::Cc cc;
  cc.set_en(true);
  ASSERT_TRUE(admin->property_set(PropertyOffset::kCc, cc.raw).ok());
  EXPECT_STATUS(io->connect(1, admin->cntlid), GenericStatus::kCommandSequenceError) << "without entry sizes";
}

TEST(Connect, RefusesHostsThatAreNotOnTheList) {
  TargetConfig config;
  config.allowed_hosts = {"nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"};
  Rig rig(config);
  auto friendly = rig.ready();
  EXPECT_TRUE(friendly->connect(0).ok());
  auto stranger = rig.ready();
  stranger->identity.nqn = "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-3333-4444-555555555555";
  const Reply reply = stranger->connect(0);
  EXPECT_STATUS(reply, FabricsStatus::kConnectInvalidHost);
  EXPECT_TRUE(reply.status().dnr);
}

TEST(Connect, LimitsTheNumberOfControllers) {
  TargetConfig config;
  config.max_controllers = 2;
  Rig rig(config);
  auto a = rig.ready();
  auto b = rig.ready();
  auto c = rig.ready();
  EXPECT_TRUE(a->connect(0).ok());
  EXPECT_TRUE(b->connect(0).ok());
  const Reply busy = c->connect(0);
  EXPECT_STATUS(busy, FabricsStatus::kControllerBusy);
  EXPECT_FALSE(busy.status().dnr) << "worth another try";
  a->close();
  EXPECT_TRUE(c->connect(0).ok()) << "a refused connection may try again";
}

TEST(Connect, NothingElseIsAcceptedBeforeIt) {
  Rig rig;
  auto host = rig.ready();
  EXPECT_STATUS(host->property_get(PropertyOffset::kCap), GenericStatus::kCommandSequenceError);
  EXPECT_STATUS(host->execute(nvme::make_keep_alive()), GenericStatus::kCommandSequenceError);
  EXPECT_STATUS(host->read(1, 0, 1), GenericStatus::kCommandSequenceError);
  EXPECT_STATUS(host->execute(nvme::make_disconnect()), GenericStatus::kCommandSequenceError);
}

TEST(Commands, MustUseSglsAndMustNotBeFused) {
  Rig rig;
  auto hosts = rig.io_host();
  for (const auto& host : {hosts.admin.get(), hosts.io.get()}) {
    auto prp = nvme::make_keep_alive();
    prp.cid = nvme::Cid{1000};
    prp.flags = 0;
    host->submit_raw(prp);
    auto pdu = host->next();
    ASSERT_TRUE(pdu);
    EXPECT_TRUE(
        nvme::same_code(pdu->as<nvme::CapsuleRespPdu>().cqe.status(), nvme::status(GenericStatus::kInvalidField)));
    auto metadata = nvme::make_flush(nvme::Nsid{1});
    metadata.cid = nvme::Cid{1001};
    metadata.set_psdt(nvme::Psdt::kSglMetadataSegment);
    host->submit_raw(metadata);
    pdu = host->next();
    ASSERT_TRUE(pdu);
    EXPECT_EQ(pdu->as<nvme::CapsuleRespPdu>().cqe.cid.value(), 1001);
    EXPECT_FALSE(pdu->as<nvme::CapsuleRespPdu>().cqe.ok());
    auto fused = nvme::make_flush(nvme::Nsid{1});
    fused.set_fuse(nvme::Fuse::kFirst);
    EXPECT_STATUS(host->execute(fused), GenericStatus::kInvalidField);
  }
}

TEST(Properties, DescribeTheControllerAndFollowItsState) {
  Rig rig;
  auto host = rig.ready();
  ASSERT_TRUE(host->connect(0).ok());
  const nvme::Cap cap{host->property_get(PropertyOffset::kCap).cqe.result64()};
  EXPECT_EQ(cap.max_queue_entries(), 128U);
  EXPECT_TRUE(cap.cqr());
  EXPECT_TRUE(cap.supports_nvm_command_set());
  EXPECT_GT(cap.ready_timeout_ms(), 0U);
  EXPECT_EQ(cap.mpsmin(), 0);
  EXPECT_EQ(host->property_get(PropertyOffset::kVs).cqe.dw0, 0x00010400U);
  const auto csts = [&] { return nvme::Csts{host->property_get(PropertyOffset::kCsts).cqe.dw0}; };
  EXPECT_FALSE(csts().rdy());
  ASSERT_TRUE(host->property_set(PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
  EXPECT_TRUE(csts().rdy());
  EXPECT_EQ(host->property_get(PropertyOffset::kCc).cqe.dw0, nvme::Cc::enabled().raw);
  auto shutdown = nvme::Cc::enabled();
  shutdown.set_shn(nvme::ShutdownNotification::kNormal);
  ASSERT_TRUE(host->property_set(PropertyOffset::kCc, shutdown.raw).ok());
  EXPECT_EQ(csts().shst(), nvme::ShutdownStatus::kComplete);
  EXPECT_TRUE(csts().rdy());
  ASSERT_TRUE(host->property_set(PropertyOffset::kCc, 0).ok());
  EXPECT_FALSE(csts().rdy());
  EXPECT_EQ(csts().shst(), nvme::ShutdownStatus::kNormalOperation);
}

TEST(Properties, RefuseOffsetsSizesAndConfigurationsThatDoNotExist) {
  Rig rig;
  auto host = rig.admin();
  const auto get = [&](std::uint32_t offset, std::uint32_t size) {
    auto cmd = nvme::make_property_get(static_cast<PropertyOffset>(offset));
    cmd.cdw10 = size;
    return host->execute(cmd);
  };
  EXPECT_STATUS(get(0, 0), GenericStatus::kInvalidField) << "CAP has 8 bytes";
  EXPECT_STATUS(get(8, 1), GenericStatus::kInvalidField) << "VS has 4";
  EXPECT_STATUS(get(8, 2), GenericStatus::kInvalidField);
  for (const std::uint32_t offset : {0x04U, 0x20U, 0x24U, 0x28U, 0x1000U, 0xFFFFFFFFU}) {
    EXPECT_STATUS(get(offset, 0), GenericStatus::kInvalidField);
    EXPECT_STATUS(get(offset, 1), GenericStatus::kInvalidField);
  }
  EXPECT_STATUS(host->property_set(PropertyOffset::kCap, 0), GenericStatus::kInvalidField);
  EXPECT_STATUS(host->property_set(PropertyOffset::kNssr, 0x4E564D65), GenericStatus::kInvalidField);
  host = rig.ready();
  ASSERT_TRUE(host->connect(0).ok());
  for (const auto change : {+[](nvme::Cc& cc) { cc.set_css(6); }, +[](nvme::Cc& cc) { cc.set_mps(1); },
                            +[](nvme::Cc& cc) { cc.raw |= 1U << 11; }, +[](nvme::Cc& cc) { cc.set_iosqes(7); },
                            +[](nvme::Cc& cc) { cc.set_iocqes(5); }}) {
    auto cc = nvme::Cc::enabled();
    change(cc);
    EXPECT_STATUS(host->property_set(PropertyOffset::kCc, cc.raw), GenericStatus::kInvalidField);
    EXPECT_EQ(host->property_get(PropertyOffset::kCsts).cqe.dw0, 0U) << "nothing has changed";
  }
}

TEST(Properties, BelongToTheAdminQueue) {
  Rig rig;
  auto hosts = rig.io_host();
  EXPECT_STATUS(hosts.io->property_get(PropertyOffset::kCap), GenericStatus::kInvalidOpcode);
  EXPECT_STATUS(hosts.io->property_set(PropertyOffset::kCc, 0), GenericStatus::kInvalidOpcode);
}

TEST(Disconnect, EndsAnIoQueueAfterAnswering) {
  Rig rig;
  auto hosts = rig.io_host();
  EXPECT_TRUE(hosts.io->execute(nvme::make_disconnect()).ok());
  EXPECT_TRUE(hosts.io->closed());
  hosts.io->close();
  EXPECT_EQ(rig.target().probe().connections_now, 1U);
  auto again = rig.ready();
  EXPECT_TRUE(again->connect(1, hosts.admin->cntlid).ok());
  EXPECT_STATUS(hosts.admin->execute(nvme::make_disconnect()), FabricsStatus::kInvalidQueueType);
  auto unknown = nvme::make_disconnect();
  unknown.cdw10 = 1;
  EXPECT_STATUS(again->execute(unknown), FabricsStatus::kIncompatibleFormat);
}

TEST(Fabrics, UnknownTypesAreInvalidOpcodes) {
  Rig rig;
  auto hosts = rig.io_host();
  for (std::uint32_t type = 0; type < 256; ++type) {
    if (type == 0 || type == 1 || type == 4 || type == 8) continue;
    auto cmd = nvme::make_disconnect();
    cmd.nsid = nvme::Nsid{type};
    EXPECT_STATUS(hosts.admin->execute(cmd), GenericStatus::kInvalidOpcode) << type;
    EXPECT_STATUS(hosts.io->execute(cmd), GenericStatus::kInvalidOpcode) << type;
  }
}

}  // namespace
}  // namespace leap::target::testing
