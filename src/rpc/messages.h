// Protobuf headers as Curvine's peers mean them: nothing is required, what is absent takes its default.
//
// The peers' codec (prost) reads a message without its required fields, an unknown enum number and an absent header
// without complaint; Google's strict functions would refuse them. It always writes required fields, also zeros: whoever
// fills a message here sets every required field, or the peer sees something else than was meant.
//
//   proto::BlockReadRequest request;
//   LEAP_TRY_VOID(rpc::parse_header(reader.header(), request));
//   request.enable_read_ahead();      // true unless the peer said false
//
// Threading: pure. Strings from the wire are unchecked bytes: they may not be valid UTF-8.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "proto/common.pb.h"
#include "proto/worker.pb.h"

namespace leap::rpc {

/// Replaces `message` by what `header` says; an empty header gives all defaults. Allocates nothing for messages of
/// plain numbers. Error kProtocol: the bytes are no protobuf message; the connection itself is still in step.
Result<> parse_header(std::span<const std::byte> header, google::protobuf::MessageLite& message);

/// Bytes of the encoded message; also what encode_header() relies on, so call it first.
[[nodiscard]] std::size_t header_size(const google::protobuf::MessageLite& message);
/// Encodes into exactly header_size(message) bytes, fields ascending.
void encode_header(const google::protobuf::MessageLite& message, std::span<std::byte> out);

}  // namespace leap::rpc
