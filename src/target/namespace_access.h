// NamespaceAccess: a namespace as one poller reaches it. NamespacePin: somebody who uses it.
//
//   event                       effect
//   ---------------------------+---------------------------------------------------------------------------
//   namespace added             an access; its channel is opened for the connections there are, or the next one
//   namespace resized           ns is another object; memory and channel stay
//   namespace removed           no new command finds it; the last pin takes channel and access with it
//
// A command is pinned from the moment it has found its namespace until its response is on the wire, so that the device
// is let go of only when nobody reads or writes its memory any more.
//
// Threading: one shard's poller. No allocation, no atomics: a pin is a counter.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "bdev/block_device.h"
#include "target/namespace.h"

namespace leap::target {

class Shard;

struct NamespaceAccess {
  std::shared_ptr<const Namespace> ns;
  std::span<std::byte> memory;            ///< not empty: I/O is a memory access
  std::unique_ptr<BlockChannel> channel;  ///< nullptr while the device cannot be opened
  std::uint32_t users = 0;
  Shard* removed_from = nullptr;  ///< not nullptr: hosts see it no longer
};

class NamespacePin {
 public:
  NamespacePin() = default;
  explicit NamespacePin(NamespaceAccess& access) : access_(&access) { ++access.users; }
  NamespacePin(NamespacePin&& other) noexcept : access_(std::exchange(other.access_, nullptr)) {}
  NamespacePin& operator=(NamespacePin&& other) noexcept {
    reset();
    access_ = std::exchange(other.access_, nullptr);
    return *this;
  }
  ~NamespacePin() { reset(); }

  void reset() {
    NamespaceAccess* const access = std::exchange(access_, nullptr);
    if (access != nullptr && --access->users == 0 && access->removed_from != nullptr) forget(*access);
  }
  explicit operator bool() const { return access_ != nullptr; }
  NamespaceAccess& operator*() const { return *access_; }
  NamespaceAccess* operator->() const { return access_; }

 private:
  static void forget(NamespaceAccess& access);  // shard.cc

  NamespaceAccess* access_ = nullptr;
};

}  // namespace leap::target
