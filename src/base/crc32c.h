// CRC32C (Castagnoli, polynomial 0x1EDC6F41), the checksum of NVMe/TCP digests and of every stored 4 KiB.
//
// All values are the standard, finalised ones (RFC 3720, appendix B.4): initial and final inversion included, so the
// CRC of nothing is 0 and a previous result is the seed of the next call.
//
// Threading: pure functions. Needs SSE4.2 and PCLMULQDQ (the build sets both); uses AVX-512 where ISA-L finds it.
//
//   std::uint32_t crc = crc32c(header);
//   crc = crc32c(payload, crc);                                    // == crc32c(header followed by payload)
//   crc = crc32c_combine(crc32c(first), crc32c(second), second.size());  // the same from two separate CRCs
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace leap {

/// The CRC of `data`, or of everything before it and `data` when `seed` is the result so far.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> data, std::uint32_t seed = 0);

/// The CRC of A followed by B, from the CRC of each and B's length in bytes, without touching the bytes.
/// One carry-less multiplication per set bit of `len_b`: a few nanoseconds for a power of two such as 4096.
[[nodiscard]] std::uint32_t crc32c_combine(std::uint32_t crc_a, std::uint32_t crc_b, std::size_t len_b);

/// The CRC of `length` zero bytes, at the cost of crc32c_combine().
[[nodiscard]] std::uint32_t crc32c_zeros(std::size_t length);

}  // namespace leap
