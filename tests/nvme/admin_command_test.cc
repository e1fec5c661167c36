#include "nvme/admin_command.h"

#include <gtest/gtest.h>

#include "nvme/features.h"
#include "wire_bytes.h"

namespace leap::nvme {
namespace {

using test::zeros;

TEST(AdminCommand, IdentifyController) {
  EXPECT_WIRE(make_identify_controller(), "06 00 00 00" + zeros(36) + "01 00 00 00" + zeros(20));
}

TEST(AdminCommand, IdentifyNamespaceAndLists) {
  EXPECT_WIRE(make_identify_namespace(Nsid{9}), "06 00 00 00 09 00 00 00" + zeros(56));
  EXPECT_WIRE(make_identify_active_namespaces(kNoNamespace), "06 00 00 00" + zeros(36) + "02 00 00 00" + zeros(20));
  EXPECT_WIRE(make_identify_descriptors(Nsid{9}), "06 00 00 00 09 00 00 00" + zeros(32) + "03 00 00 00" + zeros(20));
}

TEST(AdminCommand, IdentifyWithEveryField) {
  const IdentifyFields fields{.cns = Cns::kIoCommandSetController,
                              .nsid = Nsid{5},
                              .cntid = Cntlid{0x1234},
                              .csi = Csi::kZoned,
                              .cns_specific = 0xABCD};
  const Command cmd = make_identify(fields);
  EXPECT_WIRE(cmd, "06 00 00 00 05 00 00 00" + zeros(32) + "06 00 34 12 cd ab 00 02" + zeros(16));
  const IdentifyFields back = identify_fields(cmd);
  EXPECT_EQ(back.cns, fields.cns);
  EXPECT_EQ(back.nsid, fields.nsid);
  EXPECT_EQ(back.cntid, fields.cntid);
  EXPECT_EQ(back.csi, fields.csi);
  EXPECT_EQ(back.cns_specific, fields.cns_specific);
}

TEST(AdminCommand, GetLogPageSplitsLengthAndOffset) {
  const Command cmd = make_get_log_page({.lid = LogPage::kDiscovery,
                                         .nsid = kNoNamespace,
                                         .bytes = 0x0001'0002ULL * 4 + 4,  // NUMD 0001'0002h
                                         .offset = 0x1122334455667788,
                                         .lsp = 0x7F,
                                         .retain_event = true,
                                         .lsi = 0xBEEF,
                                         .uuid_index = 0x7F,
                                         .index_offset = true,
                                         .csi = Csi::kZoned});
  EXPECT_WIRE(cmd, "02 00 00 00 00 00 00 00" + zeros(32) +
                       "70 ff 02 00 01 00 ef be 88 77 66 55 44 33 22 11 7f 00 80 02 00 00 00 00");
  const GetLogPageFields fields = get_log_page_fields(cmd);
  EXPECT_EQ(fields.lid, LogPage::kDiscovery);
  EXPECT_EQ(fields.bytes, 0x10003ULL * 4);
  EXPECT_EQ(fields.offset, 0x1122334455667788U);
  EXPECT_EQ(fields.lsp, 0x7F);
  EXPECT_TRUE(fields.retain_event);
  EXPECT_EQ(fields.lsi, 0xBEEF);
  EXPECT_EQ(fields.uuid_index, 0x7F);
  EXPECT_TRUE(fields.index_offset);
  EXPECT_EQ(fields.csi, Csi::kZoned);
}

TEST(AdminCommand, GetLogPageOfOneDwordAndOfTheLargestLength) {
  EXPECT_WIRE(make_get_log_page({.lid = LogPage::kSmart, .bytes = 4}),
              "02 00 00 00 ff ff ff ff" + zeros(32) + "02 00 00 00" + zeros(20));
  const Command cmd = make_get_log_page({.lid = LogPage::kSmart, .bytes = std::uint64_t{1} << 34});
  EXPECT_EQ(cmd.cdw10, 0xFFFF0002U);
  EXPECT_EQ(cmd.cdw11, 0x0000FFFFU);
  EXPECT_EQ(get_log_page_fields(cmd).bytes, std::uint64_t{1} << 34);
}

TEST(AdminCommand, SetAndGetFeatures) {
  const Command set =
      make_set_features(FeatureId::kNumberOfQueues, NumberOfQueues{.sq = 4, .cq = 3}.to_dword(), kNoNamespace, true);
  EXPECT_WIRE(set, "09" + zeros(39) + "07 00 00 80 03 00 02 00" + zeros(16));
  EXPECT_EQ(set_features_fields(set).fid, FeatureId::kNumberOfQueues);
  EXPECT_TRUE(set_features_fields(set).save);
  EXPECT_EQ(set_features_fields(set).value, 0x00020003U);

  const Command get = make_get_features(FeatureId::kKeepAliveTimer, FeatureSelect::kCapabilities, Nsid{1}, 0x55);
  EXPECT_WIRE(get, "0a 00 00 00 01 00 00 00" + zeros(32) + "0f 03 00 00 55 00 00 00" + zeros(16));
  EXPECT_EQ(get_features_fields(get).fid, FeatureId::kKeepAliveTimer);
  EXPECT_EQ(get_features_fields(get).select, FeatureSelect::kCapabilities);
  EXPECT_EQ(get_features_fields(get).cdw11, 0x55U);
}

TEST(AdminCommand, CommandsWithoutParameters) {
  EXPECT_WIRE(make_async_event_request(), "0c" + zeros(63));
  EXPECT_WIRE(make_keep_alive(), "18" + zeros(63));
}

TEST(AdminCommand, AbortNamesQueueAndCommand) {
  const Command cmd = make_abort(Qid{0x0102}, Cid{0x0304});
  EXPECT_WIRE(cmd, "08" + zeros(39) + "02 01 04 03" + zeros(20));
  EXPECT_EQ(abort_fields(cmd).sqid, Qid{0x0102});
  EXPECT_EQ(abort_fields(cmd).cid, Cid{0x0304});
  EXPECT_EQ(abort_result(true), 0U);
  EXPECT_EQ(abort_result(false), 1U);
  EXPECT_TRUE(was_aborted(abort_result(true)));
  EXPECT_FALSE(was_aborted(abort_result(false)));
}

TEST(Features, NumberOfQueuesCountsFromOne) {
  EXPECT_EQ((NumberOfQueues{.sq = 1, .cq = 1}.to_dword()), 0U);
  EXPECT_EQ((NumberOfQueues{.sq = 65535, .cq = 1}.to_dword()), 0x0000FFFEU);
  EXPECT_EQ(NumberOfQueues::from_dword(0x000F0003), (NumberOfQueues{.sq = 4, .cq = 16}));
  EXPECT_EQ(NumberOfQueues::from_dword(0xFFFFFFFF), (NumberOfQueues{.sq = 65536, .cq = 65536}));
}

TEST(Features, AsyncEventConfiguration) {
  const AsyncEventConfig config{.smart_critical = 0x1F, .namespace_attribute = true, .discovery_log_change = true};
  EXPECT_EQ(config.to_dword(), 0x8000011FU);
  EXPECT_EQ(AsyncEventConfig::from_dword(0x8000011F), config);
  EXPECT_EQ((AsyncEventConfig{.firmware_activation = true}.to_dword()), 0x200U);
  EXPECT_EQ((AsyncEventConfig{.ana_change = true}.to_dword()), 0x800U);
}

TEST(Features, AsyncEventResult) {
  EXPECT_EQ(kNamespaceChangedEvent.to_dword(), 0x00040002U);
  EXPECT_EQ(kDiscoveryChangedEvent.to_dword(), 0x0070F002U);
  const AsyncEvent event = AsyncEvent::from_dword(0xFF0201F9);
  EXPECT_EQ(event.type, AsyncEventType::kSmart);
  EXPECT_EQ(event.info, 0x01);
  EXPECT_EQ(event.log_page, 0x02);
  EXPECT_EQ(AsyncEvent::from_dword(kDiscoveryChangedEvent.to_dword()), kDiscoveryChangedEvent);
}

TEST(Features, SmallValues) {
  EXPECT_EQ(KeepAliveTimer{.kato_ms = 15000}.to_dword(), 15000U);
  EXPECT_EQ(KeepAliveTimer::from_dword(15000).kato_ms, 15000U);
  EXPECT_EQ(VolatileWriteCache{.enabled = true}.to_dword(), 1U);
  EXPECT_FALSE(VolatileWriteCache::from_dword(0xFFFFFFFE).enabled);
  EXPECT_EQ((Arbitration{.burst = 7, .low_weight = 1, .medium_weight = 2, .high_weight = 3}.to_dword()), 0x03020107U);
  EXPECT_EQ(Arbitration::from_dword(0x03020107).high_weight, 3);
  EXPECT_EQ((TemperatureThreshold{.kelvin = 0x0157, .sensor = 2, .under = true}.to_dword()), 0x00120157U);
  EXPECT_TRUE(TemperatureThreshold::from_dword(0x00120157).under);
  EXPECT_EQ(TemperatureThreshold::from_dword(0x00120157).sensor, 2);
  EXPECT_EQ((FeatureCapabilities{.saveable = true, .namespace_specific = false, .changeable = true}.to_dword()), 5U);
  EXPECT_TRUE(FeatureCapabilities::from_dword(2).namespace_specific);
}

}  // namespace
}  // namespace leap::nvme
