#include "workloads/bench/options.h"

#include <gtest/gtest.h>

namespace filer::bench {
namespace {

Result<CommandLine> Parse(std::vector<std::string> words) {
  words.insert(words.begin(), "filer-bench");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  return ParseCommandLine(static_cast<int>(pointers.size()), pointers.data());
}

void ExpectUsage(const std::vector<std::string>& words, const std::string& part) {
  auto line = Parse(words);
  ASSERT_TRUE(line.has_error()) << part;
  EXPECT_TRUE(line.error() == Errc::kUsage);
  const std::string message = line.error().message();
  EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(ParseCommandLine, FullIsEveryCell) {
  auto line = Parse({"bridge"});
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line.value().bench.cells.size(), 24U);
  EXPECT_EQ(line.value().bench.subjects.size(), SubjectKinds().size());
  EXPECT_EQ(line.value().bench.backends.size(), 3U);
  EXPECT_GE(line.value().bench.repetitions, 5);
}

// Starting, attaching and writing volumes aside: 60% of four minutes.
TEST(ParseCommandLine, QuickFitsIntoFourMinutes) {
  auto line = Parse({"bridge", "--quick", "--json", "/tmp/out.json"});
  ASSERT_TRUE(line.has_value());
  const BenchOptions& bench = line.value().bench;
  EXPECT_LT(static_cast<double>(RunCount(bench)) * bench.seconds * 1.2, 144);
  EXPECT_EQ(line.value().json_path, "/tmp/out.json");
  EXPECT_GE(bench.repetitions, 5);
}

TEST(SubjectKinds, AreAskedOnlyWhatTheyCanDo) {
  const SubjectKind& fio = *FindSubjectKind(kFio);
  EXPECT_TRUE(fio.Takes(BackendKind::kFile));
  EXPECT_FALSE(fio.Takes(BackendKind::kMemory));
  EXPECT_TRUE(fio.Takes(Cell{Workload::kMixed, 131072, 128}));
  const SubjectKind& shared = *FindSubjectKind(kBridgeSharedCore);
  EXPECT_TRUE(shared.Takes(Cell{Workload::kRead, 4096, 32}));
  EXPECT_FALSE(shared.Takes(Cell{Workload::kWrite, 4096, 32}));
  EXPECT_EQ(FindSubjectKind("brigde"), nullptr);
}

TEST(RunCount, LeavesOutWhatSubjectsAreNotAsked) {
  BenchOptions bench;
  bench.subjects = {std::string(kDirect), std::string(kFio), std::string(kBridgeSharedCore)};
  bench.cells = {{Workload::kRead, 4096, 1}, {Workload::kWrite, 4096, 1}};
  bench.repetitions = 3;
  EXPECT_EQ(RunCount(bench), 3U * (2 * 3 + 2 + 1));
}

TEST(ParseCommandLine, SecondsAreANumberThatEnds) {
  for (const char* text : {"nan", "-nan", "NAN", "inf", "-inf", "1e400", "0", "61", "x"}) {
    ExpectUsage({"bridge", "--seconds", text}, "--seconds");
  }
  EXPECT_TRUE(Parse({"bridge", "--seconds", "60"}).has_value());
}

TEST(ParseCommandLine, NarrowsToWhatIsNamed) {
  auto line = Parse({"bridge", "--subject", "bridge", "--subject", "direct", "--backend", "null",
                     "--depth", "32", "--block", "4096", "--workload", "mixed"});
  ASSERT_TRUE(line.has_value());
  const BenchOptions& bench = line.value().bench;
  EXPECT_EQ(bench.subjects, (std::vector<std::string>{"bridge", "direct"}));
  EXPECT_EQ(bench.backends, std::vector<BackendKind>{BackendKind::kNull});
  EXPECT_EQ(bench.cells, (std::vector<Cell>{{Workload::kMixed, 4096, 32}}));
}

TEST(ParseCommandLine, BadWordsAreOneLine) {
  ExpectUsage({}, "filer bench bridge");
  ExpectUsage({"brigde"}, "brigde");
  ExpectUsage({"bridge", "--fast"}, "--fast");
  ExpectUsage({"bridge", "--seconds", "-1"}, "--seconds");
  ExpectUsage({"bridge", "--repetitions", "0"}, "--repetitions");
  ExpectUsage({"bridge", "--depth", "7"}, "--depth");
  ExpectUsage({"bridge", "--cores", "0"}, "--cores 0");
  ExpectUsage({"bridge", "--cores", "0,99999"}, "99999");
  ExpectUsage({"bridge", "--cores", "0,x"}, "--cores 0,x");
  ExpectUsage({"bridge", "--json", "/nowhere/out.json"}, "/nowhere/out.json");
  ExpectUsage({"bridge", "--html", "/tmp"}, "--html /tmp");
  ExpectUsage({"bridge", "--folder", "/nowhere"}, "/nowhere");
  ExpectUsage({"bridge", "--quick", "--workload", "mixed", "--depth", "1"}, "nothing to measure");
}

TEST(ParseCommandLine, HelpNamesTheOptions) {
  auto line = Parse({"bridge", "--help"});
  ASSERT_TRUE(line.has_value());
  EXPECT_TRUE(line.value().is_help);
  EXPECT_NE(line.value().help.find("--quick"), std::string::npos);
}

}  // namespace
}  // namespace filer::bench
