// The numbers of Curvine's RPC: codes, the two nibbles of the status byte, error kinds. Pure.
//
// Anything may arrive in a byte: reading never fails, what is unknown becomes kUndefined (statuses) or is kept as the
// number it is (codes and error kinds).
#pragma once

#include <cstdint>
#include <string_view>

namespace leap::rpc {

enum class RpcCode : std::uint8_t {
  kUndefined = 0,
  kWriteBlock = 80,
  kReadBlock = 81,
  kLeapWorkerInfo = 120,  ///< ours alone (proto/leap.proto); Curvine's programs never send it
};

/// What a request does to its session: the low nibble of the status byte.
enum class RequestStatus : std::uint8_t {
  kHeartbeat = 0,  ///< keep-alive: swallowed, never answered
  kRpc = 1,        ///< one request, one reply, no session
  kOpen = 2,
  kRunning = 3,
  kCancel = 4,
  kComplete = 5,
  kUndefined = 15,
};

/// The high nibble. Every request carries kUndefined there; nobody looks at it.
enum class ResponseStatus : std::uint8_t { kSuccess = 0, kError = 1, kUndefined = 15 };

[[nodiscard]] constexpr RequestStatus request_status(std::uint8_t status) {
  const unsigned low = status & 0x0FU;
  return low <= 5 ? static_cast<RequestStatus>(low) : RequestStatus::kUndefined;
}
[[nodiscard]] constexpr ResponseStatus response_status(std::uint8_t status) {
  const unsigned high = status >> 4U;
  return high <= 1 ? static_cast<ResponseStatus>(high) : ResponseStatus::kUndefined;
}
[[nodiscard]] constexpr std::uint8_t request_byte(RequestStatus request) {
  return static_cast<std::uint8_t>(0xF0U | static_cast<unsigned>(request));
}
/// The status of a reply to a request with status byte `request`, whose low nibble is echoed as it came.
[[nodiscard]] constexpr std::uint8_t reply_byte(std::uint8_t request, ResponseStatus response) {
  return static_cast<std::uint8_t>((request & 0x0FU) | (static_cast<unsigned>(response) << 4U));
}
/// Neither nibble means anything: the sender asks for the connection to be closed.
[[nodiscard]] constexpr bool is_empty_message(std::uint8_t status) {
  return request_status(status) == RequestStatus::kUndefined && response_status(status) == ResponseStatus::kUndefined;
}

/// The kind in an error payload. Peers take unknown numbers for kCommon.
enum class ErrorKind : std::int32_t {
  kIo = 1,
  kNotLeaderMaster = 2,
  kRaft = 3,
  kTimeout = 4,
  kProtobufDecode = 5,
  kProtobufEncode = 6,
  kFileAlreadyExists = 7,
  kFileNotFound = 8,
  kInvalidFileSize = 9,
  kParentNotDir = 10,
  kDirNotEmpty = 11,
  kAbnormalData = 12,
  kBlockIsWriting = 13,
  kBlockInfo = 14,
  kLease = 15,
  kInvalidPath = 16,
  kDiskOutOfSpace = 17,
  kInProgress = 18,
  kUnsupported = 19,
  kUfs = 20,
  kExpired = 21,
  kUnsupportedUfsRead = 22,
  kJobNotFound = 23,
  kPipeline = 24,
  kMinReplicasNotMet = 25,
  kIsADirectory = 26,
  kNotADirectory = 27,
  kInvalidArgument = 28,
  kBlockNotFound = 29,
  kReadOnly = 30,
  kNoAvailableWorker = 31,
  kNoLocalPath = 32,
  kTransferOverloaded = 33,
  kTransferStoreUnavailable = 34,
  kTransferAlreadyRunning = 35,
  kTransferTargetConflict = 36,
  kCommon = 10000,
};

/// For messages: "WriteBlock", "Open", "BlockNotFound"; unknown values give "?".
std::string_view to_string(RpcCode code);
std::string_view to_string(RequestStatus status);
std::string_view to_string(ErrorKind kind);

}  // namespace leap::rpc
