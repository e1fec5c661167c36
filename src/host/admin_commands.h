// The commands of connecting and administration, one coroutine each, on any queue pair that takes them.
//
//   LEAP_CO_TRY(const std::uint64_t cap, co_await property_get(admin, nvme::PropertyOffset::kCap));
//   LEAP_CO_TRY(const DmaBuf page, co_await read_data(admin, pool, nvme::make_identify_controller(), 4096));
//
// Threading: the queue pair's poller. Buffers come from `pool`, which is waited for when it is full. References must
// outlive the task. Source: NVMe Base 2.0, 5 and 6.
#pragma once

#include <string>

#include "base/uuid.h"
#include "host/queue_pair.h"
#include "nvme/fabrics.h"
#include "nvme/features.h"

namespace leap {

struct FabricsConnect {
  nvme::Qid qid;
  std::uint32_t entries = 32;  ///< of the submission queue
  std::uint32_t kato_ms = 0;   ///< admin queue only
  bool disable_sq_flow_control = false;
  Uuid hostid;
  nvme::Cntlid cntlid = nvme::kDynamicCntlid;
  std::string subnqn;
  std::string hostnqn;
};

/// Connect (6.3): the first command on a queue. Errors say which parameter was refused: kNotFound (subsystem),
/// kPermission (host), kUnsupported (authentication wanted), kBusy, otherwise as execute().
Task<Result<nvme::ConnectResponse>> fabrics_connect(QueuePair& queue_pair, DmaPool& pool, FabricsConnect what);

Task<Result<std::uint64_t>> property_get(QueuePair& admin, nvme::PropertyOffset offset);
Task<Result<>> property_set(QueuePair& admin, nvme::PropertyOffset offset, std::uint64_t value);
/// DW0 of the completion.
Task<Result<std::uint32_t>> set_features(QueuePair& admin, nvme::FeatureId feature, std::uint32_t value);
/// A command that reads exactly `bytes`.
Task<Result<DmaBuf>> read_data(QueuePair& queue_pair, DmaPool& pool, nvme::Command command, std::size_t bytes);

}  // namespace leap
