#include "worker/worker.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "rpc/component.h"
#include "worker/worker_metrics.h"

namespace leap {
namespace {

using nlohmann::json;

BlockServer::Config server_config(const WorkerConfig& config, SocketAddress listen, std::uint16_t web_port) {
  BlockServer::Config server;
  server.listen = std::move(listen);
  server.max_sessions = config.leap.max_sessions;
  server.header_memory = config.leap.header_memory;
  server.compatibility = config.compatibility;
  server.session.max_block_size = config.max_block_size;
  server.session.io_slow_threshold = config.io_slow_threshold;
  server.session.io_timeout = config.io_timeout;
  server.session.io_close_idle = config.io_close_idle;
  server.session.send_timeout = config.leap.send_timeout;
  server.session.max_header = static_cast<std::uint32_t>(config.leap.max_header);
  server.session.web_port = web_port;
  server.session.cluster_id = config.cluster_id;
  return server;
}

json space_json(const SpaceInfo& space) {
  return {{"capacity", space.capacity},   {"available", space.available},
          {"allocated", space.allocated}, {"reserved", space.reserved},
          {"free", space.free},           {"largest_free_extent", space.largest_free_extent},
          {"draining", space.draining},   {"quarantined", space.quarantined},
          {"blocks", space.blocks},       {"blocks_writing", space.blocks_writing}};
}

}  // namespace

Worker::Worker(const WorkerConfig& config, Parts parts)
    : config_(config), parts_(std::move(parts)), started_(Clock::system().now()) {}

Result<std::unique_ptr<Worker>> Worker::start(const WorkerConfig& config, Parts parts) {
  LEAP_TRY_VOID(config.validate());
  LEAP_CHECK(parts.store != nullptr && parts.net != nullptr && !parts.pollers.empty(), "the parts of a worker");
  std::unique_ptr<Worker> worker(new Worker(config, std::move(parts)));
  Result<SocketAddress> listen = SocketAddress::resolve(config.bind_host(), config.rpc_port);
  if (!listen.ok()) return std::move(listen).error().context("worker.hostname");
  LEAP_TRY(worker->admin_,
           AdminServer::bind(
               {.hostname = config.leap.web_hostname, .port = config.web_port, .threads = config.leap.web_threads}));
  auto server = BlockServer::start(server_config(config, *std::move(listen), worker->web_port()), *worker->parts_.net,
                                   worker->parts_.pollers, *worker->parts_.store);
  if (!server.ok()) return std::move(server).error().context("worker.rpc_port");
  worker->server_ = *std::move(server);
  worker->admin_->serve(*worker->parts_.pollers.front().poller, *worker->parts_.store,
                        {.metrics = [w = worker.get()](MetricsText& page) { w->write_metrics(page); },
                         .status = [w = worker.get()] { return w->status(); }});
  log_info("worker serves clients on {} and operators on {}:{}", worker->rpc_address(), config.leap.web_hostname,
           worker->web_port());
  return worker;
}

Worker::~Worker() { stop().ignore("the destructors below wait for what is left"); }

Result<> Worker::stop() {
  if (admin_ != nullptr) admin_->stop();
  if (server_ == nullptr) return {};
  return server_->stop(config_.leap.stop_timeout);
}

void Worker::write_metrics(MetricsText& page) const {
  write_session_metrics(page, *server_);
  write_storage_metrics(page, *parts_.store, config_.data_dirs.size());
  write_host_metrics(page);
  if (parts_.more_metrics) parts_.more_metrics(page);
}

std::string Worker::status() const {
  json directories = json::array();
  for (const StoreSet::Directory& directory : parts_.store->directories()) {
    const BlockStore& store = *directory.store;
    const RecoveryReport& recovery = store.recovery();
    directories.push_back({{"name", store.config().name},
                           {"storage_type", to_string(directory.type)},
                           {"healthy", store.healthy()},
                           {"space", space_json(store.space())},
                           {"recovery",
                            {{"blocks", recovery.blocks},
                             {"epoch", recovery.epoch},
                             {"clean_shutdown", recovery.clean_shutdown},
                             {"problems", recovery.problem_count}}}});
  }
  const json status{{"component", "worker"},
                    {"version", parts_.version},
                    {"release_version", rpc::kReleaseVersion},
                    {"cluster_id", config_.cluster_id},
                    {"rpc_address", rpc_address().to_string()},
                    {"uptime_seconds", (Clock::system().now() - started_).count() / 1'000'000'000},
                    {"pollers", parts_.pollers.size()},
                    {"sessions", server_->sessions()},
                    {"dma_memory", parts_.dma_memory},
                    {"space", space_json(parts_.store->space())},
                    {"directories", std::move(directories)}};
  return status.dump(2, ' ', false, json::error_handler_t::replace);
}

}  // namespace leap
