// Shard: the part of a target that lives on one poller: its connections, its channels to the devices, its counters.
//
// Connections never move between shards. What other threads want from a shard (take a new connection, close one,
// deliver an event, stop) goes through an inbox: a short mutex and at most one mailbox entry per shard at a time, so
// that a full mailbox delays a message but never loses it.
//
// Threading: "any thread" members say so; the rest belongs to the shard's poller.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/log.h"
#include "base/metrics.h"
#include "bdev/block_device.h"
#include "memory/dma_pool.h"
#include "poller/net.h"
#include "poller/poller.h"
#include "poller/sync.h"
#include "target/events.h"
#include "target/namespace.h"
#include "target/transport.h"

namespace leap::target {

class Connection;
class Listener;
struct Core;

/// What one shard has done. Written by its poller only, readable from anywhere.
struct ShardProbe {
  Counter connections;  ///< adopted
  Gauge connections_now;
  Counter closed[kCloseReasons];
  Counter admin_commands;
  Counter reads;
  Counter writes;
  Counter other_commands;  ///< I/O queue commands that are neither
  Counter read_bytes;
  Counter written_bytes;
  Counter failed_commands;  ///< answered with a status other than success
  Counter digest_errors;    ///< data digests of the host that did not match
  Counter r2ts;
  Counter buffer_waits;  ///< commands that waited for pool memory
};

/// A namespace as one poller reaches it.
struct NamespaceAccess {
  const Namespace* ns = nullptr;
  std::span<std::byte> memory;            ///< not empty: I/O is a memory access
  std::unique_ptr<BlockChannel> channel;  ///< nullptr while the device cannot be opened
};

class Shard {
 public:
  Shard(Core& core, std::size_t index, NvmePoller& poller, DmaPool& pool);
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // --- any thread; `sender`: the shard of the calling thread, nullptr off the pollers ---
  void adopt(std::unique_ptr<Stream> stream, Shard* sender);
  void close_connection(ConnectionId id, CloseReason reason, Shard* sender);
  void deliver_event(ConnectionId admin_queue, EventKind kind, nvme::Nsid nsid, Shard* sender);
  void attach_listener(std::unique_ptr<Listener> listener, Shard* sender);
  /// Graceful: answers what was accepted. Not graceful: closes now. Either way Core hears when nothing is left.
  void stop(bool graceful, Shard* sender);
  /// Connections, with new ones counted from the moment they are assigned.
  [[nodiscard]] std::size_t load() const { return load_.load(std::memory_order_relaxed); }
  [[nodiscard]] const ShardProbe& probe() const { return probe_; }
  /// Nothing of this shard waits in its poller's mailbox or runs from there.
  [[nodiscard]] bool mailbox_empty() const { return scheduled_.load(std::memory_order_acquire) == 0; }
  /// Tears everything down on the calling thread. Only when the poller has been stopped, and so runs nothing any more.
  void abandon();

  // --- poller ---
  [[nodiscard]] Core& core() { return core_; }
  [[nodiscard]] NvmePoller& poller() { return poller_; }
  [[nodiscard]] DmaPool& pool() { return pool_; }
  [[nodiscard]] ShardProbe& counters() { return probe_; }
  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] bool stopping() const { return stopping_; }
  /// Opens the channels that are not open yet; failures are logged and tried again at the next Connect.
  void open_channels();
  [[nodiscard]] NamespaceAccess& access(const Namespace& ns);
  [[nodiscard]] std::vector<NamespaceAccess>& accesses() { return accesses_; }
  /// A peer that breaks the protocol, at most a few lines a second.
  void log_fault(const Error& error);
  /// Has the connection destroyed once nothing of it is on the stack any more.
  void retire(Connection& connection);

  /// Memory for commands that read the device on their own behalf (Compare, Verify): one at a time, kScratchBytes.
  static constexpr std::size_t kScratchBytes = 128 * 1024;
  AsyncSemaphore& scratch_lock() { return scratch_lock_; }
  DmaBuf& scratch() { return scratch_; }

 private:
  struct Message;

  void send(Message message, Shard* sender);
  bool kick();
  static void drain_inbox(void* self);
  static void retry_kicks(void* self);
  void handle(Message& message);
  void handle_adopt(std::unique_ptr<Stream> stream);
  void handle_stop(bool graceful);
  static Task<void> reap(Shard& shard);
  void destroy_retired();
  void finish_if_empty();

  Core& core_;
  const std::size_t index_;
  NvmePoller& poller_;
  DmaPool& pool_;
  ShardProbe probe_;

  std::mutex inbox_mutex_;
  std::vector<Message> inbox_;
  std::atomic<bool> posted_{false};
  std::atomic<int> scheduled_{0};  // drain_inbox() calls queued or running
  std::atomic<std::size_t> load_{0};
  Timer kick_retry_;

  std::unordered_map<ConnectionId, std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<NamespaceAccess> accesses_;
  std::vector<ConnectionId> retired_;
  bool reaping_ = false;
  ConnectionId next_id_ = 1;
  bool stopping_ = false;
  bool finished_ = false;
  AsyncSemaphore scratch_lock_;
  DmaBuf scratch_;
  RateLimiter log_limit_;
};

}  // namespace leap::target
