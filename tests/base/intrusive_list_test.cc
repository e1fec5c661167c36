#include "base/intrusive_list.h"

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace leap {
namespace {

struct Item : IntrusiveListNode {
  explicit Item(int value_in = 0) : value(value_in) {}
  int value;
};

std::vector<int> values(IntrusiveList<Item>& list) {
  std::vector<int> result;
  list.for_each([&](Item& item) { result.push_back(item.value); });
  return result;
}

TEST(IntrusiveList, KeepsOrderFromBothEnds) {
  Item a(1), b(2), c(3);
  IntrusiveList<Item> list;
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(list.pop_front(), nullptr);
  list.push_back(b);
  list.push_back(c);
  list.push_front(a);
  EXPECT_EQ(values(list), (std::vector{1, 2, 3}));
  EXPECT_EQ(&list.front(), &a);
  EXPECT_EQ(list.pop_front(), &a);
  EXPECT_FALSE(a.linked());
  EXPECT_TRUE(b.linked());
}

TEST(IntrusiveList, AnElementLeavesTheListWhenUnlinkedOrDestroyed) {
  IntrusiveList<Item> list;
  Item first(1);
  auto middle = std::make_unique<Item>(2);
  Item last(3);
  list.push_back(first);
  list.push_back(*middle);
  list.push_back(last);
  middle.reset();
  EXPECT_EQ(values(list), (std::vector{1, 3}));
  first.unlink();
  first.unlink();  // harmless when not linked
  EXPECT_EQ(values(list), (std::vector{3}));
}

TEST(IntrusiveList, LeavesItsElementsUnlinkedWhenDestroyedFirst) {
  Item a(1), b(2);
  {
    IntrusiveList<Item> list;
    list.push_back(a);
    list.push_back(b);
  }
  EXPECT_FALSE(a.linked());
  EXPECT_FALSE(b.linked());
  IntrusiveList<Item> other;
  other.push_back(b);
  EXPECT_EQ(values(other), (std::vector{2}));
}

TEST(IntrusiveList, ForEachMayUnlinkTheElementItIsGiven) {
  std::array<Item, 6> items{Item(0), Item(1), Item(2), Item(3), Item(4), Item(5)};
  IntrusiveList<Item> list;
  for (Item& item : items) list.push_back(item);
  list.for_each([](Item& item) {
    if (item.value % 2 == 0) item.unlink();
  });
  EXPECT_EQ(values(list), (std::vector{1, 3, 5}));
  list.for_each([](Item& item) { item.unlink(); });
  EXPECT_TRUE(list.empty());
}

#ifndef NDEBUG
TEST(IntrusiveListDeathTest, RefusesAnElementThatIsAlreadyOnAList) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Item item;
  IntrusiveList<Item> list;
  list.push_back(item);
  EXPECT_DEATH(list.push_back(item), "already on a list");
}
#endif

RC_GTEST_PROP(IntrusiveList, BehavesAsADequeUnderAnySequenceOfOperations,
              (const std::vector<std::uint8_t>& operations)) {
  std::array<Item, 8> items;
  for (std::size_t i = 0; i < items.size(); ++i) items[i].value = static_cast<int>(i);
  IntrusiveList<Item> list;
  std::deque<int> model;
  for (const std::uint8_t op : operations) {
    Item& item = items[op % items.size()];
    const bool linked = std::find(model.begin(), model.end(), item.value) != model.end();
    RC_ASSERT(item.linked() == linked);
    switch (op / items.size() % 4) {
      case 0:
        if (linked) break;
        list.push_back(item);
        model.push_back(item.value);
        break;
      case 1:
        if (linked) break;
        list.push_front(item);
        model.push_front(item.value);
        break;
      case 2:
        item.unlink();
        std::erase(model, item.value);
        break;
      default: {
        const Item* popped = list.pop_front();
        RC_ASSERT((popped != nullptr) == !model.empty());
        if (popped == nullptr) break;
        RC_ASSERT(popped->value == model.front());
        model.pop_front();
      }
    }
    RC_ASSERT(values(list) == std::vector<int>(model.begin(), model.end()));
    RC_ASSERT(list.empty() == model.empty());
  }
}

}  // namespace
}  // namespace leap
