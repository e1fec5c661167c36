// HugePageArena: one contiguous, shareable piece of memory for all DMA buffers of the process.
//
// The page ladder: 1 GiB hugepages, 2 MiB hugepages, transparent hugepages, 4 KiB pages. Each rung is tried in turn;
// a rung is taken only if the kernel has the pages *free now* and the cgroup's hugetlb limit allows them, because a
// hugetlb page that cannot be faulted is a SIGBUS, not an error. report() says which rung was reached and why not a
// higher one. The memory is a memfd, so it can be handed to another process (vfio-user) or registered with VFIO.
//
// "Transparent hugepages" means that the kernel was asked and is set up to use them; how many it found shows in
// ShmemPmdMapped of /proc/self/smaps.
//
//   LEAP_TRY(auto arena, HugePageArena::create({.size = 1 * kGiB}));
//   log_info("{}", arena.report());
//   DmaPool pool(arena.memory());
//
// Threading: immutable after create(). Blocking: create() faults hugetlb pages in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace leap {

enum class PageKind : std::uint8_t { kHuge1G, kHuge2M, kTransparent, kSmall };
std::string_view to_string(PageKind kind);

class HugePageArena {
 public:
  struct Config {
    std::uint64_t size = 1ULL << 30;       ///< bytes; rounded up to the page size of the rung reached
    PageKind highest = PageKind::kHuge1G;  ///< the first rung to try
  };

  /// Errors: kInvalidArgument (size 0 or beyond any address space), kExhausted (not even 4 KiB pages could be mapped).
  static Result<HugePageArena> create(const Config& config);

  HugePageArena(HugePageArena&& other) noexcept;
  HugePageArena& operator=(HugePageArena&& other) noexcept;
  ~HugePageArena();

  /// All of it, zeroed. Starts at a multiple of its page size and of 2 MiB.
  [[nodiscard]] std::span<std::byte> memory() const { return memory_; }
  [[nodiscard]] PageKind page_kind() const { return kind_; }
  /// Maps to the same memory in whatever process it is sent to. Owned by the arena.
  [[nodiscard]] int memfd() const { return fd_.get(); }
  /// One line for an operator: size, page kind, and why a better one was not used.
  [[nodiscard]] const std::string& report() const { return report_; }

 private:
  HugePageArena() = default;

  UniqueFd fd_;
  std::span<std::byte> memory_;
  PageKind kind_ = PageKind::kSmall;
  std::string report_;
};

}  // namespace leap
