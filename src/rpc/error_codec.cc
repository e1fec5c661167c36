#include "rpc/error_codec.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "base/endian.h"

namespace leap::rpc {
namespace {

/// Length of the UTF-8 character at the start of `text`, or 0 if it does not begin with a valid one (Unicode 15, table
/// 3-7).
std::size_t character_size(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto in = [&](std::size_t i, unsigned low, unsigned high) {
    return i < text.size() && at(i) >= low && at(i) <= high;
  };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return in(1, 0x80, 0xBF) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const unsigned low = first == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = first == 0xED ? 0x9F : 0xBF;
    return in(1, low, high) && in(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const unsigned low = first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = first == 0xF4 ? 0x8F : 0xBF;
    return in(1, low, high) && in(2, 0x80, 0xBF) && in(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

/// `text` as valid UTF-8 of at most kMaxErrorText bytes: what is no character becomes '?'.
std::string clean_text(std::string_view text) {
  std::string out;
  out.reserve(std::min(text.size(), kMaxErrorText));
  while (!text.empty()) {
    const std::size_t size = character_size(text);
    const bool usable = size > 0 && text[0] != '\0';
    if (out.size() + std::max<std::size_t>(size, 1) > kMaxErrorText) break;
    if (usable)
      out.append(text.substr(0, size));
    else
      out.push_back('?');
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return out;
}

struct Phrase {
  std::string_view text;  ///< lower case
  std::string_view instead;
  std::optional<Errc> meant_by;  ///< an error of this kind may say it
};

// What clients search for in messages (in any case): the first five make a reader fall back to the file system below,
// the others become errno values. No replacement forms another phrase.
constexpr std::array<Phrase, 8> kPhrases{{
    {"connection refused", "connection-refused", {}},
    {"connection reset", "connection-reset", {}},
    {"early eof", "early-eof", {}},
    {"broken pipe", "broken-pipe", {}},
    {"sender dropped", "sender-dropped", {}},
    {"unsupported", "not supported", Errc::kUnsupported},
    {"not implemented", "not-implemented", Errc::kUnsupported},
    {"permission denied", "permission-denied", Errc::kPermission},
}};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

void replace_phrase(std::string& text, const Phrase& phrase) {
  const auto same = [](char a, char b) { return lower(a) == b; };
  for (std::size_t from = 0;;) {
    const auto begin = text.begin() + static_cast<std::ptrdiff_t>(from);
    const auto found = std::search(begin, text.end(), phrase.text.begin(), phrase.text.end(), same);
    if (found == text.end()) return;
    const auto at = static_cast<std::size_t>(found - text.begin());
    text.replace(at, phrase.text.size(), phrase.instead);
    from = at + phrase.instead.size();
  }
}

Errc errc_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kBlockNotFound:
    case ErrorKind::kFileNotFound:
    case ErrorKind::kJobNotFound: return Errc::kNotFound;
    case ErrorKind::kDiskOutOfSpace: return Errc::kNoSpace;
    case ErrorKind::kIo: return Errc::kIo;
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kInvalidPath:
    case ErrorKind::kInvalidFileSize: return Errc::kInvalidArgument;
    case ErrorKind::kTimeout: return Errc::kTimedOut;
    case ErrorKind::kProtobufDecode:
    case ErrorKind::kProtobufEncode: return Errc::kProtocol;
    case ErrorKind::kAbnormalData: return Errc::kCorrupt;
    case ErrorKind::kBlockIsWriting:
    case ErrorKind::kInProgress: return Errc::kBusy;
    case ErrorKind::kUnsupported: return Errc::kUnsupported;
    case ErrorKind::kReadOnly: return Errc::kPermission;
    case ErrorKind::kFileAlreadyExists: return Errc::kAlreadyExists;
    default: return Errc::kInternal;
  }
}

}  // namespace

ErrorKind kind_of(const Error& error) {
  const bool from_device = error.domain() == ErrorDomain::kOs || error.domain() == ErrorDomain::kNvme ||
                           error.domain() == ErrorDomain::kTransport;
  switch (error.kind()) {
    case Errc::kNoSpace: return ErrorKind::kDiskOutOfSpace;
    case Errc::kIo:
    case Errc::kCorrupt: return ErrorKind::kIo;
    // What an operating system or a device did not find, or did not like, is no block and no argument of the client's.
    case Errc::kNotFound: return from_device ? ErrorKind::kIo : ErrorKind::kBlockNotFound;
    case Errc::kInvalidArgument: return from_device ? ErrorKind::kIo : ErrorKind::kInvalidArgument;
    default: return from_device ? ErrorKind::kIo : ErrorKind::kCommon;
  }
}

std::string wire_text(const Error& error) {
  std::string text = error.message();
  for (const Phrase& phrase : kPhrases) {
    if (phrase.meant_by != error.kind()) replace_phrase(text, phrase);
  }
  return clean_text(text);
}

std::string encode_error(const Error& error) { return encode_error(kind_of(error), wire_text(error)); }

std::string encode_error(ErrorKind kind, std::string_view text) {
  const std::string clean = clean_text(text);
  std::string payload(12 + clean.size(), '\0');
  auto* bytes = reinterpret_cast<std::byte*>(payload.data());
  store_be32(bytes, static_cast<std::uint32_t>(kind));
  store_be32(bytes + 4, static_cast<std::uint32_t>(clean.size()));
  std::copy(clean.begin(), clean.end(), payload.begin() + 8);
  return payload;  // the extra length behind the text stays 0
}

Result<RemoteError> decode_error(std::span<const std::byte> payload) {
  if (payload.size() < 8) {
    return Error(Errc::kProtocol, fmt::format("error reply of {} bytes, at least 8 expected", payload.size()))
        .in(ErrorDomain::kRpc);
  }
  const auto number = static_cast<std::int32_t>(load_be32(payload.data()));
  const std::size_t size = load_be32(payload.data() + 4);
  if (size > payload.size() - 8) {
    return Error(Errc::kProtocol, fmt::format("error reply with a text of {} bytes in {}", size, payload.size()))
        .in(ErrorDomain::kRpc);
  }
  RemoteError remote;
  const auto kind = static_cast<ErrorKind>(number);
  remote.kind = to_string(kind) == "?" ? ErrorKind::kCommon : kind;
  remote.message = clean_text({reinterpret_cast<const char*>(payload.data()) + 8, size});
  return remote;
}

Error to_error(const RemoteError& remote) {
  return Error(errc_of(remote.kind), fmt::format("{} ({})", remote.message, to_string(remote.kind)))
      .in(ErrorDomain::kRpc);
}

}  // namespace leap::rpc
