// The Discovery log page (70h): a header of 1024 bytes, then NUMREC entries of 1024 bytes.
//
//   0        8        16      18 ... 1023   1024 ...            1024 x (NUMREC + 1)
//  +--------+--------+-------+-------------+-------------------+----
//  | GENCTR | NUMREC | RECFMT| reserved    | entry 0           | ...
//
// A reader takes the header, reads NUMREC entries at their offsets, then the header again: a changed GENCTR means start
// over (NVMe Base 2.0, 5.16.1, Discovery Log Page). Text fields of a peer go through the trimming accessors, which stay
// inside the field.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "nvme/ids.h"
#include "nvme/text.h"
#include "nvme/wire.h"

namespace leap::nvme {

/// Transport Type of a discovery log entry.
enum class DiscoveryTrtype : std::uint8_t {
  kReserved = 0,
  kRdma = 1,
  kFibreChannel = 2,
  kTcp = 3,
  kIntraHost = 254,
};
/// Address Family of a discovery log entry.
enum class DiscoveryAdrfam : std::uint8_t {
  kReserved = 0,
  kIpv4 = 1,
  kIpv6 = 2,
  kInfiniband = 3,
  kFibreChannel = 4,
  kIntraHost = 254,
};
/// Subsystem Type of a discovery log entry.
enum class DiscoverySubtype : std::uint8_t { kReferral = 1, kNvm = 2, kCurrentDiscovery = 3 };

// TREQ
inline constexpr std::uint8_t kTreqSecureChannelNotSpecified = 0;
inline constexpr std::uint8_t kTreqSecureChannelRequired = 1;
inline constexpr std::uint8_t kTreqSecureChannelNotRequired = 2;
inline constexpr std::uint8_t kTreqSecureChannelMask = 3;
inline constexpr std::uint8_t kTreqDisableSqFlowControl = 1U << 2;
// EFLAGS
inline constexpr std::uint16_t kEflagsDuplicateInfo = 1U << 0;  ///< DUPRETINFO: every entry with it leads to this log
inline constexpr std::uint16_t kEflagsExplicitPersistent = 1U << 1;  ///< EPCSD: connections with a KATO persist
/// SECTYPE, the first byte of TSAS for TCP (NVMe TCP Transport 1.0, 3.6.1.1).
enum class TcpSecurity : std::uint8_t { kNone = 0, kTls12 = 1, kTls13 = 2 };

inline constexpr std::size_t kDiscoveryEntryBytes = 1024;

/// Header of the Discovery log page.
struct DiscoveryHeader {
  std::uint64_t genctr = 0;
  std::uint64_t numrec = 0;
  std::uint16_t recfmt = 0;
  std::array<std::uint8_t, 1006> reserved18{};
  friend constexpr bool operator==(const DiscoveryHeader&, const DiscoveryHeader&) = default;
};
static_assert(sizeof(DiscoveryHeader) == 1024 && WireStruct<DiscoveryHeader>);
static_assert(offsetof(DiscoveryHeader, numrec) == 8 && offsetof(DiscoveryHeader, recfmt) == 16);

/// Discovery Log Page Entry.
struct DiscoveryEntry {
  DiscoveryTrtype trtype = DiscoveryTrtype::kReserved;
  DiscoveryAdrfam adrfam = DiscoveryAdrfam::kReserved;
  DiscoverySubtype subtype = DiscoverySubtype::kNvm;
  std::uint8_t treq = 0;
  std::uint16_t portid = 0;
  Cntlid cntlid = kDynamicCntlid;
  std::uint16_t asqsz = 0;  ///< Admin submission queue entries, at least 32; a count
  std::uint16_t eflags = 0;
  std::array<std::uint8_t, 20> reserved12{};
  std::array<char, 32> trsvcid{};
  std::array<std::uint8_t, 192> reserved64{};
  std::array<char, 256> subnqn{};
  std::array<char, 256> traddr{};
  std::array<std::uint8_t, 256> tsas{};

  [[nodiscard]] std::string_view subsystem_nqn() const { return trimmed_text(subnqn); }
  [[nodiscard]] std::string_view address() const { return trimmed_text(traddr); }
  [[nodiscard]] std::string_view service() const { return trimmed_text(trsvcid); }
  /// TRSVCID as a TCP port; nullopt unless it is a number from 1 to 65535.
  [[nodiscard]] std::optional<std::uint16_t> port() const {
    const std::string_view text = service();
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
    return port;
  }

  friend constexpr bool operator==(const DiscoveryEntry&, const DiscoveryEntry&) = default;
};
static_assert(sizeof(DiscoveryEntry) == kDiscoveryEntryBytes && WireStruct<DiscoveryEntry>);
static_assert(offsetof(DiscoveryEntry, portid) == 4 && offsetof(DiscoveryEntry, cntlid) == 6);
static_assert(offsetof(DiscoveryEntry, asqsz) == 8 && offsetof(DiscoveryEntry, eflags) == 10);
static_assert(offsetof(DiscoveryEntry, trsvcid) == 32 && offsetof(DiscoveryEntry, subnqn) == 256);
static_assert(offsetof(DiscoveryEntry, traddr) == 512 && offsetof(DiscoveryEntry, tsas) == 768);

/// Byte offset of entry `index` in the log page.
[[nodiscard]] constexpr std::uint64_t discovery_entry_offset(std::uint64_t index) {
  return (index + 1) * kDiscoveryEntryBytes;
}

}  // namespace leap::nvme
