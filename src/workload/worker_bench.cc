#include "workload/worker_bench.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/random.h"
#include "base/units.h"
#include "client/remote_reader.h"
#include "client/remote_writer.h"
#include "client/worker_info.h"
#include "poller/sync.h"
#include "workload/stamp.h"

namespace leap {
namespace {

/// One run, on the client's poller.
class WorkerLoad {
 public:
  WorkerLoad(const WorkerBenchConfig& config, NvmePoller& poller)
      : config_(config),
        poller_(poller),
        first_id_(config.first_block_id > 0 ? config.first_block_id : unused_block_ids()),
        rng_(config.seed) {}

  static Task<Result<>> run(WorkerLoad& self) {
    Result<> outcome = co_await self.measure();
    co_await self.remove_blocks();
    co_return outcome;
  }
  BenchReport take_report() { return std::move(report_); }
  [[nodiscard]] std::int64_t first_id() const { return first_id_; }

 private:
  [[nodiscard]] bool writing() const { return config_.pattern == IoPattern::kWrite; }
  [[nodiscard]] std::uint32_t blocks_to_read() const {
    return config_.blocks > 0 ? config_.blocks : config_.connections;
  }
  [[nodiscard]] BlockId id_at(std::uint64_t index) const {
    return BlockId(first_id_ + static_cast<std::int64_t>(index));
  }
  Task<Result<std::unique_ptr<WorkerConnection>>> connect() {
    return WorkerConnection::connect(poller_, Net::system(), config_.worker, {});
  }

  Task<Result<>> measure() {
    if (!writing()) LEAP_CO_TRY_VOID(co_await prepare());
    end_ = poller_.clock().now() + config_.warmup + config_.duration;
    TaskGroup clients(poller_);
    for (std::uint32_t i = 0; i < config_.connections; ++i) clients.spawn(client(*this, i));
    co_await poller_.sleep_for(config_.warmup);
    const TimePoint begin = poller_.clock().now();
    const ThreadUsage before = ThreadUsage::now();
    measuring_ = true;
    co_await poller_.sleep_for(end_ - begin);
    measuring_ = false;
    report_.add(ThreadUsage::now() - before);
    report_.seconds = std::chrono::duration<double>(poller_.clock().now() - begin).count();
    co_await clients.wait();
    co_return refused_;
  }

  /// kAlreadyExists for the id of a block that is there already.
  Task<Result<>> check_unused(WorkerConnection& connection, BlockId id) {
    Result<> known;
    const Result<RemoteBlock> described = co_await fetch_block_info(connection, id);
    if (!described.ok()) known = described.error();
    if (!known.ok() && known.error().kind() != Errc::kNotFound && connection.usable()) {
      // A stock worker cannot describe a block, but has it if it lets us open it.
      known = Result<>{};
      const auto reader = co_await RemoteReader::open(connection, {.id = id, .length = 1});
      if (!reader.ok()) known = reader.error();
    }
    if (known.ok()) {
      co_return Error(Errc::kAlreadyExists,
                      fmt::format("block {} exists: a benchmark writes only blocks of its own", id));
    }
    if (known.error().kind() == Errc::kNotFound) known = Result<>{};
    co_return known;
  }

  /// The blocks that will be read, written by a few connections side by side.
  Task<Result<>> prepare() {
    constexpr std::uint32_t kWriters = 8;
    TaskGroup writers(poller_);
    Result<> outcome;
    for (std::uint32_t i = 0; i < std::min(kWriters, blocks_to_read()); ++i)
      writers.spawn(prepare_some(*this, outcome));
    co_await writers.wait();
    co_return outcome;
  }
  static Task<void> prepare_some(WorkerLoad& self, Result<>& outcome) {
    auto connection = co_await self.connect();
    if (!connection.ok()) {
      outcome = connection.error();
      co_return;
    }
    std::vector<std::byte> frame(self.config_.block_size);
    while (outcome.ok() && self.written_ < self.blocks_to_read()) {
      const std::uint64_t index = self.written_++;
      Result<> written = co_await self.write_block(*connection.value(), index, frame);
      if (!written.ok()) outcome = std::move(written);
    }
  }

  Task<Result<>> write_block(WorkerConnection& connection, std::uint64_t index, std::vector<std::byte>& frame) {
    LEAP_CO_TRY_VOID(co_await check_unused(connection, id_at(index)));
    RemoteWriteOptions options;
    options.id = id_at(index);
    options.capacity = config_.store_block;
    options.chunk_size = config_.block_size;
    LEAP_CO_TRY(auto writer, co_await RemoteWriter::open(connection, options));
    created_.push_back(id_at(index));
    for (std::uint64_t at = 0; at < config_.store_block; at += frame.size()) {
      if (config_.verify || at == 0) fill(frame, index, at);
      const TimePoint start = poller_.clock().now();
      LEAP_CO_TRY_VOID(co_await writer->write(frame));
      const bool last = at + frame.size() >= config_.store_block;
      if (last) LEAP_CO_TRY_VOID(co_await writer->complete(config_.store_block));
      if (measuring_) {
        ++report_.writes;
        report_.latency.record(poller_.clock().now() - start);
      }
    }
    co_return Result<>{};
  }

  Task<Result<>> read_block(WorkerConnection& connection, std::uint64_t index, std::vector<std::byte>& frame) {
    RemoteReadOptions options;
    options.id = id_at(index);
    options.length = config_.store_block;
    options.chunk_size = config_.block_size;
    LEAP_CO_TRY(auto reader, co_await RemoteReader::open(connection, options));
    const std::uint64_t frames = config_.store_block / config_.block_size;
    const bool random = config_.pattern == IoPattern::kRandRead;
    for (std::uint64_t i = 0; poller_.clock().now() < end_ && (random || i < frames); ++i) {
      if (random) reader->seek(rng_.below(frames) * config_.block_size);
      const std::uint64_t at = reader->position();
      const TimePoint start = poller_.clock().now();
      LEAP_CO_TRY(const std::size_t got, co_await reader->read(frame));
      if (got != frame.size())
        co_return Error(Errc::kIo,
                        fmt::format("block {}: {} of {} bytes at {}", id_at(index).value(), got, frame.size(), at));
      if (measuring_) {
        ++report_.reads;
        report_.latency.record(poller_.clock().now() - start);
      }
      if (config_.verify) check(frame, index, at);
    }
    Result<> closed = co_await reader->close();
    co_return closed;
  }

  static Task<void> client(WorkerLoad& self, std::uint32_t number) {
    auto connection = co_await self.connect();
    if (!connection.ok()) {
      self.note(connection.error().to_string());
      co_return;
    }
    std::vector<std::byte> frame(self.config_.block_size);
    for (std::uint64_t turn = number; self.poller_.clock().now() < self.end_; ++turn) {
      Result<> done;
      if (self.writing())
        done = co_await self.write_block(*connection.value(), self.written_++, frame);
      else
        done = co_await self.read_block(*connection.value(), turn % self.blocks_to_read(), frame);
      if (done.ok()) continue;
      if (done.error().kind() == Errc::kAlreadyExists) {
        self.refused_ = std::move(done);
        self.end_ = self.poller_.clock().now();
        co_return;
      }
      self.note(done.error().to_string());
      if (!connection.value()->usable()) co_return;
    }
  }

  void fill(std::vector<std::byte>& frame, std::uint64_t index, std::uint64_t at) const {
    for (std::size_t unit = 0; unit < frame.size(); unit += kStampUnit) {
      write_stamp(std::span(frame).subspan(unit, kStampUnit), {config_.seed, at + unit, index + 1});
    }
  }
  void check(const std::vector<std::byte>& frame, std::uint64_t index, std::uint64_t at) {
    for (std::size_t unit = 0; unit < frame.size(); unit += kStampUnit) {
      ++report_.verified_units;
      const std::string wrong =
          check_stamp(std::span(frame).subspan(unit, kStampUnit), {config_.seed, at + unit, index + 1});
      if (wrong.empty()) continue;
      ++report_.verify_errors;
      if (report_.first_error.empty())
        report_.first_error = fmt::format("verify: block {}: {}", id_at(index).value(), wrong);
    }
  }
  void note(const std::string& text) {
    ++report_.errors;
    if (report_.first_error.empty()) report_.first_error = text;
  }

  Task<void> remove_blocks() {
    if (created_.empty()) co_return;
    auto connection = co_await connect();
    if (!connection.ok()) {
      note(fmt::format("{} blocks from id {} on are left on the worker: {}", created_.size(), first_id_,
                       connection.error().to_string()));
      co_return;
    }
    for (const BlockId id : created_) {
      // Opening and cancelling a rewrite would only restore the block: Cancel without a session deletes it (protocol
      // 2.2.4), and succeeds for one that failed to be written.
      const Result<> removed = co_await RemoteWriter::cancel_block(*connection.value(), id);
      if (!removed.ok()) note(fmt::format("block {} is left on the worker: {}", id, removed.error().to_string()));
      if (!connection.value()->usable()) co_return;
    }
  }

  const WorkerBenchConfig& config_;
  NvmePoller& poller_;
  const std::int64_t first_id_;
  Rng rng_;
  TimePoint end_;
  bool measuring_ = false;
  std::uint64_t written_ = 0;     // blocks begun; their ids are used up
  std::vector<BlockId> created_;  // what this run has to remove
  Result<> refused_;              // an id in use: the run is over
  BenchReport report_;
};

}  // namespace

std::int64_t unused_block_ids() {
  constexpr unsigned kFileShift = 24;  // Curvine: id = file << 24 | block of the file
  constexpr std::uint64_t kFiles = std::uint64_t{1} << 37U;
  return static_cast<std::int64_t>((std::uint64_t{1} << 62U) | ((entropy_seed() % kFiles) << kFileShift));
}

Result<> WorkerBenchConfig::validate() const {
  const auto bad = [](const std::string& what) { return Error(Errc::kInvalidArgument, what); };
  if (pattern != IoPattern::kRead && pattern != IoPattern::kWrite && pattern != IoPattern::kRandRead) {
    return bad(fmt::format("--rw {}: a worker is measured with read, write or randread", to_string(pattern)));
  }
  if (block_size < kStampUnit || block_size > DmaPool::kMaxBuffer || block_size % kStampUnit != 0) {
    return bad(fmt::format("--bs {}: a multiple of 4 KiB up to 1 MiB", block_size));
  }
  if (store_block == 0 || store_block % block_size != 0)
    return bad(fmt::format("block of {} is not a multiple of {}", format_bytes(store_block), format_bytes(block_size)));
  if (connections < 1 || connections > 1024) return bad(fmt::format("{} connections are not in 1..1024", connections));
  if (first_block_id < 0 || first_block_id > INT64_MAX - (std::int64_t{1} << 32U))
    return bad(fmt::format("first block id {} is negative or leaves no room for more", first_block_id));
  if (duration <= Nanos{0}) return bad("duration is not positive");
  return {};
}

Result<BenchReport> run_worker_bench(const WorkerBenchConfig& config) {
  LEAP_TRY_VOID(config.validate());
  LEAP_TRY(auto poller, NvmePoller::create({.name = "leap-client", .core = config.core}));
  LEAP_TRY_VOID(poller->start());
  WorkerLoad load(config, *poller);
  const Result<> outcome = poller->run([&load](NvmePoller&) { return WorkerLoad::run(load); });
  poller->stop();
  if (!outcome.ok()) return outcome.error();
  BenchReport report = load.take_report();
  report.what = fmt::format("worker at {}, blocks of {}, ids from {}", config.worker.to_string(),
                            format_bytes(config.store_block), load.first_id());
  report.rw = to_string(config.pattern);
  report.block_size = config.block_size;
  report.queue_depth = config.connections;
  report.warmup = config.warmup;
  report.verify = config.verify;
  return report;
}

}  // namespace leap
