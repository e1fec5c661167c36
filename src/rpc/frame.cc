#include "rpc/frame.h"

#include <fmt/format.h>

#include "base/endian.h"

namespace leap::rpc {
namespace {

Error malformed(std::string text) {
  return Error(Errc::kProtocol, "frame prefix: " + std::move(text)).in(ErrorDomain::kRpc);
}

}  // namespace

Result<FrameHead> decode_prefix(std::span<const std::byte, kPrefixSize> bytes, const FrameLimits& limits) {
  const auto total = static_cast<std::int32_t>(load_be32(bytes.data()));
  const auto header = static_cast<std::int32_t>(load_be32(bytes.data() + 4));
  if (header < 0) return malformed(fmt::format("negative header length {}", header));
  // In 64 bits: the difference of two hostile 32-bit numbers must not wrap into a plausible one.
  const std::int64_t data = std::int64_t{total} - header - kCountedPrefix;
  if (data < 0) return malformed(fmt::format("total size {} is too small for a header of {} bytes", total, header));
  if (data > kMaxData) return malformed(fmt::format("{} data bytes exceed the limit of {}", data, kMaxData));
  if (static_cast<std::uint32_t>(header) > limits.max_header) {
    return malformed(fmt::format("header of {} bytes exceeds the limit of {}", header, limits.max_header));
  }
  FrameHead head;
  head.code = std::to_integer<std::uint8_t>(bytes[8]);
  head.status = std::to_integer<std::uint8_t>(bytes[9]);
  head.req_id = static_cast<std::int64_t>(load_be64(bytes.data() + 10));
  head.seq_id = static_cast<std::int32_t>(load_be32(bytes.data() + 18));
  head.header_size = static_cast<std::uint32_t>(header);
  head.data_size = static_cast<std::uint32_t>(data);
  return head;
}

void encode_prefix(std::span<std::byte, kPrefixSize> out, const FrameHead& head) {
  LEAP_CHECK(head.data_size <= kMaxData, fmt::format("frame with {} data bytes", head.data_size));
  LEAP_CHECK(head.body_size() + kCountedPrefix <= INT32_MAX, fmt::format("frame of {} bytes", head.body_size()));
  store_be32(out.data(), static_cast<std::uint32_t>(head.body_size()) + kCountedPrefix);
  store_be32(out.data() + 4, head.header_size);
  out[8] = std::byte{head.code};
  out[9] = std::byte{head.status};
  store_be64(out.data() + 10, static_cast<std::uint64_t>(head.req_id));
  store_be32(out.data() + 18, static_cast<std::uint32_t>(head.seq_id));
}

FrameHead reply_head(const FrameHead& request, ResponseStatus response) {
  return {.code = request.code,
          .status = reply_byte(request.status, response),
          .req_id = request.req_id,
          .seq_id = request.seq_id};
}

}  // namespace leap::rpc
