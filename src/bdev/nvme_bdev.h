// NvmeBdev: one namespace as a BlockDevice, over every link that leads to it.
//
// A channel is a cheap handle: all channels of one poller share that poller's queue pair to a controller (any number of
// I/Os in flight, up to the queue's depth), instead of a connection each. Queue pairs are opened by the first I/O that
// needs them, and again after they have failed, on this path or another.
//
//   auto device = NvmeBdev::create(link, ns, {});             // ns: of link's association
//   device->add_path(other_link, same_ns);                    // multipath
//   auto channel = device->open_channel(poller, pool).value();
//
// What happens to an I/O whose path fails:
//   not executed for certain      sent again, on any path
//   may have executed, a read     sent again
//   may have executed, a write    sent again; every newer write to its range waits for the association's end to be proven
//                                 (range_fence.h)
//   its deadline passed           kTimedOut; never sent again
//   no path                       waited for, fast_io_fail_timeout at most: kUnreachable
//   the controller says no        DNR: the error. Otherwise sent again, io_retry_count times, after the delay the
//                                 controller asks for (CRD)
//
// A volatile write cache may have died with the controller that had it. So the first flush() of every channel after a
// path was lost with unflushed writes fails (kIo), even if the new controller flushes what it has: what had been written
// before counts as lost, and whoever wrote it has to write it again.
//
// Lifetime: links outlive the device, the device its channels. Threading: add_path and refresh on the links' home.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "bdev/block_device.h"
#include "bdev/nvme_path.h"
#include "bdev/range_fence.h"
#include "bdev/range_lock.h"

namespace leap {

class NvmeBdev final : public BlockDevice {
 public:
  struct Config {
    std::uint32_t max_io = DmaPool::kMaxBuffer;  ///< bytes per command, at most; also bounded by the controller's MDTS
    /// Repetitions of a command that the controller refused and that is worth repeating. The first at once, the others
    /// after 1, 2, 4, ... 100 ms, or what the controller asks for.
    std::uint32_t retries = 4;
    Nanos fast_io_fail_timeout = std::chrono::seconds(5);  ///< an I/O waits this long for a path; 0: not at all
    PathPolicy policy = PathPolicy::kActivePassive;
  };
  struct Probe {
    SharedCounter retries;      ///< commands sent again
    SharedCounter failovers;    ///< of these, because their path failed
    SharedCounter fenced;       ///< writes that may have executed and were sent again under a fence
    SharedCounter fence_waits;  ///< writes that waited for one
    SharedCounter no_path;      ///< I/Os that failed for want of a path
  };

  /// Error: kUnsupported (block size above 64 KiB), kInvalidArgument (max_io below one block).
  static Result<std::unique_ptr<NvmeBdev>> create(ControllerLink& link, const NamespaceInfo& ns, Config config);

  /// Another way to the same namespace. Error: kAlreadyExists when it has the UUID but not the size or the block size of
  /// this one, or an identity of its own making: then it is something else.
  Result<> add_path(ControllerLink& link, const NamespaceInfo& ns);
  /// The namespaces of `link` have been read again: is this one of them still there, and still the same? Says so.
  void refresh(const ControllerLink& link, const std::vector<NamespaceInfo>& namespaces);

  [[nodiscard]] const BlockDeviceInfo& info() const override { return info_; }
  [[nodiscard]] bool online() const override;
  Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& pool) override;

  /// As it was when the device was created; its nsid is that of the first path.
  [[nodiscard]] const NamespaceInfo& ns() const { return ns_; }
  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] std::vector<NvmePath*> paths() const;
  [[nodiscard]] std::uint32_t path_count() const { return path_count_.load(std::memory_order_acquire); }
  [[nodiscard]] RangeFence& fence() { return fence_; }
  /// How often unflushed writes may have been lost so far, paths that are down now included. Any thread.
  [[nodiscard]] std::uint64_t losses();
  void count_loss() { losses_.fetch_add(1, std::memory_order_acq_rel); }
  [[nodiscard]] Probe& probe() { return probe_; }

 private:
  NvmeBdev(const NamespaceInfo& ns, Config config) : ns_(ns), config_(config) {}

  const NamespaceInfo ns_;
  const Config config_;
  BlockDeviceInfo info_;
  RangeLock lock_;
  RangeFence fence_;
  Probe probe_;
  mutable std::mutex mutex_;                      // paths_
  std::vector<std::unique_ptr<NvmePath>> paths_;  // only grows
  std::atomic<std::uint32_t> path_count_{0};
  std::atomic<std::uint64_t> losses_{0};
};

}  // namespace leap
