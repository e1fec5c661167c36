// SessionContext: what the sessions of one poller share. Made by BlockServer, one per poller; used on that poller only,
// except for the probe, which anyone may read.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/metrics.h"
#include "memory/dma_pool.h"
#include "poller/sync.h"
#include "rpc/frame_stream.h"
#include "store/store_set.h"
#include "worker/compatibility.h"
#include "worker/writer_registry.h"

namespace leap {

struct SessionConfig {
  std::uint64_t max_block_size = kMaxBlockCapacity;          ///< bytes: the longest read a client may open
  Nanos io_slow_threshold = std::chrono::milliseconds(300);  ///< slower requests are logged
  Nanos io_timeout = std::chrono::minutes(10);               ///< idle time ...
  bool io_close_idle = false;                                ///< ... after which a connection is closed
  Nanos send_timeout = std::chrono::seconds(120);  ///< for the client to take a reply, or to send what it has begun
  std::uint32_t max_header = 256U << 20;           ///< bytes
  std::uint16_t web_port = 0;                      ///< told to Leap's tools
  std::string cluster_id;                          ///< likewise
};

/// Written by one poller. Names on /metrics are Curvine's where it has them (worker_metrics.cc).
struct SessionProbe {
  Counter write_bytes, write_count, write_time_us,
      write_blocks;  ///< data-plane Running frames; blocks: opened sessions
  Counter read_bytes, read_count, read_time_us, read_blocks;
  Counter opened, refused, protocol_errors, error_replies, taken_over;
  Counter receive_waits;  ///< frames that waited for receive_memory
  Gauge open_sessions;
  Gauge receiving_bytes;  ///< of receive_memory in use
};

struct SessionContext {
  SessionContext(NvmePoller& on, DmaPool& buffers, StoreSet& blocks, const SessionConfig& settings,
                 const CompatibilityPolicy& clients, rpc::HeaderBudget& header_memory, WriterRegistry& open_writers)
      : poller(on),
        pool(buffers),
        store(blocks),
        config(settings),
        policy(clients),
        headers(header_memory),
        writers(open_writers),
        reply_segment(std::clamp<std::size_t>(buffers.capacity() / 8, 64 * 1024, ReadChunk::kMaxBytes)),
        reply_memory(on, std::max(buffers.capacity() / 2, 2 * reply_segment)),
        receive_memory(on, std::max(buffers.capacity() / 4, DmaPool::kPageSize)) {}

  /// When to give up waiting for the rest of a frame, which holds memory.
  [[nodiscard]] TimePoint frame_deadline() const {
    return std::min(idle_deadline(), poller.clock().now() + config.send_timeout);
  }
  /// When to give up waiting for the client's next bytes.
  [[nodiscard]] TimePoint idle_deadline() const {
    return config.io_close_idle ? poller.clock().now() + config.io_timeout : TimePoint::max();
  }

  /// What reading [offset, offset + size) takes out of the pool: whole pages, in buffers that are powers of two.
  [[nodiscard]] static std::size_t reply_charge(std::uint64_t offset, std::size_t size) {
    const std::size_t bytes = page_round_up(offset + size) - offset / kStorePage * kStorePage;
    return std::bit_ceil(bytes);
  }

  NvmePoller& poller;
  DmaPool& pool;
  StoreSet& store;
  const SessionConfig& config;
  const CompatibilityPolicy& policy;
  rpc::HeaderBudget& headers;
  WriterRegistry& writers;
  /// A reply is read and sent in pieces of this many bytes: one piece in any sensible configuration.
  const std::size_t reply_segment;
  /// Bytes of buffers that replies may hold while clients take them: half of the pool. The rest is for writes, so that
  /// slow readers never stop a writer.
  AsyncSemaphore reply_memory;
  /// Bytes of buffers that frames may hold while their clients send them: a quarter of the pool. The last quarter is for
  /// what waits for no client: commits, merged pages, the lease.
  AsyncSemaphore receive_memory;
  SessionProbe probe;
};

}  // namespace leap
