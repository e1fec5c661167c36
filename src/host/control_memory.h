// ControlMemory: a few pages that only connecting and administration use.
//
// What gets a controller back must not wait for memory behind the I/O that waits for the controller: with the pool full of
// writes that have nowhere to go, nobody would ever move. Threading: as DmaPool, one poller. Lifetime: outlives every
// queue pair that got a buffer of it.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "memory/dma_pool.h"

namespace leap {

class ControlMemory {
 public:
  [[nodiscard]] DmaPool& pool() { return pool_; }

 private:
  static constexpr std::size_t kPages = 16;
  struct alignas(DmaPool::kPageSize) Pages {
    std::array<std::byte, kPages * DmaPool::kPageSize> bytes;
  };
  std::unique_ptr<Pages> pages_ = std::make_unique<Pages>();
  DmaPool pool_{pages_->bytes};
};

}  // namespace leap
