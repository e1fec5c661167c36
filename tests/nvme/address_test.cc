#include "nvme/address.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace leap::nvme {
namespace {

std::string error_of(std::string_view text) {
  const auto result = TransportAddress::parse(text);
  if (result) return "accepted: " + result->to_string();
  EXPECT_EQ(result.error().kind(), Errc::kInvalidArgument) << text;
  EXPECT_EQ(result.error().domain(), ErrorDomain::kConfig) << text;
  return result.error().message();
}

TransportAddress parsed(std::string_view text) {
  auto result = TransportAddress::parse(text);
  EXPECT_TRUE(result.ok()) << text << ": " << (result.ok() ? "" : result.error().message());
  return result ? *result : TransportAddress{};
}

TEST(TransportAddress, ReadsSpdkStrings) {
  const auto address = parsed(
      "trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.2016-06.io.spdk:cnode1 "
      "hostnqn:nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6 ns:3");
  EXPECT_EQ(address.trtype, Trtype::kTcp);
  EXPECT_EQ(address.adrfam, Adrfam::kIpv4);
  EXPECT_EQ(address.traddr, "127.0.0.1");
  EXPECT_EQ(address.trsvcid, 4420);
  EXPECT_EQ(address.subnqn, "nqn.2016-06.io.spdk:cnode1");
  EXPECT_EQ(address.hostnqn, "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
  EXPECT_EQ(address.nsid, Nsid{3});
  EXPECT_FALSE(address.is_discovery());
  EXPECT_EQ(address.endpoint(), "127.0.0.1:4420");
}

TEST(TransportAddress, KeysComeInAnyCaseAndOrder) {
  const auto reference = parsed("trtype:TCP adrfam:IPv4 traddr:10.0.0.1 trsvcid:4421 subnqn:nqn.2016-06.io.spdk:c");
  EXPECT_EQ(parsed("  SUBNQN:nqn.2016-06.io.spdk:c\ttrsvcid:4421 TrAddr:10.0.0.1\nADRFAM:ipv4 TRTYPE:tcp "), reference);
  EXPECT_EQ(parsed("trtype=TCP adrfam=IPv4 traddr=10.0.0.1 trsvcid=4421 subnqn=nqn.2016-06.io.spdk:c"), reference);
}

TEST(TransportAddress, FamilyIsInferredFromTheAddress) {
  EXPECT_EQ(parsed("trtype:TCP traddr:10.0.0.1").adrfam, Adrfam::kIpv4);
  EXPECT_EQ(parsed("trtype:TCP traddr:::1").adrfam, Adrfam::kIpv6);
  EXPECT_EQ(parsed("trtype:TCP traddr:::1").traddr, "::1");
  EXPECT_EQ(parsed("trtype:TCP traddr:fe80::1%eth0").adrfam, Adrfam::kIpv6);
  EXPECT_EQ(parsed("trtype:TCP traddr:storage-7.example.org").adrfam, Adrfam::kNone);
  EXPECT_EQ(parsed("trtype:TCP adrfam:IPv6 traddr:storage-7").adrfam, Adrfam::kIpv6) << "the resolver is told";
}

TEST(TransportAddress, WithoutSubnqnTheDiscoveryServiceIsMeant) {
  const auto address = parsed("trtype:TCP traddr:10.0.0.1");
  EXPECT_TRUE(address.is_discovery());
  EXPECT_EQ(address.trsvcid, 8009);
  EXPECT_EQ(parsed("trtype:TCP traddr:10.0.0.1 trsvcid:4420").trsvcid, 4420);
  EXPECT_EQ(parsed("trtype:TCP traddr:10.0.0.1 subnqn:nqn.2016-06.io.spdk:c").trsvcid, 4420);
}

TEST(TransportAddress, ReadsUris) {
  const auto spdk =
      parsed("trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:4422 subnqn:nqn.2016-06.io.spdk:cnode1 ns:1");
  EXPECT_EQ(parsed("nvme+tcp://127.0.0.1:4422/nqn.2016-06.io.spdk:cnode1?ns=1"), spdk);
  EXPECT_EQ(parsed("NVMe+TCP://127.0.0.1:4422/nqn.2016-06.io.spdk:cnode1?ns=1"), spdk);
  EXPECT_EQ(parsed(" nvme+tcp://127.0.0.1:4422/nqn.2016-06.io.spdk%3Acnode1?ns=1 "), spdk);
  const auto v6 = parsed("nvme+tcp://[::1]:4422/nqn.2016-06.io.spdk:c?hostnqn=nqn.2024-01.io.example:h");
  EXPECT_EQ(v6.adrfam, Adrfam::kIpv6);
  EXPECT_EQ(v6.traddr, "::1");
  EXPECT_EQ(v6.hostnqn, "nqn.2024-01.io.example:h");
  EXPECT_EQ(v6.endpoint(), "[::1]:4422");
  EXPECT_EQ(parsed("nvme+tcp://[fe80::1%25eth0]").traddr, "fe80::1%eth0");
  EXPECT_EQ(parsed("nvme+tcp://host").trsvcid, 8009);
  EXPECT_TRUE(parsed("nvme+tcp://host/").is_discovery());
  EXPECT_EQ(parsed("nvme+rdma://10.0.0.1/nqn.2016-06.io.spdk:c").trtype, Trtype::kRdma);
}

TEST(TransportAddress, LocalTransportsHaveNeitherPortNorFamily) {
  const auto pcie = parsed("nvme+pcie://0000:81:00.0?ns=1");
  EXPECT_EQ(pcie.trtype, Trtype::kPcie);
  EXPECT_EQ(pcie.traddr, "0000:81:00.0");
  EXPECT_EQ(pcie.trsvcid, 0);
  EXPECT_EQ(pcie.subnqn, "");
  EXPECT_FALSE(pcie.is_discovery());
  EXPECT_EQ(pcie.endpoint(), "0000:81:00.0");
  EXPECT_EQ(parsed("trtype:PCIe traddr:81:1F.7").traddr, "0000:81:1f.7");
  const auto user = parsed("nvme+vfio-user:///var/run/leap.sock");
  EXPECT_EQ(user.trtype, Trtype::kVfioUser);
  EXPECT_EQ(user.traddr, "/var/run/leap.sock");
  EXPECT_EQ(parsed("trtype:VFIOUSER traddr:/var/run/leap.sock"), user);
  EXPECT_EQ(parsed("trtype:vfio-user traddr:/var/run/leap.sock"), user);
}

TEST(TransportAddress, PrintsSpdksForm) {
  EXPECT_EQ(parsed("nvme+tcp://127.0.0.1/nqn.2016-06.io.spdk:c?ns=7").to_string(),
            "trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.2016-06.io.spdk:c ns:7");
  EXPECT_EQ(parsed("nvme+tcp://host:1").to_string(),
            "trtype:TCP traddr:host trsvcid:1 subnqn:nqn.2014-08.org.nvmexpress.discovery");
  EXPECT_EQ(parsed("nvme+pcie://0000:01:00.0").to_string(), "trtype:PCIE traddr:0000:01:00.0");
}

TEST(TransportAddress, EveryMalformedPartIsNamed) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"", "it is empty"},
      {"   \t", "it is empty"},
      {"hello", "'hello' is not of the form key:value"},
      {"trtype:TCP 127.0.0.1", "'127.0.0.1' is not of the form key:value"},
      {"traddr:127.0.0.1", "trtype is missing"},
      {"trtype:TCP", "traddr is missing"},
      {"trtype:FC traddr:x", "trtype 'FC' is not one of"},
      {"trtype: traddr:x", "key 'trtype' has no value"},
      {"trtype:TCP traddr:127.0.0.1 color:blue", "unknown key 'color'"},
      {"trtype:TCP traddr:127.0.0.1 :x", "unknown key ''"},
      {"trtype:TCP traddr:127.0.0.1 TRTYPE:TCP", "key 'TRTYPE' is given twice"},
      {"trtype:TCP traddr:127.0.0.1 ns:1 nsid:1 subnqn:nqn.2016-06.io.spdk:c", "key 'nsid' is given twice"},
      {"trtype:TCP adrfam:IB traddr:127.0.0.1", "adrfam 'IB' is not IPv4 or IPv6"},
      {"trtype:TCP adrfam:IPv6 traddr:127.0.0.1", "traddr '127.0.0.1' is not an IPv6 address"},
      {"trtype:TCP adrfam:IPv4 traddr:::1", "traddr '::1' is not an IPv4 address"},
      {"trtype:TCP traddr:127.0.0.256", "traddr '127.0.0.256' is not an IP address or a host name"},
      {"trtype:TCP traddr:1.2.3", "traddr '1.2.3' is not an IP address or a host name"},
      {"trtype:TCP traddr:::g", "traddr '::g' is not an IP address or a host name"},
      {"trtype:TCP traddr:fe80::1%", "is not an IP address or a host name"},
      {"trtype:TCP traddr:a..b", "traddr 'a..b' is not an IP address or a host name"},
      {"trtype:TCP traddr:-a", "is not an IP address or a host name"},
      {"trtype:TCP traddr:a/b", "is not an IP address or a host name"},
      {"trtype:TCP traddr:127.0.0.1 trsvcid:0", "port '0' is not a number from 1 to 65535"},
      {"trtype:TCP traddr:127.0.0.1 trsvcid:65536", "port '65536'"},
      {"trtype:TCP traddr:127.0.0.1 trsvcid:-1", "port '-1'"},
      {"trtype:TCP traddr:127.0.0.1 trsvcid:4420x", "port '4420x'"},
      {"trtype:TCP traddr:127.0.0.1 trsvcid:nvme", "port 'nvme'"},
      {"trtype:TCP traddr:127.0.0.1 subnqn:disk", "NQN 'disk' is malformed"},
      {"trtype:TCP traddr:127.0.0.1 subnqn:nqn.2016-06.io.spdk:c hostnqn:me", "NQN 'me' is malformed"},
      {"trtype:TCP traddr:127.0.0.1 subnqn:nqn.2016-06.io.spdk:c ns:0", "namespace id '0'"},
      {"trtype:TCP traddr:127.0.0.1 subnqn:nqn.2016-06.io.spdk:c ns:4294967295", "namespace id '4294967295'"},
      {"trtype:TCP traddr:127.0.0.1 subnqn:nqn.2016-06.io.spdk:c ns:x", "namespace id 'x'"},
      {"trtype:TCP traddr:127.0.0.1 ns:1", "a namespace id needs a subnqn"},
      {"trtype:PCIE traddr:0000:01:00.0 trsvcid:4420", "trsvcid does not go with trtype PCIE"},
      {"trtype:PCIE traddr:0000:01:00.0 adrfam:IPv4", "adrfam does not go with trtype PCIE"},
      {"trtype:PCIE traddr:0000:01:20.0", "is not a PCI address"},
      {"trtype:PCIE traddr:0000:01:00.8", "is not a PCI address"},
      {"trtype:PCIE traddr:0000:100:00.0", "is not a PCI address"},
      {"trtype:PCIE traddr:nvme0", "is not a PCI address"},
      {"trtype:PCIE traddr:0000:01:00", "is not a PCI address"},
      {"trtype:VFIOUSER traddr:leap.sock", "is not an absolute path"},
      {"nvme+tcp:/x", "is not of the form nvme+transport://"},
      {"nvme+iscsi://host", "trtype 'iscsi' is not one of"},
      {"nvme+tcp://", "the URI has no host"},
      {"nvme+tcp:///nqn.2016-06.io.spdk:c", "the URI has no host"},
      {"nvme+tcp://:4420", "the URI has no host"},
      {"nvme+tcp://[]:4420", "the URI has no host"},
      {"nvme+tcp://[::1", "has no closing ']'"},
      {"nvme+tcp://[::1]4420", "'4420' after ']' is not ':port'"},
      {"nvme+tcp://[127.0.0.1]", "is not an IPv6 address"},
      {"nvme+tcp://::1:4420", "write the IPv6 address in"},
      {"nvme+tcp://host:", "port ''"},
      {"nvme+tcp://host:99999", "port '99999'"},
      {"nvme+tcp://me@host", "user information"},
      {"nvme+tcp://host/disk", "NQN 'disk' is malformed"},
      {"nvme+tcp://host/nqn.2016-06.io.spdk:c?ns", "'ns' in the query is not of the form key=value"},
      {"nvme+tcp://host/nqn.2016-06.io.spdk:c?nsid=1", "unknown key 'nsid' in the query"},
      {"nvme+tcp://host/nqn.2016-06.io.spdk:c?ns=1&ns=2", "key 'ns' is given twice"},
      {"nvme+tcp://host/nqn.2016-06.io.spdk:c?ns=", "key 'ns' has no value"},
      {"nvme+tcp://host/nqn.2016-06.io.spdk:c?&ns=1", "'' in the query"},
      {"nvme+tcp://host/nqn.2016-06.io.spdk:c#x", "fragment"},
      {"nvme+tcp://ho%zzst", "'%zz' is not a percent-encoded byte"},
      {"nvme+tcp://host/nqn.2016-06.io.spdk:c%2", "'%2' is not a percent-encoded byte"},
      {"nvme+tcp://host/nqn.2016-06.io.spdk:c%00", "NQN"},
      {"nvme+tcp://ho%20st", "traddr holds a blank"},
      {"nvme+pcie://", "the URI has no PCI address"},
      {"nvme+pcie://0000:01:00.0/x", "'/x' after the PCI address is not allowed"},
      {"nvme+vfio-user://host/path", "'host' stands where nothing may"},
      {"nvme+vfio-user://", "the URI has no socket path"},
      {"nvme+vfio-user:///", "the URI has no socket path"},
      {"nvme+vfio-user:///a%20b", "traddr holds a blank"},
  };
  for (const auto& [text, part] : cases) {
    EXPECT_NE(error_of(text).find(part), std::string::npos) << text << " gave: " << error_of(text);
  }
}

TEST(TransportAddress, ErrorQuotesTheTextShortAndPrintable) {
  EXPECT_EQ(error_of("trtype:TCP").find("NVMe address 'trtype:TCP': "), 0U);
  const std::string huge = "trtype:TCP traddr:" + std::string(5000, 'x');
  EXPECT_NE(error_of(huge).find("more than 2048"), std::string::npos);
  EXPECT_LT(error_of(huge).size(), 300U);
}

TEST(TransportAddress, RecognisesItsForms) {
  EXPECT_TRUE(TransportAddress::looks_like("trtype:TCP traddr:x"));
  EXPECT_TRUE(TransportAddress::looks_like("traddr:x TRTYPE=TCP"));
  EXPECT_TRUE(TransportAddress::looks_like("nvme+tcp://x"));
  EXPECT_TRUE(TransportAddress::looks_like("NVME+anything"));
  EXPECT_FALSE(TransportAddress::looks_like("file:///tmp/x?size=1GiB"));
  EXPECT_FALSE(TransportAddress::looks_like("mem:?size=1GiB"));
  EXPECT_FALSE(TransportAddress::looks_like("file:///trtype:x"));
  EXPECT_FALSE(TransportAddress::looks_like("trtype"));
  EXPECT_FALSE(TransportAddress::looks_like(""));
}

rc::Gen<std::string> any_nqn() {
  return rc::gen::map(
      rc::gen::container<std::string>(rc::gen::element('a', 'Z', '0', ':', '.', '-', '?', '%', '=', '#', '/')),
      [](const std::string& tail) { return "nqn.2024-01.io.example:x" + tail.substr(0, 150); });
}

RC_GTEST_PROP(TransportAddress, WhatItPrintsItReadsBack, ()) {
  TransportAddress address;
  address.trtype = *rc::gen::element(Trtype::kTcp, Trtype::kRdma, Trtype::kPcie, Trtype::kVfioUser);
  if (address.over_ip()) {
    const auto byte = rc::gen::inRange(0, 256);
    const int kind = *rc::gen::inRange(0, 3);
    if (kind == 0) {
      address.adrfam = Adrfam::kIpv4;
      address.traddr = std::to_string(*byte) + "." + std::to_string(*byte) + "." + std::to_string(*byte) + ".1";
    } else if (kind == 1) {
      address.adrfam = Adrfam::kIpv6;
      address.traddr = "fd00::" + std::to_string(*byte);
    } else {
      address.adrfam = *rc::gen::element(Adrfam::kNone, Adrfam::kIpv4, Adrfam::kIpv6);
      address.traddr = "host-" + std::to_string(*byte) + ".example";
    }
    address.trsvcid = *rc::gen::inRange<std::uint16_t>(1, 65535);
    if (*rc::gen::arbitrary<bool>()) address.subnqn = *any_nqn();
  } else {
    address.traddr =
        address.trtype == Trtype::kPcie ? "0000:81:1f.7" : "/run/leap-" + std::to_string(*rc::gen::inRange(0, 99));
    address.subnqn = *rc::gen::arbitrary<bool>() ? *any_nqn() : std::string();
  }
  if (*rc::gen::arbitrary<bool>()) address.hostnqn = *any_nqn();
  if (!address.is_discovery() && *rc::gen::arbitrary<bool>()) {
    address.nsid = Nsid{*rc::gen::inRange<std::uint32_t>(1, 0xFFFFFFFF)};
  }
  const auto back = TransportAddress::parse(address.to_string());
  RC_ASSERT(back.ok());
  RC_ASSERT(*back == address);
}

RC_GTEST_PROP(TransportAddress, ReadsAnyTextWithoutHarm, (std::string text)) {
  for (const std::string& prefix :
       {std::string(), std::string("trtype:TCP traddr:"), std::string("nvme+tcp://"),
        std::string("nvme+tcp://h/nqn.2024-01.io.example:x?"), std::string("nvme+pcie://")}) {
    const auto result = TransportAddress::parse(prefix + text);
    if (result) {
      const auto back = TransportAddress::parse(result->to_string());
      RC_ASSERT(back.ok());
      RC_ASSERT(*back == *result);
    } else {
      RC_ASSERT(!result.error().message().empty());
    }
  }
}

}  // namespace
}  // namespace leap::nvme
