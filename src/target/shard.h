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
#include "target/namespace_access.h"
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

/// A change of the namespaces on its way to every shard.
struct NamespaceChange {
  nvme::Nsid nsid;
  std::atomic<std::size_t> shards_left;
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
  /// The namespaces are others now. The last shard to have taken them up tells the hosts.
  void refresh_namespaces(std::shared_ptr<NamespaceChange> change, Shard* sender);
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
  /// For a new connection: takes up the namespaces there are now and opens the channels that are not open yet; failures
  /// are logged and tried again at the next Connect.
  void prepare_namespaces();
  /// nullptr: no such namespace.
  [[nodiscard]] NamespaceAccess* find(nvme::Nsid nsid) const {
    const std::size_t at = std::size_t{nsid.value()} - 1;  // nsid 0 wraps to a value past every table
    return at < by_nsid_.size() ? by_nsid_[at] : nullptr;
  }
  /// All of them, held.
  [[nodiscard]] std::vector<NamespacePin> pin_namespaces() const;
  [[nodiscard]] bool any_volatile_write_cache() const { return any_volatile_; }
  /// By the last pin on a namespace that is gone.
  void forget(NamespaceAccess& access);
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
  void handle_refresh(NamespaceChange& change);
  void load_namespaces();
  void open_channels();
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

  // Before the connections: their requests hold on to them.
  std::vector<std::unique_ptr<NamespaceAccess>> accesses_;  // served, or removed and still in use
  std::vector<NamespaceAccess*> by_nsid_;                   // served
  bool any_volatile_ = false;                               // of those served
  std::unordered_map<ConnectionId, std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Listener>> listeners_;
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
