// Admin commands: builders for the host, accessors for the target (NVMe Base 2.0, 5).
//
// As in nvm_command.h: builders leave CID and the data pointer to the queue pair, lengths are bytes (0's based dwords
// stay inside), accessors never fail and the caller checks what they return. Feature values: features.h; log pages:
// log_page.h, discovery.h; Identify data: identify.h.
//
//   Command cmd = make_identify_controller();              // 4096 bytes to the host
//   Command log = make_get_log_page({.lid = LogPage::kDiscovery, .bytes = 1024, .offset = 0});
#pragma once

#include <cstdint>

#include "base/check.h"
#include "nvme/command.h"
#include "nvme/features.h"

namespace leap::nvme {

/// Controller or Namespace Structure (Identify, CDW10 bits 7:0; NVMe Base 2.0, 5.17).
enum class Cns : std::uint8_t {
  kNamespace = 0x00,
  kController = 0x01,
  kActiveNamespaceList = 0x02,
  kNamespaceDescriptors = 0x03,
  kNvmSetList = 0x04,
  kIoCommandSetNamespace = 0x05,
  kIoCommandSetController = 0x06,
  kIoCommandSetActiveNamespaceList = 0x07,
  kIndependentNamespace = 0x08,
  kAllocatedNamespaceList = 0x10,
  kAllocatedNamespace = 0x11,
  kNamespaceControllerList = 0x12,
  kControllerList = 0x13,
  kPrimaryControllerCapabilities = 0x14,
  kSecondaryControllerList = 0x15,
  kNamespaceGranularityList = 0x16,
  kUuidList = 0x17,
  kDomainList = 0x18,
  kEnduranceGroupList = 0x19,
  kIoCommandSets = 0x1C,
};

/// Command Set Identifier (NVMe Base 2.0, 5.17.1).
enum class Csi : std::uint8_t { kNvm = 0x00, kKeyValue = 0x01, kZoned = 0x02 };

inline constexpr std::uint32_t kIdentifyBytes = 4096;

struct IdentifyFields {
  Cns cns = Cns::kController;
  Nsid nsid{};
  Cntlid cntid{};                  ///< CDW10 bits 31:16
  Csi csi = Csi::kNvm;             ///< CDW11 bits 31:24
  std::uint16_t cns_specific = 0;  ///< CDW11 bits 15:0
};
[[nodiscard]] constexpr Command make_identify(const IdentifyFields& fields) {
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(AdminOpcode::kIdentify);
  cmd.nsid = fields.nsid;
  cmd.cdw10 = static_cast<std::uint32_t>(fields.cns) | (static_cast<std::uint32_t>(fields.cntid.value()) << 16);
  cmd.cdw11 = fields.cns_specific | (static_cast<std::uint32_t>(fields.csi) << 24);
  return cmd;
}
[[nodiscard]] constexpr IdentifyFields identify_fields(const Command& cmd) {
  return {.cns = static_cast<Cns>(get_bits<0, 8>(cmd.cdw10)),
          .nsid = cmd.nsid,
          .cntid = Cntlid{static_cast<std::uint16_t>(get_bits<16, 16>(cmd.cdw10))},
          .csi = static_cast<Csi>(get_bits<24, 8>(cmd.cdw11)),
          .cns_specific = static_cast<std::uint16_t>(get_bits<0, 16>(cmd.cdw11))};
}
[[nodiscard]] constexpr Command make_identify_controller() { return make_identify({.cns = Cns::kController}); }
[[nodiscard]] constexpr Command make_identify_namespace(Nsid nsid) {
  return make_identify({.cns = Cns::kNamespace, .nsid = nsid});
}
/// Up to 1024 active ids above `after`, ascending; start with kNoNamespace.
[[nodiscard]] constexpr Command make_identify_active_namespaces(Nsid after) {
  return make_identify({.cns = Cns::kActiveNamespaceList, .nsid = after});
}
[[nodiscard]] constexpr Command make_identify_descriptors(Nsid nsid) {
  return make_identify({.cns = Cns::kNamespaceDescriptors, .nsid = nsid});
}

/// Log Page Identifier (NVMe Base 2.0, 5.16.1).
enum class LogPage : std::uint8_t {
  kSupportedLogPages = 0x00,
  kErrorInformation = 0x01,
  kSmart = 0x02,
  kFirmwareSlot = 0x03,
  kChangedNamespaces = 0x04,
  kCommandsSupportedAndEffects = 0x05,
  kDeviceSelfTest = 0x06,
  kTelemetryHost = 0x07,
  kTelemetryController = 0x08,
  kEnduranceGroup = 0x09,
  kAna = 0x0C,
  kPersistentEvent = 0x0D,
  kFeatureEffects = 0x12,
  kDiscovery = 0x70,
  kReservationNotification = 0x80,
  kSanitizeStatus = 0x81,
};

struct GetLogPageFields {
  LogPage lid = LogPage::kErrorInformation;
  Nsid nsid = kAllNamespaces;  ///< kAllNamespaces or kNoNamespace: the controller's page
  std::uint64_t bytes = 0;     ///< a multiple of 4, 4 to 16 GiB
  std::uint64_t offset = 0;    ///< LPO: bytes, a multiple of 4
  std::uint8_t lsp = 0;        ///< Log Specific Parameter, 7 bits
  bool retain_event = false;   ///< RAE
  std::uint16_t lsi = 0;       ///< Log Specific Identifier
  std::uint8_t uuid_index = 0;
  bool index_offset = false;  ///< OT: offset counts entries, not bytes
  Csi csi = Csi::kNvm;
};
/// Get Log Page (5.16). Precondition: bytes as stated.
[[nodiscard]] constexpr Command make_get_log_page(const GetLogPageFields& fields) {
  LEAP_DCHECK(fields.bytes >= 4 && fields.bytes % 4 == 0 && fields.bytes <= (std::uint64_t{1} << 34),
              "Get Log Page moves whole dwords, NUMD is 32 bits");
  const std::uint64_t numd = fields.bytes / 4 - 1;
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(AdminOpcode::kGetLogPage);
  cmd.nsid = fields.nsid;
  std::uint32_t cdw10 = static_cast<std::uint32_t>(fields.lid);
  cdw10 = set_bits<8, 7>(cdw10, fields.lsp);
  cdw10 = set_bit<15>(cdw10, fields.retain_event);
  cmd.cdw10 = set_bits<16, 16>(cdw10, numd & 0xFFFF);
  cmd.cdw11 = static_cast<std::uint32_t>((numd >> 16) & 0xFFFF) | (static_cast<std::uint32_t>(fields.lsi) << 16);
  cmd.cdw12 = static_cast<std::uint32_t>(fields.offset & 0xFFFFFFFF);
  cmd.cdw13 = static_cast<std::uint32_t>(fields.offset >> 32);
  std::uint32_t cdw14 = set_bits<0, 7>(std::uint32_t{0}, fields.uuid_index);
  cdw14 = set_bit<23>(cdw14, fields.index_offset);
  cmd.cdw14 = set_bits<24, 8>(cdw14, static_cast<std::uint8_t>(fields.csi));
  return cmd;
}
[[nodiscard]] constexpr GetLogPageFields get_log_page_fields(const Command& cmd) {
  const std::uint64_t numd = get_bits<16, 16>(cmd.cdw10) | (std::uint64_t{get_bits<0, 16>(cmd.cdw11)} << 16);
  return {.lid = static_cast<LogPage>(get_bits<0, 8>(cmd.cdw10)),
          .nsid = cmd.nsid,
          .bytes = (numd + 1) * 4,
          .offset = cmd.cdw12_13(),
          .lsp = static_cast<std::uint8_t>(get_bits<8, 7>(cmd.cdw10)),
          .retain_event = get_bit<15>(cmd.cdw10),
          .lsi = static_cast<std::uint16_t>(get_bits<16, 16>(cmd.cdw11)),
          .uuid_index = static_cast<std::uint8_t>(get_bits<0, 7>(cmd.cdw14)),
          .index_offset = get_bit<23>(cmd.cdw14),
          .csi = static_cast<Csi>(get_bits<24, 8>(cmd.cdw14))};
}

/// Get Features, Select (CDW10 bits 10:8).
enum class FeatureSelect : std::uint8_t { kCurrent = 0, kDefault = 1, kSaved = 2, kCapabilities = 3 };

/// Set Features (5.27); `value` is CDW11, made by features.h.
[[nodiscard]] constexpr Command make_set_features(FeatureId fid, std::uint32_t value, Nsid nsid = kNoNamespace,
                                                  bool save = false) {
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(AdminOpcode::kSetFeatures);
  cmd.nsid = nsid;
  cmd.cdw10 = set_bit<31>(static_cast<std::uint32_t>(fid), save);
  cmd.cdw11 = value;
  return cmd;
}
struct SetFeaturesFields {
  FeatureId fid{};
  bool save = false;
  std::uint32_t value = 0;  ///< CDW11
};
[[nodiscard]] constexpr SetFeaturesFields set_features_fields(const Command& cmd) {
  return {.fid = static_cast<FeatureId>(get_bits<0, 8>(cmd.cdw10)), .save = get_bit<31>(cmd.cdw10), .value = cmd.cdw11};
}

/// Get Features (5.15); the value comes back in DW0 of the completion.
[[nodiscard]] constexpr Command make_get_features(FeatureId fid, FeatureSelect select = FeatureSelect::kCurrent,
                                                  Nsid nsid = kNoNamespace, std::uint32_t cdw11 = 0) {
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(AdminOpcode::kGetFeatures);
  cmd.nsid = nsid;
  cmd.cdw10 = set_bits<8, 3>(static_cast<std::uint32_t>(fid), static_cast<std::uint8_t>(select));
  cmd.cdw11 = cdw11;
  return cmd;
}
struct GetFeaturesFields {
  FeatureId fid{};
  FeatureSelect select = FeatureSelect::kCurrent;
  std::uint32_t cdw11 = 0;
};
[[nodiscard]] constexpr GetFeaturesFields get_features_fields(const Command& cmd) {
  return {.fid = static_cast<FeatureId>(get_bits<0, 8>(cmd.cdw10)),
          .select = static_cast<FeatureSelect>(get_bits<8, 3>(cmd.cdw10)),
          .cdw11 = cmd.cdw11};
}

/// Asynchronous Event Request (5.2): no data; completes when something happens. Result: AsyncEvent in features.h.
[[nodiscard]] constexpr Command make_async_event_request() {
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(AdminOpcode::kAsyncEventRequest);
  return cmd;
}

/// Keep Alive (5.18): no data.
[[nodiscard]] constexpr Command make_keep_alive() {
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(AdminOpcode::kKeepAlive);
  return cmd;
}

/// Abort (5.1): best effort. Bit 0 of DW0 of its completion is clear when the command was aborted.
struct AbortFields {
  Qid sqid{};
  Cid cid{};
};
[[nodiscard]] constexpr Command make_abort(Qid sqid, Cid cid) {
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(AdminOpcode::kAbort);
  cmd.cdw10 = sqid.value() | (static_cast<std::uint32_t>(cid.value()) << 16);
  return cmd;
}
[[nodiscard]] constexpr AbortFields abort_fields(const Command& cmd) {
  return {.sqid = Qid{static_cast<std::uint16_t>(get_bits<0, 16>(cmd.cdw10))},
          .cid = Cid{static_cast<std::uint16_t>(get_bits<16, 16>(cmd.cdw10))}};
}
/// DW0 of an Abort completion.
[[nodiscard]] constexpr std::uint32_t abort_result(bool aborted) { return aborted ? 0 : 1; }
[[nodiscard]] constexpr bool was_aborted(std::uint32_t dw0) { return (dw0 & 1) == 0; }

}  // namespace leap::nvme
