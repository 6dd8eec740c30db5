// The table of threats names tests: each must be there.
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>

#include "base/file.h"

namespace filer::bridge {
namespace {

TEST(Threats, EachTestThatIsNamedExists) {
  std::set<std::string> tests;
  const auto& all = *testing::UnitTest::GetInstance();
  for (int suite = 0; suite < all.total_test_suite_count(); ++suite) {
    const auto& cases = *all.GetTestSuite(suite);
    for (int i = 0; i < cases.total_test_count(); ++i) {
      tests.insert(std::string(cases.name()) + "." + cases.GetTestInfo(i)->name());
    }
  }
  const auto text = ReadWholeFile(FILER_SOURCE_DIR "/tests/unit/host-bridge/threats.md");
  ASSERT_TRUE(text.has_value());
  const std::regex name("`([A-Z][A-Za-z]*\\.[A-Z][A-Za-z]*)`");
  int count = 0;
  for (std::sregex_iterator at(text.value().begin(), text.value().end(), name), end; at != end;
       ++at, ++count) {
    EXPECT_TRUE(tests.contains((*at)[1])) << (*at)[1];
  }
  EXPECT_GT(count, 70);
}

}  // namespace
}  // namespace filer::bridge
