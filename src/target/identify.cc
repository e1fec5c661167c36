// Identify (NVMe Base 2.0, 5.17): every structure is 4096 bytes.
#include "nvme/identify.h"

#include <cstring>

#include "nvme/identify_namespace.h"
#include "target/admin_queue.h"
#include "target/core.h"

namespace leap::target {

using nvme::Cns;
using nvme::GenericStatus;
using nvme::kDnr;
using nvme::status;

namespace {

template <nvme::WireStruct T>
void put(std::span<std::byte> page, const T& value) {
  static_cast<void>(nvme::wire::store(page, value));
}

/// Controller list: a count, then ids (5.17.2, figure "Controller List Format").
struct ControllerList {
  std::uint16_t count = 0;
  std::array<nvme::Cntlid, 2047> ids{};
};
static_assert(sizeof(ControllerList) == 4096);

}  // namespace

Step AdminQueue::identify(Request& request) {
  const nvme::IdentifyFields fields = nvme::identify_fields(request.cmd);
  if (discovery() && fields.cns != Cns::kController) return request.fail(status(GenericStatus::kInvalidField, kDnr));
  switch (fields.cns) {
    case Cns::kController: {
      const auto page = page_for_host(request, nvme::kIdentifyBytes);
      if (page) put(*page, subsystem().identify(controller().identity()));
      return Step::kComplete;
    }
    case Cns::kNamespace:
    case Cns::kNamespaceDescriptors:
    case Cns::kIndependentNamespace: return identify_namespace(request, fields);
    case Cns::kActiveNamespaceList:
    case Cns::kIoCommandSetActiveNamespaceList: return identify_namespace_list(request, fields);
    case Cns::kControllerList: return identify_controller_list(request, fields);
    case Cns::kIoCommandSetNamespace:
    case Cns::kIoCommandSetController:
    case Cns::kIoCommandSets: return identify_command_set(request, fields);
    default: return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
}

Step AdminQueue::identify_namespace(Request& request, const nvme::IdentifyFields& fields) {
  const auto ns = subsystem().find(fields.nsid);
  const auto invalid = status(GenericStatus::kInvalidNamespaceOrFormat, kDnr);
  if (fields.nsid == nvme::kNoNamespace || fields.nsid.value() > kMaxNsid) return request.fail(invalid);
  // An id below NN without a namespace is inactive: all zeros, except where the specification wants an error.
  if (ns == nullptr && fields.cns == Cns::kNamespaceDescriptors) return request.fail(invalid);
  const auto page = page_for_host(request, nvme::kIdentifyBytes);
  if (!page || ns == nullptr) return Step::kComplete;
  switch (fields.cns) {
    case Cns::kNamespace: put(*page, ns->identify()); break;
    case Cns::kNamespaceDescriptors: ns->describe(*page); break;
    default: put(*page, ns->identify_independent()); break;
  }
  return Step::kComplete;
}

Step AdminQueue::identify_namespace_list(Request& request, const nvme::IdentifyFields& fields) {
  // FFFFFFFEh and FFFFFFFFh have no id above them (5.17.2.3).
  if (fields.nsid.value() >= 0xFFFFFFFE) return request.fail(status(GenericStatus::kInvalidNamespaceOrFormat, kDnr));
  if (fields.cns == Cns::kIoCommandSetActiveNamespaceList && fields.csi != nvme::Csi::kNvm) {
    return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
  const auto page = page_for_host(request, nvme::kIdentifyBytes);
  if (!page) return Step::kComplete;
  nvme::NamespaceList list;
  std::size_t count = 0;
  const auto namespaces = subsystem().namespaces();
  for (const auto& ns : namespaces->all()) {
    if (ns->nsid() > fields.nsid && count < list.ids.size()) list.ids[count++] = ns->nsid();
  }
  put(*page, list);
  return Step::kComplete;
}

Step AdminQueue::identify_controller_list(Request& request, const nvme::IdentifyFields& fields) {
  const auto page = page_for_host(request, nvme::kIdentifyBytes);
  if (!page) return Step::kComplete;
  ControllerList list;
  for (const nvme::Cntlid id : subsystem().controller_ids(fields.cntid)) {
    if (list.count == list.ids.size()) break;
    list.ids[list.count++] = id;
  }
  put(*page, list);
  return Step::kComplete;
}

Step AdminQueue::identify_command_set(Request& request, const nvme::IdentifyFields& fields) {
  if (fields.cns != Cns::kIoCommandSets && fields.csi != nvme::Csi::kNvm) {
    return request.fail(status(GenericStatus::kInvalidField, kDnr));
  }
  if (fields.cns == Cns::kIoCommandSetNamespace) {
    // No end-to-end protection, no storage tags: the NVM command set's own page is all zeros (NVM Command Set 1.0,
    // 4.1.5.3).
    if (subsystem().find(fields.nsid) == nullptr) {
      return request.fail(status(GenericStatus::kInvalidNamespaceOrFormat, kDnr));
    }
    static_cast<void>(page_for_host(request, nvme::kIdentifyBytes));
    return Step::kComplete;
  }
  const auto page = page_for_host(request, nvme::kIdentifyBytes);
  if (!page) return Step::kComplete;
  if (fields.cns == Cns::kIoCommandSetController) {
    nvme::IdentifyNvmController data;
    data.dmrl = 255;  // the command itself holds 256; this field counts no further
    put(*page, data);
  } else {
    const std::uint64_t nvm_only = 1;  // I/O Command Set Combination 0: the NVM command set
    put(*page, nvm_only);
  }
  return Step::kComplete;
}

}  // namespace leap::target
