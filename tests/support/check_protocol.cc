// Linked into tests that speak NVMe/TCP: what our own side sends must break no rule.
#include "check_protocol.h"

#include <gtest/gtest.h>

#include "nvme/pdu_checker.h"

namespace leap::test {
namespace {

[[maybe_unused]] const bool kChecked = [] {
  nvme::PduChecker::check_everything([](nvme::PduRule rule, const std::string& what) {
    if (rule == nvme::PduRule::kConnectFirst && connect_is_left_out.load()) return;
    ADD_FAILURE() << what;
  });
  return true;
}();

}  // namespace
}  // namespace leap::test
