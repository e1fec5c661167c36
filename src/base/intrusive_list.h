// IntrusiveList<T>: a doubly linked list whose links live in the elements. No allocation, O(1) everything.
//
// T derives from IntrusiveListNode. An element is on at most one list; destroying a linked element unlinks it.
// The list does not own its elements. Single-threaded.
#pragma once

#include <cstddef>

#include "base/check.h"

namespace leap {

class IntrusiveListNode {
 public:
  IntrusiveListNode() = default;
  IntrusiveListNode(const IntrusiveListNode&) = delete;
  IntrusiveListNode& operator=(const IntrusiveListNode&) = delete;
  ~IntrusiveListNode() { unlink(); }

  [[nodiscard]] bool linked() const { return next_ != nullptr; }
  void unlink() {
    if (next_ == nullptr) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    next_ = prev_ = nullptr;
  }

 private:
  template <typename T>
  friend class IntrusiveList;
  IntrusiveListNode* next_ = nullptr;
  IntrusiveListNode* prev_ = nullptr;
};

template <typename T>
class IntrusiveList {
 public:
  IntrusiveList() { head_.next_ = head_.prev_ = &head_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  ~IntrusiveList() {
    while (!empty()) head_.next_->unlink();
    head_.next_ = head_.prev_ = nullptr;
  }

  [[nodiscard]] bool empty() const { return head_.next_ == &head_; }
  [[nodiscard]] T& front() { return static_cast<T&>(*head_.next_); }

  void push_back(T& item) { insert_before(head_, item); }
  void push_front(T& item) { insert_before(*head_.next_, item); }
  /// Unlinks and returns the first element, or nullptr.
  T* pop_front() {
    if (empty()) return nullptr;
    T& item = front();
    static_cast<IntrusiveListNode&>(item).unlink();
    return &item;
  }

  /// Calls fn(T&) for each element; fn may unlink the element it is given, and no other.
  template <typename Fn>
  void for_each(Fn&& fn) {
    for (IntrusiveListNode* node = head_.next_; node != &head_;) {
      IntrusiveListNode* next = node->next_;
      fn(static_cast<T&>(*node));
      node = next;
    }
  }

 private:
  void insert_before(IntrusiveListNode& position, T& item) {
    IntrusiveListNode& node = item;
    LEAP_DCHECK(!node.linked(), "element is already on a list");
    node.next_ = &position;
    node.prev_ = position.prev_;
    position.prev_->next_ = &node;
    position.prev_ = &node;
  }

  IntrusiveListNode head_;
};

}  // namespace leap
