#include "workload/file_set.h"

#include <cstdlib>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace leap {
namespace {

namespace fs = std::filesystem;

class FileSetTest : public testing::Test {
 protected:
  FileSetTest() {
    std::string pattern = (fs::temp_directory_path() / "leap-files-XXXXXX").string();
    dir_ = ::mkdtemp(pattern.data());
  }
  ~FileSetTest() override { fs::remove_all(dir_); }

  void put(const std::string& name, std::size_t size) const {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name) << std::string(size, 'x');
  }
  fs::path dir_;
};

TEST_F(FileSetTest, CutsFilesIntoPiecesThatCoverThemExactly) {
  put("b", 2500);
  put("a/c", 0);
  put("a/d", 1000);
  fs::create_symlink("/etc/passwd", dir_ / "link");
  const auto set = FileSet::collect({dir_}, 0, 1000).value();
  ASSERT_EQ(set.files.size(), 3U);  // in path order, without the link
  EXPECT_EQ(set.files[0], dir_ / "a/c");
  EXPECT_EQ(set.files[2], dir_ / "b");
  EXPECT_EQ(set.bytes, 3500U);
  ASSERT_EQ(set.pieces.size(), 5U);
  EXPECT_EQ(set.pieces[0].length, 0U);
  EXPECT_EQ(set.pieces[1].length, 1000U);
  EXPECT_EQ(set.pieces[4].offset, 2000U);
  EXPECT_EQ(set.pieces[4].length, 500U);
}

TEST_F(FileSetTest, CountsWhatMayNotBeRead) {
  put("open", 10);
  put("closed", 10);
  put("folder/within", 10);
  fs::permissions(dir_, fs::perms::all);
  fs::permissions(dir_ / "closed", fs::perms::none);
  fs::permissions(dir_ / "folder", fs::perms::none);
  const uid_t user = ::geteuid();
  ASSERT_EQ(user == 0 ? ::seteuid(65534) : 0, 0);  // root may read everything
  const auto set = FileSet::collect({dir_}, 0, 1000);
  ASSERT_EQ(user == 0 ? ::seteuid(0) : 0, 0);
  fs::permissions(dir_ / "folder", fs::perms::all);
  ASSERT_TRUE(set.ok()) << set.error().to_string();
  EXPECT_EQ(set->files.size(), 1U);
  EXPECT_EQ(set->unreadable, 2U);
}

TEST_F(FileSetTest, StopsWhenThereIsEnough) {
  for (int i = 0; i < 10; ++i) put("f" + std::to_string(i), 100);
  EXPECT_EQ(FileSet::collect({dir_}, 250, 1000).value().files.size(), 3U);
}

TEST_F(FileSetTest, SaysWhenThereIsNothing) {
  EXPECT_EQ(FileSet::collect({dir_}, 0, 1000).error().kind(), Errc::kNotFound);
  EXPECT_THAT(FileSet::collect({dir_ / "none"}, 0, 1000).error().message(), testing::HasSubstr("does not exist"));
}

}  // namespace
}  // namespace leap
