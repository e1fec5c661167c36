#include "rpc/frame.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "rpc/golden_frames.h"

namespace leap::rpc {
namespace {

using Prefix = std::array<std::byte, kPrefixSize>;

Prefix prefix_of(std::int32_t total, std::int32_t header, std::uint8_t status = 0xF3) {
  Prefix out{};
  for (int i = 0; i < 4; ++i) {
    out[static_cast<std::size_t>(i)] = static_cast<std::byte>(static_cast<std::uint32_t>(total) >> (24 - 8 * i));
    out[static_cast<std::size_t>(4 + i)] = static_cast<std::byte>(static_cast<std::uint32_t>(header) >> (24 - 8 * i));
  }
  out[8] = std::byte{80};
  out[9] = std::byte{status};
  return out;
}

TEST(FramePrefix, EveryGoldenPrefixDecodesAndEncodesToTheSameBytes) {
  for (const golden::Frame& frame : golden::kFrames) {
    const auto bytes = golden::bytes_of(frame.hex);
    const Result<FrameHead> head = decode_prefix(std::span(bytes).first<kPrefixSize>());
    ASSERT_TRUE(head.ok()) << frame.name << ": " << head.error().to_string();
    EXPECT_EQ(head->body_size() + kPrefixSize, bytes.size()) << frame.name;
    Prefix out{};
    encode_prefix(out, *head);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), bytes.begin())) << frame.name;
  }
}

TEST(FramePrefix, FieldsOfAnOpenAreWhereTheDocumentSays) {
  const auto bytes = golden::frame(1);
  const FrameHead head = decode_prefix(std::span(bytes).first<kPrefixSize>()).value();
  EXPECT_EQ(head.code, 80);
  EXPECT_EQ(head.status, 0xF2);
  EXPECT_EQ(head.request(), RequestStatus::kOpen);
  EXPECT_EQ(head.response(), ResponseStatus::kUndefined);
  EXPECT_EQ(head.req_id, static_cast<std::int64_t>(0x9e3779b97f4a7c15ULL));
  EXPECT_LT(head.req_id, 0);
  EXPECT_EQ(head.seq_id, 0);
  EXPECT_EQ(head.header_size, 105u);
  EXPECT_EQ(head.data_size, 0u);
}

TEST(FramePrefix, NegativeIdsSurvive) {
  const auto bytes = golden::frame(19);
  const FrameHead head = decode_prefix(std::span(bytes).first<kPrefixSize>()).value();
  EXPECT_EQ(head.req_id, -1);
  EXPECT_EQ(head.seq_id, -1);
  EXPECT_EQ(head.request(), RequestStatus::kHeartbeat);
}

TEST(FramePrefix, DataUpToSixteenMebibytesIsAccepted) {
  const Result<FrameHead> head = decode_prefix(prefix_of(18 + 7 + static_cast<std::int32_t>(kMaxData), 7));
  ASSERT_TRUE(head.ok());
  EXPECT_EQ(head->data_size, kMaxData);
  EXPECT_EQ(head->header_size, 7u);
}

TEST(FramePrefix, LengthsThatCannotBeAreRefused) {
  struct Case {
    std::int32_t total, header;
    const char* says;
  };
  const Case cases[] = {
      {18 + static_cast<std::int32_t>(kMaxData) + 1, 0, "exceed"},
      {17, 0, "too small"},
      {18, 1, "too small"},
      {0, 0, "too small"},
      {-1, 0, "too small"},
      {INT32_MIN, 0, "too small"},
      {INT32_MIN, INT32_MAX, "too small"},
      {INT32_MAX, -1, "negative"},
      {18, INT32_MIN, "negative"},
      {INT32_MAX, 0, "exceed"},
  };
  for (const Case& c : cases) {
    const Result<FrameHead> head = decode_prefix(prefix_of(c.total, c.header));
    ASSERT_FALSE(head.ok()) << c.total << " " << c.header;
    EXPECT_EQ(head.error().kind(), Errc::kProtocol);
    EXPECT_NE(head.error().message().find(c.says), std::string::npos) << head.error().message();
  }
}

TEST(FramePrefix, HeaderCapIsTheCallers) {
  EXPECT_TRUE(decode_prefix(prefix_of(18 + 100, 100), {.max_header = 100}).ok());
  EXPECT_FALSE(decode_prefix(prefix_of(18 + 101, 101), {.max_header = 100}).ok());
  EXPECT_TRUE(decode_prefix(prefix_of(18 + (64 << 20), 64 << 20)).ok()) << "batch writes carry 64 MiB headers";
}

TEST(FramePrefix, RandomBytesAreRefusedOrWithinTheLimits) {
  Rng random(7);
  for (int i = 0; i < 200'000; ++i) {
    Prefix bytes;
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
    if (i % 2 == 0) bytes[0] = bytes[4] = std::byte{0};  // half of them with plausible lengths
    const Result<FrameHead> head = decode_prefix(bytes);
    if (!head.ok()) continue;
    EXPECT_LE(head->data_size, kMaxData);
    EXPECT_LE(head->header_size, FrameLimits{}.max_header);
    Prefix again{};
    encode_prefix(again, *head);
    EXPECT_EQ(again, bytes);
  }
}

TEST(StatusByte, EveryValueDecodesAsTheTableSays) {
  for (unsigned value = 0; value < 256; ++value) {
    const auto status = static_cast<std::uint8_t>(value);
    const unsigned low = value % 16, high = value / 16;
    EXPECT_EQ(static_cast<unsigned>(request_status(status)), low <= 5 ? low : 15) << value;
    EXPECT_EQ(static_cast<unsigned>(response_status(status)), high <= 1 ? high : 15) << value;
    EXPECT_EQ(is_empty_message(status), low > 5 && high > 1) << value;
    EXPECT_EQ(reply_byte(status, ResponseStatus::kSuccess), low);
    EXPECT_EQ(reply_byte(status, ResponseStatus::kError), 0x10 | low);
  }
  EXPECT_TRUE(is_empty_message(0xFF));
  EXPECT_FALSE(is_empty_message(0xF0));
  EXPECT_EQ(request_byte(RequestStatus::kComplete), 0xF5);
}

TEST(ReplyHead, EchoesWhatTheClientChecks) {
  const FrameHead request{
      .code = 81, .status = 0xF3, .req_id = INT64_MIN, .seq_id = -7, .header_size = 9, .data_size = 4};
  const FrameHead reply = reply_head(request, ResponseStatus::kError);
  EXPECT_EQ(reply, (FrameHead{.code = 81, .status = 0x13, .req_id = INT64_MIN, .seq_id = -7}));
}

}  // namespace
}  // namespace leap::rpc
