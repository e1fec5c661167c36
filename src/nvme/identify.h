// Identify Controller data (CNS 01h) and the NVM command set's controller limits (CNS 06h, CSI 00h).
//
// The structures are the 4096 bytes of the wire; fields keep the specification's abbreviations and units, 0's based
// values and exponents included. The constants name the bits that Leap reads or sets. A default-constructed structure
// is all zeros. Source: NVMe Base 2.0, 5.17.2.1 (2.1 for CQT and fields marked so); NVM Command Set 1.0, 4.1.5.4.
//
//   auto id = wire::load<IdentifyController>(bytes);      // nullopt unless 4096 bytes are there
//   id->max_transfer_bytes(cap.min_page_bytes());  id->volatile_write_cache();
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "nvme/ids.h"
#include "nvme/properties.h"
#include "nvme/text.h"
#include "nvme/wire.h"

namespace leap::nvme {

// OAES: asynchronous events the controller sends (same bits as AsyncEventConfig).
inline constexpr std::uint32_t kOaesNamespaceAttribute = 1U << 8;
inline constexpr std::uint32_t kOaesFirmwareActivation = 1U << 9;
inline constexpr std::uint32_t kOaesAnaChange = 1U << 11;
inline constexpr std::uint32_t kOaesDiscoveryLogChange = 1U << 31;
// CTRATT
inline constexpr std::uint32_t kCtrattHostId128 = 1U << 0;
inline constexpr std::uint32_t kCtrattTrafficBasedKeepAlive = 1U << 6;
// CMIC
inline constexpr std::uint8_t kCmicMultiplePorts = 1U << 0;
inline constexpr std::uint8_t kCmicMultipleControllers = 1U << 1;
inline constexpr std::uint8_t kCmicAna = 1U << 3;
// OACS
inline constexpr std::uint16_t kOacsSecurity = 1U << 0;
inline constexpr std::uint16_t kOacsFormat = 1U << 1;
inline constexpr std::uint16_t kOacsFirmware = 1U << 2;
inline constexpr std::uint16_t kOacsNamespaceManagement = 1U << 3;
inline constexpr std::uint16_t kOacsDoorbellBuffer = 1U << 8;
// LPA
inline constexpr std::uint8_t kLpaSmartPerNamespace = 1U << 0;
inline constexpr std::uint8_t kLpaCommandsEffects = 1U << 1;
inline constexpr std::uint8_t kLpaExtendedData = 1U << 2;  ///< NUMD over 12 bits, and LPO, in Get Log Page
// ONCS
inline constexpr std::uint16_t kOncsCompare = 1U << 0;
inline constexpr std::uint16_t kOncsWriteUncorrectable = 1U << 1;
inline constexpr std::uint16_t kOncsDatasetManagement = 1U << 2;
inline constexpr std::uint16_t kOncsWriteZeroes = 1U << 3;
inline constexpr std::uint16_t kOncsSaveSelect = 1U << 4;
inline constexpr std::uint16_t kOncsReservations = 1U << 5;
inline constexpr std::uint16_t kOncsTimestamp = 1U << 6;
inline constexpr std::uint16_t kOncsVerify = 1U << 7;
inline constexpr std::uint16_t kOncsCopy = 1U << 8;
// VWC
inline constexpr std::uint8_t kVwcPresent = 1U << 0;
inline constexpr std::uint8_t kVwcFlushAllNotSupported = 2U << 1;  ///< bits 2:1 = 10b: Flush with NSID FFFFFFFFh fails
inline constexpr std::uint8_t kVwcFlushAllSupported = 3U << 1;     ///< bits 2:1 = 11b: it flushes every namespace
// SGLS
inline constexpr std::uint32_t kSglsSupported = 1U << 0;  ///< bits 1:0 = 01b: no alignment requirement
inline constexpr std::uint32_t kSglsKeyedDataBlock = 1U << 2;
inline constexpr std::uint32_t kSglsOffset = 1U << 20;  ///< address may be an offset (in-capsule data)
inline constexpr std::uint32_t kSglsTransportDataBlock = 1U << 21;
// FCATT, OFCS
inline constexpr std::uint8_t kFcattStaticControllers = 1U << 0;  ///< clear: dynamic controller model
inline constexpr std::uint16_t kOfcsDisconnect = 1U << 0;

/// CNTRLTYPE.
enum class ControllerType : std::uint8_t { kNotReported = 0, kIo = 1, kDiscovery = 2, kAdministrative = 3 };
/// DCTYPE (discovery controllers).
enum class DiscoveryControllerType : std::uint8_t { kNotReported = 0, kDirect = 1, kCentral = 2 };

/// Entry size bounds as SQES and CQES hold them: log2, maximum in bits 7:4, minimum in bits 3:0.
inline constexpr std::uint8_t kSqes64Bytes = 0x66;
inline constexpr std::uint8_t kCqes16Bytes = 0x44;

/// Power State Descriptor (only what a reader needs to show).
struct PowerState {
  std::uint16_t mp = 0;  ///< maximum power, in units of byte 3 bit 0
  std::uint8_t reserved2 = 0;
  std::uint8_t flags = 0;
  std::uint32_t enlat = 0;  ///< microseconds
  std::uint32_t exlat = 0;  ///< microseconds
  std::array<std::uint8_t, 20> rest{};
  friend constexpr bool operator==(const PowerState&, const PowerState&) = default;
};
static_assert(sizeof(PowerState) == 32);

/// Identify Controller data structure.
struct IdentifyController {
  // Controller capabilities and features
  std::uint16_t vid = 0;
  std::uint16_t ssvid = 0;
  std::array<char, 20> sn{};
  std::array<char, 40> mn{};
  std::array<char, 8> fr{};
  std::uint8_t rab = 0;
  std::array<std::uint8_t, 3> ieee{};
  std::uint8_t cmic = 0;
  std::uint8_t mdts = 0;  ///< log2 of CAP.MPSMIN pages; 0: no limit
  Cntlid cntlid{};
  Version ver{};
  std::uint32_t rtd3r = 0;
  std::uint32_t rtd3e = 0;
  std::uint32_t oaes = 0;
  std::uint32_t ctratt = 0;
  std::uint16_t rrls = 0;
  std::array<std::uint8_t, 9> reserved102{};
  ControllerType cntrltype = ControllerType::kNotReported;
  std::array<std::uint8_t, 16> fguid{};
  std::array<std::uint16_t, 3> crdt{};  ///< Command Retry Delay Times 1 to 3, units of 100 ms
  std::array<std::uint8_t, 119> reserved134{};
  std::uint8_t nvmsr = 0;
  std::uint8_t vwci = 0;
  std::uint8_t mec = 0;
  // Admin command set attributes
  std::uint16_t oacs = 0;
  std::uint8_t acl = 0;   ///< concurrent Aborts, 0's based
  std::uint8_t aerl = 0;  ///< outstanding Asynchronous Event Requests, 0's based
  std::uint8_t frmw = 0;
  std::uint8_t lpa = 0;
  std::uint8_t elpe = 0;  ///< error log entries, 0's based
  std::uint8_t npss = 0;  ///< power states, 0's based
  std::uint8_t avscc = 0;
  std::uint8_t apsta = 0;
  std::uint16_t wctemp = 0;  ///< kelvin
  std::uint16_t cctemp = 0;  ///< kelvin
  std::uint16_t mtfa = 0;
  std::uint32_t hmpre = 0;
  std::uint32_t hmmin = 0;
  std::array<std::uint8_t, 16> tnvmcap{};  ///< bytes, 128-bit little-endian
  std::array<std::uint8_t, 16> unvmcap{};
  std::uint32_t rpmbs = 0;
  std::uint16_t edstt = 0;
  std::uint8_t dsto = 0;
  std::uint8_t fwug = 0;
  std::uint16_t kas = 0;  ///< keep alive granularity, units of 100 ms; 0: keep alive not supported
  std::uint16_t hctma = 0;
  std::uint16_t mntmt = 0;
  std::uint16_t mxtmt = 0;
  std::uint32_t sanicap = 0;
  std::uint32_t hmminds = 0;
  std::uint16_t hmmaxd = 0;
  std::uint16_t nsetidmax = 0;
  std::uint16_t endgidmax = 0;
  std::uint8_t anatt = 0;
  std::uint8_t anacap = 0;
  std::uint32_t anagrpmax = 0;
  std::uint32_t nanagrpid = 0;
  std::uint32_t pels = 0;
  std::uint16_t domain_id = 0;
  std::array<std::uint8_t, 10> reserved358{};
  std::array<std::uint8_t, 16> megcap{};
  std::uint8_t tmpthha = 0;
  std::uint8_t reserved385 = 0;
  std::uint16_t cqt = 0;  ///< Command Quiesce Time, milliseconds (2.1)
  std::array<std::uint8_t, 124> reserved388{};
  // NVM command set attributes
  std::uint8_t sqes = 0;
  std::uint8_t cqes = 0;
  std::uint16_t maxcmd = 0;  ///< commands outstanding per I/O queue; mandatory on fabrics
  std::uint32_t nn = 0;      ///< the largest NSID
  std::uint16_t oncs = 0;
  std::uint16_t fuses = 0;
  std::uint8_t fna = 0;
  std::uint8_t vwc = 0;
  std::uint16_t awun = 0;   ///< blocks, 0's based
  std::uint16_t awupf = 0;  ///< blocks, 0's based
  std::uint8_t icsvscc = 0;
  std::uint8_t nwpc = 0;
  std::uint16_t acwu = 0;
  std::uint16_t cdfs = 0;
  std::uint32_t sgls = 0;
  std::uint32_t mnan = 0;
  std::array<std::uint8_t, 16> maxdna{};
  std::uint32_t maxcna = 0;
  std::array<std::uint8_t, 204> reserved564{};
  std::array<char, 256> subnqn{};
  std::array<std::uint8_t, 768> reserved1024{};
  // Fabrics
  std::uint32_t ioccsz = 0;  ///< I/O command capsule, units of 16 bytes
  std::uint32_t iorcsz = 0;  ///< I/O response capsule, units of 16 bytes
  std::uint16_t icdoff = 0;  ///< in-capsule data offset, units of 16 bytes
  std::uint8_t fcatt = 0;
  std::uint8_t msdbd = 0;
  std::uint16_t ofcs = 0;
  DiscoveryControllerType dctype = DiscoveryControllerType::kNotReported;
  std::array<std::uint8_t, 241> reserved1807{};
  std::array<PowerState, 32> psd{};
  std::array<std::uint8_t, 1024> vendor{};

  [[nodiscard]] std::string_view serial() const { return trimmed_text(sn); }
  [[nodiscard]] std::string_view model() const { return trimmed_text(mn); }
  [[nodiscard]] std::string_view firmware() const { return trimmed_text(fr); }
  [[nodiscard]] std::string_view subsystem_nqn() const { return nul_terminated_text(subnqn); }

  /// Bytes one command may move, for pages of CAP.MPSMIN; the largest value when there is no limit.
  [[nodiscard]] constexpr std::uint64_t max_transfer_bytes(std::uint64_t min_page_bytes) const {
    if (mdts == 0 || mdts >= 48) return std::numeric_limits<std::uint64_t>::max();
    return min_page_bytes << mdts;
  }
  /// Data bytes an I/O command capsule may hold: what IOCCSZ leaves after the 64-byte command and ICDOFF.
  [[nodiscard]] constexpr std::uint32_t in_capsule_data_bytes() const {
    const std::uint64_t capsule = std::uint64_t{ioccsz} * 16;
    const std::uint64_t taken = 64 + std::uint64_t{icdoff} * 16;
    if (capsule <= taken) return 0;
    const std::uint64_t room = capsule - taken;
    return room > std::numeric_limits<std::uint32_t>::max() ? std::numeric_limits<std::uint32_t>::max()
                                                            : static_cast<std::uint32_t>(room);
  }
  constexpr void set_in_capsule_data_bytes(std::uint32_t bytes) { ioccsz = (64 + bytes) / 16; }
  [[nodiscard]] constexpr bool volatile_write_cache() const { return (vwc & kVwcPresent) != 0; }
  /// Keep alive granularity in milliseconds.
  [[nodiscard]] constexpr std::uint32_t keep_alive_granularity_ms() const { return std::uint32_t{kas} * 100; }
  [[nodiscard]] constexpr bool supports(std::uint16_t oncs_bit) const { return (oncs & oncs_bit) != 0; }

  friend constexpr bool operator==(const IdentifyController&, const IdentifyController&) = default;
};

#define LEAP_AT(type, field, offset) static_assert(offsetof(type, field) == (offset), #type "." #field)
static_assert(sizeof(IdentifyController) == 4096 && WireStruct<IdentifyController>);
LEAP_AT(IdentifyController, sn, 4);
LEAP_AT(IdentifyController, mn, 24);
LEAP_AT(IdentifyController, fr, 64);
LEAP_AT(IdentifyController, rab, 72);
LEAP_AT(IdentifyController, ieee, 73);
LEAP_AT(IdentifyController, cmic, 76);
LEAP_AT(IdentifyController, mdts, 77);
LEAP_AT(IdentifyController, cntlid, 78);
LEAP_AT(IdentifyController, ver, 80);
LEAP_AT(IdentifyController, rtd3r, 84);
LEAP_AT(IdentifyController, oaes, 92);
LEAP_AT(IdentifyController, ctratt, 96);
LEAP_AT(IdentifyController, rrls, 100);
LEAP_AT(IdentifyController, cntrltype, 111);
LEAP_AT(IdentifyController, fguid, 112);
LEAP_AT(IdentifyController, crdt, 128);
LEAP_AT(IdentifyController, nvmsr, 253);
LEAP_AT(IdentifyController, oacs, 256);
LEAP_AT(IdentifyController, acl, 258);
LEAP_AT(IdentifyController, aerl, 259);
LEAP_AT(IdentifyController, frmw, 260);
LEAP_AT(IdentifyController, lpa, 261);
LEAP_AT(IdentifyController, elpe, 262);
LEAP_AT(IdentifyController, npss, 263);
LEAP_AT(IdentifyController, wctemp, 266);
LEAP_AT(IdentifyController, hmpre, 272);
LEAP_AT(IdentifyController, tnvmcap, 280);
LEAP_AT(IdentifyController, unvmcap, 296);
LEAP_AT(IdentifyController, rpmbs, 312);
LEAP_AT(IdentifyController, kas, 320);
LEAP_AT(IdentifyController, sanicap, 328);
LEAP_AT(IdentifyController, nsetidmax, 338);
LEAP_AT(IdentifyController, anatt, 342);
LEAP_AT(IdentifyController, anagrpmax, 344);
LEAP_AT(IdentifyController, pels, 352);
LEAP_AT(IdentifyController, domain_id, 356);
LEAP_AT(IdentifyController, megcap, 368);
LEAP_AT(IdentifyController, cqt, 386);
LEAP_AT(IdentifyController, sqes, 512);
LEAP_AT(IdentifyController, maxcmd, 514);
LEAP_AT(IdentifyController, nn, 516);
LEAP_AT(IdentifyController, oncs, 520);
LEAP_AT(IdentifyController, fna, 524);
LEAP_AT(IdentifyController, vwc, 525);
LEAP_AT(IdentifyController, awun, 526);
LEAP_AT(IdentifyController, acwu, 532);
LEAP_AT(IdentifyController, sgls, 536);
LEAP_AT(IdentifyController, mnan, 540);
LEAP_AT(IdentifyController, maxcna, 560);
LEAP_AT(IdentifyController, subnqn, 768);
LEAP_AT(IdentifyController, ioccsz, 1792);
LEAP_AT(IdentifyController, iorcsz, 1796);
LEAP_AT(IdentifyController, icdoff, 1800);
LEAP_AT(IdentifyController, fcatt, 1802);
LEAP_AT(IdentifyController, msdbd, 1803);
LEAP_AT(IdentifyController, ofcs, 1804);
LEAP_AT(IdentifyController, dctype, 1806);
LEAP_AT(IdentifyController, psd, 2048);
LEAP_AT(IdentifyController, vendor, 3072);

/// I/O Command Set specific Identify Controller for the NVM command set (CNS 06h, CSI 00h).
struct IdentifyNvmController {
  std::uint8_t vsl = 0;   ///< Verify size limit, log2 of CAP.MPSMIN pages; 0: no limit
  std::uint8_t wzsl = 0;  ///< Write Zeroes size limit, likewise
  std::uint8_t wusl = 0;
  std::uint8_t dmrl = 0;    ///< Dataset Management ranges, 0: no limit reported
  std::uint32_t dmrsl = 0;  ///< blocks per range
  std::uint64_t dmsl = 0;   ///< blocks in all ranges
  std::array<std::uint8_t, 4080> reserved16{};
  friend constexpr bool operator==(const IdentifyNvmController&, const IdentifyNvmController&) = default;
};
static_assert(sizeof(IdentifyNvmController) == 4096 && WireStruct<IdentifyNvmController>);
LEAP_AT(IdentifyNvmController, dmrsl, 4);
LEAP_AT(IdentifyNvmController, dmsl, 8);
#undef LEAP_AT

}  // namespace leap::nvme
