#include "target/shard.h"

#include <thread>
#include <utility>

#include "target/core.h"
#include "target/tcp/connection.h"
#include "target/tcp/listener.h"

namespace leap::target {
namespace {

constexpr Nanos kKickRetry = std::chrono::milliseconds(1);

}  // namespace

/// What another thread wants from this shard.
struct Shard::Message {
  enum class Kind : std::uint8_t { kAdopt, kClose, kEvent, kListen, kRefresh, kStop };
  explicit Message(Kind what) : kind(what) {}

  Kind kind;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Listener> listener;
  ConnectionId id = 0;
  CloseReason reason = CloseReason::kPeerClosed;
  EventKind event = EventKind::kNamespaceChanged;
  nvme::Nsid nsid;
  std::shared_ptr<NamespaceChange> change;
  bool graceful = false;
};

Shard::Shard(Core& core, std::size_t index, NvmePoller& poller, DmaPool& pool)
    : core_(core),
      index_(index),
      poller_(poller),
      pool_(pool),
      kick_retry_(poller.timers(), &Shard::retry_kicks, this),
      scratch_lock_(poller, 1),
      log_limit_(10, std::chrono::seconds(1), poller.clock()) {
  load_namespaces();
}

Shard::~Shard() = default;

void Shard::adopt(std::unique_ptr<Stream> stream, Shard* sender) {
  load_.fetch_add(1, std::memory_order_relaxed);
  Message message(Message::Kind::kAdopt);
  message.stream = std::move(stream);
  send(std::move(message), sender);
}

void Shard::close_connection(ConnectionId id, CloseReason reason, Shard* sender) {
  Message message(Message::Kind::kClose);
  message.id = id;
  message.reason = reason;
  send(std::move(message), sender);
}

void Shard::deliver_event(ConnectionId admin_queue, EventKind kind, nvme::Nsid nsid, Shard* sender) {
  Message message(Message::Kind::kEvent);
  message.id = admin_queue;
  message.event = kind;
  message.nsid = nsid;
  send(std::move(message), sender);
}

void Shard::attach_listener(std::unique_ptr<Listener> listener, Shard* sender) {
  Message message(Message::Kind::kListen);
  message.listener = std::move(listener);
  send(std::move(message), sender);
}

void Shard::refresh_namespaces(std::shared_ptr<NamespaceChange> change, Shard* sender) {
  Message message(Message::Kind::kRefresh);
  message.change = std::move(change);
  send(std::move(message), sender);
}

void Shard::stop(bool graceful, Shard* sender) {
  Message message(Message::Kind::kStop);
  message.graceful = graceful;
  send(std::move(message), sender);
}

void Shard::send(Message message, Shard* sender) {
  {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.push_back(std::move(message));
  }
  if (kick()) return;
  if (sender != nullptr) {
    sender->kick_retry_.arm(sender->poller_.clock().now() + kKickRetry);
  } else {
    // Off the pollers waiting is allowed.
    while (!kick() && !poller_.stopping()) std::this_thread::yield();
  }
}

/// One mailbox entry is enough for any number of messages. False: the mailbox is full.
bool Shard::kick() {
  if (posted_.exchange(true)) return true;
  scheduled_.fetch_add(1, std::memory_order_relaxed);
  if (poller_.try_post(&Shard::drain_inbox, this)) return true;
  scheduled_.fetch_sub(1, std::memory_order_relaxed);
  posted_.store(false);
  return false;
}

void Shard::retry_kicks(void* self) {
  auto& shard = *static_cast<Shard*>(self);
  for (const auto& other : shard.core_.shards) {
    if (!other->kick()) shard.kick_retry_.arm(shard.poller_.clock().now() + kKickRetry);
  }
}

void Shard::drain_inbox(void* self) {
  auto& shard = *static_cast<Shard*>(self);
  // Cleared before looking: whoever adds a message from here on posts again.
  shard.posted_.store(false);
  std::vector<Message> messages;
  {
    const std::lock_guard lock(shard.inbox_mutex_);
    messages.swap(shard.inbox_);
  }
  for (Message& message : messages) shard.handle(message);
  messages.clear();
  shard.scheduled_.fetch_sub(1, std::memory_order_release);  // the owner may destroy the shard from here on
}

void Shard::handle(Message& message) {
  switch (message.kind) {
    case Message::Kind::kAdopt: handle_adopt(std::move(message.stream)); return;
    case Message::Kind::kStop: handle_stop(message.graceful); return;
    case Message::Kind::kRefresh: handle_refresh(*message.change); return;
    case Message::Kind::kListen:
      if (stopping_) return;
      if (const Result<> attached = message.listener->attach(*this); !attached.ok()) {
        log_error("target: {}", attached.error().to_string());
        return;
      }
      listeners_.push_back(std::move(message.listener));
      return;
    case Message::Kind::kClose:
    case Message::Kind::kEvent: break;
  }
  const auto it = connections_.find(message.id);
  if (it == connections_.end()) return;  // it was faster
  Connection& connection = *it->second;
  if (message.kind == Message::Kind::kEvent)
    connection.session().deliver_event(message.event, message.nsid);
  else if (message.reason == CloseReason::kStopping)
    connection.close_gracefully(message.reason);
  else
    connection.close_now(message.reason);
}

void Shard::handle_adopt(std::unique_ptr<Stream> stream) {
  const auto refuse = [this] {
    load_.fetch_sub(1, std::memory_order_relaxed);
    core_.connections.fetch_sub(1, std::memory_order_relaxed);
  };
  if (stopping_) return refuse();
  const ConnectionId id = next_id_++;
  auto opened = Connection::open(*this, id, std::move(stream));
  if (!opened.ok()) {
    log_warn("target: {}", opened.error().to_string());
    return refuse();
  }
  connections_.emplace(id, std::move(opened).value());
  probe_.connections.add();
  probe_.connections_now.set(static_cast<std::int64_t>(connections_.size()));
}

void Shard::handle_stop(bool graceful) {
  stopping_ = true;
  listeners_.clear();
  // A connection may retire while it is closed, but leaves the map only later.
  for (auto& [id, connection] : connections_) {
    if (graceful)
      connection->close_gracefully(CloseReason::kStopping);
    else
      connection->close_now(CloseReason::kStopping);
  }
  finish_if_empty();
}

void Shard::handle_refresh(NamespaceChange& change) {
  if (!stopping_) {
    load_namespaces();
    if (!connections_.empty()) open_channels();
  }
  // Hosts may look only when every poller serves what they will find.
  if (change.shards_left.fetch_sub(1) == 1) core_.deliver_to_all(EventKind::kNamespaceChanged, change.nsid, this);
}

void Shard::load_namespaces() {
  const auto table = core_.subsystem->namespaces();
  std::vector<NamespaceAccess*> served(table->max_nsid(), nullptr);
  for (const auto& ns : table->all()) {
    NamespaceAccess* access = find(ns->nsid());
    // Another device behind the same number is another namespace; another size is not.
    if (access == nullptr || &access->ns->device() != &ns->device() || access->ns->uuid() != ns->uuid()) {
      accesses_.push_back(std::make_unique<NamespaceAccess>());
      access = accesses_.back().get();
    }
    access->ns = ns;
    access->memory = ns->memory();
    served[ns->nsid().value() - 1] = access;
  }
  any_volatile_ = table->any_volatile_write_cache();
  by_nsid_.swap(served);
  for (NamespaceAccess* before : served) {
    if (before == nullptr || find(before->ns->nsid()) == before) continue;
    before->removed_from = this;
    if (before->users == 0) forget(*before);
  }
}

void Shard::forget(NamespaceAccess& access) {
  std::erase_if(accesses_, [&](const auto& each) { return each.get() == &access; });
}

void NamespacePin::forget(NamespaceAccess& access) { access.removed_from->forget(access); }

std::vector<NamespacePin> Shard::pin_namespaces() const {
  std::vector<NamespacePin> pins;
  for (NamespaceAccess* access : by_nsid_) {
    if (access != nullptr) pins.emplace_back(*access);
  }
  return pins;
}

void Shard::prepare_namespaces() {
  load_namespaces();
  open_channels();
}

void Shard::open_channels() {
  if (!scratch_.valid()) {
    if (auto scratch = pool_.try_allocate(kScratchBytes)) scratch_ = std::move(*scratch);
  }
  for (NamespaceAccess* access : by_nsid_) {
    if (access == nullptr || access->channel != nullptr || stopping_) continue;
    auto channel = access->ns->device().open_channel(poller_, pool_);
    if (channel.ok())
      access->channel = std::move(channel).value();
    else if (const auto pass = log_limit_.admit()) {
      log_warn("target: open namespace {} on poller {}: {}", access->ns->nsid(), poller_.name(),
               channel.error().to_string());
    }
  }
}

void Shard::log_fault(const Error& error) {
  const auto pass = log_limit_.admit();
  if (pass) log_warn("target: {} ({} more suppressed)", error.to_string(), pass->suppressed);
}

void Shard::retire(Connection& connection) {
  retired_.push_back(connection.id());
  if (reaping_) return;
  reaping_ = true;
  poller_.spawn(reap(*this));
}

Task<void> Shard::reap(Shard& shard) {
  co_await shard.poller_.yield();
  shard.destroy_retired();
}

void Shard::destroy_retired() {
  reaping_ = false;
  std::vector<ConnectionId> retired;
  retired.swap(retired_);
  for (const ConnectionId id : retired) {
    connections_.erase(id);
    load_.fetch_sub(1, std::memory_order_relaxed);
    core_.connections.fetch_sub(1, std::memory_order_relaxed);
  }
  probe_.connections_now.set(static_cast<std::int64_t>(connections_.size()));
  finish_if_empty();
}

void Shard::finish_if_empty() {
  if (!stopping_ || finished_ || !connections_.empty()) return;
  finished_ = true;
  for (const auto& access : accesses_) access->channel.reset();
  scratch_.reset();
  kick_retry_.cancel();
  core_.shard_stopped();
}

void Shard::abandon() {
  stopping_ = true;
  listeners_.clear();
  {
    // Another shard, whose poller still runs, may be sending.
    const std::lock_guard lock(inbox_mutex_);
    inbox_.clear();
  }
  connections_.clear();
  retired_.clear();
  finish_if_empty();
}

}  // namespace leap::target
