// NvmeEnvConfig: the [worker.spdk_disk] table, checked as a whole before anything starts.
//
// Names, defaults and checks are Curvine's, so its operators' files work; what each key does here is in the comment
// beside it. Keys Curvine does not have are marked "Leap".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "bdev/nvme_path.h"
#include "env/config_file.h"
#include "nvme/address.h"

namespace leap {

/// One [[worker.spdk_disk.targets]] entry.
struct NvmeTargetConfig {
  nvme::TransportAddress address;  ///< trtype (tcp), adrfam, traddr, trsvcid [4420], subnqn, hostnqn
  std::uint32_t io_queues = 0;     ///< most I/O queues to ask for; 0: one per poller
  Nanos keep_alive_timeout{0};     ///< 0: the environment's
  Nanos io_timeout{0};             ///< 0: the environment's
  bool header_digest = false;      ///< hdgst (Leap)
  bool data_digest = false;        ///< ddgst (Leap)
  bool protocol_checker = false;   ///< protocol_checker (Leap): report violations of NVMe/TCP by either end
};

struct NvmeEnvConfig {
  /// False: no controllers are connected, and what only matters to them is not checked. Pollers and buffers still
  /// exist.
  bool enabled = false;
  std::string app_name = "curvine";               ///< prefix of thread names
  std::uint64_t hugepage = 1ULL << 30;            ///< bytes of DMA buffers, for all pollers together
  std::string reactor_mask = "0x1";               ///< one poller per core in it
  std::uint32_t io_queue_depth = 128;             ///< entries of each I/O queue pair
  std::uint32_t io_queue_requests = 512;          ///< calls a poller's mailbox holds; >= io_queue_depth
  Nanos io_timeout = std::chrono::seconds(30);    ///< per command
  Nanos abort_timeout = std::chrono::seconds(5);  ///< for an expired command to end after its Abort (Leap)
  std::uint32_t io_retry_count = 4;               ///< repetitions of a command that the controller refused for now
  Nanos keep_alive_timeout = std::chrono::seconds(10);     ///< KATO; >= 3 x poll_interval
  Nanos qpair_acquire_timeout = std::chrono::seconds(30);  ///< connecting a controller or an I/O queue pair, all steps
  Nanos reconnect_delay = std::chrono::milliseconds(100);  ///< before the second attempt; then doubled (Leap)
  Nanos reconnect_delay_max = std::chrono::seconds(10);    ///< between attempts, at most (Leap)
  Nanos fast_io_fail_timeout = std::chrono::seconds(5);    ///< an I/O without a path fails after this (Leap)
  Nanos ctrl_loss_timeout{0};                              ///< without connection: no more attempts; 0: for ever (Leap)
  PathPolicy path_policy = PathPolicy::kActivePassive;     ///< "active-passive", "round-robin", "least-queued" (Leap)
  Nanos poll_interval = std::chrono::milliseconds(100);    ///< accepted for Curvine: nothing is polled
  std::uint32_t spin_iter = 1000;                          ///< idle turns of a poller before it sleeps, at most
  Nanos spin_max = std::chrono::microseconds(50);          ///< time spent on them, at most (Leap)
  std::uint64_t dma_buffer_size = 1ULL << 20;              ///< bytes per NVMe command, at most
  std::vector<NvmeTargetConfig> targets;
  bool expand_discovery = true;  ///< not a key: discovery services among the targets become what they list

  /// Reads the table; problems are reported through it (ConfigFile::finish).
  static NvmeEnvConfig read(ConfigTable table);
  /// For configurations built in code: the same checks, the first problem as an error.
  [[nodiscard]] Result<> validate() const;
  [[nodiscard]] Result<std::vector<unsigned>> cores() const;
};

}  // namespace leap
