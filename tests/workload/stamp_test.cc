#include "workload/stamp.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace leap {
namespace {

using testing::HasSubstr;

std::vector<std::byte> stamped(const Stamp& stamp, std::size_t size = kStampUnit) {
  std::vector<std::byte> unit(size);
  write_stamp(unit, stamp);
  return unit;
}

TEST(Stamp, AcceptsExactlyWhatWasWritten) {
  const Stamp stamp{.seed = 7, .position = 4096, .generation = 3};
  EXPECT_EQ(check_stamp(stamped(stamp), stamp), "");
  EXPECT_EQ(check_stamp(stamped(stamp, 512), stamp), "");
}

TEST(Stamp, TellsWrongPlaceOldWriteOtherRunAndZerosApart) {
  const Stamp stamp{.seed = 7, .position = 4096, .generation = 3};
  EXPECT_THAT(check_stamp(stamped({.seed = 7, .position = 8192, .generation = 3}), stamp),
              HasSubstr("holds position 8192 generation 3"));
  EXPECT_THAT(check_stamp(stamped({.seed = 7, .position = 4096, .generation = 2}), stamp),
              HasSubstr("holds position 4096 generation 2"));
  EXPECT_THAT(check_stamp(stamped({.seed = 8, .position = 4096, .generation = 3}), stamp),
              HasSubstr("differs from byte 0"));
  EXPECT_THAT(check_stamp(std::vector<std::byte>(kStampUnit), stamp), HasSubstr("all zeros"));
}

TEST(Stamp, IsRecognisedInEverySectorAndOtherDataIsNot) {
  for (const std::size_t size : {std::size_t{512}, std::size_t{1536}, kStampUnit}) {
    for (const std::uint64_t seed : {0u, 1u, 99u}) {
      const auto unit = stamped({.seed = seed, .position = 40 * size, .generation = seed}, size);
      for (std::size_t at = 0; at < size; at += 512) EXPECT_TRUE(is_stamped(std::span(unit).subspan(at, 512))) << at;
    }
  }
  auto sector = stamped({.seed = 1, .position = 0, .generation = 1}, 512);
  sector[511] ^= std::byte{1};
  EXPECT_FALSE(is_stamped(sector));
  EXPECT_FALSE(is_stamped(std::vector<std::byte>(512)));
  EXPECT_FALSE(is_stamped(std::vector<std::byte>(512, std::byte{0xA5})));
}

TEST(Stamp, NoticesEverySingleFlippedByte) {
  const Stamp stamp{.seed = 1, .position = 0, .generation = 1};
  auto unit = stamped(stamp, 512);
  for (std::size_t i = 0; i < unit.size(); ++i) {
    unit[i] ^= std::byte{1};
    EXPECT_NE(check_stamp(unit, stamp), "") << i;
    unit[i] ^= std::byte{1};
  }
}

}  // namespace
}  // namespace leap
