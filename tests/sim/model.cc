#include "model.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"

namespace leap::sim {
namespace {

constexpr std::size_t kWords = kCell / sizeof(std::uint64_t);

std::uint64_t mix(std::uint64_t position, std::uint64_t generation) {
  std::uint64_t z = position * 0x9e3779b97f4a7c15 ^ generation * 0xc2b2ae3d27d4eb4f;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  return z ^ (z >> 31);
}

bool contains(const std::vector<Generation>& set, Generation value) {
  return std::ranges::find(set, value) != set.end();
}

void add(std::vector<Generation>& set, Generation value) {
  if (!contains(set, value)) set.push_back(value);
}

void add_all(std::vector<Generation>& set, const std::vector<Generation>& values) {
  for (const Generation value : values) add(set, value);
}

}  // namespace

void write_cell(std::span<std::byte> cell, std::uint64_t position, Generation generation) {
  if (generation == kZeros) {
    std::ranges::fill(cell, std::byte{0});
    return;
  }
  std::uint64_t words[kWords];
  words[0] = position << 32 | generation;
  const std::uint64_t seed = mix(position, generation);
  for (std::size_t i = 1; i < kWords; ++i) words[i] = seed * (2 * i + 1) + i;
  std::memcpy(cell.data(), words, kCell);
}

Generation read_cell(std::span<const std::byte> cell, std::uint64_t position) {
  std::uint64_t first = 0;
  std::memcpy(&first, cell.data(), sizeof first);
  const auto generation = static_cast<Generation>(first);
  std::byte wanted[kCell];
  write_cell(wanted, position, generation);
  return std::memcmp(wanted, cell.data(), kCell) == 0 ? generation : kAnything;
}

std::string describe_cell(std::span<const std::byte> cell) {
  std::uint64_t words[2];
  std::memcpy(words, cell.data(), sizeof words);
  const std::uint64_t position = words[0] >> 32;
  const auto generation = static_cast<Generation>(words[0]);
  if (read_cell(cell, position) == generation) {
    return fmt::format("generation {} of cell {}", generation, position);
  }
  return fmt::format("{:016x} {:016x} ..., no whole stamp", words[0], words[1]);
}

Model::Model(Config config) : config_(config), cells_(config.cells) {}

Model::Range Model::blocks_of(Range range) const {
  const std::uint64_t unit = config_.block_cells;
  return {range.begin / unit * unit, (range.end + unit - 1) / unit * unit};
}

std::vector<Generation> Model::possible(const Cell& cell) {
  std::vector<Generation> set = cell.now;
  add_all(set, cell.lurk);
  if (cell.busy) add(set, cell.writing);
  return set;
}

bool Model::may_write(Range range, bool exclusive) const {
  const Range blocks = blocks_of(range);
  for (std::uint64_t i = blocks.begin; i < blocks.end; ++i) {
    const Cell& cell = cells_[i];
    const bool mine = i >= range.begin && i < range.end;
    if (cell.doubt != 0 || (cell.busy && (mine || exclusive || cell.exclusive))) return false;
  }
  return true;
}

void Model::begin(Writer& writer) {
  writer.generation = writer.change == Change::kWrite ? next_generation_++ : kZeros;
  writer.crashes = crashes_;
  ++changes_;
  for (std::uint64_t i = writer.range.begin; i < writer.range.end; ++i) {
    Cell& cell = cells_[i];
    LEAP_CHECK(!cell.busy, "two writers on one cell: the workload is wrong");
    cell.busy = true;
    cell.exclusive = writer.exclusive;
    cell.writing = writer.generation;
    cell.begun.push_back(writer.generation);
  }
}

/// The cell holds `generation` now, whatever it held before.
void Model::settle(Cell& cell, Generation generation) {
  cell.now = {generation};
  for (Past& past : cell.past) {
    if (!contains(cell.lurk, past.generation)) past.superseded = std::min(past.superseded, sequence_);
  }
  std::erase_if(cell.past, [generation](const Past& past) { return past.generation == generation; });
  cell.past.push_back({generation, UINT64_MAX});
  if (!config_.volatile_cache) std::erase_if(cell.past, [](const Past& past) { return past.superseded != UINT64_MAX; });
}

void Model::end(const Writer& writer, Outcome outcome) {
  ++changes_;
  ++sequence_;
  const bool crashed = writer.crashes != crashes_;
  for (std::uint64_t i = writer.range.begin; i < writer.range.end; ++i) {
    Cell& cell = cells_[i];
    const bool certain = outcome == Outcome::kDone && writer.change != Change::kDiscard && !crashed;
    if (certain) {
      settle(cell, writer.generation);
    } else if (outcome != Outcome::kNotExecuted) {
      const bool torn = config_.tears && outcome == Outcome::kMayHaveExecuted;
      const Generation left = torn ? kAnything : writer.generation;
      add(cell.now, left);
      cell.past.push_back({left, UINT64_MAX});
    }
    cell.busy = cell.exclusive = false;
  }
  if (outcome == Outcome::kMayHaveExecuted && !config_.trusting) doubt(writer);
}

void Model::doubt(const Writer& writer) {
  ++doubts_;
  const Range blocks = blocks_of(writer.range);
  for (std::uint64_t i = blocks.begin; i < blocks.end; ++i) {
    Cell& cell = cells_[i];
    if (cell.doubt == 0) ++tainted_;
    cell.doubt = doubts_;
    // A neighbour's bytes travelled along: what it may hold now may come back over what is written to it next.
    std::vector<Generation> carried = possible(cell);
    if (config_.tears) add(carried, kAnything);
    for (const Generation generation : carried) {
      add(cell.lurk, generation);
      cell.past.push_back({generation, UINT64_MAX});
    }
  }
}

void Model::fence(std::uint64_t doubts) {
  for (Cell& cell : cells_) {
    if (cell.doubt == 0 || cell.doubt > doubts) continue;
    add_all(cell.now, cell.lurk);
    cell.lurk.clear();
    cell.doubt = 0;
    --tainted_;
  }
  ++changes_;
}

Model::Reader Model::begin_read(Range range) const {
  Reader reader;
  reader.range = range;
  reader.crashes = crashes_;
  reader.changes = changes_;
  for (std::uint64_t i = range.begin; i < range.end; ++i) {
    reader.seen.push_back(possible(cells_[i]));
    reader.begun.push_back(cells_[i].begun.size());
  }
  return reader;
}

std::string Model::end_read(const Reader& reader, std::span<const std::byte> data) {
  for (std::uint64_t i = reader.range.begin; i < reader.range.end; ++i) {
    const std::size_t at = i - reader.range.begin;
    Cell& cell = cells_[i];
    const auto bytes = data.subspan(at * kCell, kCell);
    const Generation found = read_cell(bytes, i);
    std::vector<Generation> allowed = reader.seen[at];
    for (std::size_t n = reader.begun[at]; n < cell.begun.size(); ++n) add(allowed, cell.begun[n]);
    if (reader.crashes != crashes_ || cell.now.size() > 1) add_all(allowed, possible(cell));
    const bool memory_race =
        config_.tears && (cell.busy || cell.begun.size() != reader.begun[at] || allowed.size() > 1);
    if (contains(allowed, kAnything) || memory_race) continue;
    if (found == kAnything || !contains(allowed, found)) {
      return fmt::format("cell {} (byte {}) reads as {}; it may hold generation {}", i, i * kCell, describe_cell(bytes),
                         fmt::join(allowed, ", "));
    }
    const bool quiet = !cell.busy && cell.doubt == 0 && reader.crashes == crashes_ && reader.changes == changes_;
    if (!quiet || cell.now.size() == 1) continue;
    ++sequence_;  // a flush that has begun already need not cover it
    settle(cell, found);
  }
  return {};
}

void Model::end_flush(const Flusher& flusher) {
  if (flusher.crashes != crashes_) return;
  for (Cell& cell : cells_) {
    std::erase_if(cell.past, [&flusher](const Past& past) { return past.superseded <= flusher.at; });
  }
}

void Model::crash(bool power) {
  ++crashes_;
  ++changes_;
  for (Cell& cell : cells_) {
    std::vector<Generation> now = possible(cell);
    if (power) {
      for (const Past& past : cell.past) add(now, past.generation);
    }
    if (config_.tears && cell.busy) add(now, kAnything);
    cell.now = now;
    for (const Generation generation : now) {
      const bool known = std::ranges::any_of(cell.past, [generation](const Past& past) {
        return past.generation == generation && past.superseded == UINT64_MAX;
      });
      if (!known) cell.past.push_back({generation, UINT64_MAX});
    }
    if (power) {
      for (Past& past : cell.past) past.superseded = UINT64_MAX;
    }
  }
}

}  // namespace leap::sim
