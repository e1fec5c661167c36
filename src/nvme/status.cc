#include "nvme/status.h"

#include <span>
#include <utility>

#include <fmt/format.h>

namespace leap::nvme {
namespace {

/// Whether a cause may pass by itself.
enum class Cause : std::uint8_t { kLasting, kTransient };
/// Whether the controller may have begun the command.
enum class Effect : std::uint8_t { kNone, kMaybe };

struct Row {
  std::uint8_t sc;
  std::string_view name;
  Errc kind;
  Cause cause = Cause::kLasting;
  Effect effect = Effect::kNone;
  ErrorScope scope = ErrorScope::kCommand;
};

using enum Cause;
using enum Errc;
using Scope = ErrorScope;
constexpr Effect kNo = Effect::kNone;
constexpr Effect kMaybe = Effect::kMaybe;

constexpr Row kGenericRows[] = {
    {0x00, "Successful Completion", kInternal},
    {0x01, "Invalid Command Opcode", kUnsupported},
    {0x02, "Invalid Field in Command", kInvalidArgument},
    {0x03, "Command ID Conflict", kProtocol},
    {0x04, "Data Transfer Error", kIo, kTransient, kMaybe},
    {0x05, "Commands Aborted due to Power Loss Notification", kIo, kTransient, kMaybe, Scope::kController},
    {0x06, "Internal Error", kIo, kTransient, kMaybe},
    {0x07, "Command Abort Requested", kCancelled, kTransient, kMaybe},
    {0x08, "Command Aborted due to SQ Deletion", kClosed, kTransient, kMaybe, Scope::kQueuePair},
    {0x09, "Command Aborted due to Failed Fused Command", kCancelled, kTransient},
    {0x0A, "Command Aborted due to Missing Fused Command", kCancelled, kTransient},
    {0x0B, "Invalid Namespace or Format", kNotFound, kLasting, kNo, Scope::kDevice},
    {0x0C, "Command Sequence Error", kWrongState},
    {0x0D, "Invalid SGL Segment Descriptor", kInvalidArgument},
    {0x0E, "Invalid Number of SGL Descriptors", kInvalidArgument},
    {0x0F, "Data SGL Length Invalid", kInvalidArgument},
    {0x10, "Metadata SGL Length Invalid", kInvalidArgument},
    {0x11, "SGL Descriptor Type Invalid", kInvalidArgument},
    {0x12, "Invalid Use of Controller Memory Buffer", kInvalidArgument},
    {0x13, "PRP Offset Invalid", kInvalidArgument},
    {0x14, "Atomic Write Unit Exceeded", kInvalidArgument},
    {0x15, "Operation Denied", kPermission},
    {0x16, "SGL Offset Invalid", kInvalidArgument},
    {0x18, "Host Identifier Inconsistent Format", kInvalidArgument, kLasting, kNo, Scope::kController},
    {0x19, "Keep Alive Timer Expired", kClosed, kTransient, kMaybe, Scope::kController},
    {0x1A, "Keep Alive Timeout Invalid", kInvalidArgument, kLasting, kNo, Scope::kController},
    {0x1B, "Command Aborted due to Preempt and Abort", kCancelled, kLasting, kMaybe},
    {0x1C, "Sanitize Failed", kIo, kLasting, kNo, Scope::kDevice},
    {0x1D, "Sanitize In Progress", kBusy, kTransient, kNo, Scope::kDevice},
    {0x1E, "SGL Data Block Granularity Invalid", kInvalidArgument},
    {0x1F, "Command Not Supported for Queue in CMB", kUnsupported},
    {0x20, "Namespace is Write Protected", kPermission, kLasting, kNo, Scope::kDevice},
    {0x21, "Command Interrupted", kBusy, kTransient, kMaybe},
    {0x22, "Transient Transport Error", kIo, kTransient, kMaybe},
    {0x23, "Command Prohibited by Command and Feature Lockdown", kPermission},
    {0x24, "Admin Command Media Not Ready", kBusy, kTransient, kNo, Scope::kDevice},
    {0x25, "Invalid Key Tag", kInvalidArgument},
    {0x26, "Host Dispersed Namespace Support Not Enabled", kWrongState},
    {0x27, "Host Identifier Not Initialized", kWrongState, kLasting, kNo, Scope::kController},
    {0x28, "Incorrect Key", kPermission},
    {0x29, "FDP Disabled", kWrongState},
    {0x2A, "Invalid Placement Handle List", kInvalidArgument},
    {0x80, "LBA Out of Range", kInvalidArgument},
    {0x81, "Capacity Exceeded", kNoSpace, kLasting, kMaybe, Scope::kDevice},
    {0x82, "Namespace Not Ready", kBusy, kTransient, kNo, Scope::kDevice},
    {0x83, "Reservation Conflict", kBusy, kLasting, kNo, Scope::kDevice},
    {0x84, "Format In Progress", kBusy, kTransient, kNo, Scope::kDevice},
};

/// Command specific, below 80h: the same for every command family.
constexpr Row kCommandRows[] = {
    {0x00, "Completion Queue Invalid", kInvalidArgument},
    {0x01, "Invalid Queue Identifier", kInvalidArgument},
    {0x02, "Invalid Queue Size", kInvalidArgument},
    {0x03, "Abort Command Limit Exceeded", kExhausted, kTransient},
    {0x05, "Asynchronous Event Request Limit Exceeded", kExhausted},
    {0x06, "Invalid Firmware Slot", kInvalidArgument},
    {0x07, "Invalid Firmware Image", kInvalidArgument},
    {0x08, "Invalid Interrupt Vector", kInvalidArgument},
    {0x09, "Invalid Log Page", kUnsupported},
    {0x0A, "Invalid Format", kInvalidArgument},
    {0x0B, "Firmware Activation Requires Conventional Reset", kWrongState},
    {0x0C, "Invalid Queue Deletion", kWrongState},
    {0x0D, "Feature Identifier Not Saveable", kUnsupported},
    {0x0E, "Feature Not Changeable", kUnsupported},
    {0x0F, "Feature Not Namespace Specific", kUnsupported},
    {0x10, "Firmware Activation Requires NVM Subsystem Reset", kWrongState},
    {0x11, "Firmware Activation Requires Controller Level Reset", kWrongState},
    {0x12, "Firmware Activation Requires Maximum Time Violation", kWrongState},
    {0x13, "Firmware Activation Prohibited", kPermission},
    {0x14, "Overlapping Range", kInvalidArgument},
    {0x15, "Namespace Insufficient Capacity", kNoSpace},
    {0x16, "Namespace Identifier Unavailable", kExhausted},
    {0x18, "Namespace Already Attached", kAlreadyExists},
    {0x19, "Namespace Is Private", kPermission},
    {0x1A, "Namespace Not Attached", kNotFound},
    {0x1B, "Thin Provisioning Not Supported", kUnsupported},
    {0x1C, "Controller List Invalid", kInvalidArgument},
    {0x1D, "Device Self-test In Progress", kBusy, kTransient},
    {0x1E, "Boot Partition Write Prohibited", kPermission},
    {0x1F, "Invalid Controller Identifier", kInvalidArgument},
    {0x20, "Invalid Secondary Controller State", kWrongState},
    {0x21, "Invalid Number of Controller Resources", kInvalidArgument},
    {0x22, "Invalid Resource Identifier", kInvalidArgument},
    {0x23, "Sanitize Prohibited While Persistent Memory Region is Enabled", kWrongState},
    {0x24, "ANA Group Identifier Invalid", kInvalidArgument},
    {0x25, "ANA Attach Failed", kWrongState},
    {0x26, "Insufficient Capacity", kNoSpace},
    {0x27, "Namespace Attachment Limit Exceeded", kExhausted},
    {0x28, "Prohibition of Command Execution Not Supported", kUnsupported},
    {0x29, "I/O Command Set Not Supported", kUnsupported},
    {0x2A, "I/O Command Set Not Enabled", kWrongState},
    {0x2B, "I/O Command Set Combination Rejected", kUnsupported},
    {0x2C, "Invalid I/O Command Set", kInvalidArgument},
    {0x2D, "Identifier Unavailable", kExhausted},
};

constexpr Row kNvmRows[] = {
    {0x80, "Conflicting Attributes", kInvalidArgument},
    {0x81, "Invalid Protection Information", kInvalidArgument},
    {0x82, "Attempted Write to Read Only Range", kPermission},
    {0x83, "Command Size Limit Exceeded", kInvalidArgument},
};

constexpr Row kFabricsRows[] = {
    {0x80, "Incompatible Format", kUnsupported, kLasting, kNo, Scope::kController},
    {0x81, "Controller Busy", kBusy, kTransient, kNo, Scope::kController},
    {0x82, "Connect Invalid Parameters", kInvalidArgument, kLasting, kNo, Scope::kController},
    {0x83, "Connect Restart Discovery", kUnreachable, kTransient, kNo, Scope::kController},
    {0x84, "Connect Invalid Host", kPermission, kLasting, kNo, Scope::kController},
    {0x85, "Invalid Queue Type", kInvalidArgument, kLasting, kNo, Scope::kQueuePair},
    {0x90, "Discover Restart", kBusy, kTransient, kNo, Scope::kController},
    {0x91, "Authentication Required", kPermission, kLasting, kNo, Scope::kController},
};

constexpr Row kMediaRows[] = {
    {0x80, "Write Fault", kIo, kTransient, kMaybe},
    {0x81, "Unrecovered Read Error", kIo, kTransient},
    {0x82, "End-to-end Guard Check Error", kCorrupt, kTransient},
    {0x83, "End-to-end Application Tag Check Error", kCorrupt, kTransient},
    {0x84, "End-to-end Reference Tag Check Error", kCorrupt, kTransient},
    {0x85, "Compare Failure", kWrongState},
    {0x86, "Access Denied", kPermission},
    {0x87, "Deallocated or Unwritten Logical Block", kNotFound},
    {0x88, "End-to-end Storage Tag Check Error", kCorrupt, kTransient},
};

constexpr Row kPathRows[] = {
    {0x00, "Internal Path Error", kIo, kTransient, kMaybe, Scope::kQueuePair},
    {0x01, "Asymmetric Access Persistent Loss", kUnreachable, kLasting, kNo, Scope::kDevice},
    {0x02, "Asymmetric Access Inaccessible", kUnreachable, kTransient, kNo, Scope::kController},
    {0x03, "Asymmetric Access Transition", kBusy, kTransient, kNo, Scope::kController},
    {0x60, "Controller Pathing Error", kIo, kTransient, kMaybe, Scope::kQueuePair},
    {0x70, "Host Pathing Error", kIo, kTransient, kMaybe, Scope::kQueuePair},
    {0x71, "Command Aborted By Host", kCancelled, kTransient, kMaybe},
};

std::span<const Row> rows_for(NvmeStatusCode code, CommandFamily family) {
  switch (static_cast<StatusType>(code.sct)) {
    case StatusType::kGeneric: return kGenericRows;
    case StatusType::kCommandSpecific:
      if (code.sc < 0x80) return kCommandRows;
      if (family == CommandFamily::kFabrics) return kFabricsRows;
      return kNvmRows;
    case StatusType::kMedia: return kMediaRows;
    case StatusType::kPath: return kPathRows;
    case StatusType::kVendor: break;
  }
  return {};
}

const Row* find_row(NvmeStatusCode code, CommandFamily family) {
  for (const Row& row : rows_for(code, family)) {
    if (row.sc == code.sc) return &row;
  }
  return nullptr;
}

/// SCT 7h, and codes C0h to FFh of every type, belong to the vendor.
bool is_vendor_specific(NvmeStatusCode code) {
  return code.sct == static_cast<std::uint8_t>(StatusType::kVendor) || code.sc >= 0xC0;
}

}  // namespace

std::string_view status_name(NvmeStatusCode code, CommandFamily family) {
  if (const Row* row = find_row(code, family)) return row->name;
  return is_vendor_specific(code) ? "vendor specific status" : "reserved status";
}

StatusClass classify(NvmeStatusCode code, CommandFamily family) {
  const Row* row = find_row(code, family);
  if (row == nullptr) {
    // Nothing is known of the cause: believe DNR, and assume that the command may have run.
    return {.kind = kIo, .scope = ErrorScope::kCommand, .retryable = !code.dnr, .may_have_executed = true};
  }
  return {.kind = row->kind,
          .scope = row->scope,
          .retryable = row->cause == kTransient && !code.dnr,
          .may_have_executed = row->effect == kMaybe};
}

Error status_error(NvmeStatusCode code, std::string what, CommandFamily family) {
  const StatusClass meaning = classify(code, family);
  std::string message = fmt::format("{}: {} (sct {:#x} sc {:#04x}{}{})", what, status_name(code, family), code.sct,
                                    code.sc, code.dnr ? " dnr" : "", code.more ? " more" : "");
  return Error(meaning.kind, std::move(message))
      .with_nvme(code)
      .with_scope(meaning.scope)
      .retryable_if(meaning.retryable)
      .maybe_executed(meaning.may_have_executed);
}

}  // namespace leap::nvme
