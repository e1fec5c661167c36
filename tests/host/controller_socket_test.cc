// Controllers over real sockets and running pollers: what a single thread and a fake network cannot show.
#include <chrono>

#include <gtest/gtest.h>

#include "../support/poller_thread.h"
#include "host/controller.h"
#include "host/resolve.h"
#include "nvme/nvm_command.h"
#include "poller/dma_await.h"
#include "socket_target.h"

namespace leap::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

ControllerConfig config_for(std::uint16_t port) {
  ControllerConfig config;
  const auto text = fmt::format("nvme+tcp://127.0.0.1:{}/nqn.2024-01.io.example:fake", port);
  config.address = nvme::TransportAddress::parse(text).value();
  config.hostnqn = "nqn.2024-01.io.example:host";
  config.hostid = Uuid::from_name("host");
  return config;
}

Result<std::unique_ptr<NvmeController>> connect(PollerThread& home, const ControllerConfig& config) {
  return home.run(
      [&](NvmePoller& poller) { return NvmeController::connect(poller, home.pool(), Net::system(), config); });
}

Result<> shutdown(PollerThread& home, NvmeController& controller, Nanos limit = seconds(5)) {
  return home.run([&](NvmePoller&) { return controller.shutdown(limit); });
}

/// Writes blocks that say where they are and reads them back, `depth` of them at a time.
Task<std::uint64_t> verify_region(QueuePair& qp, NvmePoller& poller, DmaPool& pool, std::uint64_t first,
                                  std::uint32_t count) {
  std::uint64_t errors = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t lba = first + i * 8ULL;
    Result<DmaBuf> allocated = co_await allocate(poller, pool, 4096);
    DmaBuf data = std::move(allocated).value();
    for (std::size_t at = 0; at < 4096; ++at) data.data()[at] = static_cast<std::byte>((lba * 7 + at / 16) & 0xFF);
    CommandResult written = co_await qp.execute(nvme::make_write(nvme::Nsid{1}, lba, 8), std::move(data),
                                                nvme::DataDirection::kHostToController);
    if (!written.status.ok()) ++errors;
    CommandResult read = co_await qp.execute(nvme::make_read(nvme::Nsid{1}, lba, 8), std::move(written.data),
                                             nvme::DataDirection::kControllerToHost);
    if (!read.status.ok()) ++errors;
    for (std::size_t at = 0; read.data.valid() && at < 4096; ++at) {
      if (read.data.data()[at] != static_cast<std::byte>((lba * 7 + at / 16) & 0xFF)) ++errors;
    }
  }
  co_return errors;
}

Task<void> verify_part(QueuePair& qp, NvmePoller& poller, DmaPool& pool, std::uint64_t first, std::uint64_t& errors) {
  const std::uint64_t found = co_await verify_region(qp, poller, pool, first, 16);
  errors += found;
}

Task<Result<std::uint64_t>> verify_on(NvmeController& controller, NvmePoller& poller, DmaPool& pool,
                                      std::uint64_t first) {
  LEAP_CO_TRY(QueuePair* const qp, co_await controller.open_io_queue(poller, pool));
  std::uint64_t errors = 0;
  TaskGroup parts(poller);
  for (std::uint64_t i = 0; i < 4; ++i) parts.spawn(verify_part(*qp, poller, pool, first + i * 128, errors));
  co_await parts.wait();
  co_return errors;
}

TEST(ControllerOverTcp, SeveralPollersWorkAtOnceEachOnItsOwnQueue) {
  SocketTarget target;
  PollerThread home;
  PollerThread other;
  PollerThread third;
  auto connected = connect(home, config_for(target.port()));
  ASSERT_TRUE(connected.ok()) << connected.error().to_string();
  auto controller = std::move(connected).value();
  std::vector<std::thread> drivers;
  std::atomic<std::uint64_t> errors{0};
  std::uint64_t first = 0;
  for (PollerThread* thread : {&home, &other, &third}) {
    drivers.emplace_back([&, thread, first] {
      const auto result =
          thread->run([&](NvmePoller& poller) { return verify_on(*controller, poller, thread->pool(), first); });
      errors += result.ok() ? result.value() : 1000;
    });
    first += 512;
  }
  for (auto& driver : drivers) driver.join();
  EXPECT_EQ(errors.load(), 0U);
  EXPECT_EQ(controller->probe().io_queues.value(), 3);
  EXPECT_TRUE(shutdown(home, *controller).ok());
  EXPECT_EQ(controller->probe().io_queues.value(), 0);
  controller.reset();
}

TEST(ControllerOverTcp, MorePollersThanQueuesIsAnError) {
  FakeTarget::Options options;
  options.queues = 1;
  SocketTarget target(options);
  PollerThread home;
  PollerThread other;
  auto controller = connect(home, config_for(target.port())).value();
  const auto open = [&](PollerThread& thread) {
    return thread.run([&](NvmePoller& poller) { return controller->open_io_queue(poller, thread.pool()); });
  };
  EXPECT_TRUE(open(home).ok());
  const auto refused = open(other);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kExhausted);
  EXPECT_TRUE(shutdown(home, *controller).ok());
  controller.reset();
}

Task<Result<>> await_loss(NvmePoller& poller, NvmeController& controller) {
  while (controller.live()) co_await poller.sleep_for(milliseconds(1));
  co_return Result<>{};
}

TEST(ControllerOverTcp, ATargetThatDiesFailsEveryPollersCommands) {
  auto target = std::make_unique<SocketTarget>();
  PollerThread home;
  PollerThread other;
  auto controller = connect(home, config_for(target->port())).value();
  const auto opened = other.run([&](NvmePoller& poller) { return controller->open_io_queue(poller, other.pool()); });
  ASSERT_TRUE(opened.ok());
  target.reset();
  home.run([&](NvmePoller& poller) { return await_loss(poller, *controller); }).value();
  EXPECT_EQ(controller->state(), ControllerState::kFailed);
  EXPECT_TRUE(shutdown(home, *controller).ok());
  controller.reset();
}

TEST(ControllerOverTcp, AClosedPortIsReportedAtOnce) {
  LoopbackListener listener;
  const std::uint16_t port = listener.port();
  listener.close();
  PollerThread home;
  const auto start = std::chrono::steady_clock::now();
  const auto refused = connect(home, config_for(port));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().os_errno(), ECONNREFUSED);
  EXPECT_NE(refused.error().message().find(fmt::format("127.0.0.1:{}", port)), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(5));
}

TEST(ControllerOverTcp, ASilentPortIsReportedAfterTheConnectTimeout) {
  const LoopbackListener listener;  // the kernel accepts; nobody reads
  PollerThread home;
  ControllerConfig config = config_for(listener.port());
  config.connect_timeout = milliseconds(200);
  const auto start = std::chrono::steady_clock::now();
  const auto refused = connect(home, config);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kTimedOut);
  EXPECT_NE(refused.error().message().find("is it an NVMe/TCP target?"), std::string::npos);
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(200));
}

TEST(ControllerOverTcp, AWebServerIsReportedByWhatItSays) {
  LoopbackListener listener;
  std::thread server([&listener] {
    const UniqueFd client(::accept(listener.fd(), nullptr, nullptr));
    const std::string_view answer = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    LEAP_CHECK(::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL) > 0, "send");
    std::byte sink[256];
    while (::recv(client.get(), sink, sizeof sink, 0) > 0) {
    }
  });
  PollerThread home;
  const auto refused = connect(home, config_for(listener.port()));
  server.join();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kProtocol);
  EXPECT_NE(refused.error().message().find("HTTP/1.1"), std::string::npos) << refused.error().message();
}

TEST(ControllerOverTcp, HostNamesAreResolvedBeforehand) {
  auto named =
      nvme::TransportAddress::parse("trtype:TCP traddr:localhost trsvcid:4420 subnqn:nqn.2024-01.io.example:fake");
  ASSERT_TRUE(named.ok()) << named.error().to_string();
  EXPECT_FALSE(socket_address(*named).ok()) << "a poller must never wait for a resolver";
  const auto resolved = resolve_address(*named);
  ASSERT_TRUE(resolved.ok()) << resolved.error().to_string();
  EXPECT_TRUE(socket_address(*resolved)->is_loopback());
}

}  // namespace
}  // namespace leap::test
