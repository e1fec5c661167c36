// Request: one command on its way through the target: the slot it occupies, its data, its result.
//
//   state            | means                                      | next
//   -----------------+--------------------------------------------+---------------------------------------------------
//   kFree            | the slot is unused                         | kStarted    a command capsule arrived
//   kStarted         | the command layer is looking at it         | kSending    finished at once
//                    |                                            | kAwaitBuffer, kReceiving, kExecuting, kHeld
//   kAwaitBuffer     | host's data has no place to go yet         | kReceiving  (or kExecuting: the data was in the capsule)
//   kReceiving       | R2Ts are out, H2CData is coming in         | kExecuting  all here (or kSending: digest error)
//   kExecuting       | the device works on it                     | kSending
//   kHeld            | an Asynchronous Event Request              | kSending    something happened
//   kSending         | the response is queued for the wire        | kFree       the kernel has taken its last byte
//   any              | the connection is gone                     | kFree       (kAwaitBuffer, kExecuting: when that is over)
//
// Slots are allocated once per connection and recycled; nothing here allocates except admin data. A request belongs to
// its connection's poller.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/check.h"
#include "base/intrusive_list.h"
#include "memory/dma_pool.h"
#include "nvme/command.h"
#include "nvme/status.h"
#include "target/namespace_access.h"

namespace leap::target {

enum class RequestState : std::uint8_t { kFree, kStarted, kAwaitBuffer, kReceiving, kExecuting, kHeld, kSending };
inline constexpr std::size_t kRequestStates = 7;

/// The table above.
[[nodiscard]] constexpr bool may_follow(RequestState from, RequestState to) {
  using enum RequestState;
  if (to == kFree) return from != kFree;
  switch (from) {
    case kFree: return to == kStarted;
    case kStarted: return to != kStarted;
    case kAwaitBuffer: return to == kReceiving || to == kExecuting || to == kSending;
    case kReceiving: return to == kExecuting || to == kSending;
    case kExecuting:
    case kHeld: return to == kSending;
    case kSending: return false;
  }
  return false;
}

/// What the command layer makes of a command, and what the transport does about it.
enum class Step : std::uint8_t {
  kComplete,     ///< status, result and data are set: respond
  kReceive,      ///< wants the host's data at request.data, then execute() is called
  kAwaitBuffer,  ///< as kReceive, once Transport::buffer_ready() tells that request.data has memory
  kPending,      ///< Transport::complete() will be called, or already was: do not touch the request
};

struct Request : IntrusiveListNode {
  // Set by the transport before begin().
  nvme::Command cmd;
  std::uint16_t slot = 0;  ///< index of this slot, for ever
  RequestState state = RequestState::kFree;
  std::uint32_t capsule_bytes = 0;  ///< DATA bytes in the command capsule
  NvmeStatusCode refused;           ///< not success: fail the command with this, whatever it asks for

  // Set by the command layer.
  nvme::DataDirection direction = nvme::DataDirection::kNone;  ///< of data that will really move
  bool in_capsule = false;                                     ///< the SGL names data in the capsule, at capsule_offset
  std::uint32_t capsule_offset = 0;
  std::uint32_t length = 0;           ///< bytes the host sends; of data to the host: data.size()
  std::span<std::byte> data;          ///< where they are or go
  DmaBuf buffer;                      ///< owns data, if a pool's memory
  NamespacePin ns;                    ///< what the command works on
  std::uint32_t charged = 0;          ///< bytes accounted to the connection's share of the pool
  std::unique_ptr<std::byte[]> page;  ///< owns data, if admin data
  std::uint32_t dw0 = 0;
  std::uint32_t dw1 = 0;
  NvmeStatusCode status;

  // The transport's progress.
  std::uint32_t received = 0;   ///< bytes of host data that have arrived, in order
  std::uint32_t requested = 0;  ///< bytes asked for by R2Ts so far
  bool digest_failed = false;   ///< some of the data did not match its digest
  std::uint64_t sent_mark = 0;  ///< kSending: over when the stream has sent this many bytes

  void enter(RequestState next) {
    LEAP_DCHECK(may_follow(state, next), "request state out of order");
    state = next;
  }

  /// Fails the command: `return request.fail(status(GenericStatus::kInvalidField, kDnr));`
  Step fail(NvmeStatusCode code) {
    status = code;
    direction = nvme::DataDirection::kNone;
    return Step::kComplete;
  }
  /// Gives the host `bytes` of admin data, zeroed, to be filled in by the caller. Returns the memory.
  std::span<std::byte> make_page(std::size_t bytes) {
    page = std::make_unique<std::byte[]>(bytes);
    data = {page.get(), bytes};
    direction = nvme::DataDirection::kControllerToHost;
    return data;
  }
  /// Ready for the next command. The buffer must have been returned to the share first.
  void clear() {
    enter(RequestState::kFree);
    direction = nvme::DataDirection::kNone;
    in_capsule = false;
    digest_failed = false;
    capsule_bytes = capsule_offset = length = received = requested = 0;
    dw0 = dw1 = 0;
    status = {};
    refused = {};
    data = {};
    page.reset();
  }
};

/// The slots of one queue.
class RequestSlots {
 public:
  explicit RequestSlots(std::size_t count) : slots_(std::make_unique<Request[]>(count)), count_(count) {
    for (std::size_t i = 0; i < count; ++i) {
      slots_[i].slot = static_cast<std::uint16_t>(i);
      free_.push_back(slots_[i]);
    }
  }

  /// A free slot in state kStarted, or nullptr.
  [[nodiscard]] Request* take() {
    Request* request = free_.pop_front();
    if (request == nullptr) return nullptr;
    ++used_;
    request->enter(RequestState::kStarted);
    return request;
  }
  void give_back(Request& request) {
    request.unlink();
    request.clear();
    --used_;
    free_.push_front(request);
  }
  /// The slot with this index, free or not; nullptr past the end.
  [[nodiscard]] Request* at(std::size_t index) { return index < count_ ? &slots_[index] : nullptr; }
  [[nodiscard]] std::size_t used() const { return used_; }
  [[nodiscard]] std::size_t count() const { return count_; }

 private:
  std::unique_ptr<Request[]> slots_;
  std::size_t count_;
  std::size_t used_ = 0;
  IntrusiveList<Request> free_;
};

}  // namespace leap::target
