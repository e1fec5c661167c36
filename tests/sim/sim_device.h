// SimDevice: a drive with a volatile cache, in virtual time, that fails and loses power as its seed says.
//
// A write changes the contents in two steps, some atomic units half way and the others when it completes; one that
// fails with an I/O error may have changed any of them. Either is durable once a Flush has completed that was issued
// after it was over. power_loss() leaves each atomic unit that is not durable in any of the states it has been in since it was,
// and those of writes in flight written or not. Without a volatile cache whatever is written is durable at once.
//
// A mapped device is memory: the target reads and writes it without asking, and power loss does nothing to it.
//
// Threading: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/random.h"
#include "bdev/block_device.h"
#include "trace.h"

namespace leap::sim {

struct DevicePlan {
  std::uint64_t size = 512 * 1024;
  std::uint32_t block_size = 512;  ///< also the atomic unit
  bool volatile_cache = true;
  bool mapped = false;
  std::int64_t latency_min_ns = 5'000;
  std::int64_t latency_max_ns = 150'000;
  double slow = 0.01;  ///< share of I/Os that take up to slow_max_ns
  std::int64_t slow_max_ns = 20'000'000;
  double stall = 0.0;  ///< share of I/Os that take up to stall_max_ns
  std::int64_t stall_max_ns = 3'000'000'000;
  double io_error = 0.0;  ///< share of I/Os that fail
  double busy = 0.0;      ///< share of I/Os and of channels that are refused
};

class SimDevice final : public BlockDevice {
 public:
  SimDevice(DevicePlan plan, std::string name, Rng rng, Trace& trace);

  [[nodiscard]] const BlockDeviceInfo& info() const override { return info_; }
  [[nodiscard]] bool online() const override { return true; }
  Result<std::unique_ptr<BlockChannel>> open_channel(NvmePoller& poller, DmaPool& pool) override;
  [[nodiscard]] std::span<std::byte> mapped() override { return plan_.mapped ? contents() : std::span<std::byte>(); }

  /// The contents as a reader sees them now.
  [[nodiscard]] std::span<std::byte> contents() { return now_; }
  /// Makes what contents() holds durable.
  void settle();
  /// Writes in flight end as they are: their process has died, the drive has not.
  void abandon_in_flight();
  void power_loss();
  /// No further errors and stalls.
  void heal() { plan_.io_error = plan_.busy = plan_.stall = 0.0; }

  [[nodiscard]] std::size_t channels() const { return channels_; }
  /// Changes that were begun up to now are over when oldest_change() is beyond this.
  [[nodiscard]] std::uint64_t next_change() const { return next_op_; }
  [[nodiscard]] std::uint64_t oldest_change() const { return changes_.empty() ? UINT64_MAX : changes_.begin()->first; }
  [[nodiscard]] std::uint64_t faults() const { return faults_; }

 private:
  class Channel;
  class Change;
  static constexpr std::uint64_t kNotComplete = UINT64_MAX;

  /// What a unit held at some time since it was last durable.
  struct Version {
    std::uint64_t completed;  // order of completion
    std::vector<std::byte> bytes;
  };

  [[nodiscard]] Nanos latency();
  [[nodiscard]] Result<> outcome();
  void apply(std::uint64_t offset, std::span<const std::byte> unit, std::uint64_t completed);
  void make_durable(std::uint64_t up_to);
  [[nodiscard]] std::span<std::byte> unit_of(std::vector<std::byte>& memory, std::uint64_t offset) const {
    return std::span(memory).subspan(offset, plan_.block_size);
  }

  DevicePlan plan_;
  Rng rng_;
  Trace& trace_;
  BlockDeviceInfo info_;
  std::vector<std::byte> now_;
  std::vector<std::byte> durable_;
  std::map<std::uint64_t, std::vector<Version>> dirty_;  // by offset of the unit
  std::map<std::uint64_t, Change*> changes_;             // in flight, oldest first
  std::uint64_t next_op_ = 1;
  std::uint64_t completions_ = 0;
  std::size_t channels_ = 0;
  std::uint64_t faults_ = 0;
};

}  // namespace leap::sim
