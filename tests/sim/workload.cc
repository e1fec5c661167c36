#include "workload.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "nvme/status.h"
#include "poller/dma_await.h"

namespace leap::sim {
namespace {

constexpr std::uint64_t kLargestCells = 256 * 1024 / kCell;
constexpr std::uint64_t kHotCells = 8 * 4096 / kCell;
constexpr std::array<const char*, 5> kNames{"read", "write", "write zeroes", "discard", "flush"};

/// Statuses that say that the host asked for something senseless.
bool is_accusation(const NvmeStatusCode& code) {
  using nvme::GenericStatus;
  return std::ranges::any_of(
      std::array{GenericStatus::kInvalidOpcode, GenericStatus::kInvalidField, GenericStatus::kLbaOutOfRange,
                 GenericStatus::kInvalidNamespaceOrFormat, GenericStatus::kDataSglLengthInvalid,
                 GenericStatus::kSglDescriptorTypeInvalid, GenericStatus::kSglOffsetInvalid},
      [&code](GenericStatus status) { return nvme::same_code(code, nvme::status(status)); });
}

}  // namespace

/// Stands in the list of running operations while it lives.
class Workload::Timed {
 public:
  Timed(Workload& workload, Kind kind, Model::Range range, bool exclusive = false) : workload_(workload) {
    auto& list = workload.running_;
    const TimePoint now = workload.world_.clock.now();
    const Scenario& scenario = workload.scenario_;
    const bool simple = workload.is_simple(kind, range, exclusive);
    place_ = list.insert(list.end(),
                         {now + (simple ? scenario.longest_command() : scenario.longest_operation()), kind, range});
    workload.world_.trace.note(Trace::Event::kOpStart, kind, range.begin, range.end, now.ns);
  }
  void tell(Generation generation) const {
    workload_.world_.tell("{} of cells {}..{} begins, generation {}", kNames[static_cast<std::size_t>(place_->kind)],
                          place_->range.begin, place_->range.end, generation);
  }
  ~Timed() { workload_.running_.erase(place_); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  Workload& workload_;
  std::list<Running>::iterator place_;
};

Workload::Workload(World& world, const Scenario& scenario, DeviceLink& link, Model& model,
                   std::vector<SimPoller*> pollers, Rng rng)
    : world_(world),
      scenario_(scenario),
      link_(link),
      model_(model),
      pollers_(std::move(pollers)),
      rng_(rng),
      cells_(scenario.device.size / kCell),
      block_cells_(scenario.device.block_size / kCell),
      operations_left_(scenario.operations) {}

void Workload::start() {
  workers_running_ = scenario_.workers;
  for (std::size_t i = 0; i < pollers_.size(); ++i) pollers_[i]->spawn(start_on(*this, i));
}

Task<void> Workload::start_on(Workload& self, std::size_t poller) {
  for (std::size_t i = poller; i < self.scenario_.workers; i += self.pollers_.size()) {
    self.pollers_[poller]->poller().spawn(work(self, poller, Rng(self.rng_.next())));
  }
  co_return;
}

bool Workload::is_simple(Kind kind, Model::Range range, bool exclusive) const {
  const bool aligned = range.begin % block_cells_ == 0 && range.end % block_cells_ == 0;
  const bool fits = aligned && range.size() * kCell <= scenario_.largest_command();
  switch (kind) {
    case Kind::kRead: return fits;
    case Kind::kWrite: return fits && exclusive;
    case Kind::kZeroes: return false;
    case Kind::kDiscard:
    case Kind::kFlush: return true;
  }
  return false;
}

void Workload::check_deadlines() const {
  for (const Running& running : running_) {
    if (world_.clock.now() <= running.deadline) continue;
    world_.fail(fmt::format("{} of cells {}..{} does not end: {}", kNames[static_cast<std::size_t>(running.kind)],
                            running.range.begin, running.range.end, describe_running()));
    return;
  }
}

std::string Workload::describe_running() const {
  std::string text = fmt::format("{} operations in flight", running_.size());
  if (running_.empty()) return text;
  const Running& oldest = running_.front();
  return text + fmt::format(", the oldest is a {} of cells {}..{}", kNames[static_cast<std::size_t>(oldest.kind)],
                            oldest.range.begin, oldest.range.end);
}

Task<void> Workload::work(Workload& self, std::size_t index, Rng rng) {
  Seat seat{index, rng};
  while (self.operations_left_ > 0 && !self.world_.failed()) {
    --self.operations_left_;
    co_await self.one_operation(seat);
  }
  --self.workers_running_;
}

Workload::Kind Workload::pick_kind(Rng& rng) const {
  const double roll = rng.unit();
  if (roll < 0.36) return Kind::kRead;
  if (roll < 0.72) return Kind::kWrite;
  if (roll < 0.84) return Kind::kZeroes;
  if (roll < 0.88) return Kind::kDiscard;
  return Kind::kFlush;
}

std::uint64_t Workload::pick_size(Rng& rng, bool aligned) const {
  const double roll = rng.unit();
  const std::uint64_t most = roll < 0.5 ? 4 : roll < 0.9 ? 64 : kLargestCells;
  const std::uint64_t cells = 1 + rng.below(std::min(most, cells_ / 2));
  return aligned ? (cells + block_cells_ - 1) / block_cells_ * block_cells_ : cells;
}

Model::Range Workload::pick(Seat& seat, std::uint64_t cells, bool aligned) const {
  Rng& rng = seat.rng;
  const std::uint64_t span = rng.chance(scenario_.hot) ? std::min(cells_, std::max(kHotCells, cells)) : cells_;
  // Often where it has just been: what is late comes back over something new.
  const bool again = rng.chance(0.3);
  std::uint64_t begin = again ? std::min(seat.last_begin, cells_ - cells) : rng.below(span - cells + 1);
  if (aligned) begin = begin / block_cells_ * block_cells_;
  seat.last_begin = begin;
  return {begin, begin + cells};
}

Task<void> Workload::one_operation(Seat& seat) {
  NvmePoller& poller = pollers_[seat.poller]->poller();
  if (seat.rng.chance(scenario_.lull)) {
    lull_until_ = world_.clock.now() + Nanos(static_cast<std::int64_t>(seat.rng.below(8'000'000'000)));
  }
  if (world_.clock.now() < lull_until_) co_await poller.sleep_for(lull_until_ - world_.clock.now());
  if (seat.rng.chance(0.3)) {
    const std::uint64_t most = seat.rng.chance(0.05) ? 50'000'000 : 300'000;
    co_await poller.sleep_for(Nanos(static_cast<std::int64_t>(seat.rng.below(most))));
  }
  const DeviceLink::Lease lease = co_await link_.acquire(seat.poller);
  if (!lease.valid()) co_return;
  bool ok = true;
  switch (const Kind kind = pick_kind(seat.rng)) {
    case Kind::kRead:
    case Kind::kWrite: {
      const std::uint64_t cells = pick_size(seat.rng, seat.rng.chance(0.5));
      Result<DmaBuf> buffer = co_await allocate(poller, pollers_[seat.poller]->pool, cells * kCell);
      LEAP_CHECK(buffer.ok(), "the pool cannot hold one operation");
      if (kind == Kind::kRead) {
        const Model::Range range = pick(seat, cells, cells % block_cells_ == 0 && seat.rng.chance(0.6));
        ok = co_await read(lease, std::move(buffer).value(), range);
      } else {
        ok = co_await write(seat, lease, std::move(buffer).value());
      }
      break;
    }
    case Kind::kZeroes:
    case Kind::kDiscard: ok = co_await change(seat, lease, kind); break;
    case Kind::kFlush: ok = co_await flush(lease); break;
  }
  lease.report(ok);
  if (!ok) co_await poller.sleep_for(Nanos(static_cast<std::int64_t>(1 + seat.rng.below(4'000'000))));
}

// --- one operation each ---

Model::Outcome Workload::outcome_of(const Result<>& result) {
  if (result.ok()) return Model::Outcome::kDone;
  return result.error().may_have_executed() ? Model::Outcome::kMayHaveExecuted : Model::Outcome::kNotExecuted;
}

bool Workload::conclude(Kind kind, Model::Range range, const Result<>& result) {
  ++(result.ok() ? counts_.done : counts_.failed);
  world_.trace.note(Trace::Event::kOpEnd, kind, range.begin, range.end, result.ok(), world_.clock.now().ns);
  world_.tell("{} of cells {}..{} ends: {}", kNames[static_cast<std::size_t>(kind)], range.begin, range.end,
              result.ok() ? "done" : result.error().to_string());
  if (result.ok()) return true;
  const Error& error = result.error();
  const auto complain = [&](const char* why) {
    world_.fail(fmt::format("{} of cells {}..{} {}: {}", kNames[static_cast<std::size_t>(kind)], range.begin, range.end,
                            why, error.to_string()));
  };
  const bool corrupting = scenario_.corrupts();
  if (!scenario_.faulty) complain("failed without any fault");
  if (error.kind() == Errc::kProtocol && !corrupting) complain("broke the protocol");
  if (error.kind() == Errc::kCorrupt && !corrupting) complain("arrived damaged");
  if (error.domain() == ErrorDomain::kNvme) {
    // A target that has restarted refuses to connect queues to controllers of its former life: that may be.
    if (is_accusation(error.nvme_status())) complain("was refused by the target");
  } else if (error.kind() == Errc::kInvalidArgument || error.kind() == Errc::kUnsupported) {
    complain("was refused");
  }
  return false;
}

Task<bool> Workload::read(const DeviceLink::Lease& lease, DmaBuf buffer, Model::Range range) {
  const Timed timed(*this, Kind::kRead, range);
  // What a buffer held before must not pass for what was read into it.
  std::ranges::fill(buffer.bytes(), std::byte{0xEE});
  const Model::Reader reader = model_.begin_read(range);
  Result<DmaBuf> data = co_await lease.channel().read(range.begin * kCell, std::move(buffer));
  if (!data.ok()) co_return conclude(Kind::kRead, range, std::move(data).error());
  std::string wrong = model_.end_read(reader, data.value().bytes());
  if (!wrong.empty()) world_.fail("read: " + std::move(wrong));
  co_return conclude(Kind::kRead, range, {});
}

Task<bool> Workload::write(Seat& seat, const DeviceLink::Lease& lease, DmaBuf buffer) {
  const std::uint64_t cells = buffer.size() / kCell;
  const bool aligned = cells % block_cells_ == 0 && seat.rng.chance(0.7);
  Model::Writer writer;
  writer.exclusive = aligned && seat.rng.chance(0.4);
  bool found = false;
  for (int attempt = 0; attempt < 4 && !found; ++attempt) {
    writer.range = pick(seat, cells, aligned);
    found = model_.may_write(writer.range, writer.exclusive);
  }
  if (!found) co_return true;
  model_.begin(writer);
  for (std::uint64_t i = 0; i < cells; ++i) {
    write_cell(buffer.bytes().subspan(i * kCell, kCell), writer.range.begin + i, writer.generation);
  }
  const Timed timed(*this, Kind::kWrite, writer.range, writer.exclusive);
  timed.tell(writer.generation);
  const auto sharing = writer.exclusive ? BlockChannel::Sharing::kExclusive : BlockChannel::Sharing::kShared;
  const Result<> result = co_await lease.channel().write(writer.range.begin * kCell, std::move(buffer), sharing);
  model_.end(writer, outcome_of(result));
  co_return conclude(Kind::kWrite, writer.range, result);
}

Task<bool> Workload::change(Seat& seat, const DeviceLink::Lease& lease, Kind kind) {
  Model::Writer writer;
  writer.change = kind == Kind::kZeroes ? Model::Change::kZeroes : Model::Change::kDiscard;
  const bool aligned = seat.rng.chance(0.5);
  writer.range = pick(seat, pick_size(seat.rng, aligned), aligned);
  const std::uint64_t begin = writer.range.begin * kCell;
  const std::uint64_t bytes = writer.range.size() * kCell;
  if (kind == Kind::kDiscard) {
    // Only whole blocks go: the rest must stay as it is.
    writer.range.begin = (writer.range.begin + block_cells_ - 1) / block_cells_ * block_cells_;
    writer.range.end = std::max(writer.range.end / block_cells_ * block_cells_, writer.range.begin);
    // A discard takes no range lock: whoever shares a block with it has only himself to blame.
    writer.exclusive = true;
  }
  if (!model_.may_write(writer.range, writer.exclusive)) co_return true;
  model_.begin(writer);
  const Timed timed(*this, kind, writer.range);
  timed.tell(writer.generation);
  Result<> result;
  if (kind == Kind::kZeroes)
    result = co_await lease.channel().write_zeroes(begin, bytes);
  else
    result = co_await lease.channel().discard(begin, bytes);
  model_.end(writer, outcome_of(result));
  co_return conclude(kind, writer.range, result);
}

Task<bool> Workload::flush(const DeviceLink::Lease& lease) {
  const Timed timed(*this, Kind::kFlush, {});
  const Model::Flusher flusher = model_.begin_flush();
  const Result<> result = co_await lease.channel().flush();
  if (result.ok()) model_.end_flush(flusher);
  co_return conclude(Kind::kFlush, {}, result);
}

// --- the end ---

void Workload::start_flush() {
  ++finishing_;
  pollers_.front()->spawn(flush_until_done(*this));
}

void Workload::start_verification() {
  ++finishing_;
  pollers_.back()->spawn(verify(*this));
}

Task<void> Workload::flush_until_done(Workload& self) {
  for (bool ok = false; !ok && !self.world_.failed();) {
    const DeviceLink::Lease lease = co_await self.link_.acquire(0);
    ok = co_await self.flush(lease);
    lease.report(ok);
    if (!ok) co_await self.pollers_.front()->poller().sleep_for(std::chrono::milliseconds(5));
  }
  --self.finishing_;
}

Task<void> Workload::verify(Workload& self) {
  constexpr std::uint64_t kStep = 64 * 1024 / kCell;
  const std::size_t poller = self.pollers_.size() - 1;
  SimPoller& home = *self.pollers_.back();
  for (std::uint64_t at = 0; at < self.cells_ && !self.world_.failed();) {
    const DeviceLink::Lease lease = co_await self.link_.acquire(poller);
    const std::uint64_t cells = std::min(kStep, self.cells_ - at);
    Result<DmaBuf> buffer = co_await allocate(home.poller(), home.pool, cells * kCell);
    const bool ok = co_await self.read(lease, std::move(buffer).value(), {at, at + cells});
    lease.report(ok);
    if (ok) {
      at += cells;
      continue;
    }
    // Stalled I/Os and dead connections of before may still take up all the room there is.
    co_await home.poller().sleep_for(std::chrono::milliseconds(20));
  }
  --self.finishing_;
}

}  // namespace leap::sim
