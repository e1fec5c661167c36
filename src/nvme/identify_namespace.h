// Identify Namespace data (CNS 00h), namespace lists (CNS 02h, and the Changed Namespace List log page) and the
// Namespace Identification Descriptor list (CNS 03h).
//
// Structures are the wire; see identify.h for the conventions. The descriptor list is read with a bounded cursor that
// cannot leave its view and ends at the first malformed descriptor; it is written with a builder that refuses what
// doesn't fit. Source: NVM Command Set 1.0, 4.1.5.1; NVMe Base 2.0, 5.17.2.2, 5.17.2.3.
//
//   DescriptorBuilder out(page);  out.add_uuid(uuid);  out.add_csi(Csi::kNvm);
//
//   DescriptorCursor in(page);
//   while (auto d = in.next()) if (d->type == DescriptorType::kUuid) ...d->uuid()
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/uuid.h"
#include "nvme/admin_command.h"
#include "nvme/ids.h"
#include "nvme/wire.h"

namespace leap::nvme {

/// LBA Format.
struct LbaFormat {
  std::uint16_t ms = 0;    ///< metadata bytes per block
  std::uint8_t lbads = 0;  ///< log2 of the block size in bytes; 0: format not available
  std::uint8_t rp = 0;     ///< relative performance, bits 1:0, 0 is best
  friend constexpr bool operator==(const LbaFormat&, const LbaFormat&) = default;
};
static_assert(sizeof(LbaFormat) == 4);

// NSFEAT
inline constexpr std::uint8_t kNsfeatThinProvisioning = 1U << 0;
inline constexpr std::uint8_t kNsfeatAtomics = 1U << 1;  ///< NAWUN, NAWUPF, NACWU are valid
inline constexpr std::uint8_t kNsfeatDeallocatedError = 1U << 2;
inline constexpr std::uint8_t kNsfeatIdNeverReused = 1U << 3;       ///< NGUID and EUI64 are never reused
inline constexpr std::uint8_t kNsfeatOptimalPerformance = 1U << 4;  ///< NPWG, NPWA, NPDG, NPDA, NOWS are valid
// NMIC
inline constexpr std::uint8_t kNmicShared = 1U << 0;
// DLFEAT
inline constexpr std::uint8_t kDlfeatReadsZeros = 1;  ///< bits 2:0 = 001b: deallocated blocks read as 00h
inline constexpr std::uint8_t kDlfeatWriteZeroesDealloc = 1U << 3;
// NSATTR
inline constexpr std::uint8_t kNsattrWriteProtected = 1U << 0;

/// Identify Namespace data structure, NVM command set.
struct IdentifyNamespace {
  std::uint64_t nsze = 0;  ///< blocks
  std::uint64_t ncap = 0;  ///< blocks that may be allocated
  std::uint64_t nuse = 0;
  std::uint8_t nsfeat = 0;
  std::uint8_t nlbaf = 0;  ///< LBA formats, 0's based
  std::uint8_t flbas = 0;  ///< bits 3:0 and 6:5 index lbaf, bit 4: metadata at the end of the data
  std::uint8_t mc = 0;
  std::uint8_t dpc = 0;
  std::uint8_t dps = 0;
  std::uint8_t nmic = 0;
  std::uint8_t rescap = 0;
  std::uint8_t fpi = 0;
  std::uint8_t dlfeat = 0;
  std::uint16_t nawun = 0;
  std::uint16_t nawupf = 0;
  std::uint16_t nacwu = 0;
  std::uint16_t nabsn = 0;
  std::uint16_t nabo = 0;
  std::uint16_t nabspf = 0;
  std::uint16_t noiob = 0;  ///< optimal I/O boundary, blocks; 0: none
  Uint128 nvmcap{};         ///< bytes
  std::uint16_t npwg = 0;   ///< preferred write granularity, blocks, 0's based
  std::uint16_t npwa = 0;
  std::uint16_t npdg = 0;
  std::uint16_t npda = 0;
  std::uint16_t nows = 0;
  std::uint16_t mssrl = 0;
  std::uint32_t mcl = 0;
  std::uint8_t msrc = 0;
  std::array<std::uint8_t, 11> reserved81{};
  std::uint32_t anagrpid = 0;
  std::array<std::uint8_t, 3> reserved96{};
  std::uint8_t nsattr = 0;
  std::uint16_t nvmsetid = 0;
  std::uint16_t endgid = 0;
  std::array<std::byte, 16> nguid{};  ///< big-endian, as printed
  std::array<std::byte, 8> eui64{};   ///< big-endian, as printed
  std::array<LbaFormat, 64> lbaf{};
  std::array<std::uint8_t, 3712> vendor{};

  /// Index of the LBA format in use, 0 to 63.
  [[nodiscard]] constexpr std::uint8_t format_index() const {
    const std::uint8_t low = flbas & 0x0F;
    // Bits 6:5 count only when there are more than 16 formats (NVM Command Set 1.0, FLBAS).
    return nlbaf < 16 ? low : static_cast<std::uint8_t>(low | ((flbas >> 5) & 0x03) << 4);
  }
  [[nodiscard]] constexpr const LbaFormat& format() const { return lbaf[format_index()]; }
  /// Bytes of one block, or 0 when LBADS is not between 9 (512 bytes, the least the specification allows) and 31.
  [[nodiscard]] constexpr std::uint32_t block_bytes() const {
    const std::uint8_t lbads = format().lbads;
    return lbads >= 9 && lbads <= 31 ? std::uint32_t{1} << lbads : 0;
  }
  /// NSZE in bytes, or 0 when the block size is bad or the product does not fit.
  [[nodiscard]] constexpr std::uint64_t size_bytes() const {
    const std::uint64_t block = block_bytes();
    return block != 0 && nsze <= ~std::uint64_t{0} / block ? nsze * block : 0;
  }
  /// CNS 00h of an inactive namespace is all zeros.
  [[nodiscard]] constexpr bool is_active() const { return nsze != 0; }

  friend constexpr bool operator==(const IdentifyNamespace&, const IdentifyNamespace&) = default;
};
static_assert(sizeof(IdentifyNamespace) == 4096 && WireStruct<IdentifyNamespace>);
static_assert(offsetof(IdentifyNamespace, nsfeat) == 24 && offsetof(IdentifyNamespace, flbas) == 26);
static_assert(offsetof(IdentifyNamespace, nmic) == 30 && offsetof(IdentifyNamespace, rescap) == 31);
static_assert(offsetof(IdentifyNamespace, fpi) == 32 && offsetof(IdentifyNamespace, dlfeat) == 33);
static_assert(offsetof(IdentifyNamespace, nawun) == 34 && offsetof(IdentifyNamespace, noiob) == 46);
static_assert(offsetof(IdentifyNamespace, nvmcap) == 48 && offsetof(IdentifyNamespace, npwg) == 64);
static_assert(offsetof(IdentifyNamespace, nows) == 72 && offsetof(IdentifyNamespace, mcl) == 76);
static_assert(offsetof(IdentifyNamespace, anagrpid) == 92 && offsetof(IdentifyNamespace, nsattr) == 99);
static_assert(offsetof(IdentifyNamespace, nvmsetid) == 100 && offsetof(IdentifyNamespace, endgid) == 102);
static_assert(offsetof(IdentifyNamespace, nguid) == 104 && offsetof(IdentifyNamespace, eui64) == 120);
static_assert(offsetof(IdentifyNamespace, lbaf) == 128 && offsetof(IdentifyNamespace, vendor) == 384);

/// I/O Command Set Independent Identify Namespace (CNS 08h; NVMe Base 2.0, 5.17.2.8).
struct IdentifyIndependentNamespace {
  std::uint8_t nsfeat = 0;
  std::uint8_t nmic = 0;
  std::uint8_t rescap = 0;
  std::uint8_t fpi = 0;
  std::uint32_t anagrpid = 0;
  std::uint8_t nsattr = 0;
  std::uint8_t reserved9 = 0;
  std::uint16_t nvmsetid = 0;
  std::uint16_t endgid = 0;
  std::uint8_t nstat = 0;  ///< bit 0: ready
  std::array<std::uint8_t, 4081> reserved15{};
  friend constexpr bool operator==(const IdentifyIndependentNamespace&, const IdentifyIndependentNamespace&) = default;
};
static_assert(sizeof(IdentifyIndependentNamespace) == 4096 && WireStruct<IdentifyIndependentNamespace>);
static_assert(offsetof(IdentifyIndependentNamespace, anagrpid) == 4);
static_assert(offsetof(IdentifyIndependentNamespace, nstat) == 14);

/// 1024 namespace ids, ascending, ended by 0: the active list (CNS 02h) and log page 04h.
struct NamespaceList {
  std::array<Nsid, 1024> ids{};

  /// The ids before the first 0. Views into this list.
  [[nodiscard]] constexpr std::span<const Nsid> entries() const {
    std::size_t count = 0;
    while (count < ids.size() && ids[count] != kNoNamespace) ++count;
    return std::span<const Nsid>(ids).first(count);
  }
  friend constexpr bool operator==(const NamespaceList&, const NamespaceList&) = default;
};
static_assert(sizeof(NamespaceList) == 4096 && WireStruct<NamespaceList>);

/// The Changed Namespace List (log page 04h) starts with this when more than 1024 namespaces changed.
inline constexpr Nsid kTooManyChanged{0xFFFFFFFF};

/// Namespace Identifier Type.
enum class DescriptorType : std::uint8_t { kEui64 = 0x01, kNguid = 0x02, kUuid = 0x03, kCsi = 0x04 };

/// NIDL each type must have, 0 for unknown types.
[[nodiscard]] constexpr std::size_t descriptor_bytes(DescriptorType type) {
  switch (type) {
    case DescriptorType::kEui64: return 8;
    case DescriptorType::kNguid:
    case DescriptorType::kUuid: return 16;
    case DescriptorType::kCsi: return 1;
  }
  return 0;
}

/// Header of one descriptor; NIDL bytes of identifier follow.
struct DescriptorHeader {
  std::uint8_t nidt = 0;
  std::uint8_t nidl = 0;
  std::uint16_t reserved = 0;
};
static_assert(sizeof(DescriptorHeader) == 4);

/// One descriptor read by DescriptorCursor; `id` views the caller's page.
struct NamespaceDescriptor {
  DescriptorType type{};
  std::span<const std::byte> id{};

  /// The identifier of a kUuid or kNguid descriptor as 16 bytes; nil for other types.
  [[nodiscard]] Uuid uuid() const;
};

/// Walks a descriptor list. next() gives each descriptor of a known type with the right length, skips unknown types,
/// and ends at NIDL 0, at the end of the view, or at a descriptor that lies (malformed() tells).
class DescriptorCursor {
 public:
  explicit DescriptorCursor(std::span<const std::byte> page) : rest_(page) {}
  [[nodiscard]] std::optional<NamespaceDescriptor> next();
  [[nodiscard]] bool malformed() const { return malformed_; }

 private:
  std::span<const std::byte> rest_;
  bool malformed_ = false;
};

/// Fills a page with descriptors; zeroes the page first, so the list is terminated. false: no room, nothing written.
class DescriptorBuilder {
 public:
  explicit DescriptorBuilder(std::span<std::byte> page);
  [[nodiscard]] bool add(DescriptorType type, std::span<const std::byte> id);
  [[nodiscard]] bool add_uuid(const Uuid& uuid) { return add(DescriptorType::kUuid, uuid.bytes); }
  [[nodiscard]] bool add_nguid(const std::array<std::byte, 16>& nguid) { return add(DescriptorType::kNguid, nguid); }
  [[nodiscard]] bool add_eui64(const std::array<std::byte, 8>& eui64) { return add(DescriptorType::kEui64, eui64); }
  [[nodiscard]] bool add_csi(Csi csi) {
    const auto byte = static_cast<std::byte>(csi);
    return add(DescriptorType::kCsi, std::span(&byte, 1));
  }
  [[nodiscard]] std::size_t used_bytes() const { return used_; }

 private:
  std::span<std::byte> page_;
  std::size_t used_ = 0;
};

}  // namespace leap::nvme
