#include "base/crc32c.h"

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/random.h"

namespace leap {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

std::vector<std::byte> random_bytes(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> data(size);
  Rng(seed).fill(data);
  return data;
}

// The definition, bit by bit.
std::uint32_t oracle(std::span<const std::byte> data) {
  std::uint32_t crc = 0xffffffff;
  for (const std::byte b : data) {
    crc ^= std::to_integer<std::uint32_t>(b);
    for (int i = 0; i < 8; ++i) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78 : crc >> 1;
  }
  return ~crc;
}

TEST(Crc32c, GivesTheCheckValue) { EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283u); }

TEST(Crc32c, GivesTheVectorsOfRfc3720) {
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0x00})), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xff})), 0x62a8ab43u);
  std::vector<std::byte> up;
  std::vector<std::byte> down;
  for (unsigned i = 0; i < 32; ++i) {
    up.push_back(static_cast<std::byte>(i));
    down.push_back(static_cast<std::byte>(31 - i));
  }
  EXPECT_EQ(crc32c(up), 0x46dd794eu);
  EXPECT_EQ(crc32c(down), 0x113fdb5cu);
}

TEST(Crc32c, OfNothingIsTheSeed) {
  EXPECT_EQ(crc32c({}), 0u);
  EXPECT_EQ(crc32c({}, 0x12345678), 0x12345678u);
}

TEST(Crc32c, AgreesWithTheDefinitionAtEveryLengthAndAlignment) {
  const std::vector<std::byte> data = random_bytes(700, 1);
  for (std::size_t size = 0; size <= 600; ++size) {
    const std::size_t start = size % 17;
    const std::span<const std::byte> part = std::span(data).subspan(start, size);
    ASSERT_EQ(crc32c(part), oracle(part)) << "size " << size << " start " << start;
  }
  for (std::size_t start = 0; start < 64; ++start) {
    const std::span<const std::byte> part = std::span(data).subspan(start, 600);
    ASSERT_EQ(crc32c(part), oracle(part)) << "start " << start;
  }
}

TEST(Crc32c, AgreesWithTheDefinitionOnLargeBuffers) {
  const std::vector<std::byte> data = random_bytes(1'000'003, 2);
  EXPECT_EQ(crc32c(data), oracle(data));
  EXPECT_EQ(crc32c(std::span(data).first(4096)), oracle(std::span(data).first(4096)));
}

TEST(Crc32c, ChangesWithEveryBitOfABlock) {
  std::vector<std::byte> data = random_bytes(4096, 3);
  const std::uint32_t before = crc32c(data);
  for (std::size_t bit = 0; bit < 4096 * 8; bit += 61) {
    data[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    ASSERT_NE(crc32c(data), before) << "bit " << bit;
    data[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
  }
}

RC_GTEST_PROP(Crc32c, ContinuesFromASeedAtAnySplit, (const std::vector<std::uint8_t>& raw)) {
  const auto data = std::as_bytes(std::span(raw));
  const auto cut = *rc::gen::inRange<std::size_t>(0, raw.size() + 1);
  RC_ASSERT(crc32c(data.subspan(cut), crc32c(data.first(cut))) == oracle(data));
}

RC_GTEST_PROP(Crc32cCombine, EqualsTheCrcOfTheConcatenation, ()) {
  const auto size = *rc::gen::inRange<std::size_t>(0, 20'000);
  const auto cut = *rc::gen::inRange<std::size_t>(0, size + 1);
  const std::vector<std::byte> data = random_bytes(size, *rc::gen::arbitrary<std::uint64_t>());
  const auto head = std::span(data).first(cut);
  const auto tail = std::span(data).subspan(cut);
  RC_ASSERT(crc32c_combine(crc32c(head), crc32c(tail), tail.size()) == crc32c(data));
}

TEST(Crc32cCombine, JoinsTheChunksOfABlockInOrder) {
  const std::vector<std::byte> data = random_bytes(16 * 4096, 4);
  std::uint32_t joined = 0;
  for (std::size_t at = 0; at < data.size(); at += 4096) {
    joined = crc32c_combine(joined, crc32c(std::span(data).subspan(at, 4096)), 4096);
  }
  EXPECT_EQ(joined, crc32c(data));
}

TEST(Crc32cCombine, WithAnEmptySecondPartChangesNothing) {
  EXPECT_EQ(crc32c_combine(0xdeadbeef, crc32c({}), 0), 0xdeadbeefu);
}

TEST(Crc32cCombine, IsAssociativeForLengthsBeyondMemory) {
  // Lengths of terabytes cannot be checked against bytes, but both ways of grouping three parts must agree.
  const std::uint32_t a = 0x01234567, b = 0x89abcdef, c = 0x0badcafe;
  for (const std::size_t len_b : {std::size_t{1} << 40, (std::size_t{1} << 47) + 12345, std::size_t{3}}) {
    for (const std::size_t len_c : {std::size_t{1} << 45, (std::size_t{1} << 62) + 7}) {
      EXPECT_EQ(crc32c_combine(crc32c_combine(a, b, len_b), c, len_c),
                crc32c_combine(a, crc32c_combine(b, c, len_c), len_b + len_c));
    }
  }
}

TEST(Crc32cZeros, EqualsTheCrcOfZeroBytes) {
  const std::vector<std::byte> zeros(70'000);
  for (const std::size_t size : {0u, 1u, 2u, 3u, 4u, 5u, 31u, 32u, 72u, 511u, 512u, 4095u, 4096u, 65'536u, 70'000u}) {
    EXPECT_EQ(crc32c_zeros(size), crc32c(std::span(zeros).first(size))) << size;
  }
}

}  // namespace
}  // namespace leap
