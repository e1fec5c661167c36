#include "nvme/nqn.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace leap::nvme {
namespace {

std::string why(std::string_view nqn) {
  const auto result = validate_nqn(nqn);
  return result ? "" : result.error().message();
}

TEST(Nqn, AcceptsBothFormatsOfTheSpecification) {
  for (const char* nqn :
       {"nqn.2014-08.org.nvmexpress.discovery", "nqn.2014-08.com.example:nvme:nvm-subsystem-sn-d78432",
        "nqn.2014-08.com.example:nvme.host.sys.xyz", "nqn.2016-06.io.spdk:cnode1",
        "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "nqn.2014-08.org.nvmexpress:NVMf:uuid:4c4c4544-0035-5910-804b-b2c04f4b3133", "nqn.2024-12.a:b",
        "nqn.2024-01.io.example_with_underscore:x", "nqn.2024-01.io.example:\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"}) {
    EXPECT_EQ(why(nqn), "") << nqn;
  }
}

TEST(Nqn, LengthIsOneTo223Bytes) {
  const std::string prefix = "nqn.2024-01.io.example:";
  EXPECT_EQ(why(prefix + std::string(223 - prefix.size(), 'x')), "");
  EXPECT_NE(why(prefix + std::string(224 - prefix.size(), 'x')).find("longer than 223"), std::string::npos);
  EXPECT_NE(why("").find("empty"), std::string::npos);
  EXPECT_NE(why(std::string(100000, 'x')).find("longer than 223"), std::string::npos);
}

TEST(Nqn, SaysWhatIsWrong) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"iqn.2014-08.com.example:x", "does not start with 'nqn.'"},
      {"NQN.2014-08.com.example:x", "does not start with 'nqn.'"},
      {"nqn.", "date"},
      {"nqn.2014-08", "date"},
      {"nqn.14-08.com.example", "date"},
      {"nqn.2014/08.com.example", "date"},
      {"nqn.2014-00.com.example", "month"},
      {"nqn.2014-13.com.example", "month"},
      {"nqn.2014-08.", "domain"},
      {"nqn.2014-08.:x", "domain"},
      {"nqn.2014-08..com", "domain"},
      {"nqn.2014-08.com..example", "domain"},
      {"nqn.2014-08.com.:x", "domain"},
      {"nqn.2014-08.com/example:x", "domain"},
      {"nqn.2014-08.com.example:", "nothing follows"},
      {"nqn.2014-08.com.example:a b", "blank"},
      {"nqn.2014-08.com.example:a\nb", "control"},
      {std::string_view("nqn.2014-08.com.example:a\0b", 27), "control"},
      {"nqn.2014-08.com.example:\x7F", "control"},
      {"nqn.2014-08.org.nvmexpress:uuid:", "UUID"},
      {"nqn.2014-08.org.nvmexpress:uuid:f81d4fae7dec11d0a76500a0c91e6bf6", "UUID"},
      {"nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bfg", "UUID"},
  };
  for (const auto& [nqn, reason] : cases) {
    EXPECT_NE(why(nqn).find(reason), std::string::npos) << nqn << " gave: " << why(nqn);
  }
}

TEST(Nqn, RefusesBytesThatAreNotUtf8) {
  for (const char* tail : {"\x80", "\xC3", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                           "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "\xF0\x9F\x98"}) {
    EXPECT_NE(why(std::string("nqn.2014-08.com.example:") + tail).find("UTF-8"), std::string::npos);
  }
}

TEST(Nqn, MessageIsShortAndPrintable) {
  const auto result = validate_nqn(std::string(200, '\x1B'));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), Errc::kInvalidArgument);
  EXPECT_LT(result.error().message().size(), 200U);
  EXPECT_EQ(result.error().message().find('\x1B'), std::string::npos);
}

TEST(Nqn, FromUuidIsValid) {
  const Uuid uuid = Uuid::from_name("test");
  const std::string nqn = nqn_from_uuid(uuid);
  EXPECT_EQ(nqn, "nqn.2014-08.org.nvmexpress:uuid:" + uuid.to_string());
  EXPECT_EQ(why(nqn), "");
}

RC_GTEST_PROP(Nqn, JudgesAnyBytesWithoutHarm, (std::string text)) {
  (void)why(text);
  (void)why("nqn.2014-08." + text);
  (void)why("nqn.2014-08.com.example:" + text);
}

}  // namespace
}  // namespace leap::nvme
