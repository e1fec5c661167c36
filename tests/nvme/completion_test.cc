#include "nvme/completion.h"

#include <gtest/gtest.h>

#include "nvme/status.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

TEST(Completion, EveryFieldHasItsPlace) {
  Completion cqe;
  cqe.set_result64(0x1122334455667788);
  cqe.sqhd = 0x0102;
  cqe.sqid = Qid{0x0304};
  cqe.cid = Cid{0x0506};
  cqe.set_phase(true);
  cqe.set_status({.sct = 2, .sc = 0x81, .crd = 1, .more = true, .dnr = true});
  // SC 81h << 1, SCT 2 << 9, CRD 1 << 12, M 1 << 14, DNR 1 << 15, P 1
  EXPECT_WIRE(cqe, "88 77 66 55 44 33 22 11 02 01 04 03 06 05 03 d5");
  EXPECT_EQ(cqe.dw0, 0x55667788U);
  EXPECT_EQ(cqe.dw1, 0x11223344U);
  EXPECT_EQ(cqe.result64(), 0x1122334455667788U);
  EXPECT_TRUE(cqe.phase());
  EXPECT_FALSE(cqe.ok());
  EXPECT_EQ(cqe.status(), (NvmeStatusCode{.sct = 2, .sc = 0x81, .crd = 1, .more = true, .dnr = true}));
}

TEST(Completion, SuccessIgnoresPhaseRetryDelayMoreAndDnr) {
  Completion cqe;
  EXPECT_TRUE(cqe.ok());
  cqe.status_word = 0xF001;
  EXPECT_TRUE(cqe.ok());
  cqe.status_word = 0x0002;
  EXPECT_FALSE(cqe.ok()) << "SC 1";
  cqe.status_word = 0x0200;
  EXPECT_FALSE(cqe.ok()) << "SCT 1";
  cqe.status_word = 0x0800;
  EXPECT_FALSE(cqe.ok()) << "SCT 4";
}

TEST(Completion, StatusWordRoundTripsForEveryValue) {
  for (unsigned word = 0; word <= 0xFFFF; ++word) {
    const auto value = static_cast<std::uint16_t>(word);
    EXPECT_EQ(encode_status(decode_status(value), (value & 1) != 0), value);
  }
}

TEST(Status, BuildersSetTypeAndCode) {
  EXPECT_EQ(encode_status(status(GenericStatus::kLbaOutOfRange, kDnr)), 0x8100);
  EXPECT_EQ(encode_status(status(CommandStatus::kInvalidLogPage, kDnr)), 0x8212);
  EXPECT_EQ(encode_status(status(FabricsStatus::kConnectInvalidParameters)), 0x0304);
  EXPECT_EQ(encode_status(status(MediaStatus::kUnrecoveredReadError)), 0x0502);
  EXPECT_EQ(encode_status(status(PathStatus::kHostPathingError)), 0x06E0);
  EXPECT_TRUE(status(GenericStatus::kSuccess).ok());
}

TEST(Status, NamesFollowTheSpecification) {
  EXPECT_EQ(status_name(status(GenericStatus::kInvalidOpcode)), "Invalid Command Opcode");
  EXPECT_EQ(status_name(status(GenericStatus::kLbaOutOfRange)), "LBA Out of Range");
  EXPECT_EQ(status_name(status(CommandStatus::kFeatureNotChangeable)), "Feature Not Changeable");
  EXPECT_EQ(status_name(status(MediaStatus::kCompareFailure)), "Compare Failure");
  EXPECT_EQ(status_name(status(PathStatus::kAnaTransition)), "Asymmetric Access Transition");
  EXPECT_EQ(status_name({.sct = 0, .sc = 0x17}), "reserved status");
  EXPECT_EQ(status_name({.sct = 4, .sc = 0x00}), "reserved status");
  EXPECT_EQ(status_name({.sct = 0, .sc = 0xC0}), "vendor specific status");
  EXPECT_EQ(status_name({.sct = 7, .sc = 0x00}), "vendor specific status");
}

TEST(Status, CommandSpecificCodesDependOnTheFamily) {
  const NvmeStatusCode code{.sct = 1, .sc = 0x82};
  EXPECT_EQ(status_name(code), "Attempted Write to Read Only Range");
  EXPECT_EQ(status_name(code, CommandFamily::kFabrics), "Connect Invalid Parameters");
  EXPECT_EQ(status_name({.sct = 1, .sc = 0x09}, CommandFamily::kFabrics), "Invalid Log Page");
}

TEST(Status, EveryNamedCodeOfTheEnumsHasARow) {
  for (const GenericStatus code :
       {GenericStatus::kInvalidOpcode, GenericStatus::kInvalidField, GenericStatus::kCommandIdConflict,
        GenericStatus::kDataTransferError, GenericStatus::kAbortedPowerLoss, GenericStatus::kInternalError,
        GenericStatus::kAbortRequested, GenericStatus::kAbortedSqDeletion, GenericStatus::kAbortedFailedFused,
        GenericStatus::kAbortedMissingFused, GenericStatus::kInvalidNamespaceOrFormat,
        GenericStatus::kCommandSequenceError, GenericStatus::kSglOffsetInvalid, GenericStatus::kNamespaceNotReady,
        GenericStatus::kKeepAliveTimerExpired, GenericStatus::kFormatInProgress,
        GenericStatus::kInvalidPlacementHandleList}) {
    EXPECT_NE(status_name(status(code)), "reserved status") << static_cast<int>(code);
  }
  for (unsigned sc = 0; sc <= 0x2D; ++sc) {
    const bool reserved = sc == 0x04 || sc == 0x17;
    EXPECT_EQ(status_name({.sct = 1, .sc = static_cast<std::uint8_t>(sc)}) == "reserved status", reserved) << sc;
  }
  for (unsigned sc = 0; sc <= 0x2A; ++sc) {
    EXPECT_EQ(status_name({.sct = 0, .sc = static_cast<std::uint8_t>(sc)}) == "reserved status", sc == 0x17) << sc;
  }
}

TEST(Status, DnrAlwaysForbidsRepeating) {
  for (unsigned sct = 0; sct < 8; ++sct) {
    for (unsigned sc = 0; sc < 256; ++sc) {
      const NvmeStatusCode code{.sct = static_cast<std::uint8_t>(sct),
                                .sc = static_cast<std::uint8_t>(sc),
                                .crd = 0,
                                .more = false,
                                .dnr = true};
      EXPECT_FALSE(classify(code).retryable);
      EXPECT_FALSE(classify(code, CommandFamily::kFabrics).retryable);
    }
  }
}

TEST(Status, WrongRequestsAreNotRepeatedEvenWithoutDnr) {
  for (const auto code : {status(GenericStatus::kInvalidField), status(GenericStatus::kInvalidOpcode),
                          status(GenericStatus::kLbaOutOfRange), status(CommandStatus::kInvalidLogPage)}) {
    EXPECT_FALSE(classify(code).retryable);
    EXPECT_FALSE(classify(code).may_have_executed);
    EXPECT_EQ(classify(code).scope, ErrorScope::kCommand);
  }
  EXPECT_EQ(classify(status(GenericStatus::kLbaOutOfRange)).kind, Errc::kInvalidArgument);
  EXPECT_EQ(classify(status(GenericStatus::kInvalidOpcode)).kind, Errc::kUnsupported);
}

TEST(Status, TransientConditionsAreRepeated) {
  EXPECT_TRUE(classify(status(GenericStatus::kNamespaceNotReady)).retryable);
  EXPECT_EQ(classify(status(GenericStatus::kNamespaceNotReady)).kind, Errc::kBusy);
  EXPECT_EQ(classify(status(GenericStatus::kNamespaceNotReady)).scope, ErrorScope::kDevice);
  EXPECT_TRUE(classify(status(GenericStatus::kInternalError)).retryable);
  EXPECT_TRUE(classify(status(GenericStatus::kInternalError)).may_have_executed);
  EXPECT_TRUE(classify(status(FabricsStatus::kControllerBusy), CommandFamily::kFabrics).retryable);
  EXPECT_EQ(classify(status(FabricsStatus::kControllerBusy), CommandFamily::kFabrics).scope, ErrorScope::kController);
}

TEST(Status, MediaErrorsConcernTheCommandsBlocks) {
  EXPECT_EQ(classify(status(MediaStatus::kUnrecoveredReadError)).scope, ErrorScope::kCommand);
  EXPECT_EQ(classify(status(MediaStatus::kUnrecoveredReadError)).kind, Errc::kIo);
  EXPECT_EQ(classify(status(MediaStatus::kGuardCheckError)).kind, Errc::kCorrupt);
  EXPECT_TRUE(classify(status(MediaStatus::kWriteFault)).may_have_executed);
  EXPECT_FALSE(classify(status(MediaStatus::kCompareFailure)).retryable);
}

TEST(Status, PathErrorsConcernTheQueuePair) {
  EXPECT_EQ(classify(status(PathStatus::kHostPathingError)).scope, ErrorScope::kQueuePair);
  EXPECT_TRUE(classify(status(PathStatus::kHostPathingError)).may_have_executed);
  EXPECT_EQ(classify(status(GenericStatus::kAbortedSqDeletion)).kind, Errc::kClosed);
}

TEST(Status, UnknownCodesBelieveDnr) {
  const NvmeStatusCode vendor{.sct = 7, .sc = 0x33, .crd = 0, .more = false, .dnr = false};
  EXPECT_TRUE(classify(vendor).retryable);
  EXPECT_TRUE(classify(vendor).may_have_executed);
  EXPECT_EQ(classify(vendor).kind, Errc::kIo);
}

TEST(Status, ErrorKeepsTheFacts) {
  const NvmeStatusCode code = status(GenericStatus::kLbaOutOfRange, kDnr);
  const Error error = status_error(code, "read LBA 8+8 of nsid 1");
  EXPECT_EQ(error.domain(), ErrorDomain::kNvme);
  EXPECT_EQ(error.nvme_status(), code);
  EXPECT_EQ(error.kind(), Errc::kInvalidArgument);
  EXPECT_FALSE(error.retryable());
  EXPECT_EQ(error.message(), "read LBA 8+8 of nsid 1: LBA Out of Range (sct 0x0 sc 0x80 dnr)");

  const Error busy = status_error(status(FabricsStatus::kControllerBusy), "connect", CommandFamily::kFabrics);
  EXPECT_TRUE(busy.retryable());
  EXPECT_EQ(busy.scope(), ErrorScope::kController);
  EXPECT_EQ(busy.message(), "connect: Controller Busy (sct 0x1 sc 0x81)");
}

}  // namespace
}  // namespace leap::nvme
