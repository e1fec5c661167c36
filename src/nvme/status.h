// Status codes by name, and what they mean to someone who has to decide.
//
// Source: NVMe Base 2.0, 3.3.3.2.1 and its figures "Status Code - Generic / Command Specific / Media and Data Integrity
// / Path Related"; NVM Command Set 1.0, 1.4; NVMe Base 2.1 for codes 25h to 2Ah. Command specific codes 80h to BFh mean
// different things to NVM and to Fabrics commands, hence CommandFamily.
//
//   return complete(cmd, status(GenericStatus::kInvalidField, kDnr));          // target
//   if (!cqe.ok()) return status_error(cqe.status(), "read LBA 8+8 of nsid 1"); // host
//
// Threading: pure. Allocation: only status_error, the error path.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace leap::nvme {

/// Status Code Type.
enum class StatusType : std::uint8_t {
  kGeneric = 0,
  kCommandSpecific = 1,
  kMedia = 2,
  kPath = 3,
  kVendor = 7,
};

/// SCT 0.
enum class GenericStatus : std::uint8_t {
  kSuccess = 0x00,
  kInvalidOpcode = 0x01,
  kInvalidField = 0x02,
  kCommandIdConflict = 0x03,
  kDataTransferError = 0x04,
  kAbortedPowerLoss = 0x05,
  kInternalError = 0x06,
  kAbortRequested = 0x07,
  kAbortedSqDeletion = 0x08,
  kAbortedFailedFused = 0x09,
  kAbortedMissingFused = 0x0A,
  kInvalidNamespaceOrFormat = 0x0B,
  kCommandSequenceError = 0x0C,
  kInvalidSglSegmentDescriptor = 0x0D,
  kInvalidNumberOfSglDescriptors = 0x0E,
  kDataSglLengthInvalid = 0x0F,
  kMetadataSglLengthInvalid = 0x10,
  kSglDescriptorTypeInvalid = 0x11,
  kInvalidUseOfCmb = 0x12,
  kPrpOffsetInvalid = 0x13,
  kAtomicWriteUnitExceeded = 0x14,
  kOperationDenied = 0x15,
  kSglOffsetInvalid = 0x16,
  kHostIdInconsistentFormat = 0x18,
  kKeepAliveTimerExpired = 0x19,
  kKeepAliveTimeoutInvalid = 0x1A,
  kAbortedPreemptAndAbort = 0x1B,
  kSanitizeFailed = 0x1C,
  kSanitizeInProgress = 0x1D,
  kSglDataBlockGranularityInvalid = 0x1E,
  kNotSupportedForQueueInCmb = 0x1F,
  kNamespaceWriteProtected = 0x20,
  kCommandInterrupted = 0x21,
  kTransientTransportError = 0x22,
  kProhibitedByLockdown = 0x23,
  kAdminMediaNotReady = 0x24,
  kInvalidKeyTag = 0x25,
  kHostDispersedNamespaceNotEnabled = 0x26,
  kHostIdNotInitialized = 0x27,
  kIncorrectKey = 0x28,
  kFdpDisabled = 0x29,
  kInvalidPlacementHandleList = 0x2A,
  // I/O command sets
  kLbaOutOfRange = 0x80,
  kCapacityExceeded = 0x81,
  kNamespaceNotReady = 0x82,
  kReservationConflict = 0x83,
  kFormatInProgress = 0x84,
};

/// SCT 1, Admin and NVM commands.
enum class CommandStatus : std::uint8_t {
  kCompletionQueueInvalid = 0x00,
  kInvalidQueueIdentifier = 0x01,
  kInvalidQueueSize = 0x02,
  kAbortLimitExceeded = 0x03,
  kAsyncEventRequestLimitExceeded = 0x05,
  kInvalidFirmwareSlot = 0x06,
  kInvalidFirmwareImage = 0x07,
  kInvalidInterruptVector = 0x08,
  kInvalidLogPage = 0x09,
  kInvalidFormat = 0x0A,
  kFirmwareNeedsConventionalReset = 0x0B,
  kInvalidQueueDeletion = 0x0C,
  kFeatureNotSaveable = 0x0D,
  kFeatureNotChangeable = 0x0E,
  kFeatureNotNamespaceSpecific = 0x0F,
  kFirmwareNeedsSubsystemReset = 0x10,
  kFirmwareNeedsControllerReset = 0x11,
  kFirmwareNeedsMaxTimeViolation = 0x12,
  kFirmwareActivationProhibited = 0x13,
  kOverlappingRange = 0x14,
  kNamespaceInsufficientCapacity = 0x15,
  kNamespaceIdUnavailable = 0x16,
  kNamespaceAlreadyAttached = 0x18,
  kNamespaceIsPrivate = 0x19,
  kNamespaceNotAttached = 0x1A,
  kThinProvisioningNotSupported = 0x1B,
  kControllerListInvalid = 0x1C,
  kSelfTestInProgress = 0x1D,
  kBootPartitionWriteProhibited = 0x1E,
  kInvalidControllerId = 0x1F,
  kInvalidSecondaryControllerState = 0x20,
  kInvalidNumberOfControllerResources = 0x21,
  kInvalidResourceId = 0x22,
  kSanitizeProhibitedWithPmr = 0x23,
  kAnaGroupIdInvalid = 0x24,
  kAnaAttachFailed = 0x25,
  kInsufficientCapacity = 0x26,
  kNamespaceAttachmentLimitExceeded = 0x27,
  kLockdownNotSupported = 0x28,
  kIoCommandSetNotSupported = 0x29,
  kIoCommandSetNotEnabled = 0x2A,
  kIoCommandSetCombinationRejected = 0x2B,
  kInvalidIoCommandSet = 0x2C,
  kIdentifierUnavailable = 0x2D,
  // NVM command set
  kConflictingAttributes = 0x80,
  kInvalidProtectionInformation = 0x81,
  kWriteToReadOnlyRange = 0x82,
  kCommandSizeLimitExceeded = 0x83,
};

/// SCT 1, Fabrics commands (NVMe Base 2.0, 6).
enum class FabricsStatus : std::uint8_t {
  kIncompatibleFormat = 0x80,
  kControllerBusy = 0x81,
  kConnectInvalidParameters = 0x82,
  kConnectRestartDiscovery = 0x83,
  kConnectInvalidHost = 0x84,
  kInvalidQueueType = 0x85,
  kDiscoverRestart = 0x90,
  kAuthenticationRequired = 0x91,
};

/// SCT 2.
enum class MediaStatus : std::uint8_t {
  kWriteFault = 0x80,
  kUnrecoveredReadError = 0x81,
  kGuardCheckError = 0x82,
  kApplicationTagCheckError = 0x83,
  kReferenceTagCheckError = 0x84,
  kCompareFailure = 0x85,
  kAccessDenied = 0x86,
  kDeallocatedOrUnwritten = 0x87,
  kStorageTagCheckError = 0x88,
};

/// SCT 3.
enum class PathStatus : std::uint8_t {
  kInternalPathError = 0x00,
  kAnaPersistentLoss = 0x01,
  kAnaInaccessible = 0x02,
  kAnaTransition = 0x03,
  kControllerPathingError = 0x60,
  kHostPathingError = 0x70,
  kAbortedByHost = 0x71,
};

/// Readable second argument of status(): the same command would fail again.
inline constexpr bool kDnr = true;

[[nodiscard]] constexpr NvmeStatusCode make_status(StatusType type, std::uint8_t code, bool dnr) {
  return {.sct = static_cast<std::uint8_t>(type), .sc = code, .crd = 0, .more = false, .dnr = dnr};
}
[[nodiscard]] constexpr NvmeStatusCode status(GenericStatus code, bool dnr = false) {
  return make_status(StatusType::kGeneric, static_cast<std::uint8_t>(code), dnr);
}
[[nodiscard]] constexpr NvmeStatusCode status(CommandStatus code, bool dnr = false) {
  return make_status(StatusType::kCommandSpecific, static_cast<std::uint8_t>(code), dnr);
}
[[nodiscard]] constexpr NvmeStatusCode status(FabricsStatus code, bool dnr = false) {
  return make_status(StatusType::kCommandSpecific, static_cast<std::uint8_t>(code), dnr);
}
[[nodiscard]] constexpr NvmeStatusCode status(MediaStatus code, bool dnr = false) {
  return make_status(StatusType::kMedia, static_cast<std::uint8_t>(code), dnr);
}
[[nodiscard]] constexpr NvmeStatusCode status(PathStatus code, bool dnr = false) {
  return make_status(StatusType::kPath, static_cast<std::uint8_t>(code), dnr);
}

/// The same SCT and SC, whatever CRD, M and DNR say.
[[nodiscard]] constexpr bool same_code(NvmeStatusCode a, NvmeStatusCode b) { return a.sct == b.sct && a.sc == b.sc; }

/// Which command a command specific status belongs to.
enum class CommandFamily : std::uint8_t { kNvm, kFabrics };

/// The specification's name of a status, "reserved status" or "vendor specific status" where it has none. Static
/// storage.
[[nodiscard]] std::string_view status_name(NvmeStatusCode code, CommandFamily family = CommandFamily::kNvm);

/// What a status means to a caller.
struct StatusClass {
  Errc kind = Errc::kIo;
  ErrorScope scope = ErrorScope::kCommand;
  bool retryable = false;          ///< !DNR, and a cause that may pass
  bool may_have_executed = false;  ///< the controller gave up on a command that it may have begun
};

/// Classification, in one table (status.cc):
///   * transient conditions (not ready, busy, interrupted, transport, internal error, path, abort) are retryable when
///   !DNR;
///   * a request that is wrong (field, opcode, LBA range, format) never is, whatever DNR says;
///   * media errors concern the blocks named by the command, not the whole device: scope kCommand, kind kIo (write
///     fault, unrecovered read) or kCorrupt (protection information); retryable when !DNR;
///   * Internal Path Error, Host and Controller Pathing Error have scope kQueuePair; Keep Alive Timer Expired and
///     Connect refusals have scope kController; Namespace Write Protected, and ANA persistent loss, kDevice;
///   * aborted, interrupted, internal and data transfer errors may have executed.
[[nodiscard]] StatusClass classify(NvmeStatusCode code, CommandFamily family = CommandFamily::kNvm);

/// An Error of domain kNvme: "<what>: <status name> (sct 0x0 sc 0x80 dnr)". Precondition: !code.ok().
[[nodiscard]] Error status_error(NvmeStatusCode code, std::string what, CommandFamily family = CommandFamily::kNvm);

}  // namespace leap::nvme
