#include "fsal/engine-control/params.h"

#include <gtest/gtest.h>

namespace filer::control {
namespace {

const std::vector<ParamSpec>& Specs() {
  static const std::vector<ParamSpec> kSpecs = {RequiredText("name", 8), OptionalText("note", 3),
                                                OptionalCount("rate", 1, 100),
                                                OptionalFlag("force")};
  return kSpecs;
}

std::string Refused(const std::string& json) {
  const auto params = Params::Check("x.do", Specs(), Json::parse(json));
  if (params.has_value()) return "accepted";
  EXPECT_EQ(params.error(), Errc::kInvalidArgument);
  return params.error().message();
}

TEST(Params, ReadsWhatWasGivenAndFallbacks) {
  const auto given = Params::Check(
      "x.do", Specs(), Json{{"name", "a"}, {"note", "abc"}, {"rate", 100u}, {"force", true}});
  ASSERT_TRUE(given.has_value()) << given.error().message();
  EXPECT_EQ(given.value().Text("name"), "a");
  EXPECT_EQ(given.value().Text("note"), "abc");
  EXPECT_EQ(given.value().Count("rate"), 100u);
  EXPECT_TRUE(given.value().Flag("force"));
  const auto least = Params::Check("x.do", Specs(), Json{{"name", "12345678"}});
  ASSERT_TRUE(least.has_value());
  EXPECT_EQ(least.value().Text("note", "n"), "n");
  EXPECT_EQ(least.value().Count("rate", 7), 7u);
  EXPECT_FALSE(least.value().Flag("force"));
  EXPECT_FALSE(least.value().Has("force"));
}

TEST(Params, RefusesEverythingElseByName) {
  EXPECT_EQ(Refused("{}"), "x.do: parameter name is missing: a text of 1 to 8 bytes");
  EXPECT_EQ(Refused(R"({"name":""})"), "x.do: parameter name is not a text of 1 to 8 bytes");
  EXPECT_EQ(Refused(R"({"name":"123456789"})"),
            "x.do: parameter name is not a text of 1 to 8 bytes");
  for (const char* value : {"1", "null", "[]", "true", R"("a\u0000b")"}) {
    EXPECT_NE(Refused(std::string(R"({"name":)") + value + "}"), "accepted") << value;
  }
  for (const char* value : {"0", "101", "-1", "1.0", "1.5", "\"1\"", "null", "1e1",
                            "18446744073709551616", "[1]", "true"}) {
    EXPECT_EQ(Refused(std::string(R"({"name":"a","rate":)") + value + "}"),
              "x.do: parameter rate is not a number from 1 to 100")
        << value;
  }
  EXPECT_EQ(Refused(R"({"name":"a","force":1})"), "x.do: parameter force is not true or false");
  EXPECT_EQ(Refused(R"({"name":"a","forse":true})"),
            "x.do: parameter forse is unknown; there is name, note, rate, force");
}

}  // namespace
}  // namespace filer::control
