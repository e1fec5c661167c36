// A host of ours sees what happens to the namespaces of a target of ours, on several pollers.
#include <condition_variable>
#include <mutex>

#include <gtest/gtest.h>

#include "host/controller.h"
#include "nvme/nvm_command.h"
#include "poller/dma_await.h"
#include "support/local_target.h"
#include "support/poller_thread.h"

namespace leap::test {
namespace {

using std::chrono::seconds;

using Sizes = std::vector<std::pair<std::uint32_t, std::uint64_t>>;

/// What the controller lists, as of its last callback.
class Seen {
 public:
  void look(const NvmeController& controller) {
    const std::lock_guard lock(mutex_);
    sizes_.clear();
    for (const NamespaceInfo& ns : controller.namespaces()) sizes_.emplace_back(ns.nsid.value(), ns.size());
    changed_.notify_all();
  }
  bool wait_for(const Sizes& wanted) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, seconds(10), [&] { return sizes_ == wanted; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Sizes sizes_;
};

Task<Result<>> read_first_block(NvmeController& controller, NvmePoller& poller, DmaPool& pool, std::uint32_t nsid) {
  LEAP_CO_TRY(QueuePair* const queue, co_await controller.open_io_queue(poller, pool));
  LEAP_CO_TRY(DmaBuf data, co_await allocate(poller, pool, 4096));
  CommandResult done = co_await queue->execute(nvme::make_read(nvme::Nsid{nsid}, 0, 1), std::move(data),
                                               nvme::DataDirection::kControllerToHost);
  if (!done.status.ok()) co_return std::move(done.status).error();
  co_return Result<>{};
}

TEST(NamespaceInterop, AddedResizedAndRemovedNamespacesReachTheHost) {
  PollerThread home(4 << 20);
  PollerThread other(4 << 20);
  auto added = open_local_device("mem:?size=4MiB", "added").value();
  LocalTarget target({.devices = {"mem:?size=1MiB"}, .pollers = 2});
  ControllerConfig config;
  config.address = target.address();
  config.hostnqn = "nqn.2024-01.io.example:host";
  config.hostid = Uuid::from_name("host");
  Seen seen;
  auto connected =
      home.run([&](NvmePoller& poller) { return NvmeController::connect(poller, home.pool(), Net::system(), config); });
  ASSERT_TRUE(connected.ok()) << connected.error().to_string();
  std::unique_ptr<NvmeController> controller = std::move(connected).value();
  const Result<> listening = home.run([&](NvmePoller&) -> Task<Result<>> {
    controller->set_namespaces_changed([&](NvmeController& changed) { seen.look(changed); });
    co_return Result<>{};
  });
  ASSERT_TRUE(listening.ok());
  const auto read = [&](PollerThread& from, std::uint32_t nsid) {
    return from.run([&](NvmePoller& poller) { return read_first_block(*controller, poller, from.pool(), nsid); });
  };
  EXPECT_TRUE(read(home, 1).ok());
  EXPECT_TRUE(read(other, 1).ok());
  EXPECT_FALSE(read(other, 2).ok());

  ASSERT_TRUE(target.target().add_namespace({.device = added.get(), .size = 1 << 20}).ok());
  ASSERT_TRUE(seen.wait_for({{1, 1 << 20}, {2, 1 << 20}}));
  EXPECT_TRUE(read(home, 2).ok()) << "a host that was told may use it on every queue";
  EXPECT_TRUE(read(other, 2).ok());
  ASSERT_TRUE(target.target().resize_namespace(2, 4 << 20).ok());
  ASSERT_TRUE(seen.wait_for({{1, 1 << 20}, {2, 4 << 20}}));
  ASSERT_TRUE(target.target().remove_namespace(2).ok());
  ASSERT_TRUE(seen.wait_for({{1, 1 << 20}}));
  EXPECT_FALSE(read(home, 2).ok());
  EXPECT_TRUE(read(other, 1).ok());
  EXPECT_TRUE(home.run([&](NvmePoller&) { return controller->shutdown(seconds(5)); }).ok());
  controller.reset();
  target.stop();
}

}  // namespace
}  // namespace leap::test
