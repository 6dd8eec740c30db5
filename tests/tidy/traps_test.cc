// The table of the engine's traps names tests: each must be there.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

#include "base/file.h"
#include "tests/tidy/source_tree.h"

namespace filer::tidy {
namespace {

constexpr const char* kTable = "tests/unit/fsal/engine/traps.md";

// What stands between backticks.
std::vector<std::string> QuotedIn(std::string_view text) {
  std::vector<std::string> quoted;
  for (auto open = text.find('`'); open != std::string_view::npos; open = text.find('`')) {
    text.remove_prefix(open + 1);
    const auto close = std::min(text.find('`'), text.size());
    quoted.emplace_back(text.substr(0, close));
    text.remove_prefix(std::min(close + 1, text.size()));
  }
  return quoted;
}

// "Suite.Name" -> "(Suite, Name)", as the macros have it; empty for other words.
std::string AsInMacro(const std::string& name) {
  const auto dot = name.find('.');
  if (dot == std::string::npos || dot == 0 || dot + 1 == name.size()) return {};
  if (std::any_of(name.begin(), name.end(), [](unsigned char letter) {
        return letter != '.' && std::isalnum(letter) == 0;
      })) {
    return {};
  }
  return fmt::format("({}, {})", name.substr(0, dot), name.substr(dot + 1));
}

TEST(Traps, EachTestThatIsNamedExists) {
  const auto text = ReadWholeFile(std::string(FILER_SOURCE_DIR "/") + kTable);
  ASSERT_TRUE(text.has_value());
  const auto files = ReadSourceTree(FILER_SOURCE_DIR);
  ASSERT_TRUE(files.has_value());
  int count = 0;
  for (const std::string& name : QuotedIn(text.value())) {
    const std::string macro = AsInMacro(name);
    if (macro.empty() || name == "Traps.EachTestThatIsNamedExists") continue;
    ++count;
    const bool is_there =
        std::any_of(files.value().begin(), files.value().end(), [&](const SourceFile& file) {
          return IsCode(file.path) && file.path.starts_with("tests/") &&
                 file.text.find(macro) != std::string::npos;
        });
    EXPECT_TRUE(is_there) << name;
  }
  EXPECT_GE(count, 15);
}

TEST(Traps, ANameThatIsNoTestIsSeen) {
  EXPECT_EQ(QuotedIn("a `B.C` and `d`"), (std::vector<std::string>{"B.C", "d"}));
  EXPECT_EQ(AsInMacro("Suite.Name"), "(Suite, Name)");
  EXPECT_EQ(AsInMacro("tests/sim"), "");
  EXPECT_EQ(AsInMacro("tidy_test"), "");
}

}  // namespace
}  // namespace filer::tidy
