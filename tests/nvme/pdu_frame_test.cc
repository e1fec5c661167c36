#include "nvme/pdu_frame.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "nvme/nvm_command.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

constexpr auto kHost = PduDirection::kToHost;
constexpr auto kController = PduDirection::kToController;
constexpr ConnectionParams kDigests{.hdgst = true, .ddgst = true, .hpda = 3, .cpda = 7};

/// A complete PDU with `data` bytes counting up from `first`.
template <WireStruct Pdu>
std::vector<std::byte> whole(const Pdu& pdu, unsigned first = 0) {
  const PduLayout at = layout_of(pdu.header);
  std::vector<std::byte> bytes(at.total_bytes);
  EXPECT_EQ(write_head(bytes, pdu), at.data_offset);
  for (std::uint32_t i = 0; i < at.data_bytes; ++i) bytes[at.data_offset + i] = static_cast<std::byte>(first + i);
  if (at.data_digest_bytes != 0) {
    const std::uint32_t digest = data_digest(std::span(bytes).subspan(at.data_offset, at.data_bytes));
    put_digest(std::span<std::byte, kDigestBytes>(bytes.data() + at.data_offset + at.data_bytes, kDigestBytes), digest);
  }
  return bytes;
}

TEST(PduFrame, AsksForTheCommonHeaderFirstThenForTheHead) {
  const auto bytes = whole(make_c2h_data(Cid{7}, 0, 100, true, true, kDigests));
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    const PduFrame frame = frame_pdu(std::span(bytes).first(size), kHost, kDigests, true);
    if (size < 8) {
      EXPECT_EQ(frame.state, FrameState::kNeedMore);
      EXPECT_EQ(frame.need_bytes, 8U);
    } else if (size < 28) {
      EXPECT_EQ(frame.state, FrameState::kNeedMore);
      EXPECT_EQ(frame.need_bytes, 28U);
      EXPECT_EQ(frame.header.type, PduType::kC2HData);
    } else {
      ASSERT_EQ(frame.state, FrameState::kReady) << size;
      EXPECT_EQ(frame.at, (PduLayout{.header_bytes = 24,
                                     .header_digest_bytes = 4,
                                     .data_offset = 32,
                                     .data_bytes = 100,
                                     .data_digest_bytes = 4,
                                     .total_bytes = 136}));
    }
  }
}

TEST(PduFrame, IgnoresWhatFollowsThePdu) {
  auto bytes = whole(make_r2t(Cid{7}, 1, 0, 4096, {}));
  bytes.resize(bytes.size() + 100, std::byte{0xFF});
  const PduFrame frame = frame_pdu(bytes, kHost, {}, true);
  EXPECT_EQ(frame.state, FrameState::kReady);
  EXPECT_EQ(frame.at.total_bytes, 24U);
}

TEST(PduFrame, JudgesTheCommonHeaderBeforeTheRestArrives) {
  PduHeader header = make_pdu_header(PduType::kR2T, 0, {});
  header.plen = 4096;
  const PduFrame frame = frame_pdu(wire::bytes_of(header), kHost, {}, true);
  EXPECT_EQ(frame.state, FrameState::kInvalid);
  EXPECT_EQ(frame.error, bad_field(pdu_field::kPlen));
}

TEST(PduFrame, EveryFlippedHeaderBitIsNoticed) {
  Completion cqe;
  cqe.cid = Cid{7};
  const auto good = whole(make_capsule_resp(cqe, kDigests));
  ASSERT_EQ(frame_pdu(good, kHost, kDigests, true).state, FrameState::kReady);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bytes = good;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    bytes.resize(256);  // enough for whatever length the flip pretends
    EXPECT_EQ(frame_pdu(bytes, kHost, kDigests, true).state, FrameState::kInvalid) << "bit " << bit;
  }
}

TEST(PduFrame, HeaderDigestErrorReportsTheDigestReceived) {
  auto bytes = whole(make_r2t(Cid{7}, 1, 0, 4096, kDigests));
  put_digest(std::span(bytes).subspan(24).first<kDigestBytes>(), 0x01020304);
  const PduFrame frame = frame_pdu(bytes, kHost, kDigests, true);
  EXPECT_EQ(frame.state, FrameState::kInvalid);
  EXPECT_EQ(frame.error, (PduError{Fes::kHeaderDigestError, 0x01020304}));
}

TEST(PduFrame, TypeSpecificFieldsAreJudgedAfterTheDigest) {
  R2TPdu pdu = make_r2t(Cid{7}, 1, 0, 4096, kDigests);
  pdu.r2tl = 0;
  EXPECT_EQ(frame_pdu(whole(pdu), kHost, kDigests, true).error, bad_field(pdu_field::kDataLength));
  H2CDataPdu h2c = make_h2c_data(Cid{7}, 1, 0, 512, true, kDigests);
  h2c.datal = 508;
  EXPECT_EQ(frame_pdu(whole(h2c), kController, kDigests, true).error, bad_field(pdu_field::kDataLength));
  IcReqPdu icreq = make_icreq({});
  icreq.hpda = 99;
  EXPECT_EQ(frame_pdu(whole(icreq), kController, {}, false).error, bad_field(pdu_field::kPda));
  IcRespPdu icresp = make_icresp({.hdgst = true});
  EXPECT_EQ(frame_pdu(whole(icresp), kHost, {}, false).error, bad_field(pdu_field::kDgst));
}

TEST(PduFrame, CapsuleWithInCapsuleDataIsLaidOut) {
  Command cmd = make_write(Nsid{1}, 0, 1);
  const auto bytes = whole(make_capsule_cmd(cmd, 512, kDigests), 5);
  const PduFrame frame = frame_pdu(bytes, kController, kDigests, true);
  ASSERT_EQ(frame.state, FrameState::kReady);
  EXPECT_EQ(frame.at.data_offset, 96U) << "72 + 4 rounded up to 32";
  EXPECT_EQ(frame.at.data_bytes, 512U);
  EXPECT_EQ(wire::load<CapsuleCmdPdu>(bytes)->cmd, cmd);
}

// A stream of random PDUs cut anywhere comes apart into the same PDUs.
RC_GTEST_PROP(PduFrame, AnyCutOfAStreamGivesTheSamePdus, ()) {
  const ConnectionParams params{.hdgst = *rc::gen::arbitrary<bool>(),
                                .ddgst = *rc::gen::arbitrary<bool>(),
                                .hpda = *rc::gen::inRange<std::uint8_t>(0, 32)};
  const auto sizes = *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange(0U, 300U));
  std::vector<std::byte> stream;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Completion cqe;
    cqe.cid = Cid{static_cast<std::uint16_t>(i)};
    const auto pdu = sizes[i] == 0
                         ? whole(make_capsule_resp(cqe, params))
                         : whole(make_c2h_data(cqe.cid, 0, sizes[i], true, false, params), static_cast<unsigned>(i));
    stream.insert(stream.end(), pdu.begin(), pdu.end());
  }
  // Deliver in random pieces; take PDUs out whenever one is whole.
  std::vector<std::byte> buffer;
  std::size_t delivered = 0;
  std::size_t seen = 0;
  while (seen < sizes.size()) {
    const PduFrame frame = frame_pdu(buffer, kHost, params, true);
    RC_ASSERT(frame.state != FrameState::kInvalid);
    if (frame.state == FrameState::kReady && buffer.size() >= frame.at.total_bytes) {
      RC_ASSERT(frame.at.data_bytes == sizes[seen]);
      RC_ASSERT((frame.header.type == PduType::kCapsuleResp) == (sizes[seen] == 0));
      for (std::uint32_t i = 0; i < frame.at.data_bytes; ++i) {
        RC_ASSERT(buffer[frame.at.data_offset + i] == static_cast<std::byte>(seen + i));
      }
      buffer.erase(buffer.begin(), buffer.begin() + frame.at.total_bytes);
      ++seen;
      continue;
    }
    if (frame.state == FrameState::kNeedMore) RC_ASSERT(frame.need_bytes > buffer.size());
    RC_ASSERT(delivered < stream.size());
    const auto step = std::min<std::size_t>(*rc::gen::inRange<std::size_t>(1, 64), stream.size() - delivered);
    buffer.insert(buffer.end(), stream.begin() + static_cast<std::ptrdiff_t>(delivered),
                  stream.begin() + static_cast<std::ptrdiff_t>(delivered + step));
    delivered += step;
  }
  RC_ASSERT(buffer.empty());
}

// Whatever arrives: no read past the view (ASan watches), and a layout that is accepted is consistent and within
// limits.
RC_GTEST_PROP(PduFrame, AcceptsOnlyConsistentLayouts, ()) {
  const auto byte = rc::gen::arbitrary<std::uint8_t>();
  const ConnectionParams params{.hdgst = *rc::gen::arbitrary<bool>(),
                                .ddgst = *rc::gen::arbitrary<bool>(),
                                .hpda = *rc::gen::inRange<std::uint8_t>(0, 32),
                                .cpda = *rc::gen::inRange<std::uint8_t>(0, 32),
                                .maxh2cdata = 8192,
                                .in_capsule_bytes = 4096,
                                .max_c2h_bytes = 65536};
  const PduDirection direction = *rc::gen::element(kHost, kController);
  const auto size = *rc::gen::inRange<std::size_t>(0, 160);
  // An exact heap block, so that one byte too far is an error and not luck.
  const auto block = std::make_unique<std::byte[]>(size);
  const std::span<std::byte> bytes(block.get(), size);
  for (auto& b : bytes) b = static_cast<std::byte>(*byte);
  if (size >= sizeof(PduHeader)) {  // mostly plausible headers, or nothing gets past the type
    PduHeader header = *wire::load<PduHeader>(bytes);
    header.type = *rc::gen::element(PduType::kIcReq, PduType::kIcResp, PduType::kH2CTermReq, PduType::kC2HTermReq,
                                    PduType::kCapsuleCmd, PduType::kCapsuleResp, PduType::kH2CData, PduType::kC2HData,
                                    PduType::kR2T, static_cast<PduType>(*byte));
    if (*rc::gen::inRange(0, 8) != 0) header.hlen = header_bytes(header.type);
    if (*rc::gen::inRange(0, 8) != 0) {
      header.flags = static_cast<std::uint8_t>((params.hdgst ? 1 : 0) | (params.ddgst ? 2 : 0) | (*byte & 0x0C));
    }
    if (*rc::gen::inRange(0, 8) != 0) header.pdo = data_offset_for(header.type, params);
    if (*rc::gen::inRange(0, 8) != 0) header.plen = header.hlen + *rc::gen::inRange(0U, 9000U);
    RC_ASSERT(wire::store(bytes, header));
  }
  const bool ic_done = *rc::gen::arbitrary<bool>();
  const PduFrame frame = frame_pdu(bytes, direction, params, ic_done);
  if (frame.state == FrameState::kNeedMore) {
    RC_ASSERT(frame.need_bytes > size);
    RC_ASSERT(frame.need_bytes <= kMaxPduHeaderBytes);
  } else if (frame.state == FrameState::kReady) {
    const PduLayout& at = frame.at;
    RC_ASSERT(at.head_bytes() <= size);
    RC_ASSERT(at.data_offset >= at.head_bytes());
    RC_ASSERT(std::uint64_t{at.data_offset} + at.data_bytes + at.data_digest_bytes == at.total_bytes);
    RC_ASSERT(at.data_bytes <= 65536U);
    RC_ASSERT(at.pad_bytes() < 256U);
  }
}

}  // namespace
}  // namespace leap::nvme
