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

}  // namespace
}  // namespace filer::bridge
