#include "worker/writer_registry.h"

#include <memory>

namespace leap {

/// Travels through the owner's mailbox. By token, because the owner may be gone when it arrives.
struct WriterRegistry::Request {
  WriterRegistry& registry;
  BlockId id;
  std::uint64_t token;
};

void WriterRegistry::enter(BlockId id, Owner& owner, NvmePoller& poller) {
  const std::lock_guard lock(mutex_);
  entries_.insert_or_assign(id, Entry{&owner, &poller, next_token_++});
}

void WriterRegistry::leave(BlockId id, Owner& owner) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found != entries_.end() && found->second.owner == &owner) entries_.erase(found);
}

void WriterRegistry::ask_to_yield(BlockId id) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  auto request = std::make_unique<Request>(Request{*this, id, found->second.token});
  const auto deliver_and_free = [](void* context) {
    const std::unique_ptr<Request> arrived(static_cast<Request*>(context));
    arrived->registry.deliver(*arrived);
  };
  if (found->second.poller->try_post(deliver_and_free, request.get())) static_cast<void>(request.release());
}

void WriterRegistry::deliver(const Request& request) {
  Owner* owner = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(request.id);
    if (found != entries_.end() && found->second.token == request.token) owner = found->second.owner;
  }
  // Unlocked: yielding leaves the registry. The owner cannot vanish meanwhile, it lives on this thread.
  if (owner != nullptr) owner->yield_writer();
}

}  // namespace leap
