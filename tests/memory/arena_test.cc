#include "memory/arena.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/units.h"
#include "memory/dma_pool.h"

namespace leap {
namespace {

std::uint64_t free_hugepages(const char* size) {
  std::ifstream file(fmt::format("/sys/kernel/mm/hugepages/hugepages-{}/free_hugepages", size));
  std::uint64_t pages = 0;
  return file >> pages ? pages : 0;
}

HugePageArena make(std::uint64_t size, PageKind highest = PageKind::kSmall) {
  return HugePageArena::create({.size = size, .highest = highest}).value();
}

TEST(Arena, IsZeroedAlignedAndAsLargeAsAsked) {
  const HugePageArena arena = make(5 * kMiB + 1);
  EXPECT_EQ(arena.page_kind(), PageKind::kSmall);
  EXPECT_EQ(arena.memory().size(), 5 * kMiB + 4 * kKiB);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.memory().data()) % (2 * kMiB), 0U);
  EXPECT_TRUE(std::all_of(arena.memory().begin(), arena.memory().end(), [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_EQ(arena.report(), "DMA arena: 5.0 MiB on 4 KiB pages");
}

TEST(Arena, RefusesSizesThatMakeNoSense) {
  for (const std::uint64_t size : {std::uint64_t{0}, UINT64_MAX, UINT64_MAX - kGiB, std::uint64_t{INT64_MAX}}) {
    const auto arena = HugePageArena::create({.size = size});
    ASSERT_FALSE(arena.ok()) << size;
    EXPECT_EQ(arena.error().kind(), Errc::kInvalidArgument);
  }
}

TEST(Arena, AnErrorNamesWhatEveryRungSaid) {
  const auto arena = HugePageArena::create({.size = 1ULL << 60});  // more than any address space holds
  ASSERT_FALSE(arena.ok());
  EXPECT_EQ(arena.error().kind(), Errc::kExhausted);
  for (const char* rung : {"1 GiB hugepages: ", "2 MiB hugepages: ", "transparent hugepages: ", "4 KiB pages: "}) {
    EXPECT_NE(arena.error().message().find(rung), std::string::npos) << arena.error().message();
  }
}

TEST(Arena, FallsDownTheLadderAndSaysWhy) {
  // One page more than there are: neither hugepage rung can serve it.
  const std::uint64_t too_much = (free_hugepages("2048kB") + 1) * 2 * kMiB + free_hugepages("1048576kB") * kGiB;
  const HugePageArena arena = make(too_much, PageKind::kHuge1G);
  EXPECT_GE(arena.page_kind(), PageKind::kTransparent);
  EXPECT_EQ(arena.report().find(fmt::format("DMA arena: {} on ", format_bytes(arena.memory().size()))), 0U)
      << arena.report();
  EXPECT_NE(arena.report().find("not better because: 1 GiB hugepages: "), std::string::npos) << arena.report();
  EXPECT_NE(arena.report().find("2 MiB hugepages: "), std::string::npos) << arena.report();
  EXPECT_NE(arena.report().find(" free"), std::string::npos) << arena.report();
}

TEST(Arena, TakesTransparentHugepagesOnlyWhereTheKernelUsesThemForSharedMemory) {
  std::string setting;
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::getline(file, setting);
  const bool off =
      setting.empty() || setting.find("[never]") != std::string::npos || setting.find("[deny]") != std::string::npos;
  const HugePageArena arena = make(4 * kMiB, PageKind::kTransparent);
  EXPECT_EQ(arena.page_kind(), off ? PageKind::kSmall : PageKind::kTransparent) << setting;
  if (off) {
    EXPECT_NE(arena.report().find("transparent hugepages: "), std::string::npos) << arena.report();
  }
}

class ArenaHuge : public ::testing::TestWithParam<PageKind> {};

TEST_P(ArenaHuge, UsesHugepagesThatAreFree) {
  const bool giga = GetParam() == PageKind::kHuge1G;
  const std::uint64_t unit = giga ? kGiB : 2 * kMiB;
  if (free_hugepages(giga ? "1048576kB" : "2048kB") == 0) {
    GTEST_SKIP() << "this machine has no free " << to_string(GetParam())
                 << ": the hugetlb rung was NOT tested (sysctl vm.nr_hugepages)";
  }
  HugePageArena arena = make(unit, GetParam());
  ASSERT_EQ(arena.page_kind(), GetParam()) << arena.report();
  EXPECT_EQ(arena.memory().size() % unit, 0U);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.memory().data()) % unit, 0U);
  std::fill(arena.memory().begin(), arena.memory().end(), std::byte{1});
  struct stat info {};
  ASSERT_EQ(::fstat(arena.memfd(), &info), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(info.st_blksize), unit);
}

INSTANTIATE_TEST_SUITE_P(Rungs, ArenaHuge, ::testing::Values(PageKind::kHuge1G, PageKind::kHuge2M),
                         [](const auto& kind) { return kind.param == PageKind::kHuge1G ? "OneGiB" : "TwoMiB"; });

TEST(Arena, ItsMemfdMapsTheSameMemoryInAnotherProcess) {
  const HugePageArena arena = make(2 * kMiB);
  arena.memory()[kMiB + 5] = std::byte{0x11};
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Its own mapping, as a peer that was handed the descriptor makes it; the inherited one is out of the way.
    ::munmap(arena.memory().data(), arena.memory().size());
    void* view = ::mmap(nullptr, 2 * kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, arena.memfd(), 0);
    if (view == MAP_FAILED) ::_exit(1);
    auto* bytes = static_cast<std::byte*>(view);
    if (bytes[kMiB + 5] != std::byte{0x11}) ::_exit(2);
    bytes[7] = std::byte{0x22};
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(arena.memory()[7], std::byte{0x22});
}

TEST(Arena, ItsDescriptorIsClosedOnExecAndAsLargeAsTheMemory) {
  const HugePageArena arena = make(3 * kMiB);
  EXPECT_NE(::fcntl(arena.memfd(), F_GETFD) & FD_CLOEXEC, 0);
  struct stat info {};
  ASSERT_EQ(::fstat(arena.memfd(), &info), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(info.st_size), arena.memory().size());
}

TEST(Arena, MovingCarriesTheMemoryAlongAndUnmapsItOnce) {
  HugePageArena first = make(2 * kMiB);
  std::byte* const data = first.memory().data();
  data[0] = std::byte{9};
  HugePageArena second = std::move(first);
  EXPECT_EQ(second.memory().data(), data);
  EXPECT_TRUE(first.memory().empty());  // NOLINT(bugprone-use-after-move): that is the question
  {
    HugePageArena third = make(4 * kKiB);
    third = std::move(second);
    EXPECT_EQ(third.memory().data(), data);
    EXPECT_EQ(data[0], std::byte{9});
  }
  EXPECT_EQ(::madvise(data, 4 * kKiB, MADV_NORMAL), -1);
  EXPECT_EQ(errno, ENOMEM) << "still mapped";
}

TEST(Arena, FeedsAPoolWithoutLosingLargeBuffers) {
  const HugePageArena arena = make(8 * kMiB);
  DmaPool pool(arena.memory());
  std::vector<DmaBuf> buffers;
  while (auto buffer = pool.try_allocate(DmaPool::kMaxBuffer)) buffers.push_back(std::move(*buffer));
  EXPECT_EQ(buffers.size(), 8U);
}

}  // namespace
}  // namespace leap
