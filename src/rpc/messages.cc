#include "rpc/messages.h"

#include <climits>

#include <fmt/format.h>

namespace leap::rpc {

Result<> parse_header(std::span<const std::byte> header, google::protobuf::MessageLite& message) {
  LEAP_CHECK(header.size() <= INT_MAX, fmt::format("header of {} bytes", header.size()));
  if (message.ParsePartialFromArray(header.data(), static_cast<int>(header.size()))) return {};
  return Error(Errc::kProtocol,
               fmt::format("header of {} bytes is not a {} message", header.size(), message.GetTypeName()))
      .in(ErrorDomain::kRpc);
}

std::size_t header_size(const google::protobuf::MessageLite& message) { return message.ByteSizeLong(); }

void encode_header(const google::protobuf::MessageLite& message, std::span<std::byte> out) {
  auto* begin = reinterpret_cast<std::uint8_t*>(out.data());
  const std::uint8_t* end = message.SerializeWithCachedSizesToArray(begin);
  LEAP_CHECK(end == begin + out.size(), fmt::format("{} encoded to another size", message.GetTypeName()));
}

}  // namespace leap::rpc
