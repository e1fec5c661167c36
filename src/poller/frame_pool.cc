#include "poller/frame_pool.h"

#include <bit>
#include <new>
#include <utility>

namespace leap::frame_pool {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kRecycle = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kRecycle = false;
#else
constexpr bool kRecycle = true;
#endif
#else
constexpr bool kRecycle = true;
#endif

constexpr std::size_t kSmallest = 64;
constexpr unsigned kClasses = std::bit_width(kLargestFrame) - std::bit_width(kSmallest) + 1;

struct FreeFrame {
  FreeFrame* next;
};

struct FreeList {
  FreeFrame* head = nullptr;
  std::size_t bytes = 0;
};

// Apart from the lists and trivially destructible, so that it can still be read after the lists are gone: frames of
// objects with static storage die later than this thread's locals.
thread_local constinit bool t_gone = false;

struct FreeLists {
  FreeList classes[kClasses];

  ~FreeLists() {
    t_gone = true;
    for (FreeList& list : classes) {
      while (list.head != nullptr) ::operator delete(std::exchange(list.head, list.head->next));
    }
  }
};

thread_local FreeLists t_lists;

unsigned class_of(std::size_t size) {
  if (size <= kSmallest) return 0;
  return static_cast<unsigned>(std::bit_width(size - 1) - std::bit_width(kSmallest - 1));
}

}  // namespace

void* allocate(std::size_t size) {
  if (!kRecycle || size > kLargestFrame) return ::operator new(size);
  const unsigned index = class_of(size);
  if (!t_gone) {
    FreeList& list = t_lists.classes[index];
    if (FreeFrame* frame = list.head) {
      list.head = frame->next;
      list.bytes -= kSmallest << index;
      return frame;
    }
  }
  return ::operator new(kSmallest << index);
}

void release(void* frame, std::size_t size) noexcept {
  if (!kRecycle || size > kLargestFrame || t_gone) {
    ::operator delete(frame);
    return;
  }
  const unsigned index = class_of(size);
  FreeList& list = t_lists.classes[index];
  if (list.bytes >= kKeptBytesPerClass) {
    ::operator delete(frame);
    return;
  }
  list.head = new (frame) FreeFrame{list.head};
  list.bytes += kSmallest << index;
}

}  // namespace leap::frame_pool
