#include "workload/overwrite_guard.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "poller/dma_await.h"
#include "store/superblock.h"
#include "workload/stamp.h"

namespace leap {
namespace {

constexpr std::size_t kSector = 512;
constexpr std::uint64_t kStep = 64 * 1024;

bool expendable(std::span<const std::byte> sector) {
  return is_stamped(sector) || std::all_of(sector.begin(), sector.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// What is at `at`, in words.
std::string describe(std::span<const std::byte> bytes, std::size_t at) {
  const std::size_t page = at / Superblock::kBytes * Superblock::kBytes;
  if (page + Superblock::kBytes <= bytes.size()) {
    const Result<Superblock> superblock = decode_superblock(bytes.subspan(page, Superblock::kBytes));
    if (superblock.ok()) return fmt::format("the superblock of a Leap worker (cluster '{}')", superblock->cluster_id);
    if (superblock.error().kind() != Errc::kNotFound) return "the superblock of a Leap worker";
  }
  return "data that no benchmark wrote";
}

}  // namespace

Task<Result<>> check_overwritable(BlockChannel& channel, NvmePoller& poller, DmaPool& pool,
                                  const BlockDeviceInfo& device) {
  const std::uint64_t last = device.size > kGuardedBytes ? device.size - kGuardedBytes : 0;
  const std::array<std::pair<std::uint64_t, std::uint64_t>, 2> ends{
      {{0, std::min(kGuardedBytes, device.size)}, {last / kStep * kStep, device.size}}};
  for (const auto& [begin, end] : ends) {
    for (std::uint64_t at = begin; at < end; at += kStep) {
      LEAP_CO_TRY(DmaBuf buffer, co_await allocate(poller, pool, std::min(kStep, end - at)));
      LEAP_CO_TRY(const DmaBuf read, co_await channel.read(at, std::move(buffer)));
      for (std::size_t sector = 0; sector < read.size(); sector += kSector) {
        if (expendable(read.bytes().subspan(sector, std::min(kSector, read.size() - sector)))) continue;
        co_return Error(Errc::kAlreadyExists,
                        fmt::format("{} holds {} at byte {}, which this load would destroy; --overwrite lets it",
                                    device.name, describe(read.bytes(), sector), at + sector));
      }
    }
  }
  co_return Result<>{};
}

}  // namespace leap
