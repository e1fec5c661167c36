#include "memory/arena.h"

#include <linux/memfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "base/units.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace leap {
namespace {

std::uint64_t page_size(PageKind kind) {
  switch (kind) {
    case PageKind::kHuge1G: return kGiB;
    case PageKind::kHuge2M:
    case PageKind::kTransparent: return 2 * kMiB;
    case PageKind::kSmall: return 4 * kKiB;
  }
  return 4 * kKiB;
}

/// Whatever the pages, the arena starts at a multiple of this, so that a pool made from its start can align its buffers
/// to their size without losing its first and last megabyte.
constexpr std::uint64_t kLeastAlignment = 2 * kMiB;

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  return text;
}

std::optional<std::uint64_t> read_number(const std::string& path) {
  const auto text = read_text(path);
  if (!text) return std::nullopt;
  if (*text == "max") return UINT64_MAX;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

/// Bytes of this page size that can be faulted now: free pages, capped by the cgroup's limit where one is visible.
std::uint64_t hugetlb_available(PageKind kind) {
  const char* dir = kind == PageKind::kHuge1G ? "1048576kB" : "2048kB";
  const char* cgroup_name = kind == PageKind::kHuge1G ? "1GB" : "2MB";
  const auto free_pages = read_number(fmt::format("/sys/kernel/mm/hugepages/hugepages-{}/free_hugepages", dir));
  const auto reserved = read_number(fmt::format("/sys/kernel/mm/hugepages/hugepages-{}/resv_hugepages", dir));
  if (!free_pages) return 0;
  const std::uint64_t unreserved = *free_pages - std::min(*free_pages, reserved.value_or(0));
  std::uint64_t bytes = unreserved * page_size(kind);
  const auto limit = read_number(fmt::format("/sys/fs/cgroup/hugetlb.{}.max", cgroup_name));
  if (limit) {
    const auto used = read_number(fmt::format("/sys/fs/cgroup/hugetlb.{}.current", cgroup_name)).value_or(0);
    bytes = std::min(bytes, *limit - std::min(*limit, used));
  }
  return bytes;
}

/// Why this rung cannot be taken, before anything is tried; nothing if it may work. madvise(MADV_HUGEPAGE) succeeds on
/// shared memory whether or not the kernel will ever use huge pages for it, so the setting has to be asked.
std::optional<std::string> refusal(PageKind kind, std::uint64_t size) {
  switch (kind) {
    case PageKind::kHuge1G:
    case PageKind::kHuge2M: {
      const std::uint64_t available = hugetlb_available(kind);
      if (available >= size) return std::nullopt;
      return fmt::format("{} of {} free", available / page_size(kind), size / page_size(kind));
    }
    case PageKind::kTransparent: {
      const auto setting = read_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
      if (!setting) return "the kernel has none for shared memory";
      for (const char* off : {"[never]", "[deny]"}) {
        if (setting->find(off) != std::string::npos) return fmt::format("shmem_enabled is {}", off);
      }
      return std::nullopt;
    }
    case PageKind::kSmall: return std::nullopt;
  }
  return std::nullopt;
}

struct Mapping {
  UniqueFd fd;
  std::span<std::byte> memory;
};

/// Maps `fd` at a multiple of `alignment`: reserves addresses, then puts the mapping where it has to be.
std::byte* map_aligned(int fd, std::uint64_t size, std::uint64_t alignment) {
  void* reserved = ::mmap(nullptr, size + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(reserved);
  const std::uint64_t misfit = reinterpret_cast<std::uintptr_t>(begin) % alignment;
  const std::uint64_t head = misfit == 0 ? 0 : alignment - misfit;
  void* address = ::mmap(begin + head, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  if (address == MAP_FAILED) {
    const int error = errno;
    ::munmap(reserved, size + alignment);
    errno = error;
    return nullptr;
  }
  if (head > 0) ::munmap(begin, head);
  ::munmap(begin + head + size, alignment - head);
  return begin + head;
}

/// Maps `size` bytes of `kind`; on failure the text says why, for the report.
std::optional<Mapping> map_pages(PageKind kind, std::uint64_t size, std::string& why) {
  if (auto refused = refusal(kind, size)) {
    why = std::move(*refused);
    return std::nullopt;
  }
  const bool huge = kind == PageKind::kHuge1G || kind == PageKind::kHuge2M;
  unsigned flags = MFD_CLOEXEC;
  if (huge) flags |= MFD_HUGETLB | (kind == PageKind::kHuge1G ? MFD_HUGE_1GB : MFD_HUGE_2MB);
  UniqueFd fd(::memfd_create("leap-dma", flags));
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    why = Error::os(errno, "memfd").message();
    return std::nullopt;
  }
  std::byte* memory = map_aligned(fd.get(), size, std::max(page_size(kind), kLeastAlignment));
  if (memory == nullptr) {
    why = Error::os(errno, "mmap").message();
    return std::nullopt;
  }
  Mapping mapping{std::move(fd), {memory, size}};
  // A hugetlb page that is gone by now (another process, a cgroup's limit) must be an error here, not a SIGBUS in the
  // middle of an I/O. Unlike MAP_POPULATE this says so. EINVAL: a kernel that cannot; its reservation has to do.
  const int advice = huge ? MADV_POPULATE_WRITE : MADV_HUGEPAGE;
  const bool wanted = huge || kind == PageKind::kTransparent;
  if (wanted && ::madvise(memory, size, advice) != 0 && !(huge && errno == EINVAL)) {
    why = Error::os(errno, huge ? "fault pages in" : "madvise(MADV_HUGEPAGE)").message();
    ::munmap(memory, size);
    return std::nullopt;
  }
  return mapping;
}

}  // namespace

std::string_view to_string(PageKind kind) {
  switch (kind) {
    case PageKind::kHuge1G: return "1 GiB hugepages";
    case PageKind::kHuge2M: return "2 MiB hugepages";
    case PageKind::kTransparent: return "transparent hugepages";
    case PageKind::kSmall: return "4 KiB pages";
  }
  return "unknown pages";
}

Result<HugePageArena> HugePageArena::create(const Config& config) {
  if (config.size == 0) return Error(Errc::kInvalidArgument, "DMA arena of 0 bytes");
  // Room for rounding up and for aligning, on any rung, without overflow; ftruncate takes a signed length.
  if (config.size > INT64_MAX - 2 * kGiB) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("DMA arena of {} bytes: larger than an address space", config.size));
  }
  std::string refused;
  for (auto rung = static_cast<unsigned>(config.highest); rung <= static_cast<unsigned>(PageKind::kSmall); ++rung) {
    const auto kind = static_cast<PageKind>(rung);
    const std::uint64_t unit = page_size(kind);
    const std::uint64_t size = (config.size + unit - 1) / unit * unit;
    std::string why;
    auto mapping = map_pages(kind, size, why);
    if (!mapping) {
      refused += fmt::format("{}{}: {}", refused.empty() ? "" : "; ", to_string(kind), why);
      continue;
    }
    HugePageArena arena;
    arena.fd_ = std::move(mapping->fd);
    arena.memory_ = mapping->memory;
    arena.kind_ = kind;
    arena.report_ = fmt::format("DMA arena: {} on {}{}", format_bytes(size), to_string(kind),
                                refused.empty() ? "" : fmt::format(" (not better because: {})", refused));
    return arena;
  }
  return Error(Errc::kExhausted, fmt::format("map a DMA arena of {}: {}", format_bytes(config.size), refused));
}

HugePageArena::HugePageArena(HugePageArena&& other) noexcept
    : fd_(std::move(other.fd_)),
      memory_(std::exchange(other.memory_, {})),
      kind_(other.kind_),
      report_(std::move(other.report_)) {}

HugePageArena& HugePageArena::operator=(HugePageArena&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(memory_, other.memory_);
  std::swap(kind_, other.kind_);
  std::swap(report_, other.report_);
  return *this;
}

HugePageArena::~HugePageArena() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
}

}  // namespace leap
