#include "host/discovery.h"

#include <algorithm>
#include <deque>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "host/admin_commands.h"
#include "host/controller.h"
#include "host/resolve.h"
#include "nvme/admin_command.h"
#include "nvme/nqn.h"

namespace leap {
namespace {

using nvme::DiscoveryAdrfam;
using nvme::DiscoveryEntry;
using nvme::DiscoveryHeader;
using nvme::DiscoverySubtype;
using nvme::DiscoveryTrtype;

constexpr std::size_t kEntriesPerRead = 16;
constexpr Nanos kFirstPause = std::chrono::milliseconds(10);
constexpr Nanos kGoodbyeLimit = std::chrono::seconds(2);

std::string address_problem(const DiscoveryEntry& entry) {
  if (entry.adrfam != DiscoveryAdrfam::kIpv4 && entry.adrfam != DiscoveryAdrfam::kIpv6) {
    return fmt::format("address family {} is none of TCP", static_cast<unsigned>(entry.adrfam));
  }
  const auto port = entry.port();
  if (!port) return fmt::format("'{}' is no TCP port", printable(entry.service()));
  const auto family = entry.adrfam == DiscoveryAdrfam::kIpv6 ? AddressFamily::kIpv6 : AddressFamily::kIpv4;
  const auto numeric = SocketAddress::from_numeric(entry.address(), *port, family);
  if (numeric.ok()) return "";
  return fmt::format("'{}' is no {} address", printable(entry.address()),
                     family == AddressFamily::kIpv6 ? "IPv6" : "IPv4");
}

std::string problem_of(const DiscoveryEntry& entry) {
  switch (entry.subtype) {
    case DiscoverySubtype::kReferral:
    case DiscoverySubtype::kNvm:
    case DiscoverySubtype::kCurrentDiscovery: break;
    default: return fmt::format("subsystem type {} is unknown", static_cast<unsigned>(entry.subtype));
  }
  if (!nvme::has_terminator(entry.subnqn)) return "its NQN does not end";
  if (const auto named = nvme::validate_nqn(entry.subsystem_nqn()); !named.ok())
    return printable(named.error().message());
  if (entry.trtype != DiscoveryTrtype::kTcp) return "its transport is not TCP";
  if (std::string problem = address_problem(entry); !problem.empty()) return problem;
  if ((entry.treq & nvme::kTreqSecureChannelMask) == nvme::kTreqSecureChannelRequired) {
    return "it requires a secure channel (TLS)";
  }
  return "";
}

Error log_page_error(Errc kind, const QueuePair& admin, const std::string& what) {
  return Error(kind, fmt::format("{}: discovery log: {}", admin.name(), what))
      .in(ErrorDomain::kTransport)
      .with_scope(ErrorScope::kController);
}

/// `retain`: the event that announces changes stays as it is; only the last look at the log settles it.
Task<Result<DmaBuf>> read_piece(QueuePair& admin, DmaPool& pool, std::uint64_t offset, std::size_t bytes, bool retain) {
  nvme::GetLogPageFields fields;
  fields.lid = nvme::LogPage::kDiscovery;
  fields.nsid = nvme::kNoNamespace;
  fields.bytes = bytes;
  fields.offset = offset;
  fields.retain_event = retain;
  return read_data(admin, pool, nvme::make_get_log_page(fields), bytes);
}

Task<Result<DiscoveryHeader>> read_header(QueuePair& admin, DmaPool& pool, bool retain) {
  LEAP_CO_TRY(const DmaBuf page, co_await read_piece(admin, pool, 0, sizeof(DiscoveryHeader), retain));
  const auto header = nvme::wire::load<DiscoveryHeader>(page.bytes());
  if (header->recfmt != 0) {
    co_return log_page_error(Errc::kUnsupported, admin, fmt::format("record format {} is unknown", header->recfmt));
  }
  co_return *header;
}

Task<Result<>> read_entries(QueuePair& admin, DmaPool& pool, std::uint64_t count,
                            std::vector<DiscoveredEntry>& entries) {
  const std::size_t per_read =
      std::clamp<std::size_t>(admin.max_transfer() / sizeof(DiscoveryEntry), 1, kEntriesPerRead);
  while (entries.size() < count) {
    const std::size_t now = std::min<std::uint64_t>(count - entries.size(), per_read);
    const std::uint64_t offset = nvme::discovery_entry_offset(entries.size());
    LEAP_CO_TRY(const DmaBuf page, co_await read_piece(admin, pool, offset, now * sizeof(DiscoveryEntry), true));
    for (std::size_t i = 0; i < now; ++i) {
      const auto entry = nvme::wire::load<DiscoveryEntry>(page.bytes(), i * sizeof(DiscoveryEntry));
      entries.push_back(check_discovery_entry(*entry));
    }
  }
  co_return Result<>{};
}

}  // namespace

std::string printable(std::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  return clean;
}

Result<nvme::TransportAddress> DiscoveredEntry::address() const {
  if (!usable()) return Error(Errc::kUnsupported, fmt::format("{} at {}:{}: {}", subnqn, traddr, trsvcid, problem));
  nvme::TransportAddress address;
  address.adrfam = adrfam == DiscoveryAdrfam::kIpv6 ? nvme::Adrfam::kIpv6 : nvme::Adrfam::kIpv4;
  address.traddr = traddr;
  address.trsvcid = static_cast<std::uint16_t>(std::stoul(trsvcid));
  address.subnqn = subnqn;
  return address;
}

DiscoveredEntry check_discovery_entry(const DiscoveryEntry& entry) {
  DiscoveredEntry checked;
  checked.trtype = entry.trtype;
  checked.adrfam = entry.adrfam;
  checked.subtype = entry.subtype;
  checked.treq = entry.treq;
  checked.portid = entry.portid;
  checked.cntlid = entry.cntlid;
  checked.asqsz = entry.asqsz;
  checked.eflags = entry.eflags;
  checked.sectype = entry.tsas[0];
  checked.subnqn = printable(entry.subsystem_nqn());
  checked.traddr = printable(entry.address());
  checked.trsvcid = printable(entry.service());
  checked.problem = problem_of(entry);
  // A good NQN may be any UTF-8 without control characters, and is compared byte by byte.
  if (checked.usable()) checked.subnqn = entry.subsystem_nqn();
  return checked;
}

Error not_a_discovery_controller(const NvmeController& controller) {
  return Error(Errc::kUnsupported,
               fmt::format("{} at {} is no discovery controller", controller.info().subnqn, controller.info().endpoint))
      .in(ErrorDomain::kTransport)
      .with_scope(ErrorScope::kController);
}

Task<Result<DiscoveryLog>> read_discovery_log(QueuePair& admin, DmaPool& pool) {
  Nanos pause = kFirstPause;
  for (std::uint32_t attempt = 0; attempt < kMaxDiscoveryReads; ++attempt) {
    if (attempt > 0) {
      co_await admin.poller().sleep_for(pause);
      pause *= 2;
    }
    LEAP_CO_TRY(const DiscoveryHeader before, co_await read_header(admin, pool, true));
    const std::uint64_t count = std::min<std::uint64_t>(before.numrec, kMaxDiscoveryEntries);
    DiscoveryLog log;
    log.genctr = before.genctr;
    log.left_out = before.numrec - count;
    LEAP_CO_TRY_VOID(co_await read_entries(admin, pool, count, log.entries));
    LEAP_CO_TRY(const DiscoveryHeader after, co_await read_header(admin, pool, false));
    if (after.genctr != before.genctr || after.numrec != before.numrec) continue;
    if (log.left_out > 0) {
      log_warn("{}: discovery log of {} entries: only the first {} are read", admin.name(), before.numrec, count);
    }
    co_return log;
  }
  co_return log_page_error(Errc::kBusy, admin,
                           fmt::format("changed during each of {} attempts to read it", kMaxDiscoveryReads))
      .retryable_if(true);
}

namespace {

struct Referral {
  nvme::TransportAddress address;
  std::uint32_t depth = 0;
};

Task<Result<DiscoveryLog>> ask(NvmePoller& home, DmaPool& pool, Net& net, ControllerConfig config) {
  LEAP_CO_TRY(const auto controller, co_await NvmeController::connect(home, pool, net, std::move(config)));
  Result<DiscoveryLog> log = not_a_discovery_controller(*controller);
  if (controller->info().discovery) {
    Result<DiscoveryLog> read = co_await read_discovery_log(controller->admin(), pool);
    log = std::move(read);
  }
  // Whether it took its leave properly changes nothing about what it said.
  const Result<> ended = co_await controller->shutdown(kGoodbyeLimit);
  if (!ended.ok()) log_debug("{}: {}", controller->info().endpoint, ended.error().message());
  co_return log;
}

}  // namespace

Task<Result<DiscoveryReport>> discover(NvmePoller& home, DmaPool& pool, Net& net, ControllerConfig config,
                                       DiscoveryOptions options) {
  DiscoveryReport report;
  std::set<std::string> seen{config.address.endpoint()};
  std::deque<Referral> waiting{{config.address, 0}};
  while (!waiting.empty()) {
    DiscoveryAnswer answer;
    answer.address = waiting.front().address;
    answer.depth = waiting.front().depth;
    waiting.pop_front();
    ControllerConfig each = config;
    each.address = answer.address;
    Result<DiscoveryLog> log = co_await ask(home, pool, net, std::move(each));
    if (!log.ok() && answer.depth == 0) co_return std::move(log).error();
    if (log.ok())
      answer.log = std::move(log).value();
    else
      answer.error = std::move(log).error();
    for (const DiscoveredEntry& entry : answer.log.entries) {
      if (!options.follow_referrals || entry.subtype != DiscoverySubtype::kReferral || !entry.usable()) continue;
      Referral next{entry.address().value(), answer.depth + 1};
      next.address.hostnqn = config.address.hostnqn;
      if (seen.contains(next.address.endpoint())) continue;  // a loop, or two ways to the same place
      if (next.depth > options.max_depth || seen.size() >= options.max_controllers) {
        ++report.not_followed;
        continue;
      }
      seen.insert(next.address.endpoint());
      waiting.push_back(std::move(next));
    }
    report.answers.push_back(std::move(answer));
  }
  co_return report;
}

}  // namespace leap
