#include "store/record.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/crc32c.h"
#include "base/endian.h"

namespace leap {
namespace {

// Every value: kind u8, version u8, zero u16, fields ..., crc32c u32 of all before it.
constexpr std::size_t kHeader = 4;
constexpr std::size_t kTrailer = 4;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::byte* tail(std::string& out, std::size_t size) {
  out.resize(out.size() + size);
  return reinterpret_cast<std::byte*>(out.data() + out.size() - size);
}

class Encoder {
 public:
  Encoder(char kind, std::uint8_t version, std::size_t body) {
    out_.reserve(kHeader + body + kTrailer);
    out_.push_back(kind);
    out_.push_back(static_cast<char>(version));
    out_.append(2, '\0');
  }
  void u32(std::uint32_t value) { store_le32(tail(out_, 4), value); }
  void u64(std::uint64_t value) { store_le64(tail(out_, 8), value); }
  void id(BlockId value) { u64(static_cast<std::uint64_t>(value.value())); }
  void uuid(const Uuid& value) { std::memcpy(tail(out_, 16), value.bytes.data(), 16); }
  void text(std::string_view value) {
    u32(static_cast<std::uint32_t>(value.size()));
    out_.append(value);
  }
  std::string finish() && {
    const std::uint32_t crc = crc32c(bytes_of(out_));
    u32(crc);
    return std::move(out_);
  }

 private:
  std::string out_;
};

// Reads fields in order; a read past the end gives zeros and makes ok() false, which finish() reports.
class Decoder {
 public:
  Decoder(std::string_view value, char kind, std::uint8_t newest, const char* name) : name_(name) {
    if (value.size() < kHeader + kTrailer || value[0] != kind) {
      error_ = corrupt(fmt::format("{} bytes that are no such record", value.size()));
      return;
    }
    const auto body = bytes_of(value.substr(0, value.size() - kTrailer));
    if (load_le32(bytes_of(value).data() + body.size()) != crc32c(body)) {
      error_ = corrupt("its checksum does not match");
      return;
    }
    const auto version = static_cast<std::uint8_t>(value[1]);
    if (version == 0 || version > newest) {
      error_ =
          Error(Errc::kUnsupported, fmt::format("{}: version {}, this program knows 1..{}", name_, version, newest))
              .in(ErrorDomain::kStore);
      return;
    }
    left_ = body.subspan(kHeader);
  }

  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  [[nodiscard]] std::size_t left() const { return left_.size(); }

  std::uint32_t u32() { return take(4) ? load_le32(taken_) : 0; }
  std::uint64_t u64() { return take(8) ? load_le64(taken_) : 0; }
  BlockId id() { return BlockId{static_cast<std::int64_t>(u64())}; }
  Uuid uuid() {
    Uuid value;
    if (take(16)) std::memcpy(value.bytes.data(), taken_, 16);
    return value;
  }
  std::string text() {
    const std::uint32_t size = u32();
    if (!take(size)) return {};
    return std::string(reinterpret_cast<const char*>(taken_), size);
  }
  /// A count whose items, `item` bytes each, must all be there.
  std::size_t count(std::size_t item) {
    const std::uint32_t n = u32();
    if (ok() && n > left_.size() / item) error_ = corrupt(fmt::format("{} items in {} bytes", n, left_.size()));
    return ok() ? n : 0;
  }
  void require(bool condition, const char* what) {
    if (ok() && !condition) error_ = corrupt(what);
  }
  template <typename T>
  Result<T> finish(T value) {
    require(left_.empty(), "bytes after its end");
    if (error_) return std::move(*error_);
    return value;
  }

 private:
  Error corrupt(std::string what) const {
    return Error(Errc::kCorrupt, fmt::format("{}: {}", name_, what)).in(ErrorDomain::kStore);
  }
  bool take(std::size_t size) {
    if (!ok()) return false;
    if (left_.size() < size) {
      error_ = corrupt("it ends too early");
      return false;
    }
    taken_ = left_.data();
    left_ = left_.subspan(size);
    return true;
  }

  const char* name_;
  std::optional<Error> error_;
  std::span<const std::byte> left_;
  const std::byte* taken_ = nullptr;
};

constexpr std::size_t kExtentItem = 16;  // logical page u32, pages u32, device page u64
constexpr std::size_t kRunItem = 12;     // first segment u32, generation u64
constexpr std::size_t kGarbageItem = 12;
constexpr std::uint64_t kMaxDevicePage = UINT64_MAX / kStorePage / 2;

std::string be64(char prefix, std::uint64_t a, bool with_prefix) {
  std::string key;
  if (with_prefix) key.push_back(prefix);
  store_be64(tail(key, 8), a);
  return key;
}

void check_extents(Decoder& in, const BlockRecord& record) {
  std::uint64_t end = 0;
  std::vector<Extent> device;
  device.reserve(record.extents.size());
  for (const MappedExtent& extent : record.extents) {
    in.require(extent.length != 0 && extent.logical_offset >= end, "its extents are not in order");
    end = extent.logical_end();
    device.push_back(extent.device());
  }
  in.require(end <= page_round_up(record.length), "an extent lies past its length");
  if (device.size() < 2) return;
  std::sort(device.begin(), device.end(),
            [](const Extent& a, const Extent& b) { return a.device_offset < b.device_offset; });
  for (std::size_t i = 1; i < device.size(); ++i) {
    in.require(device[i - 1].end() <= device[i].device_offset, "two of its extents overlap on the device");
  }
}

}  // namespace

std::string block_key(BlockId id) { return be64(0, static_cast<std::uint64_t>(id.value()), false); }

std::string crc_key(BlockId id, std::uint64_t generation, std::uint32_t segment) {
  std::string key = block_key(id);
  store_be64(tail(key, 8), generation);
  store_be32(tail(key, 4), segment);
  return key;
}

std::string extent_key(std::uint64_t device_offset) { return be64(0, device_offset, false); }

std::string garbage_key(BlockId id, std::uint64_t generation) {
  std::string key = be64(kGarbagePrefix.front(), static_cast<std::uint64_t>(id.value()), true);
  store_be64(tail(key, 8), generation);
  return key;
}

std::optional<std::uint64_t> parse_extent_key(std::string_view key) {
  if (key.size() != 8) return std::nullopt;
  return load_be64(bytes_of(key).data());
}

std::optional<BlockId> parse_block_key(std::string_view key) {
  if (key.size() != 8) return std::nullopt;
  return BlockId{static_cast<std::int64_t>(load_be64(bytes_of(key).data()))};
}

std::string encode(const BlockRecord& record) {
  Encoder out('B', 1, 40 + record.extents.size() * kExtentItem + record.crc_runs.size() * kRunItem);
  out.id(record.id);
  out.u64(record.generation);
  out.u64(record.length);
  out.u64(record.capacity);
  out.u32(static_cast<std::uint32_t>(record.extents.size()));
  for (const MappedExtent& extent : record.extents) {
    out.u32(static_cast<std::uint32_t>(extent.logical_offset / kStorePage));
    out.u32(static_cast<std::uint32_t>(extent.length / kStorePage));
    out.u64(extent.device_offset / kStorePage);
  }
  out.u32(static_cast<std::uint32_t>(record.crc_runs.size()));
  for (const CrcRun& run : record.crc_runs) {
    out.u32(run.first_segment);
    out.u64(run.generation);
  }
  return std::move(out).finish();
}

Result<BlockRecord> decode_block_record(std::string_view value) {
  Decoder in(value, 'B', 1, "block record");
  BlockRecord record;
  record.id = in.id();
  record.generation = in.u64();
  record.length = in.u64();
  record.capacity = in.u64();
  in.require(record.id.value() > 0, "its block id is not positive");
  in.require(record.length <= kMaxBlockCapacity && record.capacity <= kMaxBlockCapacity, "its length is out of range");
  const std::size_t extents = in.count(kExtentItem);
  in.require(extents <= kMaxBlockExtents, "too many extents");
  for (std::size_t i = 0; i < extents && in.ok(); ++i) {
    MappedExtent extent;
    extent.logical_offset = std::uint64_t{in.u32()} * kStorePage;
    extent.length = std::uint64_t{in.u32()} * kStorePage;
    const std::uint64_t device_page = in.u64();
    in.require(device_page <= kMaxDevicePage, "an extent is out of range");
    extent.device_offset = device_page * kStorePage;
    record.extents.push_back(extent);
  }
  const std::size_t runs = in.count(kRunItem);
  for (std::size_t i = 0; i < runs && in.ok(); ++i) {
    const CrcRun run{in.u32(), in.u64()};
    in.require(i == 0 ? run.first_segment == 0 : run.first_segment > record.crc_runs.back().first_segment,
               "its checksum runs are not in order");
    record.crc_runs.push_back(run);
  }
  in.require(record.extents.empty() == record.crc_runs.empty(), "it has extents without checksums or the reverse");
  if (in.ok()) check_extents(in, record);
  return in.finish(std::move(record));
}

std::string encode(const CrcSegment& record) {
  Encoder out('C', 1, 24 + record.crcs.size() * 4);
  out.id(record.id);
  out.u64(record.generation);
  out.u32(record.index);
  out.u32(static_cast<std::uint32_t>(record.crcs.size()));
  for (const std::uint32_t crc : record.crcs) out.u32(crc);
  return std::move(out).finish();
}

Result<CrcSegment> decode_crc_segment(std::string_view value) {
  Decoder in(value, 'C', 1, "checksum segment");
  CrcSegment record;
  record.id = in.id();
  record.generation = in.u64();
  record.index = in.u32();
  const std::size_t count = in.count(4);
  in.require(count <= kPagesPerSegment, "too many checksums");
  if (in.ok()) record.crcs.reserve(count);
  for (std::size_t i = 0; i < count && in.ok(); ++i) record.crcs.push_back(in.u32());
  return in.finish(std::move(record));
}

std::string encode(const ExtentRecord& record) {
  Encoder out('E', 1, 32);
  out.u64(record.extent.device_offset);
  out.u64(record.extent.length);
  out.id(record.owner);
  out.u64(record.generation);
  return std::move(out).finish();
}

Result<ExtentRecord> decode_extent_record(std::string_view value) {
  Decoder in(value, 'E', 1, "extent record");
  ExtentRecord record;
  record.extent.device_offset = in.u64();
  record.extent.length = in.u64();
  record.owner = in.id();
  record.generation = in.u64();
  const Extent& e = record.extent;
  in.require(
      e.length != 0 && e.device_offset % kStorePage == 0 && e.length % kStorePage == 0 && e.end() > e.device_offset,
      "its extent is empty, not aligned or out of range");
  return in.finish(record);
}

std::string encode(const IdentityRecord& record) {
  Encoder out('I', 1, 48 + record.cluster_id.size());
  out.uuid(record.device_uuid);
  out.text(record.cluster_id);
  out.u64(record.epoch);
  out.u32(record.clean ? 1 : 0);
  return std::move(out).finish();
}

Result<IdentityRecord> decode_identity_record(std::string_view value) {
  Decoder in(value, 'I', 1, "identity record");
  IdentityRecord record;
  record.device_uuid = in.uuid();
  record.cluster_id = in.text();
  record.epoch = in.u64();
  record.clean = in.u32() != 0;
  return in.finish(std::move(record));
}

std::string encode(const AllocatorRecord& record) {
  Encoder out('A', 1, 32 + record.state.free.size() * 16);
  out.u64(record.epoch);
  out.u64(record.blocks);
  out.u64(record.state.cursor);
  out.u32(static_cast<std::uint32_t>(record.state.free.size()));
  for (const Extent& range : record.state.free) {
    out.u64(range.device_offset);
    out.u64(range.length);
  }
  return std::move(out).finish();
}

Result<AllocatorRecord> decode_allocator_record(std::string_view value) {
  Decoder in(value, 'A', 1, "allocator record");
  AllocatorRecord record;
  record.epoch = in.u64();
  record.blocks = in.u64();
  record.state.cursor = in.u64();
  const std::size_t ranges = in.count(16);
  if (in.ok()) record.state.free.reserve(ranges);
  for (std::size_t i = 0; i < ranges && in.ok(); ++i) {
    const std::uint64_t offset = in.u64();
    record.state.free.push_back({offset, in.u64()});
  }
  return in.finish(std::move(record));
}

std::string encode(const GarbageRecord& record) {
  Encoder out('G', 1, 24 + record.items.size() * kGarbageItem);
  out.id(record.id);
  out.u64(record.generation);
  out.u32(static_cast<std::uint32_t>(record.items.size()));
  for (const GarbageRecord::Item& item : record.items) {
    out.u32(item.segment);
    out.u64(item.generation);
  }
  return std::move(out).finish();
}

Result<GarbageRecord> decode_garbage_record(std::string_view value) {
  Decoder in(value, 'G', 1, "garbage record");
  GarbageRecord record;
  record.id = in.id();
  record.generation = in.u64();
  const std::size_t items = in.count(kGarbageItem);
  for (std::size_t i = 0; i < items && in.ok(); ++i) {
    const std::uint32_t segment = in.u32();
    record.items.push_back({segment, in.u64()});
  }
  return in.finish(std::move(record));
}

std::optional<std::uint64_t> crc_generation(std::span<const CrcRun> runs, std::uint32_t segment) {
  const auto after = std::partition_point(runs.begin(), runs.end(),
                                          [segment](const CrcRun& run) { return run.first_segment <= segment; });
  if (after == runs.begin()) return std::nullopt;
  return std::prev(after)->generation;
}

}  // namespace leap
