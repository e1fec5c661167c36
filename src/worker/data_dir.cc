#include "worker/data_dir.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include <fmt/format.h>

#include "base/units.h"

namespace leap {
namespace {

struct NamedType {
  std::string_view name;
  StorageType type;
};
constexpr std::array<NamedType, 7> kTypes{{{"MEM", StorageType::kMem},
                                           {"SSD", StorageType::kSsd},
                                           {"HDD", StorageType::kHdd},
                                           {"UFS", StorageType::kUfs},
                                           {"DISK", StorageType::kDisk},
                                           {"SPDK", StorageType::kSpdkDisk},
                                           {"SPDK_DISK", StorageType::kSpdkDisk}}};

std::string_view trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.remove_suffix(1);
  return text;
}

bool same_word(std::string_view a, std::string_view b) {
  const auto upper = [](char c) { return std::toupper(static_cast<unsigned char>(c)); };
  return std::ranges::equal(a, b, {}, upper, upper);
}

Error bad(std::string_view entry, std::string_view why) {
  return Error(Errc::kInvalidArgument, fmt::format("'{}': {}", entry, why)).in(ErrorDomain::kConfig);
}

/// "SSD", "20GB" or "SSD:20GB": what stands between the brackets.
Result<> read_prefix(std::string_view entry, std::string_view prefix, DataDir& dir) {
  const bool word = std::ranges::all_of(
      prefix, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == ':'; });
  if (prefix.empty() || !word)
    return bad(entry, "expected [TYPE], [SIZE] or [TYPE:SIZE] before the path, without blanks or dots");
  const std::size_t colon = prefix.find(':');
  std::string_view size = prefix;
  if (colon != std::string_view::npos) {
    size = prefix.substr(colon + 1);
    if (size.find(':') != std::string_view::npos) return bad(entry, "more than one ':' between the brackets");
    // A type that Curvine does not know means any disk.
    if (const StorageType* type = find_storage_type(prefix.substr(0, colon))) dir.type = *type;
  } else if (const StorageType* type = find_storage_type(prefix)) {
    dir.type = *type;
    return {};
  }
  Result<std::uint64_t> bytes = parse_size(size);
  if (!bytes.ok()) return bad(entry, fmt::format("'{}' is neither a storage type nor a size", size));
  dir.capacity = *bytes;
  return {};
}

}  // namespace

const StorageType* find_storage_type(std::string_view name) {
  const auto* found = std::ranges::find_if(kTypes, [&](const NamedType& t) { return same_word(t.name, name); });
  return found == kTypes.end() ? nullptr : &found->type;
}

Result<DataDir> DataDir::parse(std::string_view entry, const std::string& base) {
  const std::string_view text = trim(entry);
  DataDir dir;
  std::string_view path = text;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return bad(entry, "'[' without ']'");
    LEAP_TRY_VOID(read_prefix(entry, text.substr(1, close - 1), dir));
    path = trim(text.substr(close + 1));
  }
  if (path.empty()) return bad(entry, "no path");
  dir.path = path.starts_with('/') ? std::string(path) : fmt::format("{}/{}", base, path);
  return dir;
}

std::string DataDir::cluster_dir(std::string_view cluster_id) const { return fmt::format("{}/{}", path, cluster_id); }

}  // namespace leap
