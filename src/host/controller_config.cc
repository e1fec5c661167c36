#include "host/controller_config.h"

#include <fmt/format.h>

#include "base/units.h"
#include "host/resolve.h"
#include "nvme/nqn.h"

namespace leap {
namespace {

Error invalid(const std::string& message) { return Error(Errc::kInvalidArgument, message).in(ErrorDomain::kConfig); }

Result<> in_range(const char* field, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  if (value >= least && value <= most) return {};
  return invalid(fmt::format("{} is {}, must be {} to {}", field, value, least, most));
}

Result<> valid_nqn(const char* field, const std::string& nqn) {
  Result<> valid = nvme::validate_nqn(nqn);
  if (!valid.ok()) return std::move(valid).error().context(field).in(ErrorDomain::kConfig);
  return {};
}

Result<> positive(const char* field, Nanos value) {
  if (value > Nanos{0} && value <= std::chrono::hours(24)) return {};
  return invalid(fmt::format("{} is {}, must be more than 0 and at most a day", field, format_duration(value)));
}

}  // namespace

Result<> ControllerConfig::validate() const {
  const auto endpoint = socket_address(address);
  if (!endpoint.ok()) return Error(endpoint.error()).context("address").in(ErrorDomain::kConfig);
  LEAP_TRY_VOID(valid_nqn("subnqn", address.subnqn));
  LEAP_TRY_VOID(valid_nqn("hostnqn", address.hostnqn.empty() ? hostnqn : address.hostnqn));
  if (hostid.is_nil()) return invalid("hostid is nil: targets tell hosts apart by it");
  LEAP_TRY_VOID(in_range("io_queue_depth", io_queue_depth, 2, 4096));
  LEAP_TRY_VOID(in_range("max_io_queues", max_io_queues, 1, 256));
  LEAP_TRY_VOID(in_range("max_namespaces", max_namespaces, 1, 1024));
  LEAP_TRY_VOID(in_range("maxr2t", maxr2t, 1, 16));
  LEAP_TRY_VOID(in_range("receive_buffer", receive_buffer, 64 * 1024, 4 * 1024 * 1024));
  LEAP_TRY_VOID(positive("connect_timeout", connect_timeout));
  LEAP_TRY_VOID(positive("io_timeout", io_timeout));
  LEAP_TRY_VOID(positive("quiesce_margin", quiesce_margin));
  if (abort_timeout != Nanos{0}) LEAP_TRY_VOID(positive("abort_timeout", abort_timeout));
  if (keep_alive_timeout != Nanos{0}) {
    LEAP_TRY_VOID(positive("keep_alive_timeout", keep_alive_timeout));
    if (keep_alive_timeout < std::chrono::milliseconds(100)) {
      return invalid("keep_alive_timeout is below 100 ms: no target counts finer than that");
    }
  }
  return {};
}

}  // namespace leap
