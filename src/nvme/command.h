// The submission queue entry (SQE), the data pointer it carries, and the opcodes.
//
//   byte  0      1      2-3   4-7    8-15        16-23  24-39                 40-63
//        +------+------+-----+------+-----------+------+---------------------+-----------------+
//        | OPC  |FUSE, | CID | NSID | CDW2,CDW3 | MPTR | DPTR: PRP1+2 or SGL | CDW10 ... CDW15 |
//        |      |PSDT  |     |      |           |      |                     |                 |
//        +------+------+-----+------+-----------+------+---------------------+-----------------+
//
// Source: NVMe Base 2.0, 3.3.3.1 (Submission Queue Entry), 4.1.2 (SGL), figure "Opcodes for Admin/Fabrics Commands";
// NVM Command Set 1.0, 3. Builders for whole commands: nvm_command.h, admin_command.h, fabrics.h.
// All functions are pure, constexpr and total; nothing here judges whether a command is allowed.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "nvme/ids.h"
#include "nvme/wire.h"

namespace leap::nvme {

/// Admin command opcodes (NVMe Base 2.0, 5).
enum class AdminOpcode : std::uint8_t {
  kDeleteIoSq = 0x00,
  kCreateIoSq = 0x01,
  kGetLogPage = 0x02,
  kDeleteIoCq = 0x04,
  kCreateIoCq = 0x05,
  kIdentify = 0x06,
  kAbort = 0x08,
  kSetFeatures = 0x09,
  kGetFeatures = 0x0A,
  kAsyncEventRequest = 0x0C,
  kNamespaceManagement = 0x0D,
  kFirmwareCommit = 0x10,
  kFirmwareImageDownload = 0x11,
  kDeviceSelfTest = 0x14,
  kNamespaceAttachment = 0x15,
  kKeepAlive = 0x18,
  kDoorbellBufferConfig = 0x7C,
  kFabrics = 0x7F,
  kFormatNvm = 0x80,
  kSecuritySend = 0x81,
  kSecurityReceive = 0x82,
  kSanitize = 0x84,
};

/// NVM command set opcodes (NVM Command Set 1.0, 3).
enum class NvmOpcode : std::uint8_t {
  kFlush = 0x00,
  kWrite = 0x01,
  kRead = 0x02,
  kWriteUncorrectable = 0x04,
  kCompare = 0x05,
  kWriteZeroes = 0x08,
  kDatasetManagement = 0x09,
  kVerify = 0x0C,
  kReservationRegister = 0x0D,
  kReservationReport = 0x0E,
  kReservationAcquire = 0x11,
  kReservationRelease = 0x15,
  kCopy = 0x19,
};

/// Opcode of every Fabrics command, on any queue; FCTYPE says which (NVMe Base 2.0, 6).
inline constexpr std::uint8_t kFabricsOpcode = 0x7F;

/// Bits 1:0 of an opcode or FCTYPE say which way data moves (NVMe Base 2.0, 3.3.3.1, Opcode).
enum class DataDirection : std::uint8_t { kNone = 0, kHostToController = 1, kControllerToHost = 2, kBidirectional = 3 };

/// Fused operation (CDW0 bits 9:8).
enum class Fuse : std::uint8_t { kNormal = 0, kFirst = 1, kSecond = 2 };

/// PRP or SGL for Data Transfer (CDW0 bits 15:14). Fabrics allows kSgl only (NVMe Base 2.0, 3.3.3.1).
enum class Psdt : std::uint8_t { kPrp = 0, kSgl = 1, kSglMetadataSegment = 2 };

/// SGL descriptor type, bits 7:4 of its last byte (NVMe Base 2.0, 4.1.2.1).
enum class SglType : std::uint8_t {
  kDataBlock = 0x0,
  kBitBucket = 0x1,
  kSegment = 0x2,
  kLastSegment = 0x3,
  kKeyedDataBlock = 0x4,
  kTransportDataBlock = 0x5,
  kVendor = 0xF,
};
/// SGL descriptor sub-type, bits 3:0 of its last byte (NVMe Base 2.0, 4.1.2.1).
enum class SglSubtype : std::uint8_t { kAddress = 0x0, kOffset = 0x1, kTransport = 0xA };

/// One 16-byte SGL descriptor. NVMe/TCP uses two forms (NVMe TCP Transport 1.0, 3.3.2):
/// data in the command capsule (Data Block, offset: byte 01h) and data in PDUs (Transport Data Block: byte 5Ah).
struct SglDescriptor {
  std::uint64_t address = 0;  ///< memory address, or offset into the in-capsule data area
  std::uint32_t length = 0;   ///< bytes
  std::array<std::uint8_t, 3> reserved{};
  std::uint8_t identifier = 0;  ///< type in bits 7:4, sub-type in bits 3:0

  [[nodiscard]] constexpr SglType type() const { return static_cast<SglType>(identifier >> 4); }
  [[nodiscard]] constexpr SglSubtype subtype() const { return static_cast<SglSubtype>(identifier & 0x0F); }
  [[nodiscard]] constexpr bool is_in_capsule() const { return identifier == kInCapsule; }
  [[nodiscard]] constexpr bool is_transport() const { return identifier == kTransport; }

  static constexpr std::uint8_t kInCapsule = 0x01;
  static constexpr std::uint8_t kTransport = 0x5A;

  /// Data in the command capsule, starting `offset` bytes after ICDOFF.
  [[nodiscard]] static constexpr SglDescriptor in_capsule(std::uint32_t length, std::uint64_t offset = 0) {
    return {.address = offset, .length = length, .reserved = {}, .identifier = kInCapsule};
  }
  /// Data moved by the transport: R2T and H2CData, or C2HData.
  [[nodiscard]] static constexpr SglDescriptor transport(std::uint32_t length) {
    return {.address = 0, .length = length, .reserved = {}, .identifier = kTransport};
  }
  /// Data in host memory (PCIe).
  [[nodiscard]] static constexpr SglDescriptor data_block(std::uint64_t address, std::uint32_t length) {
    return {.address = address, .length = length, .reserved = {}, .identifier = 0};
  }
  friend constexpr bool operator==(const SglDescriptor&, const SglDescriptor&) = default;
};
static_assert(sizeof(SglDescriptor) == 16 && WireStruct<SglDescriptor>);
static_assert(offsetof(SglDescriptor, length) == 8 && offsetof(SglDescriptor, identifier) == 15);

/// One submission queue entry. Builders leave cid and the data pointer to the queue pair that sends the command.
struct Command {
  std::uint8_t opcode = 0;
  std::uint8_t flags = 0;  ///< FUSE in bits 1:0, PSDT in bits 7:6
  Cid cid{};
  Nsid nsid{};  ///< in Fabrics commands byte 4 is FCTYPE and the rest reserved: use fctype()
  std::uint32_t cdw2 = 0;
  std::uint32_t cdw3 = 0;
  std::uint64_t mptr = 0;
  SglDescriptor dptr{};  ///< SGL1, or PRP1 and PRP2: see prp1(), prp2(), set_prps()
  std::uint32_t cdw10 = 0;
  std::uint32_t cdw11 = 0;
  std::uint32_t cdw12 = 0;
  std::uint32_t cdw13 = 0;
  std::uint32_t cdw14 = 0;
  std::uint32_t cdw15 = 0;

  [[nodiscard]] constexpr AdminOpcode admin_opcode() const { return static_cast<AdminOpcode>(opcode); }
  [[nodiscard]] constexpr NvmOpcode nvm_opcode() const { return static_cast<NvmOpcode>(opcode); }
  [[nodiscard]] constexpr bool is_fabrics() const { return opcode == kFabricsOpcode; }
  /// Fabrics Command Type, byte 4; meaningful only when is_fabrics().
  [[nodiscard]] constexpr std::uint8_t fctype() const { return static_cast<std::uint8_t>(nsid.value() & 0xFF); }

  [[nodiscard]] constexpr Fuse fuse() const { return static_cast<Fuse>(flags & 0x03); }
  [[nodiscard]] constexpr Psdt psdt() const { return static_cast<Psdt>(flags >> 6); }
  constexpr void set_fuse(Fuse fuse) { flags = set_bits<0, 2>(flags, static_cast<std::uint8_t>(fuse)); }
  constexpr void set_psdt(Psdt psdt) { flags = set_bits<6, 2>(flags, static_cast<std::uint8_t>(psdt)); }

  /// Points the command at data by one SGL descriptor, and says so in PSDT.
  constexpr void set_sgl(const SglDescriptor& sgl) {
    dptr = sgl;
    set_psdt(Psdt::kSgl);
  }
  /// Points the command at data by PRP entries (PCIe only), and says so in PSDT.
  constexpr void set_prps(std::uint64_t prp1_entry, std::uint64_t prp2_entry) {
    dptr = std::bit_cast<SglDescriptor>(std::array<std::uint64_t, 2>{prp1_entry, prp2_entry});
    set_psdt(Psdt::kPrp);
  }
  [[nodiscard]] constexpr std::uint64_t prp1() const { return std::bit_cast<std::array<std::uint64_t, 2>>(dptr)[0]; }
  [[nodiscard]] constexpr std::uint64_t prp2() const { return std::bit_cast<std::array<std::uint64_t, 2>>(dptr)[1]; }

  /// Which way this command's data moves. A command that moves none by its own rules (Flush, Abort) gives kNone;
  /// optional data (Set/Get Features) gives the direction it would have.
  [[nodiscard]] constexpr DataDirection data_direction() const {
    return static_cast<DataDirection>((is_fabrics() ? fctype() : opcode) & 0x03);
  }
  [[nodiscard]] constexpr std::uint64_t cdw10_11() const { return cdw10 | (static_cast<std::uint64_t>(cdw11) << 32); }
  [[nodiscard]] constexpr std::uint64_t cdw12_13() const { return cdw12 | (static_cast<std::uint64_t>(cdw13) << 32); }

  friend constexpr bool operator==(const Command&, const Command&) = default;
};
static_assert(sizeof(Command) == 64 && WireStruct<Command>);
static_assert(offsetof(Command, flags) == 1 && offsetof(Command, cid) == 2 && offsetof(Command, nsid) == 4);
static_assert(offsetof(Command, cdw2) == 8 && offsetof(Command, mptr) == 16 && offsetof(Command, dptr) == 24);
static_assert(offsetof(Command, cdw10) == 40 && offsetof(Command, cdw15) == 60);

}  // namespace leap::nvme
