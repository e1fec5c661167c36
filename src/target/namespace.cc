#include "target/namespace.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

namespace leap::target {
namespace {

/// A count of `bytes` in blocks as the 0's based 16-bit fields of Identify hold it.
std::uint16_t zeros_based_blocks(std::uint64_t bytes, unsigned block_shift) {
  const std::uint64_t blocks = std::max<std::uint64_t>(bytes >> block_shift, 1);
  return static_cast<std::uint16_t>(std::min<std::uint64_t>(blocks, 65536) - 1);
}

}  // namespace

Result<Namespace> Namespace::create(const NamespaceConfig& config, const std::string& subsystem_nqn) {
  const BlockDeviceInfo& info = config.device->info();
  Namespace ns;
  ns.nsid_ = nvme::Nsid{config.nsid};
  ns.name_ = config.name;
  ns.device_ = config.device;
  if (!std::has_single_bit(info.block_size) || info.block_size < 512 || info.block_size > 65536) {
    return ns.bad(fmt::format("block size {} is not a power of two from 512 to 65536", info.block_size));
  }
  ns.memory_ = config.device->mapped();
  ns.block_shift_ = static_cast<unsigned>(std::countr_zero(info.block_size));
  ns.optimal_io_ = info.optimal_io;
  ns.volatile_write_cache_ = info.volatile_write_cache;
  // Memory is zeroed by us.
  ns.discard_zeroes_ = info.discard_zeroes || !ns.memory_.empty();
  ns.uuid_ = config.uuid.is_nil() ? Uuid::from_name(config.name, Uuid::from_name(subsystem_nqn)) : config.uuid;
  ns.nguid_ = config.nguid ? *config.nguid : Uuid::from_name("nguid", ns.uuid_).bytes;
  return ns.resized(config.size > 0 ? config.size : info.size >> ns.block_shift_ << ns.block_shift_);
}

Error Namespace::bad(const std::string& what) const {
  return Error(Errc::kInvalidArgument, fmt::format("namespace {} on {}: {}", nsid_, device_->info().name, what));
}

Result<Namespace> Namespace::resized(std::uint64_t bytes) const {
  const BlockDeviceInfo& info = device_->info();
  if (bytes == 0) return bad(fmt::format("{} bytes are less than one block of {}", info.size, info.block_size));
  if (bytes % info.block_size != 0)
    return bad(fmt::format("{} bytes are no whole blocks of {}", bytes, info.block_size));
  if (bytes > info.size) return bad(fmt::format("the device has {} bytes, {} asked", info.size, bytes));
  if (!memory_.empty() && memory_.size() < bytes)
    return bad(fmt::format("only {} of {} bytes are mapped", memory_.size(), bytes));
  Namespace ns = *this;
  ns.blocks_ = bytes >> block_shift_;
  return ns;
}

nvme::IdentifyNamespace Namespace::identify() const {
  nvme::IdentifyNamespace data;
  data.nsze = data.ncap = data.nuse = blocks_;
  data.nsfeat = nvme::kNsfeatOptimalPerformance;
  data.nmic = nvme::kNmicShared;
  const std::uint64_t bytes = blocks_ << block_shift_;
  data.nvmcap.low = bytes;
  // Whole pages spare the back end a read-modify-write, and nothing is gained beyond the size it splits at.
  data.npwg = data.npwa = data.npdg = data.npda = zeros_based_blocks(4096, block_shift_);
  data.nows = zeros_based_blocks(optimal_io_, block_shift_);
  data.nguid = nguid_;
  if (discard_zeroes_) data.dlfeat = nvme::kDlfeatReadsZeros;
  data.lbaf[0].lbads = static_cast<std::uint8_t>(block_shift_);
  return data;
}

nvme::IdentifyIndependentNamespace Namespace::identify_independent() const {
  nvme::IdentifyIndependentNamespace data;
  data.nmic = nvme::kNmicShared;
  data.nstat = 1;
  return data;
}

void Namespace::describe(std::span<std::byte> page) const {
  nvme::DescriptorBuilder out(page);
  // Three descriptors take 45 of 4096 bytes: they fit.
  static_cast<void>(out.add_nguid(nguid_));
  static_cast<void>(out.add_uuid(uuid_));
  static_cast<void>(out.add_csi(nvme::Csi::kNvm));
}

}  // namespace leap::target
