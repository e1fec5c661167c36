// The completion queue entry (CQE).
//
//   byte  0-3   4-7   8-9    10-11  12-13  14-15
//        +-----+-----+------+------+------+---------------------------------------------+
//        | DW0 | DW1 | SQHD | SQID | CID  | P(0) SC(8:1) SCT(11:9) CRD(13:12) M(14) DNR |
//        +-----+-----+------+------+------+---------------------------------------------+
//
// Source: NVMe Base 2.0, 3.3.3.2 and 3.3.3.2.1 (Status Field). In a Fabrics response capsule the phase bit is reserved
// and SQHD is reserved when SQ flow control is disabled (NVMe Base 2.0, 3.3.2.2). Pure, constexpr.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "nvme/ids.h"
#include "nvme/wire.h"

namespace leap::nvme {

/// The 16-bit status word of bytes 14-15; bit 0 is the phase tag.
[[nodiscard]] constexpr std::uint16_t encode_status(NvmeStatusCode status, bool phase = false) {
  std::uint16_t word = 0;
  word = set_bit<0>(word, phase);
  word = set_bits<1, 8>(word, status.sc);
  word = set_bits<9, 3>(word, status.sct);
  word = set_bits<12, 2>(word, status.crd);
  word = set_bit<14>(word, status.more);
  return set_bit<15>(word, status.dnr);
}
[[nodiscard]] constexpr NvmeStatusCode decode_status(std::uint16_t word) {
  return {.sct = static_cast<std::uint8_t>(get_bits<9, 3>(word)),
          .sc = static_cast<std::uint8_t>(get_bits<1, 8>(word)),
          .crd = static_cast<std::uint8_t>(get_bits<12, 2>(word)),
          .more = get_bit<14>(word),
          .dnr = get_bit<15>(word)};
}

/// One completion queue entry.
struct Completion {
  std::uint32_t dw0 = 0;  ///< command specific; Connect: see ConnectResponse in fabrics.h
  std::uint32_t dw1 = 0;  ///< command specific; with dw0 the value of Property Get
  std::uint16_t sqhd = 0;
  Qid sqid{};
  Cid cid{};
  std::uint16_t status_word = 0;

  [[nodiscard]] constexpr NvmeStatusCode status() const { return decode_status(status_word); }
  [[nodiscard]] constexpr bool ok() const { return (status_word & 0x0FFE) == 0; }
  [[nodiscard]] constexpr bool phase() const { return get_bit<0>(status_word); }
  [[nodiscard]] constexpr std::uint64_t result64() const { return dw0 | (static_cast<std::uint64_t>(dw1) << 32); }

  constexpr void set_status(NvmeStatusCode status) { status_word = encode_status(status, phase()); }
  constexpr void set_phase(bool phase_tag) { status_word = set_bit<0>(status_word, phase_tag); }
  constexpr void set_result64(std::uint64_t value) {
    dw0 = static_cast<std::uint32_t>(value & 0xFFFFFFFF);
    dw1 = static_cast<std::uint32_t>(value >> 32);
  }

  friend constexpr bool operator==(const Completion&, const Completion&) = default;
};
static_assert(sizeof(Completion) == 16 && WireStruct<Completion>);
static_assert(offsetof(Completion, sqhd) == 8 && offsetof(Completion, sqid) == 10);
static_assert(offsetof(Completion, cid) == 12 && offsetof(Completion, status_word) == 14);

}  // namespace leap::nvme
