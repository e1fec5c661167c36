#include "nvme/log_page.h"

#include <gtest/gtest.h>

#include "nvme/discovery.h"
#include "nvme/status.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

using test::Page;

TEST(LogPage, ErrorEntry) {
  ErrorLogEntry entry;
  entry.error_count = 0x0102030405060708;
  entry.sqid = Qid{0x1112};
  entry.cid = Cid{0x1314};
  entry.status_word = encode_status(status(GenericStatus::kLbaOutOfRange, kDnr), true);
  entry.parameter_location = 0x0728;
  entry.lba = 0x2122232425262728;
  entry.nsid = Nsid{0x31323334};
  entry.vendor_info = 0x41;
  entry.trtype = 3;
  entry.csi = 0x42;
  entry.opcode = 0x02;
  entry.command_specific = 0x5152535455565758;
  entry.transport_specific = 0x6162;
  entry.version = 1;
  Page page(64);
  page.at(0, "08 07 06 05 04 03 02 01 12 11 14 13 01 81 28 07 28 27 26 25 24 23 22 21 34 33 32 31 41 03 42 02");
  page.at(32, "58 57 56 55 54 53 52 51 62 61").at(63, "01");
  EXPECT_PAGE(entry, page);
  EXPECT_EQ(entry.status(), status(GenericStatus::kLbaOutOfRange, kDnr));
}

TEST(LogPage, Smart) {
  SmartLog log;
  log.critical_warning = kWarnTemperature;
  log.set_temperature_kelvin(0x012C);
  log.available_spare = 100;
  log.available_spare_threshold = 10;
  log.percentage_used = 3;
  log.data_units_read = {.low = 0x0102030405060708, .high = 0x1112131415161718};
  log.data_units_written.low = 2;
  log.host_reads.low = 3;
  log.host_writes.low = 4;
  log.controller_busy_minutes.low = 5;
  log.power_cycles.low = 6;
  log.power_on_hours.low = 7;
  log.unsafe_shutdowns.low = 8;
  log.media_errors.low = 9;
  log.error_log_entries.low = 10;
  log.warning_temperature_minutes = 11;
  log.critical_temperature_minutes = 12;
  log.sensors[7] = 0x2122;
  log.thermal_management[3] = 0x31323334;
  Page page(512);
  page.at(0, "02 2c 01 64 0a 03").at(32, "08 07 06 05 04 03 02 01 18 17 16 15 14 13 12 11 02");
  page.at(64, "03").at(80, "04").at(96, "05").at(112, "06").at(128, "07").at(144, "08").at(160, "09").at(176, "0a");
  page.at(192, "0b 00 00 00 0c").at(214, "22 21").at(228, "34 33 32 31");
  EXPECT_PAGE(log, page);
  EXPECT_EQ(log.temperature_kelvin(), 300);
}

TEST(LogPage, SmartDataUnitsRoundUp) {
  EXPECT_EQ(smart_data_units(0), 0U);
  EXPECT_EQ(smart_data_units(1), 1U);
  EXPECT_EQ(smart_data_units(512000), 1U);
  EXPECT_EQ(smart_data_units(512001), 2U);
  EXPECT_EQ(smart_data_units(~std::uint64_t{0}), 36028797018964U);
}

TEST(LogPage, FirmwareSlots) {
  FirmwareSlotLog log;
  log.afi = 1;
  log.frs[0] = {'0', '.', '1', '.', '0', ' ', ' ', ' '};
  log.frs[6] = {'Z', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
  EXPECT_PAGE(log, Page(512).at(0, "01").text(8, "0.1.0   ").text(56, "Z       "));
}

TEST(LogPage, CommandEffectsAreIndexedByOpcode) {
  CommandEffectsLog log;
  log.set(AdminOpcode::kIdentify, kEffectSupported);
  log.set(NvmOpcode::kWrite, kEffectSupported | kEffectContentChange);
  EXPECT_PAGE(log, Page(4096).at(6 * 4, "01").at(1024 + 1 * 4, "03"));
  EXPECT_EQ(log.of(NvmOpcode::kWrite), 3U);
  EXPECT_EQ(log.of(NvmOpcode::kRead), 0U);
  EXPECT_EQ(log.of(AdminOpcode::kIdentify), 1U);
}

TEST(LogPage, SupportedPagesAreIndexedByIdentifier) {
  SupportedLogPages log;
  log.set(LogPage::kDiscovery);
  EXPECT_PAGE(log, Page(1024).at(0x70 * 4, "01"));
  EXPECT_TRUE(log.supports(LogPage::kDiscovery));
  EXPECT_FALSE(log.supports(LogPage::kSmart));
}

TEST(Discovery, Header) {
  DiscoveryHeader header;
  header.genctr = 0x0102030405060708;
  header.numrec = 2;
  header.recfmt = 0;
  EXPECT_PAGE(header, Page(1024).at(0, "08 07 06 05 04 03 02 01 02"));
  EXPECT_EQ(discovery_entry_offset(0), 1024U);
  EXPECT_EQ(discovery_entry_offset(2), 3072U);
}

TEST(Discovery, Entry) {
  DiscoveryEntry entry;
  entry.trtype = DiscoveryTrtype::kTcp;
  entry.adrfam = DiscoveryAdrfam::kIpv6;
  entry.subtype = DiscoverySubtype::kCurrentDiscovery;
  entry.treq = kTreqSecureChannelNotRequired | kTreqDisableSqFlowControl;
  entry.portid = 0x0102;
  entry.cntlid = kDynamicCntlid;
  entry.asqsz = 32;
  entry.eflags = 1;
  fill_spaces(entry.trsvcid, "4420");
  fill_nul(entry.subnqn, "nqn.2024-01.io.example:sub");
  fill_spaces(entry.traddr, "::1");
  entry.tsas[0] = static_cast<std::uint8_t>(TcpSecurity::kTls13);
  Page page(1024);
  page.at(0, "03 02 03 06 02 01 ff ff 20 00 01 00").text(32, "4420" + std::string(28, ' '));
  page.text(256, "nqn.2024-01.io.example:sub").text(512, "::1" + std::string(253, ' ')).at(768, "02");
  EXPECT_PAGE(entry, page);
  EXPECT_EQ(entry.address(), "::1");
  EXPECT_EQ(entry.subsystem_nqn(), "nqn.2024-01.io.example:sub");
  EXPECT_EQ(entry.port(), 4420);
}

TEST(Discovery, PortIsANumberOrNothing) {
  DiscoveryEntry entry;
  for (const auto* text : {"", "0", "65536", "4420x", "x", "-1", " 4420", "+1", "99999999999999999999"}) {
    fill_spaces(entry.trsvcid, text);
    EXPECT_FALSE(entry.port().has_value()) << text;
  }
  fill_nul(entry.trsvcid, "65535");
  EXPECT_EQ(entry.port(), 65535);
  entry.trsvcid.fill('9');  // no terminator anywhere
  EXPECT_FALSE(entry.port().has_value());
  EXPECT_EQ(entry.service().size(), 32U);
}

}  // namespace
}  // namespace leap::nvme
