// PduChecker: a PduMonitor at work on one connection: what it finds is counted, logged with its clause, and in tests a
// failure when it was our own doing.
//
//   std::unique_ptr<PduChecker> checker = PduChecker::make(config.protocol_checker, monitor_config, "127.0.0.1:4420");
//   if (checker) checker->sent(header);         // nullptr, unless asked for: then nothing is paid but this test
//
// Threading: the connection's. Log lines are limited for all connections together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/metrics.h"
#include "nvme/pdu_monitor.h"

namespace leap::nvme {

/// Violations seen at one kind of end of this process, over all connections. Written by any thread.
struct ProtocolViolations {
  SharedCounter own;   ///< PDUs that we sent
  SharedCounter peer;  ///< PDUs that we received
};

class PduChecker {
 public:
  /// nullptr unless `wanted`, or check_everything() has been called.
  static std::unique_ptr<PduChecker> make(bool wanted, const PduMonitor::Config& config, std::string peer);

  void sent(std::span<const std::byte> header) { observe(own_direction_, header); }
  void received(std::span<const std::byte> header) { observe(peer_direction_, header); }

  [[nodiscard]] static ProtocolViolations& violations(ConnectionEnd end);
  /// For tests, before anything connects: checks every connection of the process, and tells `on_own` of each violation
  /// of ours that the peer has not provoked.
  using Hook = void (*)(PduRule rule, const std::string& what);
  static void check_everything(Hook on_own);

 private:
  PduChecker(const PduMonitor::Config& config, std::string peer);
  void observe(PduDirection direction, std::span<const std::byte> header) {
    if (const PduRule rule = monitor_.observe(direction, header); rule != PduRule::kNone) [[unlikely]] {
      report(direction, rule, header);
    }
  }
  void report(PduDirection direction, PduRule rule, std::span<const std::byte> header);

  PduMonitor monitor_;
  const ConnectionEnd end_;
  const PduDirection own_direction_;
  const PduDirection peer_direction_;
  const std::string peer_;
};

}  // namespace leap::nvme
