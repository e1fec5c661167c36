// Our host's discovery against our target's, over real sockets.
#include <condition_variable>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "host/discovery_watch.h"
#include "support/local_target.h"
#include "support/poller_thread.h"

namespace leap::test {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::SizeIs;

ControllerConfig discovery_of(const LocalTarget& target) {
  ControllerConfig config;
  config.address = target.address();
  config.address.subnqn = nvme::kDiscoveryNqn;
  config.hostnqn = "nqn.2024-01.io.example:host";
  config.hostid = Uuid::from_name("host");
  return config;
}

Result<DiscoveryReport> find(PollerThread& home, const LocalTarget& target, DiscoveryOptions options = {}) {
  return home.run(
      [&](NvmePoller& poller) { return discover(poller, home.pool(), Net::system(), discovery_of(target), options); });
}

TEST(DiscoveryInterop, FindsTheSubsystemBehindAReferralLoop) {
  PollerThread home(4 << 20);
  LocalTarget first({.nqn = "nqn.2024-01.io.leap:first", .devices = {"mem:?size=1MiB"}});
  LocalTarget second({.nqn = "nqn.2024-01.io.leap:second", .devices = {"mem:?size=1MiB"}});
  first.target().set_referrals({second.endpoint()}).value();
  second.target().set_referrals({first.endpoint()}).value();
  const auto found = find(home, first, {.follow_referrals = true});
  ASSERT_TRUE(found.ok()) << found.error().to_string();
  ASSERT_THAT(found->answers, SizeIs(2));
  std::vector<std::string> subsystems;
  for (const DiscoveryAnswer& answer : found->answers) {
    EXPECT_FALSE(answer.error.has_value()) << answer.error->to_string();
    for (const DiscoveredEntry& entry : answer.log.entries) {
      EXPECT_EQ(entry.problem, "");
      if (entry.subtype == nvme::DiscoverySubtype::kNvm) subsystems.push_back(entry.subnqn);
    }
  }
  EXPECT_THAT(subsystems, ElementsAre("nqn.2024-01.io.leap:first", "nqn.2024-01.io.leap:second"));
}

class Told {
 public:
  void add(const Result<DiscoveryLog>& log) {
    const std::lock_guard lock(mutex_);
    logs_.push_back(log);
    changed_.notify_all();
  }
  /// The `count`-th call, waiting for it.
  std::optional<Result<DiscoveryLog>> wait(std::size_t count) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, seconds(10), [&] { return logs_.size() >= count; })) return std::nullopt;
    return logs_[count - 1];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Result<DiscoveryLog>> logs_;
};

TEST(DiscoveryInterop, AWatchHearsOfChanges) {
  PollerThread home(4 << 20);
  LocalTarget target({.devices = {"mem:?size=1MiB"}});
  Told told;
  std::optional<DiscoveryWatch> watch;
  const Result<> started = home.run([&](NvmePoller& poller) -> Task<Result<>> {
    watch.emplace(poller, home.pool(), Net::system(), DiscoveryWatch::Config{.controller = discovery_of(target)},
                  [&](const Result<DiscoveryLog>& log) { told.add(log); });
    co_return watch->start();
  });
  ASSERT_TRUE(started.ok());
  auto log = told.wait(1);
  ASSERT_TRUE(log && log->ok());
  EXPECT_THAT((*log)->entries, SizeIs(2));
  target.target().set_allowed_hosts({"nqn.2024-01.io.leap:friend"}).value();
  log = told.wait(2);
  ASSERT_TRUE(log && log->ok());
  EXPECT_THAT((*log)->entries, SizeIs(1)) << "the subsystem is no longer ours to see";
  target.target().set_referrals({SocketAddress::parse("10.9.9.9:8009").value()}).value();
  log = told.wait(3);
  ASSERT_TRUE(log && log->ok());
  EXPECT_THAT((*log)->entries, SizeIs(2));
  home.run([&](NvmePoller&) { return watch->stop(); });
  watch.reset();
}

}  // namespace
}  // namespace leap::test
