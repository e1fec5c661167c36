// StoreFixture: a store on a TestDevice, two pollers, a metadata directory of its own; crashes and reopens on request.
//
// Contents are stamped: every 8 bytes depend on block id, version and position, so that a byte from the wrong place is
// seen.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "../support/poller_thread.h"
#include "store/block_store.h"
#include "test_device.h"

namespace leap::test {

inline constexpr std::uint64_t kKi = 1024;
inline constexpr std::uint64_t kMi = 1024 * kKi;

/// The bytes [offset, offset + size) of version `version` of block `id`.
inline std::vector<std::byte> stamped(std::int64_t id, std::uint64_t version, std::uint64_t offset, std::size_t size) {
  std::vector<std::byte> out(size);
  for (std::size_t i = 0; i < size;) {
    const std::uint64_t at = offset + i;
    std::uint64_t word =
        (static_cast<std::uint64_t>(id) * 0x9e3779b97f4a7c15) ^ (version << 56) ^ (at / 8 * 0xbf58476d1ce4e5b9);
    word ^= word >> 31;
    const std::size_t within = at % 8;
    const std::size_t n = std::min<std::size_t>(8 - within, size - i);
    std::memcpy(out.data() + i, reinterpret_cast<const std::byte*>(&word) + within, n);
    i += n;
  }
  return out;
}

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "leap-store-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Tasks the tests run on a poller. Free functions: their parameters live in their frames.

inline Task<Result<BlockInfo>> put_block(BlockStore& store, NvmePoller& poller, std::int64_t id,
                                         std::vector<std::byte> data, std::size_t frame = 128 * kKi) {
  LEAP_CO_TRY(auto writer,
              co_await store.open_writer(poller, BlockId{id}, {.capacity = std::max<std::size_t>(data.size(), 1)}));
  for (std::size_t at = 0; at < data.size(); at += frame) {
    const std::size_t n = std::min(frame, data.size() - at);
    LEAP_CO_TRY_VOID(co_await writer->write(std::span(data).subspan(at, n)));
  }
  co_return co_await writer->complete(data.size());
}

inline Task<Result<std::vector<std::byte>>> read_range(BlockReader& reader, std::uint64_t offset, std::size_t size,
                                                       std::size_t step = kMi) {
  std::vector<std::byte> out;
  while (out.size() < size) {
    const std::size_t n = std::min(step, size - out.size());
    LEAP_CO_TRY(const ReadChunk chunk, co_await reader.read(offset + out.size(), n));
    if (chunk.size() != n) co_return Error(Errc::kInternal, "short chunk");
    for (const DmaBuf& piece : chunk.pieces()) out.insert(out.end(), piece.bytes().begin(), piece.bytes().end());
  }
  co_return out;
}

inline Task<Result<std::vector<std::byte>>> get_block(BlockStore& store, NvmePoller& poller, std::int64_t id) {
  LEAP_CO_TRY(const auto reader, co_await store.open_reader(poller, BlockId{id}));
  co_return co_await read_range(*reader, 0, reader->length());
}

class StoreFixture : public testing::Test {
 protected:
  explicit StoreFixture(std::uint64_t device_size = 64 * kMi) : device_(std::make_unique<TestDevice>(device_size)) {
    config_.meta_dir = dir_.path() + "/meta";
    config_.cluster_id = "test-cluster";
    config_.close_timeout = std::chrono::seconds(5);
  }
  ~StoreFixture() override { store_.reset(); }

  [[nodiscard]] NvmePoller& poller(std::size_t i = 0) { return threads_[i].poller(); }
  [[nodiscard]] DmaPool& pool(std::size_t i = 0) { return threads_[i].pool(); }
  [[nodiscard]] std::vector<PollerContext> contexts() {
    std::vector<PollerContext> all;
    for (PollerThread& thread : threads_) all.push_back({&thread.poller(), &thread.pool()});
    return all;
  }

  Result<Superblock> format(bool force = false) {
    return BlockStore::format(
        contexts()[0], *device_,
        {.meta_dir = config_.meta_dir, .cluster_id = config_.cluster_id, .worker_id = 7, .force = force});
  }
  Result<> try_open() {
    LEAP_TRY(store_, BlockStore::open(config_, *device_, contexts()));
    return {};
  }
  void open() {
    const Result<> opened = try_open();
    ASSERT_TRUE(opened.ok()) << opened.error().to_string();
  }
  void make() {
    const auto formatted = format();
    ASSERT_TRUE(formatted.ok()) << formatted.error().to_string();
    open();
  }
  void close() {
    const Result<> closed = store_->close();
    EXPECT_TRUE(closed.ok()) << closed.error().to_string();
    store_.reset();
  }
  /// The process dies, and with `power` the machine: what the device had not flushed is gone.
  void crash(bool power = true, double survival = 0.0) {
    store_.reset();
    if (power) device_->lose_power(rng_, survival);
  }

  /// Runs make(store, poller) -> Task<T> on poller `on`.
  template <typename Make>
  auto run(Make make, std::size_t on = 0) {
    return threads_[on].run([this, make = std::move(make)](NvmePoller& p) mutable { return make(*store_, p); });
  }
  Result<BlockInfo> put(std::int64_t id, std::vector<std::byte> data, std::size_t frame = 128 * kKi,
                        std::size_t on = 0) {
    return run([&](BlockStore& s, NvmePoller& p) { return put_block(s, p, id, data, frame); }, on);
  }
  Result<std::vector<std::byte>> get(std::int64_t id, std::size_t on = 0) {
    return run([&](BlockStore& s, NvmePoller& p) { return get_block(s, p, id); }, on);
  }
  Result<> remove(std::int64_t id) {
    return run([&](BlockStore& s, NvmePoller& p) { return s.remove(p, BlockId{id}); });
  }
  void put_stamped(std::int64_t id, std::uint64_t version, std::size_t size) {
    const Result<BlockInfo> info = put(id, stamped(id, version, 0, size));
    ASSERT_TRUE(info.ok()) << info.error().to_string();
    ASSERT_EQ(info->length, size);
  }
  void expect_stamped(std::int64_t id, std::uint64_t version, std::size_t size) {
    const auto content = get(id);
    ASSERT_TRUE(content.ok()) << "block " << id << ": " << content.error().to_string();
    EXPECT_TRUE(*content == stamped(id, version, 0, size))
        << "block " << id << " has other content than version " << version;
  }
  void expect_gone(std::int64_t id) {
    const auto content = get(id);
    ASSERT_FALSE(content.ok()) << "block " << id;
    EXPECT_EQ(content.error().kind(), Errc::kNotFound);
  }
  /// Everything allocated belongs to a committed block, nothing is promised.
  void expect_space_adds_up() {
    const SpaceInfo space = store_->space();
    std::uint64_t blocks = 0, bytes = 0;
    for (const BlockInfo& info : store_->list(0, SIZE_MAX).blocks) {
      EXPECT_EQ(info.state, BlockState::kFinalized);
      bytes += info.allocated_bytes;
      ++blocks;
    }
    EXPECT_EQ(space.blocks, blocks);
    EXPECT_EQ(space.blocks_writing, 0u);
    EXPECT_EQ(space.allocated, bytes + space.quarantined + space.draining);
    EXPECT_EQ(space.allocated + space.free, space.capacity);
    EXPECT_EQ(space.reserved, 0u);
  }

  TempDir dir_;
  Rng rng_{42};
  std::unique_ptr<TestDevice> device_;
  std::array<PollerThread, 2> threads_{PollerThread(64 * kMi, {.name = "p0"}), PollerThread(64 * kMi, {.name = "p1"})};
  BlockStore::Config config_;
  std::unique_ptr<BlockStore> store_;
};

}  // namespace leap::test
