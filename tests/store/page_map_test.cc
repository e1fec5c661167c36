#include "store/page_map.h"

#include <map>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/random.h"

namespace leap {
namespace {

constexpr std::uint64_t kPage = kStorePage;

MappedExtent mapped(std::uint64_t logical, std::uint64_t device, std::uint64_t count) {
  return {logical * kPage, device * kPage, count * kPage};
}

TEST(PageMap, MergesWhatContinuesInBothSpacesAndNothingElse) {
  PageMap map;
  map.assign(mapped(0, 100, 4));
  map.assign(mapped(4, 104, 4));
  EXPECT_EQ(map.extents(), (std::vector{mapped(0, 100, 8)}));
  map.assign(mapped(8, 200, 1));
  map.assign(mapped(10, 202, 1));
  EXPECT_EQ(map.extents().size(), 3u);
  map.assign(mapped(9, 201, 1));
  EXPECT_EQ(map.extents(), (std::vector{mapped(0, 100, 8), mapped(8, 200, 3)}));
}

TEST(PageMap, SplitsAnExtentThatIsOverwrittenInTheMiddle) {
  PageMap map;
  map.assign(mapped(0, 100, 10));
  map.assign(mapped(4, 500, 2));
  EXPECT_EQ(map.extents(), (std::vector{mapped(0, 100, 4), mapped(4, 500, 2), mapped(6, 106, 4)}));
  EXPECT_EQ(map.at(5 * kPage, 100 * kPage).device_offset, 501 * kPage);
  EXPECT_EQ(map.at(5 * kPage, 100 * kPage).length, kPage);
}

TEST(PageMap, ReportsHolesUpToTheNextExtent) {
  PageMap map;
  map.assign(mapped(3, 100, 2));
  EXPECT_EQ(map.at(0, 100 * kPage).length, 3 * kPage);
  EXPECT_FALSE(map.at(0, 100 * kPage).device_offset.has_value());
  EXPECT_EQ(map.at(5 * kPage, 7 * kPage).length, 7 * kPage);
}

RC_GTEST_PROP(PageMapProperty, BehavesLikeAMapOfPages, ()) {
  Rng rng(*rc::gen::arbitrary<std::uint64_t>());
  PageMap map;
  std::map<std::uint64_t, std::uint64_t> oracle;
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t logical = rng.below(60);
    if (rng.chance(0.1)) {
      map.truncate(logical * kPage);
      oracle.erase(oracle.lower_bound(logical), oracle.end());
    } else {
      const std::uint64_t count = 1 + rng.below(12);
      // Often next to what is there, so that merges happen.
      const std::uint64_t device = rng.chance(0.5) ? 1000 + logical : 5000 + rng.below(1000);
      map.assign(mapped(logical, device, count));
      for (std::uint64_t p = 0; p < count; ++p) oracle[logical + p] = device + p;
    }
    std::uint64_t seen = 0;
    for (std::uint64_t page = 0; page < 80;) {
      const PageMap::Run run = map.at(page * kPage, (80 - page) * kPage);
      RC_ASSERT(run.length % kPage == 0 && run.length > 0);
      for (std::uint64_t p = 0; p < run.length / kPage; ++p) {
        const auto found = oracle.find(page + p);
        RC_ASSERT(run.device_offset.has_value() == (found != oracle.end()));
        if (run.device_offset) RC_ASSERT(found->second == *run.device_offset / kPage + p);
        if (run.device_offset) ++seen;
      }
      page += run.length / kPage;
    }
    RC_ASSERT(seen == oracle.size());
    RC_ASSERT(map.mapped_bytes() == oracle.size() * kPage);
    for (std::size_t e = 1; e < map.extents().size(); ++e) {
      const MappedExtent& a = map.extents()[e - 1];
      const MappedExtent& b = map.extents()[e];
      RC_ASSERT(a.logical_end() <= b.logical_offset);
      RC_ASSERT(a.logical_end() != b.logical_offset || a.device_offset + a.length != b.device_offset);
    }
  }
}

RC_GTEST_PROP(PageMapProperty, SubtractLeavesExactlyTheDifference, ()) {
  Rng rng(*rc::gen::arbitrary<std::uint64_t>());
  const auto random_set = [&rng] {
    std::vector<Extent> out;
    for (std::uint64_t at = rng.below(4); at < 60; at += 1 + rng.below(5)) {
      const std::uint64_t length = 1 + rng.below(6);
      out.push_back({at * kPage, length * kPage});
      at += length;
    }
    normalize(out);
    return out;
  };
  const std::vector<Extent> a = random_set();
  const std::vector<Extent> b = random_set();
  const std::vector<Extent> left = subtract(a, b);
  const auto covers = [](const std::vector<Extent>& set, std::uint64_t page) {
    for (const Extent& e : set) {
      if (page * kPage >= e.device_offset && page * kPage < e.end()) return true;
    }
    return false;
  };
  for (std::uint64_t page = 0; page < 80; ++page)
    RC_ASSERT(covers(left, page) == (covers(a, page) && !covers(b, page)));
}

}  // namespace
}  // namespace leap
