// NvmeBdev: one namespace of a connected controller as a BlockDevice.
//
// A channel is a cheap handle: all channels of one poller share that poller's queue pair to the controller (any number
// of I/Os in flight, up to the queue's depth), instead of a connection each. The queue pair is opened by the first I/O
// of a channel, or ahead of time by whoever owns the controller, and again after it has failed.
//
//   auto device = NvmeBdev::create(controller, controller.namespaces().front(), {});
//   auto channel = device->open_channel(poller, pool).value();
//
// Lifetime: the controller outlives the device, the device its channels.
#pragma once

#include "bdev/block_device.h"
#include "bdev/range_lock.h"
#include "host/controller.h"

namespace leap {

class NvmeBdev final : public BlockDevice {
 public:
  struct Config {
    std::uint32_t max_io = DmaPool::kMaxBuffer;  ///< bytes per command, at most; also bounded by the controller's MDTS
    /// Repetitions of a command that failed, is worth repeating (no DNR) and certainly was not executed; reads in any
    /// case. The first at once, the others after 1, 2, 4, ... 100 ms.
    std::uint32_t retries = 4;
  };
  /// Error: kUnsupported (block size above 64 KiB), kInvalidArgument (max_io below one block).
  static Result<std::unique_ptr<NvmeBdev>> create(NvmeController& controller, const NamespaceInfo& ns, Config config);

  [[nodiscard]] const BlockDeviceInfo& info() const override { return info_; }
  [[nodiscard]] bool online() const override { return controller_.live(); }
  Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& pool) override;

  [[nodiscard]] NvmeController& controller() { return controller_; }
  [[nodiscard]] const NamespaceInfo& ns() const { return ns_; }

 private:
  NvmeBdev(NvmeController& controller, const NamespaceInfo& ns, Config config)
      : controller_(controller), ns_(ns), config_(config) {}

  NvmeController& controller_;
  const NamespaceInfo ns_;
  const Config config_;
  BlockDeviceInfo info_;
  RangeLock lock_;
};

}  // namespace leap
