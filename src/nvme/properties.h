// Controller properties (the registers of PCIe, reached by Property Get and Set on fabrics) as typed bit fields.
//
// Each is a struct around the raw word with one accessor per field; 0's based values stay as they are on the wire and
// say so. Source: NVMe Base 2.0, 3.1.3 (Controller Properties). Pure, constexpr.
//
//   Cap cap{completion.result64()};   cap.mqes() + 1, cap.ready_timeout_ms()
//   Cc cc;  cc.set_en(true); cc.set_iosqes(6); cc.set_iocqes(4);
#pragma once

#include <cstdint>

#include "nvme/wire.h"

namespace leap::nvme {

/// Property offsets (NVMe Base 2.0, 3.1.3, "Property Definition").
enum class PropertyOffset : std::uint32_t {
  kCap = 0x00,
  kVs = 0x08,
  kIntms = 0x0C,
  kIntmc = 0x10,
  kCc = 0x14,
  kCsts = 0x1C,
  kNssr = 0x20,
  kAqa = 0x24,
  kAsq = 0x28,
  kAcq = 0x30,
  kCrto = 0x68,
};

/// Only CAP, of what fabrics support, is 8 bytes wide.
[[nodiscard]] constexpr bool is_64bit(PropertyOffset offset) {
  return offset == PropertyOffset::kCap || offset == PropertyOffset::kAsq || offset == PropertyOffset::kAcq;
}

/// Controller Capabilities (3.1.3.1).
struct Cap {
  std::uint64_t raw = 0;

  [[nodiscard]] constexpr std::uint16_t mqes() const { return static_cast<std::uint16_t>(get_bits<0, 16>(raw)); }
  [[nodiscard]] constexpr bool cqr() const { return get_bit<16>(raw); }
  [[nodiscard]] constexpr std::uint8_t ams() const { return static_cast<std::uint8_t>(get_bits<17, 2>(raw)); }
  [[nodiscard]] constexpr std::uint8_t to() const { return static_cast<std::uint8_t>(get_bits<24, 8>(raw)); }
  [[nodiscard]] constexpr std::uint8_t dstrd() const { return static_cast<std::uint8_t>(get_bits<32, 4>(raw)); }
  [[nodiscard]] constexpr bool nssrs() const { return get_bit<36>(raw); }
  [[nodiscard]] constexpr std::uint8_t css() const { return static_cast<std::uint8_t>(get_bits<37, 8>(raw)); }
  [[nodiscard]] constexpr std::uint8_t mpsmin() const { return static_cast<std::uint8_t>(get_bits<48, 4>(raw)); }
  [[nodiscard]] constexpr std::uint8_t mpsmax() const { return static_cast<std::uint8_t>(get_bits<52, 4>(raw)); }
  [[nodiscard]] constexpr std::uint8_t crms() const { return static_cast<std::uint8_t>(get_bits<59, 2>(raw)); }

  constexpr void set_mqes(std::uint16_t zeros_based) { raw = set_bits<0, 16>(raw, zeros_based); }
  constexpr void set_cqr(bool on) { raw = set_bit<16>(raw, on); }
  constexpr void set_to(std::uint8_t half_seconds) { raw = set_bits<24, 8>(raw, half_seconds); }
  constexpr void set_dstrd(std::uint8_t stride) { raw = set_bits<32, 4>(raw, stride); }
  constexpr void set_nssrs(bool on) { raw = set_bit<36>(raw, on); }
  constexpr void set_css(std::uint8_t sets) { raw = set_bits<37, 8>(raw, sets); }
  constexpr void set_mpsmin(std::uint8_t log2_4k) { raw = set_bits<48, 4>(raw, log2_4k); }
  constexpr void set_mpsmax(std::uint8_t log2_4k) { raw = set_bits<52, 4>(raw, log2_4k); }
  constexpr void set_crms(std::uint8_t modes) { raw = set_bits<59, 2>(raw, modes); }

  /// Entries a queue may have.
  [[nodiscard]] constexpr std::uint32_t max_queue_entries() const { return std::uint32_t{mqes()} + 1; }
  /// Longest wait for CSTS.RDY to follow CC.EN.
  [[nodiscard]] constexpr std::uint32_t ready_timeout_ms() const { return std::uint32_t{to()} * 500; }
  /// Smallest memory page in bytes: the unit of MDTS.
  [[nodiscard]] constexpr std::uint64_t min_page_bytes() const { return std::uint64_t{4096} << mpsmin(); }
  [[nodiscard]] constexpr bool supports_nvm_command_set() const { return (css() & kCssNvm) != 0; }
  [[nodiscard]] constexpr bool supports_io_command_sets() const { return (css() & kCssIoCommandSets) != 0; }

  static constexpr std::uint8_t kCssNvm = 0x01;             ///< CAP bit 37
  static constexpr std::uint8_t kCssIoCommandSets = 0x40;   ///< CAP bit 43
  static constexpr std::uint8_t kCssNoIoCommandSet = 0x80;  ///< CAP bit 44
  friend constexpr bool operator==(const Cap&, const Cap&) = default;
};

/// Version (3.1.3.2); also VER of Identify Controller.
struct Version {
  std::uint32_t raw = 0;
  [[nodiscard]] constexpr std::uint16_t major_number() const { return static_cast<std::uint16_t>(raw >> 16); }
  [[nodiscard]] constexpr std::uint8_t minor_number() const { return static_cast<std::uint8_t>(get_bits<8, 8>(raw)); }
  [[nodiscard]] constexpr std::uint8_t tertiary() const { return static_cast<std::uint8_t>(get_bits<0, 8>(raw)); }
  friend constexpr auto operator<=>(const Version&, const Version&) = default;
};
[[nodiscard]] constexpr Version make_version(std::uint16_t major_part, std::uint8_t minor_part, std::uint8_t tertiary) {
  return {.raw = (std::uint32_t{major_part} << 16) | (std::uint32_t{minor_part} << 8) | tertiary};
}

/// Shutdown Notification of CC (bits 15:14).
enum class ShutdownNotification : std::uint8_t { kNone = 0, kNormal = 1, kAbrupt = 2 };
/// Shutdown Status of CSTS (bits 3:2).
enum class ShutdownStatus : std::uint8_t { kNormalOperation = 0, kOccurring = 1, kComplete = 2 };

/// Controller Configuration (3.1.3.5).
struct Cc {
  std::uint32_t raw = 0;

  [[nodiscard]] constexpr bool en() const { return get_bit<0>(raw); }
  [[nodiscard]] constexpr std::uint8_t css() const { return static_cast<std::uint8_t>(get_bits<4, 3>(raw)); }
  [[nodiscard]] constexpr std::uint8_t mps() const { return static_cast<std::uint8_t>(get_bits<7, 4>(raw)); }
  [[nodiscard]] constexpr std::uint8_t ams() const { return static_cast<std::uint8_t>(get_bits<11, 3>(raw)); }
  [[nodiscard]] constexpr ShutdownNotification shn() const {
    return static_cast<ShutdownNotification>(get_bits<14, 2>(raw));
  }
  [[nodiscard]] constexpr std::uint8_t iosqes() const { return static_cast<std::uint8_t>(get_bits<16, 4>(raw)); }
  [[nodiscard]] constexpr std::uint8_t iocqes() const { return static_cast<std::uint8_t>(get_bits<20, 4>(raw)); }

  constexpr void set_en(bool on) { raw = set_bit<0>(raw, on); }
  constexpr void set_css(std::uint8_t css) { raw = set_bits<4, 3>(raw, css); }
  constexpr void set_mps(std::uint8_t log2_4k) { raw = set_bits<7, 4>(raw, log2_4k); }
  constexpr void set_shn(ShutdownNotification shn) { raw = set_bits<14, 2>(raw, static_cast<std::uint8_t>(shn)); }
  constexpr void set_iosqes(std::uint8_t log2_bytes) { raw = set_bits<16, 4>(raw, log2_bytes); }
  constexpr void set_iocqes(std::uint8_t log2_bytes) { raw = set_bits<20, 4>(raw, log2_bytes); }

  static constexpr std::uint8_t kCssNvm = 0;
  static constexpr std::uint8_t kCssIoCommandSets = 6;  ///< 110b
  static constexpr std::uint8_t kCssAdminOnly = 7;      ///< 111b
  static constexpr std::uint8_t kIosqes = 6;            ///< 64-byte submission queue entries
  static constexpr std::uint8_t kIocqes = 4;            ///< 16-byte completion queue entries

  /// What a host writes to enable a controller: NVM command set, 4 KiB pages, standard entry sizes.
  [[nodiscard]] static constexpr Cc enabled() {
    Cc cc;
    cc.set_iosqes(kIosqes);
    cc.set_iocqes(kIocqes);
    cc.set_en(true);
    return cc;
  }
  friend constexpr bool operator==(const Cc&, const Cc&) = default;
};

/// Controller Status (3.1.3.6).
struct Csts {
  std::uint32_t raw = 0;

  [[nodiscard]] constexpr bool rdy() const { return get_bit<0>(raw); }
  [[nodiscard]] constexpr bool cfs() const { return get_bit<1>(raw); }
  [[nodiscard]] constexpr ShutdownStatus shst() const { return static_cast<ShutdownStatus>(get_bits<2, 2>(raw)); }
  [[nodiscard]] constexpr bool nssro() const { return get_bit<4>(raw); }
  [[nodiscard]] constexpr bool pp() const { return get_bit<5>(raw); }

  constexpr void set_rdy(bool on) { raw = set_bit<0>(raw, on); }
  constexpr void set_cfs(bool on) { raw = set_bit<1>(raw, on); }
  constexpr void set_shst(ShutdownStatus shst) { raw = set_bits<2, 2>(raw, static_cast<std::uint8_t>(shst)); }
  friend constexpr bool operator==(const Csts&, const Csts&) = default;
};

/// Admin Queue Attributes (3.1.3.8); both sizes 0's based.
struct Aqa {
  std::uint32_t raw = 0;
  [[nodiscard]] constexpr std::uint16_t asqs() const { return static_cast<std::uint16_t>(get_bits<0, 12>(raw)); }
  [[nodiscard]] constexpr std::uint16_t acqs() const { return static_cast<std::uint16_t>(get_bits<16, 12>(raw)); }
  constexpr void set_asqs(std::uint16_t zeros_based) { raw = set_bits<0, 12>(raw, zeros_based); }
  constexpr void set_acqs(std::uint16_t zeros_based) { raw = set_bits<16, 12>(raw, zeros_based); }
  friend constexpr bool operator==(const Aqa&, const Aqa&) = default;
};

}  // namespace leap::nvme
