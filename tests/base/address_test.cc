#include "base/address.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include "base/fd.h"

namespace leap {
namespace {

using ::testing::HasSubstr;

SocketAddress parsed(std::string_view text) {
  const Result<SocketAddress> address = SocketAddress::parse(text);
  EXPECT_TRUE(address.ok()) << text << ": " << (address.ok() ? "" : address.error().to_string());
  return address.ok() ? *address : SocketAddress{};
}

TEST(SocketAddress, IsTheIpv4WildcardAtFirst) {
  const SocketAddress address;
  EXPECT_EQ(address.family(), AddressFamily::kIpv4);
  EXPECT_EQ(address.to_string(), "0.0.0.0:0");
  EXPECT_EQ(address.size(), sizeof(sockaddr_in));
}

TEST(SocketAddress, ParsesIpv4WithPort) {
  const SocketAddress address = parsed("127.0.0.1:4420");
  EXPECT_EQ(address.family(), AddressFamily::kIpv4);
  EXPECT_EQ(address.host(), "127.0.0.1");
  EXPECT_EQ(address.port(), 4420);
  EXPECT_TRUE(address.is_loopback());
  EXPECT_EQ(fmt::format("{}", address), "127.0.0.1:4420");
  EXPECT_FALSE(parsed("10.1.2.3:1").is_loopback());
}

TEST(SocketAddress, ParsesIpv6InBrackets) {
  const SocketAddress address = parsed("[::1]:4420");
  EXPECT_EQ(address.family(), AddressFamily::kIpv6);
  EXPECT_EQ(address.host(), "::1");
  EXPECT_EQ(address.port(), 4420);
  EXPECT_TRUE(address.is_loopback());
  EXPECT_EQ(address.size(), sizeof(sockaddr_in6));
  EXPECT_EQ(address.to_string(), "[::1]:4420");
  EXPECT_EQ(parsed("[2001:DB8:0::17]:65535").to_string(), "[2001:db8::17]:65535");
}

TEST(SocketAddress, RefusesMalformedTextAndQuotesIt) {
  for (const char* text : {"",
                           "127.0.0.1",
                           ":4420",
                           "127.0.0.1:",
                           "127.0.0.1:65536",
                           "127.0.0.1:-1",
                           "127.0.0.1:+1",
                           "127.0.0.1:80x",
                           "127.0.0.1: 80",
                           "::1:4420",
                           "[::1]",
                           "[::1:4420",
                           "[]:1",
                           "[127.0.0.1]:1",
                           "256.0.0.1:1",
                           "127.1:80",
                           "1.2.3.4.5:80",
                           "2130706433:80",
                           "[::g]:1",
                           "[name]:1"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_FALSE(address.ok()) << text << " gave " << address->to_string();
    EXPECT_EQ(address.error().kind(), Errc::kInvalidArgument) << text << ": " << address.error().to_string();
    EXPECT_THAT(address.error().message(), HasSubstr("network address")) << text;
  }
}

TEST(SocketAddress, NumericLookupRefusesNamesAndTheOtherFamily) {
  EXPECT_TRUE(SocketAddress::from_numeric("::1", 1).ok());
  EXPECT_TRUE(SocketAddress::from_numeric("::1", 1, AddressFamily::kIpv6).ok());
  EXPECT_FALSE(SocketAddress::from_numeric("localhost", 1).ok());
  EXPECT_FALSE(SocketAddress::from_numeric("::1", 1, AddressFamily::kIpv4).ok());
  EXPECT_FALSE(SocketAddress::resolve("127.0.0.1", 1, AddressFamily::kIpv6).ok());
  EXPECT_FALSE(SocketAddress::resolve(std::string_view("localhost\0x", 11), 1).ok());
  EXPECT_FALSE(SocketAddress::resolve(std::string(5000, 'a'), 1).ok());
}

TEST(SocketAddress, ResolvesLocalhostToIpv4First) {
  const SocketAddress address = parsed("localhost:4420");
  EXPECT_TRUE(address.is_loopback());
  EXPECT_EQ(address.port(), 4420);
  EXPECT_EQ(address.host(), "127.0.0.1");
}

TEST(SocketAddress, ComparesHostPortAndFamily) {
  EXPECT_EQ(parsed("127.0.0.1:1"), parsed("127.0.0.1:1"));
  EXPECT_NE(parsed("127.0.0.1:1"), parsed("127.0.0.1:2"));
  EXPECT_NE(parsed("127.0.0.1:1"), parsed("127.0.0.2:1"));
  EXPECT_NE(parsed("[::1]:1"), parsed("127.0.0.1:1"));
  EXPECT_NE(parsed("[::1]:1"), parsed("[::2]:1"));
  EXPECT_EQ(parsed("127.0.0.1:1").with_port(9), parsed("127.0.0.1:9"));
  EXPECT_EQ(parsed("[::1]:1").with_port(9), parsed("[::1]:9"));
}

TEST(SocketAddress, RefusesForeignAndTruncatedSocketAddresses) {
  sockaddr_storage raw{};
  raw.ss_family = AF_UNIX;
  const auto* generic = reinterpret_cast<const sockaddr*>(&raw);
  EXPECT_EQ(SocketAddress::from_sockaddr(generic, sizeof raw).error().kind(), Errc::kUnsupported);
  raw.ss_family = AF_INET6;
  EXPECT_FALSE(SocketAddress::from_sockaddr(generic, sizeof(sockaddr_in)).ok());
  EXPECT_TRUE(SocketAddress::from_sockaddr(generic, sizeof(sockaddr_in6)).ok());
  EXPECT_FALSE(SocketAddress::from_sockaddr(generic, 2).ok());
  EXPECT_FALSE(SocketAddress::from_sockaddr(nullptr, 0).ok());
}

TEST(SocketAddress, BindsListensAndConnects) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress any_port = parsed("127.0.0.1:0");
  ASSERT_EQ(::bind(listener.get(), any_port.data(), any_port.size()), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  sockaddr_storage raw{};
  socklen_t size = sizeof raw;
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&raw), &size), 0);
  const SocketAddress bound = SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&raw), size).value();
  EXPECT_NE(bound.port(), 0);
  EXPECT_EQ(bound.host(), "127.0.0.1");
  const UniqueFd client(::socket(bound.os_family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(client.get(), bound.data(), bound.size()), 0);
}

RC_GTEST_PROP(SocketAddress, ReadsBackWhatItWrites, (std::uint16_t port, bool v6)) {
  sockaddr_in6 raw6{};
  raw6.sin6_family = AF_INET6;
  raw6.sin6_port = port;
  for (std::uint8_t& b : raw6.sin6_addr.s6_addr)
    b = *rc::gen::weightedElement<std::uint8_t>({{3, 0}, {1, 1}, {1, 0xfe}});
  sockaddr_in raw4{};
  raw4.sin_family = AF_INET;
  raw4.sin_port = port;
  raw4.sin_addr.s_addr = *rc::gen::arbitrary<std::uint32_t>();
  const auto address = v6 ? SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&raw6), sizeof raw6)
                          : SocketAddress::from_sockaddr(reinterpret_cast<const sockaddr*>(&raw4), sizeof raw4);
  const auto back = SocketAddress::parse(address->to_string());
  RC_ASSERT(back.ok());
  RC_ASSERT(*back == *address);
}

}  // namespace
}  // namespace leap
