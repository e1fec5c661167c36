// Errors on the wire: the data part of a reply whose response status is Error (such a reply has no header).
//
//   0          4            8                8+n
//   +----------+------------+----------------+---------------+
//   | kind i32 | n u32      | n bytes UTF-8  | extra u32 = 0 |      big-endian; 12 bytes or more
//   +----------+------------+----------------+---------------+
//
// Peers act on the kind and on words in the text (they turn "unsupported" into ENOSYS, "connection reset" into a retry
// elsewhere), so texts about something else must not contain those words: encoding rewrites them.
//
// Threading: pure functions.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "rpc/codes.h"

namespace leap::rpc {

/// Longest message that is sent, bytes; the rest is cut off between characters.
inline constexpr std::size_t kMaxErrorText = 4096;

struct RemoteError {
  ErrorKind kind = ErrorKind::kCommon;
  std::string message;
};

/// 29 not found, 17 no space, 28 bad argument, 1 the device or the data on it, 10000 everything else.
[[nodiscard]] ErrorKind kind_of(const Error& error);

/// Valid UTF-8 without NUL, at most kMaxErrorText bytes, without the phrases that peers would misunderstand given the
/// error.
[[nodiscard]] std::string wire_text(const Error& error);

/// The payload for `error`.
[[nodiscard]] std::string encode_error(const Error& error);
/// The payload for exactly this kind and text; the text is made valid UTF-8 but otherwise left as it is.
[[nodiscard]] std::string encode_error(ErrorKind kind, std::string_view text);

/// Error kProtocol: shorter than 8 bytes, or a text longer than the payload. The extra field may be missing; unknown
/// kinds become kCommon, a text that is no UTF-8 is repaired.
Result<RemoteError> decode_error(std::span<const std::byte> payload);

/// What a client throws up to its caller: domain kRpc, kind by meaning, text "<message> (<kind name>)".
[[nodiscard]] Error to_error(const RemoteError& remote);

}  // namespace leap::rpc
