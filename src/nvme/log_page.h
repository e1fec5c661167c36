// Log pages every controller has: error information (01h), SMART / health (02h), firmware slot (03h), changed
// namespaces (04h, NamespaceList in identify_namespace.h), commands supported and effects (05h), supported pages (00h).
// The discovery log page is in discovery.h.
//
// Structures are the wire; 128-bit counters are little-endian. Source: NVMe Base 2.0, 5.16.1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "nvme/admin_command.h"
#include "nvme/completion.h"
#include "nvme/ids.h"
#include "nvme/wire.h"

namespace leap::nvme {

/// One entry of the Error Information log page (5.16.1.2), newest first; error_count 0 marks an unused entry.
struct ErrorLogEntry {
  std::uint64_t error_count = 0;  ///< 1 for the first error, never reset
  Qid sqid{};
  Cid cid{};
  std::uint16_t status_word = 0;         ///< as in the completion, phase bit 0 included
  std::uint16_t parameter_location = 0;  ///< bits 7:0 byte, bits 10:8 bit; FFFFh: not a command's parameter
  std::uint64_t lba = 0;
  Nsid nsid{};
  std::uint8_t vendor_info = 0;
  std::uint8_t trtype = 0;
  std::uint8_t csi = 0;
  std::uint8_t opcode = 0;  ///< 2.1
  std::uint64_t command_specific = 0;
  std::uint16_t transport_specific = 0;
  std::array<std::uint8_t, 21> reserved42{};
  std::uint8_t version = 0;  ///< 2.1: 1 when csi and opcode are valid

  [[nodiscard]] constexpr NvmeStatusCode status() const { return decode_status(status_word); }
  friend constexpr bool operator==(const ErrorLogEntry&, const ErrorLogEntry&) = default;
};
static_assert(sizeof(ErrorLogEntry) == 64 && WireStruct<ErrorLogEntry>);
static_assert(offsetof(ErrorLogEntry, sqid) == 8 && offsetof(ErrorLogEntry, cid) == 10);
static_assert(offsetof(ErrorLogEntry, status_word) == 12 && offsetof(ErrorLogEntry, lba) == 16);
static_assert(offsetof(ErrorLogEntry, nsid) == 24 && offsetof(ErrorLogEntry, trtype) == 29);
static_assert(offsetof(ErrorLogEntry, command_specific) == 32 && offsetof(ErrorLogEntry, version) == 63);

// Critical Warning of the SMART log, and of AsyncEventConfig::smart_critical.
inline constexpr std::uint8_t kWarnSpare = 1U << 0;
inline constexpr std::uint8_t kWarnTemperature = 1U << 1;
inline constexpr std::uint8_t kWarnReliability = 1U << 2;
inline constexpr std::uint8_t kWarnReadOnly = 1U << 3;
inline constexpr std::uint8_t kWarnBackupFailed = 1U << 4;

/// SMART / Health Information (5.16.1.3).
struct SmartLog {
  std::uint8_t critical_warning = 0;
  std::array<std::uint8_t, 2> temperature{};  ///< kelvin, unaligned: use temperature_kelvin()
  std::uint8_t available_spare = 0;           ///< percent
  std::uint8_t available_spare_threshold = 0;
  std::uint8_t percentage_used = 0;  ///< may exceed 100
  std::uint8_t endurance_group_warning = 0;
  std::array<std::uint8_t, 25> reserved7{};
  Uint128 data_units_read{};     ///< thousands of 512-byte units, rounded up
  Uint128 data_units_written{};  ///< likewise
  Uint128 host_reads{};
  Uint128 host_writes{};
  Uint128 controller_busy_minutes{};
  Uint128 power_cycles{};
  Uint128 power_on_hours{};
  Uint128 unsafe_shutdowns{};
  Uint128 media_errors{};
  Uint128 error_log_entries{};
  std::uint32_t warning_temperature_minutes = 0;
  std::uint32_t critical_temperature_minutes = 0;
  std::array<std::uint16_t, 8> sensors{};  ///< kelvin, 0: no such sensor
  std::array<std::uint32_t, 4> thermal_management{};
  std::array<std::uint8_t, 280> reserved232{};

  [[nodiscard]] constexpr std::uint16_t temperature_kelvin() const {
    return static_cast<std::uint16_t>(temperature[0] | (temperature[1] << 8));
  }
  constexpr void set_temperature_kelvin(std::uint16_t kelvin) {
    temperature = {static_cast<std::uint8_t>(kelvin & 0xFF), static_cast<std::uint8_t>(kelvin >> 8)};
  }
  friend constexpr bool operator==(const SmartLog&, const SmartLog&) = default;
};
static_assert(sizeof(SmartLog) == 512 && WireStruct<SmartLog>);
static_assert(offsetof(SmartLog, temperature) == 1 && offsetof(SmartLog, available_spare) == 3);
static_assert(offsetof(SmartLog, data_units_read) == 32 && offsetof(SmartLog, data_units_written) == 48);
static_assert(offsetof(SmartLog, host_reads) == 64 && offsetof(SmartLog, controller_busy_minutes) == 96);
static_assert(offsetof(SmartLog, power_on_hours) == 128 && offsetof(SmartLog, error_log_entries) == 176);
static_assert(offsetof(SmartLog, warning_temperature_minutes) == 192 && offsetof(SmartLog, sensors) == 200);
static_assert(offsetof(SmartLog, thermal_management) == 216 && offsetof(SmartLog, reserved232) == 232);

/// Data Units as the SMART log counts them: thousands of 512 bytes, rounded up.
[[nodiscard]] constexpr std::uint64_t smart_data_units(std::uint64_t bytes) {
  constexpr std::uint64_t kUnit = 512 * 1000;
  return bytes / kUnit + (bytes % kUnit != 0 ? 1 : 0);
}

/// Firmware Slot Information (5.16.1.4).
struct FirmwareSlotLog {
  std::uint8_t afi = 0;  ///< bits 2:0: the active slot
  std::array<std::uint8_t, 7> reserved1{};
  std::array<std::array<char, 8>, 7> frs{};  ///< revision of slots 1 to 7
  std::array<std::uint8_t, 448> reserved64{};
  friend constexpr bool operator==(const FirmwareSlotLog&, const FirmwareSlotLog&) = default;
};
static_assert(sizeof(FirmwareSlotLog) == 512 && offsetof(FirmwareSlotLog, frs) == 8 && WireStruct<FirmwareSlotLog>);

// One dword of the Commands Supported and Effects log page.
inline constexpr std::uint32_t kEffectSupported = 1U << 0;         ///< CSUPP
inline constexpr std::uint32_t kEffectContentChange = 1U << 1;     ///< LBCC
inline constexpr std::uint32_t kEffectNamespaceChange = 1U << 2;   ///< NCC
inline constexpr std::uint32_t kEffectInventoryChange = 1U << 3;   ///< NIC
inline constexpr std::uint32_t kEffectControllerChange = 1U << 4;  ///< CCC

/// Commands Supported and Effects (5.16.1.6).
struct CommandEffectsLog {
  std::array<std::uint32_t, 256> admin{};  ///< by opcode
  std::array<std::uint32_t, 256> io{};     ///< by opcode
  std::array<std::uint8_t, 2048> reserved2048{};

  constexpr void set(AdminOpcode opcode, std::uint32_t effects) { admin[static_cast<std::uint8_t>(opcode)] = effects; }
  constexpr void set(NvmOpcode opcode, std::uint32_t effects) { io[static_cast<std::uint8_t>(opcode)] = effects; }
  [[nodiscard]] constexpr std::uint32_t of(AdminOpcode opcode) const {
    return admin[static_cast<std::uint8_t>(opcode)];
  }
  [[nodiscard]] constexpr std::uint32_t of(NvmOpcode opcode) const { return io[static_cast<std::uint8_t>(opcode)]; }
  friend constexpr bool operator==(const CommandEffectsLog&, const CommandEffectsLog&) = default;
};
static_assert(sizeof(CommandEffectsLog) == 4096 && offsetof(CommandEffectsLog, io) == 1024);

/// Supported Log Pages (5.16.1.1): bit 0 LSUPP, bit 1 IOS, per page.
struct SupportedLogPages {
  std::array<std::uint32_t, 256> pages{};
  constexpr void set(LogPage page) { pages[static_cast<std::uint8_t>(page)] = 1; }
  [[nodiscard]] constexpr bool supports(LogPage page) const {
    return (pages[static_cast<std::uint8_t>(page)] & 1) != 0;
  }
  friend constexpr bool operator==(const SupportedLogPages&, const SupportedLogPages&) = default;
};
static_assert(sizeof(SupportedLogPages) == 1024);

}  // namespace leap::nvme
