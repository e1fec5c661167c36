// NVMe Qualified Names (NVMe Base 2.0, 4.5).
//
// Two formats: "nqn.yyyy-mm.reverse.domain[:anything]" and "nqn.2014-08.org.nvmexpress:uuid:<UUID>"; at most 223 bytes
// of UTF-8, NUL-terminated in 256-byte fields. Comparison is byte by byte.
//
//   LEAP_TRY_VOID(validate_nqn("nqn.2024-01.io.example:disk1"));
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/uuid.h"

namespace leap::nvme {

inline constexpr std::size_t kMaxNqnBytes = 223;
/// The well-known discovery service (NVMe Base 2.0, 4.5).
inline constexpr std::string_view kDiscoveryNqn = "nqn.2014-08.org.nvmexpress.discovery";
inline constexpr std::string_view kUuidNqnPrefix = "nqn.2014-08.org.nvmexpress:uuid:";

/// kInvalidArgument with the reason and the offending text (cut to 64 bytes) unless `nqn` is well formed: length 1 to
/// 223, "nqn.", a four-digit year and a month 01 to 12, a reverse domain of letters, digits, '-', '.' and '_', then
/// nothing or ':' and at least one byte; no control characters, no spaces. The uuid form must carry a UUID.
[[nodiscard]] Result<> validate_nqn(std::string_view nqn);

/// A host or subsystem NQN from a UUID.
[[nodiscard]] std::string nqn_from_uuid(const Uuid& uuid);

}  // namespace leap::nvme
