// The frame: 22 bytes of prefix, a protobuf header, raw data. Pure encoding and decoding; all integers big-endian.
//
//   0           4            8      9        10              18           22
//   +-----------+------------+------+--------+---------------+------------+--------------+-----------+
//   | total i32 | header i32 | code | status | req_id i64    | seq_id i32 | header bytes | data      |
//   +-----------+------------+------+--------+---------------+------------+--------------+-----------+
//   total counts everything after itself: 18 + header + data.
//
// A prefix is the peer's word: decode_prefix() bounds both lengths before anyone allocates or waits for them.
//
//   LEAP_TRY(const rpc::FrameHead head, rpc::decode_prefix(bytes, limits));
//   rpc::encode_prefix(out, reply_head(head, ResponseStatus::kSuccess, 0, data.size()));
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "rpc/codes.h"

namespace leap::rpc {

inline constexpr std::size_t kPrefixSize = 22;
/// What total_size counts besides header and data.
inline constexpr std::uint32_t kCountedPrefix = 18;
/// The most data one frame carries, bytes.
inline constexpr std::uint32_t kMaxData = 16U * 1024 * 1024;

struct FrameLimits {
  /// The largest header accepted, bytes. Large, because batch writes carry the contents of files in their header.
  std::uint32_t max_header = 256U * 1024 * 1024;
};

struct FrameHead {
  std::uint8_t code = 0;
  std::uint8_t status = 0;
  std::int64_t req_id = 0;  ///< opaque: random, usually negative; a session keeps one
  std::int32_t seq_id = 0;  ///< opaque
  std::uint32_t header_size = 0;
  std::uint32_t data_size = 0;

  [[nodiscard]] RequestStatus request() const { return request_status(status); }
  [[nodiscard]] ResponseStatus response() const { return response_status(status); }
  [[nodiscard]] std::uint64_t body_size() const { return std::uint64_t{header_size} + data_size; }
  friend constexpr bool operator==(const FrameHead&, const FrameHead&) = default;
};

/// Error kProtocol: a negative length, data over kMaxData, a header over the limit. The stream is unusable then: close
/// it without a reply.
Result<FrameHead> decode_prefix(std::span<const std::byte, kPrefixSize> bytes, const FrameLimits& limits = {});

/// header_size and data_size must be within the limits of the wire (CHECK).
void encode_prefix(std::span<std::byte, kPrefixSize> out, const FrameHead& head);

/// The reply to `request`: code, low status nibble and both ids echoed, sizes zero.
[[nodiscard]] FrameHead reply_head(const FrameHead& request, ResponseStatus response);

}  // namespace leap::rpc
