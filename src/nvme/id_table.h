// IdTable: a few entries by 16-bit id (CID, TTAG) in a fixed table: open addressing, no allocation after construction.
//
//   IdTable<Command> commands(128);
//   if (Command* added = commands.insert(cid)) ...;     // nullptr: the table is full
//   commands.erase(*commands.find(cid));
//
// Pointers are valid until the next insert or erase. At most half of the slots are used, so probes are short.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace leap::nvme {

template <typename T>
class IdTable {
 public:
  explicit IdTable(std::size_t capacity)
      : slots_(std::bit_ceil(capacity * 2 < 2 ? std::size_t{2} : capacity * 2)), most_(slots_.size() / 2) {}

  [[nodiscard]] T* find(std::uint16_t id) {
    for (std::size_t at = home(id); slots_[at].used; at = next(at)) {
      if (slots_[at].id == id) return &slots_[at].value;
    }
    return nullptr;
  }
  /// A fresh entry. Precondition: find(id) is nullptr.
  [[nodiscard]] T* insert(std::uint16_t id) {
    if (size_ == most_) return nullptr;
    std::size_t at = home(id);
    while (slots_[at].used) at = next(at);
    slots_[at] = {.id = id, .used = true, .value = T{}};
    ++size_;
    return &slots_[at].value;
  }
  void erase(std::uint16_t id) {
    std::size_t hole = home(id);
    while (slots_[hole].used && slots_[hole].id != id) hole = next(hole);
    if (!slots_[hole].used) return;
    --size_;
    // Entries behind the hole move up when the hole lies on their way from home.
    for (std::size_t at = next(hole); slots_[at].used; at = next(at)) {
      const std::size_t from_home = (at - home(slots_[at].id)) & mask();
      if (from_home < ((at - hole) & mask())) continue;
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole].used = false;
  }
  [[nodiscard]] std::size_t size() const { return size_; }
  template <typename Fn>
  void for_each(Fn&& fn) {
    for (Slot& slot : slots_) {
      if (slot.used) fn(slot.value);
    }
  }

 private:
  struct Slot {
    std::uint16_t id = 0;
    bool used = false;
    T value;
  };
  [[nodiscard]] std::size_t mask() const { return slots_.size() - 1; }
  [[nodiscard]] std::size_t next(std::size_t at) const { return (at + 1) & mask(); }
  /// Neighbouring ids have neighbouring homes; generations in the upper bits are mixed in.
  [[nodiscard]] std::size_t home(std::uint16_t id) const { return (id ^ (id * std::size_t{0x9E37} >> 8)) & mask(); }

  std::vector<Slot> slots_;
  std::size_t most_;
  std::size_t size_ = 0;
};

}  // namespace leap::nvme
