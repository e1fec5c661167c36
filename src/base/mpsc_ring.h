// MpscRing<T>: a bounded queue from many threads to one. Lock-free, no allocation after construction.
//
// Each cell carries a sequence number that says whose turn it is (Vyukov's bounded queue): a producer owns cell `pos`
// when sequence == pos, the consumer when sequence == pos + 1. A full ring refuses: that is the back-pressure.
//
// Memory order: try_push publishes the value with a release store that try_pop acquires. It is no fence against *other*
// locations: a sleeping consumer needs the two-sided fence of poller/wakeup.h.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>

#include "base/check.h"

namespace leap {

template <typename T>
class MpscRing {
  static_assert(std::is_trivially_copyable_v<T>, "cells are copied without locks");

 public:
  /// `capacity` is rounded up to a power of two, at least 2.
  explicit MpscRing(std::size_t capacity)
      : mask_(std::bit_ceil(capacity < 2 ? std::size_t{2} : capacity) - 1), cells_(new Cell[mask_ + 1]) {
    for (std::size_t i = 0; i <= mask_; ++i) cells_[i].sequence.store(i, std::memory_order_relaxed);
  }

  [[nodiscard]] std::size_t capacity() const { return mask_ + 1; }

  /// Any thread. False when the ring is full; nothing was queued then.
  [[nodiscard]] bool try_push(const T& value) {
    std::size_t pos = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[pos & mask_];
      const std::size_t sequence = cell.sequence.load(std::memory_order_acquire);
      if (sequence == pos) {
        if (tail_.compare_exchange_weak(pos, pos + 1, std::memory_order_relaxed)) {
          cell.value = value;
          cell.sequence.store(pos + 1, std::memory_order_release);
          return true;
        }
      } else if (sequence < pos) {
        return false;
      } else {
        pos = tail_.load(std::memory_order_relaxed);
      }
    }
  }

  /// The consumer thread only.
  std::optional<T> try_pop() {
    Cell& cell = cells_[head_ & mask_];
    if (cell.sequence.load(std::memory_order_acquire) != head_ + 1) return std::nullopt;
    T value = cell.value;
    cell.sequence.store(head_ + mask_ + 1, std::memory_order_release);
    ++head_;
    return value;
  }

  /// The consumer thread only: true when the next cell is not (yet) published.
  [[nodiscard]] bool empty() const {
    return cells_[head_ & mask_].sequence.load(std::memory_order_acquire) != head_ + 1;
  }

 private:
  static constexpr std::size_t kCacheLine = 64;
  struct Cell {
    std::atomic<std::size_t> sequence{0};
    T value{};
  };

  const std::size_t mask_;
  const std::unique_ptr<Cell[]> cells_;
  alignas(kCacheLine) std::atomic<std::size_t> tail_{0};  // producers
  alignas(kCacheLine) std::size_t head_ = 0;              // the consumer
};

}  // namespace leap
