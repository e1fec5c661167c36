#include "nvme/identify.h"

#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nvme/identify_namespace.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

using test::hex;
using test::Page;

TEST(IdentifyController, EveryFieldOfTheHostHasItsPlace) {
  IdentifyController id;
  id.vid = 0x1D1D;
  id.ssvid = 0x2E2E;
  fill_spaces(id.sn, "LEAP0001");
  fill_spaces(id.mn, "Leap Target");
  fill_spaces(id.fr, "0.1.0");
  id.rab = 6;
  id.ieee = {1, 2, 3};
  id.cmic = kCmicMultipleControllers;
  id.mdts = 5;
  id.cntlid = Cntlid{0x0102};
  id.ver = make_version(2, 0, 0);
  id.oaes = kOaesNamespaceAttribute | kOaesDiscoveryLogChange;
  id.ctratt = kCtrattHostId128 | kCtrattTrafficBasedKeepAlive;
  id.cntrltype = ControllerType::kIo;
  id.crdt = {0x0101, 0x0202, 0x0303};
  id.oacs = kOacsNamespaceManagement;
  id.acl = 3;
  id.aerl = 4;
  id.frmw = 0x03;
  id.lpa = kLpaExtendedData;
  id.elpe = 63;
  id.npss = 1;
  id.kas = 10;
  id.anagrpmax = 0x11223344;
  id.cqt = 0x7788;
  id.sqes = kSqes64Bytes;
  id.cqes = kCqes16Bytes;
  id.maxcmd = 128;
  id.nn = 1024;
  id.oncs = kOncsCompare | kOncsDatasetManagement | kOncsWriteZeroes | kOncsVerify;
  id.vwc = kVwcPresent | kVwcFlushAllSupported;
  id.awun = 7;
  id.awupf = 8;
  id.sgls = kSglsSupported | kSglsOffset | kSglsTransportDataBlock;
  id.mnan = 2048;
  fill_nul(id.subnqn, "nqn.2024-01.io.example:sub");
  id.set_in_capsule_data_bytes(8192);
  id.iorcsz = 1;
  id.icdoff = 0;
  id.fcatt = 0;
  id.msdbd = 1;
  id.ofcs = kOfcsDisconnect;
  id.dctype = DiscoveryControllerType::kDirect;

  Page page(4096);
  page.at(0, "1d 1d 2e 2e").text(4, "LEAP0001            ").text(24, "Leap Target" + std::string(29, ' '));
  page.text(64, "0.1.0   ").at(72, "06 01 02 03 02 05 02 01 00 00 02 00");
  page.at(92, "00 01 00 80 41 00 00 00").at(111, "01").at(128, "01 01 02 02 03 03");
  page.at(256, "08 00 03 04 03 04 3f 01").at(320, "0a 00").at(344, "44 33 22 11").at(386, "88 77");
  page.at(512, "66 44 80 00 00 04 00 00 8d 00").at(525, "07 07 00 08 00").at(536, "01 00 30 00 00 08 00 00");
  page.text(768, "nqn.2024-01.io.example:sub");
  page.at(1792, "04 02 00 00 01 00 00 00 00 00 00 01 01 00 01");  // (64 + 8192) / 16 = 516
  EXPECT_PAGE(id, page);

  EXPECT_EQ(id.serial(), "LEAP0001");
  EXPECT_EQ(id.model(), "Leap Target");
  EXPECT_EQ(id.firmware(), "0.1.0");
  EXPECT_EQ(id.subsystem_nqn(), "nqn.2024-01.io.example:sub");
  EXPECT_TRUE(id.volatile_write_cache());
  EXPECT_EQ(id.keep_alive_granularity_ms(), 1000U);
  EXPECT_TRUE(id.supports(kOncsVerify));
  EXPECT_FALSE(id.supports(kOncsCopy));
}

TEST(IdentifyController, TransferLimitCountsMinimumPages) {
  IdentifyController id;
  EXPECT_EQ(id.max_transfer_bytes(4096), ~std::uint64_t{0}) << "MDTS 0 is no limit";
  id.mdts = 5;
  EXPECT_EQ(id.max_transfer_bytes(4096), 131072U);
  EXPECT_EQ(id.max_transfer_bytes(8192), 262144U);
  id.mdts = 255;
  EXPECT_EQ(id.max_transfer_bytes(4096), ~std::uint64_t{0}) << "an absurd exponent must not overflow";
}

TEST(IdentifyController, InCapsuleDataIsWhatTheCapsuleLeaves) {
  IdentifyController id;
  EXPECT_EQ(id.in_capsule_data_bytes(), 0U);
  id.ioccsz = 4;
  EXPECT_EQ(id.in_capsule_data_bytes(), 0U) << "64 bytes hold the command alone";
  id.ioccsz = 3;
  EXPECT_EQ(id.in_capsule_data_bytes(), 0U) << "less than a command";
  id.ioccsz = 260;
  EXPECT_EQ(id.in_capsule_data_bytes(), 4096U);
  id.icdoff = 1;
  EXPECT_EQ(id.in_capsule_data_bytes(), 4080U);
  id.ioccsz = 0xFFFFFFFF;
  EXPECT_EQ(id.in_capsule_data_bytes(), 0xFFFFFFFFU);
}

TEST(IdentifyController, NvmLimits) {
  IdentifyNvmController id;
  id.vsl = 1;
  id.wzsl = 2;
  id.dmrl = 4;
  id.dmrsl = 0x11121314;
  id.dmsl = 0x2122232425262728;
  EXPECT_PAGE(id, Page(4096).at(0, "01 02 00 04 14 13 12 11 28 27 26 25 24 23 22 21"));
}

TEST(IdentifyNamespace, EveryFieldOfTheHostHasItsPlace) {
  IdentifyNamespace ns;
  ns.nsze = 0x0102030405060708;
  ns.ncap = 0x1112131415161718;
  ns.nuse = 0x2122232425262728;
  ns.nsfeat = kNsfeatOptimalPerformance | kNsfeatIdNeverReused;
  ns.nlbaf = 1;
  ns.flbas = 1;
  ns.nmic = kNmicShared;
  ns.rescap = 0x5A;
  ns.dlfeat = kDlfeatReadsZeros | kDlfeatWriteZeroesDealloc;
  ns.nawun = 0x3132;
  ns.noiob = 0x4142;
  ns.nvmcap = {.low = 0x5152535455565758, .high = 0};
  ns.npwg = 7;
  ns.npwa = 8;
  ns.npdg = 9;
  ns.npda = 10;
  ns.nows = 11;
  ns.anagrpid = 0x61626364;
  ns.nsattr = kNsattrWriteProtected;
  ns.nvmsetid = 0x7172;
  ns.endgid = 0x8182;
  for (std::size_t i = 0; i < 16; ++i) ns.nguid[i] = static_cast<std::byte>(0xC0 + i);
  for (std::size_t i = 0; i < 8; ++i) ns.eui64[i] = static_cast<std::byte>(0xE0 + i);
  ns.lbaf[0] = {.ms = 0, .lbads = 9, .rp = 1};
  ns.lbaf[1] = {.ms = 8, .lbads = 12, .rp = 0};

  Page page(4096);
  page.at(0, "08 07 06 05 04 03 02 01 18 17 16 15 14 13 12 11 28 27 26 25 24 23 22 21");
  page.at(24, "18 01 01").at(30, "01 5a 00 09 32 31").at(46, "42 41 58 57 56 55 54 53 52 51");
  page.at(64, "07 00 08 00 09 00 0a 00 0b 00").at(92, "64 63 62 61 00 00 00 01 72 71 82 81");
  page.at(104, "c0 c1 c2 c3 c4 c5 c6 c7 c8 c9 ca cb cc cd ce cf e0 e1 e2 e3 e4 e5 e6 e7");
  page.at(128, "00 00 09 01 08 00 0c 00");
  EXPECT_PAGE(ns, page);
  EXPECT_EQ(ns.format_index(), 1);
  EXPECT_EQ(ns.block_bytes(), 4096U);
  EXPECT_EQ(ns.format().ms, 8);
}

TEST(IdentifyNamespace, FormatIndexUsesItsHighBitsOnlyAboveSixteenFormats) {
  IdentifyNamespace ns;
  ns.flbas = 0x75;  // high bits 11b, metadata bit, low bits 5
  ns.nlbaf = 15;
  EXPECT_EQ(ns.format_index(), 5);
  ns.nlbaf = 63;
  EXPECT_EQ(ns.format_index(), 0x35);
}

TEST(IdentifyNamespace, RefusesBlockSizesNobodyHas) {
  IdentifyNamespace ns;
  ns.nsze = 1;
  for (const std::uint8_t lbads : std::initializer_list<std::uint8_t>{0, 1, 8, 32, 63, 64, 255}) {
    ns.lbaf[0].lbads = lbads;
    EXPECT_EQ(ns.block_bytes(), 0U) << int{lbads};
    EXPECT_EQ(ns.size_bytes(), 0U) << int{lbads};
  }
  ns.lbaf[0].lbads = 9;
  EXPECT_EQ(ns.block_bytes(), 512U);
  ns.lbaf[0].lbads = 31;
  EXPECT_EQ(ns.block_bytes(), 0x80000000U);
}

TEST(IdentifyNamespace, SizeInBytesDoesNotOverflow) {
  IdentifyNamespace ns;
  ns.lbaf[0].lbads = 12;
  ns.nsze = 256;
  EXPECT_EQ(ns.size_bytes(), 1048576U);
  ns.nsze = ~std::uint64_t{0} / 4096;
  EXPECT_EQ(ns.size_bytes(), ns.nsze * 4096);
  ns.nsze += 1;
  EXPECT_EQ(ns.size_bytes(), 0U);
  EXPECT_FALSE(IdentifyNamespace{}.is_active());
}

TEST(IdentifyNamespace, IndependentData) {
  IdentifyIndependentNamespace ns;
  ns.nsfeat = 1;
  ns.nmic = 2;
  ns.rescap = 3;
  ns.fpi = 4;
  ns.anagrpid = 0x11121314;
  ns.nsattr = 5;
  ns.nvmsetid = 0x2122;
  ns.endgid = 0x3132;
  ns.nstat = 1;
  EXPECT_PAGE(ns, Page(4096).at(0, "01 02 03 04 14 13 12 11 05 00 22 21 32 31 01"));
}

TEST(NamespaceList, EndsAtTheFirstZeroOrWhenFull) {
  NamespaceList list;
  EXPECT_TRUE(list.entries().empty());
  list.ids[0] = Nsid{1};
  list.ids[1] = Nsid{7};
  list.ids[3] = Nsid{9};
  ASSERT_EQ(list.entries().size(), 2U);
  EXPECT_EQ(list.entries()[1], Nsid{7});
  EXPECT_PAGE(list, Page(4096).at(0, "01 00 00 00 07 00 00 00 00 00 00 00 09 00 00 00"));
  list.ids.fill(Nsid{3});
  EXPECT_EQ(list.entries().size(), 1024U);
}

TEST(Descriptors, BuildsAndReadsEveryType) {
  std::vector<std::byte> page(64, std::byte{0xFF});
  Uuid uuid;
  std::array<std::byte, 16> nguid{};
  std::array<std::byte, 8> eui64{};
  for (std::size_t i = 0; i < 16; ++i) uuid.bytes[i] = static_cast<std::byte>(0x10 + i);
  for (std::size_t i = 0; i < 16; ++i) nguid[i] = static_cast<std::byte>(0x30 + i);
  for (std::size_t i = 0; i < 8; ++i) eui64[i] = static_cast<std::byte>(0x50 + i);
  DescriptorBuilder out(page);
  EXPECT_TRUE(out.add_eui64(eui64));
  EXPECT_TRUE(out.add_nguid(nguid));
  EXPECT_TRUE(out.add_uuid(uuid));
  EXPECT_TRUE(out.add_csi(Csi::kZoned));
  EXPECT_EQ(out.used_bytes(), 12U + 20 + 20 + 5);
  EXPECT_EQ(test::dump(page), test::dump(hex("01 08 00 00 50 51 52 53 54 55 56 57"
                                             "02 10 00 00 30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f"
                                             "03 10 00 00 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f"
                                             "04 01 00 00 02" +
                                             test::zeros(7))));

  DescriptorCursor in(page);
  auto first = in.next();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->type, DescriptorType::kEui64);
  EXPECT_TRUE(first->uuid().is_nil());
  auto second = in.next();
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->type, DescriptorType::kNguid);
  EXPECT_EQ(second->uuid().bytes, nguid);
  auto third = in.next();
  ASSERT_TRUE(third.has_value());
  EXPECT_EQ(third->type, DescriptorType::kUuid);
  EXPECT_EQ(third->uuid(), uuid);
  auto fourth = in.next();
  ASSERT_TRUE(fourth.has_value());
  EXPECT_EQ(fourth->type, DescriptorType::kCsi);
  EXPECT_EQ(fourth->id[0], std::byte{2});
  EXPECT_FALSE(in.next().has_value());
  EXPECT_FALSE(in.malformed());
}

TEST(Descriptors, BuilderRefusesWhatDoesNotFitAndKeepsTheRest) {
  std::vector<std::byte> page(24);
  DescriptorBuilder out(page);
  EXPECT_TRUE(out.add_uuid(Uuid{}));
  EXPECT_FALSE(out.add_csi(Csi::kNvm)) << "4 bytes left, 5 needed";
  EXPECT_EQ(out.used_bytes(), 20U);
  EXPECT_FALSE(out.add(DescriptorType::kUuid, std::span<const std::byte>()));
  EXPECT_FALSE(DescriptorBuilder(std::span<std::byte>()).add_csi(Csi::kNvm));
}

TEST(Descriptors, CursorSkipsUnknownTypes) {
  const auto page = hex("09 03 00 00 aa bb cc 04 01 00 00 00 00 00 00 00");
  DescriptorCursor in(page);
  const auto descriptor = in.next();
  ASSERT_TRUE(descriptor.has_value());
  EXPECT_EQ(descriptor->type, DescriptorType::kCsi);
  EXPECT_FALSE(in.next().has_value());
  EXPECT_FALSE(in.malformed());
}

TEST(Descriptors, CursorStopsAtALieAndStaysStopped) {
  for (const auto* text : {"03 10 00 00 11 22",                          // longer than the view
                           "03 08 00 00 11 22 33 44 55 66 77 88",        // a UUID of 8 bytes
                           "04 ff 00 00 00", "09 05 00 00 01 02 03"}) {  // unknown type past the end
    const auto page = hex(text);
    DescriptorCursor in(page);
    EXPECT_FALSE(in.next().has_value()) << text;
    EXPECT_TRUE(in.malformed()) << text;
    EXPECT_FALSE(in.next().has_value()) << text;
  }
}

TEST(Descriptors, CursorEndsQuietlyAtTheEndOfTheView) {
  for (const auto* text : {"", "03", "03 10 00", "00 00 00 00", "03 00 00 00 11"}) {
    const auto page = hex(text);
    DescriptorCursor in(page);
    EXPECT_FALSE(in.next().has_value()) << text;
    EXPECT_FALSE(in.malformed()) << text;
  }
}

RC_GTEST_PROP(Descriptors, CursorStaysInsideAnyBytesAndEnds, (std::vector<std::uint8_t> raw)) {
  std::vector<std::byte> page;
  for (const auto byte : raw) page.push_back(static_cast<std::byte>(byte));
  page.shrink_to_fit();
  DescriptorCursor in(page);
  std::size_t count = 0;
  while (const auto descriptor = in.next()) {
    RC_ASSERT(descriptor->id.size() == descriptor_bytes(descriptor->type));
    RC_ASSERT(descriptor->id.data() >= page.data());
    RC_ASSERT(descriptor->id.data() + descriptor->id.size() <= page.data() + page.size());
    RC_ASSERT(++count <= page.size() / 5);
  }
}

}  // namespace
}  // namespace leap::nvme
