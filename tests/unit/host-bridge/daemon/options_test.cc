#include "host-bridge/daemon/options.h"

#include <gtest/gtest.h>

namespace filer::bridge {
namespace {

TEST(ParseVolumeSpec, ReadsAllKeys) {
  auto spec = ParseVolumeSpec("name=v0,backend=file,path=/x/v.img,size=8G,socket=/x/s,readonly=on");
  ASSERT_TRUE(spec.has_value());
  EXPECT_EQ(spec.assume_value().name, "v0");
  EXPECT_EQ(spec.assume_value().path, "/x/v.img");
  EXPECT_EQ(spec.assume_value().size_bytes, 8ULL << 30);
  EXPECT_EQ(spec.assume_value().socket, "/x/s");
  EXPECT_TRUE(spec.assume_value().is_read_only);
}

TEST(ParseVolumeSpec, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "name= is missing"},
      {"name=v", "socket= is missing"},
      {"name=v,socket=s", "path= is missing"},
      {"name=v,socket=s,backend=null", "size= is missing"},
      {"name=v,socket=s,backend=tape,size=1", "none of file, memory, null"},
      {"name=v,socket=s,backend=null,size=1X", "no number of bytes"},
      {"name=v,socket=s,backend=null,size=G", "no number of bytes"},
      {"name=v,socket=s,backend=null,size=99999999999T", "no number of bytes"},
      {"name=v,socket=s,backend=null,size=-1", "no number of bytes"},
      {"name=v,colour=red", "unknown key \"colour\""},
      {"name=v,readonly=maybe", "readonly is on or off"},
      {"name=v,,socket=s", "not key=value"},
      {"name=v,socket=s,backend=memory,size=1M,readonly=on", "needs backend=file"},
  };
  for (const auto& [text, message] : cases) {
    const auto spec = ParseVolumeSpec(text);
    ASSERT_FALSE(spec.has_value()) << text;
    EXPECT_EQ(spec.assume_error(), Errc::kUsage);
    EXPECT_NE(spec.assume_error().message().find(message), std::string::npos)
        << spec.assume_error().message();
  }
}

TEST(ParseCpuList, ReadsOneOrMore) {
  EXPECT_EQ(ParseCpuList("1").assume_value(), std::vector<int>{1});
  EXPECT_EQ(ParseCpuList("3,0,1023").assume_value(), (std::vector<int>{3, 0, 1023}));
}

TEST(ParseCpuList, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "\"\" is no core"},
      {"x", "\"x\" is no core"},
      {"-1", "\"-1\" is no core"},
      {"1,", "\"\" is no core"},
      {",1", "\"\" is no core"},
      {"1 ,2", "\"1 \" is no core"},
      {"1024", "\"1024\" is no core"},
      {"1-3", "\"1-3\" is no"},
      {"2,1,2", "core 2 is named twice"},
      {"99999999999", "is no core"},
      {"0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", "16 pollers at most"},
  };
  for (const auto& [text, message] : cases) {
    const auto cpus = ParseCpuList(text);
    ASSERT_FALSE(cpus.has_value()) << text;
    EXPECT_EQ(cpus.assume_error(), Errc::kUsage);
    EXPECT_NE(cpus.assume_error().message().find(message), std::string::npos)
        << cpus.assume_error().message();
    EXPECT_EQ(cpus.assume_error().message().find('\n'), std::string::npos);
  }
}

TEST(PollerCount, IsThatOfTheCoresIfNothingElseIsSaid) {
  DaemonOptions options;
  EXPECT_EQ(PollerCount(options).assume_value(), 1U);
  options.cpus = {4, 5};
  EXPECT_EQ(PollerCount(options).assume_value(), 2U);
  options.poller_count = 2;
  EXPECT_EQ(PollerCount(options).assume_value(), 2U);
  options.poller_count = 3;
  EXPECT_EQ(PollerCount(options).assume_error(), Errc::kUsage);
  options.cpus.clear();
  EXPECT_EQ(PollerCount(options).assume_value(), 3U);
}

}  // namespace
}  // namespace filer::bridge
