// BdevOffsetAllocator on a fragmented device: one block freed and one allocated, of mixed sizes, at a steady fill.
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/random.h"
#include "base/units.h"
#include "store/allocator.h"

namespace leap {
namespace {

constexpr std::uint64_t kDevice = 64 * kGiB;
constexpr std::uint64_t kSmallest = 64 * kKiB;
constexpr std::uint64_t kSizes = 64;  // 64 KiB .. 4 MiB

class Blocks {
 public:
  explicit Blocks(std::uint64_t percent) : space_({.begin = kMiB, .end = kDevice}), rng_(percent) {
    const std::uint64_t wanted = (kDevice - kMiB) / 100 * percent;
    while (space_.stats().allocated < wanted) add();
    // Fragments: as many replacements as there are blocks.
    for (std::size_t i = blocks_.size(); i > 0; --i) replace();
  }
  void replace() {
    std::vector<Extent>& victim = blocks_[rng_.below(blocks_.size())];
    for (const Extent& extent : victim) space_.free(extent).value();
    std::swap(victim, blocks_.back());
    blocks_.pop_back();
    add();
  }
  [[nodiscard]] BdevOffsetAllocator::Stats stats() const { return space_.stats(); }

 private:
  void add() {
    // A full moment passes by itself: the next replacement frees another block.
    auto extents = space_.allocate_many({.bytes = kSmallest * (1 + rng_.below(kSizes))});
    if (extents.ok()) blocks_.push_back(std::move(extents).value());
  }

  BdevOffsetAllocator space_;
  Rng rng_;
  std::vector<std::vector<Extent>> blocks_;
};

void free_and_allocate(benchmark::State& state) {
  Blocks blocks(static_cast<std::uint64_t>(state.range(0)));
  for (auto _ : state) blocks.replace();
  const BdevOffsetAllocator::Stats stats = blocks.stats();
  state.counters["free_ranges"] = static_cast<double>(stats.free_ranges);
  state.counters["fragmentation"] = stats.fragmentation;
}
BENCHMARK(free_and_allocate)->Name("free_and_allocate/percent_full")->Arg(50)->Arg(90)->Arg(95);

}  // namespace
}  // namespace leap
