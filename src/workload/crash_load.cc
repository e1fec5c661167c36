#include "workload/crash_load.h"

#include <algorithm>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "client/transfer.h"
#include "workload/stamp.h"

namespace leap {
namespace {

constexpr Nanos kPollStep = std::chrono::milliseconds(1);

Stamp stamp_of(BlockId id, std::uint64_t offset, std::uint64_t generation) {
  return {.seed = static_cast<std::uint64_t>(id.value()), .position = offset, .generation = generation};
}

}  // namespace

CrashLoad::CrashLoad(Config config) : config_(std::move(config)), written_(config_.blocks) {}

CrashLoad::~CrashLoad() {
  if (poller_ != nullptr) poller_->stop();
}

Task<Result<std::unique_ptr<WorkerConnection>>> CrashLoad::connect(const SocketAddress& worker) {
  return WorkerConnection::connect(*poller_, Net::system(), worker, {});
}

Result<> CrashLoad::start() {
  LEAP_TRY(poller_, NvmePoller::create({.name = "leap-client"}));
  LEAP_TRY_VOID(poller_->start());
  writing_ =
      std::async(std::launch::async, [this] { return poller_->run([this](NvmePoller&) { return write(*this); }); });
  const TimePoint give_up = Clock::system().now() + config_.start_limit;
  while (acknowledged_ < config_.acknowledged_at_least || !under_way_) {
    if (writing_.wait_for(kPollStep) == std::future_status::ready) return writing_.get();
    if (Clock::system().now() >= give_up)
      return Error(Errc::kTimedOut, fmt::format("the worker acknowledged only {} writes", acknowledged_.load()));
  }
  return {};
}

/// Ends with the first error: the worker is gone.
Task<Result<>> CrashLoad::write(CrashLoad& self) {
  LEAP_CO_TRY(auto connection, co_await self.connect(self.config_.worker));
  for (std::uint32_t block = 0;; block = (block + 1) % self.config_.blocks) {
    LEAP_CO_TRY_VOID(co_await write_block(self, *connection, block));
    ++self.acknowledged_;
  }
}

Task<Result<>> CrashLoad::write_block(CrashLoad& self, WorkerConnection& connection, std::uint32_t block) {
  Written& written = self.written_[block];
  const BlockId id = self.id_of(block);
  const std::uint64_t generation = ++written.attempted;
  std::uint64_t at = 0;
  const BlockSource source = [&](std::span<std::byte> out) -> Result<std::size_t> {
    const std::size_t got = std::min<std::uint64_t>(kStampUnit, self.config_.block_size - at);
    if (got > 0) write_stamp(out.first(got), stamp_of(id, at, generation));
    at += got;
    self.under_way_ = at > self.config_.block_size / 2;
    return got;
  };
  Result<std::uint64_t> stored =
      co_await put_block(connection, {.id = id, .capacity = self.config_.block_size}, source);
  if (!stored.ok()) co_return std::move(stored).error();
  self.under_way_ = false;
  written.acknowledged = generation;
  co_return Result<>{};
}

Result<CrashLoad::Report> CrashLoad::verify(const SocketAddress& worker) {
  const Result<> ended = writing_.get();
  if (ended.ok()) return Error(Errc::kWrongState, "the load ended although its worker was there");
  Report report;
  report.acknowledged = acknowledged_;
  LEAP_TRY_VOID(poller_->run([&](NvmePoller&) { return read_back(*this, worker, report); }));
  return report;
}

Task<Result<>> CrashLoad::read_back(CrashLoad& self, const SocketAddress& worker, Report& report) {
  LEAP_CO_TRY(auto connection, co_await self.connect(worker));
  for (std::uint32_t block = 0; block < self.config_.blocks; ++block) {
    Result<> checked = co_await check(self, *connection, block, report);
    if (!checked.ok()) {
      ++report.errors;
      if (report.first_error.empty())
        report.first_error = fmt::format("block {}: {}", self.id_of(block), checked.error().to_string());
    }
    LEAP_CO_TRY_VOID(co_await RemoteWriter::cancel_block(*connection, self.id_of(block)));
  }
  co_return Result<>{};
}

Task<Result<>> CrashLoad::check(CrashLoad& self, WorkerConnection& connection, std::uint32_t block, Report& report) {
  const Written& written = self.written_[block];
  const BlockId id = self.id_of(block);
  const bool in_flight = written.attempted != written.acknowledged;
  std::vector<std::byte> bytes;
  const BlockSink sink = [&bytes](std::span<const std::byte> part) -> Result<> {
    bytes.insert(bytes.end(), part.begin(), part.end());
    return {};
  };
  const Result<std::uint64_t> length = co_await get_whole_block(connection, id, sink);
  report.in_flight = report.in_flight || in_flight;
  if (!length.ok()) {
    // Never acknowledged: it may be missing.
    if (length.error().kind() == Errc::kNotFound && written.acknowledged == 0) co_return Result<>{};
    co_return length.error();
  }
  if (bytes.size() != self.config_.block_size)
    co_return Error(Errc::kCorrupt, fmt::format("{} bytes instead of {}", bytes.size(), self.config_.block_size));
  // All of it of one write: the acknowledged one or the one that was under way.
  const bool took =
      in_flight && check_stamp(std::span(bytes).first(kStampUnit), stamp_of(id, 0, written.attempted)).empty();
  const std::uint64_t generation = took ? written.attempted : written.acknowledged;
  for (std::size_t at = 0; at < bytes.size(); at += kStampUnit) {
    const std::string wrong = check_stamp(std::span(bytes).subspan(at, kStampUnit), stamp_of(id, at, generation));
    if (!wrong.empty()) co_return Error(Errc::kCorrupt, wrong);
  }
  report.in_flight_took = report.in_flight_took || took;
  co_return Result<>{};
}

}  // namespace leap
