// NVM command set: builders for the host, accessors for the target (NVM Command Set 1.0, 3.2 and 3.3).
//
// Builders fill everything but CID and the data pointer, which the queue pair owns; a block count is a count here (1 to
// 65536), the 0's based NLB of the wire stays inside. Accessors read any 64 bytes a peer sent: they never fail, the
// caller checks ranges.
//
//   Command cmd = make_read(nsid, /*slba=*/8, /*blocks=*/8);
//   cmd.cid = cid;  cmd.set_sgl(SglDescriptor::transport(8 * 4096));
//
//   const RwFields rw = rw_fields(cmd);          // rw.slba, rw.blocks, rw.fua
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "nvme/command.h"

namespace leap::nvme {

inline constexpr std::uint32_t kMaxBlocksPerCommand = 65536;  ///< NLB is 16 bits, 0's based
inline constexpr std::uint32_t kMaxDsmRanges = 256;           ///< NR is 8 bits, 0's based

/// Options of the commands that name a range of blocks.
struct RwOptions {
  bool fua = false;            ///< Force Unit Access, CDW12 bit 30: on media before completion
  bool limited_retry = false;  ///< CDW12 bit 31
  bool deallocate = false;     ///< Write Zeroes only, CDW12 bit 25
  std::uint8_t prinfo = 0;     ///< Protection Information, CDW12 bits 29:26
};

namespace detail {
[[nodiscard]] constexpr Command make_range(NvmOpcode opcode, Nsid nsid, std::uint64_t slba, std::uint32_t blocks,
                                           const RwOptions& options) {
  LEAP_DCHECK(blocks >= 1 && blocks <= kMaxBlocksPerCommand, "NLB holds 1 to 65536 blocks");
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(opcode);
  cmd.nsid = nsid;
  cmd.cdw10 = static_cast<std::uint32_t>(slba & 0xFFFFFFFF);
  cmd.cdw11 = static_cast<std::uint32_t>(slba >> 32);
  std::uint32_t cdw12 = (blocks - 1) & 0xFFFF;
  cdw12 = set_bit<25>(cdw12, options.deallocate);
  cdw12 = set_bits<26, 4>(cdw12, options.prinfo);
  cdw12 = set_bit<30>(cdw12, options.fua);
  cmd.cdw12 = set_bit<31>(cdw12, options.limited_retry);
  return cmd;
}
}  // namespace detail

/// Read (3.2.4). Precondition of every range builder: 1 <= blocks <= kMaxBlocksPerCommand.
[[nodiscard]] constexpr Command make_read(Nsid nsid, std::uint64_t slba, std::uint32_t blocks,
                                          const RwOptions& options = {}) {
  return detail::make_range(NvmOpcode::kRead, nsid, slba, blocks, options);
}
/// Write (3.2.6).
[[nodiscard]] constexpr Command make_write(Nsid nsid, std::uint64_t slba, std::uint32_t blocks,
                                           const RwOptions& options = {}) {
  return detail::make_range(NvmOpcode::kWrite, nsid, slba, blocks, options);
}
/// Compare (3.2.1): data goes to the controller; mismatch is MediaStatus::kCompareFailure.
[[nodiscard]] constexpr Command make_compare(Nsid nsid, std::uint64_t slba, std::uint32_t blocks,
                                             const RwOptions& options = {}) {
  return detail::make_range(NvmOpcode::kCompare, nsid, slba, blocks, options);
}
/// Write Zeroes (3.2.8): no data.
[[nodiscard]] constexpr Command make_write_zeroes(Nsid nsid, std::uint64_t slba, std::uint32_t blocks,
                                                  const RwOptions& options = {}) {
  return detail::make_range(NvmOpcode::kWriteZeroes, nsid, slba, blocks, options);
}
/// Verify (3.2.5): reads and checks on the device, no data.
[[nodiscard]] constexpr Command make_verify(Nsid nsid, std::uint64_t slba, std::uint32_t blocks,
                                            const RwOptions& options = {}) {
  return detail::make_range(NvmOpcode::kVerify, nsid, slba, blocks, options);
}
/// Flush (NVMe Base 2.0, 7.1): every write completed before it is durable after it. kAllNamespaces where VWC allows.
[[nodiscard]] constexpr Command make_flush(Nsid nsid) {
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(NvmOpcode::kFlush);
  cmd.nsid = nsid;
  return cmd;
}

/// What a range command says.
struct RwFields {
  std::uint64_t slba = 0;
  std::uint32_t blocks = 0;  ///< 1 to 65536
  bool fua = false;
  bool limited_retry = false;
  bool deallocate = false;
  std::uint8_t prinfo = 0;
};
[[nodiscard]] constexpr RwFields rw_fields(const Command& cmd) {
  return {.slba = cmd.cdw10_11(),
          .blocks = get_bits<0, 16>(cmd.cdw12) + 1,
          .fua = get_bit<30>(cmd.cdw12),
          .limited_retry = get_bit<31>(cmd.cdw12),
          .deallocate = get_bit<25>(cmd.cdw12),
          .prinfo = static_cast<std::uint8_t>(get_bits<26, 4>(cmd.cdw12))};
}
/// Whether [slba, slba + blocks) lies within a namespace of nsze blocks; never overflows.
[[nodiscard]] constexpr bool in_range(std::uint64_t slba, std::uint64_t blocks, std::uint64_t nsze) {
  return slba <= nsze && blocks <= nsze - slba;
}

/// One range of Dataset Management's data (3.2.3).
struct DsmRange {
  std::uint32_t context_attributes = 0;
  std::uint32_t blocks = 0;  ///< a count, not 0's based; 0 names no block
  std::uint64_t slba = 0;
  friend constexpr bool operator==(const DsmRange&, const DsmRange&) = default;
};
static_assert(sizeof(DsmRange) == 16 && offsetof(DsmRange, blocks) == 4 && offsetof(DsmRange, slba) == 8);

/// Dataset Management (3.2.3) over `ranges` DsmRange entries of data. Precondition: 1 <= ranges <= kMaxDsmRanges.
[[nodiscard]] constexpr Command make_dsm(Nsid nsid, std::uint32_t ranges, bool deallocate = true) {
  LEAP_DCHECK(ranges >= 1 && ranges <= kMaxDsmRanges, "NR holds 1 to 256 ranges");
  Command cmd{};
  cmd.opcode = static_cast<std::uint8_t>(NvmOpcode::kDatasetManagement);
  cmd.nsid = nsid;
  cmd.cdw10 = (ranges - 1) & 0xFF;
  cmd.cdw11 = set_bit<2>(std::uint32_t{0}, deallocate);
  return cmd;
}
struct DsmFields {
  std::uint32_t ranges = 0;  ///< 1 to 256
  bool deallocate = false;   ///< AD, CDW11 bit 2
  bool integral_write = false;
  bool integral_read = false;
};
[[nodiscard]] constexpr DsmFields dsm_fields(const Command& cmd) {
  return {.ranges = get_bits<0, 8>(cmd.cdw10) + 1,
          .deallocate = get_bit<2>(cmd.cdw11),
          .integral_write = get_bit<1>(cmd.cdw11),
          .integral_read = get_bit<0>(cmd.cdw11)};
}

}  // namespace leap::nvme
