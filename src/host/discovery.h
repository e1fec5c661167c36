// Discovery: what a discovery controller lists, read without believing any of it.
//
//   LEAP_CO_TRY(DiscoveryLog log, co_await read_discovery_log(controller->admin(), pool));
//   for (const DiscoveredEntry& entry : log.entries)
//     if (auto address = entry.address(); address.ok()) connect(*address);
//
//   DiscoveryOptions options;                                     // the same, connecting and following referrals
//   options.follow_referrals = true;
//   LEAP_CO_TRY(DiscoveryReport found, co_await discover(poller, pool, net, controller_config, options));
//
// The log is read in pieces, header first and header last: when its generation counter has moved in between, everything
// is read again, kMaxDiscoveryReads times at most. NUMREC is a claim: no memory is taken for more than
// kMaxDiscoveryEntries. Entries that make no sense, or that this host cannot use, are kept for people to see and marked
// with what is wrong.
//
// Threading: the poller of the admin queue. Source: NVMe Base 2.0, 5.16.1.23 (Discovery log page), 3.1.3.3; NVMe TCP
// Transport 1.0, 3.6.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/controller_config.h"
#include "host/queue_pair.h"
#include "nvme/address.h"
#include "nvme/discovery.h"
#include "poller/net.h"

namespace leap {

class NvmeController;

/// Entries of one log that are looked at; the rest is counted and left out. A Linux target lists one per port and
/// subsystem.
inline constexpr std::uint32_t kMaxDiscoveryEntries = 1024;
/// How often a log that changes while it is read is read.
inline constexpr std::uint32_t kMaxDiscoveryReads = 8;

/// A peer's text for a terminal or a log: every byte that is not printable ASCII becomes a '?'.
[[nodiscard]] std::string printable(std::string_view text);

/// One entry, as it was sent; text made printable, except for the NQN of a usable one.
struct DiscoveredEntry {
  nvme::DiscoveryTrtype trtype = nvme::DiscoveryTrtype::kReserved;
  nvme::DiscoveryAdrfam adrfam = nvme::DiscoveryAdrfam::kReserved;
  nvme::DiscoverySubtype subtype = nvme::DiscoverySubtype::kNvm;
  std::uint8_t treq = 0;
  std::uint16_t portid = 0;
  nvme::Cntlid cntlid;
  std::uint16_t asqsz = 0;
  std::uint16_t eflags = 0;
  std::uint8_t sectype = 0;  ///< TCP only
  std::string subnqn;
  std::string traddr;
  std::string trsvcid;
  std::string problem;  ///< why this host cannot use it; empty: it can

  [[nodiscard]] bool usable() const { return problem.empty(); }
  /// Where to connect: TCP, numeric. kUnsupported with the problem when it is not usable.
  [[nodiscard]] Result<nvme::TransportAddress> address() const;
  friend bool operator==(const DiscoveredEntry&, const DiscoveredEntry&) = default;
};

struct DiscoveryLog {
  std::uint64_t genctr = 0;
  std::vector<DiscoveredEntry> entries;
  std::uint64_t left_out = 0;  ///< entries beyond kMaxDiscoveryEntries

  friend bool operator==(const DiscoveryLog&, const DiscoveryLog&) = default;
};

/// Checks one entry. Total: whatever the bytes are.
[[nodiscard]] DiscoveredEntry check_discovery_entry(const nvme::DiscoveryEntry& entry);

/// Reads the whole log. Reading it tells the controller to report its next change. Errors: kBusy, retryable (its
/// generation never settled), kUnsupported (a record format that is not ours), as QueuePair::execute().
Task<Result<DiscoveryLog>> read_discovery_log(QueuePair& admin, DmaPool& pool);

/// kUnsupported, naming the controller.
[[nodiscard]] Error not_a_discovery_controller(const NvmeController& controller);

struct DiscoveryOptions {
  bool follow_referrals = false;
  std::uint32_t max_depth = 4;         ///< referrals of referrals; 1: only those of the first controller
  std::uint32_t max_controllers = 16;  ///< asked altogether
};

/// What one discovery controller said, or why it said nothing.
struct DiscoveryAnswer {
  nvme::TransportAddress address;
  std::uint32_t depth = 0;  ///< referrals followed to get there
  DiscoveryLog log;
  std::optional<Error> error;
};

struct DiscoveryReport {
  std::vector<DiscoveryAnswer> answers;  ///< the one that was asked first, then its referrals, breadth first
  std::uint32_t not_followed = 0;        ///< referrals beyond max_depth or max_controllers
};

/// Connects to the discovery controller of `config`, reads its log, disconnects; and so for its referrals, each address
/// once. Errors: those of the first controller; what a referral leads to fails in its answer. kUnsupported: it is no
/// discovery controller.
Task<Result<DiscoveryReport>> discover(NvmePoller& home, DmaPool& pool, Net& net, ControllerConfig config,
                                       DiscoveryOptions options = {});

}  // namespace leap
