// leap discover WHERE: what a discovery controller lists.

#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/signals.h"
#include "env/discovery_session.h"

namespace leap::cli {
namespace {

struct DiscoverOptions {
  std::string where;
  DiscoverySession::Options session;
  bool json = false;
  bool watch = false;
};

std::string trtype_name(nvme::DiscoveryTrtype trtype) {
  switch (trtype) {
    case nvme::DiscoveryTrtype::kRdma: return "rdma";
    case nvme::DiscoveryTrtype::kFibreChannel: return "fc";
    case nvme::DiscoveryTrtype::kTcp: return "tcp";
    case nvme::DiscoveryTrtype::kIntraHost: return "loop";
    default: return fmt::format("unknown ({})", static_cast<unsigned>(trtype));
  }
}

std::string adrfam_name(nvme::DiscoveryAdrfam adrfam) {
  switch (adrfam) {
    case nvme::DiscoveryAdrfam::kIpv4: return "ipv4";
    case nvme::DiscoveryAdrfam::kIpv6: return "ipv6";
    case nvme::DiscoveryAdrfam::kInfiniband: return "infiniband";
    case nvme::DiscoveryAdrfam::kFibreChannel: return "fibre-channel";
    case nvme::DiscoveryAdrfam::kIntraHost: return "intra-host";
    default: return fmt::format("unknown ({})", static_cast<unsigned>(adrfam));
  }
}

std::string subtype_name(nvme::DiscoverySubtype subtype) {
  switch (subtype) {
    case nvme::DiscoverySubtype::kReferral: return "referral";
    case nvme::DiscoverySubtype::kNvm: return "nvme subsystem";
    case nvme::DiscoverySubtype::kCurrentDiscovery: return "current discovery subsystem";
    default: return fmt::format("unknown ({})", static_cast<unsigned>(subtype));
  }
}

std::string treq_name(std::uint8_t treq) {
  constexpr const char* kSecure[] = {"not specified", "required", "not required", "reserved"};
  const bool no_flow_control = (treq & nvme::kTreqDisableSqFlowControl) != 0;
  return fmt::format("{}{}", kSecure[treq & nvme::kTreqSecureChannelMask],
                     no_flow_control ? ", sq flow control disable supported" : "");
}

std::string sectype_name(const DiscoveredEntry& entry) {
  if (entry.trtype != nvme::DiscoveryTrtype::kTcp) return "-";
  switch (static_cast<nvme::TcpSecurity>(entry.sectype)) {
    case nvme::TcpSecurity::kNone: return "none";
    case nvme::TcpSecurity::kTls12: return "tls";
    case nvme::TcpSecurity::kTls13: return "tls13";
  }
  return fmt::format("unknown ({})", entry.sectype);
}

std::string eflags_names(std::uint16_t eflags) {
  std::string names;
  if ((eflags & nvme::kEflagsExplicitPersistent) != 0) names = "explicit discovery connections";
  if ((eflags & nvme::kEflagsDuplicateInfo) != 0)
    names += fmt::format("{}duplicate information", names.empty() ? "" : ", ");
  return names.empty() ? "none" : names;
}

void print_entry(std::size_t index, const DiscoveredEntry& entry) {
  fmt::print("=====Discovery Log Entry {}======\n", index);
  fmt::print("trtype:  {}\n", trtype_name(entry.trtype));
  fmt::print("adrfam:  {}\n", adrfam_name(entry.adrfam));
  fmt::print("subtype: {}\n", subtype_name(entry.subtype));
  fmt::print("treq:    {}\n", treq_name(entry.treq));
  fmt::print("portid:  {}\n", entry.portid);
  fmt::print("trsvcid: {}\n", entry.trsvcid);
  fmt::print("subnqn:  {}\n", printable(entry.subnqn));
  fmt::print("traddr:  {}\n", entry.traddr);
  fmt::print("eflags:  {}\n", eflags_names(entry.eflags));
  fmt::print("sectype: {}\n", sectype_name(entry));
  if (!entry.usable()) fmt::print("problem: {}\n", entry.problem);
}

void print_text(const DiscoveryReport& report) {
  for (const DiscoveryAnswer& answer : report.answers) {
    if (answer.depth > 0) fmt::print("\nReferral to {}\n", answer.address.endpoint());
    if (answer.error) {
      fmt::print("no answer: {}\n", answer.error->to_string());
      continue;
    }
    fmt::print("\nDiscovery Log Number of Records {}, Generation counter {}\n", answer.log.entries.size(),
               answer.log.genctr);
    for (std::size_t i = 0; i < answer.log.entries.size(); ++i) print_entry(i, answer.log.entries[i]);
    if (answer.log.left_out > 0) fmt::print("... and {} more, left out\n", answer.log.left_out);
  }
  if (report.not_followed > 0) fmt::print("\n{} referrals not followed\n", report.not_followed);
}

nlohmann::ordered_json json_of(const DiscoveredEntry& entry) {
  return {{"trtype", trtype_name(entry.trtype)},
          {"adrfam", adrfam_name(entry.adrfam)},
          {"subtype", subtype_name(entry.subtype)},
          {"treq", treq_name(entry.treq)},
          {"portid", entry.portid},
          {"cntlid", entry.cntlid.value()},
          {"asqsz", entry.asqsz},
          {"trsvcid", entry.trsvcid},
          {"subnqn", entry.subnqn},
          {"traddr", entry.traddr},
          {"eflags", eflags_names(entry.eflags)},
          {"sectype", sectype_name(entry)},
          {"problem", entry.problem}};
}

/// One line: `discovery` the controllers that were asked, the first one first.
void print_json(const DiscoveryReport& report) {
  nlohmann::ordered_json json;
  json["discovery"] = nlohmann::ordered_json::array();
  for (const DiscoveryAnswer& answer : report.answers) {
    nlohmann::ordered_json each;
    each["address"] = answer.address.endpoint();
    each["depth"] = answer.depth;
    if (answer.error) each["error"] = answer.error->to_string();
    each["genctr"] = answer.log.genctr;
    each["records"] = nlohmann::ordered_json::array();
    for (const DiscoveredEntry& entry : answer.log.entries) each["records"].push_back(json_of(entry));
    each["left_out"] = answer.log.left_out;
    json["discovery"].push_back(std::move(each));
  }
  json["not_followed"] = report.not_followed;
  fmt::print("{}\n", json.dump());
}

void print(const DiscoveryReport& report, bool json) {
  if (json)
    print_json(report);
  else
    print_text(report);
  std::fflush(stdout);
}

/// Prints the log now and after each change, until a signal.
Result<> watch(DiscoverySession& session, const DiscoverOptions& options) {
  LEAP_TRY_VOID(session.watch([&options](const Result<DiscoveryReport>& report) {
    if (report.ok())
      print(*report, options.json);
    else
      fmt::print(stderr, "leap: {}\n", report.error().to_string());
  }));
  wait_for_stop_signal();
  return {};
}

Result<> run_discover(const DiscoverOptions& options) {
  LEAP_TRY(auto session, DiscoverySession::open(options.where, options.session));
  if (options.watch) return watch(*session, options);
  LEAP_TRY(const DiscoveryReport report, session->read());
  print(report, options.json);
  return {};
}

}  // namespace

void add_discover(CLI::App& app, Chosen& chosen) {
  auto* command = app.add_subcommand("discover", "List the subsystems that a discovery service knows");
  auto options = std::make_shared<DiscoverOptions>();
  command
      ->add_option("where", options->where,
                   "HOST:PORT, 'trtype:TCP adrfam:IPv4 traddr:HOST trsvcid:PORT' or nvme+tcp://HOST:PORT (default port "
                   "8009)")
      ->required();
  command->add_option("--hostnqn", options->session.hostnqn, "NQN to ask as (default: this machine's)");
  command->add_flag("--json", options->json, "print one JSON object, with --watch one a line");
  command->add_flag("--follow-referrals", options->session.follow_referrals,
                    "ask the discovery services that are referred to, too");
  command->add_flag("--watch", options->watch, "stay connected and print the log again whenever it changes");
  command->callback([&chosen, options] {
    chosen.action = [options] {
      if (options->watch) block_stop_signals();
      const Result<> done = run_discover(*options);
      return done.ok() ? 0 : fail(done.error());
    };
  });
}

}  // namespace leap::cli
