// A worker on two pollers over a device in memory whose every byte was 0xA5: what a previous tenant left must never
// show.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/uuid.h"
#include "bdev/mem_bdev.h"
#include "support/poller_thread.h"
#include "worker/wire_client.h"
#include "worker/worker.h"

namespace leap::testing {

inline constexpr std::int64_t kMebi = 1 << 20;

/// `size` bytes that say which block, position and generation they belong to, every 8 bytes.
inline Bytes stamped(std::int64_t id, std::uint64_t offset, std::size_t size, std::uint64_t generation = 1) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint64_t at = offset + i;
    std::uint64_t word =
        static_cast<std::uint64_t>(id) * 0x9E3779B97F4A7C15ULL ^ (at / 8) * 0xC2B2AE3D27D4EB4FULL ^ generation << 56U;
    word ^= word >> 29U;
    bytes[i] = static_cast<std::byte>(word >> (8 * (at % 8)));
  }
  return bytes;
}

/// The first position where they differ, for a message that says more than "not equal".
inline ::testing::AssertionResult same(std::span<const std::byte> got, std::span<const std::byte> wanted) {
  if (got.size() != wanted.size()) {
    return ::testing::AssertionFailure() << got.size() << " bytes instead of " << wanted.size();
  }
  const auto [a, b] = std::ranges::mismatch(got, wanted);
  if (a == got.end()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "differs at " << (a - got.begin()) << ": " << std::to_integer<int>(*a)
                                       << " instead of " << std::to_integer<int>(*b);
}

/// Waits, without a fixed time, until `condition` holds; false after 20 s.
template <typename Condition>
bool eventually(Condition condition) {
  const TimePoint give_up = Clock::system().now() + std::chrono::seconds(20);
  while (!condition()) {
    if (Clock::system().now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

/// Everything from the device to the ports. Stopped in order by its destructor, as a worker is on SIGTERM.
class WorkerEnv {
 public:
  struct Options {
    std::uint64_t device_size = 48ULL << 20;
    std::uint64_t pool_bytes = 32ULL << 20;  ///< of each poller
    WorkerConfig config{};
  };

  WorkerEnv() : WorkerEnv(Options{}) {}
  explicit WorkerEnv(Options options) : config_(std::move(options.config)) {
    dir_ = std::filesystem::temp_directory_path() / ("leap-worker-" + Uuid::random().to_string());
    std::filesystem::create_directories(dir_);
    for (auto& poller : pollers_) poller = std::make_unique<test::PollerThread>(options.pool_bytes);
    device_ = MemBdev::create({.size = options.device_size, .name = "mem-" + dir_.filename().string()}).value();
    std::memset(device_->mapped().data(), 0xA5, device_->mapped().size());
    const auto formatted = BlockStore::format(
        contexts()[0], *device_,
        {.meta_dir = meta_dir(), .cluster_id = "test", .worker_id = 1, .storage_id = {}, .force = true});
    EXPECT_TRUE(formatted.ok()) << formatted.error().to_string();
    config_.hostname = "127.0.0.1";
    config_.rpc_port = 0;
    config_.web_port = 0;
    config_.cluster_id = "test";
    start();
  }
  ~WorkerEnv() {
    stop();
    pollers_ = {};
    std::filesystem::remove_all(dir_);
  }

  void start() {
    BlockStore::Config store;
    store.name = "mem";
    store.meta_dir = meta_dir();
    store.cluster_id = "test";
    store_ = std::make_unique<StoreSet>();
    store_->add(StorageType::kSpdkDisk, BlockStore::open(store, *device_, contexts()).value()).value();
    worker_ = Worker::start(config_, parts()).value();
  }
  void stop() {
    if (worker_ == nullptr) return;
    worker_->stop().value();
    worker_.reset();
    store_->close().value();
    store_.reset();
  }

  std::vector<PollerContext> contexts() {
    std::vector<PollerContext> all;
    for (auto& poller : pollers_) all.push_back({&poller->poller(), &poller->pool()});
    return all;
  }
  Worker::Parts parts() { return {.pollers = contexts(), .store = store_.get(), .version = "test"}; }
  std::string meta_dir() const { return (dir_ / "meta").string(); }

  WireClient connect() { return WireClient(worker_->rpc_address()); }
  Worker& worker() { return *worker_; }
  StoreSet& store() { return *store_; }
  [[nodiscard]] const WorkerConfig& config() const { return config_; }
  /// Bytes of the device that are taken or promised.
  [[nodiscard]] std::uint64_t taken() const { return store_->space().allocated + store_->space().reserved; }
  [[nodiscard]] std::size_t buffers_in_use() {
    std::size_t bytes = 0;
    for (auto& poller : pollers_) {
      bytes += poller->run([&](NvmePoller&) { return in_use(poller->pool()); });
    }
    return bytes;
  }

 private:
  static Task<std::size_t> in_use(DmaPool& pool) { co_return pool.probe().bytes_in_use; }

  WorkerConfig config_;
  std::filesystem::path dir_;
  std::array<std::unique_ptr<test::PollerThread>, 2> pollers_;
  std::unique_ptr<MemBdev> device_;
  std::unique_ptr<StoreSet> store_;
  std::unique_ptr<Worker> worker_;
};

/// Tests that share one worker: each takes its own block ids, and leaves no write session open.
class WorkerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { env_ = std::make_unique<WorkerEnv>(WorkerEnv::Options{.device_size = 160ULL << 20}); }
  static void TearDownTestSuite() { env_.reset(); }

  static WorkerEnv& env() { return *env_; }
  static WireClient connect() { return env_->connect(); }
  static std::int64_t new_id() { return ++last_id_; }

 private:
  static inline std::unique_ptr<WorkerEnv> env_;
  static inline std::int64_t last_id_ = (std::int64_t{1001} << 24U);
};

}  // namespace leap::testing
