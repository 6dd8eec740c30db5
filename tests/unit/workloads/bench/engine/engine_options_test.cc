#include "workloads/bench/engine/engine_options.h"

#include <gtest/gtest.h>

namespace filer::bench {
namespace {

Result<EngineCommandLine> Parse(std::vector<std::string> words) {
  words.insert(words.begin(), {"filer-bench", "engine"});
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  return ParseEngineCommandLine(static_cast<int>(pointers.size()), pointers.data());
}

void ExpectUsage(const std::vector<std::string>& words, const std::string& part) {
  auto line = Parse(words);
  ASSERT_TRUE(line.has_error()) << part;
  EXPECT_TRUE(line.error() == Errc::kUsage);
  const std::string message = line.error().message();
  EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(ParseEngineCommandLine, FullIsEveryWorkloadAtEveryNumberOfCallers) {
  auto line = Parse({});
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line.value().bench.cells.size(), 44U);
  EXPECT_EQ(line.value().bench.subjects, FileSubjectNames());
  EXPECT_EQ(line.value().bench.backends.size(), 2U);
  EXPECT_GE(line.value().bench.repetitions, 5);
  EXPECT_TRUE(line.value().bench.wants_checkpoints && line.value().bench.wants_inodes);
}

// Making files and removing them takes as long again; volumes and probes aside.
TEST(ParseEngineCommandLine, QuickFitsIntoFourMinutes) {
  auto line = Parse({"--quick", "--json", "/tmp/out.json"});
  ASSERT_TRUE(line.has_value());
  const EngineBenchOptions& bench = line.value().bench;
  EXPECT_LT(static_cast<double>(RunCount(bench)) * bench.seconds * 2.4, 144);
  EXPECT_EQ(line.value().json_path, "/tmp/out.json");
  EXPECT_GE(bench.repetitions, 5);
}

TEST(ParseEngineCommandLine, NarrowsToWhatIsAskedFor) {
  auto line = Parse({"--subject", "xfs", "--backend", "file", "--workload", "create", "--workload",
                     "mixed", "--threads", "8"});
  ASSERT_TRUE(line.has_value());
  const EngineBenchOptions& bench = line.value().bench;
  EXPECT_EQ(bench.subjects, std::vector<std::string>{"xfs"});
  EXPECT_EQ(bench.backends, std::vector<BackendKind>{BackendKind::kFile});
  EXPECT_EQ(bench.cells,
            (std::vector<FileCell>{{FileWorkload::kCreate, 8}, {FileWorkload::kMixed, 8}}));
  EXPECT_FALSE(bench.wants_checkpoints || bench.wants_inodes);
  EXPECT_EQ(RunCount(bench), 2U * static_cast<std::size_t>(bench.repetitions));
}

TEST(ParseEngineCommandLine, ProbesAloneAreSomething) {
  auto line = Parse({"--workload", "inodes"});
  ASSERT_TRUE(line.has_value());
  EXPECT_TRUE(line.value().bench.cells.empty());
  EXPECT_TRUE(line.value().bench.wants_inodes);
  EXPECT_FALSE(line.value().bench.wants_checkpoints);
}

TEST(ParseEngineCommandLine, RefusesWithOneLine) {
  ExpectUsage({"--subject", "zfs"}, "zfs");
  ExpectUsage({"--backend", "null"}, "null");
  ExpectUsage({"--workload", "snapshot"}, "snapshot");
  ExpectUsage({"--threads", "3"}, "--threads");
  ExpectUsage({"--seconds", "0"}, "--seconds");
  ExpectUsage({"--repetitions", "0"}, "--repetitions");
  ExpectUsage({"--json", "/nowhere/x"}, "/nowhere/x");
  ExpectUsage({"--folder", "/nowhere"}, "/nowhere");
  ExpectUsage({"--quick", "--workload", "lookup", "--threads", "32"}, "nothing to measure");
  ExpectUsage({"--subject", "backend", "--workload", "create"}, "nothing to measure");
  ExpectUsage({"--subject", "xfs", "--workload", "inodes"}, "nothing to measure");
}

}  // namespace
}  // namespace filer::bench
