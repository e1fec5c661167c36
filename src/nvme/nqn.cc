#include "nvme/nqn.h"

#include <cstdint>
#include <utility>

#include <fmt/format.h>

namespace leap::nvme {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Bytes of the UTF-8 sequence at the start of text; 0 when it is not well formed (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto continues = [&](std::size_t i) { return (at(i) & 0xC0U) == 0x80U; };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && at(1) < 0xA0;
    const bool surrogate = lead == 0xED && at(1) > 0x9F;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool overlong = lead == 0xF0 && at(1) < 0x90;
    const bool too_large = lead == 0xF4 && at(1) > 0x8F;
    return continues(1) && continues(2) && continues(3) && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

/// Printable for messages: cut, and bytes that would garble a terminal replaced.
std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 64;
  std::string shown(text.substr(0, kShown));
  for (char& c : shown) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  return text.size() > kShown ? shown + "..." : shown;
}

/// Empty when well formed, otherwise the reason.
std::string_view reason_against(std::string_view nqn) {
  if (nqn.empty()) return "it is empty";
  if (nqn.size() > kMaxNqnBytes) return "it is longer than 223 bytes";
  for (std::size_t i = 0; i < nqn.size();) {
    const std::size_t length = utf8_length(nqn.substr(i));
    if (length == 0) return "it is not UTF-8";
    if (length == 1 && (nqn[i] <= ' ' || nqn[i] == 0x7F)) return "it holds a blank or a control character";
    i += length;
  }
  if (nqn.substr(0, 4) != "nqn.") return "it does not start with 'nqn.'";
  const std::string_view date = nqn.substr(4, 8);
  const bool has_date = date.size() == 8 && is_digit(date[0]) && is_digit(date[1]) && is_digit(date[2]) &&
                        is_digit(date[3]) && date[4] == '-' && is_digit(date[5]) && is_digit(date[6]) && date[7] == '.';
  if (!has_date) return "'nqn.' is not followed by a date such as '2014-08.'";
  const int month = (date[5] - '0') * 10 + (date[6] - '0');
  if (month < 1 || month > 12) return "its month is not 01 to 12";

  if (nqn.substr(0, kUuidNqnPrefix.size()) == kUuidNqnPrefix) {
    const std::string_view text = nqn.substr(kUuidNqnPrefix.size());
    return text.size() == 36 && Uuid::parse(text).ok() ? "" : "its 'uuid:' is not followed by a UUID";
  }
  const std::string_view rest = nqn.substr(12);
  const std::size_t colon = rest.find(':');
  const std::string_view domain = rest.substr(0, colon);
  if (domain.empty() || domain.front() == '.' || domain.back() == '.' || domain.find("..") != domain.npos) {
    return "its reverse domain name is malformed";
  }
  for (const char c : domain) {
    if (!is_letter(c) && !is_digit(c) && c != '-' && c != '.' && c != '_') {
      return "its reverse domain name holds a character other than letters, digits, '-', '_' and '.'";
    }
  }
  if (colon != rest.npos && colon + 1 == rest.size()) return "nothing follows its ':'";
  return "";
}

}  // namespace

Result<> validate_nqn(std::string_view nqn) {
  const std::string_view reason = reason_against(nqn);
  if (reason.empty()) return {};
  return Error(Errc::kInvalidArgument, fmt::format("NQN '{}' is malformed: {}", quoted(nqn), reason))
      .in(ErrorDomain::kNvme);
}

std::string nqn_from_uuid(const Uuid& uuid) { return std::string(kUuidNqnPrefix) + uuid.to_string(); }

}  // namespace leap::nvme
