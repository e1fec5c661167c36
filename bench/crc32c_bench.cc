// CRC32C of one stored page (4 KiB, what every write and read costs) and of one large piece.
#include <vector>

#include <benchmark/benchmark.h>

#include "base/crc32c.h"
#include "base/random.h"

namespace leap {
namespace {

void checksum(benchmark::State& state) {
  std::vector<std::byte> data(static_cast<std::size_t>(state.range(0)));
  Rng(1).fill(data);
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(data));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum)->Name("crc32c")->Arg(512)->Arg(4096)->Arg(1 << 20);

void combine(benchmark::State& state) {
  std::uint32_t crc = 0x12345678;
  for (auto _ : state) benchmark::DoNotOptimize(crc = crc32c_combine(crc, 0x9abcdef0, 4096));
}
BENCHMARK(combine)->Name("crc32c_combine/4096");

}  // namespace
}  // namespace leap
