#include "rpc/error_codec.h"

#include <algorithm>
#include <cctype>
#include <cerrno>

#include <gtest/gtest.h>

#include "base/random.h"
#include "rpc/frame.h"
#include "rpc/golden_frames.h"

namespace leap::rpc {
namespace {

std::span<const std::byte> as_bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

RemoteError round_trip(const Error& error) { return decode_error(as_bytes(encode_error(error))).value(); }

TEST(ErrorCodec, MatchesTheGoldenPayloads) {
  const auto not_found = golden::frame(17);
  const std::string payload =
      encode_error(Error(Errc::kNotFound, "Block 16827547649 not found").in(ErrorDomain::kStore));
  EXPECT_TRUE(std::ranges::equal(as_bytes(payload), std::span(not_found).subspan(kPrefixSize)));
  const auto common = golden::frame(18);
  EXPECT_TRUE(std::ranges::equal(as_bytes(encode_error(ErrorKind::kCommon, "bad request")),
                                 std::span(common).subspan(kPrefixSize)));
}

TEST(ErrorCodec, KindSaysWhatTheClientShouldDo) {
  const auto kind = [](Errc code, ErrorDomain domain) { return kind_of(Error(code, "x").in(domain)); };
  EXPECT_EQ(kind(Errc::kNotFound, ErrorDomain::kStore), ErrorKind::kBlockNotFound);
  EXPECT_EQ(kind(Errc::kNoSpace, ErrorDomain::kStore), ErrorKind::kDiskOutOfSpace);
  EXPECT_EQ(kind(Errc::kNoSpace, ErrorDomain::kOs), ErrorKind::kDiskOutOfSpace);
  EXPECT_EQ(kind(Errc::kInvalidArgument, ErrorDomain::kStore), ErrorKind::kInvalidArgument);
  EXPECT_EQ(kind(Errc::kIo, ErrorDomain::kNvme), ErrorKind::kIo);
  EXPECT_EQ(kind(Errc::kCorrupt, ErrorDomain::kStore), ErrorKind::kIo);
  EXPECT_EQ(kind(Errc::kTimedOut, ErrorDomain::kTransport), ErrorKind::kIo);
  EXPECT_EQ(kind(Errc::kUnreachable, ErrorDomain::kTransport), ErrorKind::kIo);
  EXPECT_EQ(kind_of(Error::os(ENOENT, "open /dev/nvme0n1")), ErrorKind::kIo) << "a missing device is no missing block";
  EXPECT_EQ(kind_of(Error::os(EINVAL, "pwrite")), ErrorKind::kIo);
  EXPECT_EQ(kind(Errc::kWrongState, ErrorDomain::kStore), ErrorKind::kCommon);
  EXPECT_EQ(kind(Errc::kBusy, ErrorDomain::kStore), ErrorKind::kCommon);
  EXPECT_EQ(kind(Errc::kProtocol, ErrorDomain::kRpc), ErrorKind::kCommon);
  EXPECT_EQ(kind(Errc::kUnsupported, ErrorDomain::kRpc), ErrorKind::kCommon);
}

TEST(ErrorCodec, NeverSendsTheNotLeaderKind) {
  for (int code = 0; code <= static_cast<int>(Errc::kIo); ++code) {
    for (int domain = 0; domain <= static_cast<int>(ErrorDomain::kRpc); ++domain) {
      const ErrorKind kind = kind_of(Error(static_cast<Errc>(code), "x").in(static_cast<ErrorDomain>(domain)));
      EXPECT_NE(kind, ErrorKind::kNotLeaderMaster);
      EXPECT_NE(to_string(kind), "?");
    }
  }
}

TEST(ErrorCodec, PayloadIsNeverShorterThanTwelveBytes) {
  EXPECT_EQ(encode_error(ErrorKind::kCommon, "").size(), 12u);
  EXPECT_EQ(round_trip(Error(Errc::kInternal, "")).message, "");
}

TEST(ErrorCodec, RewritesWordsThatClientsWouldActOn) {
  const char* phrases[] = {"connection refused", "Connection Reset", "early eof",       "BROKEN PIPE",
                           "sender dropped",     "unsupported",      "not implemented", "Permission denied"};
  for (const std::string phrase : phrases) {
    const RemoteError remote = round_trip(Error(Errc::kIo, "read: " + phrase + ", then " + phrase + "!"));
    EXPECT_EQ(lower_case(remote.message).find(lower_case(phrase)), std::string::npos) << remote.message;
    EXPECT_NE(remote.message.find(", then "), std::string::npos) << "the rest of the text stays";
    EXPECT_EQ(remote.message.back(), '!');
  }
}

TEST(ErrorCodec, KeepsWordsThatAreMeant) {
  EXPECT_EQ(round_trip(Error(Errc::kUnsupported, "Unsupported request type: 99")).message,
            "Unsupported request type: 99");
  EXPECT_EQ(round_trip(Error(Errc::kPermission, "permission denied")).message, "permission denied");
  EXPECT_EQ(round_trip(Error(Errc::kPermission, "unsupported")).message, "not supported");
}

TEST(ErrorCodec, TextIsAlwaysValidUtf8) {
  struct Case {
    std::string in, out;
  };
  const Case cases[] = {
      {"plain", "plain"},
      {"gr\xC3\xBC\xC3\x9F", "gr\xC3\xBC\xC3\x9F"},
      {"\xE2\x82\xAC \xF0\x9F\x98\x80", "\xE2\x82\xAC \xF0\x9F\x98\x80"},
      {"\xC3", "?"},                 // cut off
      {"\xC0\xAF", "??"},            // overlong
      {"\xED\xA0\x80", "???"},       // surrogate
      {"\xF4\x90\x80\x80", "????"},  // beyond U+10FFFF
      {"\x80 \xFF", "? ?"},
      {std::string("a\0b", 3), "a?b"},
  };
  for (const Case& c : cases) EXPECT_EQ(round_trip(Error(Errc::kInternal, c.in)).message, c.out);
}

TEST(ErrorCodec, LongTextIsCutBetweenCharacters) {
  std::string text(kMaxErrorText - 1, 'x');
  text += "\xE2\x82\xAC";
  const RemoteError remote = round_trip(Error(Errc::kInternal, text));
  EXPECT_EQ(remote.message, std::string(kMaxErrorText - 1, 'x'));
  EXPECT_EQ(round_trip(Error(Errc::kInternal, std::string(1 << 20, 'y'))).message.size(), kMaxErrorText);
}

TEST(ErrorCodec, DecoderToleratesWhatPeersSend) {
  std::string payload = encode_error(ErrorKind::kIo, "lost");
  payload.resize(payload.size() - 4);  // without the extra length
  EXPECT_EQ(decode_error(as_bytes(payload))->message, "lost");
  payload = encode_error(static_cast<ErrorKind>(777), "new");
  EXPECT_EQ(decode_error(as_bytes(payload))->kind, ErrorKind::kCommon);
  payload = encode_error(static_cast<ErrorKind>(-5), "odd");
  EXPECT_EQ(decode_error(as_bytes(payload))->kind, ErrorKind::kCommon);
}

TEST(ErrorCodec, DecoderRefusesWhatIsCutOff) {
  const std::string payload = encode_error(ErrorKind::kIo, "some text");
  for (std::size_t size = 0; size < 8 + 9; ++size) {
    const Result<RemoteError> remote = decode_error(as_bytes(payload).first(size));
    ASSERT_FALSE(remote.ok()) << size;
    EXPECT_EQ(remote.error().kind(), Errc::kProtocol);
  }
  std::string hostile = payload;
  for (std::size_t i = 4; i < 8; ++i) hostile[i] = '\xFF';  // text length 2^32 - 1
  EXPECT_FALSE(decode_error(as_bytes(hostile)).ok());
}

TEST(ErrorCodec, RandomPayloadsNeverCrash) {
  Rng random(11);
  for (int i = 0; i < 100'000; ++i) {
    std::string payload(random.next() % 40, '\0');
    for (char& c : payload) c = static_cast<char>(random.next());
    if (payload.size() > 7 && i % 2 == 0) payload[4] = payload[5] = payload[6] = '\0';
    const Result<RemoteError> remote = decode_error(as_bytes(payload));
    if (remote.ok()) {
      EXPECT_LE(remote->message.size(), payload.size());
    }
  }
}

TEST(ErrorCodec, ClientSeesTheMeaningAgain) {
  EXPECT_EQ(to_error(round_trip(Error(Errc::kNotFound, "block 7 not found"))).kind(), Errc::kNotFound);
  EXPECT_EQ(to_error(round_trip(Error(Errc::kNoSpace, "full"))).kind(), Errc::kNoSpace);
  EXPECT_EQ(to_error(round_trip(Error(Errc::kInvalidArgument, "off"))).kind(), Errc::kInvalidArgument);
  EXPECT_EQ(to_error(round_trip(Error(Errc::kIo, "dead"))).kind(), Errc::kIo);
  const Error error = to_error({ErrorKind::kBlockNotFound, "Block 7 not found"});
  EXPECT_EQ(error.domain(), ErrorDomain::kRpc);
  EXPECT_EQ(error.message(), "Block 7 not found (BlockNotFound)");
}

}  // namespace
}  // namespace leap::rpc
