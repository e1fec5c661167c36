// NamespaceInfo: one active namespace of a controller, as far as anyone above needs to know it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/uuid.h"
#include "nvme/identify.h"
#include "nvme/ids.h"

namespace leap {

struct NamespaceInfo {
  nvme::Nsid nsid;
  std::uint32_t block_size = 0;  ///< bytes, a power of two from 512
  std::uint64_t blocks = 0;
  Uuid
      uuid;  ///< UUID descriptor, else NGUID, else made from subsystem NQN and NSID; never nil, stable across connections
  bool uuid_is_derived = false;           ///< neither UUID nor NGUID: the identity is only as stable as the NSID
  std::array<std::byte, 16> nguid{};      ///< all zeros: none
  std::uint32_t max_transfer = 0;         ///< bytes of one command: MDTS and our own largest buffer, whichever is less
  std::uint32_t optimal_io_boundary = 0;  ///< bytes a read or write should not cross (NOIOB); 0: none
  bool volatile_write_cache = false;      ///< true: writes are durable only after Flush
  bool write_protected = false;
  std::uint16_t oncs = 0;  ///< optional commands, nvme::kOncs*

  [[nodiscard]] std::uint64_t size() const { return blocks * block_size; }
  [[nodiscard]] bool supports(std::uint16_t oncs_bit) const { return (oncs & oncs_bit) != 0; }
  friend bool operator==(const NamespaceInfo&, const NamespaceInfo&) = default;
};

}  // namespace leap
