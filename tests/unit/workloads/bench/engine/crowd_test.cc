#include "workloads/bench/engine/crowd.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <set>

#include "workloads/bench/engine/backend_device.h"
#include "workloads/bench/engine/engine_files.h"
#include "workloads/bench/engine/kernel_files.h"
#include "workloads/bench/processor.h"

namespace filer::bench {
namespace {

constexpr FixtureSizes kSizes = {.names = 100, .data_bytes = 16ULL << 20};

Result<std::unique_ptr<engine::BlockDevice>> MakeDevice() {
  return MakeBackendDevice(FILER_TRY(bridge::OpenMemoryBackend(256 << 20)), 64 << 20);
}

CrowdSpec SpecOf(FileCell cell) {
  CrowdSpec spec;
  spec.cell = cell;
  spec.seconds = 0.01;
  spec.cores = AllowedCores();
  spec.serial = 1;
  return spec;
}

// Everything that is asked of every file system, on one: it is done, counted, and leaves nothing.
void RunAll(FileSystem& files) {
  std::vector<FileCell> cells = FullFileCells();
  std::erase_if(cells, [](const FileCell& cell) { return cell.threads != 2; });
  ASSERT_EQ(cells.size(), FileWorkloadNames().size());
  auto fixture = Fixture::Make(files, cells, kSizes);
  ASSERT_TRUE(fixture.has_value()) << fixture.error().message();
  EXPECT_EQ(files.ReadDirectory(fixture.value().names).value(), kSizes.names);
  for (const FileCell& cell : cells) {
    auto crowd = RunCrowd(files, fixture.value(), SpecOf(cell));
    ASSERT_TRUE(crowd.has_value()) << FileCellName(cell) << ": " << crowd.error().message();
    const CrowdResult& result = crowd.value();
    EXPECT_GT(result.operations, 0U) << FileCellName(cell);
    EXPECT_EQ(result.latency_ticks.Count(), result.operations);
    EXPECT_GT(result.seconds, 0);
    if (const std::uint64_t payload = PayloadBytes(cell.workload); payload > 0) {
      EXPECT_EQ(result.bytes, payload * result.operations) << FileCellName(cell);
    }
    if (cell.workload == FileWorkload::kReaddir) {
      EXPECT_EQ(result.entries, kSizes.names * result.operations);
    }
  }
  fixture.value().Close(files);
}

TEST(Crowd, DoesEverythingOnOurs) {
  auto device = MakeDevice();
  ASSERT_TRUE(device.has_value());
  auto files = EngineFiles::Make(*device.value());
  ASSERT_TRUE(files.has_value()) << files.error().message();
  RunAll(*files.value());
  // The root, and the directories and the file of the fixture.
  EXPECT_EQ(files.value()->Counters().inodes, 1U + 3 + kSizes.names);
  ASSERT_TRUE(files.value()->Unmount().has_value());
  auto report = engine::Engine::Check(*device.value(), true);
  ASSERT_TRUE(report.has_value());
  EXPECT_TRUE(report.value().findings.empty());
}

TEST(Crowd, DoesEverythingOnTheKernels) {
  std::string folder = "/var/tmp/crowd-test-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  {
    auto files = OpenKernelFiles(folder);
    ASSERT_TRUE(files.has_value());
    RunAll(*files.value());
  }
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    left.insert(entry.path().filename());
  }
  EXPECT_EQ(left, (std::set<std::string>{"data", "names"}));
  std::filesystem::remove_all(folder);
}

// Says no to the first operation of every caller.
TEST(Crowd, FailureOfACallerEndsAll) {
  auto device = MakeDevice();
  ASSERT_TRUE(device.has_value());
  auto files = EngineFiles::Make(*device.value());
  ASSERT_TRUE(files.has_value());
  Fixture nothing;  // names that were never made
  nothing.sizes = {.names = 1, .data_bytes = 4096};
  nothing.names = engine::kRootInode;
  nothing.name_list = {"missing"};
  auto crowd = RunCrowd(*files.value(), nothing, SpecOf({FileWorkload::kStat, 8}));
  ASSERT_TRUE(crowd.has_error());
  EXPECT_TRUE(crowd.error() == Errc::kNotFound);
}

TEST(EngineFiles, WhatWasDurableSurvivesAKill) {
  auto device = MakeDevice();
  ASSERT_TRUE(device.has_value());
  auto files = EngineFiles::Make(*device.value());
  ASSERT_TRUE(files.has_value());
  auto directory = files.value()->MakeDirectory("d");
  ASSERT_TRUE(directory.has_value());
  const std::vector<std::byte> content(4096, std::byte{7});
  ASSERT_TRUE(files.value()->CreateDurable(directory.value(), "f", content).has_value());
  ASSERT_TRUE(files.value()->RemountKilled(EngineFiles::DefaultOptions()).has_value());
  EXPECT_TRUE(files.value()->Stat(directory.value(), "f").has_value());
  EXPECT_GT(files.value()->Counters().recovered_groups, 0U);
}

}  // namespace
}  // namespace filer::bench
