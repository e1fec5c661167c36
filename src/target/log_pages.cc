// Get Log Page (NVMe Base 2.0, 5.16). A page is built whole, then the part the host asked for is cut out of it.
#include <algorithm>
#include <cstring>

#include "base/units.h"
#include "nvme/log_page.h"
#include "target/admin_queue.h"
#include "target/core.h"

namespace leap::target {

using nvme::GenericStatus;
using nvme::kDnr;
using nvme::LogPage;
using nvme::status;

namespace {

template <nvme::WireStruct T>
std::vector<std::byte> bytes_of(const T& value) {
  const auto view = nvme::wire::bytes_of(value);
  return {view.begin(), view.end()};
}

std::vector<std::byte> effects_log() {
  using enum nvme::AdminOpcode;
  using enum nvme::NvmOpcode;
  nvme::CommandEffectsLog log;
  for (const nvme::AdminOpcode opcode :
       {kGetLogPage, kIdentify, kAbort, kSetFeatures, kGetFeatures, kAsyncEventRequest, kKeepAlive, kFabrics}) {
    log.set(opcode, nvme::kEffectSupported);
  }
  for (const nvme::NvmOpcode opcode : {kFlush, kRead, kCompare, kVerify}) log.set(opcode, nvme::kEffectSupported);
  for (const nvme::NvmOpcode opcode : {kWrite, kWriteZeroes, kDatasetManagement}) {
    log.set(opcode, nvme::kEffectSupported | nvme::kEffectContentChange);
  }
  return bytes_of(log);
}

std::vector<std::byte> supported_pages(bool discovery) {
  nvme::SupportedLogPages log;
  log.set(LogPage::kSupportedLogPages);
  log.set(LogPage::kErrorInformation);
  if (discovery) {
    log.set(LogPage::kDiscovery);
  } else {
    log.set(LogPage::kSmart);
    log.set(LogPage::kFirmwareSlot);
    log.set(LogPage::kChangedNamespaces);
    log.set(LogPage::kCommandsSupportedAndEffects);
  }
  return bytes_of(log);
}

}  // namespace

std::vector<std::byte> AdminQueue::smart_log() const {
  nvme::SmartLog log;
  log.available_spare = 100;
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  const Core& core = session_.shard().core();
  for (const auto& shard : core.shards) {
    const ShardProbe& probe = shard->probe();
    log.host_reads.low += probe.reads.value();
    log.host_writes.low += probe.writes.value();
    read_bytes += probe.read_bytes.value();
    written_bytes += probe.written_bytes.value();
  }
  log.data_units_read.low = nvme::smart_data_units(read_bytes);
  log.data_units_written.low = nvme::smart_data_units(written_bytes);
  const Nanos up = session_.shard().poller().now() - core.started;
  log.power_on_hours.low =
      static_cast<std::uint64_t>(std::max<std::int64_t>(std::chrono::duration_cast<std::chrono::hours>(up).count(), 0));
  log.power_cycles.low = 1;
  log.error_log_entries.low = controller().errors().count();
  return bytes_of(log);
}

std::optional<std::vector<std::byte>> AdminQueue::log_page(const nvme::GetLogPageFields& fields) {
  switch (fields.lid) {
    case LogPage::kSupportedLogPages: return supported_pages(discovery());
    case LogPage::kErrorInformation: {
      std::vector<nvme::ErrorLogEntry> entries(ErrorLog::kEntries);
      controller().errors().copy_to(std::span<nvme::ErrorLogEntry, ErrorLog::kEntries>(entries));
      const auto view = std::as_bytes(std::span(entries));
      return std::vector<std::byte>(view.begin(), view.end());
    }
    case LogPage::kDiscovery:
      if (!discovery()) return std::nullopt;
      return subsystem().discovery().page(controller().identity().host_nqn, session_.transport().local_address());
    default: break;
  }
  if (discovery()) return std::nullopt;
  switch (fields.lid) {
    case LogPage::kSmart: return smart_log();
    case LogPage::kFirmwareSlot: {
      nvme::FirmwareSlotLog log;
      log.afi = 1;
      nvme::fill_spaces(log.frs[0], subsystem().config().firmware);
      return bytes_of(log);
    }
    case LogPage::kChangedNamespaces: return bytes_of(events_.changed());
    case LogPage::kCommandsSupportedAndEffects: return effects_log();
    default: return std::nullopt;
  }
}

Step AdminQueue::get_log_page(Request& request) {
  const nvme::GetLogPageFields fields = nvme::get_log_page_fields(request.cmd);
  const auto invalid_field = status(GenericStatus::kInvalidField, kDnr);
  if (fields.index_offset || fields.offset % 4 != 0) return request.fail(invalid_field);
  // SMART data is the controller's: LPA does not offer it per namespace.
  const bool whole_controller = fields.nsid == nvme::kAllNamespaces || fields.nsid == nvme::kNoNamespace;
  if (fields.lid == LogPage::kSmart && !whole_controller) return request.fail(invalid_field);
  if (fields.bytes > subsystem().config().max_io_size) return request.fail(invalid_field);
  const auto page = log_page(fields);
  if (!page) return request.fail(status(nvme::CommandStatus::kInvalidLogPage, kDnr));
  if (fields.offset > page->size()) return request.fail(invalid_field);
  // What is answered is held in ordinary memory until the host has taken it: its size is not the host's to choose.
  constexpr std::uint64_t kLongestZeroTail = 64 * kKiB;
  if (fields.bytes > page->size() - fields.offset + kLongestZeroTail) return request.fail(invalid_field);
  const auto out = page_for_host(request, fields.bytes);
  if (!out) return Step::kComplete;
  // What lies behind the page reads as zeros.
  const std::size_t count = std::min<std::uint64_t>(fields.bytes, page->size() - fields.offset);
  if (count > 0) std::memcpy(out->data(), page->data() + fields.offset, count);
  if (!fields.retain_event) page_was_read(fields.lid);
  return Step::kComplete;
}

void AdminQueue::page_was_read(LogPage page) {
  if (page == LogPage::kChangedNamespaces) {
    events_.clear_changed();
    events_.acknowledge(EventKind::kNamespaceChanged);
  } else if (page == LogPage::kDiscovery) {
    events_.acknowledge(EventKind::kDiscoveryChanged);
  }
}

}  // namespace leap::target
