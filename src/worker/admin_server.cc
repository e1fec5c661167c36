#include "worker/admin_server.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <httplib.h>
#include <nlohmann/json.hpp>

#include "base/address.h"
#include "base/fd.h"
#include "base/log.h"

namespace leap {
namespace {

using nlohmann::json;

constexpr std::size_t kDefaultPage = 1000;
constexpr std::size_t kMaxPage = 10'000;

template <typename T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "<directory>.<position>": opaque to clients.
std::optional<StoreSet::Cursor> parse_cursor(std::string_view text) {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto directory = number<std::size_t>(text.substr(0, dot));
  const auto within = number<std::uint32_t>(text.substr(dot + 1));
  if (!directory || !within) return std::nullopt;
  return StoreSet::Cursor{.directory = *directory, .within = *within};
}

json block_json(const StoreSet::Listed& block) {
  const BlockInfo& info = block.info;
  return {{"id", info.id.value()},       {"state", to_string(info.state)}, {"length", info.length},
          {"capacity", info.capacity},   {"generation", info.generation},  {"allocated_bytes", info.allocated_bytes},
          {"rewriting", info.rewriting}, {"damaged", info.damaged},        {"storage_type", to_string(block.type)}};
}

void reply(httplib::Response& response, const json& body, int status = 200) {
  response.status = status;
  // Names in here come from configuration files: not necessarily valid UTF-8.
  response.set_content(body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", "application/json");
}

void refuse(httplib::Response& response, int status, std::string_view text) {
  reply(response, {{"error", text}}, status);
}

int status_of(const Error& error) {
  switch (error.kind()) {
    case Errc::kNotFound: return 404;
    case Errc::kInvalidArgument: return 400;
    case Errc::kBusy: return 409;
    case Errc::kClosed: return 503;
    default: return 500;
  }
}

Task<Result<>> remove_block(StoreSet& store, NvmePoller& poller, BlockId id) {
  Result<> removed = co_await store.remove(poller, id);
  co_return removed;
}

/// Why the port could not be bound: the library says only that it could not, so ask the kernel again.
Error bind_error(const std::string& host, std::uint16_t port) {
  const auto where = fmt::format("listen on {}:{} (worker.web_port)", host, port);
  Result<SocketAddress> address = SocketAddress::resolve(host, port);
  if (!address.ok()) return std::move(address).error().context(where);
  const UniqueFd probe(::socket(address->os_family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return Error::os(errno, where);
  const int one = 1;
  ::setsockopt(probe.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(probe.get(), address->data(), address->size()) != 0 || ::listen(probe.get(), 1) != 0)
    return Error::os(errno, where);
  return Error::os(EADDRINUSE, where);  // it was, a moment ago
}

}  // namespace

struct AdminServer::Impl {
  explicit Impl(Config settings) : config(std::move(settings)) {}

  const Config config;
  NvmePoller* poller = nullptr;
  StoreSet* store = nullptr;
  Pages pages;
  httplib::Server http;
  int bound_port = 0;
  std::atomic<bool> over{false};  // the listening thread has ended
  std::thread thread;

  void configure();
  void list(const httplib::Request& request, httplib::Response& response) const;
  void stat(const httplib::Request& request, httplib::Response& response) const;
  void remove(const httplib::Request& request, httplib::Response& response) const;
};

void AdminServer::Impl::configure() {
  // Not the library's default SO_REUSEPORT: two workers on one port would share its connections instead of one failing.
  http.set_socket_options([](socket_t fd) {
    const int one = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  });
  http.new_task_queue = [threads = config.threads] { return new httplib::ThreadPool(threads); };
  http.set_payload_max_length(64 * 1024);
  http.set_read_timeout(std::chrono::seconds(5));
  http.set_write_timeout(std::chrono::seconds(5));
  // An idle keep-alive connection occupies a thread of the pool: keep it short.
  http.set_keep_alive_timeout(1);
  http.set_tcp_nodelay(true);

  http.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
    MetricsText page;
    pages.metrics(page);
    response.set_content(page.text(), std::string(MetricsText::kContentType));
  });
  http.Get("/api/v1/status", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(pages.status() + "\n", "application/json");
  });
  http.Get("/api/v1/blocks", [this](const auto& request, auto& response) { list(request, response); });
  http.Get(R"(/api/v1/blocks/([^/]+))", [this](const auto& request, auto& response) { stat(request, response); });
  http.Delete(R"(/api/v1/blocks/([^/]+))", [this](const auto& request, auto& response) { remove(request, response); });
  http.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (response.body.empty())
      refuse(response, response.status, fmt::format("{} {}: no such page", request.method, request.path));
  });
}

void AdminServer::Impl::list(const httplib::Request& request, httplib::Response& response) const {
  StoreSet::Cursor cursor{};
  if (request.has_param("cursor")) {
    const auto given = parse_cursor(request.get_param_value("cursor"));
    if (!given) return refuse(response, 400, "cursor: not one that a listing has returned");
    cursor = *given;
  }
  std::size_t limit = kDefaultPage;
  if (request.has_param("limit")) {
    const auto given = number<std::size_t>(request.get_param_value("limit"));
    if (!given || *given == 0) return refuse(response, 400, "limit: not a positive number");
    limit = std::min(*given, kMaxPage);
  }
  const StoreSet::ListPage page = store->list(cursor, limit);
  json blocks = json::array();
  for (const StoreSet::Listed& block : page.blocks) blocks.push_back(block_json(block));
  json next = nullptr;
  if (page.next) next = fmt::format("{}.{}", page.next->directory, page.next->within);
  reply(response, {{"blocks", std::move(blocks)}, {"next", std::move(next)}});
}

void AdminServer::Impl::stat(const httplib::Request& request, httplib::Response& response) const {
  const auto id = number<std::int64_t>(request.matches[1].str());
  if (!id) return refuse(response, 400, "block id: not a number");
  const Result<StoreSet::Listed> block = store->stat(BlockId{*id});
  if (!block.ok()) return refuse(response, status_of(block.error()), block.error().message());
  reply(response, block_json(*block));
}

void AdminServer::Impl::remove(const httplib::Request& request, httplib::Response& response) const {
  const auto id = number<std::int64_t>(request.matches[1].str());
  if (!id) return refuse(response, 400, "block id: not a number");
  const Result<> removed = poller->run([&](NvmePoller& p) { return remove_block(*store, p, BlockId{*id}); });
  if (!removed.ok()) return refuse(response, status_of(removed.error()), removed.error().message());
  log_info("block {} deleted by {}", *id, request.remote_addr);
  reply(response, {{"id", *id}, {"deleted", true}});
}

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<AdminServer>> AdminServer::bind(Config config) {
  auto impl = std::make_unique<Impl>(std::move(config));
  impl->configure();
  const std::string& host = impl->config.hostname;
  const int port = impl->config.port;
  impl->bound_port = port != 0 ? port : impl->http.bind_to_any_port(host);
  const bool bound = port != 0 ? impl->http.bind_to_port(host, port) : impl->bound_port > 0;
  if (!bound) return bind_error(host, impl->config.port);
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

void AdminServer::serve(NvmePoller& poller, StoreSet& store, Pages pages) {
  impl_->poller = &poller;
  impl_->store = &store;
  impl_->pages = std::move(pages);
  impl_->thread = std::thread([server = impl_.get()] {
    server->http.listen_after_bind();
    server->over = true;
  });
  // stop() has no effect on a server that has not begun to listen.
  while (!impl_->http.is_running() && !impl_->over) std::this_thread::yield();
}

AdminServer::~AdminServer() { stop(); }

void AdminServer::stop() {
  if (!impl_->thread.joinable()) return;
  impl_->http.stop();
  impl_->thread.join();
}

std::uint16_t AdminServer::port() const { return static_cast<std::uint16_t>(impl_->bound_port); }

}  // namespace leap
