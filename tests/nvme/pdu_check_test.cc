#include "nvme/pdu_check.h"

#include <gtest/gtest.h>

namespace leap::nvme {
namespace {

constexpr auto kHost = PduDirection::kToHost;
constexpr auto kController = PduDirection::kToController;
constexpr std::uint32_t kMax32 = 0xFFFFFFFF;
constexpr std::uint8_t kAlignments[] = {0, 1, 3, 15, 31};

constexpr ConnectionParams kPlain{.maxh2cdata = 8192, .in_capsule_bytes = 4096, .max_c2h_bytes = 65536};
constexpr ConnectionParams kDigests{
    .hdgst = true, .ddgst = true, .maxh2cdata = 8192, .in_capsule_bytes = 4096, .max_c2h_bytes = 65536};

using Verdict = std::optional<PduError>;
constexpr Verdict kGood = std::nullopt;

PduHeader header_of(PduType type, std::uint32_t data, const ConnectionParams& params) {
  return make_pdu_header(type, data, params);
}

PduDirection direction_of(PduType type) { return travels(type, kHost) ? kHost : kController; }

constexpr PduType kAllTypes[] = {PduType::kIcReq,      PduType::kIcResp,     PduType::kH2CTermReq,
                                 PduType::kC2HTermReq, PduType::kCapsuleCmd, PduType::kCapsuleResp,
                                 PduType::kH2CData,    PduType::kC2HData,    PduType::kR2T};

bool needs_data(PduType type) { return type == PduType::kH2CData || type == PduType::kC2HData; }

TEST(PduCheck, AcceptsWhatTheBuildersMake) {
  for (const bool hdgst : {false, true}) {
    for (const bool ddgst : {false, true}) {
      for (const std::uint8_t pda : kAlignments) {
        ConnectionParams params = kPlain;
        params.hdgst = hdgst;
        params.ddgst = ddgst;
        params.hpda = pda;
        params.cpda = pda;
        for (const PduType type : kAllTypes) {
          const bool ic = type == PduType::kIcReq || type == PduType::kIcResp;
          if (!needs_data(type)) {
            EXPECT_EQ(validate_pdu_header(header_of(type, 0, params), direction_of(type), params, !ic), kGood)
                << to_string(type);
          }
          if (needs_data(type) || type == PduType::kCapsuleCmd) {
            for (const std::uint32_t data : {1U, 4U, 512U, 4096U}) {
              EXPECT_EQ(validate_pdu_header(header_of(type, data, params), direction_of(type), params, true), kGood)
                  << to_string(type) << " " << data;
            }
          }
        }
      }
    }
  }
}

TEST(PduCheck, RefusesTypesThatTravelTheOtherWayOrDoNotExist) {
  for (unsigned value = 0; value < 256; ++value) {
    const auto type = static_cast<PduType>(value);
    for (const PduDirection direction : {kHost, kController}) {
      if (travels(type, direction)) continue;
      PduHeader header{.type = type, .flags = 0, .hlen = 24, .pdo = 0, .plen = 24};
      EXPECT_EQ(validate_pdu_header(header, direction, kPlain, true), bad_field(pdu_field::kType)) << value;
      EXPECT_EQ(validate_pdu_header(header, direction, kPlain, false), bad_field(pdu_field::kType)) << value;
    }
  }
  EXPECT_TRUE(travels(PduType::kCapsuleCmd, kController));
  EXPECT_FALSE(travels(PduType::kCapsuleCmd, kHost));
  EXPECT_TRUE(travels(PduType::kR2T, kHost));
  EXPECT_FALSE(travels(static_cast<PduType>(0x08), kHost));
}

TEST(PduCheck, ConnectionStartsWithOneInitialization) {
  const Verdict out_of_order = PduError{Fes::kPduSequenceError, 0};
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kIcReq, 0, {}), kController, {}, false), kGood);
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kIcReq, 0, {}), kController, {}, true), out_of_order);
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kIcResp, 0, {}), kHost, {}, false), kGood);
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kIcResp, 0, {}), kHost, {}, true), out_of_order);
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kCapsuleCmd, 0, {}), kController, {}, false), out_of_order);
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kR2T, 0, {}), kHost, {}, false), out_of_order);
}

TEST(PduCheck, TerminationIsWelcomeAtAnyTime) {
  for (const bool ic_done : {false, true}) {
    EXPECT_EQ(validate_pdu_header(header_of(PduType::kC2HTermReq, 8, {}), kHost, kDigests, ic_done), kGood);
    EXPECT_EQ(validate_pdu_header(header_of(PduType::kH2CTermReq, 0, {}), kController, kDigests, ic_done), kGood);
  }
}

TEST(PduCheck, HeaderLengthIsExact) {
  for (const PduType type : kAllTypes) {
    const bool ic = type == PduType::kIcReq || type == PduType::kIcResp;
    for (unsigned hlen = 0; hlen < 256; ++hlen) {
      PduHeader header = header_of(type, needs_data(type) ? 512 : 0, kPlain);
      if (hlen == header.hlen) continue;
      header.hlen = static_cast<std::uint8_t>(hlen);
      EXPECT_EQ(validate_pdu_header(header, direction_of(type), kPlain, !ic), bad_field(pdu_field::kHlen))
          << to_string(type) << " hlen " << hlen;
    }
  }
}

TEST(PduCheck, LengthIsExactWhereThereIsNoData) {
  for (const PduType type : {PduType::kIcReq, PduType::kIcResp, PduType::kCapsuleResp, PduType::kR2T}) {
    const bool ic = type == PduType::kIcReq || type == PduType::kIcResp;
    for (const ConnectionParams& params : {kPlain, kDigests}) {
      const PduHeader good = header_of(type, 0, params);
      for (const std::uint32_t plen :
           {0U, 1U, 8U, good.plen - 4, good.plen - 1, good.plen + 1, good.plen + 4, kMax32 - 3, kMax32}) {
        PduHeader header = good;
        header.plen = plen;
        EXPECT_EQ(validate_pdu_header(header, direction_of(type), params, !ic), bad_field(pdu_field::kPlen))
            << to_string(type) << " plen " << plen;
      }
    }
  }
}

TEST(PduCheck, TerminationQuotesAtMost128Bytes) {
  PduHeader header = header_of(PduType::kC2HTermReq, 128, {});
  EXPECT_EQ(header.plen, 152U);
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), kGood);
  for (const std::uint32_t plen : {0U, 23U, 153U, kMax32}) {
    header.plen = plen;
    EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), bad_field(pdu_field::kPlen)) << plen;
  }
}

TEST(PduCheck, DigestFlagsMatchWhatWasNegotiated) {
  for (const PduType type :
       {PduType::kCapsuleCmd, PduType::kCapsuleResp, PduType::kH2CData, PduType::kC2HData, PduType::kR2T}) {
    for (const ConnectionParams& params : {kPlain, kDigests}) {
      PduHeader header = header_of(type, needs_data(type) ? 512 : 0, params);
      header.flags ^= kPduHdgstf;
      EXPECT_EQ(validate_pdu_header(header, direction_of(type), params, true), bad_field(pdu_field::kFlags))
          << to_string(type);
    }
  }
  for (const PduType type : {PduType::kCapsuleCmd, PduType::kH2CData, PduType::kC2HData}) {
    for (const ConnectionParams& params : {kPlain, kDigests}) {
      PduHeader header = header_of(type, 512, params);
      header.flags ^= kPduDdgstf;
      EXPECT_EQ(validate_pdu_header(header, direction_of(type), params, true), bad_field(pdu_field::kFlags))
          << to_string(type);
    }
  }
}

TEST(PduCheck, DataDigestFlagOfACapsuleWithoutDataMeansNothingOnceNegotiated) {
  PduHeader header = header_of(PduType::kCapsuleCmd, 0, kDigests);
  EXPECT_EQ(validate_pdu_header(header, kController, kDigests, true), kGood);
  header.flags |= kPduDdgstf;
  EXPECT_EQ(validate_pdu_header(header, kController, kDigests, true), kGood);
  EXPECT_EQ(layout_of(header).data_digest_bytes, 0U);
  EXPECT_EQ(layout_of(header).total_bytes, 76U);

  PduHeader plain = header_of(PduType::kCapsuleCmd, 0, kPlain);
  plain.flags |= kPduDdgstf;
  EXPECT_EQ(validate_pdu_header(plain, kController, kPlain, true), bad_field(pdu_field::kFlags));
}

TEST(PduCheck, SuccessNeedsLastPdu) {
  PduHeader header = header_of(PduType::kC2HData, 512, kPlain);
  header.flags = kPduSuccess;
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), bad_field(pdu_field::kFlags));
  header.flags = kPduSuccess | kPduLastPdu;
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), kGood);
  header.flags = kPduLastPdu;
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), kGood);
}

TEST(PduCheck, ReservedFlagsAndUnusedOffsetsAreIgnored) {
  PduHeader header = header_of(PduType::kCapsuleResp, 0, kPlain);
  header.flags = 0xFE;
  header.pdo = 77;
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), kGood);
  PduHeader capsule = header_of(PduType::kCapsuleCmd, 0, kPlain);
  capsule.pdo = 255;
  EXPECT_EQ(validate_pdu_header(capsule, kController, kPlain, true), kGood);
}

TEST(PduCheck, DataOffsetIsPastTheHeadAndAligned) {
  for (const ConnectionParams& base : {kPlain, kDigests}) {
    for (const std::uint8_t pda : kAlignments) {
      ConnectionParams params = base;
      params.cpda = pda;
      params.hpda = pda;
      for (const PduType type : {PduType::kCapsuleCmd, PduType::kH2CData, PduType::kC2HData}) {
        const unsigned head = header_bytes(type) + params.header_digest_bytes();
        for (unsigned pdo = 0; pdo < 256; ++pdo) {
          PduHeader header = header_of(type, 512, params);
          header.pdo = static_cast<std::uint8_t>(pdo);
          header.plen = pdo + 512 + params.data_digest_bytes();
          const bool good = pdo >= head && pdo % ((pda + 1U) * 4) == 0;
          EXPECT_EQ(validate_pdu_header(header, direction_of(type), params, true),
                    good ? kGood : Verdict(bad_field(pdu_field::kPdo)))
              << to_string(type) << " pdo " << pdo << " pda " << int{pda};
        }
      }
    }
  }
}

TEST(PduCheck, EachDirectionHasItsOwnAlignment) {
  ConnectionParams params = kPlain;
  params.hpda = 31;  // 128 bytes towards the host
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kH2CData, 8, kPlain), kController, params, true), kGood);
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kC2HData, 8, kPlain), kHost, params, true),
            bad_field(pdu_field::kPdo));
  params.hpda = 0;
  params.cpda = 31;
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kH2CData, 8, kPlain), kController, params, true),
            bad_field(pdu_field::kPdo));
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kC2HData, 8, kPlain), kHost, params, true), kGood);
}

TEST(PduCheck, DataPdusCarryAtLeastOneByte) {
  for (const PduType type : {PduType::kH2CData, PduType::kC2HData}) {
    for (const ConnectionParams& params : {kPlain, kDigests}) {
      const PduHeader good = header_of(type, 1, params);
      EXPECT_EQ(validate_pdu_header(good, direction_of(type), params, true), kGood);
      for (std::uint32_t plen = 0; plen < good.plen; ++plen) {
        PduHeader header = good;
        header.plen = plen;
        const auto verdict = validate_pdu_header(header, direction_of(type), params, true);
        ASSERT_TRUE(verdict.has_value()) << plen;
        EXPECT_EQ(*verdict, bad_field(pdu_field::kPlen)) << plen;
      }
    }
  }
}

TEST(PduCheck, CapsuleLengthFallsOnTheHeadOrPastTheDataOffset) {
  const PduHeader good = header_of(PduType::kCapsuleCmd, 4, kPlain);  // pdo 72, plen 76
  for (const std::uint32_t plen : {0U, 8U, 71U}) {
    PduHeader header = good;
    header.plen = plen;
    EXPECT_EQ(validate_pdu_header(header, kController, kPlain, true), bad_field(pdu_field::kPlen)) << plen;
  }
  PduHeader header = good;
  header.pdo = 128;
  header.plen = 128;
  EXPECT_EQ(validate_pdu_header(header, kController, kPlain, true), bad_field(pdu_field::kPlen)) << "padding only";
  header.plen = 100;
  EXPECT_EQ(validate_pdu_header(header, kController, kPlain, true), bad_field(pdu_field::kPlen)) << "offset past end";
}

TEST(PduCheck, InCapsuleDataIsBounded) {
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kCapsuleCmd, 4096, kDigests), kController, kDigests, true), kGood);
  for (const std::uint32_t data : {4097U, 65536U, kMax32 - 200}) {
    EXPECT_EQ(validate_pdu_header(header_of(PduType::kCapsuleCmd, data, kDigests), kController, kDigests, true),
              bad_field(pdu_field::kPlen))
        << data;
  }
  ConnectionParams none = kPlain;
  none.in_capsule_bytes = 0;
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kCapsuleCmd, 1, none), kController, none, true),
            bad_field(pdu_field::kPlen));
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kCapsuleCmd, 0, none), kController, none, true), kGood);
}

TEST(PduCheck, DataPdusAreBounded) {
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kH2CData, 8192, kDigests), kController, kDigests, true), kGood);
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kH2CData, 8193, kDigests), kController, kDigests, true),
            (PduError{Fes::kDataTransferLimitExceeded, 0}));
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kC2HData, 65536, kDigests), kHost, kDigests, true), kGood);
  EXPECT_EQ(validate_pdu_header(header_of(PduType::kC2HData, 65537, kDigests), kHost, kDigests, true),
            (PduError{Fes::kDataTransferOutOfRange, 0}));
  PduHeader header = header_of(PduType::kC2HData, 1, kPlain);
  header.plen = kMax32;
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), (PduError{Fes::kDataTransferOutOfRange, 0}));
}

TEST(PduCheck, LowestBadFieldIsReported) {
  PduHeader header{.type = PduType::kC2HData, .flags = kPduHdgstf, .hlen = 1, .pdo = 1, .plen = 1};
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), bad_field(pdu_field::kFlags));
  header.flags = 0;
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), bad_field(pdu_field::kHlen));
  header.hlen = 24;
  header.plen = kMax32;
  EXPECT_EQ(validate_pdu_header(header, kHost, kPlain, true), bad_field(pdu_field::kPdo));
}

TEST(PduCheck, IcReqFields) {
  IcReqPdu pdu = make_icreq({.hpda = 31, .maxr2t = 1});
  EXPECT_EQ(check_icreq(pdu), kGood);
  pdu.hpda = 32;
  EXPECT_EQ(check_icreq(pdu), bad_field(pdu_field::kPda));
  pdu.pfv = 1;
  EXPECT_EQ(check_icreq(pdu), (PduError{Fes::kUnsupportedParameter, pdu_field::kPfv}));
}

TEST(PduCheck, IcRespFields) {
  const ConnectionParams wanted{.hdgst = true, .ddgst = true};
  const IcRespPdu good = make_icresp({.hdgst = true, .ddgst = true, .cpda = 31, .maxh2cdata = 4096});
  EXPECT_EQ(check_icresp(good, wanted), kGood);
  IcRespPdu pdu = good;
  pdu.cpda = 32;
  EXPECT_EQ(check_icresp(pdu, wanted), bad_field(pdu_field::kPda));
  pdu = good;
  pdu.pfv = 0x100;
  EXPECT_EQ(check_icresp(pdu, wanted), (PduError{Fes::kUnsupportedParameter, pdu_field::kPfv}));
  for (const std::uint32_t bytes : {0U, 4095U, 4092U, 4097U, 4098U, 4099U, kMax32}) {
    pdu = good;
    pdu.maxh2cdata = bytes;
    EXPECT_EQ(check_icresp(pdu, wanted), bad_field(pdu_field::kMaxH2CData)) << bytes;
  }
  pdu.maxh2cdata = kMax32 - 3;
  EXPECT_EQ(check_icresp(pdu, wanted), kGood);
  EXPECT_EQ(check_icresp(good, {.hdgst = true}), bad_field(pdu_field::kDgst)) << "data digest was not asked for";
  EXPECT_EQ(check_icresp(good, {.ddgst = true}), bad_field(pdu_field::kDgst)) << "header digest was not asked for";
}

TEST(PduCheck, BothEndsNegotiateTheSameParameters) {
  for (unsigned bits = 0; bits < 16; ++bits) {
    const ConnectionParams wanted{.hdgst = (bits & 1) != 0, .ddgst = (bits & 2) != 0, .hpda = 7, .maxr2t = 4};
    const ConnectionParams offered{
        .hdgst = (bits & 4) != 0, .ddgst = (bits & 8) != 0, .cpda = 3, .maxh2cdata = 0x20000};
    const ConnectionParams controller = negotiate(offered, make_icreq(wanted));
    const IcRespPdu response = make_icresp(controller);
    ASSERT_EQ(check_icresp(response, wanted), kGood);
    const ConnectionParams host = negotiate(wanted, response);
    EXPECT_EQ(host.hdgst, controller.hdgst);
    EXPECT_EQ(host.ddgst, controller.ddgst);
    EXPECT_EQ(host.hdgst, wanted.hdgst && offered.hdgst);
    EXPECT_EQ(host.ddgst, wanted.ddgst && offered.ddgst);
    EXPECT_EQ(host.hpda, 7);
    EXPECT_EQ(controller.hpda, 7);
    EXPECT_EQ(host.cpda, 3);
    EXPECT_EQ(controller.cpda, 3);
    EXPECT_EQ(controller.maxr2t, 4U);
    EXPECT_EQ(host.maxh2cdata, 0x20000U);
  }
  IcReqPdu endless = make_icreq({});
  endless.maxr2t = kMax32;
  EXPECT_EQ(negotiate(ConnectionParams{}, endless).maxr2t, kMax32);
}

TEST(PduCheck, DataRangeAgreesWithThePduAndFits32Bits) {
  C2HDataPdu pdu = make_c2h_data(Cid{1}, 0, 512, true, true, kDigests);
  EXPECT_EQ(check_data_range(pdu), kGood);
  for (const std::uint32_t datal : {0U, 511U, 513U, kMax32}) {
    pdu.datal = datal;
    EXPECT_EQ(check_data_range(pdu), bad_field(pdu_field::kDataLength)) << datal;
  }
  pdu.datal = 512;
  pdu.datao = kMax32 - 512;
  EXPECT_EQ(check_data_range(pdu), kGood);
  pdu.datao = kMax32 - 511;
  EXPECT_EQ(check_data_range(pdu), (PduError{Fes::kDataTransferOutOfRange, 0}));
  H2CDataPdu h2c = make_h2c_data(Cid{1}, 0, 0, 512, true, kPlain);
  h2c.datal = 516;
  EXPECT_EQ(check_data_range(h2c), bad_field(pdu_field::kDataLength));
}

TEST(PduCheck, R2TAsksForSomethingWithin32Bits) {
  R2TPdu pdu = make_r2t(Cid{1}, 0, 0, 1, kPlain);
  EXPECT_EQ(check_r2t(pdu), kGood);
  pdu.r2tl = 0;
  EXPECT_EQ(check_r2t(pdu), bad_field(pdu_field::kDataLength));
  pdu.r2tl = 4096;
  pdu.r2to = kMax32 - 4095;
  EXPECT_EQ(check_r2t(pdu), (PduError{Fes::kDataTransferOutOfRange, 0}));
  pdu.r2to = kMax32 - 4096;
  EXPECT_EQ(check_r2t(pdu), kGood);
}

TEST(PduCheck, ErrorNamesTypeFieldAndValues) {
  PduHeader header = header_of(PduType::kCapsuleResp, 0, kPlain);
  header.plen = 99;
  const Error error = pdu_error(bad_field(pdu_field::kPlen), header, kHost, "queue pair 1 of nqn.x");
  EXPECT_EQ(error.kind(), Errc::kProtocol);
  EXPECT_EQ(error.domain(), ErrorDomain::kTransport);
  EXPECT_EQ(error.scope(), ErrorScope::kQueuePair);
  EXPECT_EQ(error.message(),
            "queue pair 1 of nqn.x: peer sent a bad CapsuleResp: Invalid PDU Header Field in PLEN (byte 4): "
            "type 0x05 flags 0x00 hlen 24 pdo 0 plen 99");
  EXPECT_NE(pdu_error({Fes::kHeaderDigestError, 0xAB}, header, kHost, "x").message().find("received 0x000000ab"),
            std::string::npos);
  const PduHeader h2c = header_of(PduType::kH2CData, 4, kPlain);
  EXPECT_NE(pdu_error({Fes::kDataTransferLimitExceeded, 0}, h2c, kController, "x")
                .message()
                .find("Data Transfer Limit Exceeded"),
            std::string::npos)
      << "the C2HTermReq that answers names 05h so";
}

TEST(PduCheck, IsUsableInConstantExpressions) {
  static_assert(!validate_pdu_header(make_pdu_header(PduType::kR2T, 0, {}), kHost, {}, true).has_value());
  static_assert(check_r2t(R2TPdu{}).has_value());
}

}  // namespace
}  // namespace leap::nvme
