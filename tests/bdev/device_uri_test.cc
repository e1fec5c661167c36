#include "bdev/device_uri.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace leap {
namespace {

using testing::HasSubstr;

std::string failure(std::string_view text) {
  const auto device = open_local_device(text, "test");
  return device.ok() ? "no error" : device.error().message();
}

TEST(DeviceUri, TakesPathAndOptionsApart) {
  const auto uri = DeviceUri::parse("file:///a/b?size=1GiB&direct=0").value();
  EXPECT_EQ(uri.scheme, "file");
  EXPECT_EQ(uri.path, "/a/b");
  EXPECT_EQ(uri.options.at("size"), "1GiB");
  EXPECT_EQ(uri.options.at("direct"), "0");
}

TEST(DeviceUri, TellsTheFormsApart) {
  EXPECT_EQ(device_kind("mem:?size=1MiB").value(), DeviceKind::kMemory);
  EXPECT_EQ(device_kind("file:///x").value(), DeviceKind::kFile);
  EXPECT_EQ(device_kind("nvme+tcp://h:1/nqn").value(), DeviceKind::kNvme);
  EXPECT_EQ(device_kind("trtype:TCP adrfam:IPv4 traddr:1.2.3.4 trsvcid:4420 subnqn:x").value(), DeviceKind::kNvme);
  EXPECT_THAT(device_kind("/dev/nvme0n1").error().message(), HasSubstr("file:///path"));
}

TEST(DeviceUri, NamesWhatIsWrong) {
  EXPECT_THAT(failure("mem:"), HasSubstr("needs a size"));
  EXPECT_THAT(failure("mem:?size=banana"), HasSubstr("size"));
  EXPECT_THAT(failure("mem:?size=1MiB&size=2MiB"), HasSubstr("'size' is given twice"));
  EXPECT_THAT(failure("mem:?size=1MiB&colour=red"), HasSubstr("unknown option 'colour'"));
  EXPECT_THAT(failure("mem:/path?size=1MiB"), HasSubstr("no path"));
  EXPECT_THAT(failure("mem:?size=1000"), HasSubstr("multiple of its block size"));
  EXPECT_THAT(failure("mem:?size=1MiB&block=1000"), HasSubstr("power of two"));
  EXPECT_THAT(failure("mem:?size"), HasSubstr("'size' is not key=value"));
  EXPECT_THAT(failure("file://relative"), HasSubstr("absolute"));
  EXPECT_THAT(failure("file:///no/such/dir/x?size=1MiB"), HasSubstr("No such file"));
  EXPECT_THAT(failure("file:///tmp?size=1MiB"), HasSubstr("/tmp"));
  EXPECT_THAT(failure("file:///tmp/x?size=1MiB&engine=magic"), HasSubstr("io_uring or threads"));
  EXPECT_THAT(failure("file:///dev/null"), HasSubstr("neither a file nor a block device"));
  EXPECT_THAT(failure("nvme+tcp://h:1/n"), HasSubstr("is not local"));
}

}  // namespace
}  // namespace leap
