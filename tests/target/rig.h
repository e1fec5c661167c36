// Rig: a target on one hand-driven poller with virtual time and a MemoryNet; hosts are TestHosts on its cables.
//
//   Rig rig;                                   // one 1 MiB memory namespace, 512-byte blocks
//   auto host = rig.io_host();                 // Admin queue connected and enabled, I/O queue 1 connected
//   EXPECT_TRUE(host.io->write(1, 0, data).ok());
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/log.h"
#include "bdev/mem_bdev.h"
#include "memory_net.h"
#include "nvme/admin_command.h"
#include "nvme/features.h"
#include "nvme/status.h"
#include "target/target.h"
#include "test_device.h"
#include "test_host.h"

namespace leap::target::testing {

inline ::testing::AssertionResult has_status(const Reply& reply, NvmeStatusCode wanted) {
  if (reply.lost) return ::testing::AssertionFailure() << "the connection ended";
  if (nvme::same_code(reply.status(), wanted)) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "status is '" << nvme::status_name(reply.status()) << "' (sct "
                                       << int(reply.status().sct) << " sc " << int(reply.status().sc) << "), not '"
                                       << nvme::status_name(wanted) << "'";
}

/// EXPECT that a reply carries this status, whatever DNR says.
#define EXPECT_STATUS(reply, code) EXPECT_TRUE(has_status((reply), ::leap::nvme::status(code)))

/// A pool with memory of its own.
class PoolMemory {
 public:
  explicit PoolMemory(std::size_t size)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(4096, size))), pool({memory_.get(), size}) {}

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> memory_;

 public:
  DmaPool pool;
};

class Rig {
 public:
  static constexpr std::uint64_t kSize = 1 << 20;

  explicit Rig(TargetConfig config = {}, std::size_t pool_bytes = 4 << 20) : memory_(pool_bytes) {
    set_log_level(LogLevel::kOff);
    poller_ = NvmePoller::create({.name = "rig"}, clock, std::make_unique<NoWait>()).value();
    if (config.listen.empty()) config.listen = {SocketAddress::parse("127.0.0.1:4420").value()};
    if (config.nqn.empty()) config.nqn = "nqn.2024-01.io.leap:test";
    if (config.namespaces.empty()) {
      device = MemBdev::create({.size = kSize, .block_size = 512, .name = "mem0"}).value();
      config.namespaces.push_back(namespace_on(*device));
    }
    auto created = NvmeTarget::create(std::move(config), {{*poller_, memory_.pool}}, net);
    EXPECT_TRUE(created.ok()) << created.error().to_string();
    target_ = std::move(created).value();
    EXPECT_TRUE(target_->start().ok());
    settle();
  }
  ~Rig() { stop(); }

  static NamespaceConfig namespace_on(BlockDevice& device, std::uint32_t nsid = 0) {
    NamespaceConfig ns;
    ns.device = &device;
    ns.nsid = nsid;
    return ns;
  }

  void stop() {
    if (target_ == nullptr) return;
    target_->begin_stop(false);
    settle();
    EXPECT_TRUE(target_->stopped());
    target_.reset();
  }
  /// Turns until the poller has nothing left to do.
  void settle() {
    for (int idle = 0; idle < 3;) idle = poller_->run_once() > 0 ? 0 : idle + 1;
  }
  void advance(Nanos by) {
    clock.advance(by);
    settle();
  }

  /// A connection on which nothing has been said yet.
  std::unique_ptr<TestHost> dial() {
    auto cable = net.dial();
    cables.push_back(cable);
    settle();
    return std::make_unique<TestHost>(std::make_unique<CableWire>(*this, cable));
  }
  /// ICReq done.
  std::unique_ptr<TestHost> ready(const nvme::ConnectionParams& wanted = {}) {
    auto host = dial();
    EXPECT_TRUE(host->handshake(wanted).has_value());
    return host;
  }
  /// Admin queue connected and enabled.
  std::unique_ptr<TestHost> admin(const nvme::ConnectionParams& wanted = {}, std::uint32_t kato_ms = 0) {
    auto host = ready(wanted);
    EXPECT_TRUE(host->connect(0, 0xFFFF, 32, kato_ms).ok());
    EXPECT_TRUE(host->property_set(nvme::PropertyOffset::kCc, nvme::Cc::enabled().raw).ok());
    return host;
  }
  struct Hosts {
    std::unique_ptr<TestHost> admin;
    std::unique_ptr<TestHost> io;
  };
  Hosts io_host(const nvme::ConnectionParams& wanted = {}, std::uint32_t entries = 32) {
    Hosts hosts{admin(wanted), ready(wanted)};
    EXPECT_TRUE(hosts.io->connect(1, hosts.admin->cntlid, entries).ok());
    return hosts;
  }

  [[nodiscard]] NvmeTarget& target() { return *target_; }
  [[nodiscard]] NvmePoller& poller() { return *poller_; }
  [[nodiscard]] DmaPool& pool() { return memory_.pool; }

  ManualClock clock;
  MemoryNet net;
  std::unique_ptr<MemBdev> device;
  std::vector<std::shared_ptr<Cable>> cables;  ///< in the order of dial()

 private:
  class CableWire final : public Wire {
   public:
    CableWire(Rig& rig, std::shared_ptr<Cable> cable) : rig_(rig), cable_(std::move(cable)) {}
    void send(std::span<const std::byte> bytes) override { cable_->send(bytes); }
    bool receive(Bytes& into) override {
      if (cable_->from_target.empty()) rig_.settle();
      if (cable_->from_target.empty()) return false;
      into.insert(into.end(), cable_->from_target.begin(), cable_->from_target.end());
      cable_->from_target.clear();
      return true;
    }
    bool closed() override {
      rig_.settle();
      return cable_->target_closed || cable_->target_half_closed;
    }
    void close() override {
      cable_->close();
      rig_.settle();
    }

   private:
    Rig& rig_;
    std::shared_ptr<Cable> cable_;
  };

  PoolMemory memory_;
  std::unique_ptr<NvmePoller> poller_;
  std::unique_ptr<NvmeTarget> target_;
};

}  // namespace leap::target::testing
