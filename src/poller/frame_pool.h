// FramePool: recycles coroutine frames, so that starting a task on the I/O path allocates nothing after warm-up.
//
// Thread-local free lists in power-of-two classes up to 4 KiB; larger frames go to the heap. A frame may be freed on
// another thread than it came from: it then joins that thread's lists, which keep at most kKeptBytesPerClass each (a
// task made here and run there would otherwise fill them without end). Disabled under AddressSanitizer, which would
// otherwise not see a use after free.
#pragma once

#include <cstddef>

namespace leap::frame_pool {

inline constexpr std::size_t kLargestFrame = 4096;
inline constexpr std::size_t kKeptBytesPerClass = std::size_t{8} << 20;

void* allocate(std::size_t size);
void release(void* frame, std::size_t size) noexcept;

}  // namespace leap::frame_pool
