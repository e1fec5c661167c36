#include "workload/io_bench.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <future>

#include <fmt/format.h>

#include "base/random.h"
#include "base/units.h"
#include "poller/dma_await.h"
#include "poller/sync.h"
#include "workload/overwrite_guard.h"
#include "workload/stamp.h"

namespace leap {
namespace {

constexpr std::array<std::pair<std::string_view, IoPattern>, 6> kPatterns{{{"read", IoPattern::kRead},
                                                                           {"write", IoPattern::kWrite},
                                                                           {"randread", IoPattern::kRandRead},
                                                                           {"randwrite", IoPattern::kRandWrite},
                                                                           {"randrw", IoPattern::kRandRw},
                                                                           {"rw", IoPattern::kRw}}};

bool is_random(IoPattern pattern) {
  return pattern == IoPattern::kRandRead || pattern == IoPattern::kRandWrite || pattern == IoPattern::kRandRw;
}
bool may_write(IoPattern pattern) { return pattern != IoPattern::kRead && pattern != IoPattern::kRandRead; }
bool may_read(IoPattern pattern) { return pattern != IoPattern::kWrite && pattern != IoPattern::kRandWrite; }

/// The load of one poller. Lives on the control thread's stack; used by the poller only, until its task is over.
class Generator {
 public:
  /// Works on blocks [first, first + count) of the device.
  Generator(const IoBenchConfig& config, BlockDevice& device, PollerContext context, std::uint64_t first,
            std::uint64_t count, std::uint64_t seed)
      : config_(config),
        device_(device),
        poller_(*context.poller),
        pool_(*context.pool),
        first_(first),
        count_(count),
        rng_(seed) {
    if (config_.verify) {
      generations_.resize(count_);
      busy_.resize(count_);
    }
  }

  static Task<Result<>> run(Generator& self) {
    LEAP_CO_TRY(auto channel, self.device_.open_channel(self.poller_, self.pool_));
    self.channel_ = std::move(channel);
    Result<> outcome = co_await self.load();
    self.channel_.reset();
    co_return outcome;
  }

  void add_to(BenchReport& report) const {
    report.reads += reads_;
    report.writes += writes_;
    report.errors += errors_;
    report.verified_units += verified_;
    report.verify_errors += verify_errors_;
    report.laid_out += laid_out_;
    if (report.first_error.empty()) report.first_error = first_error_;
    report.latency.merge(latency_);
    report.seconds = std::max(report.seconds, std::chrono::duration<double>(measured_).count());
    report.add(used_);
  }

 private:
  Task<Result<>> load() {
    if (may_write(config_.pattern) && !config_.verify) {
      LEAP_CO_TRY(pattern_, co_await allocate(poller_, pool_, config_.block_size));
      // Any content would do; a stamp is recognised as a benchmark's by later runs.
      for (std::size_t at = 0; at < pattern_.size(); at += kStampUnit) {
        write_stamp(pattern_.bytes().subspan(at, std::min(kStampUnit, pattern_.size() - at)),
                    {.seed = config_.seed, .position = at, .generation = 0});
      }
    }
    if (config_.verify && may_read(config_.pattern)) co_await lay_out();
    end_ = poller_.clock().now() + config_.warmup + config_.duration;
    TaskGroup workers(poller_);
    for (std::uint32_t i = 0; i < config_.queue_depth; ++i) workers.spawn(work(*this));
    co_await poller_.sleep_for(config_.warmup);
    const TimePoint begin = poller_.clock().now();
    const ThreadUsage before = ThreadUsage::now();
    measuring_ = true;
    co_await poller_.sleep_for(end_ - begin);
    measuring_ = false;
    const ThreadUsage after = ThreadUsage::now();
    measured_ = poller_.clock().now() - begin;
    used_ = after - before;
    co_await workers.wait();
    if (config_.verify && may_write(config_.pattern)) co_await read_back();
    pattern_.reset();
    co_return Result<>{};
  }

  static Task<void> work(Generator& self) {
    while (!self.device_gone_ && self.poller_.clock().now() < self.end_) {
      const std::uint64_t block = self.next_block();
      if (block == kNone) {  // everything is in flight already
        co_await self.poller_.yield();
        continue;
      }
      const std::uint64_t turn = self.turn();
      const bool read = self.next_is_read();
      const TimePoint start = self.poller_.clock().now();
      Result<> done;
      if (read)
        done = co_await self.read(block);
      else
        done = co_await self.write(block);
      self.finish(block, read, start, done);
      // Memory answers at once: others, and the clock that ends this, have to have their turn, too.
      if (self.turn() == turn) co_await self.poller_.yield();
    }
  }
  [[nodiscard]] std::uint64_t turn() const { return poller_.probe().turns.load(std::memory_order_relaxed); }

  void finish(std::uint64_t block, bool read, TimePoint start, const Result<>& done) {
    if (config_.verify) busy_[block - first_] = false;
    if (!done.ok()) {
      ++errors_;
      note(done.error().to_string());
      lose(done.error());
    }
    if (!measuring_) return;
    latency_.record(poller_.clock().now() - start);
    ++(read ? reads_ : writes_);
  }

  Task<Result<>> read(std::uint64_t block) {
    auto buffer = pool_.try_allocate(config_.block_size);
    if (!buffer) co_return Error(Errc::kExhausted, "no DMA buffer: raise the pool or lower the queue depth");
    Result<DmaBuf> data = co_await channel_->read(block * config_.block_size, std::move(*buffer));
    if (!data.ok()) co_return std::move(data).error();
    if (config_.verify) check(block, data.value().bytes());
    co_return Result<>{};
  }

  Task<Result<>> write(std::uint64_t block) {
    if (!config_.verify) {
      Result<> done = co_await channel_->write(block * config_.block_size, pattern_.slice(0, config_.block_size),
                                               BlockChannel::Sharing::kExclusive);
      co_return done;
    }
    auto buffer = pool_.try_allocate(config_.block_size);
    if (!buffer) co_return Error(Errc::kExhausted, "no DMA buffer: raise the pool or lower the queue depth");
    const std::uint32_t generation = generations_[block - first_] + 1;
    for_each_unit(buffer->bytes(), block, [&](std::span<std::byte> unit, std::uint64_t position) {
      write_stamp(unit, {config_.seed, position, generation});
    });
    Result<> done =
        co_await channel_->write(block * config_.block_size, std::move(*buffer), BlockChannel::Sharing::kExclusive);
    // A failed write may or may not be there: that block is no longer checked.
    generations_[block - first_] = done.ok() ? generation : kUnknown;
    co_return done;
  }

  template <typename Bytes, typename Fn>
  void for_each_unit(Bytes bytes, std::uint64_t block, Fn fn) const {
    const std::size_t unit = std::min<std::size_t>(kStampUnit, config_.block_size);
    for (std::size_t at = 0; at < bytes.size(); at += unit)
      fn(bytes.subspan(at, unit), block * config_.block_size + at);
  }

  void check(std::uint64_t block, std::span<const std::byte> bytes) {
    const std::uint32_t generation = generations_[block - first_];
    if (generation == 0 || generation == kUnknown) return;
    for_each_unit(bytes, block, [&](std::span<const std::byte> unit, std::uint64_t position) {
      ++verified_;
      const std::string wrong = check_stamp(unit, {config_.seed, position, generation});
      if (wrong.empty()) return;
      ++verify_errors_;
      note("verify: " + wrong);
    });
  }

  /// Writes every block once, so that reads have something to be checked against.
  Task<void> lay_out() {
    TaskGroup group(poller_);
    sweep_ = 0;
    for (std::uint32_t i = 0; i < config_.queue_depth; ++i) group.spawn(sweep(*this, false));
    co_await group.wait();
    sweep_ = 0;
    laid_out_ = count_ * config_.block_size;
  }
  Task<void> read_back() {
    TaskGroup group(poller_);
    sweep_ = 0;
    for (std::uint32_t i = 0; i < config_.queue_depth; ++i) group.spawn(sweep(*this, true));
    co_await group.wait();
  }
  static Task<void> sweep(Generator& self, bool reading) {
    while (!self.device_gone_ && self.sweep_ < self.count_) {
      const std::uint64_t block = self.first_ + self.sweep_++;
      if (reading && self.generations_[block - self.first_] == 0) continue;
      Result<> done;
      if (reading)
        done = co_await self.read(block);
      else
        done = co_await self.write(block);
      if (done.ok()) continue;
      ++self.errors_;
      self.note(done.error().to_string());
      self.lose(done.error());
    }
  }
  /// A device that no path leads to any more ends the load: the rest would be the same error, one time-out after the other.
  void lose(const Error& error) { device_gone_ = device_gone_ || error.kind() == Errc::kUnreachable; }

  std::uint64_t next_block() {
    constexpr int kTries = 16;
    for (int i = 0; i < kTries; ++i) {
      const std::uint64_t index = is_random(config_.pattern) ? rng_.below(count_) : sweep_++ % count_;
      if (!config_.verify) return first_ + index;
      if (busy_[index]) continue;
      busy_[index] = true;
      return first_ + index;
    }
    return kNone;
  }

  bool next_is_read() {
    if (!may_write(config_.pattern)) return true;
    if (!may_read(config_.pattern)) return false;
    return rng_.below(100) < config_.read_percent;
  }

  void note(std::string text) {
    if (first_error_.empty()) first_error_ = std::move(text);
  }

  static constexpr std::uint64_t kNone = UINT64_MAX;
  static constexpr std::uint32_t kUnknown = UINT32_MAX;

  const IoBenchConfig& config_;
  BlockDevice& device_;
  NvmePoller& poller_;
  DmaPool& pool_;
  const std::uint64_t first_;
  const std::uint64_t count_;
  Rng rng_;
  std::unique_ptr<BlockChannel> channel_;
  DmaBuf pattern_;  // what unverified writes write
  TimePoint end_;
  bool device_gone_ = false;
  bool measuring_ = false;
  std::uint64_t sweep_ = 0;
  std::vector<std::uint32_t> generations_;  // per block, verify only
  std::vector<bool> busy_;
  std::uint64_t reads_ = 0;
  std::uint64_t writes_ = 0;
  std::uint64_t errors_ = 0;
  std::uint64_t verified_ = 0;
  std::uint64_t verify_errors_ = 0;
  std::uint64_t laid_out_ = 0;  // bytes
  std::string first_error_;
  Histogram latency_;
  Nanos measured_{0};
  ThreadUsage used_;
};

Task<Result<>> guard(BlockDevice& device, PollerContext context) {
  LEAP_CO_TRY(auto channel, device.open_channel(*context.poller, *context.pool));
  Result<> checked = co_await check_overwritable(*channel, *context.poller, *context.pool, device.info());
  co_return checked;
}

}  // namespace

Result<IoPattern> parse_io_pattern(std::string_view text) {
  for (const auto& [name, pattern] : kPatterns) {
    if (name == text) return pattern;
  }
  return Error(Errc::kInvalidArgument, fmt::format("'{}' is not read, write, randread, randwrite, randrw or rw", text));
}

std::string_view to_string(IoPattern pattern) {
  for (const auto& [name, value] : kPatterns) {
    if (value == pattern) return name;
  }
  return "unknown";
}

bool IoBenchConfig::writes() const { return may_write(pattern) || verify; }

std::uint64_t IoBenchConfig::range_on(const BlockDeviceInfo& device, std::size_t pollers) const {
  if (range > 0 || !verify) return range > 0 ? range : device.size;
  // Four times what is in flight: enough for offsets to be random.
  const std::uint64_t spread = 4 * pollers * queue_depth * std::uint64_t{block_size};
  return std::min(device.size, std::max(kVerifyRange, spread));
}

Result<> IoBenchConfig::validate(const BlockDeviceInfo& device, std::size_t pollers) const {
  const auto bad = [](const std::string& what) { return Error(Errc::kInvalidArgument, what); };
  if (block_size < 512 || block_size > DmaPool::kMaxBuffer)
    return bad(fmt::format("block size {} is not in 512 B..1 MiB", block_size));
  if (block_size % device.block_size != 0) {
    return bad(fmt::format("block size {} is not a multiple of the device's ({}) on {}", block_size, device.block_size,
                           device.name));
  }
  if (verify && block_size > kStampUnit && block_size % kStampUnit != 0)
    return bad(fmt::format("--verify needs a block size that is a multiple of {}", kStampUnit));
  if (verify && block_size % 8 != 0) return bad("--verify needs a block size that is a multiple of 8");
  if (queue_depth < 1 || queue_depth > 4096) return bad(fmt::format("queue depth {} is not in 1..4096", queue_depth));
  if (read_percent > 100) return bad(fmt::format("{} % reads", read_percent));
  if (range > device.size)
    return bad(
        fmt::format("range {} is larger than {} ({})", format_bytes(range), device.name, format_bytes(device.size)));
  const std::uint64_t blocks = range_on(device, pollers) / block_size;
  if (blocks < pollers * queue_depth) {
    return bad(fmt::format("{} blocks of {} are fewer than {} pollers x queue depth {}", blocks,
                           format_bytes(block_size), pollers, queue_depth));
  }
  if (duration <= Nanos{0}) return bad("duration is not positive");
  return {};
}

Result<BenchReport> run_io_bench(const IoBenchConfig& config, BlockDevice& device,
                                 const std::vector<PollerContext>& pollers) {
  LEAP_TRY_VOID(config.validate(device.info(), pollers.size()));
  if (config.writes() && !config.overwrite) {
    LEAP_TRY_VOID(pollers[0].poller->run([&](NvmePoller&) { return guard(device, pollers[0]); }));
  }
  const std::uint64_t blocks = config.range_on(device.info(), pollers.size()) / config.block_size;
  if (config.verify && may_read(config.pattern) && config.on_notice) {
    config.on_notice(fmt::format("writing stamps to the first {} of {}, to be read and checked",
                                 format_bytes(blocks * config.block_size), format_bytes(device.info().size)));
  }
  const std::uint64_t share = blocks / pollers.size();
  std::vector<std::unique_ptr<Generator>> generators;
  std::vector<std::future<Result<>>> outcomes;
  for (std::size_t i = 0; i < pollers.size(); ++i) {
    generators.push_back(std::make_unique<Generator>(config, device, pollers[i], i * share, share, config.seed + i));
    outcomes.push_back(std::async(std::launch::async, [&generator = *generators.back(), context = pollers[i]] {
      return context.poller->run([&generator](NvmePoller&) { return Generator::run(generator); });
    }));
  }
  Result<> first;
  for (auto& outcome : outcomes) {
    Result<> result = outcome.get();
    if (!result.ok() && first.ok()) first = std::move(result);
  }
  if (!first.ok()) return std::move(first).error();
  BenchReport report;
  report.what = device.info().description;
  report.rw = to_string(config.pattern);
  report.block_size = config.block_size;
  report.queue_depth = config.queue_depth;
  report.pollers = pollers.size();
  report.warmup = config.warmup;
  report.verify = config.verify;
  report.range = share * pollers.size() * config.block_size;
  for (const auto& generator : generators) generator->add_to(report);
  return report;
}

}  // namespace leap
