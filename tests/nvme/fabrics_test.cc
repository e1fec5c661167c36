#include "nvme/fabrics.h"

#include <gtest/gtest.h>

#include "nvme/properties.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

using test::Page;
using test::zeros;

TEST(Fabrics, ConnectCommand) {
  Command cmd = make_connect(
      {.recfmt = 0, .qid = Qid{0x0203}, .entries = 128, .disable_sq_flow_control = true, .kato_ms = 0x00015F90});
  cmd.cid = Cid{0x1122};
  cmd.set_sgl(SglDescriptor::in_capsule(1024));
  EXPECT_WIRE(cmd, "7f 40 22 11 01 00 00 00" + zeros(16) + zeros(8) +
                       "00 04 00 00 00 00 00 01"
                       "00 00 03 02 7f 00 04 00 90 5f 01 00" +
                       zeros(12));
  const ConnectFields fields = connect_fields(cmd);
  EXPECT_EQ(fields.recfmt, 0);
  EXPECT_EQ(fields.qid, Qid{0x0203});
  EXPECT_EQ(fields.entries, 128U);
  EXPECT_TRUE(fields.disable_sq_flow_control);
  EXPECT_EQ(fields.cattr, 0x04);
  EXPECT_EQ(fields.kato_ms, 90000U);
  EXPECT_EQ(fctype_of(cmd), Fctype::kConnect);
}

TEST(Fabrics, ConnectOfTheLargestQueue) {
  const Command cmd = make_connect({.entries = 65536});
  EXPECT_EQ(cmd.cdw11, 0x0000FFFFU);
  EXPECT_EQ(connect_fields(cmd).entries, 65536U);
}

TEST(Fabrics, ConnectFieldsReadWhateverArrives) {
  Command cmd;
  cmd.cdw10 = 0xAAAA0001;
  cmd.cdw11 = 0xFF0B0000;
  const ConnectFields fields = connect_fields(cmd);
  EXPECT_EQ(fields.recfmt, 1);
  EXPECT_EQ(fields.qid, Qid{0xAAAA});
  EXPECT_EQ(fields.entries, 1U) << "SQSIZE 0 is for the target to refuse";
  EXPECT_EQ(fields.cattr, 0x0B);
  EXPECT_FALSE(fields.disable_sq_flow_control);
}

TEST(Fabrics, ConnectData) {
  Uuid host;
  for (std::size_t i = 0; i < 16; ++i) host.bytes[i] = static_cast<std::byte>(0xA0 + i);
  const ConnectData data =
      make_connect_data(host, Cntlid{0x1234}, "nqn.2024-01.io.example:sub", "nqn.2024-01.io.example:host");
  Page page(1024);
  page.at(0, "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af").at(16, "34 12");
  page.text(256, "nqn.2024-01.io.example:sub").text(512, "nqn.2024-01.io.example:host");
  EXPECT_PAGE(data, page);
  EXPECT_EQ(nul_terminated_text(data.subnqn), "nqn.2024-01.io.example:sub");
  EXPECT_EQ(nul_terminated_text(data.hostnqn), "nqn.2024-01.io.example:host");
}

TEST(Fabrics, ConnectDataDefaultsToTheDynamicController) { EXPECT_EQ(ConnectData{}.cntlid, kDynamicCntlid); }

TEST(Fabrics, ConnectResponse) {
  EXPECT_EQ((ConnectResponse{.cntlid = Cntlid{0x0102}, .authreq = 0x0002}.to_dword()), 0x00020102U);
  EXPECT_EQ(ConnectResponse::from_dword(0x00020102).cntlid, Cntlid{0x0102});
  EXPECT_EQ(ConnectResponse::from_dword(0x00020102).authreq, 2);
}

TEST(Fabrics, ConnectInvalidPointsAtTheParameter) {
  EXPECT_EQ((ConnectInvalid{.ipo = ConnectInvalid::kSubnqn, .in_data = true}.to_dword()), 0x00010100U);
  EXPECT_EQ((ConnectInvalid{.ipo = ConnectInvalid::kQid, .in_data = false}.to_dword()), 42U);
  EXPECT_TRUE(ConnectInvalid::from_dword(0x00010100).in_data);
  EXPECT_EQ(ConnectInvalid::from_dword(0x00010100).ipo, 256);
}

TEST(Fabrics, PropertyGet) {
  EXPECT_WIRE(make_property_get(PropertyOffset::kCap), "7f 40 00 00 04 00 00 00" + zeros(32) + "01" + zeros(23));
  EXPECT_WIRE(make_property_get(PropertyOffset::kCsts),
              "7f 40 00 00 04 00 00 00" + zeros(32) + "00 00 00 00 1c 00 00 00" + zeros(16));
  EXPECT_EQ(property_fields(make_property_get(PropertyOffset::kCap)).bytes, 8);
  EXPECT_EQ(property_fields(make_property_get(PropertyOffset::kVs)).bytes, 4);
  EXPECT_EQ(property_fields(make_property_get(PropertyOffset::kVs)).offset, PropertyOffset::kVs);
}

TEST(Fabrics, PropertySet) {
  const Command cmd = make_property_set(PropertyOffset::kCc, Cc::enabled().raw);
  EXPECT_WIRE(cmd, "7f 40 00 00 00 00 00 00" + zeros(32) + "00 00 00 00 14 00 00 00 01 00 46 00" + zeros(12));
  EXPECT_EQ(property_fields(cmd).value, 0x00460001U);
  EXPECT_EQ(fctype_of(cmd), Fctype::kPropertySet);
  const Command wide = make_property_set(PropertyOffset::kAsq, 0x1122334455667788);
  EXPECT_EQ(wide.cdw10, 1U);
  EXPECT_EQ(property_fields(wide).value, 0x1122334455667788U);
}

TEST(Fabrics, PropertySizeOutsideTheSpecificationIsZero) {
  Command cmd = make_property_get(PropertyOffset::kCap);
  cmd.cdw10 = 2;
  EXPECT_EQ(property_fields(cmd).bytes, 0);
  cmd.cdw10 = 0xFFFFFFF8;  // reserved bits only
  EXPECT_EQ(property_fields(cmd).bytes, 4);
}

TEST(Fabrics, Disconnect) { EXPECT_WIRE(make_disconnect(), "7f 40 00 00 08 00 00 00" + zeros(56)); }

TEST(Properties, CapFields) {
  Cap cap;
  cap.set_mqes(1023);
  cap.set_cqr(true);
  cap.set_to(15);
  cap.set_dstrd(1);
  cap.set_nssrs(true);
  cap.set_css(Cap::kCssNvm);
  cap.set_mpsmin(0);
  cap.set_mpsmax(4);
  cap.set_crms(3);
  EXPECT_EQ(cap.raw, 0x1840'0031'0F01'03FFU);
  EXPECT_EQ(cap.max_queue_entries(), 1024U);
  EXPECT_EQ(cap.ready_timeout_ms(), 7500U);
  EXPECT_EQ(cap.min_page_bytes(), 4096U);
  EXPECT_TRUE(cap.supports_nvm_command_set());
  EXPECT_FALSE(cap.supports_io_command_sets());
  EXPECT_TRUE(cap.cqr());
  EXPECT_TRUE(cap.nssrs());
  EXPECT_EQ(cap.dstrd(), 1);
  EXPECT_EQ(cap.mpsmax(), 4);
  EXPECT_EQ(cap.crms(), 3);
  EXPECT_EQ(cap.ams(), 0);
  EXPECT_EQ(Cap{0x0000'0800'0000'0000}.css(), Cap::kCssIoCommandSets) << "CSS bit 6 is CAP bit 43";
  EXPECT_EQ(Cap{std::uint64_t{15} << 48}.min_page_bytes(), std::uint64_t{4096} << 15);
}

TEST(Properties, CcFields) {
  EXPECT_EQ(Cc::enabled().raw, 0x00460001U);
  Cc cc{0x00467EF1};
  EXPECT_TRUE(cc.en());
  EXPECT_EQ(cc.css(), 7);
  EXPECT_EQ(cc.mps(), 13);
  EXPECT_EQ(cc.ams(), 7);
  EXPECT_EQ(cc.shn(), ShutdownNotification::kNormal);
  EXPECT_EQ(cc.iosqes(), 6);
  EXPECT_EQ(cc.iocqes(), 4);
  cc.set_shn(ShutdownNotification::kAbrupt);
  cc.set_en(false);
  cc.set_css(0);
  cc.set_mps(0);
  EXPECT_EQ(cc.raw, 0x0046B800U);
}

TEST(Properties, CstsFields) {
  Csts csts;
  csts.set_rdy(true);
  EXPECT_EQ(csts.raw, 1U);
  csts.set_shst(ShutdownStatus::kComplete);
  EXPECT_EQ(csts.raw, 9U);
  csts.set_cfs(true);
  EXPECT_EQ(csts.raw, 11U);
  EXPECT_EQ(csts.shst(), ShutdownStatus::kComplete);
  EXPECT_TRUE(Csts{0x30}.nssro());
  EXPECT_TRUE(Csts{0x30}.pp());
  EXPECT_FALSE(Csts{0x30}.rdy());
}

TEST(Properties, VersionComparesAndPrints) {
  EXPECT_EQ(make_version(2, 0, 0).raw, 0x00020000U);
  EXPECT_EQ(make_version(1, 4, 0).raw, 0x00010400U);
  EXPECT_LT(make_version(1, 4, 0), make_version(2, 0, 0));
  EXPECT_EQ(Version{0x00020103}.major_number(), 2);
  EXPECT_EQ(Version{0x00020103}.minor_number(), 1);
  EXPECT_EQ(Version{0x00020103}.tertiary(), 3);
}

TEST(Properties, AqaFields) {
  Aqa aqa;
  aqa.set_asqs(0xFFF);
  aqa.set_acqs(0x1F);
  EXPECT_EQ(aqa.raw, 0x001F0FFFU);
  EXPECT_EQ(aqa.asqs(), 0xFFF);
  EXPECT_EQ(aqa.acqs(), 0x1F);
}

}  // namespace
}  // namespace leap::nvme
