#include "host/describe.h"

#include <fmt/format.h>

#include "nvme/admin_command.h"
#include "nvme/fabrics.h"
#include "nvme/nvm_command.h"

namespace leap {
namespace {

using nvme::AdminOpcode;
using nvme::Command;
using nvme::Fctype;
using nvme::NvmOpcode;

std::string describe_fabrics(const Command& command) {
  switch (nvme::fctype_of(command)) {
    case Fctype::kConnect: return fmt::format("Fabrics Connect of queue {}", nvme::connect_fields(command).qid);
    case Fctype::kPropertyGet:
      return fmt::format("Property Get {:#x}", static_cast<unsigned>(nvme::property_fields(command).offset));
    case Fctype::kPropertySet:
      return fmt::format("Property Set {:#x}", static_cast<unsigned>(nvme::property_fields(command).offset));
    case Fctype::kDisconnect: return "Fabrics Disconnect";
    default: return fmt::format("Fabrics command {:#x}", command.fctype());
  }
}

std::string describe_admin(const Command& command) {
  switch (command.admin_opcode()) {
    case AdminOpcode::kIdentify:
      return fmt::format("Identify CNS {:#x} NSID {}", static_cast<unsigned>(nvme::identify_fields(command).cns),
                         command.nsid);
    case AdminOpcode::kGetLogPage:
      return fmt::format("Get Log Page {:#x}", static_cast<unsigned>(nvme::get_log_page_fields(command).lid));
    case AdminOpcode::kSetFeatures:
      return fmt::format("Set Features {:#x}", static_cast<unsigned>(nvme::set_features_fields(command).fid));
    case AdminOpcode::kGetFeatures:
      return fmt::format("Get Features {:#x}", static_cast<unsigned>(nvme::get_features_fields(command).fid));
    case AdminOpcode::kAsyncEventRequest: return "Asynchronous Event Request";
    case AdminOpcode::kKeepAlive: return "Keep Alive";
    case AdminOpcode::kAbort: return "Abort";
    default: return fmt::format("admin command {:#x}", command.opcode);
  }
}

std::string describe_range(const char* verb, const Command& command) {
  const auto fields = nvme::rw_fields(command);
  return fmt::format("{} of LBA {}+{} in namespace {}", verb, fields.slba, fields.blocks, command.nsid);
}

}  // namespace

std::string describe(const Command& command, bool admin_queue) {
  if (command.is_fabrics()) return describe_fabrics(command);
  if (admin_queue) return describe_admin(command);
  switch (command.nvm_opcode()) {
    case NvmOpcode::kRead: return describe_range("read", command);
    case NvmOpcode::kWrite: return describe_range("write", command);
    case NvmOpcode::kCompare: return describe_range("compare", command);
    case NvmOpcode::kWriteZeroes: return describe_range("write zeroes", command);
    case NvmOpcode::kVerify: return describe_range("verify", command);
    case NvmOpcode::kFlush: return fmt::format("flush of namespace {}", command.nsid);
    case NvmOpcode::kDatasetManagement: return fmt::format("deallocate in namespace {}", command.nsid);
    default: return fmt::format("I/O command {:#x} to namespace {}", command.opcode, command.nsid);
  }
}

}  // namespace leap
