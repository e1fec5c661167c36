#include "nvme/command.h"

#include <gtest/gtest.h>

#include "nvme/nvm_command.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

using test::zeros;

TEST(Command, EveryFieldHasItsPlace) {
  Command cmd;
  cmd.opcode = 0x02;
  cmd.set_fuse(Fuse::kSecond);
  cmd.cid = Cid{0x1122};
  cmd.nsid = Nsid{0x33445566};
  cmd.cdw2 = 0x02020202;
  cmd.cdw3 = 0x03030303;
  cmd.mptr = 0x1817161514131211;
  cmd.set_sgl(SglDescriptor::data_block(0x2827262524232221, 0x34333231));
  cmd.cdw10 = 0x10101010;
  cmd.cdw11 = 0x11111111;
  cmd.cdw12 = 0x12121212;
  cmd.cdw13 = 0x13131313;
  cmd.cdw14 = 0x14141414;
  cmd.cdw15 = 0x15151515;
  EXPECT_WIRE(cmd,
              "02 42 22 11 66 55 44 33 02 02 02 02 03 03 03 03"
              "11 12 13 14 15 16 17 18 21 22 23 24 25 26 27 28"
              "31 32 33 34 00 00 00 00 10 10 10 10 11 11 11 11"
              "12 12 12 12 13 13 13 13 14 14 14 14 15 15 15 15");
  EXPECT_EQ(cmd.fuse(), Fuse::kSecond);
  EXPECT_EQ(cmd.psdt(), Psdt::kSgl);
  EXPECT_EQ(cmd.cdw10_11(), 0x1111111110101010U);
  EXPECT_EQ(cmd.cdw12_13(), 0x1313131312121212U);
}

TEST(Command, PrpsShareTheDataPointerWithTheSgl) {
  Command cmd;
  cmd.set_sgl(SglDescriptor::transport(1));
  cmd.set_prps(0x0102030405060708, 0x1112131415161718);
  EXPECT_EQ(cmd.psdt(), Psdt::kPrp);
  EXPECT_EQ(cmd.prp1(), 0x0102030405060708U);
  EXPECT_EQ(cmd.prp2(), 0x1112131415161718U);
  EXPECT_WIRE(cmd, zeros(24) + "08 07 06 05 04 03 02 01 18 17 16 15 14 13 12 11" + zeros(24));
}

TEST(Command, FuseAndPsdtDoNotDisturbEachOther) {
  Command cmd;
  cmd.flags = 0x3C;  // the reserved bits between them
  cmd.set_psdt(Psdt::kSglMetadataSegment);
  cmd.set_fuse(Fuse::kFirst);
  EXPECT_EQ(cmd.flags, 0xBD);
  cmd.set_psdt(Psdt::kPrp);
  EXPECT_EQ(cmd.flags, 0x3D);
  EXPECT_EQ(cmd.fuse(), Fuse::kFirst);
}

TEST(Command, DirectionComesFromTheLowBitsOfOpcodeOrFctype) {
  EXPECT_EQ(make_read(Nsid{1}, 0, 1).data_direction(), DataDirection::kControllerToHost);
  EXPECT_EQ(make_write(Nsid{1}, 0, 1).data_direction(), DataDirection::kHostToController);
  EXPECT_EQ(make_compare(Nsid{1}, 0, 1).data_direction(), DataDirection::kHostToController);
  EXPECT_EQ(make_flush(Nsid{1}).data_direction(), DataDirection::kNone);
  EXPECT_EQ(make_write_zeroes(Nsid{1}, 0, 1).data_direction(), DataDirection::kNone);
  EXPECT_EQ(make_verify(Nsid{1}, 0, 1).data_direction(), DataDirection::kNone);
  EXPECT_EQ(make_dsm(Nsid{1}, 1).data_direction(), DataDirection::kHostToController);
  Command fabrics;
  fabrics.opcode = kFabricsOpcode;
  fabrics.nsid = Nsid{0xFFFFFF01};  // Connect, with rubbish in the reserved bytes
  EXPECT_EQ(fabrics.fctype(), 0x01);
  EXPECT_EQ(fabrics.data_direction(), DataDirection::kHostToController);
}

TEST(Sgl, DescriptorsOfNvmeTcp) {
  EXPECT_WIRE(SglDescriptor::in_capsule(0x1000), zeros(8) + "00 10 00 00 00 00 00 01");
  EXPECT_WIRE(SglDescriptor::in_capsule(0x200, 0x40), "40 00 00 00 00 00 00 00 00 02 00 00 00 00 00 01");
  EXPECT_WIRE(SglDescriptor::transport(0x20000), zeros(8) + "00 00 02 00 00 00 00 5a");
  const auto sgl = SglDescriptor::transport(1);
  EXPECT_EQ(sgl.type(), SglType::kTransportDataBlock);
  EXPECT_EQ(sgl.subtype(), SglSubtype::kTransport);
  EXPECT_TRUE(sgl.is_transport());
  EXPECT_FALSE(sgl.is_in_capsule());
  EXPECT_EQ(SglDescriptor::in_capsule(1).type(), SglType::kDataBlock);
  EXPECT_EQ(SglDescriptor::in_capsule(1).subtype(), SglSubtype::kOffset);
  EXPECT_EQ(SglDescriptor::data_block(0, 0).subtype(), SglSubtype::kAddress);
}

TEST(NvmCommand, Read) {
  EXPECT_WIRE(make_read(Nsid{1}, 0x0123456789ABCDEF, 8),
              "02 00 00 00 01 00 00 00" + zeros(32) + "ef cd ab 89 67 45 23 01 07 00 00 00" + zeros(12));
}

TEST(NvmCommand, WriteWithForceUnitAccess) {
  EXPECT_WIRE(make_write(Nsid{0xFFFFFFFE}, 1, 65536, {.fua = true}),
              "01 00 00 00 fe ff ff ff" + zeros(32) + "01 00 00 00 00 00 00 00 ff ff 00 40" + zeros(12));
}

TEST(NvmCommand, CompareWithLimitedRetryAndProtectionInformation) {
  EXPECT_WIRE(make_compare(Nsid{2}, 0x10, 1, {.limited_retry = true, .prinfo = 0xF}),
              "05 00 00 00 02 00 00 00" + zeros(32) + "10 00 00 00 00 00 00 00 00 00 00 bc" + zeros(12));
}

TEST(NvmCommand, WriteZeroesWithDeallocate) {
  EXPECT_WIRE(make_write_zeroes(Nsid{3}, 0x100000000, 256, {.deallocate = true}),
              "08 00 00 00 03 00 00 00" + zeros(32) + "00 00 00 00 01 00 00 00 ff 00 00 02" + zeros(12));
}

TEST(NvmCommand, Verify) {
  EXPECT_WIRE(make_verify(Nsid{1}, 2, 3),
              "0c 00 00 00 01 00 00 00" + zeros(32) + "02 00 00 00 00 00 00 00 02 00 00 00" + zeros(12));
}

TEST(NvmCommand, Flush) { EXPECT_WIRE(make_flush(kAllNamespaces), "00 00 00 00 ff ff ff ff" + zeros(56)); }

TEST(NvmCommand, DatasetManagement) {
  EXPECT_WIRE(make_dsm(Nsid{1}, 256), "09 00 00 00 01 00 00 00" + zeros(32) + "ff 00 00 00 04 00 00 00" + zeros(16));
  EXPECT_WIRE(make_dsm(Nsid{1}, 1, false), "09 00 00 00 01 00 00 00" + zeros(56));
  EXPECT_WIRE((DsmRange{.context_attributes = 0x01020304, .blocks = 0x11121314, .slba = 0x2122232425262728}),
              "04 03 02 01 14 13 12 11 28 27 26 25 24 23 22 21");
}

TEST(NvmCommand, AccessorsUndoTheBuilders) {
  const RwFields rw = rw_fields(make_write(Nsid{1}, 0xFFFFFFFFFFFFFFFF, 65536,
                                           {.fua = true, .limited_retry = true, .deallocate = true, .prinfo = 9}));
  EXPECT_EQ(rw.slba, 0xFFFFFFFFFFFFFFFFU);
  EXPECT_EQ(rw.blocks, 65536U);
  EXPECT_TRUE(rw.fua);
  EXPECT_TRUE(rw.limited_retry);
  EXPECT_TRUE(rw.deallocate);
  EXPECT_EQ(rw.prinfo, 9);

  const RwFields plain = rw_fields(make_read(Nsid{1}, 0, 1));
  EXPECT_EQ(plain.slba, 0U);
  EXPECT_EQ(plain.blocks, 1U);
  EXPECT_FALSE(plain.fua || plain.limited_retry || plain.deallocate);
  EXPECT_EQ(plain.prinfo, 0);

  const DsmFields dsm = dsm_fields(make_dsm(Nsid{1}, 17));
  EXPECT_EQ(dsm.ranges, 17U);
  EXPECT_TRUE(dsm.deallocate);
  EXPECT_FALSE(dsm.integral_read || dsm.integral_write);
}

TEST(NvmCommand, RangeCheckDoesNotOverflow) {
  EXPECT_TRUE(in_range(0, 10, 10));
  EXPECT_FALSE(in_range(0, 11, 10));
  EXPECT_TRUE(in_range(10, 0, 10));
  EXPECT_FALSE(in_range(11, 0, 10));
  EXPECT_FALSE(in_range(~std::uint64_t{0}, 1, 10));
  EXPECT_FALSE(in_range(~std::uint64_t{0} - 1, 65536, ~std::uint64_t{0}));
  EXPECT_TRUE(in_range(~std::uint64_t{0} - 1, 1, ~std::uint64_t{0}));
}

}  // namespace
}  // namespace leap::nvme
