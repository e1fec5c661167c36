#include "target/device_status.h"

#include "nvme/status.h"

namespace leap::target {

using nvme::GenericStatus;
using nvme::kDnr;
using nvme::MediaStatus;
using nvme::status;

NvmeStatusCode device_status(const Error& error, nvme::NvmOpcode opcode) {
  if (error.domain() == ErrorDomain::kNvme && !error.nvme_status().ok()) return error.nvme_status();
  switch (error.kind()) {
    case Errc::kNoSpace: return status(GenericStatus::kCapacityExceeded);
    case Errc::kPermission: return status(GenericStatus::kNamespaceWriteProtected, kDnr);
    case Errc::kBusy:
    case Errc::kClosed:
    case Errc::kExhausted:
    case Errc::kNotFound:
    case Errc::kUnreachable:
    case Errc::kWrongState: return status(GenericStatus::kNamespaceNotReady);
    case Errc::kTimedOut:
    case Errc::kCancelled: return status(GenericStatus::kCommandInterrupted);
    case Errc::kUnsupported: return status(GenericStatus::kInvalidOpcode, kDnr);
    case Errc::kCorrupt:
    case Errc::kIo: break;
    case Errc::kInternal:
    case Errc::kInvalidArgument:
    case Errc::kAlreadyExists:
    case Errc::kProtocol: return status(GenericStatus::kInternalError);
  }
  switch (opcode) {
    case nvme::NvmOpcode::kRead:
    case nvme::NvmOpcode::kCompare:
    case nvme::NvmOpcode::kVerify: return status(MediaStatus::kUnrecoveredReadError);
    default: return status(MediaStatus::kWriteFault);
  }
}

}  // namespace leap::target
