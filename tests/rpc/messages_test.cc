#include "rpc/messages.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "rpc/component.h"
#include "rpc/frame.h"
#include "rpc/golden_frames.h"

namespace leap::rpc {
namespace {

constexpr std::int64_t kBlock = 16793993217;
constexpr std::int64_t kOtherBlock = 16810770433;
constexpr std::int64_t kCapacity = 134217728;

std::vector<std::byte> encoded(const google::protobuf::MessageLite& message) {
  std::vector<std::byte> out(header_size(message));
  encode_header(message, out);
  return out;
}

std::vector<std::byte> golden_header(std::size_t number) {
  const auto bytes = golden::frame(number);
  const FrameHead head = decode_prefix(std::span(bytes).first<kPrefixSize>()).value();
  const auto header = std::span(bytes).subspan(kPrefixSize, head.header_size);
  return {header.begin(), header.end()};
}

void fill_component(proto::ComponentInfoProto& info) {
  Component{.name = "client", .release_version = "0.4.1", .git_commit = "bff4e7dc", .git_tag = "", .git_branch = "main"}
      .fill(info);
}

proto::BlockWriteRequest write_request(std::int64_t id, std::int64_t length, std::int64_t off, std::int32_t chunk) {
  proto::BlockWriteRequest request;
  auto& block = *request.mutable_block();
  block.set_id(id);
  block.set_block_size(length);
  block.set_storage_type(proto::STORAGE_TYPE_DISK);
  block.set_file_type(proto::FILE_TYPE_FILE);
  request.set_off(off);
  request.set_block_size(kCapacity);
  request.set_short_circuit(false);
  request.set_client_name("c0ffee00-0000-4000-8000-000000000001");
  request.set_chunk_size(chunk);
  fill_component(*request.mutable_component_info());
  return request;
}

proto::DataHeaderProto data_header(std::int64_t offset, bool flush) {
  proto::DataHeaderProto header;
  header.set_offset(offset);
  header.set_flush(flush);
  header.set_is_last(false);
  return header;
}

proto::BlockReadRequest read_request(std::int64_t length, std::int32_t chunk, bool short_circuit,
                                     std::int64_t read_ahead) {
  proto::BlockReadRequest request;
  request.set_id(kBlock);
  request.set_off(0);
  request.set_len(length);
  request.set_chunk_size(chunk);
  request.set_short_circuit(short_circuit);
  request.set_enable_read_ahead(true);
  request.set_read_ahead_len(read_ahead);
  request.set_drop_cache_len(1048576);
  fill_component(*request.mutable_component_info());
  return request;
}

TEST(Messages, EncodeToTheGoldenHeaders) {
  EXPECT_EQ(encoded(write_request(kBlock, 0, 0, 131072)), golden_header(1));
  EXPECT_EQ(encoded(data_header(4096, false)), golden_header(5));
  EXPECT_EQ(encoded(data_header(4100, true)), golden_header(6));
  EXPECT_EQ(encoded(write_request(kBlock, 4100, 4100, 0)), golden_header(7));
  EXPECT_EQ(encoded(write_request(kOtherBlock, 0, 0, 0)), golden_header(9));
  EXPECT_EQ(encoded(read_request(4100, 131072, true, 1048576)), golden_header(10));
  EXPECT_EQ(encoded(data_header(4096, false)), golden_header(14));
  EXPECT_EQ(encoded(read_request(0, 0, false, 4194304)), golden_header(15));

  proto::BlockWriteResponse written;
  written.set_id(kBlock);
  written.set_off(0);
  written.set_block_size(kCapacity);
  written.set_storage_type(proto::STORAGE_TYPE_SPDK_DISK);
  EXPECT_EQ(encoded(written), golden_header(2));

  proto::BlockReadResponse read;
  read.set_id(kBlock);
  read.set_len(4100);
  read.set_storage_type(proto::STORAGE_TYPE_SPDK_DISK);
  EXPECT_EQ(encoded(read), golden_header(11));
}

TEST(Messages, GoldenHeadersDecodeAndEncodeToTheSameBytes) {
  proto::BlockWriteRequest write;
  proto::BlockReadRequest read;
  proto::DataHeaderProto data;
  for (const std::size_t number : {1u, 7u, 9u}) {
    ASSERT_TRUE(parse_header(golden_header(number), write).ok());
    EXPECT_EQ(encoded(write), golden_header(number)) << "A" << number;
  }
  for (const std::size_t number : {10u, 15u}) {
    ASSERT_TRUE(parse_header(golden_header(number), read).ok());
    EXPECT_EQ(encoded(read), golden_header(number)) << "A" << number;
  }
  for (const std::size_t number : {5u, 6u, 14u}) {
    ASSERT_TRUE(parse_header(golden_header(number), data).ok());
    EXPECT_EQ(encoded(data), golden_header(number)) << "A" << number;
  }
}

TEST(Messages, AbsentFieldsTakeTheirDefaults) {
  proto::BlockReadRequest read;
  read.set_read_ahead_len(1);  // what an earlier request left behind must not shine through
  ASSERT_TRUE(parse_header({}, read).ok());
  EXPECT_EQ(read.id(), 0);
  EXPECT_FALSE(read.short_circuit());
  EXPECT_TRUE(read.enable_read_ahead());
  EXPECT_EQ(read.read_ahead_len(), 4194304);
  EXPECT_EQ(read.drop_cache_len(), 1048576);
  EXPECT_FALSE(read.has_component_info());

  proto::BlockWriteRequest write;
  ASSERT_TRUE(parse_header({}, write).ok());
  EXPECT_EQ(write.block().id(), 0);
  EXPECT_EQ(write.block().storage_type(), proto::STORAGE_TYPE_DISK);
  EXPECT_EQ(write.block().file_type(), proto::FILE_TYPE_FILE);
  EXPECT_EQ(write.component_info().protocol_version(), 1u);
}

TEST(Messages, UnknownFieldsAndEnumNumbersAreTolerated) {
  // block { id = 7, storage_type = 99, 500: "abc" }, 2000: 1
  proto::BlockWriteRequest request;
  ASSERT_TRUE(parse_header(golden::bytes_of("0a0a08071863a21f0361626380fa0001"), request).ok());
  EXPECT_EQ(request.block().id(), 7);
  EXPECT_EQ(request.block().storage_type(), proto::STORAGE_TYPE_DISK);
}

TEST(Messages, TextThatIsNoUtf8IsTolerated) {
  proto::BlockWriteRequest request;
  ASSERT_TRUE(parse_header(golden::bytes_of("2a02ff80"), request).ok());
  EXPECT_EQ(request.client_name(), "\xff\x80");
}

TEST(Messages, BrokenHeadersAreAnErrorNotACrash) {
  const auto whole = golden_header(1);
  proto::BlockWriteRequest request;
  std::size_t refused = 0;
  for (std::size_t size = 1; size < whole.size(); ++size) {
    const Result<> parsed = parse_header(std::span(whole).first(size), request);
    if (parsed.ok()) continue;  // a cut between two fields leaves a shorter message
    ++refused;
    EXPECT_EQ(parsed.error().kind(), Errc::kProtocol);
    EXPECT_EQ(parsed.error().domain(), ErrorDomain::kRpc);
  }
  EXPECT_GT(refused, 90u);
}

TEST(Messages, RandomHeadersNeverCrash) {
  Rng random(3);
  proto::BlockWriteRequest write;
  proto::BlockReadRequest read;
  proto::DataHeaderProto data;
  const auto seed_header = golden_header(1);
  for (int i = 0; i < 50'000; ++i) {
    std::vector<std::byte> bytes = seed_header;
    if (i % 2 == 0) {
      for (int flips = 0; flips < 3; ++flips) bytes[random.below(bytes.size())] = static_cast<std::byte>(random.next());
    } else {
      bytes.resize(random.below(64));
      for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
    }
    parse_header(bytes, write).ignore("only a crash counts");
    parse_header(bytes, read).ignore("only a crash counts");
    parse_header(bytes, data).ignore("only a crash counts");
  }
}

}  // namespace
}  // namespace leap::rpc
