// Heap allocations of this thread, as a number: "no allocation per I/O" is asserted by tests and reported by
// benchmarks.
//
// Counting replaces malloc and its family in the executable, so it is opt-in: add the CMake target leap_alloc_counter
// to the executable's own link libraries. Everywhere else, and in sanitizer builds (whose run-time owns malloc),
// alloc_counting_available() is false and the count stays 0: say so instead of reporting a zero.
//
// Counts malloc, calloc, realloc, aligned_alloc, posix_memalign, memalign, valloc, pvalloc and what is built on them
// (new, containers); a failed request counts as well. Not free, and not mmap.
// Cost: one thread-local increment per allocation. glibc only.
//
//   const std::uint64_t before = thread_allocations();
//   run(1000);
//   if (alloc_counting_available()) EXPECT_EQ(thread_allocations() - before, 0);
#pragma once

#include <cstdint>

namespace leap {

/// Allocations this thread has asked for since it started.
[[nodiscard]] std::uint64_t thread_allocations();

/// Whether this executable counts.
[[nodiscard]] bool alloc_counting_available();

}  // namespace leap
