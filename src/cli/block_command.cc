// leap block put|get|stat|ls|rm: blocks of a worker, one at a time.

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/units.h"
#include "cli/command.h"
#include "client/admin_client.h"
#include "client/transfer.h"
#include "client/worker_info.h"

namespace leap::cli {
namespace {

struct BlockOptions {
  std::string worker = "127.0.0.1:8997";
  std::string web;
  std::int64_t id = 0;
  std::string capacity;
  bool json = false;
  Peer peer = Peer::kWorker;  ///< whom the verb is talking to
};

/// A connection to the worker on a poller of its own.
class Session {
 public:
  static Result<std::unique_ptr<Session>> open(const BlockOptions& options) {
    auto session = std::make_unique<Session>();
    LEAP_TRY(const SocketAddress address, SocketAddress::parse(options.worker));
    LEAP_TRY(session->poller_, NvmePoller::create({.name = "leap-client"}));
    LEAP_TRY_VOID(session->poller_->start());
    LEAP_TRY(session->connection_, session->poller_->run([&](NvmePoller& poller) {
      return WorkerConnection::connect(poller, Net::system(), address, {});
    }));
    return session;
  }
  ~Session() {
    if (poller_ == nullptr) return;
    // The connection belongs to the poller's thread.
    poller_->run([this](NvmePoller&) { return drop(*this); });
    poller_->stop();
  }
  [[nodiscard]] NvmePoller& poller() { return *poller_; }
  [[nodiscard]] WorkerConnection& connection() { return *connection_; }

 private:
  static Task<void> drop(Session& self) {
    self.connection_.reset();
    co_return;
  }
  std::unique_ptr<NvmePoller> poller_;
  std::unique_ptr<WorkerConnection> connection_;
};

/// The HTTP interface of the worker: --web, or where the worker says it is.
Result<AdminClient> admin_client(BlockOptions& options) {
  if (!options.web.empty()) {
    LEAP_TRY(const SocketAddress web, SocketAddress::parse(options.web));
    options.peer = Peer::kWorkerHttp;
    return AdminClient(web.host(), web.port());
  }
  LEAP_TRY(auto session, Session::open(options));
  LEAP_TRY(const WorkerInfo info,
           session->poller().run([&](NvmePoller&) { return fetch_worker_info(session->connection()); }));
  options.peer = Peer::kWorkerHttp;
  return AdminClient(session->connection().address().host(), info.web_port);
}

/// Standard input. Opening a block takes its capacity: a file's size is known, a pipe's has to be said, or what it
/// brings is collected first, up to a limit.
class Input {
 public:
  static constexpr std::uint64_t kMaxCollected = 1ULL << 30;

  static Result<Input> open(bool capacity_given) {
    Input input;
    struct stat status {};
    if (::fstat(STDIN_FILENO, &status) != 0) return Error::os(errno, "standard input");
    if (S_ISREG(status.st_mode)) {
      const off_t from = ::lseek(STDIN_FILENO, 0, SEEK_CUR);
      input.size_ = static_cast<std::uint64_t>(std::max<off_t>(status.st_size - std::max<off_t>(from, 0), 0));
    } else if (!capacity_given) {
      LEAP_TRY_VOID(input.collect());
    }
    return input;
  }

  /// Bytes to come, if that is known before they are read.
  [[nodiscard]] std::optional<std::uint64_t> size() const { return size_; }
  /// Bytes that read() has returned.
  [[nodiscard]] std::uint64_t delivered() const { return delivered_; }

  Result<std::size_t> read(std::span<std::byte> out) {
    std::size_t got = 0;
    if (collected_.empty()) {
      const std::uint64_t left = size_ ? *size_ - delivered_ : out.size();
      if (left == 0) return std::size_t{0};
      LEAP_TRY(got, read_some(out.first(std::min<std::uint64_t>(out.size(), left))));
      if (got == 0 && size_) return Error(Errc::kIo, "standard input ended before its size");
    } else if (delivered_ < *size_) {
      const auto part = std::span(collected_[delivered_ / kStep]).subspan(delivered_ % kStep);
      got = std::min<std::uint64_t>({out.size(), part.size(), *size_ - delivered_});
      std::copy_n(part.begin(), got, out.begin());
    }
    delivered_ += got;
    return got;
  }

 private:
  static constexpr std::size_t kStep = 1 << 20;

  static Result<std::size_t> read_some(std::span<std::byte> out) {
    for (;;) {
      const ssize_t got = ::read(STDIN_FILENO, out.data(), out.size());
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) return Error::os(errno, "read standard input");
    }
  }

  Result<> collect() {
    std::uint64_t size = 0;
    for (;;) {
      if (size % kStep == 0) collected_.emplace_back(kStep);
      LEAP_TRY(const std::size_t got, read_some(std::span(collected_.back()).subspan(size % kStep)));
      if (got == 0) break;
      size += got;
      if (size > kMaxCollected) {
        return Error(Errc::kInvalidArgument,
                     fmt::format("standard input is a pipe that brings more than {}: say with --capacity how large the "
                                 "block may become, or redirect a file",
                                 format_bytes(kMaxCollected)));
      }
    }
    size_ = size;
    return {};
  }

  std::optional<std::uint64_t> size_;
  std::uint64_t delivered_ = 0;
  std::vector<std::vector<std::byte>> collected_;  // pieces of kStep bytes
};

Result<> write_fully(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::os(errno, "write standard output");
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

Result<> put(BlockOptions& options) {
  LEAP_TRY(Input input, Input::open(!options.capacity.empty()));
  std::uint64_t capacity = std::max<std::uint64_t>(input.size().value_or(0), 1);
  if (!options.capacity.empty()) {
    LEAP_TRY(capacity, parse_size(options.capacity));
  }
  if (capacity < input.size().value_or(0)) {
    return Error(Errc::kInvalidArgument, fmt::format("--capacity {} is less than the {} on standard input",
                                                     options.capacity, format_bytes(*input.size())));
  }
  LEAP_TRY(auto session, Session::open(options));
  const BlockSource source = [&input](std::span<std::byte> out) { return input.read(out); };
  RemoteWriteOptions write;
  write.id = BlockId(options.id);
  write.capacity = capacity;
  // The block is what is on standard input, whatever it held before.
  write.resize = RemoteResize{.length = 0, .truncate = true};
  LEAP_TRY(const std::uint64_t stored,
           session->poller().run([&](NvmePoller&) { return put_block(session->connection(), write, source); }));
  if (stored != input.delivered() || stored != input.size().value_or(stored))
    return Error(Errc::kIo, fmt::format("stored {} of {} bytes", stored, input.size().value_or(input.delivered())));
  return {};
}

Result<> get(BlockOptions& options) {
  LEAP_TRY(auto session, Session::open(options));
  std::uint64_t seen = 0;
  const BlockSink sink = [&seen](std::span<const std::byte> bytes) {
    seen += bytes.size();
    return write_fully(bytes);
  };
  LEAP_TRY(const std::uint64_t length, session->poller().run([&](NvmePoller&) {
    return get_whole_block(session->connection(), BlockId(options.id), sink);
  }));
  if (seen != length) return Error(Errc::kIo, fmt::format("{} of {} bytes came back", seen, length));
  return {};
}

/// Over the RPC port, which remote hosts reach; over HTTP when that is asked for.
Result<RemoteBlock> find_block(BlockOptions& options) {
  const BlockId id(options.id);
  if (!options.web.empty()) {
    LEAP_TRY(AdminClient admin, admin_client(options));
    return admin.stat(id);
  }
  LEAP_TRY(auto session, Session::open(options));
  return session->poller().run([&](NvmePoller&) { return fetch_block_info(session->connection(), id); });
}

nlohmann::ordered_json to_json(const RemoteBlock& block) {
  const BlockInfo& info = block.info;
  return {{"id", info.id.value()},
          {"state", to_string(info.state)},
          {"length", info.length},
          {"capacity", info.capacity},
          {"generation", info.generation},
          {"allocated", info.allocated_bytes},
          {"storage_type", block.storage_type},
          {"rewriting", info.rewriting},
          {"damaged", info.damaged}};
}

Result<> stat(BlockOptions& options) {
  LEAP_TRY(const RemoteBlock block, find_block(options));
  if (options.json) {
    fmt::print("{}\n", to_json(block).dump());
    return {};
  }
  const BlockInfo& info = block.info;
  fmt::print("block       {}\nstate       {}{}{}\nlength      {}\nallocated   {}\ngeneration  {}\nstorage     {}\n",
             info.id.value(), to_string(info.state), info.rewriting ? ", being rewritten" : "",
             info.damaged ? ", DAMAGED" : "", info.length, info.allocated_bytes, info.generation, block.storage_type);
  return {};
}

Result<> list(BlockOptions& options) {
  LEAP_TRY(AdminClient admin, admin_client(options));
  if (!options.json) fmt::print("{:>20} {:>14} {:>14} {:<10} {}\n", "ID", "LENGTH", "ALLOCATED", "STATE", "STORAGE");
  constexpr std::size_t kPage = 1000;
  for (std::string cursor;;) {
    LEAP_TRY(const AdminClient::Page page, admin.list(cursor, kPage));
    for (const RemoteBlock& block : page.blocks) {
      if (options.json)
        fmt::print("{}\n", to_json(block).dump());
      else
        fmt::print("{:>20} {:>14} {:>14} {:<10} {}\n", block.info.id.value(), block.info.length,
                   block.info.allocated_bytes, to_string(block.info.state), block.storage_type);
    }
    if (!page.next) return {};
    cursor = *page.next;
  }
}

Result<> remove(BlockOptions& options) {
  LEAP_TRY(AdminClient admin, admin_client(options));
  return admin.remove(BlockId(options.id));
}

void add_verb(CLI::App& block, Chosen& chosen, const char* name, const char* help, Result<> (*verb)(BlockOptions&),
              bool needs_id) {
  auto* command = block.add_subcommand(name, help);
  auto options = std::make_shared<BlockOptions>();
  command->add_option("--worker", options->worker, "the worker's RPC address, HOST:PORT")->capture_default_str();
  if (needs_id)
    command->add_option("--id", options->id, "block id, a positive number")
        ->required()
        ->check(CLI::Range(std::int64_t{1}, INT64_MAX));
  if (verb == &put)
    command->add_option("--capacity", options->capacity,
                        "bytes the block may grow to (default: what is on standard input, of a pipe at most 1 GiB)");
  else if (verb != &get)
    command->add_option("--web", options->web, "the worker's HTTP address (default: as the worker says)");
  if (verb == &stat || verb == &list) command->add_flag("--json", options->json, "one JSON object per block");
  command->callback([&chosen, options, verb] {
    chosen.action = [options, verb] {
      const Result<> done = verb(*options);
      return done.ok() ? 0 : fail(done.error(), options->peer);
    };
  });
}

}  // namespace

void add_block(CLI::App& app, Chosen& chosen) {
  auto* block = app.add_subcommand("block", "Store, read, list and delete blocks of a worker");
  block->require_subcommand(1);
  add_verb(*block, chosen, "put", "Store standard input as a block, durably", &put, true);
  add_verb(*block, chosen, "get", "Write a block to standard output", &get, true);
  add_verb(*block, chosen, "stat", "Show what is known about a block", &stat, true);
  add_verb(*block, chosen, "ls", "List all blocks", &list, false);
  add_verb(*block, chosen, "rm", "Delete a block, durably", &remove, true);
}

}  // namespace leap::cli
