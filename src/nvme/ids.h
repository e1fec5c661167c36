// The identifiers of NVMe as distinct types, so that a queue id can never be passed where a command id is meant.
//
// Each has the size and alignment of the integer inside, so the wire structures of this room hold them directly.
// Explicit in (`Cid{7}`) and out (`cid.value()`); ordered, hashable, printed by fmt as the number.
//
//   if (qid == kAdminQid) ...;  slots[cqe.cid.value()]
#pragma once

#include <cstdint>

#include "base/strong_id.h"

namespace leap::nvme {

/// Queue Identifier: 0 is the Admin queue pair (NVMe Base 2.0, 3.3).
using Qid = StrongId<struct QidTag, std::uint16_t>;
/// Command Identifier, unique among the commands outstanding on one submission queue (NVMe Base 2.0, 3.3.3.1).
using Cid = StrongId<struct CidTag, std::uint16_t>;
/// Namespace Identifier: 0 means none, FFFFFFFFh all attached namespaces (NVMe Base 2.0, 3.2.1).
using Nsid = StrongId<struct NsidTag, std::uint32_t>;
/// Controller Identifier within one NVM subsystem (NVMe Base 2.0, 3.1.1).
using Cntlid = StrongId<struct CntlidTag, std::uint16_t>;

static_assert(sizeof(Qid) == 2 && sizeof(Cid) == 2 && sizeof(Nsid) == 4 && sizeof(Cntlid) == 2);

inline constexpr Qid kAdminQid{0};
inline constexpr Nsid kNoNamespace{0};
inline constexpr Nsid kAllNamespaces{0xFFFFFFFF};
/// Connect: "any controller", the dynamic controller model (NVMe Base 2.0, 6.3, Connect Data: CNTLID).
inline constexpr Cntlid kDynamicCntlid{0xFFFF};
/// Connect: "any controller" of a subsystem with the static controller model.
inline constexpr Cntlid kAnyStaticCntlid{0xFFFE};
/// The last id a controller may carry; FFF0h to FFFFh are reserved (NVMe Base 2.0, 3.1.1).
inline constexpr Cntlid kMaxCntlid{0xFFEF};
/// Keep it unused as a command id: error log entries use FFFFh for "no particular command".
inline constexpr Cid kNoCid{0xFFFF};

}  // namespace leap::nvme
