#include "rpc/frame_stream.h"

#include <gtest/gtest.h>

#include "base/alloc_counter.h"
#include "base/random.h"
#include "rpc/error_codec.h"
#include "rpc/golden_frames.h"
#include "rpc/scripted_stream.h"

namespace leap::rpc {
namespace {

using testing::ScriptedStream;

struct Received {
  FrameHead head;
  std::vector<std::byte> header;
  std::vector<std::byte> data;
  friend bool operator==(const Received&, const Received&) = default;
};

struct Session {
  std::vector<Received> frames;
  Result<> outcome;  ///< success: the peer closed cleanly
};

/// Receives until the end, the data of each frame in two pieces.
Task<Session> receive_all(AsyncStream& stream, FrameLimits limits, HeaderBudget* budget) {
  Session session;
  FrameReader in(stream, limits, budget);
  for (;;) {
    const Result<bool> more = co_await in.next();
    if (!more.ok()) session.outcome = more.error();
    if (!more.ok() || !more.value()) break;
    Received frame{.head = in.head(), .header = {in.header().begin(), in.header().end()}, .data = {}};
    frame.data.resize(in.data_left());
    const std::size_t half = frame.data.size() / 2;
    Result<> got = co_await in.read_data(std::span(frame.data).first(half));
    if (got.ok()) got = co_await in.read_data(std::span(frame.data).subspan(half));
    if (!got.ok()) {
      session.outcome = got.error();
      break;
    }
    session.frames.push_back(std::move(frame));
  }
  co_return session;
}

class FrameStream : public ::testing::Test {
 protected:
  FrameStream() : poller_(NvmePoller::create({.name = "test"}).value()) { poller_->start().value(); }

  std::unique_ptr<AsyncStream> open(ScriptedStream::Script script) {
    sent_ = std::make_shared<std::vector<std::byte>>();
    return AsyncStream::open(*poller_, std::make_unique<ScriptedStream>(std::move(script), sent_)).value();
  }
  Session receive(ScriptedStream::Script script, FrameLimits limits = {}, HeaderBudget* budget = nullptr) {
    auto stream = open(std::move(script));
    return poller_->run([&](NvmePoller&) { return receive_all(*stream, limits, budget); });
  }
  static std::vector<std::byte> all_golden_frames() {
    std::vector<std::byte> bytes;
    for (std::size_t n = 1; n <= golden::kFrames.size(); ++n) {
      const auto frame = golden::frame(n);
      bytes.insert(bytes.end(), frame.begin(), frame.end());
    }
    return bytes;
  }

  std::unique_ptr<NvmePoller> poller_;
  ScriptedStream::Sent sent_;
};

TEST_F(FrameStream, FramesCutAnywhereAreTheSameFrames) {
  const auto bytes = all_golden_frames();
  const Session whole = receive({.input = bytes});
  ASSERT_TRUE(whole.outcome.ok());
  ASSERT_EQ(whole.frames.size(), golden::kFrames.size());
  EXPECT_EQ(whole.frames[0].header.size(), 105u);
  EXPECT_EQ(whole.frames[2].data, golden::bytes_of("68656c6c6f20776f726c6421"));

  const Session single = receive({.input = bytes, .cut = [](std::size_t) { return std::size_t{1}; }});
  EXPECT_EQ(single.frames, whole.frames) << "one byte at a time";
  for (std::size_t at = 1; at < bytes.size(); ++at) {
    const auto cut = [&](std::size_t left) { return left > bytes.size() - at ? left - (bytes.size() - at) : left; };
    const Session session = receive({.input = bytes, .cut = cut});
    ASSERT_TRUE(session.outcome.ok()) << at;
    ASSERT_EQ(session.frames, whole.frames) << "cut at " << at;
  }
}

TEST_F(FrameStream, EndInsideAPrefixIsCleanAndLaterItIsAnError) {
  const auto bytes = golden::frame(5);  // 22 prefix, 7 header, 4 data
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const Session session = receive({.input = {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}});
    EXPECT_TRUE(session.frames.empty()) << size;
    EXPECT_EQ(session.outcome.ok(), size <= kPrefixSize - 1) << size;
    if (session.outcome.ok()) continue;
    EXPECT_EQ(session.outcome.error().kind(), Errc::kClosed);
  }
}

TEST_F(FrameStream, MalformedPrefixEndsTheStream) {
  auto bytes = golden::frame(3);
  const auto bad = golden::bytes_of("ffffffff0000000050f39e3779b97f4a7c1500000001");
  bytes.insert(bytes.end(), bad.begin(), bad.end());
  const Session session = receive({.input = bytes});
  EXPECT_EQ(session.frames.size(), 1u);
  ASSERT_FALSE(session.outcome.ok());
  EXPECT_EQ(session.outcome.error().kind(), Errc::kProtocol);
}

/// A frame with a header of `size` bytes and no data.
std::vector<std::byte> with_header(std::size_t size) {
  std::vector<std::byte> bytes(kPrefixSize + size);
  encode_prefix(std::span(bytes).first<kPrefixSize>(),
                {.code = 82, .status = 0xF3, .header_size = static_cast<std::uint32_t>(size)});
  for (std::size_t i = 0; i < size; ++i) bytes[kPrefixSize + i] = static_cast<std::byte>(i * 31 >> 3);
  return bytes;
}

TEST_F(FrameStream, LargeHeadersArriveWholeAndTheirMemoryIsGivenBack) {
  auto bytes = with_header(5'000'001);
  const auto small = golden::frame(5);
  bytes.insert(bytes.end(), small.begin(), small.end());
  HeaderBudget budget(8 << 20);
  const Session session = receive({.input = bytes}, {}, &budget);
  ASSERT_TRUE(session.outcome.ok());
  ASSERT_EQ(session.frames.size(), 2u);
  EXPECT_TRUE(
      std::equal(session.frames[0].header.begin(), session.frames[0].header.end(), bytes.begin() + kPrefixSize));
  EXPECT_EQ(budget.available(), std::size_t{8 << 20});
}

TEST_F(FrameStream, AnnouncedHeaderBuysNoMemoryBeforeItArrives) {
  auto bytes = with_header(200'000'000 / 1000);
  encode_prefix(std::span(bytes).first<kPrefixSize>(), {.code = 82, .status = 0xF3, .header_size = 200'000'000});
  HeaderBudget budget(1 << 20);  // would not hold the announced size; the 200,000 bytes that arrive fit
  const Session session = receive({.input = bytes}, {}, &budget);
  ASSERT_FALSE(session.outcome.ok());
  EXPECT_EQ(session.outcome.error().kind(), Errc::kClosed) << session.outcome.error().to_string();
  EXPECT_EQ(budget.available(), std::size_t{1 << 20});
}

TEST_F(FrameStream, HeaderOverTheSharedBudgetIsRefused) {
  HeaderBudget budget(1 << 20);
  const Session session = receive({.input = with_header(3 << 20)}, {}, &budget);
  ASSERT_FALSE(session.outcome.ok());
  EXPECT_EQ(session.outcome.error().kind(), Errc::kExhausted);
  EXPECT_EQ(budget.available(), std::size_t{1 << 20});
}

TEST_F(FrameStream, RandomBytesNeverCrash) {
  Rng random(5);
  const auto golden_bytes = all_golden_frames();
  HeaderBudget budget(4 << 20);
  for (int i = 0; i < 2'000; ++i) {
    std::vector<std::byte> bytes = golden_bytes;
    for (int flips = 0; flips < 4; ++flips) bytes[random.below(bytes.size())] = static_cast<std::byte>(random.next());
    const Session session = receive({.input = bytes}, {}, &budget);
    for (const Received& frame : session.frames) EXPECT_LE(frame.header.size() + frame.data.size(), bytes.size());
  }
  EXPECT_EQ(budget.available(), std::size_t{4 << 20});
}

Task<Result<>> skip_then_next(AsyncStream& stream, FrameHead& second) {
  FrameReader in(stream);
  LEAP_CO_TRY(const bool first, co_await in.next());
  LEAP_CHECK(first, "first frame");
  LEAP_CO_TRY_VOID(co_await in.skip_data());
  LEAP_CO_TRY(const bool next, co_await in.next());
  LEAP_CHECK(next, "second frame");
  second = in.head();
  co_return Result<>{};
}

TEST_F(FrameStream, SkippedDataLeavesTheStreamInStep) {
  std::vector<std::byte> bytes(kPrefixSize + kMaxData, std::byte{0x5A});
  encode_prefix(std::span(bytes).first<kPrefixSize>(), {.code = 80, .status = 0xF3, .data_size = kMaxData});
  const auto next = golden::frame(12);
  bytes.insert(bytes.end(), next.begin(), next.end());
  auto stream = open({.input = bytes, .cut = [](std::size_t) { return std::size_t{99'991}; }});
  FrameHead second;
  poller_->run([&](NvmePoller&) { return skip_then_next(*stream, second); }).value();
  EXPECT_EQ(second, decode_prefix(std::span(next).first<kPrefixSize>()).value());
}

Task<Result<>> send_replies(AsyncStream& stream, FrameHead write_open, FrameHead read_running, FrameHead read_open) {
  FrameWriter out(stream);
  proto::BlockWriteResponse opened;
  opened.set_id(16793993217);
  opened.set_off(0);
  opened.set_block_size(134217728);
  opened.set_storage_type(proto::STORAGE_TYPE_SPDK_DISK);
  out.set_message(opened);
  LEAP_CO_TRY_VOID(co_await out.send(reply_head(write_open, ResponseStatus::kSuccess)));
  const std::string hello = "hello", rest = " world!";
  out.add_data(std::as_bytes(std::span(hello)));
  out.add_data({});
  out.add_data(std::as_bytes(std::span(rest)));
  LEAP_CO_TRY_VOID(co_await out.send(reply_head(read_running, ResponseStatus::kSuccess)));
  const std::string error = encode_error(ErrorKind::kBlockNotFound, "Block 16827547649 not found");
  out.add_data(std::as_bytes(std::span(error)));
  co_return co_await out.send(reply_head(read_open, ResponseStatus::kError));
}

TEST_F(FrameStream, RepliesAreTheGoldenFramesHoweverTheSocketTakesThem) {
  const auto head = [](std::size_t n) {
    const auto frame = golden::frame(n);
    return decode_prefix(std::span(frame).first<kPrefixSize>()).value();
  };
  std::vector<std::byte> wanted;
  for (const std::size_t n : {2u, 13u, 17u}) {
    const auto frame = golden::frame(n);
    wanted.insert(wanted.end(), frame.begin(), frame.end());
  }
  for (const std::size_t accept : {std::size_t{1}, std::size_t{23}, SIZE_MAX}) {
    auto stream = open({.input = {}, .accept_per_write = accept});
    poller_->run([&](NvmePoller&) { return send_replies(*stream, head(1), head(12), head(10)); }).value();
    EXPECT_EQ(*sent_, wanted) << accept;
  }
}

Task<Result<std::uint64_t>> count_allocations(AsyncStream& stream, std::size_t frames) {
  FrameReader in(stream);
  FrameWriter out(stream);
  std::array<std::byte, 8192> data;
  proto::DataHeaderProto header;
  std::uint64_t before = 0;
  for (std::size_t i = 0; i < frames; ++i) {
    if (i == frames / 2) before = thread_allocations();
    LEAP_CO_TRY(const bool more, co_await in.next());
    LEAP_CHECK(more, "the script holds all frames");
    LEAP_CO_TRY_VOID(parse_header(in.header(), header));
    LEAP_CO_TRY_VOID(co_await in.read_data(std::span(data).first(in.data_left())));
    out.add_data(data);
    LEAP_CO_TRY_VOID(co_await out.send(reply_head(in.head(), ResponseStatus::kSuccess)));
  }
  co_return thread_allocations() - before;
}

TEST_F(FrameStream, RunningFramesAllocateNothingAfterWarmUp) {
  if (!alloc_counting_available()) GTEST_SKIP() << "this build does not count allocations";
  std::vector<std::byte> bytes;
  constexpr std::size_t kFrames = 400;
  for (std::size_t i = 0; i < kFrames; ++i) {
    const auto frame = golden::frame(5);
    bytes.insert(bytes.end(), frame.begin(), frame.end());
  }
  auto stream = open({.input = bytes});
  sent_->reserve(kFrames * (8192 + kPrefixSize));
  const auto allocations = poller_->run([&](NvmePoller&) { return count_allocations(*stream, kFrames); });
  ASSERT_TRUE(allocations.ok()) << allocations.error().to_string();
  EXPECT_EQ(*allocations, 0u);
}

}  // namespace
}  // namespace leap::rpc
