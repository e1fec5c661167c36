// The target's protocol checker is there when the configuration asks for it, blames the right end, and shows it.
#include <gtest/gtest.h>

#include "../support/check_protocol.h"
#include "nvme/pdu_checker.h"
#include "rig.h"

namespace leap::target::testing {
namespace {

std::uint64_t hosts_violations() { return nvme::PduChecker::violations(nvme::ConnectionEnd::kController).peer.value(); }

/// A command with the CID of another that is outstanding: an Asynchronous Event Request, which stays.
void use_a_cid_twice(Rig& rig) {
  auto host = rig.admin();
  nvme::Command event = nvme::make_async_event_request();
  event.cid = nvme::Cid{77};
  event.set_sgl(nvme::SglDescriptor::transport(0));
  host->submit_raw(event);
  host->submit_raw(event);
  rig.settle();
}

TEST(TargetProtocolChecker, IsThereWhenTheConfigurationAsksForIt) {
  const leap::test::OnlyAsConfigured configured;
  for (const bool asked : {false, true}) {
    TargetConfig config;
    config.protocol_checker = asked;
    Rig rig(config);
    const std::uint64_t before = hosts_violations();
    use_a_cid_twice(rig);
    EXPECT_EQ(hosts_violations() - before, asked ? 1U : 0U);
  }
}

TEST(TargetProtocolChecker, ShowsItsFindingsAsAMetric) {
  Rig rig;
  const std::uint64_t own = nvme::PduChecker::violations(nvme::ConnectionEnd::kController).own.value();
  use_a_cid_twice(rig);
  MetricsText page;
  rig.target().append_metrics(page);
  const std::string line = fmt::format("leap_target_protocol_violations_total{{by=\"host\"}} {}", hosts_violations());
  EXPECT_NE(page.text().find(line), std::string::npos) << page.text();
  EXPECT_GT(hosts_violations(), 0U);
  EXPECT_EQ(nvme::PduChecker::violations(nvme::ConnectionEnd::kController).own.value(), own)
      << "the target has done nothing";
}

}  // namespace
}  // namespace leap::target::testing
