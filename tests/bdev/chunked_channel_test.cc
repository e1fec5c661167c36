// ChunkedChannel against a device that insists on alignment and answers out of order.

#include "bdev/chunked_channel.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "poller/dma_await.h"
#include "support/poller_thread.h"

namespace leap {
namespace {

using test::PollerThread;

struct Strict {
  BlockDeviceInfo info{.name = "strict",
                       .uuid = {},
                       .size = 1 << 20,
                       .block_size = 4096,
                       .optimal_io = 16384,
                       .volatile_write_cache = true,
                       .supports_discard = true,
                       .description = "test"};
  RangeLock lock;
  std::vector<std::byte> bytes = std::vector<std::byte>(1 << 20);
  std::size_t in_flight = 0;
  std::size_t in_flight_max = 0;
  std::size_t reads = 0;
  std::size_t writes = 0;
  std::uint64_t fail_at = UINT64_MAX;
  std::uint64_t lose_at = UINT64_MAX;  // as fail_at, for a write that may have been executed
};

class StrictChannel final : public ChunkedChannel {
 public:
  StrictChannel(NvmePoller& poller, DmaPool& pool, Strict& device)
      : ChunkedChannel(poller, pool, device.info, device.lock), device_(device) {}

 protected:
  Task<Result<DmaBuf>> read_aligned(std::uint64_t offset, DmaBuf buffer) override {
    co_await work(offset, buffer.size());
    ++device_.reads;
    if (offset <= device_.fail_at && device_.fail_at < offset + buffer.size()) co_return Error(Errc::kIo, "bad block");
    std::memcpy(buffer.data(), device_.bytes.data() + offset, buffer.size());
    co_return std::move(buffer);
  }
  Task<Result<>> write_aligned(std::uint64_t offset, DmaBuf data) override {
    co_await work(offset, data.size());
    ++device_.writes;
    if (offset <= device_.lose_at && device_.lose_at < offset + data.size())
      co_return Error(Errc::kClosed, "lost").maybe_executed().retryable_if(true);
    if (offset <= device_.fail_at && device_.fail_at < offset + data.size()) co_return Error(Errc::kIo, "bad block");
    std::memcpy(device_.bytes.data() + offset, data.data(), data.size());
    co_return Result<>{};
  }
  Task<Result<>> flush_all() override { co_return Result<>{}; }
  Task<Result<>> discard_aligned(std::uint64_t offset, std::uint64_t length) override {
    return write_zeroes_aligned(offset, length);
  }
  Task<Result<>> write_zeroes_aligned(std::uint64_t offset, std::uint64_t length) override {
    EXPECT_EQ((offset | length) % 4096, 0U);
    std::memset(device_.bytes.data() + offset, 0, length);
    co_return Result<>{};
  }

 private:
  Task<void> work(std::uint64_t offset, std::uint64_t size) {
    EXPECT_EQ((offset | size) % 4096, 0U);
    EXPECT_LE(size, 16384U);
    EXPECT_LE(offset + size, device_.bytes.size());
    device_.in_flight_max = std::max(device_.in_flight_max, ++device_.in_flight);
    const std::uint64_t turns = rng_.below(5);
    for (std::uint64_t i = 0; i < turns; ++i) co_await poller_.yield();
    --device_.in_flight;
  }

  Strict& device_;
  Rng rng_{7};
};

Task<Result<>> put(NvmePoller& poller, DmaPool& pool, BlockChannel& channel, std::uint64_t offset, std::size_t size,
                   int value) {
  LEAP_CO_TRY(DmaBuf data, co_await allocate(poller, pool, size));
  std::memset(data.data(), value, size);
  Result<> written = co_await channel.write(offset, std::move(data));
  co_return written;
}

Task<void> put_checked(NvmePoller& poller, DmaPool& pool, BlockChannel& channel, std::uint64_t offset, std::size_t size,
                       int value) {
  const Result<> written = co_await put(poller, pool, channel, offset, size, value);
  EXPECT_TRUE(written.ok());
}

class ChunkedChannelTest : public testing::Test {
 protected:
  template <typename Body>
  void on_poller(Body body) {
    thread_.run([&](NvmePoller& poller) -> Task<void> { return body(poller, thread_.pool(), device_); });
  }
  PollerThread thread_;
  Strict device_;
};

TEST_F(ChunkedChannelTest, KeepsSeveralChunksInFlight) {
  on_poller([](NvmePoller& p, DmaPool& pool, Strict& device) -> Task<void> {
    StrictChannel channel(p, pool, device);
    const Result<> written = co_await put(p, pool, channel, 0, 128 * 1024, 1);
    EXPECT_TRUE(written.ok());
    EXPECT_EQ(device.writes, 8U);
    EXPECT_GT(device.in_flight_max, 4U);
  });
}

// Writers that share a device block, all in flight at once: every byte must end up as its one writer left it.
TEST_F(ChunkedChannelTest, UnalignedNeighboursDoNotUndoEachOther) {
  on_poller([](NvmePoller& p, DmaPool& pool, Strict& device) -> Task<void> {
    StrictChannel channel(p, pool, device);
    constexpr std::size_t kPiece = 1000;
    constexpr int kPieces = 100;
    TaskGroup group(p);
    for (int i = 0; i < kPieces; ++i) {
      group.spawn(put_checked(p, pool, channel, 500 + static_cast<std::uint64_t>(i) * kPiece, kPiece, i + 1));
    }
    co_await group.wait();
    for (int i = 0; i < kPieces; ++i) {
      for (std::size_t k = 0; k < kPiece; ++k) {
        EXPECT_EQ(device.bytes[500 + static_cast<std::size_t>(i) * kPiece + k], static_cast<std::byte>(i + 1))
            << i << " " << k;
      }
    }
    EXPECT_EQ(device.bytes[499], std::byte{0});
    EXPECT_EQ(device.bytes[500 + kPieces * kPiece], std::byte{0});
  });
}

// An aligned, shared write must not slip between the read and the write of somebody's read-modify-write.
TEST_F(ChunkedChannelTest, AlignedSharedWritesTakeTurnsWithUnalignedOnes) {
  on_poller([](NvmePoller& p, DmaPool& pool, Strict& device) -> Task<void> {
    StrictChannel channel(p, pool, device);
    for (int round = 0; round < 50; ++round) {
      TaskGroup group(p);
      group.spawn(put_checked(p, pool, channel, 4096 + 100, 10, 0x11));
      group.spawn(put_checked(p, pool, channel, 4096, 4096, 0x22));
      co_await group.wait();
      // In arrival order: the aligned write came last and covers everything.
      EXPECT_EQ(device.bytes[4096 + 100], std::byte{0x22});
      EXPECT_EQ(device.bytes[4096 + 50], std::byte{0x22});
      co_await put_checked(p, pool, channel, 4096, 4096, 0);
    }
  });
}

TEST_F(ChunkedChannelTest, OneChunkThatMayHaveBeenExecutedMakesTheWholeSo) {
  device_.fail_at = 100;
  on_poller([](NvmePoller& p, DmaPool& pool, Strict& device) -> Task<void> {
    StrictChannel channel(p, pool, device);
    for (const std::uint64_t lost : {20'000U, 40'000U, 60'000U}) {
      device.lose_at = lost;
      DmaBuf data = *pool.try_allocate(65536);
      const Result<> written = co_await channel.write(0, std::move(data), BlockChannel::Sharing::kExclusive);
      EXPECT_FALSE(written.ok());
      EXPECT_TRUE(written.error().may_have_executed()) << lost;
      EXPECT_FALSE(written.error().retryable()) << "one chunk failed for good";
    }
  });
}

TEST_F(ChunkedChannelTest, OneBadChunkFailsTheWholeAndLosesNoBuffer) {
  device_.fail_at = 40'000;
  on_poller([](NvmePoller& p, DmaPool& pool, Strict& device) -> Task<void> {
    StrictChannel channel(p, pool, device);
    const auto read = co_await channel.read(0, *pool.try_allocate(65536));
    EXPECT_FALSE(read.ok());
    const Result<> written = co_await put(p, pool, channel, 1, 65536, 3);
    EXPECT_FALSE(written.ok());
    const auto elsewhere = co_await channel.read(100, *pool.try_allocate(5000));
    EXPECT_TRUE(elsewhere.ok());
  });
  EXPECT_EQ(thread_.pool().probe().bytes_in_use, 0U);
}

// "Not executed" is a promise about the whole: whoever believes it goes on as if nothing had changed.
TEST_F(ChunkedChannelTest, AWriteOfWhichSomePartWasDoneMayHaveExecuted) {
  on_poller([](NvmePoller& p, DmaPool& pool, Strict& device) -> Task<void> {
    StrictChannel channel(p, pool, device);
    device.fail_at = 40'000;
    const Result<> split = co_await put(p, pool, channel, 0, 65536, 1);
    EXPECT_TRUE(!split.ok() && split.error().may_have_executed());
    const Result<> windows = co_await put(p, pool, channel, 20'001, 40'000, 2);
    EXPECT_TRUE(!windows.ok() && windows.error().may_have_executed());
    const Result<> zeroes = co_await channel.write_zeroes(30'000, 10'001);
    EXPECT_TRUE(!zeroes.ok() && zeroes.error().may_have_executed());
    // The device's own word stands where there was only one step.
    const Result<> single = co_await put(p, pool, channel, 36'864, 4096, 3);
    EXPECT_TRUE(!single.ok() && !single.error().may_have_executed());
    const Result<> first_window = co_await put(p, pool, channel, 40'001, 100, 4);
    EXPECT_TRUE(!first_window.ok() && !first_window.error().may_have_executed());
  });
}

}  // namespace
}  // namespace leap
