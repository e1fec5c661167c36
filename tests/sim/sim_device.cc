#include "sim_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace leap::sim {

/// A write, discard or zeroing in flight. Lives in its coroutine's frame, so that a target that dies takes it along.
class SimDevice::Change {
 public:
  /// `data` is what the range becomes; nullptr: zeros, in those units that `rng` picks (discard) or in all.
  Change(SimDevice& device, std::uint64_t offset, std::uint64_t length, const std::byte* data, bool every_unit)
      : device_(device), id_(device.next_op_++), offset_(offset), data_(data) {
    const std::uint32_t unit = device.plan_.block_size;
    for (std::uint64_t at = 0; at < length; at += unit) left_.push_back(every_unit || device.rng_.chance(0.6));
    zeros_.resize(data == nullptr ? unit : 0);
    device.changes_[id_] = this;
  }
  ~Change() { device_.changes_.erase(id_); }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

  /// Carries out what is left, each unit with the given probability.
  void apply(double share) {
    for (std::size_t i = 0; i < left_.size(); ++i) {
      if (!left_[i] || !device_.rng_.chance(share)) continue;
      left_[i] = false;
      applied_.push_back(i);
      device_.apply(at(i), bytes(i), kNotComplete);
    }
  }
  /// It is over, done or not: what it has written is in the cache like anything else.
  void end() {
    const std::uint64_t completed = ++device_.completions_;
    for (const std::size_t i : applied_) {
      auto dirty = device_.dirty_.find(at(i));
      if (dirty == device_.dirty_.end()) continue;
      for (Version& version : dirty->second) {
        if (version.completed == kNotComplete && std::ranges::equal(version.bytes, bytes(i))) {
          version.completed = completed;
          break;
        }
      }
    }
  }

 private:
  [[nodiscard]] std::uint64_t at(std::size_t i) const { return offset_ + i * device_.plan_.block_size; }
  [[nodiscard]] std::span<const std::byte> bytes(std::size_t i) const {
    if (data_ == nullptr) return zeros_;
    return {data_ + i * device_.plan_.block_size, device_.plan_.block_size};
  }

  SimDevice& device_;
  const std::uint64_t id_;
  const std::uint64_t offset_;
  const std::byte* const data_;
  std::vector<std::byte> zeros_;
  std::vector<bool> left_;
  std::vector<std::size_t> applied_;
};

class SimDevice::Channel final : public BlockChannel {
 public:
  Channel(SimDevice& device, NvmePoller& poller) : device_(device), poller_(poller) { ++device_.channels_; }
  ~Channel() override { --device_.channels_; }

  Task<Result<DmaBuf>> read(std::uint64_t offset, DmaBuf buffer) override {
    LEAP_CO_TRY_VOID(check(offset, buffer.size()));
    co_await poller_.sleep_for(device_.latency());
    LEAP_CO_TRY_VOID(device_.outcome());
    std::memcpy(buffer.data(), device_.now_.data() + offset, buffer.size());
    co_return std::move(buffer);
  }
  Task<Result<>> write(std::uint64_t offset, DmaBuf data, Sharing /*sharing*/) override {
    LEAP_CO_TRY_VOID(check(offset, data.size()));
    Change change(device_, offset, data.size(), data.data(), true);
    Result<> done = co_await carry_out(change);
    device_.trace_.note(Trace::Event::kDevice, offset, data.size(), done.ok());
    co_return done;
  }
  Task<Result<>> flush() override {
    const std::uint64_t issued = device_.completions_;
    co_await poller_.sleep_for(device_.latency());
    LEAP_CO_TRY_VOID(device_.outcome());
    device_.make_durable(issued);
    device_.trace_.note(Trace::Event::kDevice, issued);
    co_return Result<>{};
  }
  Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) override {
    LEAP_CO_TRY_VOID(check(offset, length));
    Change change(device_, offset, length, nullptr, false);
    Result<> done = co_await carry_out(change);
    co_return done;
  }
  Task<Result<>> write_zeroes(std::uint64_t offset, std::uint64_t length) override {
    LEAP_CO_TRY_VOID(check(offset, length));
    Change change(device_, offset, length, nullptr, true);
    Result<> done = co_await carry_out(change);
    co_return done;
  }

 private:
  Task<Result<>> carry_out(Change& change) {
    const Nanos whole = device_.latency();
    co_await poller_.sleep_for(whole / 2);
    if (device_.rng_.chance(device_.plan_.busy)) {
      ++device_.faults_;
      co_return Error(Errc::kBusy, "the simulated device is busy");
    }
    change.apply(0.3);
    co_await poller_.sleep_for(whole / 2);
    if (device_.rng_.chance(device_.plan_.io_error)) {
      ++device_.faults_;
      change.apply(0.5);
      change.end();
      co_return Error(Errc::kIo, "the simulated device failed");
    }
    change.apply(1.0);
    change.end();
    co_return Result<>{};
  }
  Result<> check(std::uint64_t offset, std::uint64_t length) const {
    const std::uint64_t size = device_.info_.size;
    const bool aligned = (offset | length) % device_.plan_.block_size == 0;
    LEAP_CHECK(aligned && offset <= size && length <= size - offset, "the target asked for what the device has not");
    return {};
  }

  SimDevice& device_;
  NvmePoller& poller_;
};

SimDevice::SimDevice(DevicePlan plan, std::string name, Rng rng, Trace& trace)
    : plan_(plan), rng_(rng), trace_(trace), now_(plan.size), durable_(plan.size) {
  info_.name = std::move(name);
  info_.uuid = Uuid::from_name(info_.name);
  info_.size = plan.size;
  info_.block_size = plan.block_size;
  info_.optimal_io = static_cast<std::uint32_t>(DmaPool::kMaxBuffer);
  info_.volatile_write_cache = plan.volatile_cache;
  info_.supports_discard = true;
  info_.description = "simulated";
}

Result<std::unique_ptr<BlockChannel>> SimDevice::open_channel(NvmePoller& poller, DmaPool& /*pool*/) {
  if (rng_.chance(plan_.busy)) return Error(Errc::kUnreachable, "the simulated device is away");
  return std::unique_ptr<BlockChannel>(std::make_unique<Channel>(*this, poller));
}

Nanos SimDevice::latency() {
  const auto up_to = [this](std::int64_t most) {
    return static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>(most)));
  };
  std::int64_t ns = plan_.latency_min_ns + up_to(plan_.latency_max_ns - plan_.latency_min_ns + 1);
  if (rng_.chance(plan_.slow)) ns += up_to(plan_.slow_max_ns);
  if (rng_.chance(plan_.stall)) {
    ns += up_to(plan_.stall_max_ns);
    ++faults_;
  }
  return Nanos(ns);
}

/// Of a read or flush.
Result<> SimDevice::outcome() {
  if (rng_.chance(plan_.busy)) {
    ++faults_;
    return Error(Errc::kBusy, "the simulated device is busy");
  }
  if (rng_.chance(plan_.io_error)) {
    ++faults_;
    return Error(Errc::kIo, "the simulated device failed");
  }
  return {};
}

void SimDevice::apply(std::uint64_t offset, std::span<const std::byte> unit, std::uint64_t completed) {
  std::ranges::copy(unit, unit_of(now_, offset).begin());
  if (plan_.volatile_cache)
    dirty_[offset].push_back({completed, {unit.begin(), unit.end()}});
  else
    std::ranges::copy(unit, unit_of(durable_, offset).begin());
}

void SimDevice::make_durable(std::uint64_t up_to) {
  for (auto it = dirty_.begin(); it != dirty_.end();) {
    std::vector<Version>& versions = it->second;
    const auto last = std::find_if(versions.rbegin(), versions.rend(),
                                   [up_to](const Version& version) { return version.completed <= up_to; });
    if (last != versions.rend()) {
      std::ranges::copy(last->bytes, unit_of(durable_, it->first).begin());
      versions.erase(versions.begin(), last.base());
    }
    it = versions.empty() ? dirty_.erase(it) : std::next(it);
  }
}

void SimDevice::settle() {
  dirty_.clear();
  durable_ = now_;
}

void SimDevice::abandon_in_flight() {
  for (const auto& [id, change] : changes_) {
    change->apply(0.5);
    change->end();
  }
}

void SimDevice::power_loss() {
  if (plan_.mapped) return;
  for (const auto& [id, change] : changes_) change->apply(0.5);
  for (auto& [offset, versions] : dirty_) {
    const std::size_t survivor = rng_.below(versions.size() + 1);
    if (survivor < versions.size()) std::ranges::copy(versions[survivor].bytes, unit_of(durable_, offset).begin());
  }
  dirty_.clear();
  now_ = durable_;
}

}  // namespace leap::sim
