// LocalTarget: an NVMe/TCP target in this process, on pollers of its own, for tests of everything that connects to one.
//
//   LocalTarget target({.devices = {"mem:?size=64MiB"}});
//   ... nvme::TransportAddress address = target.address(); ...
//   target.stop();                                          // or let it go out of scope
//
// Devices of the test's own (FaultyDevice) go into Options::target.namespaces and must outlive it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bdev/device_uri.h"
#include "nvme/address.h"
#include "support/poller_thread.h"
#include "target/target.h"

namespace leap::test {

class LocalTarget {
 public:
  static constexpr const char* kNqn = "nqn.2024-01.io.leap:test";

  struct Options {
    std::string nqn = kNqn;
    std::vector<std::string> devices = {};  ///< device strings, appended to the namespaces
    TargetConfig target = {};               ///< the rest; listens on a free port of 127.0.0.1 when it says nothing else
    std::size_t pollers = 1;
  };

  explicit LocalTarget(Options options) {
    TargetConfig config = std::move(options.target);
    config.nqn = options.nqn;
    if (config.listen.empty()) config.listen = {SocketAddress::from_numeric("127.0.0.1", 0).value()};
    for (const std::string& text : options.devices) {
      const std::string name = config.nqn + "/" + std::to_string(devices_.size());
      devices_.push_back(open_local_device(text, name).value());
      NamespaceConfig ns;
      ns.device = devices_.back().get();
      ns.name = name;
      config.namespaces.push_back(std::move(ns));
    }
    std::vector<NvmeTarget::Seat> seats;
    for (std::size_t i = 0; i < options.pollers; ++i) {
      threads_.push_back(std::make_unique<PollerThread>(16ULL << 20));
      seats.push_back({threads_.back()->poller(), threads_.back()->pool()});
    }
    nqn_ = config.nqn;
    target_ = NvmeTarget::create(std::move(config), std::move(seats)).value();
    target_->start().value();
    endpoint_ = target_->addresses().front();
  }
  ~LocalTarget() { stop(); }

  /// Answers what it has accepted, then ends; nothing listens afterwards.
  void stop() {
    if (target_ == nullptr) return;
    target_->stop(std::chrono::seconds(5)).ignore("the target's destructor waits for what is left");
    target_.reset();
    threads_.clear();
  }

  [[nodiscard]] NvmeTarget& target() { return *target_; }
  [[nodiscard]] SocketAddress endpoint() const { return endpoint_; }
  /// Its address, or what it is seen as behind something that listens at `through`.
  [[nodiscard]] nvme::TransportAddress address() const { return address(endpoint_); }
  [[nodiscard]] nvme::TransportAddress address(const SocketAddress& through) const {
    nvme::TransportAddress address;
    address.adrfam = through.family() == AddressFamily::kIpv6 ? nvme::Adrfam::kIpv6 : nvme::Adrfam::kIpv4;
    address.traddr = through.host();
    address.trsvcid = through.port();
    address.subnqn = nqn_;
    return address;
  }

 private:
  std::vector<std::unique_ptr<BlockDevice>> devices_;
  std::vector<std::unique_ptr<PollerThread>> threads_;
  std::unique_ptr<NvmeTarget> target_;
  SocketAddress endpoint_;
  std::string nqn_;
};

}  // namespace leap::test
