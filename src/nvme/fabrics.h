// Fabrics commands (NVMe Base 2.0, 6): Connect, Property Get and Set, Disconnect; their data and results.
//
//   Command connect = make_connect({.qid = Qid{1}, .entries = 128, .kato_ms = 0});
//   connect.set_sgl(SglDescriptor::in_capsule(sizeof(ConnectData)));
//   ConnectData data = make_connect_data(host_uuid, cntlid, subnqn, hostnqn);
//   ...
//   const ConnectResponse response = ConnectResponse::from_dword(cqe.dw0);
//
// Builders fill opcode, FCTYPE and PSDT (Fabrics allows SGLs only); CID and the descriptor belong to the queue pair.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/uuid.h"
#include "nvme/command.h"
#include "nvme/nqn.h"
#include "nvme/properties.h"
#include "nvme/text.h"

namespace leap::nvme {

/// Fabrics Command Type (byte 4 of a command with opcode 7Fh).
enum class Fctype : std::uint8_t {
  kPropertySet = 0x00,
  kConnect = 0x01,
  kPropertyGet = 0x04,
  kAuthenticationSend = 0x05,
  kAuthenticationReceive = 0x06,
  kDisconnect = 0x08,
};
[[nodiscard]] constexpr Fctype fctype_of(const Command& cmd) { return static_cast<Fctype>(cmd.fctype()); }

namespace detail {
[[nodiscard]] constexpr Command make_fabrics(Fctype type) {
  Command cmd{};
  cmd.opcode = kFabricsOpcode;
  cmd.nsid = Nsid{static_cast<std::uint32_t>(type)};
  cmd.set_psdt(Psdt::kSgl);
  return cmd;
}
}  // namespace detail

/// Fewest entries of an Admin submission queue on fabrics (NVMe Base 2.0, 3.3.2.2, ASQSZ).
inline constexpr std::uint32_t kMinAdminQueueEntries = 32;

/// Connect (6.3), bytes 40-51.
struct ConnectFields {
  std::uint16_t recfmt = 0;
  Qid qid{};
  std::uint32_t entries = 0;             ///< of the submission queue, 2 to 65536 (SQSIZE is 0's based)
  bool disable_sq_flow_control = false;  ///< CATTR bit 2
  std::uint8_t cattr = 0;                ///< all of CATTR as received; builders use the field above
  std::uint32_t kato_ms = 0;             ///< Admin queue only; 0: no keep alive
};
[[nodiscard]] constexpr Command make_connect(const ConnectFields& fields) {
  LEAP_DCHECK(fields.entries >= 1 && fields.entries <= 65536, "SQSIZE is 16 bits, 0's based");
  Command cmd = detail::make_fabrics(Fctype::kConnect);
  cmd.cdw10 = fields.recfmt | (static_cast<std::uint32_t>(fields.qid.value()) << 16);
  cmd.cdw11 = set_bit<18>((fields.entries - 1) & 0xFFFF, fields.disable_sq_flow_control);
  cmd.cdw12 = fields.kato_ms;
  return cmd;
}
[[nodiscard]] constexpr ConnectFields connect_fields(const Command& cmd) {
  return {.recfmt = static_cast<std::uint16_t>(get_bits<0, 16>(cmd.cdw10)),
          .qid = Qid{static_cast<std::uint16_t>(get_bits<16, 16>(cmd.cdw10))},
          .entries = get_bits<0, 16>(cmd.cdw11) + 1,
          .disable_sq_flow_control = get_bit<18>(cmd.cdw11),
          .cattr = static_cast<std::uint8_t>(get_bits<16, 8>(cmd.cdw11)),
          .kato_ms = cmd.cdw12};
}

/// Data of the Connect command (6.3).
struct ConnectData {
  Uuid hostid{};
  Cntlid cntlid = kDynamicCntlid;
  std::array<std::uint8_t, 238> reserved18{};
  std::array<char, 256> subnqn{};
  std::array<char, 256> hostnqn{};
  std::array<std::uint8_t, 256> reserved768{};
  friend bool operator==(const ConnectData&, const ConnectData&) = default;
};
static_assert(sizeof(ConnectData) == 1024 && WireStruct<ConnectData>);
static_assert(offsetof(ConnectData, cntlid) == 16 && offsetof(ConnectData, subnqn) == 256);
static_assert(offsetof(ConnectData, hostnqn) == 512 && offsetof(ConnectData, reserved768) == 768);

/// Precondition: both names passed validate_nqn().
[[nodiscard]] constexpr ConnectData make_connect_data(const Uuid& hostid, Cntlid cntlid, std::string_view subnqn,
                                                      std::string_view hostnqn) {
  ConnectData data;
  data.hostid = hostid;
  data.cntlid = cntlid;
  fill_nul(data.subnqn, subnqn);
  fill_nul(data.hostnqn, hostnqn);
  return data;
}

/// DW0 of a successful Connect (6.3).
struct ConnectResponse {
  Cntlid cntlid{};
  std::uint16_t authreq = 0;  ///< bits 31:16; not 0: the controller wants authentication first
  [[nodiscard]] constexpr std::uint32_t to_dword() const {
    return cntlid.value() | (static_cast<std::uint32_t>(authreq) << 16);
  }
  [[nodiscard]] static constexpr ConnectResponse from_dword(std::uint32_t dword) {
    return {.cntlid = Cntlid{static_cast<std::uint16_t>(get_bits<0, 16>(dword))},
            .authreq = static_cast<std::uint16_t>(get_bits<16, 16>(dword))};
  }
};

/// DW0 of a Connect refused with FabricsStatus::kConnectInvalidParameters: where the bad parameter is (6.3).
struct ConnectInvalid {
  std::uint16_t ipo = 0;  ///< byte offset of the parameter
  bool in_data = false;   ///< IATTR bit 0: offset into ConnectData, otherwise into the SQE
  [[nodiscard]] constexpr std::uint32_t to_dword() const { return ipo | (in_data ? 1U << 16 : 0U); }
  [[nodiscard]] static constexpr ConnectInvalid from_dword(std::uint32_t dword) {
    return {.ipo = static_cast<std::uint16_t>(get_bits<0, 16>(dword)), .in_data = get_bit<16>(dword)};
  }

  static constexpr std::uint16_t kRecfmt = 40;  ///< offsets into the SQE
  static constexpr std::uint16_t kQid = 42;
  static constexpr std::uint16_t kSqsize = 44;
  static constexpr std::uint16_t kKato = 48;
  static constexpr std::uint16_t kHostid = 0;  ///< offsets into ConnectData
  static constexpr std::uint16_t kCntlid = 16;
  static constexpr std::uint16_t kSubnqn = 256;
  static constexpr std::uint16_t kHostnqn = 512;
};

/// Property Get (6.5): the value comes back in DW0 and DW1.
[[nodiscard]] constexpr Command make_property_get(PropertyOffset offset) {
  Command cmd = detail::make_fabrics(Fctype::kPropertyGet);
  cmd.cdw10 = is_64bit(offset) ? 1 : 0;
  cmd.cdw11 = static_cast<std::uint32_t>(offset);
  return cmd;
}
/// Property Set (6.6).
[[nodiscard]] constexpr Command make_property_set(PropertyOffset offset, std::uint64_t value) {
  Command cmd = detail::make_fabrics(Fctype::kPropertySet);
  cmd.cdw10 = is_64bit(offset) ? 1 : 0;
  cmd.cdw11 = static_cast<std::uint32_t>(offset);
  cmd.cdw12 = static_cast<std::uint32_t>(value & 0xFFFFFFFF);
  cmd.cdw13 = static_cast<std::uint32_t>(value >> 32);
  return cmd;
}
struct PropertyFields {
  PropertyOffset offset{};
  std::uint8_t bytes = 4;   ///< 4 or 8; 0 when ATTRIB holds a reserved size
  std::uint64_t value = 0;  ///< Property Set only
};
[[nodiscard]] constexpr PropertyFields property_fields(const Command& cmd) {
  const std::uint32_t size = get_bits<0, 3>(cmd.cdw10);
  PropertyFields fields{.offset = static_cast<PropertyOffset>(cmd.cdw11), .bytes = 0, .value = cmd.cdw12_13()};
  if (size == 0) fields.bytes = 4;
  if (size == 1) fields.bytes = 8;
  return fields;
}

/// Disconnect (6.4): deletes one I/O queue; only where OFCS says so, never on the Admin queue.
[[nodiscard]] constexpr Command make_disconnect() { return detail::make_fabrics(Fctype::kDisconnect); }

}  // namespace leap::nvme
