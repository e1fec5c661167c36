// The counting version: linked as an object file, so it wins over alloc_counter_off.cc in the archive of leap_base.
#include "base/alloc_counter.h"

#include <bit>
#include <cerrno>
#include <cstddef>

#include <unistd.h>

// glibc's allocator under the names it keeps for those who replace malloc. free() stays glibc's own.
// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {
void* __libc_malloc(std::size_t size) noexcept;
void* __libc_calloc(std::size_t count, std::size_t size) noexcept;
void* __libc_realloc(void* old, std::size_t size) noexcept;
void* __libc_memalign(std::size_t alignment, std::size_t size) noexcept;
}
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

namespace {

// initial-exec: reading it must never allocate, as the lazy TLS of a shared object would.
[[gnu::tls_model("initial-exec")]] thread_local constinit std::uint64_t t_allocations = 0;

}  // namespace

extern "C" {

void* malloc(std::size_t size) noexcept {
  ++t_allocations;
  return __libc_malloc(size);
}

void* calloc(std::size_t count, std::size_t size) noexcept {
  ++t_allocations;
  return __libc_calloc(count, size);
}

void* realloc(void* old, std::size_t size) noexcept {
  ++t_allocations;
  return __libc_realloc(old, size);
}

void* memalign(std::size_t alignment, std::size_t size) noexcept {
  ++t_allocations;
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  ++t_allocations;
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, std::size_t alignment, std::size_t size) noexcept {
  ++t_allocations;
  if (!std::has_single_bit(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  const int saved = errno;  // POSIX: the result is returned, errno is left alone
  void* block = __libc_memalign(alignment, size);
  errno = saved;
  if (block == nullptr) return ENOMEM;
  *out = block;
  return 0;
}

void* valloc(std::size_t size) noexcept {
  ++t_allocations;
  return __libc_memalign(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)), size);
}

void* pvalloc(std::size_t size) noexcept {
  ++t_allocations;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (size > SIZE_MAX - (page - 1)) {
    errno = ENOMEM;
    return nullptr;
  }
  return __libc_memalign(page, (size + page - 1) & ~(page - 1));
}

}  // extern "C"

namespace leap {

std::uint64_t thread_allocations() { return t_allocations; }

bool alloc_counting_available() { return true; }

}  // namespace leap
