#include "nvme/pdu.h"

#include <gtest/gtest.h>

#include "nvme/nvm_command.h"
#include "nvme/pdu_frame.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

using test::dump;
using test::hex;
using test::zeros;

constexpr ConnectionParams kPlain{};
constexpr ConnectionParams kDigests{.hdgst = true, .ddgst = true};

template <WireStruct Pdu>
std::string head_of(const Pdu& pdu) {
  std::array<std::byte, kMaxPduHeadBytes> buffer;
  buffer.fill(std::byte{0xEE});
  const std::size_t size = write_head(buffer, pdu);
  return dump(std::span(buffer).first(size));
}

TEST(Pdu, IcReq) {
  EXPECT_WIRE(make_icreq(kPlain), "00 00 80 00 80 00 00 00 00 00 00 00 00 00 00 00" + zeros(112));
  EXPECT_WIRE(make_icreq({.hdgst = true, .ddgst = true, .hpda = 31, .maxr2t = 17}),
              "00 00 80 00 80 00 00 00 00 00 1f 03 10 00 00 00" + zeros(112));
  EXPECT_EQ(make_icreq({.hdgst = true}).dgst, 1);
  EXPECT_EQ(make_icreq({.ddgst = true}).dgst, 2);
}

TEST(Pdu, IcResp) {
  EXPECT_WIRE(make_icresp({.hdgst = false, .ddgst = true, .cpda = 3, .maxh2cdata = 0x20000}),
              "01 00 80 00 80 00 00 00 00 00 03 02 00 00 02 00" + zeros(112));
}

TEST(Pdu, TermReqCarriesFeiOffItsAlignment) {
  EXPECT_WIRE(make_term_req(PduDirection::kToController, Fes::kHeaderDigestError, 0x11223344, 24),
              "02 00 18 00 30 00 00 00 03 00 44 33 22 11" + zeros(10));
  const TermReqPdu pdu = make_term_req(PduDirection::kToHost, Fes::kInvalidHeaderField, pdu_field::kPlen, 8);
  EXPECT_WIRE(pdu, "03 00 18 00 20 00 00 00 01 00 04 00 00 00" + zeros(10));
  EXPECT_EQ(pdu.fei(), 4U);
  EXPECT_EQ(make_term_req(PduDirection::kToHost, Fes::kPduSequenceError, 0, 4096).header.plen, 152U)
      << "at most 128 bytes are quoted";
}

TEST(Pdu, TermReqHasNoDigestsWhateverWasNegotiated) {
  const PduHeader header = make_pdu_header(PduType::kC2HTermReq, 100, kDigests);
  EXPECT_EQ(header.flags, 0);
  EXPECT_EQ(header.plen, 124U);
  EXPECT_EQ(layout_of(header).data_offset, 24U);
  EXPECT_EQ(layout_of(header).data_bytes, 100U);
}

Command write_command() {
  Command cmd = make_write(Nsid{1}, 8, 8);
  cmd.cid = Cid{10};
  cmd.set_sgl(SglDescriptor::in_capsule(4096));
  return cmd;
}
const char* const kWriteSqe =
    "01 40 0a 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
    "00 10 00 00 00 00 00 01 08 00 00 00 00 00 00 00 07 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";

TEST(Pdu, CapsuleCmdWithoutData) {
  const auto pdu = make_capsule_cmd(write_command(), 0, kPlain);
  EXPECT_WIRE(pdu, std::string("04 00 48 00 48 00 00 00") + kWriteSqe);
  const PduLayout at = layout_of(pdu.header);
  EXPECT_EQ(at, (PduLayout{.header_bytes = 72, .data_offset = 72, .total_bytes = 72}));
}

TEST(Pdu, CapsuleCmdWithoutDataHasNoDataDigest) {
  const auto pdu = make_capsule_cmd(write_command(), 0, kDigests);
  EXPECT_WIRE(pdu, std::string("04 01 48 00 4c 00 00 00") + kWriteSqe);
  EXPECT_EQ(layout_of(pdu.header), (PduLayout{.header_bytes = 72,
                                              .header_digest_bytes = 4,
                                              .data_offset = 76,
                                              .data_bytes = 0,
                                              .data_digest_bytes = 0,
                                              .total_bytes = 76}));
}

TEST(Pdu, CapsuleCmdWithData) {
  const auto pdu = make_capsule_cmd(write_command(), 4096, kPlain);
  EXPECT_WIRE(pdu, std::string("04 00 48 48 48 10 00 00") + kWriteSqe);
}

TEST(Pdu, CapsuleCmdWithDataDigestsAndAlignment) {
  ConnectionParams params = kDigests;
  params.cpda = 31;
  const auto pdu = make_capsule_cmd(write_command(), 4096, params);
  EXPECT_WIRE(pdu, std::string("04 03 48 80 84 10 00 00") + kWriteSqe);
  EXPECT_EQ(layout_of(pdu.header), (PduLayout{.header_bytes = 72,
                                              .header_digest_bytes = 4,
                                              .data_offset = 128,
                                              .data_bytes = 4096,
                                              .data_digest_bytes = 4,
                                              .total_bytes = 4228}));
  EXPECT_EQ(layout_of(pdu.header).pad_bytes(), 52U);
  // CRC32C of the 72 header bytes, computed bit by bit elsewhere: 75de77c8h.
  EXPECT_EQ(head_of(pdu), dump(hex(std::string("04 03 48 80 84 10 00 00") + kWriteSqe + "c8 77 de 75" + zeros(52))));
}

TEST(Pdu, CapsuleResp) {
  Completion cqe;
  cqe.sqhd = 5;
  cqe.sqid = Qid{1};
  cqe.cid = Cid{7};
  EXPECT_WIRE(make_capsule_resp(cqe, kPlain),
              "05 00 18 00 18 00 00 00 00 00 00 00 00 00 00 00 05 00 01 00 07 00 00 00");
  EXPECT_EQ(head_of(make_capsule_resp(cqe, kDigests)),
            dump(hex("05 01 18 00 1c 00 00 00 00 00 00 00 00 00 00 00 05 00 01 00 07 00 00 00 02 3e 12 17")));
}

TEST(Pdu, H2CData) {
  EXPECT_WIRE(make_h2c_data(Cid{0x0102}, 0x0304, 0x11121314, 0x1000, true, kPlain),
              "06 04 18 18 18 10 00 00 02 01 04 03 14 13 12 11 00 10 00 00 00 00 00 00");
  EXPECT_WIRE(make_h2c_data(Cid{1}, 2, 0, 0x2000, false, {.ddgst = true, .cpda = 1}),
              "06 02 18 18 1c 20 00 00 01 00 02 00 00 00 00 00 00 20 00 00 00 00 00 00");
  EXPECT_EQ(make_h2c_data(Cid{1}, 2, 0, 8, false, {.hdgst = true, .cpda = 1}).header.pdo, 32)
      << "24 + 4 rounded up to 8";
}

TEST(Pdu, C2HData) {
  EXPECT_WIRE(make_c2h_data(Cid{7}, 0, 0x1000, false, false, kPlain),
              "07 00 18 18 18 10 00 00 07 00 00 00 00 00 00 00 00 10 00 00 00 00 00 00");
  EXPECT_EQ(head_of(make_c2h_data(Cid{7}, 0x200, 9, true, true, kDigests)),
            dump(hex("07 0f 18 1c 29 00 00 00 07 00 00 00 00 02 00 00 09 00 00 00 00 00 00 00 52 4f a6 7c")));
  EXPECT_EQ(make_c2h_data(Cid{7}, 0, 8, true, false, kPlain).header.flags, kPduLastPdu);
  EXPECT_EQ(make_c2h_data(Cid{7}, 0, 8, false, true, kPlain).header.flags, 0) << "SUCCESS needs LAST_PDU";
}

TEST(Pdu, C2HDataFollowsTheHostsAlignmentOnly) {
  const ConnectionParams params{.hpda = 15, .cpda = 3};
  EXPECT_EQ(make_c2h_data(Cid{1}, 0, 4, true, true, params).header.pdo, 64);
  EXPECT_EQ(make_h2c_data(Cid{1}, 0, 0, 4, true, params).header.pdo, 32);
}

TEST(Pdu, R2T) {
  EXPECT_WIRE(make_r2t(Cid{7}, 0x1234, 0x1000, 0x2000, kPlain),
              "09 00 18 00 18 00 00 00 07 00 34 12 00 10 00 00 00 20 00 00 00 00 00 00");
  EXPECT_EQ(head_of(make_r2t(Cid{7}, 0x1234, 0x1000, 0x2000, kDigests)),
            dump(hex("09 01 18 00 1c 00 00 00 07 00 34 12 00 10 00 00 00 20 00 00 00 00 00 00 57 fb cb df")));
}

TEST(Pdu, DataOffsetForEveryAlignment) {
  for (unsigned pda = 0; pda <= kMaxPduAlignment; ++pda) {
    for (const bool hdgst : {false, true}) {
      const ConnectionParams params{
          .hdgst = hdgst, .hpda = static_cast<std::uint8_t>(pda), .cpda = static_cast<std::uint8_t>(pda)};
      for (const PduType type : {PduType::kCapsuleCmd, PduType::kH2CData, PduType::kC2HData}) {
        const unsigned offset = data_offset_for(type, params);
        const unsigned head = header_bytes(type) + (hdgst ? 4U : 0U);
        EXPECT_EQ(offset % ((pda + 1) * 4), 0U);
        EXPECT_GE(offset, head);
        EXPECT_LT(offset - head, (pda + 1) * 4) << "no more padding than needed";
      }
    }
  }
}

TEST(Pdu, HeadIsNotWrittenWhereItDoesNotFit) {
  const auto pdu = make_c2h_data(Cid{7}, 0, 8, true, true, {.hdgst = true, .hpda = 15});
  std::array<std::byte, 64> buffer{};
  EXPECT_EQ(write_head(std::span(buffer).first(63), pdu), 0U);
  EXPECT_EQ(dump(buffer), dump(std::vector<std::byte>(64)));
  EXPECT_EQ(write_head(buffer, pdu), 64U);
}

TEST(Digest, StandardVectors) {
  std::vector<std::byte> ascending;
  for (int i = 0; i < 32; ++i) ascending.push_back(static_cast<std::byte>(i));
  EXPECT_EQ(data_digest(ascending), 0x46DD794EU);
  EXPECT_EQ(data_digest(std::vector<std::byte>(32)), 0x8A9136AAU);
  EXPECT_EQ(data_digest(std::vector<std::byte>(32, std::byte{0xFF})), 0x62A8AB43U);
  EXPECT_EQ(data_digest({}), 0U);
}

TEST(Digest, DataMayArriveInPieces) {
  std::vector<std::byte> ascending;
  for (int i = 0; i < 32; ++i) ascending.push_back(static_cast<std::byte>(i));
  for (std::size_t cut = 0; cut <= ascending.size(); ++cut) {
    const std::span<const std::byte> all(ascending);
    EXPECT_EQ(data_digest(all.subspan(cut), data_digest(all.first(cut))), 0x46DD794EU) << cut;
  }
}

TEST(Digest, IsLittleEndianOnTheWire) {
  std::array<std::byte, 4> bytes{};
  put_digest(bytes, 0x11223344);
  EXPECT_EQ(dump(bytes), dump(hex("44 33 22 11")));
  EXPECT_EQ(get_digest(bytes), 0x11223344U);
}

TEST(Pdu, NamesForPeople) {
  EXPECT_EQ(to_string(PduType::kR2T), "R2T");
  EXPECT_EQ(to_string(static_cast<PduType>(8)), "reserved PDU type");
  EXPECT_EQ(to_string(Fes::kR2TLimitExceeded, PduDirection::kToController), "R2T Limit Exceeded");
  EXPECT_EQ(to_string(Fes::kDataTransferLimitExceeded, PduDirection::kToHost), "Data Transfer Limit Exceeded");
  EXPECT_EQ(to_string(static_cast<Fes>(7), PduDirection::kToHost), "reserved Fatal Error Status");
}

}  // namespace
}  // namespace leap::nvme
