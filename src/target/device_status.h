// What a device's Error becomes on the wire.
//
// An NVMe device behind the namespace is passed through exactly (status code type, code, DNR). Everything else maps by
// kind: full devices to Capacity Exceeded, unreachable ones to Namespace Not Ready (the host retries), corruption and
// I/O errors to the media errors of the command's direction. Pure.
#pragma once

#include "base/error.h"
#include "nvme/command.h"

namespace leap::target {

[[nodiscard]] NvmeStatusCode device_status(const Error& error, nvme::NvmOpcode opcode);

}  // namespace leap::target
