// Device strings: what a user writes to name a device.
//
//   mem:?size=512MiB[&block=4096]             memory of this process
//   file:///path[?size=10GiB][&block=4096][&engine=io_uring|threads][&direct=0|1]
//   nvme+tcp://host:port/subnqn[?ns=1]        a namespace over NVMe/TCP
//   trtype:TCP adrfam:IPv4 traddr:... ...     the same, as SPDK's users write it
//
// The NVMe forms are only recognised here (device_kind()); nvme/address.h parses them and env connects them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "bdev/block_device.h"
#include "bdev/file_bdev.h"

namespace leap {

enum class DeviceKind : std::uint8_t { kMemory, kFile, kNvme };

/// Which form `text` has. Error: kInvalidArgument, with the forms there are.
Result<DeviceKind> device_kind(std::string_view text);

/// A URI taken apart: scheme:path?key=value&...
struct DeviceUri {
  std::string scheme;
  std::string path;
  std::map<std::string, std::string, std::less<>> options;

  static Result<DeviceUri> parse(std::string_view text);
};

/// Opens a mem: or file: device. `name` makes memory devices distinguishable (their UUID derives from it).
/// Errors: kInvalidArgument (naming the part of the text that is wrong), and those of MemBdev and FileBdev.
Result<std::unique_ptr<BlockDevice>> open_local_device(std::string_view text, std::string name,
                                                       FileBdev::Fit fit = FileBdev::Fit::kExtend);

}  // namespace leap
