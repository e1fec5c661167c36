// MemBdev and FileBdev (both engines, direct and buffered) keep what they are given, at any offset and length.

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "bdev/device_uri.h"
#include "bdev/file_bdev.h"
#include "poller/dma_await.h"
#include "poller/sync.h"
#include "support/poller_thread.h"

namespace leap {
namespace {

using test::PollerThread;
using testing::HasSubstr;

constexpr std::uint64_t kSize = 8ULL << 20;

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "leap-bdev-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// The byte that belongs at `offset` in version `generation`: no two neighbouring offsets or generations look alike.
std::byte stamp(std::uint64_t offset, unsigned generation) {
  const std::uint64_t mixed = (offset + 1) * 0x9e3779b97f4a7c15ULL + generation * 0xbf58476d1ce4e5b9ULL;
  return static_cast<std::byte>(mixed >> 56);
}

struct Model {
  std::vector<std::byte> bytes = std::vector<std::byte>(kSize);
};

Task<Result<>> random_io(NvmePoller& poller, DmaPool& pool, BlockChannel& channel, Model& model, std::uint64_t seed,
                         int rounds) {
  Rng rng(seed);
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t length = rng.below(3) == 0 ? 4096 * (1 + rng.below(64)) : 1 + rng.below(200'000);
    std::uint64_t offset = rng.below(kSize - length + 1);
    if (rng.below(2) == 0) offset = offset / 4096 * 4096;
    LEAP_CO_TRY(DmaBuf buffer, co_await allocate(poller, pool, length));
    const auto action = rng.below(8);
    if (action < 4) {
      for (std::uint64_t i = 0; i < length; ++i) {
        model.bytes[offset + i] = buffer.bytes()[i] = stamp(offset + i, static_cast<unsigned>(round));
      }
      LEAP_CO_TRY_VOID(co_await channel.write(offset, std::move(buffer)));
    } else if (action == 4) {
      std::fill_n(model.bytes.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
      LEAP_CO_TRY_VOID(co_await channel.write_zeroes(offset, length));
    } else if (action == 5) {
      LEAP_CO_TRY_VOID(co_await channel.flush());
    } else {
      LEAP_CO_TRY(DmaBuf read, co_await channel.read(offset, std::move(buffer)));
      if (!std::equal(read.bytes().begin(), read.bytes().end(),
                      model.bytes.begin() + static_cast<std::ptrdiff_t>(offset))) {
        co_return Error(Errc::kCorrupt, fmt::format("round {}: {} bytes at {} differ", round, length, offset));
      }
    }
  }
  co_return Result<>{};
}

class LocalDevice : public testing::TestWithParam<std::string> {
 protected:
  std::string uri() const {
    std::string text = GetParam();
    if (const auto at = text.find("FILE"); at != std::string::npos) text.replace(at, 4, dir_.file("device"));
    return text;
  }
  TempDir dir_;
};

TEST_P(LocalDevice, KeepsRandomReadsAndWritesOfAnyAlignment) {
  PollerThread thread;
  auto device = open_local_device(uri(), "m").value();
  EXPECT_EQ(device->info().size, kSize);
  Model model;
  const Result<> outcome = thread.run([&](NvmePoller& poller) -> Task<Result<>> {
    return [](NvmePoller& p, DmaPool& pool, BlockDevice& d, Model& m) -> Task<Result<>> {
      LEAP_CO_TRY(auto channel, d.open_channel(p, pool));
      Result<> done = co_await random_io(p, pool, *channel, m, 42, 400);
      co_return done;
    }(poller, thread.pool(), *device, model);
  });
  EXPECT_TRUE(outcome.ok()) << outcome.error().to_string();
  EXPECT_EQ(thread.pool().probe().bytes_in_use, 0U);
}

TEST_P(LocalDevice, RefusesWhatLiesPastTheEnd) {
  PollerThread thread;
  auto device = open_local_device(uri(), "m").value();
  thread.run([&](NvmePoller& poller) -> Task<void> {
    return [](NvmePoller& p, DmaPool& pool, BlockDevice& d) -> Task<void> {
      auto channel = d.open_channel(p, pool).value();
      for (const std::uint64_t offset : {kSize - 4095, kSize, UINT64_MAX - 4095, UINT64_MAX}) {
        const auto read = co_await channel->read(offset, *pool.try_allocate(4096));
        EXPECT_FALSE(read.ok()) << offset;
        const auto written = co_await channel->write(offset, *pool.try_allocate(4096));
        EXPECT_FALSE(written.ok()) << offset;
        const auto zeroed = co_await channel->write_zeroes(offset, 4096);
        EXPECT_FALSE(zeroed.ok()) << offset;
        const auto discarded = co_await channel->discard(offset, 4096);
        EXPECT_FALSE(discarded.ok()) << offset;
      }
      const auto last = co_await channel->read(kSize - 4096, *pool.try_allocate(4096));
      EXPECT_TRUE(last.ok());
    }(poller, thread.pool(), *device);
  });
}

INSTANTIATE_TEST_SUITE_P(All, LocalDevice,
                         testing::Values("mem:?size=8MiB", "mem:?size=8MiB&block=512",
                                         "file://FILE?size=8MiB&engine=threads",
                                         "file://FILE?size=8MiB&engine=io_uring",
                                         "file://FILE?size=8MiB&block=512&direct=0"));

TEST(FileBdev, KeepsContentsAcrossReopenAndRefusesASecondOpener) {
  const TempDir dir;
  PollerThread thread;
  const std::string uri = "file://" + dir.file("device") + "?size=8MiB";
  {
    auto device = open_local_device(uri, "").value();
    EXPECT_THAT(open_local_device(uri, "").error().message(), HasSubstr("in use by another process"));
    const Result<> written = thread.run([&](NvmePoller& poller) -> Task<Result<>> {
      return [](NvmePoller& p, DmaPool& pool, BlockDevice& d) -> Task<Result<>> {
        LEAP_CO_TRY(auto channel, d.open_channel(p, pool));
        LEAP_CO_TRY(DmaBuf data, co_await allocate(p, pool, 10'000));
        for (std::size_t i = 0; i < data.size(); ++i) data.bytes()[i] = stamp(i, 7);
        LEAP_CO_TRY_VOID(co_await channel->write(123, std::move(data)));
        Result<> flushed = co_await channel->flush();
        co_return flushed;
      }(poller, thread.pool(), *device);
    });
    ASSERT_TRUE(written.ok()) << written.error().to_string();
  }
  std::ifstream file(dir.file("device"), std::ios::binary);
  std::vector<char> bytes(11'000);
  file.read(bytes.data(), 11'000);
  for (std::size_t i = 0; i < 10'000; ++i) ASSERT_EQ(static_cast<std::byte>(bytes[123 + i]), stamp(i, 7)) << i;
  EXPECT_EQ(bytes[122], 0);
  EXPECT_EQ(bytes[10'123], 0);
}

TEST(FileBdev, DoesToAFileOnlyWhatItsUserAllows) {
  const TempDir dir;
  const std::string path = dir.file("device"), uri = "file://" + path + "?size=8MiB";
  EXPECT_EQ(open_local_device(uri, "", FileBdev::Fit::kAsIs).error().kind(), Errc::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(path)) << "looking for it must not make it";
  { EXPECT_EQ(open_local_device(uri, "", FileBdev::Fit::kMake).value()->info().size, kSize); }
  std::filesystem::resize_file(path, 5000);
  EXPECT_EQ(open_local_device(uri, "", FileBdev::Fit::kAsIs).error().kind(), Errc::kWrongState);
  const auto refused = open_local_device(uri, "", FileBdev::Fit::kMake);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kAlreadyExists);
  EXPECT_THAT(refused.error().message(), HasSubstr("is not empty"));
  EXPECT_EQ(std::filesystem::file_size(path), 5000u);
  EXPECT_TRUE(open_local_device(uri, "", FileBdev::Fit::kExtend).ok());
  EXPECT_EQ(std::filesystem::file_size(path), kSize);
}

TEST(FileBdev, NeverCutsAFileAndReportsOneThatWasCut) {
  const TempDir dir;
  PollerThread thread;
  const std::string path = dir.file("device");
  {
    auto device = open_local_device("file://" + path + "?size=8MiB", "").value();
    std::filesystem::resize_file(path, 4096);
    const std::string message = thread.run([&](NvmePoller& poller) -> Task<std::string> {
      return [](NvmePoller& p, DmaPool& pool, BlockDevice& d) -> Task<std::string> {
        auto channel = d.open_channel(p, pool).value();
        const auto read = co_await channel->read(1 << 20, *pool.try_allocate(4096));
        co_return read.ok() ? "no error" : read.error().message();
      }(poller, thread.pool(), *device);
    });
    EXPECT_THAT(message, HasSubstr("the file ends"));
  }
  std::filesystem::resize_file(path, kSize);
  EXPECT_THAT(open_local_device("file://" + path + "?size=4MiB", "").error().message(), HasSubstr("is not cut"));
  EXPECT_EQ(std::filesystem::file_size(path), kSize);
  EXPECT_EQ(open_local_device("file://" + path, "").value()->info().size, kSize);
}

}  // namespace
}  // namespace leap
