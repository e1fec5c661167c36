// Listener: accepts NVMe/TCP connections on one address and hands each to the shard with the fewest.
//
// Threading: lives on one shard's poller from attach() on. When the process runs out of descriptors it pauses for a
// moment instead of being woken for what it cannot take.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "base/result.h"
#include "poller/net.h"
#include "poller/timer.h"

namespace leap::target {

class Shard;
struct Core;

class Listener final : public Pollable {
 public:
  Listener(Core& core, std::unique_ptr<Acceptor> acceptor) : core_(core), acceptor_(std::move(acceptor)) {}
  ~Listener() override;

  /// On the shard's poller. Error: os (the poller cannot watch it).
  Result<> attach(Shard& shard);

 private:
  std::size_t poll() override;
  static void resume(void* self);

  Core& core_;
  std::unique_ptr<Acceptor> acceptor_;
  Shard* shard_ = nullptr;
  std::optional<Timer> pause_;
};

}  // namespace leap::target
