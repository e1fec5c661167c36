#include "store/superblock.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/units.h"
#include "poller/dma_await.h"

namespace leap {
namespace {

// Byte positions of format 1 (little-endian). The checksum covers everything before it.
//
//   0  magic[8]     8  version u32   12 block_size u32   16 device_uuid[16]   32 namespace_uuid[16]
//   48 storage_id[16]   64 worker_id u32   68 cluster_id length u32   72 cluster_id[128]
//   200 device_size u64   208 data_start u64   216 data_end u64   224 epoch u64   232 created_ms i64   ...   4092 crc u32
constexpr char kMagic[8] = {'L', 'E', 'A', 'P', 'S', 'B', 'L', 'K'};
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kBlockSizeAt = 12;
constexpr std::size_t kDeviceUuidAt = 16;
constexpr std::size_t kNamespaceUuidAt = 32;
constexpr std::size_t kStorageIdAt = 48;
constexpr std::size_t kWorkerIdAt = 64;
constexpr std::size_t kClusterLengthAt = 68;
constexpr std::size_t kClusterAt = 72;
constexpr std::size_t kDeviceSizeAt = 200;
constexpr std::size_t kDataStartAt = 208;
constexpr std::size_t kDataEndAt = 216;
constexpr std::size_t kEpochAt = 224;
constexpr std::size_t kCreatedAt = 232;
constexpr std::size_t kCrcAt = Superblock::kBytes - 4;
static_assert(kClusterAt + Superblock::kMaxClusterId < kDeviceSizeAt);

constexpr bool is_page(std::uint64_t value) { return value % kStorePage == 0; }

Error corrupt(std::string what) {
  return Error(Errc::kCorrupt, "superblock: " + std::move(what))
      .in(ErrorDomain::kStore)
      .with_scope(ErrorScope::kDevice);
}

Result<> check_geometry(const Superblock& s) {
  if (!std::has_single_bit(s.block_size) || s.block_size < 512 || s.block_size > kStorePage) {
    return corrupt(fmt::format("device block size {}", s.block_size));
  }
  if (s.device_size < Superblock::kMinDeviceSize) return corrupt(fmt::format("device size {}", s.device_size));
  if (!is_page(s.data_start) || !is_page(s.data_end) || s.data_start < Superblock::kArea ||
      s.data_start >= s.data_end || s.data_end > s.device_size - Superblock::kArea) {
    return corrupt(fmt::format("data area [{}, {}) on a device of {} bytes", s.data_start, s.data_end, s.device_size));
  }
  return {};
}

std::uint64_t last_copy_offset(std::uint64_t device_size) {
  return device_size / kStorePage * kStorePage - Superblock::kArea;
}

Task<Result<Superblock>> read_copy(BlockChannel& channel, NvmePoller& poller, DmaPool& pool, std::uint64_t offset) {
  LEAP_CO_TRY(DmaBuf buffer, co_await allocate(poller, pool, Superblock::kBytes));
  LEAP_CO_TRY(DmaBuf read, co_await channel.read(offset, std::move(buffer)));
  co_return decode_superblock(read.bytes());
}

// A device error is not a damaged copy: it says nothing about what is stored.
bool is_content_error(const Error& error) { return error.domain() == ErrorDomain::kStore; }

Error shrunk(std::uint64_t is, std::uint64_t was) {
  return Error(Errc::kWrongState, fmt::format("the device has {} bytes, its superblock says {}: it has shrunk or is a "
                                              "partial copy; nothing was changed",
                                              is, was))
      .in(ErrorDomain::kStore)
      .with_scope(ErrorScope::kDevice);
}

Task<Result<>> write_copy(BlockChannel& channel, NvmePoller& poller, DmaPool& pool, Superblock superblock,
                          std::uint64_t offset) {
  LEAP_CO_TRY(DmaBuf buffer, co_await allocate(poller, pool, Superblock::kBytes));
  encode_superblock(superblock, std::span<std::byte, Superblock::kBytes>(buffer.data(), Superblock::kBytes));
  LEAP_CO_TRY_VOID(co_await channel.write(offset, std::move(buffer), BlockChannel::Sharing::kExclusive));
  co_return co_await channel.flush();
}

}  // namespace

Result<Superblock> make_superblock(const BlockDeviceInfo& device, std::string_view cluster_id, std::uint32_t worker_id,
                                   const Uuid& storage_id) {
  const auto refuse = [&device](std::string why) {
    return Error(Errc::kInvalidArgument, fmt::format("format {}: {}", device.name, why)).in(ErrorDomain::kStore);
  };
  if (cluster_id.empty() || cluster_id.size() > Superblock::kMaxClusterId) {
    return refuse(fmt::format("cluster id of {} bytes (1..{})", cluster_id.size(), Superblock::kMaxClusterId));
  }
  if (!std::has_single_bit(device.block_size) || device.block_size < 512 || device.block_size > kStorePage) {
    return refuse(fmt::format("its block size is {} bytes (512..{})", device.block_size, kStorePage));
  }
  if (device.size < Superblock::kMinDeviceSize) {
    return refuse(fmt::format("{} is too small (at least {})", format_bytes(device.size),
                              format_bytes(Superblock::kMinDeviceSize)));
  }
  Superblock s;
  s.device_uuid = Uuid::random();
  s.namespace_uuid = device.uuid;
  s.storage_id = storage_id;
  s.worker_id = worker_id;
  s.cluster_id = cluster_id;
  s.device_size = device.size;
  s.block_size = device.block_size;
  s.data_start = Superblock::kDataStart;
  s.data_end = last_copy_offset(device.size);
  s.created_ms = wall_clock_ms();
  return s;
}

void encode_superblock(const Superblock& s, std::span<std::byte, Superblock::kBytes> out) {
  std::byte* const p = out.data();
  std::memset(p, 0, out.size());
  std::memcpy(p, kMagic, sizeof kMagic);
  store_le32(p + kVersionAt, s.version);
  store_le32(p + kBlockSizeAt, s.block_size);
  std::memcpy(p + kDeviceUuidAt, s.device_uuid.bytes.data(), 16);
  std::memcpy(p + kNamespaceUuidAt, s.namespace_uuid.bytes.data(), 16);
  std::memcpy(p + kStorageIdAt, s.storage_id.bytes.data(), 16);
  store_le32(p + kWorkerIdAt, s.worker_id);
  LEAP_CHECK(s.cluster_id.size() <= Superblock::kMaxClusterId, s.cluster_id);
  store_le32(p + kClusterLengthAt, static_cast<std::uint32_t>(s.cluster_id.size()));
  std::memcpy(p + kClusterAt, s.cluster_id.data(), s.cluster_id.size());
  store_le64(p + kDeviceSizeAt, s.device_size);
  store_le64(p + kDataStartAt, s.data_start);
  store_le64(p + kDataEndAt, s.data_end);
  store_le64(p + kEpochAt, s.epoch);
  store_le64(p + kCreatedAt, static_cast<std::uint64_t>(s.created_ms));
  store_le32(p + kCrcAt, crc32c(out.first(kCrcAt)));
}

Result<Superblock> decode_superblock(std::span<const std::byte> bytes) {
  if (bytes.size() < Superblock::kBytes) return corrupt(fmt::format("only {} bytes", bytes.size()));
  const std::byte* const p = bytes.data();
  if (std::memcmp(p, kMagic, sizeof kMagic) != 0) {
    return Error(Errc::kNotFound, "no superblock: the device is not formatted (leap format)").in(ErrorDomain::kStore);
  }
  const std::uint32_t crc = crc32c(bytes.first(kCrcAt));
  if (load_le32(p + kCrcAt) != crc) {
    return corrupt(fmt::format("checksum is {:08x}, should be {:08x}", load_le32(p + kCrcAt), crc));
  }
  Superblock s;
  s.version = load_le32(p + kVersionAt);
  if (s.version == 0 || s.version > Superblock::kVersion) {
    return Error(Errc::kUnsupported, fmt::format("superblock: format version {}, this program knows 1..{}", s.version,
                                                 Superblock::kVersion))
        .in(ErrorDomain::kStore);
  }
  s.block_size = load_le32(p + kBlockSizeAt);
  std::memcpy(s.device_uuid.bytes.data(), p + kDeviceUuidAt, 16);
  std::memcpy(s.namespace_uuid.bytes.data(), p + kNamespaceUuidAt, 16);
  std::memcpy(s.storage_id.bytes.data(), p + kStorageIdAt, 16);
  s.worker_id = load_le32(p + kWorkerIdAt);
  const std::uint32_t cluster_length = load_le32(p + kClusterLengthAt);
  if (cluster_length == 0 || cluster_length > Superblock::kMaxClusterId) {
    return corrupt(fmt::format("cluster id of {} bytes", cluster_length));
  }
  s.cluster_id.resize(cluster_length);
  std::memcpy(s.cluster_id.data(), p + kClusterAt, cluster_length);
  s.device_size = load_le64(p + kDeviceSizeAt);
  s.data_start = load_le64(p + kDataStartAt);
  s.data_end = load_le64(p + kDataEndAt);
  s.epoch = load_le64(p + kEpochAt);
  s.created_ms = static_cast<std::int64_t>(load_le64(p + kCreatedAt));
  LEAP_TRY_VOID(check_geometry(s));
  return s;
}

Task<Result<LoadedSuperblock>> load_superblock(BlockChannel& channel, NvmePoller& poller, DmaPool& pool,
                                               std::uint64_t device_size) {
  if (device_size < Superblock::kMinDeviceSize) {
    co_return Error(Errc::kNotFound,
                    fmt::format("no superblock: a device of {} is too small to have one", format_bytes(device_size)))
        .in(ErrorDomain::kStore);
  }
  Result<Superblock> first = co_await read_copy(channel, poller, pool, 0);
  if (!first && !is_content_error(first.error())) co_return std::move(first).error();
  if (first && first->device_size > device_size) co_return shrunk(device_size, first->device_size);
  const std::uint64_t last_at = last_copy_offset(first ? first->device_size : device_size);
  Result<Superblock> last = co_await read_copy(channel, poller, pool, last_at);
  if (!last && !is_content_error(last.error())) co_return std::move(last).error();

  if (!first && !last) {
    // "Not formatted" only if neither copy shows a trace of one.
    if (first.error().kind() == Errc::kNotFound) co_return std::move(last).error();
    co_return std::move(first).error();
  }
  // A newer program has been here: touching the other copy would undo its work.
  if (!first && first.error().kind() == Errc::kUnsupported) co_return std::move(first).error();
  if (!last && last.error().kind() == Errc::kUnsupported) co_return std::move(last).error();

  if (last && last->device_size > device_size) co_return shrunk(device_size, last->device_size);
  const bool agree = first && last && first->device_uuid == last->device_uuid;
  if (!agree && first) {
    // Without agreement the copy at the start decides: the other may be what a smaller or older format left.
    co_return LoadedSuperblock{std::move(*first), false, true};
  }
  if (!first) co_return LoadedSuperblock{std::move(*last), true, false};
  LoadedSuperblock loaded;
  loaded.repair_first = first->epoch < last->epoch;
  loaded.repair_last = last->epoch < first->epoch;
  loaded.superblock = loaded.repair_first ? std::move(*last) : std::move(*first);
  co_return loaded;
}

Task<Result<std::optional<std::uint64_t>>> find_foreign_data(BlockChannel& channel, NvmePoller& poller, DmaPool& pool,
                                                             std::uint64_t device_size) {
  constexpr std::uint64_t kPiece = 64 * 1024;
  const std::uint64_t tail = last_copy_offset(device_size);
  for (std::uint64_t at = 0; at < device_size; at += kPiece) {
    if (at >= Superblock::kDataStart && at < tail) at = tail;
    LEAP_CO_TRY(DmaBuf buffer, co_await allocate(poller, pool, std::min(kPiece, device_size - at)));
    LEAP_CO_TRY(DmaBuf read, co_await channel.read(at, std::move(buffer)));
    const auto bytes = read.bytes();
    const auto found = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
    if (found != bytes.end()) co_return std::optional(at + static_cast<std::uint64_t>(found - bytes.begin()));
  }
  co_return std::optional<std::uint64_t>();
}

Task<Result<>> store_superblock(BlockChannel& channel, NvmePoller& poller, DmaPool& pool, Superblock superblock) {
  LEAP_CO_TRY_VOID(co_await write_copy(channel, poller, pool, superblock, last_copy_offset(superblock.device_size)));
  co_return co_await write_copy(channel, poller, pool, superblock, 0);
}

}  // namespace leap
