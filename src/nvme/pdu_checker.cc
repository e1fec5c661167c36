#include "nvme/pdu_checker.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"

namespace leap::nvme {
namespace {

std::atomic<PduChecker::Hook> g_on_own{nullptr};

RateLimiter& log_limit() {
  static RateLimiter limiter(10, std::chrono::seconds(1));
  return limiter;
}

/// The fields that tell one PDU from another: at most the first 24 bytes.
std::string quote(std::span<const std::byte> header) {
  std::string hex;
  for (const std::byte byte : header.first(std::min<std::size_t>(header.size(), sizeof(R2TPdu)))) {
    hex += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  return hex;
}

}  // namespace

std::unique_ptr<PduChecker> PduChecker::make(bool wanted, const PduMonitor::Config& config, std::string peer) {
  if (!wanted && g_on_own.load(std::memory_order_relaxed) == nullptr) return nullptr;
  return std::unique_ptr<PduChecker>(new PduChecker(config, std::move(peer)));
}

PduChecker::PduChecker(const PduMonitor::Config& config, std::string peer)
    : monitor_(config),
      end_(config.end),
      own_direction_(end_ == ConnectionEnd::kHost ? PduDirection::kToController : PduDirection::kToHost),
      peer_direction_(end_ == ConnectionEnd::kHost ? PduDirection::kToHost : PduDirection::kToController),
      peer_(std::move(peer)) {}

ProtocolViolations& PduChecker::violations(ConnectionEnd end) {
  static ProtocolViolations host;
  static ProtocolViolations controller;
  return end == ConnectionEnd::kHost ? host : controller;
}

void PduChecker::check_everything(Hook on_own) { g_on_own.store(on_own, std::memory_order_relaxed); }

void PduChecker::report(PduDirection direction, PduRule rule, std::span<const std::byte> header) {
  const bool own = monitor_.own(direction);
  const bool provoked = monitor_.provoked(direction);
  (own ? violations(end_).own : violations(end_).peer).add();
  const auto type = header.empty() ? PduType{} : static_cast<PduType>(header[0]);
  const std::string what =
      fmt::format("protocol checker: {}: {} sent a {} {} ({}): {}{}", peer_, own ? "we" : "the peer", to_string(type),
                  to_string(rule), clause(rule), quote(header), provoked ? ", after the other end broke a rule" : "");
  if (const auto pass = log_limit().admit()) log_warn("{} ({} more suppressed)", what, pass->suppressed);
  const Hook hook = g_on_own.load(std::memory_order_relaxed);
  if (hook != nullptr && own && !provoked) hook(rule, what);
}

}  // namespace leap::nvme
