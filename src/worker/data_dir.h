// An entry of worker.data_dir: "[TYPE:SIZE]path", as Curvine writes it.
//
//   /p                 DISK, whole device          [SSD]/p            SSD, whole device
//   [20GB]/p           DISK, 20 GiB                [SPDK_DISK:1TB]/p  SPDK_DISK, 1 TiB
//   [FOO:1GB]/p        unknown type: DISK, 1 GiB
//
// Sizes are 1024-based. Forms that Curvine silently takes for a path beginning with '[' ("[1.5TB]/p", "[SSD: 1GB]/p",
// "[]/p") are refused, as are those it refuses itself ("[A:B:C]/p", "[NVME0]/p"). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "store/types.h"

namespace leap {

struct DataDir {
  StorageType type = StorageType::kDisk;
  std::uint64_t capacity = 0;  ///< bytes; 0: all there is
  std::string path;            ///< absolute

  /// `base` makes a relative path absolute. Error kInvalidArgument, quoting the entry.
  static Result<DataDir> parse(std::string_view entry, const std::string& base);
  /// Where everything of `cluster_id` lives: <path>/<cluster_id>.
  [[nodiscard]] std::string cluster_dir(std::string_view cluster_id) const;
};

/// MEM, SSD, HDD, UFS, DISK, SPDK or SPDK_DISK in any case; anything else is nothing.
[[nodiscard]] const StorageType* find_storage_type(std::string_view name);

}  // namespace leap
