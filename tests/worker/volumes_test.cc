// Which device belongs to a data directory: formatting, finding it again, and everything that must be refused.
#include "worker/volumes.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/local_target.h"
#include "support/temp_dir.h"

namespace leap::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr std::uint64_t kDeviceSize = 8ULL << 20;

class VolumesTest : public ::testing::Test {
 protected:
  VolumesTest() {
    set_log_level(LogLevel::kOff);
    config_.cluster_id = "c1";
    config_.spdk_disk.hugepage = 16ULL << 20;
  }

  /// A directory whose device is a file inside itself.
  void add_directory(const std::string& name, StorageType type = StorageType::kDisk) {
    config_.data_dirs.push_back({.type = type, .capacity = kDeviceSize, .path = dir_.file(name)});
  }
  void connect(const test::LocalTarget& target) {
    config_.spdk_disk.enabled = true;
    config_.spdk_disk.targets.push_back({.address = target.address()});
  }
  [[nodiscard]] std::string home(std::size_t index) const { return config_.data_dirs[index].cluster_dir("c1"); }
  [[nodiscard]] std::string device_file(std::size_t index) const { return home(index) + "/blocks"; }

  /// The error of format or open; kInternal when there is none.
  static Error failure(const auto& result) { return result.ok() ? Error(Errc::kInternal, "no error") : result.error(); }
  void format_all() {
    const auto formatted = Volumes::format(config_, false);
    ASSERT_TRUE(formatted.ok()) << formatted.error().to_string();
  }

  static void write_file(const std::string& path, const std::string& content) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << content;
  }
  static std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  test::TempDir dir_;
  WorkerConfig config_;
};

TEST_F(VolumesTest, ADirectoryKeepsTheDeviceItWasFormattedWith) {
  add_directory("a");
  EXPECT_EQ(failure(Volumes::open(config_)).kind(), Errc::kNotFound) << "not formatted";
  format_all();
  EXPECT_EQ(read_file(home(0) + "/device"), "file://" + device_file(0) + "?size=8388608\n");
  const auto volumes = Volumes::open(config_);
  ASSERT_TRUE(volumes.ok()) << volumes.error().to_string();
  EXPECT_EQ((*volumes)->stores().directories().size(), 1u);
  EXPECT_TRUE((*volumes)->close(std::chrono::seconds(5)).ok());
}

TEST_F(VolumesTest, AFileThatHasSomethingInItIsNotFormattedAndNotEvenExtended) {
  add_directory("a");
  for (const std::size_t size : {std::size_t{5000}, std::size_t{kDeviceSize}}) {
    SCOPED_TRACE(size);
    std::string content(size, '\0');
    content[4999] = 'x';
    write_file(device_file(0), content);
    const Error refused = failure(Volumes::format(config_, false));
    EXPECT_EQ(refused.kind(), Errc::kAlreadyExists) << refused.to_string();
    EXPECT_THAT(refused.message(), HasSubstr("is not empty"));
    EXPECT_TRUE(read_file(device_file(0)) == content) << "it must be as it was";
    EXPECT_FALSE(fs::exists(home(0) + "/device"));
  }
  EXPECT_TRUE(Volumes::format(config_, true).ok()) << "force discards it";
}

TEST_F(VolumesTest, ANamespaceThatCarriesDataIsNotTaken) {
  const std::string file = dir_.file("disk");
  write_file(file, std::string(500'000, '\0') + "a partition, perhaps" + std::string(kDeviceSize - 500'020, '\0'));
  test::LocalTarget target({.devices = {"file://" + file}});
  connect(target);
  config_.data_dirs.push_back({.type = StorageType::kSpdkDisk, .capacity = 0, .path = dir_.file("a")});
  const Error refused = failure(Volumes::format(config_, false));
  EXPECT_EQ(refused.kind(), Errc::kNotFound) << refused.to_string();
  EXPECT_THAT(refused.message(), HasSubstr("no unformatted namespace is left; these carry data"));
}

TEST_F(VolumesTest, FormatNeedsANamespaceForEachDirectory) {
  test::LocalTarget target({.devices = {"mem:?size=8MiB"}});
  connect(target);
  for (const char* name : {"a", "b"})
    config_.data_dirs.push_back({.type = StorageType::kSpdkDisk, .capacity = 0, .path = dir_.file(name)});
  const Error refused = failure(Volumes::format(config_, false));
  EXPECT_EQ(refused.kind(), Errc::kNotFound) << refused.to_string();
  config_.data_dirs.pop_back();
  const auto volumes = Volumes::open(config_);
  ASSERT_TRUE(volumes.ok()) << "the first directory got it: " << volumes.error().to_string();
}

TEST_F(VolumesTest, ADirectoryCanBeAddedAndTheFormattedOnesAreLeftAlone) {
  add_directory("a");
  format_all();
  EXPECT_EQ(failure(Volumes::format(config_, false)).kind(), Errc::kAlreadyExists);
  add_directory("b");
  format_all();
  const auto volumes = Volumes::open(config_);
  ASSERT_TRUE(volumes.ok()) << volumes.error().to_string();
  const auto& directories = (*volumes)->stores().directories();
  ASSERT_EQ(directories.size(), 2u);
  EXPECT_EQ(directories[0].store->superblock().worker_id, directories[1].store->superblock().worker_id);
}

TEST_F(VolumesTest, ADirectoryWhoseDeviceHasBeenWipedCanBeFormattedAgain) {
  add_directory("a");
  format_all();
  fs::resize_file(device_file(0), 0);
  fs::resize_file(device_file(0), kDeviceSize);
  fs::remove_all(home(0) + "/meta");
  format_all();
  EXPECT_TRUE(Volumes::open(config_).ok());
}

TEST_F(VolumesTest, ADirectoryWhoseDeviceIsNotThereIsOffline) {
  add_directory("a");
  add_directory("b");
  add_directory("c");
  format_all();
  fs::remove(device_file(1));
  write_file(home(2) + "/device", "nvme-6f9619ff-8b86-d011-b42d-00c04fc964ff\n");
  const auto volumes = Volumes::open(config_);
  ASSERT_TRUE(volumes.ok()) << volumes.error().to_string();
  EXPECT_EQ((*volumes)->stores().directories().size(), 1u);
  ASSERT_EQ((*volumes)->offline().size(), 2u);
  EXPECT_FALSE(fs::exists(device_file(1))) << "nothing is made in place of a device that is missing";
}

TEST_F(VolumesTest, ADeviceIsTakenOnce) {
  add_directory("a");
  add_directory("b");
  const std::string device = "file://" + dir_.file("one") + "?size=8MiB";
  config_.leap.devices = {device, device};
  const Error refused = failure(Volumes::format(config_, false));
  EXPECT_EQ(refused.kind(), Errc::kInvalidArgument) << refused.to_string();
  EXPECT_THAT(refused.message(), HasSubstr("belongs to another data_dir already"));
}

}  // namespace
}  // namespace leap::testing
