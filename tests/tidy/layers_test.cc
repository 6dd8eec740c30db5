// The source tree against the rules of ARCHITECTURE.md and STYLE, and the rules against planted
// violations: a check that cannot fail is none.
#include "tests/tidy/layers.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"

namespace filer::tidy {
namespace {

constexpr int kLineCountMax = 600;

constexpr std::string_view kTable =
    "# Title\n## Layers\nWords.\n\n"
    "| level | folder | may also include |\n|---|---|---|\n"
    "| 0 | base | |\n| 1 | middle | |\n| 1 | `middle/inner` | |\n| 2 | left | right |\n| 2 | right "
    "| |\n"
    "\n## Folders\n| folder | what |\n|---|---|\n| x | y |\n";

SourceFile File(std::string path, std::string text) {
  SourceFile file{std::move(path), std::move(text), 0, {}};
  file.line_count = static_cast<int>(std::count(file.text.begin(), file.text.end(), '\n'));
  if (IsCode(file.path)) file.includes = ParseIncludes(file.text);
  return file;
}

std::vector<Finding> CheckFixture(std::vector<SourceFile> files) {
  const auto layers = ParseLayerTable(kTable);
  EXPECT_TRUE(layers.has_value());
  return CheckLayers(layers.value(), files);
}

std::vector<SourceFile> RealTree() {
  auto files = ReadSourceTree(FILER_SOURCE_DIR);
  EXPECT_TRUE(files.has_value());
  if (!files.has_value()) return {};
  EXPECT_GT(files.value().size(), 50u);
  return std::move(files).value();
}

TEST(ParseIncludes, SeesEveryFormOfTheDirective) {
  const auto includes = ParseIncludes(
      "#include \"a/b.h\"\n  #  include <c.h>\n// #include \"d.h\"\nint x;\n#include \"e.h");
  ASSERT_EQ(includes.size(), 2u);
  EXPECT_EQ(includes[0].path, "a/b.h");
  EXPECT_TRUE(includes[0].is_quoted);
  EXPECT_EQ(includes[1].path, "c.h");
  EXPECT_FALSE(includes[1].is_quoted);
  EXPECT_EQ(includes[1].line, 2);
}

TEST(ParseLayerTable, ReadsOnlyTheTableUnderItsHeading) {
  const auto layers = ParseLayerTable(kTable);
  ASSERT_TRUE(layers.has_value());
  ASSERT_EQ(layers.value().size(), 5u);
  EXPECT_EQ(layers.value()[2].folder, "middle/inner");
  EXPECT_EQ(layers.value()[3].also, std::vector<std::string>{"right"});
}

TEST(ParseLayerTable, RefusesARowWithoutLevel) {
  EXPECT_FALSE(
      ParseLayerTable("## Layers\n| a | b | c |\n|---|---|---|\n| | base | |\n").has_value());
}

TEST(ParseLayerTable, RefusesADocumentWithoutTableAndBrokenRows) {
  EXPECT_FALSE(ParseLayerTable("# Title\n").has_value());
  EXPECT_FALSE(
      ParseLayerTable("## Layers\n| a | b | c |\n|---|---|---|\n| one | base | |\n").has_value());
  EXPECT_FALSE(
      ParseLayerTable("## Layers\n| a | b | c |\n|---|---|---|\n| 1 | base |\n").has_value());
  EXPECT_FALSE(
      ParseLayerTable("## Layers\n| a | b | c |\n|---|---|---|\n| 1 | base | |\n| 2 | base | |\n")
          .has_value());
}

TEST(CheckLayers, AcceptsLowerOwnAndListedFolders) {
  const auto findings = CheckFixture(
      {File("base/a.h", ""), File("middle/b.h", "#include \"base/a.h\"\n#include <vector>\n"),
       File("middle/c.cc", "#include \"middle/b.h\"\n"), File("right/r.h", ""),
       File("left/l.cc", "#include \"right/r.h\"\n#include \"middle/b.h\"\n")});
  EXPECT_TRUE(findings.empty()) << Describe(findings);
}

TEST(CheckLayers, FindsALowerFolderThatIncludesAHigherOne) {
  const auto findings = CheckFixture(
      {File("base/a.cc", "// first\n#include \"middle/b.h\"\n"), File("middle/b.h", "")});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].file, "base/a.cc");
  EXPECT_EQ(findings[0].line, 2);
}

TEST(CheckLayers, FindsItAlsoInAngleBrackets) {
  EXPECT_EQ(
      CheckFixture({File("base/a.cc", "#include <middle/b.h>\n"), File("middle/b.h", "")}).size(),
      1u);
}

TEST(CheckLayers, FindsSiblingsThatAreNotListed) {
  EXPECT_EQ(
      CheckFixture({File("right/r.cc", "#include \"left/l.h\"\n"), File("left/l.h", "")}).size(),
      1u);
  EXPECT_EQ(CheckFixture({File("middle/b.cc", "#include \"middle/inner/i.h\"\n"),
                          File("middle/inner/i.h", "")})
                .size(),
            1u);
}

TEST(CheckLayers, FindsPathsThatDoNotStartAtTheRootAndFoldersWithoutALayer) {
  EXPECT_EQ(
      CheckFixture({File("middle/b.cc", "#include \"b.h\"\n"), File("middle/b.h", "")}).size(), 1u);
  EXPECT_EQ(CheckFixture({File("elsewhere/e.cc", "")}).size(), 1u);
  EXPECT_EQ(
      CheckFixture({File("left/l.cc", "#include \"elsewhere/e.h\"\n"), File("elsewhere/e.h", "")})
          .size(),
      2u);
}

TEST(CheckWrapperHeaders, AllowsOneHeaderPerFamilyAndCFilesOfThePlugIn) {
  const auto findings = CheckWrapperHeaders(
      {File("host-bridge/initiator/dpdk.h", "#include <rte_eal.h>\n#include <rte_malloc.h>\n"),
       File("fsal/posix-door/fuse_headers.h", "#include <fuse_lowlevel.h>\n"),
       File("fsal/ganesha/ganesha_headers.h", "#include \"fsal.h\"\n"),
       File("fsal/ganesha/table.c", "#include \"gsh_config.h\"\n")});
  EXPECT_TRUE(findings.empty()) << Describe(findings);
}

TEST(CheckWrapperHeaders, FindsASecondHeaderAndASourceFile) {
  EXPECT_EQ(CheckWrapperHeaders({File("host-bridge/initiator/dpdk.h", "#include <rte_eal.h>\n"),
                                 File("host-bridge/initiator/eal.h", "#include <rte_errno.h>\n")})
                .size(),
            1u);
  EXPECT_EQ(
      CheckWrapperHeaders({File("fsal/posix-door/door.cc", "#include <fuse_lowlevel.h>\n")}).size(),
      1u);
  EXPECT_EQ(CheckWrapperHeaders({File("fsal/ganesha/object.cc", "#include \"fsal.h\"\n")}).size(),
            1u);
}

TEST(CheckRegistryHosts, FindsAHostInAnyFile) {
  const std::string host = std::string("deb.") + "debian.org";
  const auto findings =
      CheckRegistryHosts({File("notes.md", "first\nhttp://" + host + "/debian\n")});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].line, 2);
  EXPECT_TRUE(CheckRegistryHosts({File("notes.md", "Debian's archive\n")}).empty());
}

TEST(LongFiles, FindsOnlyWhatIsLonger) {
  EXPECT_TRUE(LongFiles({File("base/a.cc", std::string(3, '\n'))}, 3).empty());
  EXPECT_EQ(LongFiles({File("base/a.cc", std::string(4, '\n'))}, 3).size(), 1u);
}

TEST(ReadSourceTree, LeavesBuildFoldersOutButKeepsScriptsOfThatName) {
  std::string folder = (std::filesystem::temp_directory_path() / "filer-tidy-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  for (const char* path : {"build-asan/x.cc", "base/a.cc", "tool/build", ".git/config"}) {
    std::filesystem::create_directories((folder / std::filesystem::path(path)).parent_path());
    ASSERT_TRUE(WriteFileAtomically(folder + "/" + path, "text\n").has_value());
  }
  const auto files = ReadSourceTree(folder);
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(files.has_value());
  ASSERT_EQ(files.value().size(), 2u);
  EXPECT_EQ(files.value()[0].path, "base/a.cc");
  EXPECT_EQ(files.value()[1].path, "tool/build");
}

TEST(Tree, IncludesFollowTheLayerTable) {
  const auto document = ReadWholeFile(FILER_SOURCE_DIR "/ARCHITECTURE.md");
  ASSERT_TRUE(document.has_value());
  const auto layers = ParseLayerTable(document.value());
  ASSERT_TRUE(layers.has_value()) << layers.error().message();
  const auto findings = CheckLayers(layers.value(), RealTree());
  EXPECT_TRUE(findings.empty()) << Describe(findings);
}

TEST(Tree, ForeignHeadersEnterThroughOneWrapperEach) {
  const auto findings = CheckWrapperHeaders(RealTree());
  EXPECT_TRUE(findings.empty()) << Describe(findings);
}

TEST(Tree, NamesNoRegistryHost) {
  const auto findings = CheckRegistryHosts(RealTree());
  EXPECT_TRUE(findings.empty()) << Describe(findings);
}

// A warning, not a failure: the second idea is sometimes worse than a long file.
TEST(Tree, ListsLongFiles) {
  const auto findings = LongFiles(RealTree(), kLineCountMax);
  if (!findings.empty()) fmt::print("warning:\n{}", Describe(findings));
}

}  // namespace
}  // namespace filer::tidy
