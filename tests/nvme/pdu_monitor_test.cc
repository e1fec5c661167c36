// Every rule of PduMonitor: a sequence that keeps it, and the one PDU that breaks it.
#include "nvme/pdu_monitor.h"

#include <cstdio>
#include <ctime>
#include <functional>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "nvme/nvm_command.h"
#include "nvme/pdu_checker.h"
#include "nvme/status.h"

namespace leap::nvme {
namespace {

constexpr Nsid kNs{1};
constexpr std::uint32_t kEntries = 8;

/// A connection as the monitor sees it, one verdict per PDU.
class Link {
 public:
  explicit Link(PduMonitor::Config config = {.end = ConnectionEnd::kHost,
                                             .commands = 32,
                                             .r2ts = 4,
                                             .in_capsule_bytes = 4096,
                                             .strict_success = false})
      : monitor(config) {}

  template <WireStruct Pdu>
  PduRule host(const Pdu& pdu) {
    return monitor.observe(PduDirection::kToController, wire::bytes_of(pdu));
  }
  template <WireStruct Pdu>
  PduRule target(const Pdu& pdu) {
    return monitor.observe(PduDirection::kToHost, wire::bytes_of(pdu));
  }

  PduRule ic_req(std::uint32_t maxr2t = 2) {
    wanted.maxr2t = maxr2t;
    return host(make_icreq(wanted));
  }
  PduRule ic_resp() { return target(make_icresp(granted)); }
  void initialise() {
    ASSERT_EQ(ic_req(), PduRule::kNone);
    ASSERT_EQ(ic_resp(), PduRule::kNone);
  }
  PduRule send(Command cmd, std::uint16_t cid, std::uint32_t bytes = 0, std::uint32_t in_capsule = 0) {
    cmd.cid = Cid{cid};
    cmd.set_sgl(in_capsule > 0 ? SglDescriptor::in_capsule(in_capsule) : SglDescriptor::transport(bytes));
    return host(make_capsule_cmd(cmd, in_capsule, params()));
  }
  PduRule connect(std::uint16_t qid = 1, std::uint16_t cid = 1, bool no_flow_control = false) {
    return send(make_connect({.recfmt = 0,
                              .qid = Qid{qid},
                              .entries = kEntries,
                              .disable_sq_flow_control = no_flow_control,
                              .cattr = 0,
                              .kato_ms = 0}),
                cid, 0, sizeof(ConnectData));
  }
  PduRule respond(std::uint16_t cid, NvmeStatusCode code = {}, std::uint16_t sqhd = 0) {
    Completion cqe;
    cqe.cid = Cid{cid};
    cqe.sqhd = sqhd;
    cqe.set_status(code);
    return target(make_capsule_resp(cqe, params()));
  }
  void up(bool no_flow_control = true) {
    initialise();
    ASSERT_EQ(connect(1, 1, no_flow_control), PduRule::kNone);
    ASSERT_EQ(respond(1, {}, no_flow_control ? 0xFFFF : 1), PduRule::kNone);
  }
  PduRule read(std::uint16_t cid, std::uint32_t bytes) { return send(make_read(kNs, 0, bytes / 512), cid, bytes); }
  PduRule write(std::uint16_t cid, std::uint32_t bytes) { return send(make_write(kNs, 0, bytes / 512), cid, bytes); }
  PduRule flush(std::uint16_t cid) { return send(make_flush(kNs), cid); }
  PduRule r2t(std::uint16_t cid, std::uint16_t ttag, std::uint32_t offset, std::uint32_t bytes) {
    return target(make_r2t(Cid{cid}, ttag, offset, bytes, params()));
  }
  PduRule h2c(std::uint16_t cid, std::uint16_t ttag, std::uint32_t offset, std::uint32_t bytes, bool last) {
    return host(make_h2c_data(Cid{cid}, ttag, offset, bytes, last, params()));
  }
  PduRule c2h(std::uint16_t cid, std::uint32_t offset, std::uint32_t bytes, bool last, bool success = false) {
    return target(make_c2h_data(Cid{cid}, offset, bytes, last, success, params()));
  }
  [[nodiscard]] const ConnectionParams& params() const { return monitor.params(); }

  PduMonitor monitor;
  ConnectionParams wanted{.hdgst = false, .ddgst = false, .hpda = 0, .cpda = 0, .maxr2t = 2};
  ConnectionParams granted{.hdgst = false, .ddgst = false, .hpda = 0, .cpda = 0, .maxr2t = 1, .maxh2cdata = 8192};
};

constexpr NvmeStatusCode kFailed{.sct = 0, .sc = 6, .crd = 0, .more = false, .dnr = false};

/// The PDU that breaks `rule`, after whatever leads to it.
struct Case {
  PduRule rule;
  const char* name;
  std::function<PduRule(Link&)> last;
};

template <WireStruct Pdu>
Pdu with(Pdu pdu, const std::function<void(PduHeader&)>& change) {
  change(pdu.header);
  return pdu;
}

const std::vector<Case>& cases() {
  static const auto* const kCases = new std::vector<Case>{
      // any PDU
      {PduRule::kType, "type_that_does_not_exist",
       [](Link& l) {
         l.up();
         return l.target(PduHeader{.type = static_cast<PduType>(8), .flags = 0, .hlen = 24, .pdo = 0, .plen = 24});
       }},
      {PduRule::kDirection, "response_from_a_host",
       [](Link& l) {
         l.up();
         return l.host(make_capsule_resp({}, l.params()));
       }},
      {PduRule::kDirection, "command_from_a_controller",
       [](Link& l) {
         l.up();
         return l.target(make_capsule_cmd(make_flush(kNs), 0, l.params()));
       }},
      {PduRule::kHeaderLength, "hlen_of_another_type",
       [](Link& l) {
         l.up();
         return l.target(with(make_capsule_resp({}, l.params()), [](PduHeader& h) { h.hlen = 72; }));
       }},
      {PduRule::kPduLength, "plen_beyond_a_response",
       [](Link& l) {
         l.up();
         return l.target(with(make_capsule_resp({}, l.params()), [](PduHeader& h) { h.plen += 4; }));
       }},
      {PduRule::kPduLength, "term_req_that_quotes_too_much",
       [](Link& l) {
         l.up();
         return l.target(with(make_term_req(PduDirection::kToHost, Fes::kPduSequenceError, 0, 128),
                              [](PduHeader& h) { h.plen += 1; }));
       }},
      {PduRule::kDataOffset, "data_inside_the_header",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         return l.target(
             with(make_c2h_data(Cid{2}, 0, 512, true, false, l.params()), [](PduHeader& h) { h.pdo = 20; }));
       }},
      {PduRule::kDataOffset, "data_off_the_hosts_alignment",
       [](Link& l) {
         l.wanted.hpda = 3;
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         return l.target(
             with(make_c2h_data(Cid{2}, 0, 512, true, false, l.params()), [](PduHeader& h) { h.pdo = 28; }));
       }},
      {PduRule::kDataOffset, "data_off_the_controllers_alignment",
       [](Link& l) {
         l.granted.cpda = 15;
         l.initialise();
         Command cmd = make_connect({.recfmt = 0, .qid = Qid{1}, .entries = kEntries});
         cmd.set_sgl(SglDescriptor::in_capsule(1024));
         return l.host(with(make_capsule_cmd(cmd, 1024, l.params()), [](PduHeader& h) { h.pdo = 72; }));
       }},
      {PduRule::kHeaderDigest, "header_digest_nobody_agreed_on",
       [](Link& l) {
         l.up();
         return l.target(with(make_capsule_resp({}, l.params()), [](PduHeader& h) { h.flags |= kPduHdgstf; }));
       }},
      {PduRule::kHeaderDigest, "header_digest_left_out",
       [](Link& l) {
         l.wanted.hdgst = l.granted.hdgst = true;
         l.initialise();
         return l.host(make_capsule_cmd(make_flush(kNs), 0, {}));
       }},
      {PduRule::kDataDigest, "data_digest_nobody_agreed_on",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         return l.target(
             with(make_c2h_data(Cid{2}, 0, 512, true, false, l.params()), [](PduHeader& h) { h.flags |= kPduDdgstf; }));
       }},
      {PduRule::kAfterTermReq, "host_goes_on_after_its_term_req",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.host(make_term_req(PduDirection::kToController, Fes::kPduSequenceError, 0, 24)), PduRule::kNone);
         return l.flush(2);
       }},
      {PduRule::kAfterTermReq, "host_answers_a_term_req",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.target(make_term_req(PduDirection::kToHost, Fes::kPduSequenceError, 0, 24)), PduRule::kNone);
         return l.flush(2);
       }},
      {PduRule::kAfterTermReq, "target_goes_on_after_its_term_req",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.flush(2), PduRule::kNone);
         EXPECT_EQ(l.target(make_term_req(PduDirection::kToHost, Fes::kPduSequenceError, 0, 24)), PduRule::kNone);
         return l.respond(2);
       }},
      {PduRule::kDataLength, "datal_is_not_what_is_there",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 1024), PduRule::kNone);
         C2HDataPdu pdu = make_c2h_data(Cid{2}, 0, 512, false, false, l.params());
         pdu.datal = 256;
         return l.target(pdu);
       }},
      {PduRule::kUnknownCommand, "response_to_a_command_never_sent",
       [](Link& l) {
         l.up();
         return l.respond(77);
       }},
      {PduRule::kUnknownCommand, "second_response",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.flush(2), PduRule::kNone);
         EXPECT_EQ(l.respond(2), PduRule::kNone);
         return l.respond(2);
       }},
      {PduRule::kUnknownCommand, "response_after_success",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         EXPECT_EQ(l.c2h(2, 0, 512, true, true), PduRule::kNone);
         return l.respond(2);
       }},
      {PduRule::kUnknownCommand, "r2t_for_a_command_never_sent",
       [](Link& l) {
         l.up();
         return l.r2t(77, 1, 0, 512);
       }},
      {PduRule::kUnknownCommand, "data_for_a_command_never_sent",
       [](Link& l) {
         l.up();
         return l.c2h(77, 0, 512, true);
       }},
      // setting up
      {PduRule::kIcFirst, "command_first", [](Link& l) { return l.flush(2); }},
      {PduRule::kIcFirst, "command_before_ic_resp",
       [](Link& l) {
         EXPECT_EQ(l.ic_req(), PduRule::kNone);
         return l.flush(2);
       }},
      {PduRule::kIcFirst, "ic_resp_first", [](Link& l) { return l.ic_resp(); }},
      {PduRule::kIcOnce, "second_ic_req",
       [](Link& l) {
         l.initialise();
         return l.ic_req();
       }},
      {PduRule::kIcOnce, "second_ic_resp",
       [](Link& l) {
         l.initialise();
         return l.ic_resp();
       }},
      {PduRule::kIcParameters, "hpda_out_of_range",
       [](Link& l) {
         IcReqPdu pdu = make_icreq(l.wanted);
         pdu.hpda = 32;
         return l.host(pdu);
       }},
      {PduRule::kIcParameters, "another_pdu_format",
       [](Link& l) {
         IcReqPdu pdu = make_icreq(l.wanted);
         pdu.pfv = 1;
         return l.host(pdu);
       }},
      {PduRule::kIcParameters, "digest_that_was_not_asked_for",
       [](Link& l) {
         EXPECT_EQ(l.ic_req(), PduRule::kNone);
         l.granted.ddgst = true;
         return l.ic_resp();
       }},
      {PduRule::kIcParameters, "maxh2cdata_too_small",
       [](Link& l) {
         EXPECT_EQ(l.ic_req(), PduRule::kNone);
         l.granted.maxh2cdata = 4092;
         return l.ic_resp();
       }},
      // commands
      {PduRule::kConnectFirst, "read_before_connect",
       [](Link& l) {
         l.initialise();
         return l.read(2, 512);
       }},
      {PduRule::kConnectFirst, "read_before_connect_is_answered",
       [](Link& l) {
         l.initialise();
         EXPECT_EQ(l.connect(), PduRule::kNone);
         return l.read(2, 512);
       }},
      {PduRule::kConnectFirst, "read_after_connect_was_refused",
       [](Link& l) {
         l.initialise();
         EXPECT_EQ(l.connect(), PduRule::kNone);
         EXPECT_EQ(l.respond(1, kFailed), PduRule::kNone);
         return l.read(2, 512);
       }},
      {PduRule::kConnectOnce, "connect_again",
       [](Link& l) {
         l.up();
         return l.connect(1, 2);
       }},
      {PduRule::kAfterDisconnect, "read_after_disconnect",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.send(make_disconnect(), 2), PduRule::kNone);
         return l.read(3, 512);
       }},
      {PduRule::kAfterDisconnect, "read_after_disconnect_is_answered",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.send(make_disconnect(), 2), PduRule::kNone);
         EXPECT_EQ(l.respond(2), PduRule::kNone);
         return l.read(3, 512);
       }},
      {PduRule::kCidInUse, "cid_of_a_command_in_flight",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.flush(2), PduRule::kNone);
         return l.flush(2);
       }},
      {PduRule::kQueueOverrun, "as_many_commands_as_entries",
       [](Link& l) {
         l.up();
         for (std::uint16_t cid = 2; cid < kEntries + 1; ++cid) EXPECT_EQ(l.flush(cid), PduRule::kNone);
         return l.flush(100);
       }},
      {PduRule::kDataPointer, "prps",
       [](Link& l) {
         l.up();
         Command cmd = make_read(kNs, 0, 1);
         cmd.cid = Cid{2};
         cmd.set_prps(0x1000, 0);
         return l.host(make_capsule_cmd(cmd, 0, l.params()));
       }},
      {PduRule::kDataPointer, "memory_of_the_host",
       [](Link& l) {
         l.up();
         Command cmd = make_read(kNs, 0, 1);
         cmd.cid = Cid{2};
         cmd.set_sgl(SglDescriptor::data_block(0x1000, 512));
         return l.host(make_capsule_cmd(cmd, 0, l.params()));
       }},
      {PduRule::kInCapsuleLimit, "more_in_the_capsule_than_the_queue_takes",
       [](Link& l) {
         l.up();
         return l.send(make_write(kNs, 0, 16), 2, 0, 8192);
       }},
      {PduRule::kInCapsuleLimit, "more_in_the_capsule_than_fabrics_takes",
       [](Link& l) {
         l.initialise();
         return l.send(make_connect({.recfmt = 0, .qid = Qid{0}, .entries = 32}), 1, 0, 8196);
       }},
      {PduRule::kInCapsuleData, "sgl_longer_than_the_capsule",
       [](Link& l) {
         l.up();
         Command cmd = make_write(kNs, 0, 2);
         cmd.cid = Cid{2};
         cmd.set_sgl(SglDescriptor::in_capsule(1024));
         return l.host(make_capsule_cmd(cmd, 512, l.params()));
       }},
      {PduRule::kInCapsuleData, "capsule_data_no_sgl_names",
       [](Link& l) {
         l.up();
         Command cmd = make_write(kNs, 0, 1);
         cmd.cid = Cid{2};
         cmd.set_sgl(SglDescriptor::transport(512));
         return l.host(make_capsule_cmd(cmd, 512, l.params()));
       }},
      // host to controller data
      {PduRule::kR2TDirection, "r2t_for_a_read",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         return l.r2t(2, 1, 0, 512);
       }},
      {PduRule::kR2TDirection, "r2t_for_data_that_came_in_the_capsule",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.send(make_write(kNs, 0, 1), 2, 0, 512), PduRule::kNone);
         return l.r2t(2, 1, 0, 512);
       }},
      {PduRule::kR2TLength, "r2t_beyond_the_data",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         return l.r2t(2, 1, 0, 1536);
       }},
      {PduRule::kR2TLength, "r2t_for_nothing",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         return l.r2t(2, 1, 0, 0);
       }},
      {PduRule::kR2TOrder, "r2t_with_a_gap",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         return l.r2t(2, 1, 512, 512);
       }},
      {PduRule::kR2TOrder, "r2t_twice",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 512), PduRule::kNone);
         return l.r2t(2, 1, 0, 512);
       }},
      {PduRule::kMaxR2T, "more_r2ts_than_the_host_takes",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 2048), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 512), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 2, 512, 512), PduRule::kNone);
         return l.r2t(2, 3, 1024, 512);
       }},
      {PduRule::kTtagInUse, "two_r2ts_with_one_tag",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 512), PduRule::kNone);
         return l.r2t(2, 1, 512, 512);
       }},
      {PduRule::kUnknownTtag, "data_nobody_asked_for",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         return l.h2c(2, 9, 0, 1024, true);
       }},
      {PduRule::kUnknownTtag, "data_twice",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 1024), PduRule::kNone);
         EXPECT_EQ(l.h2c(2, 1, 0, 1024, true), PduRule::kNone);
         return l.h2c(2, 1, 0, 1024, true);
       }},
      {PduRule::kTtagCommand, "tag_of_another_command",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.write(3, 1024), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 1024), PduRule::kNone);
         return l.h2c(3, 1, 0, 1024, true);
       }},
      {PduRule::kH2COrder, "host_data_with_a_gap",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 1024), PduRule::kNone);
         return l.h2c(2, 1, 512, 512, true);
       }},
      {PduRule::kH2CRange, "host_data_beyond_the_r2t",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 512), PduRule::kNone);
         return l.h2c(2, 1, 0, 1024, true);
       }},
      {PduRule::kMaxH2CData, "host_data_beyond_maxh2cdata",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 16384), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 16384), PduRule::kNone);
         return l.h2c(2, 1, 0, 16384, true);
       }},
      {PduRule::kH2CLast, "last_too_early",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 1024), PduRule::kNone);
         return l.h2c(2, 1, 0, 512, true);
       }},
      {PduRule::kH2CLast, "last_left_out",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 1024), PduRule::kNone);
         return l.h2c(2, 1, 0, 1024, false);
       }},
      // controller to host data
      {PduRule::kC2HDirection, "data_for_a_write",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 512), PduRule::kNone);
         return l.c2h(2, 0, 512, true);
       }},
      {PduRule::kC2HDirection, "data_for_a_flush",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.flush(2), PduRule::kNone);
         return l.c2h(2, 0, 512, true);
       }},
      {PduRule::kC2HOrder, "data_with_a_gap",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 1024), PduRule::kNone);
         return l.c2h(2, 512, 512, true);
       }},
      {PduRule::kC2HRange, "data_beyond_the_command",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         return l.c2h(2, 0, 1024, true);
       }},
      {PduRule::kC2HAfterLast, "data_after_the_last",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 1024), PduRule::kNone);
         EXPECT_EQ(l.c2h(2, 0, 512, true), PduRule::kNone);
         return l.c2h(2, 512, 512, true);
       }},
      {PduRule::kC2HLast, "no_last",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         EXPECT_EQ(l.c2h(2, 0, 512, false), PduRule::kNone);
         return l.respond(2);
       }},
      {PduRule::kSuccessWithoutLast, "success_without_last",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         return l.target(with(make_c2h_data(Cid{2}, 0, 512, false, false, l.params()),
                              [](PduHeader& h) { h.flags |= kPduSuccess; }));
       }},
      {PduRule::kSuccessEarly, "success_before_the_rest",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 1024), PduRule::kNone);
         return l.c2h(2, 0, 512, true, true);
       }},
      {PduRule::kSuccessFlowControl, "success_with_flow_control",
       [](Link& l) {
         Link strict(
             {.end = ConnectionEnd::kHost, .commands = 8, .r2ts = 1, .in_capsule_bytes = 0, .strict_success = true});
         std::swap(l.monitor, strict.monitor);
         l.up(false);
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         return l.c2h(2, 0, 512, true, true);
       }},
      // responses
      {PduRule::kResponseEarly, "success_of_a_read_without_data",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.read(2, 512), PduRule::kNone);
         return l.respond(2);
       }},
      {PduRule::kResponseEarly, "success_of_a_write_without_data",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 512), PduRule::kNone);
         return l.respond(2);
       }},
      {PduRule::kResponseEarly, "success_of_a_write_whose_data_is_on_its_way",
       [](Link& l) {
         l.up();
         EXPECT_EQ(l.write(2, 512), PduRule::kNone);
         EXPECT_EQ(l.r2t(2, 1, 0, 512), PduRule::kNone);
         return l.respond(2);
       }},
      {PduRule::kSqhd, "sqhd_beyond_the_queue",
       [](Link& l) {
         l.up(false);
         EXPECT_EQ(l.flush(2), PduRule::kNone);
         return l.respond(2, {}, kEntries);
       }},
      {PduRule::kSqhd, "sqhd_ahead_of_the_host",
       [](Link& l) {
         l.up(false);
         EXPECT_EQ(l.flush(2), PduRule::kNone);
         return l.respond(2, {}, 3);
       }},
      {PduRule::kSqhd, "sqhd_goes_back",
       [](Link& l) {
         l.up(false);
         EXPECT_EQ(l.flush(2), PduRule::kNone);
         EXPECT_EQ(l.flush(3), PduRule::kNone);
         EXPECT_EQ(l.respond(3, {}, 3), PduRule::kNone);
         return l.respond(2, {}, 2);
       }},
  };
  return *kCases;
}

class Violation : public ::testing::TestWithParam<std::size_t> {};

TEST_P(Violation, IsFound) {
  const Case& tested = cases()[GetParam()];
  Link link;
  EXPECT_EQ(tested.last(link), tested.rule) << tested.name << ": " << to_string(tested.rule);
}

INSTANTIATE_TEST_SUITE_P(PduMonitor, Violation, ::testing::Range<std::size_t>(0, cases().size()),
                         [](const auto& tested) { return std::string(cases()[tested.param].name); });

TEST(PduMonitor, EveryRuleHasATextAClauseAndACase) {
  std::set<PduRule> tested{PduRule::kNone};
  for (const Case& test : cases()) tested.insert(test.rule);
  EXPECT_EQ(tested.size(), kPduRules);
  for (std::size_t i = 1; i < kPduRules; ++i) {
    const auto rule = static_cast<PduRule>(i);
    EXPECT_TRUE(tested.contains(rule)) << to_string(rule);
    EXPECT_FALSE(to_string(rule).empty());
    EXPECT_TRUE(clause(rule).starts_with("NVMe")) << to_string(rule);
  }
}

TEST(PduMonitor, GoodConversationIsNotBlamed) {
  for (const bool digests : {false, true}) {
    Link link;
    link.wanted = {.hdgst = digests, .ddgst = digests, .hpda = 7, .cpda = 0, .maxr2t = 2};
    link.granted = {.hdgst = digests, .ddgst = digests, .hpda = 0, .cpda = 15, .maxr2t = 1, .maxh2cdata = 8192};
    link.up(false);
    // A write by two R2Ts, the first of them by two PDUs; a read in pieces with a response; another without.
    EXPECT_EQ(link.write(2, 24576), PduRule::kNone);
    EXPECT_EQ(link.read(3, 8192), PduRule::kNone);
    EXPECT_EQ(link.read(4, 512), PduRule::kNone);
    EXPECT_EQ(link.r2t(2, 7, 0, 16384), PduRule::kNone);
    EXPECT_EQ(link.r2t(2, 8, 16384, 8192), PduRule::kNone);
    EXPECT_EQ(link.c2h(3, 0, 4096, false), PduRule::kNone);
    EXPECT_EQ(link.h2c(2, 7, 0, 8192, false), PduRule::kNone);
    EXPECT_EQ(link.h2c(2, 8, 16384, 8192, true), PduRule::kNone);
    EXPECT_EQ(link.c2h(4, 0, 512, true, true), PduRule::kNone);
    EXPECT_EQ(link.h2c(2, 7, 8192, 8192, true), PduRule::kNone);
    EXPECT_EQ(link.c2h(3, 4096, 4096, true), PduRule::kNone);
    EXPECT_EQ(link.respond(3, {}, 4), PduRule::kNone);
    EXPECT_EQ(link.respond(2, {}, 4), PduRule::kNone);
    EXPECT_EQ(link.send(make_write(kNs, 0, 8), 2, 0, 4096), PduRule::kNone);
    EXPECT_EQ(link.respond(2, {}, 5), PduRule::kNone);
    EXPECT_EQ(link.send(make_disconnect(), 9), PduRule::kNone);
    EXPECT_EQ(link.respond(9, {}, 6), PduRule::kNone);
    EXPECT_EQ(link.monitor.outstanding(), 0U);
  }
}

TEST(PduMonitor, ErrorsMayComeAtAnyTime) {
  Link link;
  link.up();
  EXPECT_EQ(link.read(2, 1024), PduRule::kNone);
  EXPECT_EQ(link.c2h(2, 0, 512, false), PduRule::kNone);
  EXPECT_EQ(link.respond(2, kFailed), PduRule::kNone);
  // Data of a write that has failed meanwhile is on its way; its tag is free again.
  EXPECT_EQ(link.write(3, 1024), PduRule::kNone);
  EXPECT_EQ(link.r2t(3, 1, 0, 1024), PduRule::kNone);
  EXPECT_EQ(link.respond(3, kFailed), PduRule::kNone);
  EXPECT_EQ(link.h2c(3, 1, 0, 512, false), PduRule::kNone);
  EXPECT_EQ(link.write(4, 1024), PduRule::kNone);
  EXPECT_EQ(link.r2t(4, 1, 0, 1024), PduRule::kNone);
  EXPECT_EQ(link.h2c(4, 1, 0, 1024, true), PduRule::kNone);
  EXPECT_EQ(link.respond(4), PduRule::kNone);
}

TEST(PduMonitor, WhatCrossedOurTermReqIsNoOffence) {
  Link link({.end = ConnectionEnd::kController, .commands = 8, .r2ts = 1, .in_capsule_bytes = 0});
  link.up();
  EXPECT_EQ(link.target(make_term_req(PduDirection::kToHost, Fes::kPduSequenceError, 0, 24)), PduRule::kNone);
  EXPECT_EQ(link.flush(2), PduRule::kNone);
  EXPECT_EQ(link.respond(2), PduRule::kAfterTermReq) << "but we ended it ourselves";
}

TEST(PduMonitor, RefusedDisconnectAndConnectMayBeFollowed) {
  Link link;
  link.initialise();
  EXPECT_EQ(link.connect(), PduRule::kNone);
  EXPECT_EQ(link.respond(1, kFailed), PduRule::kNone);
  EXPECT_EQ(link.connect(), PduRule::kNone);
  EXPECT_EQ(link.respond(1, {}, 1), PduRule::kNone);
  EXPECT_EQ(link.send(make_disconnect(), 2), PduRule::kNone);
  EXPECT_EQ(link.respond(2, kFailed, 2), PduRule::kNone);
  EXPECT_EQ(link.flush(3), PduRule::kNone);
}

TEST(PduMonitor, SqhdGoesRoundWhileSuccessHidesIt) {
  Link link;
  link.up(false);
  for (std::uint16_t round = 0; round < 3 * kEntries + 2; ++round) {
    EXPECT_EQ(link.read(2, 512), PduRule::kNone);
    EXPECT_EQ(link.c2h(2, 0, 512, true, true), PduRule::kNone);
  }
  EXPECT_EQ(link.flush(2), PduRule::kNone);
  EXPECT_EQ(link.respond(2, {}, (3 * kEntries + 2 + 2) % kEntries), PduRule::kNone);
}

TEST(PduMonitor, KnowsWhoBeganIt) {
  Link link;
  link.up();
  EXPECT_FALSE(link.monitor.provoked(PduDirection::kToController));
  EXPECT_EQ(link.respond(50), PduRule::kUnknownCommand);
  EXPECT_TRUE(link.monitor.provoked(PduDirection::kToController));
  EXPECT_FALSE(link.monitor.provoked(PduDirection::kToHost));
  EXPECT_TRUE(link.monitor.own(PduDirection::kToController));
}

std::string g_told;

TEST(PduChecker, CountsBothEndsAndTellsOfOursAlone) {
  const PduMonitor::Config config{.end = ConnectionEnd::kHost, .commands = 4, .r2ts = 1, .in_capsule_bytes = 0};
  EXPECT_EQ(PduChecker::make(false, config, "nobody"), nullptr);
  PduChecker::check_everything([](PduRule, const std::string& what) { g_told = what; });
  const auto& found = PduChecker::violations(ConnectionEnd::kHost);
  auto checker = PduChecker::make(false, config, "10.0.0.1:4420");
  ASSERT_NE(checker, nullptr);
  const CapsuleCmdPdu early = make_capsule_cmd(make_flush(kNs), 0, {});
  checker->sent(wire::bytes_of(early));
  EXPECT_EQ(found.own.value(), 1U);
  EXPECT_EQ(g_told.find("protocol checker: 10.0.0.1:4420: we sent a CapsuleCmd before ICReq and ICResp "
                        "(NVMe TCP Transport 1.0, 3.1): 04004800"),
            0U)
      << g_told;
  g_told.clear();
  checker->received(wire::bytes_of(early));
  EXPECT_EQ(found.peer.value(), 1U);
  checker->sent(wire::bytes_of(early));
  EXPECT_EQ(found.own.value(), 2U);
  EXPECT_EQ(g_told, "") << "the peer's doing, or provoked by it";
  PduChecker::check_everything(nullptr);
}

TEST(PduMonitor, ManyCommandsWithScatteredIdsAreKeptApart) {
  constexpr std::uint32_t kMany = 256;
  IdTable<std::uint32_t> table(kMany);
  std::map<std::uint16_t, std::uint32_t> model;
  std::uint32_t random = 1;
  for (std::uint32_t step = 0; step < 200'000; ++step) {
    random = random * 1664525 + 1013904223;
    const auto id = static_cast<std::uint16_t>((random >> 16) % 1024 * ((random & 1) != 0 ? 1 : 64));
    std::uint32_t* const found = table.find(id);
    const auto known = model.find(id);
    ASSERT_EQ(found != nullptr, known != model.end());
    if (found != nullptr) {
      ASSERT_EQ(*found, known->second);
      table.erase(id);
      model.erase(known);
    } else if (std::uint32_t* const added = model.size() < kMany ? table.insert(id) : nullptr) {
      *added = model[id] = step;
    }
    ASSERT_EQ(table.size(), model.size());
  }
}

/// Of this thread: what else the machine is doing does not count.
double cpu_nanos() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

/// A read costs two observed PDUs at each end, a write by R2T four. The bound is loose: it is there to notice an
/// accident, the figure is printed.
TEST(PduMonitor, CostsLittle) {
  Link link({.end = ConnectionEnd::kHost, .commands = 128, .r2ts = 1, .in_capsule_bytes = 0});
  link.initialise();
  Command connect = make_connect({.recfmt = 0, .qid = Qid{1}, .entries = 128, .disable_sq_flow_control = true});
  ASSERT_EQ(link.send(connect, 1, 0, 1024), PduRule::kNone);
  ASSERT_EQ(link.respond(1, {}, 0xFFFF), PduRule::kNone);
  constexpr std::uint16_t kInFlight = 64;
  constexpr int kRounds = 5000;
  const double begin = cpu_nanos();
  for (int round = 0; round < kRounds; ++round) {
    bool good = true;
    for (std::uint16_t i = 0; i < kInFlight; ++i)
      good = link.read(i | (round & 0xF) << 8, 4096) == PduRule::kNone && good;
    for (std::uint16_t i = 0; i < kInFlight; ++i) {
      good = link.c2h(i | (round & 0xF) << 8, 0, 4096, true, true) == PduRule::kNone && good;
    }
    ASSERT_TRUE(good);
  }
  const double each = (cpu_nanos() - begin) / (2.0 * kInFlight * kRounds);
  std::printf("PduMonitor: %.1f ns of CPU per PDU, with 64 reads in flight (making the PDUs included)\n", each);
  RecordProperty("ns_per_pdu", std::to_string(each));
  EXPECT_LT(each, 2000.0);
}

}  // namespace
}  // namespace leap::nvme
