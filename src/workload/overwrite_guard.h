// check_overwritable: whether a device holds nothing but zeros and what a benchmark wrote, judged by both its ends.
//
// A load writes wherever it likes, so what is on the device is lost. Partition tables, file systems, volume managers and
// Leap's own superblocks all have their marks in the first or the last MiB: these two are read, and every 512 bytes of
// them must be zeros or part of a stamp (stamp.h). Data in the middle of a device with two empty ends is not found.
//
//   LEAP_CO_TRY_VOID(co_await check_overwritable(*channel, poller, pool, device.info()));
#pragma once

#include "bdev/block_device.h"
#include "poller/task.h"

namespace leap {

inline constexpr std::uint64_t kGuardedBytes = 1024 * 1024;  ///< at each end

/// Reads, never writes. Errors: kAlreadyExists (what is there and where), and what reading reports.
Task<Result<>> check_overwritable(BlockChannel& channel, NvmePoller& poller, DmaPool& pool,
                                  const BlockDeviceInfo& device);

}  // namespace leap
