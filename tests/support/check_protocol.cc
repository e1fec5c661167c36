// Linked into tests that speak NVMe/TCP: what our own side sends must break no rule.
#include "check_protocol.h"

#include <gtest/gtest.h>

#include "nvme/pdu_checker.h"

namespace leap::test {
namespace {

void on_own_violation(nvme::PduRule rule, const std::string& what) {
  if (rule == nvme::PduRule::kConnectFirst && connect_is_left_out.load()) return;
  ADD_FAILURE() << what;
}

[[maybe_unused]] const bool kWatched = [] {
  watch_every_connection(true);
  return true;
}();

}  // namespace

void watch_every_connection(bool on) { nvme::PduChecker::check_everything(on ? &on_own_violation : nullptr); }

}  // namespace leap::test
