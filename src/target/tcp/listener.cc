#include "target/tcp/listener.h"

#include <chrono>

#include "base/log.h"
#include "target/core.h"

namespace leap::target {
namespace {

constexpr int kAcceptsPerTurn = 16;
constexpr Nanos kPause = std::chrono::milliseconds(100);

}  // namespace

Listener::~Listener() { acceptor_->detach(); }

Result<> Listener::attach(Shard& shard) {
  shard_ = &shard;
  pause_.emplace(shard.poller().timers(), &Listener::resume, this);
  return acceptor_->attach(shard.poller(), *this);
}

void Listener::resume(void* self) {
  auto& listener = *static_cast<Listener*>(self);
  if (!listener.acceptor_->attach(listener.shard_->poller(), listener).ok()) {
    listener.pause_->arm(listener.shard_->poller().now() + kPause);
  }
}

std::size_t Listener::poll() {
  std::size_t accepted = 0;
  while (accepted < kAcceptsPerTurn) {
    auto stream = acceptor_->accept();
    if (!stream.ok()) {
      log_warn("target: {}", stream.error().to_string());
      acceptor_->detach();
      unlink();
      pause_->arm(shard_->poller().now() + kPause);
      break;
    }
    if (stream.value() == nullptr) break;
    ++accepted;
    // Whoever is over the limit learns it by the end of the connection, at once.
    if (core_.connections.fetch_add(1, std::memory_order_relaxed) >= core_.subsystem->config().max_connections) {
      core_.connections.fetch_sub(1, std::memory_order_relaxed);
      core_.refused.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    core_.least_loaded().adopt(std::move(stream).value(), shard_);
  }
  return accepted;
}

}  // namespace leap::target
