#include "host/namespace_scan.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/mutation.h"
#include "host/admin_commands.h"
#include "nvme/admin_command.h"

namespace leap {
namespace {

using nvme::Nsid;

Error broken_list(const std::string& subnqn, Nsid id, Nsid after) {
  return Error(Errc::kProtocol,
               fmt::format("{}: list of active namespaces is not ascending: {} after {}", subnqn, id, after))
      .in(ErrorDomain::kTransport)
      .with_scope(ErrorScope::kController);
}

/// Reads the active list page by page, until it ends or holds more than `limit` ids.
Task<Result<std::vector<Nsid>>> read_active_list(QueuePair& admin, DmaPool& pool, const NamespaceScan& scan) {
  std::vector<Nsid> ids;
  Nsid last = nvme::kNoNamespace;
  for (;;) {
    const auto command = nvme::make_identify_active_namespaces(last);
    LEAP_CO_TRY(const DmaBuf page, co_await read_data(admin, pool, command, nvme::kIdentifyBytes));
    const auto list = nvme::wire::load<nvme::NamespaceList>(page.bytes());
    const auto entries = list->entries();
    for (const Nsid id : entries) {
      if (id <= last || id >= nvme::Nsid{0xFFFFFFFE}) co_return broken_list(scan.subnqn, id, last);
      last = id;
      ids.push_back(id);
    }
    if (entries.size() < list->ids.size() || ids.size() > scan.max_namespaces) break;
  }
  if (ids.size() > scan.max_namespaces) {
    log_warn("{}: more than {} active namespaces; the rest is left out", scan.subnqn, scan.max_namespaces);
    ids.resize(scan.max_namespaces);
  }
  co_return ids;
}

}  // namespace

Result<NamespaceInfo> make_namespace_info(Nsid nsid, const nvme::IdentifyNamespace& data,
                                          std::span<const std::byte> descriptors, const NamespaceScan& scan) {
  const auto unusable = [&](const std::string& why) {
    return Error(Errc::kUnsupported, fmt::format("{}: namespace {}: {}", scan.subnqn, nsid, why));
  };
  if (!data.is_active()) return unusable("is not active");
  if (data.size_bytes() == 0) {
    return unusable(fmt::format("LBA data size 2^{} with {} blocks", data.format().lbads, data.nsze));
  }
  if (data.format().ms != 0)
    return unusable(fmt::format("its format has {} bytes of metadata per block", data.format().ms));
  NamespaceInfo info;
  info.nsid = nsid;
  info.block_size = data.block_bytes();
  info.blocks = data.nsze;
  info.nguid = data.nguid;
  nvme::DescriptorCursor cursor(descriptors);
  while (const auto descriptor = cursor.next()) {
    if (descriptor->type == nvme::DescriptorType::kUuid) info.uuid = descriptor->uuid();
    if (descriptor->type == nvme::DescriptorType::kNguid) info.nguid = descriptor->uuid().bytes;
    if (descriptor->type == nvme::DescriptorType::kCsi &&
        descriptor->id[0] != static_cast<std::byte>(nvme::Csi::kNvm)) {
      return unusable(fmt::format("command set {:#x}, not NVM", std::to_integer<unsigned>(descriptor->id[0])));
    }
  }
  if (info.uuid.is_nil()) info.uuid.bytes = info.nguid;
  if (info.uuid.is_nil()) {
    info.uuid = Uuid::from_name(fmt::format("{}#{}", scan.subnqn, nsid));
    info.uuid_is_derived = true;
  }
  info.max_transfer = std::max(scan.max_transfer / info.block_size, 1U) * info.block_size;
  info.optimal_io_boundary = data.noiob * info.block_size;
  info.volatile_write_cache = scan.volatile_write_cache;
  info.write_protected = (data.nsattr & nvme::kNsattrWriteProtected) != 0;
  info.oncs = scan.oncs;
  return info;
}

Task<Result<std::vector<NamespaceInfo>>> read_namespaces(QueuePair& admin, DmaPool& pool, NamespaceScan scan) {
  LEAP_CO_TRY(const std::vector<Nsid> ids, co_await read_active_list(admin, pool, scan));
  std::vector<NamespaceInfo> found;
  found.reserve(ids.size());
  for (const Nsid nsid : ids) {
    const auto identify = nvme::make_identify_namespace(nsid);
    Result<DmaBuf> page = co_await read_data(admin, pool, identify, nvme::kIdentifyBytes);
    if (!page.ok()) {
      // An error of the controller concerns this namespace (it may have gone since the list was read); any other, the
      // queue.
      if (page.error().domain() != ErrorDomain::kNvme) co_return std::move(page).error();
      log_warn("{}: namespace {} left out: {}", scan.subnqn, nsid, page.error().message());
      continue;
    }
    // Identifiers are optional before NVMe 1.3: a controller that has no such page says so, and NGUID may be elsewhere.
    const auto identify_descriptors = nvme::make_identify_descriptors(nsid);
    Result<DmaBuf> descriptors = co_await read_data(admin, pool, identify_descriptors, nvme::kIdentifyBytes);
    if (!descriptors.ok() && descriptors.error().domain() != ErrorDomain::kNvme) {
      co_return std::move(descriptors).error();
    }
    std::span<const std::byte> descriptor_bytes;
    if (descriptors.ok()) descriptor_bytes = descriptors->bytes();
    const auto data = nvme::wire::load<nvme::IdentifyNamespace>(page->bytes());
    const Nsid claimed = LEAP_MUTATION(namespace_by_position) ? ids[found.size() == 0 ? ids.size() - 1 : 0] : nsid;
    Result<NamespaceInfo> info = make_namespace_info(claimed, *data, descriptor_bytes, scan);
    if (info.ok()) {
      found.push_back(*info);
    } else {
      log_warn("{}; left out", info.error().message());
    }
  }
  co_return found;
}

}  // namespace leap
