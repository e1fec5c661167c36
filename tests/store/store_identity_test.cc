// Whose device is this? Formatting, opening, and everything that must be refused.
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include <unistd.h>

#include "store/lease.h"
#include "store/meta_store.h"
#include "store/superblock.h"
#include "store_fixture.h"

namespace leap::test {
namespace {

using testing::HasSubstr;

Superblock sample() {
  BlockDeviceInfo device;
  device.name = "d";
  device.uuid = Uuid::from_name("d");
  device.size = 100 * kMi + 777;
  device.block_size = 512;
  return make_superblock(device, "cluster", 9, Uuid::from_name("storage")).value();
}

std::vector<std::byte> encoded(const Superblock& superblock) {
  std::vector<std::byte> bytes(Superblock::kBytes);
  encode_superblock(superblock, std::span<std::byte, Superblock::kBytes>(bytes));
  return bytes;
}

TEST(SuperblockCodec, RoundTripsAndNoticesEveryFlippedBit) {
  const Superblock superblock = sample();
  const std::vector<std::byte> good = encoded(superblock);
  EXPECT_EQ(decode_superblock(good).value(), superblock);
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::vector<std::byte> bad = good;
    bad[byte] ^= std::byte{0x10};
    EXPECT_FALSE(decode_superblock(bad).ok()) << "byte " << byte;
  }
  EXPECT_EQ(decode_superblock(std::vector<std::byte>(4096)).error().kind(), Errc::kNotFound);
  EXPECT_EQ(decode_superblock(std::span(good).first(4095)).error().kind(), Errc::kCorrupt);
}

TEST(SuperblockCodec, RefusesANewerFormatAndImpossibleGeometry) {
  Superblock superblock = sample();
  superblock.version = 2;
  EXPECT_EQ(decode_superblock(encoded(superblock)).error().kind(), Errc::kUnsupported);
  superblock = sample();
  superblock.data_end = superblock.device_size;
  EXPECT_EQ(decode_superblock(encoded(superblock)).error().kind(), Errc::kCorrupt);
  superblock = sample();
  superblock.data_start = 4096;
  EXPECT_EQ(decode_superblock(encoded(superblock)).error().kind(), Errc::kCorrupt);
  superblock = sample();
  superblock.block_size = 8192;
  EXPECT_EQ(decode_superblock(encoded(superblock)).error().kind(), Errc::kCorrupt);
}

TEST(LeaseCodec, RoundTripsAndJudgesItsHolder) {
  const LeaseHolder self = read_lease_holder();
  EXPECT_FALSE(self.boot_id.empty());
  EXPECT_NE(self.start_time, 0u);
  LeaseRecord record{true, Uuid::random(), self, 5, 5000};
  std::vector<std::byte> page(LeaseRecord::kBytes);
  encode_lease(record, std::span<std::byte, LeaseRecord::kBytes>(page));
  EXPECT_EQ(decode_lease(page).value(), record);
  EXPECT_FALSE(decode_lease(std::vector<std::byte>(LeaseRecord::kBytes))->held);

  EXPECT_EQ(judge_lease(record, self), Liveness::kDead) << "this process holds no such lease";
  record.holder.pid = 1;
  record.holder.start_time += 12345;
  EXPECT_EQ(judge_lease(record, self), Liveness::kDead) << "another process has that number now";
  record.holder.boot_id = "another kernel";
  EXPECT_EQ(judge_lease(record, self), Liveness::kUnknown);
  record.held = false;
  EXPECT_EQ(judge_lease(record, self), Liveness::kDead);
}

class StoreIdentity : public StoreFixture {};

TEST_F(StoreIdentity, FormattingIsExplicitAndNotRepeatedByAccident) {
  const Result<> unformatted = try_open();
  ASSERT_FALSE(unformatted.ok());
  EXPECT_EQ(unformatted.error().kind(), Errc::kNotFound);
  EXPECT_THAT(unformatted.error().message(), HasSubstr("not formatted"));
  make();
  put_stamped(1, 0, 1000);
  close();
  const auto again = format();
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().kind(), Errc::kAlreadyExists);
  open();
  expect_stamped(1, 0, 1000);
  EXPECT_EQ(format(true).error().kind(), Errc::kBusy) << "an open store is not formatted, force or not";
  close();
  ASSERT_TRUE(format(true).ok());
  open();
  expect_gone(1);
  EXPECT_EQ(store_->space().allocated, 0u);
}

TEST_F(StoreIdentity, ForeignDataWhereTheSuperblocksGoIsNotFormattedWithoutForce) {
  const std::uint64_t size = device_->info().size;
  const std::vector<std::byte> one(1, std::byte{1});
  for (const std::uint64_t at :
       {std::uint64_t{510}, std::uint64_t{65'600}, kMi - 1, size - Superblock::kArea, size - 1}) {
    SCOPED_TRACE(at);
    device_ = std::make_unique<TestDevice>(size);
    device_->overwrite(at, one);
    const auto before = device_->peek(0, size);
    const auto refused = format();
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind(), Errc::kAlreadyExists);
    EXPECT_THAT(refused.error().message(), HasSubstr("is not empty"));
    EXPECT_THAT(refused.error().message(), HasSubstr("at offset " + std::to_string(at)));
    EXPECT_TRUE(device_->peek(0, size) == before) << "nothing may be touched";
  }
  EXPECT_TRUE(format(true).ok()) << "force discards it";
}

TEST_F(StoreIdentity, AnotherClustersDeviceIsRefused) {
  make();
  close();
  config_.cluster_id = "other";
  const Result<> refused = try_open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kWrongState);
  EXPECT_THAT(refused.error().message(), HasSubstr("belongs to cluster 'test-cluster', this worker to 'other'"));
}

TEST_F(StoreIdentity, EitherCopyOfTheSuperblockIsEnoughAndTheOtherIsRepaired) {
  make();
  put_stamped(1, 0, 1000);
  close();
  const std::uint64_t last = device_->info().size - Superblock::kArea;
  for (const std::uint64_t at : {std::uint64_t{0}, last}) {
    device_->flip_byte(at + 100);
    open();
    EXPECT_TRUE(store_->recovery().superblock_repaired);
    expect_stamped(1, 0, 1000);
    close();
    EXPECT_TRUE(decode_superblock(device_->peek(at, Superblock::kBytes)).ok());
  }
  device_->flip_byte(100);
  device_->flip_byte(last + 100);
  EXPECT_EQ(try_open().error().kind(), Errc::kCorrupt);
  config_.meta_dir += "-of-another";
  EXPECT_EQ(format().error().kind(), Errc::kCorrupt) << "damaged is not empty";
}

TEST_F(StoreIdentity, AShrunkDeviceIsRefused) {
  make();
  close();
  device_->shrink(32 * kMi);
  const Result<> refused = try_open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kWrongState);
  EXPECT_THAT(refused.error().message(), HasSubstr("shrunk"));
}

TEST_F(StoreIdentity, ATooSmallDeviceIsNotFormatted) {
  device_ = std::make_unique<TestDevice>(2 * kMi);
  const auto refused = format();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kInvalidArgument);
  EXPECT_THAT(refused.error().message(), HasSubstr("too small"));
}

TEST_F(StoreIdentity, ASecondOpenOfTheDeviceIsRefused) {
  make();
  auto twice = BlockStore::open(config_, *device_, contexts());
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().kind(), Errc::kBusy);
  EXPECT_THAT(twice.error().message(), HasSubstr("in use by process"));
}

TEST_F(StoreIdentity, ASecondOpenOfTheMetadataDirectoryIsRefused) {
  make();
  auto other = BdevMetaStore::open({.dir = config_.meta_dir});
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().kind(), Errc::kBusy);
  EXPECT_THAT(other.error().message(), HasSubstr("in use by another worker"));
}

TEST_F(StoreIdentity, ACrashLeavesNoLeaseBehindThatBlocks) {
  make();
  put_stamped(1, 0, 10);
  crash();
  open();
  expect_stamped(1, 0, 10);
}

// A lease of another machine: watched for the timeout, refused if it moves, taken if it stands still.
class ForeignLease : public StoreFixture {
 protected:
  void leave_foreign_lease() {
    config_.lease_heartbeat = std::chrono::milliseconds(10);
    config_.lease_timeout = std::chrono::milliseconds(60);
    make();
    close();
    write_lease(1);
  }
  void write_lease(std::uint64_t counter) {
    LeaseRecord record;
    record.held = true;
    record.token = Uuid::from_name("foreign");
    record.holder = {"elsewhere", "another-boot-id", 1, 4711, 99};
    record.counter = counter;
    record.heartbeat_ms = 10;
    std::vector<std::byte> page(LeaseRecord::kBytes);
    encode_lease(record, std::span<std::byte, LeaseRecord::kBytes>(page));
    device_->overwrite(Superblock::kLeaseOffset, page);
  }
};

TEST_F(ForeignLease, OfALivingProcessOfThisMachineIsRefusedAtOnce) {
  make();
  close();
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  ASSERT_GT(child, 0);
  std::ifstream stat_file("/proc/" + std::to_string(child) + "/stat");
  std::string stat((std::istreambuf_iterator<char>(stat_file)), {});
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  LeaseRecord record{true, Uuid::from_name("foreign"), read_lease_holder(), 1, 5000};
  record.holder.pid = static_cast<std::uint64_t>(child);
  record.holder.start_time = std::stoull(field);
  std::vector<std::byte> page(LeaseRecord::kBytes);
  encode_lease(record, std::span<std::byte, LeaseRecord::kBytes>(page));
  device_->overwrite(Superblock::kLeaseOffset, page);
  const Result<> refused = try_open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kBusy);
  EXPECT_THAT(refused.error().message(), HasSubstr("process " + std::to_string(child)));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  open();
}

TEST_F(ForeignLease, IsTakenOverWhenItStandsStill) {
  leave_foreign_lease();
  open();
  put_stamped(1, 0, 10);
}

TEST_F(ForeignLease, IsRespectedWhileItMoves) {
  leave_foreign_lease();
  std::atomic<bool> stop{false};
  std::thread holder([&] {
    for (std::uint64_t counter = 2; !stop; ++counter) {
      write_lease(counter);
      std::this_thread::yield();
    }
  });
  const Result<> refused = try_open();
  stop = true;
  holder.join();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kBusy);
  EXPECT_THAT(refused.error().message(), HasSubstr("process 4711 on elsewhere"));
}

TEST_F(ForeignLease, ALostLeaseStopsCommits) {
  config_.lease_heartbeat = std::chrono::milliseconds(2);
  config_.lease_timeout = std::chrono::milliseconds(20);
  make();
  put_stamped(1, 0, 10);
  EXPECT_TRUE(store_->healthy());
  write_lease(7);
  run([](BlockStore& store, NvmePoller& poller) {
    return [](BlockStore& s, NvmePoller& p) -> Task<void> {
      while (s.healthy()) co_await p.sleep_for(std::chrono::milliseconds(1));
    }(store, poller);
  });
  EXPECT_EQ(put(2, stamped(2, 0, 0, 10)).error().kind(), Errc::kBusy);
  EXPECT_EQ(remove(1).error().kind(), Errc::kBusy);
  expect_stamped(1, 0, 10);
  close();
  EXPECT_EQ(decode_lease(device_->peek(Superblock::kLeaseOffset, LeaseRecord::kBytes))->counter, 7u)
      << "not ours to release";
}

TEST_F(ForeignLease, ALostLeaseStopsDataToo) {
  config_.lease_heartbeat = std::chrono::milliseconds(2);
  config_.lease_timeout = std::chrono::milliseconds(20);
  make();
  put_stamped(1, 0, 3 * kMi);
  run([this](BlockStore& store, NvmePoller& poller) {
    const std::function<void()> lose_lease = [this] { write_lease(7); };
    const std::function<void()> forget = [this] { device_->forget_counts(); };
    return [](std::function<void()> lose, std::function<void()> forget_counts, BlockStore& s,
              NvmePoller& p) -> Task<void> {
      auto sequential = (co_await s.open_writer(p, BlockId{2}, {.capacity = 4 * kMi})).value();
      (co_await sequential->write(stamped(2, 0, 0, 100'000))).value();
      auto staged = (co_await s.open_writer(p, BlockId{3}, {.capacity = 4 * kMi})).value();
      (co_await staged->write(stamped(3, 0, 0, 100'000))).value();
      while (s.healthy()) {
        lose();  // again: a heartbeat that was under way has overwritten it
        co_await p.sleep_for(std::chrono::milliseconds(1));
      }
      forget_counts();
      EXPECT_EQ((co_await sequential->write(stamped(2, 0, 100'000, 3 * kMi))).error().kind(), Errc::kBusy);
      EXPECT_EQ((co_await sequential->flush()).error().kind(), Errc::kBusy);
      EXPECT_EQ((co_await sequential->complete(100'000)).error().kind(), Errc::kBusy);
      co_await staged->detach();
      EXPECT_EQ((co_await s.open_writer(p, BlockId{4}, {.capacity = kMi})).error().kind(), Errc::kBusy);
      EXPECT_EQ((co_await s.open_writer(p, BlockId{1}, {.capacity = kMi})).error().kind(), Errc::kBusy);
    }(lose_lease, forget, store, poller);
  });
  EXPECT_EQ(device_->most_writes_of_a_page(), 0u) << "what lies there belongs to the other worker's blocks";
  expect_stamped(1, 0, 3 * kMi);
}

TEST_F(StoreIdentity, MetadataOfAnotherDeviceIsRefused) {
  make();
  close();
  const std::string mine = config_.meta_dir;
  TestDevice other(64 * kMi);
  config_.meta_dir = dir_.path() + "/other";
  ASSERT_TRUE(
      BlockStore::format(contexts()[0], other, {.meta_dir = config_.meta_dir, .cluster_id = config_.cluster_id}).ok());
  const Result<> refused = try_open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kWrongState);
  EXPECT_THAT(refused.error().message(), HasSubstr("belongs to device"));
  config_.meta_dir = mine;
  open();
}

TEST_F(StoreIdentity, MissingMetadataIsNotAnEmptyStore) {
  make();
  put_stamped(1, 0, 10);
  close();
  std::filesystem::remove_all(config_.meta_dir);
  EXPECT_EQ(try_open().error().kind(), Errc::kNotFound);
}

TEST_F(StoreIdentity, AnOldCopyOfTheMetadataIsRefused) {
  make();
  close();
  std::filesystem::copy(config_.meta_dir, config_.meta_dir + ".old", std::filesystem::copy_options::recursive);
  open();
  put_stamped(1, 0, 10);
  close();
  std::filesystem::remove_all(config_.meta_dir);
  std::filesystem::rename(config_.meta_dir + ".old", config_.meta_dir);
  const Result<> refused = try_open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kWrongState);
  EXPECT_THAT(refused.error().message(), HasSubstr("older than the device"));
}

TEST_F(StoreIdentity, DamagedMetadataIsAClearError) {
  make();
  put_stamped(1, 0, 10);
  close();
  for (const auto& file : std::filesystem::directory_iterator(config_.meta_dir)) {
    if (file.path().filename().string().starts_with("MANIFEST")) std::filesystem::resize_file(file.path(), 20);
  }
  const Result<> refused = try_open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), Errc::kCorrupt) << refused.error().to_string();
  EXPECT_THAT(refused.error().message(), HasSubstr("metadata in"));
}

TEST_F(StoreIdentity, BadConfigurationIsRefusedBeforeAnythingIsTouched) {
  const auto refused = [this](auto change) {
    BlockStore::Config config = config_;
    change(config);
    return config.validate().ok() ? Errc::kInternal : config.validate().error().kind();
  };
  EXPECT_TRUE(config_.validate().ok());
  EXPECT_EQ(refused([](BlockStore::Config& c) { c.meta_dir.clear(); }), Errc::kInvalidArgument);
  EXPECT_EQ(refused([](BlockStore::Config& c) { c.cluster_id.clear(); }), Errc::kInvalidArgument);
  EXPECT_EQ(refused([](BlockStore::Config& c) { c.writer_window = 0; }), Errc::kInvalidArgument);
  EXPECT_EQ(refused([](BlockStore::Config& c) { c.blocking_threads = 0; }), Errc::kInvalidArgument);
  EXPECT_EQ(refused([](BlockStore::Config& c) { c.capacity_limit = 100; }), Errc::kInvalidArgument);
  EXPECT_EQ(refused([](BlockStore::Config& c) { c.lease_timeout = c.lease_heartbeat; }), Errc::kInvalidArgument);
}

TEST_F(StoreIdentity, CapacityLimitAndSetAsideAreKept) {
  config_.capacity_limit = 20 * kMi;
  config_.set_aside = 5 * kMi;
  make();
  EXPECT_EQ(store_->space().capacity, 20 * kMi);
  EXPECT_EQ(store_->space().available, 15 * kMi);
  put_stamped(1, 0, 15 * kMi);
  EXPECT_EQ(put(2, stamped(2, 0, 0, 1)).error().kind(), Errc::kNoSpace);
  EXPECT_EQ(store_->space().free, 5 * kMi);
}

}  // namespace
}  // namespace leap::test
