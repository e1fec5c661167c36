#include "host/admin_commands.h"

#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "nvme/admin_command.h"
#include "nvme/status.h"
#include "poller/dma_await.h"

namespace leap {

using nvme::DataDirection;
using nvme::FabricsStatus;

namespace {

std::string refused_parameter(const FabricsConnect& what, std::uint32_t dw0) {
  const auto where = nvme::ConnectInvalid::from_dword(dw0);
  if (where.in_data) {
    if (where.ipo == nvme::ConnectInvalid::kSubnqn) return "there is no subsystem " + what.subnqn;
    if (where.ipo == nvme::ConnectInvalid::kHostnqn) return "it refuses the host NQN " + what.hostnqn;
    if (where.ipo == nvme::ConnectInvalid::kHostid) return "it refuses the host id " + what.hostid.to_string();
    if (where.ipo == nvme::ConnectInvalid::kCntlid) return fmt::format("it has no controller {}", what.cntlid);
  } else {
    if (where.ipo == nvme::ConnectInvalid::kQid) return fmt::format("it refuses queue id {}", what.qid);
    if (where.ipo == nvme::ConnectInvalid::kSqsize) return fmt::format("it refuses {} queue entries", what.entries);
    if (where.ipo == nvme::ConnectInvalid::kKato) return fmt::format("it refuses a keep alive of {} ms", what.kato_ms);
  }
  return fmt::format("it refuses the parameter at byte {} of the {}", where.ipo, where.in_data ? "data" : "command");
}

/// What a refused Connect means to an operator; status codes alone do not say it.
Error connect_refusal(const FabricsConnect& what, Error error, std::uint32_t dw0) {
  if (error.domain() != ErrorDomain::kNvme) return error;
  const NvmeStatusCode code = error.nvme_status();
  const auto explained = [&](Errc kind, const std::string& why) {
    return Error(kind, fmt::format("the target refuses Connect: {} ({})", why,
                                   nvme::status_name(code, nvme::CommandFamily::kFabrics)))
        .with_nvme(code)
        .with_scope(ErrorScope::kController)
        .retryable_if(error.retryable());
  };
  if (nvme::same_code(code, nvme::status(FabricsStatus::kConnectInvalidHost))) {
    return explained(Errc::kPermission, "host " + what.hostnqn + " is not allowed to use " + what.subnqn);
  }
  if (nvme::same_code(code, nvme::status(FabricsStatus::kConnectInvalidParameters))) {
    const auto where = nvme::ConnectInvalid::from_dword(dw0);
    const bool no_subsystem = where.in_data && where.ipo == nvme::ConnectInvalid::kSubnqn;
    return explained(no_subsystem ? Errc::kNotFound : Errc::kInvalidArgument, refused_parameter(what, dw0));
  }
  if (nvme::same_code(code, nvme::status(FabricsStatus::kControllerBusy))) {
    return explained(Errc::kBusy, "no controller is free");
  }
  if (nvme::same_code(code, nvme::status(FabricsStatus::kAuthenticationRequired))) {
    return explained(Errc::kUnsupported, "it demands authentication, which is not supported");
  }
  return error;
}

}  // namespace

Task<Result<nvme::ConnectResponse>> fabrics_connect(QueuePair& queue_pair, DmaPool& pool, FabricsConnect what) {
  LEAP_CO_TRY(DmaBuf data, co_await allocate(queue_pair.poller(), pool, sizeof(nvme::ConnectData)));
  const auto content = nvme::make_connect_data(what.hostid, what.cntlid, what.subnqn, what.hostnqn);
  std::memcpy(data.data(), &content, sizeof content);
  const auto command = nvme::make_connect({.recfmt = 0,
                                           .qid = what.qid,
                                           .entries = what.entries,
                                           .disable_sq_flow_control = what.disable_sq_flow_control,
                                           .cattr = 0,
                                           .kato_ms = what.kato_ms});
  CommandResult done = co_await queue_pair.execute(command, std::move(data), DataDirection::kHostToController);
  if (!done.status.ok()) co_return connect_refusal(what, std::move(done.status).error(), done.dw0);
  const auto response = nvme::ConnectResponse::from_dword(done.dw0);
  if (response.authreq != 0) {
    co_return Error(Errc::kUnsupported, fmt::format("{} demands authentication, which is not supported", what.subnqn))
        .in(ErrorDomain::kTransport)
        .with_scope(ErrorScope::kController);
  }
  co_return response;
}

Task<Result<std::uint64_t>> property_get(QueuePair& admin, nvme::PropertyOffset offset) {
  CommandResult done = co_await admin.execute(nvme::make_property_get(offset));
  if (!done.status.ok()) co_return std::move(done.status).error();
  co_return nvme::is_64bit(offset) ? done.status->result64() : std::uint64_t{done.dw0};
}

Task<Result<>> property_set(QueuePair& admin, nvme::PropertyOffset offset, std::uint64_t value) {
  CommandResult done = co_await admin.execute(nvme::make_property_set(offset, value));
  if (!done.status.ok()) co_return std::move(done.status).error();
  co_return Result<>{};
}

Task<Result<std::uint32_t>> set_features(QueuePair& admin, nvme::FeatureId feature, std::uint32_t value) {
  CommandResult done = co_await admin.execute(nvme::make_set_features(feature, value));
  if (!done.status.ok()) co_return std::move(done.status).error();
  co_return done.dw0;
}

Task<Result<DmaBuf>> read_data(QueuePair& queue_pair, DmaPool& pool, nvme::Command command, std::size_t bytes) {
  LEAP_CO_TRY(DmaBuf buffer, co_await allocate(queue_pair.poller(), pool, bytes));
  CommandResult done = co_await queue_pair.execute(command, std::move(buffer), DataDirection::kControllerToHost);
  if (!done.status.ok()) co_return std::move(done.status).error();
  co_return std::move(done.data);
}

}  // namespace leap
