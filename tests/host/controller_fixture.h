// A NvmeController and a FakeTarget on a FakeNet, on one thread.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "fake_net.h"
#include "fake_target.h"
#include "host/controller.h"
#include "nvme/nvm_command.h"

namespace leap::test {

inline constexpr const char* kHost = "nqn.2014-08.org.nvmexpress:uuid:00010203-0405-0607-0809-0a0b0c0d0e0f";

inline ControllerConfig make_config() {
  ControllerConfig config;
  config.address = nvme::TransportAddress::parse("nvme+tcp://127.0.0.1:4420/nqn.2024-01.io.example:fake").value();
  config.hostnqn = kHost;
  config.hostid = Uuid::from_name("host");
  return config;
}

class ControllerTest : public ::testing::Test {
 protected:
  using Connected = Result<std::unique_ptr<NvmeController>>;

  ControllerTest() {
    loop.peer = [this] { return serve(); };
  }
  ~ControllerTest() override {
    if (controller != nullptr && controller->state() != ControllerState::kStopped) {
      loop.run(controller->shutdown(std::chrono::seconds(1))).ignore("the test is about something else");
    }
    controller.reset();
    EXPECT_EQ(loop.pool.probe().bytes_in_use, 0U);
  }

  /// Moves bytes between every wire and the target's connection behind it.
  bool serve() {
    bool busy = false;
    for (std::size_t i = 0; i < loop.net.wires.size(); ++i) {
      if (connections.size() <= i) connections.push_back(target.accept());
      Wire& wire = loop.net.wire(i);
      auto& connection = *connections[i];
      if (deaf) continue;
      busy = busy || !wire.to_peer.empty();
      connection.wire.in.insert(connection.wire.in.end(), wire.to_peer.begin(), wire.to_peer.end());
      wire.to_peer.clear();
      connection.serve();
      busy = busy || !connection.wire.out.empty();
      wire.to_host.insert(wire.to_host.end(), connection.wire.out.begin(), connection.wire.out.end());
      connection.wire.out.clear();
    }
    return busy;
  }
  static Task<void> connect_into(FakeLoop& loop, ControllerConfig config, std::optional<Connected>& result) {
    Connected connected = co_await NvmeController::connect(loop.poller, loop.pool, loop.net, std::move(config));
    result.emplace(std::move(connected));
  }
  /// Starts connecting and lets time pass in small steps until it is over, at most 15 s.
  Connected try_connect() {
    std::optional<Connected> result;
    loop.spawn(connect_into(loop, config, result));
    loop.settle();
    for (int i = 0; i < 1500 && !result; ++i) loop.advance(std::chrono::milliseconds(10));
    LEAP_CHECK(result.has_value(), "connect() is still not over after 15 s");
    return std::move(*result);
  }
  void connect() {
    Connected connected = try_connect();
    ASSERT_TRUE(connected.ok()) << connected.error().to_string();
    controller = std::move(connected).value();
  }
  QueuePair* open() {
    Result<QueuePair*> opened = loop.run(controller->open_io_queue(loop.poller, loop.pool));
    EXPECT_TRUE(opened.ok()) << opened.error().to_string();
    return opened.ok() ? *opened : nullptr;
  }
  static Task<CommandResult> run_command(QueuePair& qp, nvme::Command command, DmaBuf data,
                                         nvme::DataDirection direction) {
    CommandResult result = co_await qp.execute(command, std::move(data), direction);
    co_return std::move(result);
  }

  ControllerConfig config = make_config();
  FakeTarget target;
  FakeLoop loop;
  std::vector<std::unique_ptr<FakeTarget::Connection>> connections;
  bool deaf = false;  // the target reads and answers nothing
  std::unique_ptr<NvmeController> controller;
};

}  // namespace leap::test
