// TreeStore: the files of a FileSet stored as blocks on a worker, and verified back byte for byte.
//
//   TreeStore tree(set, {.worker = address});
//   LEAP_TRY(const TransferReport in, tree.store(progress));
//   LEAP_TRY(const TransferReport out, tree.verify(progress));     // as often as wanted, also after the worker restarted
//
// Each piece is one block; `connections` of them are under way at a time. verify() compares every byte with the file it
// came from; where a file has changed since it was stored, with the CRC32C taken then.
//
// Threading: store() and verify() block and run on a poller of their own. Not for a poller's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/histogram.h"
#include "poller/poller.h"
#include "workload/file_set.h"

namespace leap {

class WorkerConnection;

struct TransferReport {
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
  Histogram latency;         ///< per block, from open to completion
  std::uint64_t errors = 0;  ///< blocks that failed or differ
  std::string first_error;

  [[nodiscard]] double mb_per_s() const { return seconds > 0 ? static_cast<double>(bytes) / seconds / 1e6 : 0; }
};

class TreeStore {
 public:
  struct Config {
    SocketAddress worker;
    std::size_t connections = 16;     ///< blocks under way at a time
    std::int64_t first_block_id = 1;  ///< piece i is block first_block_id + i
    int core = -1;                    ///< for the client's poller; -1: not pinned
  };
  /// Bytes done, of bytes in all; called about ten times a second.
  using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

  TreeStore(const FileSet& set, Config config);

  Result<TransferReport> store(const Progress& progress);
  Result<TransferReport> verify(const Progress& progress);

 private:
  struct Job;
  Result<TransferReport> run(bool storing, const Progress& progress);
  static Task<void> drive(Job& job);
  static Task<void> transfer(Job& job);
  static Task<Result<>> put_piece(Job& job, WorkerConnection& connection, std::size_t piece);
  static Task<Result<>> check_piece(Job& job, WorkerConnection& connection, std::size_t piece);
  static Task<void> report_progress(Job& job);

  const FileSet& set_;
  const Config config_;
  std::vector<std::uint32_t> crcs_;   // per piece, of what was stored
  std::vector<std::int64_t> mtimes_;  // per piece, of the file when it was stored
};

}  // namespace leap
