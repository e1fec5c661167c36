// WorkerBench: readers or writers of blocks on a worker, over its block protocol, measured.
//
//   write      every connection writes whole blocks one after the other, in frames of block_size bytes, and commits them
//   read       every connection reads whole blocks from start to end
//   randread   every connection keeps one block open and reads frames of it at random offsets
//
// Reading runs first write the blocks they read. An "I/O" is one frame and its reply; a commit counts as part of the
// write it ends. verify stamps every 4 KiB with block, offset and seed, and checks what is read.
//
// A worker in use holds other people's blocks: an id that exists ends the run before anything is written to it, and
// only blocks that this run has created are removed afterwards (by Cancel, which deletes a finalized block). A run that
// is killed leaves its blocks; their ids have bit 62 set, which `leap block ls` shows.
//
//   LEAP_TRY(BenchReport report, run_worker_bench({.worker = address, .pattern = IoPattern::kRandRead}));
#pragma once

#include "base/address.h"
#include "workload/io_bench.h"

namespace leap {

struct WorkerBenchConfig {
  SocketAddress worker;
  IoPattern pattern = IoPattern::kRandRead;  ///< kRead, kWrite or kRandRead
  std::uint32_t block_size = 128 * 1024;     ///< bytes per frame, a multiple of 4 KiB, at most 1 MiB
  std::uint32_t connections = 32;            ///< each with one request in flight, 1 .. 1024
  std::uint64_t store_block = 16ULL << 20;   ///< bytes per block, a multiple of block_size
  std::uint32_t blocks = 0;                  ///< blocks that reading runs read; 0: one per connection
  std::int64_t first_block_id = 0;           ///< the first id; 0: unused_block_ids()
  Nanos duration = std::chrono::seconds(5);
  Nanos warmup = std::chrono::milliseconds(500);
  std::uint64_t seed = 1;
  bool verify = false;
  int core = -1;  ///< of the client's poller; -1: not pinned

  [[nodiscard]] Result<> validate() const;
};

/// The first of 2^24 ids that differ from run to run and that no master gives out soon: bit 62 is set, which takes
/// Curvine's counter of files (id >> 24) 2^38 files.
std::int64_t unused_block_ids();

/// Blocks until the run is over and its blocks are removed; not on a poller. Errors: kInvalidArgument, kUnreachable,
/// kAlreadyExists (an id in use), and whatever preparing the blocks reports. Failed I/Os of the measured part are
/// counted.
Result<BenchReport> run_worker_bench(const WorkerBenchConfig& config);

}  // namespace leap
