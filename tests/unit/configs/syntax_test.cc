#include "configs/syntax.h"

#include <gtest/gtest.h>

#include <array>

namespace filer::configs {
namespace {

TEST(ParseSize, ReadsSuffixes) {
  EXPECT_EQ(ParseSize("4096").value(), 4096U);
  EXPECT_EQ(ParseSize("64M").value(), 64ULL << 20);
  EXPECT_EQ(ParseSize("8GiB").value(), 8ULL << 30);
  EXPECT_EQ(ParseSize("2TB").value(), 2ULL << 40);
}

TEST(ParseSize, RefusesWhatIsNoSize) {
  for (const char* text : {"", "G", "8g", "8 G", "-1G", "1.5G", "8GG", "8Gi", "0x10", "8X"}) {
    EXPECT_EQ(ParseSize(text).error(), Errc::kInvalidArgument) << text;
  }
  EXPECT_EQ(ParseSize("18446744073709551616").error(), Errc::kTooBig);
  EXPECT_EQ(ParseSize("16777216T").error(), Errc::kTooBig);
  EXPECT_EQ(ParseSize("16777215T").value(), 16777215ULL << 40);
}

TEST(FormatSize, ReadsBackExactly) {
  for (const std::uint64_t bytes :
       {0ULL, 1ULL, 1023ULL, 1024ULL, 1536ULL, 64ULL << 20, 8ULL << 30, (8ULL << 30) + 4096}) {
    EXPECT_EQ(ParseSize(FormatSize(bytes)).value(), bytes);
  }
  EXPECT_EQ(FormatSize(8ULL << 30), "8G");
}

TEST(IsName, TakesTheDocumentedCharactersOnly) {
  EXPECT_TRUE(IsName("a"));
  EXPECT_TRUE(IsName("Vol_1.2-x"));
  EXPECT_TRUE(IsName(std::string(63, 'x')));
  for (const std::string& text :
       {std::string(), std::string("."), std::string(".."), std::string("-x"), std::string("a b"),
        std::string("a/b"), std::string("a\nb"), std::string(64, 'x'), std::string("\xc3\xa9")}) {
    EXPECT_FALSE(IsName(text)) << text;
  }
}

TEST(WhyNotPath, RefusesWhatLeavesTheFolderOrTheLine) {
  EXPECT_FALSE(WhyNotPath("/"));
  EXPECT_FALSE(WhyNotPath("/srv/a b/\xc3\xa9.img"));
  EXPECT_FALSE(WhyNotPath("/a/..b"));
  for (const char* text :
       {"",       "a",     "a/b",   "/a/../b", "/..",       "/a/.",          "/a//b",
        "/a/",    "/a\nb", "/a\"b", "/a%Ub",   "/a\\b",     "/a;b",          "/a#b",
        "/a\x7f", "/a ",   "/\xc3", "/\xff",   "/\xc0\x80", "/\xed\xa0\x80", "/\xc2\x80"}) {
    EXPECT_TRUE(WhyNotPath(text)) << text;
  }
}

TEST(WhyNotVolumePath, RefusesWhatWouldEndTheBridgesOption) {
  EXPECT_FALSE(WhyNotVolumePath("/srv/a b=c.img"));
  EXPECT_TRUE(WhyNotVolumePath("a.img"));
  for (const char* text : {"/srv/a,readonly=on", "/srv,/a.img", "/srv/a.img,", "/,"}) {
    EXPECT_TRUE(WhyNotVolumePath(text)) << text;
    EXPECT_FALSE(WhyNotPath(text)) << text;  // a folder that is exported may be called that
  }
}

TEST(ParseClientRule, GivesCanonicalForms) {
  EXPECT_EQ(ParseClientRule("*").value(), "*");
  EXPECT_EQ(ParseClientRule("10.1.2.3").value(), "10.1.2.3");
  EXPECT_EQ(ParseClientRule("10.0.0.0/8").value(), "10.0.0.0/8");
  EXPECT_EQ(ParseClientRule("10.1.2.3/32").value(), "10.1.2.3");
  EXPECT_EQ(ParseClientRule("FD00:0::/8").value(), "fd00::/8");
}

TEST(ParseClientRule, RefusesWithAHint) {
  for (const char* text :
       {"", "host", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x",
        "10.0.0.0/+8", "0.0.0.0/0", "fd00::/129", "fd00::/100", "*; Squash = None", "1.2.3.4\n"}) {
    EXPECT_EQ(ParseClientRule(text).error(), Errc::kInvalidArgument) << text;
  }
  EXPECT_NE(ParseClientRule("10.1.2.3/8").error().message().find("10.0.0.0/8"), std::string::npos);
}

TEST(Nearest, FindsTyposAndNothingElse) {
  constexpr std::array<std::string_view, 3> kWords = {"memory_mb", "cpus", "accel"};
  EXPECT_EQ(Nearest("memory", kWords), "memory_mb");
  EXPECT_EQ(Nearest("memory_bm", kWords), "memory_mb");
  EXPECT_EQ(Nearest("cpu", kWords), "cpus");
  EXPECT_EQ(Nearest("colour", kWords), std::nullopt);
}

}  // namespace
}  // namespace filer::configs
