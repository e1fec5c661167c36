// Built twice: into an executable that links leap_alloc_counter and into base_tests, which does not.
#include "base/alloc_counter.h"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

namespace leap {
namespace {

// The compiler may drop an allocation whose block it can follow to its free().
void* opaque(void* block) {
  asm volatile("" : "+r"(block) : : "memory");
  return block;
}

std::uint64_t allocations_in(const std::function<void()>& action) {
  const std::uint64_t before = thread_allocations();
  action();
  return thread_allocations() - before;
}

#ifdef LEAP_TEST_COUNTS_ALLOCATIONS

TEST(AllocCounter, IsAvailable) { EXPECT_TRUE(alloc_counting_available()); }

TEST(AllocCounter, CountsEachFunctionOfTheMallocFamilyOnce) {
  EXPECT_EQ(allocations_in([] { std::free(opaque(std::malloc(100))); }), 1u);
  EXPECT_EQ(allocations_in([] { std::free(opaque(std::calloc(10, 10))); }), 1u);
  EXPECT_EQ(allocations_in([] { std::free(opaque(std::realloc(opaque(std::malloc(10)), 1'000'000))); }), 2u);
  EXPECT_EQ(allocations_in([] { std::free(opaque(std::aligned_alloc(4096, 8192))); }), 1u);
  EXPECT_EQ(allocations_in([] { std::free(opaque(::memalign(512, 100))); }), 1u);
  EXPECT_EQ(allocations_in([] { std::free(opaque(::valloc(100))); }), 1u);
  EXPECT_EQ(allocations_in([] { std::free(opaque(::pvalloc(100))); }), 1u);
  EXPECT_EQ(allocations_in([] {
              void* block = nullptr;
              EXPECT_EQ(::posix_memalign(&block, 4096, 100), 0);
              std::free(opaque(block));
            }),
            1u);
}

TEST(AllocCounter, CountsNewAndWhatTheLibraryAllocatesInside) {
  EXPECT_EQ(allocations_in([] { delete static_cast<int*>(opaque(new int(1))); }), 1u);
  struct alignas(256) Wide {
    char data[256];
  };
  EXPECT_EQ(allocations_in([] { delete static_cast<Wide*>(opaque(new Wide)); }), 1u);
  EXPECT_EQ(allocations_in([] { opaque(std::string(100, 'x').data()); }), 1u);
  EXPECT_EQ(allocations_in([] { opaque(std::string(5, 'x').data()); }), 0u) << "fits into the string itself";
  EXPECT_EQ(allocations_in([] {
              std::vector<int> grows;
              for (int i = 0; i < 5; ++i) grows.push_back(i);  // capacities 1, 2, 4, 8
              opaque(grows.data());
            }),
            4u);
}

TEST(AllocCounter, DoesNotCountFreeing) {
  void* block = std::malloc(64);
  EXPECT_EQ(allocations_in([&] { std::free(block); }), 0u);
}

TEST(AllocCounter, CountsThisThreadOnly) {
  std::uint64_t in_other = 0;
  std::thread other([&] {
    in_other = allocations_in([] {
      for (int i = 0; i < 1000; ++i) std::free(opaque(std::malloc(32)));
    });
  });
  const std::uint64_t here = allocations_in([&] { other.join(); });
  EXPECT_EQ(in_other, 1000u);
  EXPECT_EQ(here, 0u);
}

TEST(AllocCounter, LeavesTheAllocatorsContractAsItWas) {
  void* aligned = nullptr;
  ASSERT_EQ(::posix_memalign(&aligned, 4096, 10), 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(aligned) % 4096, 0u);
  std::free(aligned);
  volatile std::size_t bad_alignment = 24;
  errno = 0;
  void* untouched = &untouched;
  EXPECT_EQ(::posix_memalign(&untouched, bad_alignment, 10), EINVAL);
  EXPECT_EQ(untouched, &untouched);
  volatile std::size_t huge = SIZE_MAX / 2 + 1;
  EXPECT_EQ(::posix_memalign(&untouched, 4096, huge), ENOMEM);
  EXPECT_EQ(errno, 0);
  EXPECT_EQ(opaque(std::malloc(huge)), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(opaque(::pvalloc(SIZE_MAX - huge + huge)), nullptr);
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  void* paged = ::pvalloc(1);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(paged) % page, 0u);
  EXPECT_GE(::malloc_usable_size(paged), page);
  std::free(paged);
  auto* zeroed = static_cast<unsigned char*>(std::calloc(1000, 1));
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(zeroed[i], 0);
  std::free(zeroed);
}

#else

TEST(AllocCounter, SaysThatItDoesNotCountWhereItIsNotLinked) {
  EXPECT_FALSE(alloc_counting_available());
  EXPECT_EQ(allocations_in([] { std::free(opaque(std::malloc(100))); }), 0u);
}

#endif

}  // namespace
}  // namespace leap
