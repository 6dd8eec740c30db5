// The table of threats names tests: each must be there.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <string_view>

#include "base/file.h"

namespace filer::bridge {
namespace {

// Suite.Name, as tests are named.
bool LooksLikeATest(std::string_view text) {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos) return false;
  const auto is_camel_case = [](std::string_view word) {
    return !word.empty() && std::isupper(static_cast<unsigned char>(word[0])) != 0 &&
           std::all_of(word.begin(), word.end(),
                       [](unsigned char letter) { return std::isalpha(letter) != 0; });
  };
  return is_camel_case(text.substr(0, dot)) && is_camel_case(text.substr(dot + 1));
}

TEST(Threats, EachTestThatIsNamedExists) {
  std::set<std::string> tests;
  const auto& all = *testing::UnitTest::GetInstance();
  for (int suite = 0; suite < all.total_test_suite_count(); ++suite) {
    const auto& cases = *all.GetTestSuite(suite);
    for (int i = 0; i < cases.total_test_count(); ++i) {
      // Of a parameterised one ("Rings/Suite.Name/Split") the part in the middle.
      const std::string_view suite_name = cases.name(), name = cases.GetTestInfo(i)->name();
      tests.insert(fmt::format("{}.{}", suite_name.substr(suite_name.rfind('/') + 1),
                               name.substr(0, name.find('/'))));
    }
  }
  const auto text = ReadWholeFile(FILER_SOURCE_DIR "/tests/unit/host-bridge/threats.md");
  ASSERT_TRUE(text.has_value());
  // By hand: under the sanitizers GCC 12 finds fault with its own <regex>.
  int count = 0;
  std::string_view left = text.value();
  for (std::size_t open = left.find('`'); open != std::string_view::npos; open = left.find('`')) {
    left.remove_prefix(open + 1);
    const std::size_t close = left.find('`');
    ASSERT_NE(close, std::string_view::npos) << "a backtick without its partner";
    const std::string name(left.substr(0, close));
    left.remove_prefix(close + 1);
    if (!LooksLikeATest(name)) continue;
    EXPECT_TRUE(tests.contains(name)) << name;
    ++count;
  }
  EXPECT_GT(count, 70);
}

}  // namespace
}  // namespace filer::bridge
