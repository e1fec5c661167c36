#include "client/admin_client.h"

#include <fmt/format.h>
#include <httplib.h>
#include <nlohmann/json.hpp>

namespace leap {
namespace {

using nlohmann::json;

Error no_worker(std::string_view what) {
  return Error(Errc::kProtocol, fmt::format("{}: not the answer of a leap worker", what)).in(ErrorDomain::kRpc);
}

Errc kind_of(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
    case httplib::Error::BindIPAddress: return Errc::kUnreachable;
    case httplib::Error::ConnectionTimeout: return Errc::kTimedOut;
    case httplib::Error::Read:
    case httplib::Error::Write: return Errc::kClosed;
    default: return Errc::kProtocol;
  }
}

Errc kind_of_status(int status) {
  switch (status) {
    case 400: return Errc::kInvalidArgument;
    case 404: return Errc::kNotFound;
    case 409: return Errc::kBusy;
    case 503: return Errc::kClosed;
    default: return Errc::kInternal;
  }
}

/// The member `key` as a T, or nothing when it is missing or of another type.
template <typename T>
bool take(const json& object, const char* key, T& out) {
  const auto found = object.find(key);
  if (found == object.end()) return false;
  if constexpr (std::is_same_v<T, bool>) {
    if (!found->is_boolean()) return false;
  } else if constexpr (std::is_integral_v<T>) {
    if (!found->is_number_integer()) return false;
  } else {
    if (!found->is_string()) return false;
  }
  out = found->template get<T>();
  return true;
}

std::optional<AdminClient::Block> block_of(const json& object) {
  if (!object.is_object()) return std::nullopt;
  AdminClient::Block block;
  std::int64_t id = 0;
  std::string state;
  const bool whole =
      take(object, "id", id) && take(object, "state", state) && take(object, "length", block.info.length) &&
      take(object, "capacity", block.info.capacity) && take(object, "generation", block.info.generation) &&
      take(object, "allocated_bytes", block.info.allocated_bytes) && take(object, "rewriting", block.info.rewriting) &&
      take(object, "damaged", block.info.damaged) && take(object, "storage_type", block.storage_type);
  if (!whole) return std::nullopt;
  block.info.id = BlockId{id};
  block.info.state = state == "finalized" ? BlockState::kFinalized : BlockState::kWriting;
  return block;
}

}  // namespace

struct AdminClient::Impl {
  Impl(std::string host, std::uint16_t port, Nanos timeout)
      : where(fmt::format("worker {}:{}", host, port)), http(host, port) {
    http.set_connection_timeout(timeout);
    http.set_read_timeout(timeout);
    http.set_write_timeout(timeout);
    http.set_keep_alive(true);
  }

  /// The body of a successful answer.
  Result<std::string> body(const httplib::Result& answer, const std::string& what) const {
    if (!answer) {
      return Error(kind_of(answer.error()), fmt::format("{}: {}: {}", where, what, httplib::to_string(answer.error())))
          .in(ErrorDomain::kTransport);
    }
    if (answer->status == 200) return answer->body;
    const json reply = json::parse(answer->body, nullptr, false);
    std::string message = fmt::format("HTTP status {}", answer->status);
    if (reply.is_object() && reply.contains("error")) take(reply, "error", message);
    return Error(kind_of_status(answer->status), fmt::format("{}: {}: {}", where, what, message)).in(ErrorDomain::kRpc);
  }
  Result<std::string> get(const std::string& path, const std::string& what) { return body(http.Get(path), what); }

  std::string where;
  httplib::Client http;
};

AdminClient::AdminClient(std::string host, std::uint16_t port, Nanos timeout)
    : impl_(std::make_unique<Impl>(std::move(host), port, timeout)) {}
AdminClient::~AdminClient() = default;
AdminClient::AdminClient(AdminClient&&) noexcept = default;
AdminClient& AdminClient::operator=(AdminClient&&) noexcept = default;

Result<AdminClient::Block> AdminClient::stat(BlockId id) {
  const auto what = fmt::format("stat block {}", id);
  LEAP_TRY(const std::string body, impl_->get(fmt::format("/api/v1/blocks/{}", id), what));
  const json reply = json::parse(body, nullptr, false);
  std::optional<Block> block = block_of(reply);
  if (!block) return no_worker(impl_->where + ": " + what);
  return *std::move(block);
}

Result<AdminClient::Page> AdminClient::list(std::string_view cursor, std::size_t limit) {
  std::string path = fmt::format("/api/v1/blocks?limit={}", limit);
  if (!cursor.empty()) path += fmt::format("&cursor={}", cursor);
  LEAP_TRY(const std::string body, impl_->get(path, "list blocks"));
  const json reply = json::parse(body, nullptr, false);
  if (!reply.is_object() || !reply.contains("blocks") || !reply["blocks"].is_array()) {
    return no_worker(impl_->where + ": list blocks");
  }
  Page page;
  for (const json& object : reply["blocks"]) {
    std::optional<Block> block = block_of(object);
    if (!block) return no_worker(impl_->where + ": list blocks");
    page.blocks.push_back(*std::move(block));
  }
  std::string next;
  if (take(reply, "next", next)) page.next = std::move(next);
  return page;
}

Result<> AdminClient::remove(BlockId id) {
  const Result<std::string> body =
      impl_->body(impl_->http.Delete(fmt::format("/api/v1/blocks/{}", id)), fmt::format("delete block {}", id));
  if (!body.ok()) return body.error();
  return {};
}

Result<std::string> AdminClient::metrics() { return impl_->get("/metrics", "read metrics"); }

Result<std::string> AdminClient::status() { return impl_->get("/api/v1/status", "read status"); }

}  // namespace leap
