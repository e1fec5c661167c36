// CrashLoad: writes blocks on a worker, one after the other and over again, until somebody kills the worker; afterwards
// says whether every acknowledged write is there.
//
//   CrashLoad load({.worker = address, .first_block_id = id});
//   LEAP_TRY_VOID(load.start());         // returns when the worker is in the middle of it
//   kill(worker, SIGKILL); ...           // and start it again
//   LEAP_TRY(const CrashLoad::Report report, load.verify(address));
//
// Each pass over the blocks writes the next generation of each. What was acknowledged must come back as it was; the one
// write that was under way may have happened or not, but not half.
//
// Threading: all calls from one thread; the writing is done on a poller of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "base/address.h"
#include "client/worker_connection.h"
#include "poller/poller.h"
#include "store/types.h"

namespace leap {

class CrashLoad {
 public:
  struct Config {
    SocketAddress worker;
    std::int64_t first_block_id = 1;
    std::uint32_t blocks = 4;                 ///< rewritten in turn
    std::uint64_t block_size = 8ULL << 20;    ///< bytes, a multiple of 4 KiB
    std::uint64_t acknowledged_at_least = 6;  ///< writes before start() returns
    Nanos start_limit = std::chrono::seconds(30);
  };
  struct Report {
    std::uint64_t acknowledged = 0;  ///< writes that had been acknowledged when the worker went
    bool in_flight = false;          ///< one more was under way ...
    bool in_flight_took = false;     ///< ... and is there
    std::uint64_t errors = 0;        ///< blocks that are not what was acknowledged
    std::string first_error;
  };

  explicit CrashLoad(Config config);
  ~CrashLoad();

  /// Begins to write, and returns when enough writes are acknowledged and the next one is under way. Errors: the
  /// worker's, kTimedOut.
  Result<> start();
  /// Waits for the writing to end, which the end of the worker brings about, reads everything back from the worker that
  /// is there now, and deletes it. Errors: kWrongState (the worker was never gone), what kept it from reading.
  Result<Report> verify(const SocketAddress& worker);

 private:
  struct Written {
    std::uint64_t acknowledged = 0;  // generation; 0: none
    std::uint64_t attempted = 0;     // the same, or one more
  };

  static Task<Result<>> write(CrashLoad& self);
  static Task<Result<>> write_block(CrashLoad& self, WorkerConnection& connection, std::uint32_t block);
  static Task<Result<>> read_back(CrashLoad& self, const SocketAddress& worker, Report& report);
  static Task<Result<>> check(CrashLoad& self, WorkerConnection& connection, std::uint32_t block, Report& report);
  Task<Result<std::unique_ptr<WorkerConnection>>> connect(const SocketAddress& worker);
  [[nodiscard]] BlockId id_of(std::uint32_t block) const { return BlockId(config_.first_block_id + block); }

  const Config config_;
  std::unique_ptr<NvmePoller> poller_;
  std::future<Result<>> writing_;
  std::vector<Written> written_;                // of the poller while it writes
  std::atomic<std::uint64_t> acknowledged_{0};  // writes
  std::atomic<bool> under_way_{false};          // data of a write has been sent, its commit is not acknowledged
};

}  // namespace leap
