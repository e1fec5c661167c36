#include "bdev/device_uri.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "base/units.h"
#include "bdev/mem_bdev.h"
#include "nvme/address.h"

namespace leap {
namespace {

constexpr std::string_view kForms =
    "mem:?size=512MiB, file:///path?size=10GiB, nvme+tcp://host:port/nqn?ns=1 or 'trtype:TCP adrfam:IPv4 traddr:... "
    "trsvcid:... subnqn:...'";

Error bad(std::string_view text, const std::string& what) {
  return Error(Errc::kInvalidArgument, fmt::format("device '{}': {}", text, what)).in(ErrorDomain::kConfig);
}

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), text.begin(), [](char a, char b) {
           return a == std::tolower(static_cast<unsigned char>(b));
         });
}

/// Takes an option out of the map, so that what is left over is unknown.
std::string take(DeviceUri& uri, std::string_view key, std::string fallback) {
  const auto it = uri.options.find(key);
  if (it == uri.options.end()) return fallback;
  std::string value = std::move(it->second);
  uri.options.erase(it);
  return value;
}

Result<std::uint32_t> parse_block_size(std::string_view text, const std::string& value) {
  Result<std::uint64_t> size = parse_size(value);
  if (!size.ok()) return std::move(size).error().context(fmt::format("device '{}': block", text));
  if (size.value() > 65536) return bad(text, fmt::format("block={} is larger than 64 KiB", value));
  return static_cast<std::uint32_t>(size.value());
}

Result<std::unique_ptr<BlockDevice>> open_file_device(std::string_view text, DeviceUri uri, std::uint32_t block,
                                                      std::uint64_t size, FileBdev::Fit fit) {
  FileBdev::Config config;
  config.fit = fit;
  config.path = uri.path;
  config.size = size;
  config.block_size = block;
  if (config.path.empty()) return bad(text, "no path (file:///absolute/path)");
  const std::string engine = take(uri, "engine", "");
  if (engine == "threads")
    config.engine = FileEngineKind::kThreads;
  else if (engine == "io_uring")
    config.engine = FileEngineKind::kIoUring;
  else if (!engine.empty())
    return bad(text, fmt::format("engine={}: io_uring or threads", engine));
  const std::string direct = take(uri, "direct", "1");
  if (direct != "0" && direct != "1") return bad(text, fmt::format("direct={}: 0 or 1", direct));
  config.direct = direct == "1";
  if (!uri.options.empty())
    return bad(text, fmt::format("unknown option '{}' (size, block, engine, direct)", uri.options.begin()->first));
  LEAP_TRY(auto device, FileBdev::open(std::move(config)));
  return std::unique_ptr<BlockDevice>(std::move(device));
}

}  // namespace

Result<DeviceKind> device_kind(std::string_view text) {
  if (starts_with_ignoring_case(text, "mem:")) return DeviceKind::kMemory;
  if (starts_with_ignoring_case(text, "file:")) return DeviceKind::kFile;
  // An address without its trtype is still meant to be one, and its parser says what is missing.
  if (nvme::TransportAddress::looks_like(text) || text.find("traddr:") != std::string_view::npos)
    return DeviceKind::kNvme;
  return bad(text, fmt::format("not a device; it is {}", kForms));
}

Result<DeviceUri> DeviceUri::parse(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return bad(text, "no scheme");
  DeviceUri uri;
  uri.scheme = text.substr(0, colon);
  std::string_view rest = text.substr(colon + 1);
  const auto question = rest.find('?');
  std::string_view path = rest.substr(0, question);
  if (path.starts_with("//")) {
    path.remove_prefix(2);
    if (!path.empty() && path.front() != '/') return bad(text, "the path after // must be absolute (three slashes)");
  }
  uri.path = path;
  if (question == std::string_view::npos) return uri;
  std::string_view query = rest.substr(question + 1);
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const std::string_view option = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const auto equals = option.find('=');
    if (equals == std::string_view::npos || equals == 0)
      return bad(text, fmt::format("option '{}' is not key=value", option));
    const auto [it, added] = uri.options.emplace(option.substr(0, equals), option.substr(equals + 1));
    if (!added) return bad(text, fmt::format("option '{}' is given twice", it->first));
  }
  return uri;
}

Result<std::unique_ptr<BlockDevice>> open_local_device(std::string_view text, std::string name, FileBdev::Fit fit) {
  LEAP_TRY(const DeviceKind kind, device_kind(text));
  if (kind == DeviceKind::kNvme) return bad(text, "is not local");
  LEAP_TRY(DeviceUri uri, DeviceUri::parse(text));
  std::uint64_t size = 0;
  if (const std::string value = take(uri, "size", ""); !value.empty()) {
    Result<std::uint64_t> parsed = parse_size(value);
    if (!parsed.ok()) return std::move(parsed).error().context(fmt::format("device '{}': size", text));
    size = parsed.value();
  }
  LEAP_TRY(const std::uint32_t block, parse_block_size(text, take(uri, "block", "4096")));
  if (kind == DeviceKind::kFile) return open_file_device(text, std::move(uri), block, size, fit);
  if (!uri.path.empty()) return bad(text, "memory has no path (mem:?size=512MiB)");
  if (!uri.options.empty())
    return bad(text, fmt::format("unknown option '{}' (size, block)", uri.options.begin()->first));
  if (size == 0) return bad(text, "needs a size (mem:?size=512MiB)");
  LEAP_TRY(auto device, MemBdev::create({.size = size, .block_size = block, .name = std::move(name)}));
  return std::unique_ptr<BlockDevice>(std::move(device));
}

}  // namespace leap
