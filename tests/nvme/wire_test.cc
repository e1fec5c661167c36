#include "nvme/wire.h"

#include <unordered_set>

#include <gtest/gtest.h>

#include "nvme/ids.h"
#include "nvme/text.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

using test::hex;

struct Pair {
  std::uint16_t a = 0;
  std::uint16_t b = 0;
};

TEST(Wire, LoadsLittleEndianAtAnyOffset) {
  const auto bytes = hex("ff 34 12 78 56");
  const auto pair = wire::load<Pair>(bytes, 1);
  ASSERT_TRUE(pair.has_value());
  EXPECT_EQ(pair->a, 0x1234);
  EXPECT_EQ(pair->b, 0x5678);
}

TEST(Wire, RefusesToLoadPastTheEnd) {
  const auto bytes = hex("01 02 03 04 05");
  EXPECT_TRUE(wire::load<Pair>(bytes, 1).has_value());
  EXPECT_FALSE(wire::load<Pair>(bytes, 2).has_value());
  EXPECT_FALSE(wire::load<Pair>(bytes, 5).has_value());
  EXPECT_FALSE(wire::load<Pair>(bytes, 6).has_value());
  EXPECT_FALSE(wire::load<Pair>(bytes, ~std::size_t{0}).has_value());
  EXPECT_FALSE(wire::load<Pair>({}).has_value());
}

TEST(Wire, StoresOnlyWhatFits) {
  auto bytes = hex("aa aa aa aa aa");
  EXPECT_TRUE(wire::store(std::span(bytes), Pair{0x1234, 0x5678}, 1));
  EXPECT_EQ(bytes, hex("aa 34 12 78 56"));
  EXPECT_FALSE(wire::store(std::span(bytes), Pair{0, 0}, 2));
  EXPECT_FALSE(wire::store(std::span(bytes), Pair{0, 0}, ~std::size_t{0}));
  EXPECT_EQ(bytes, hex("aa 34 12 78 56"));
}

TEST(Wire, BitFieldsCutAndReplace) {
  EXPECT_EQ((get_bits<4, 8>(0xABCDU)), 0xBCU);
  EXPECT_EQ((get_bits<0, 64>(~std::uint64_t{0})), ~std::uint64_t{0});
  EXPECT_EQ((get_bits<63, 1>(std::uint64_t{1} << 63)), 1U);
  EXPECT_EQ((set_bits<4, 8>(std::uint16_t{0xFFFF}, 0)), 0xF00F);
  EXPECT_EQ((set_bits<4, 4>(std::uint8_t{0x0F}, 0xFF)), 0xFF) << "bits above the field are dropped";
  EXPECT_EQ((set_bit<3>(std::uint8_t{0}, true)), 8);
  EXPECT_EQ((set_bit<3>(std::uint8_t{0xFF}, false)), 0xF7);
  EXPECT_TRUE(get_bit<15>(std::uint16_t{0x8000}));
}

TEST(Ids, AreDistinctOrderedAndHashable) {
  static_assert(!std::is_convertible_v<Qid, Cid>);
  static_assert(!std::is_convertible_v<std::uint16_t, Qid>);
  EXPECT_LT(Qid{1}, Qid{2});
  EXPECT_EQ(Nsid{7}.value(), 7U);
  std::unordered_set<Nsid> set{Nsid{1}, Nsid{1}, Nsid{2}};
  EXPECT_EQ(set.size(), 2U);
  EXPECT_EQ(kDynamicCntlid.value(), 0xFFFF);
  EXPECT_EQ(kAllNamespaces.value(), 0xFFFFFFFFU);
}

TEST(Text, PadsWithSpacesOrNulsAndCutsWhatDoesNotFit) {
  std::array<char, 8> field{};
  fill_spaces(field, "abc");
  EXPECT_EQ(std::string_view(field.data(), 8), "abc     ");
  EXPECT_EQ(trimmed_text(field), "abc");
  fill_spaces(field, "0123456789");
  EXPECT_EQ(trimmed_text(field), "01234567");
  EXPECT_FALSE(has_terminator(field));
  fill_nul(field, "0123456789");
  EXPECT_EQ(nul_terminated_text(field), "0123456") << "a terminator always stays";
  EXPECT_TRUE(has_terminator(field));
  fill_nul(field, "");
  EXPECT_EQ(nul_terminated_text(field), "");
}

TEST(Text, TrimStopsAtTheFirstNul) {
  std::array<char, 8> field{'a', 'b', ' ', '\0', 'x', ' ', ' ', ' '};
  EXPECT_EQ(trimmed_text(field), "ab");
  field.fill(' ');
  EXPECT_EQ(trimmed_text(field), "");
}

}  // namespace
}  // namespace leap::nvme
