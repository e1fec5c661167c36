// Namespace: a block device as hosts see it: identity, size in blocks, Identify data.
//
// Immutable after create(), shared by all pollers. Per poller access (channels) is the Shard's.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "base/uuid.h"
#include "nvme/identify_namespace.h"
#include "nvme/ids.h"
#include "target/config.h"

namespace leap::target {

class Namespace {
 public:
  /// `config` has passed TargetConfig::validate(). Error kInvalidArgument: a block size NVMe cannot express, or no
  /// block.
  static Result<Namespace> create(const NamespaceConfig& config, const std::string& subsystem_nqn);

  /// The same namespace with another size. Error kInvalidArgument: not whole blocks, none, or more than the device has.
  [[nodiscard]] Result<Namespace> resized(std::uint64_t bytes) const;

  [[nodiscard]] nvme::Nsid nsid() const { return nsid_; }
  [[nodiscard]] const Uuid& uuid() const { return uuid_; }
  [[nodiscard]] const std::array<std::byte, 16>& nguid() const { return nguid_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] BlockDevice& device() const { return *device_; }
  /// The device's memory when it is memory: I/O needs no channel then. Empty otherwise.
  [[nodiscard]] std::span<std::byte> memory() const { return memory_; }

  [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
  [[nodiscard]] unsigned block_shift() const { return block_shift_; }  ///< log2 of bytes per block
  [[nodiscard]] bool volatile_write_cache() const { return volatile_write_cache_; }

  [[nodiscard]] nvme::IdentifyNamespace identify() const;
  [[nodiscard]] nvme::IdentifyIndependentNamespace identify_independent() const;
  /// Fills the 4096 bytes of the Namespace Identification Descriptor list.
  void describe(std::span<std::byte> page) const;

 private:
  Namespace() = default;
  [[nodiscard]] Error bad(const std::string& what) const;

  nvme::Nsid nsid_;
  Uuid uuid_;
  std::array<std::byte, 16> nguid_{};
  std::string name_;
  BlockDevice* device_ = nullptr;
  std::span<std::byte> memory_;
  std::uint64_t blocks_ = 0;
  unsigned block_shift_ = 0;
  std::uint32_t optimal_io_ = 0;
  bool volatile_write_cache_ = false;
  bool discard_zeroes_ = false;
};

}  // namespace leap::target
