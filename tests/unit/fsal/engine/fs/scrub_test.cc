// The scrub finds what the device lost while clients go on, and nothing else.
#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "fsal/engine/filesets.h"
#include "tests/unit/fsal/engine/fs/damage_tools.h"
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

ScrubOptions Fast() {
  ScrubOptions options;
  options.bytes_per_second = 0;
  options.yields_to_clients = false;
  return options;
}

std::string ContentOf(int number, std::size_t bytes) {
  std::mt19937_64 random(static_cast<std::uint64_t>(number));
  std::string content(bytes, '\0');
  for (auto& byte : content) byte = static_cast<char>(random());
  return content;
}

std::string Text(const ScrubStatus& status) {
  CheckReport report;
  report.findings = status.findings;
  return FindingsText(report);
}

class ScrubTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    directory_ = fs().Directory(fs().root(), "dir");
    for (int at = 0; at < 2000; ++at) {
      const auto file = fs().Create(directory_, "file" + std::to_string(at));
      fs().Write(file, 0, ContentOf(at, kBlockBytes));
      if (at == 1000) file_ = file;
    }
    fs()->SetXattr(kRootCaller, file_, "user.long", ContentOf(1, 40'000),
                   Engine::XattrMode::kCreate)
        .value();
    fs().Remount();
  }
  ScrubStatus Await() {
    const auto deadline = steady_clock::now() + std::chrono::seconds(120);
    while (fs()->GetScrubStatus().is_running && steady_clock::now() < deadline) {
      std::this_thread::sleep_for(milliseconds(2));
    }
    EXPECT_FALSE(fs()->GetScrubStatus().is_running);
    return fs()->GetScrubStatus();
  }
  ScrubStatus Scrub(const ScrubOptions& options = Fast()) {
    EXPECT_TRUE(fs()->StartScrub(options).has_value());
    return Await();
  }
  // Creates, writes, overwrites, cuts and removes files until `stop`; not those of SetUp.
  void Work(int seed, const std::atomic<bool>& stop) {
    std::mt19937 random(static_cast<std::uint32_t>(seed));
    const NodeId place = fs().Directory(fs().root(), "work" + std::to_string(seed));
    while (!stop) {
      const std::string name = "n" + std::to_string(random() % 20);
      auto found = fs()->Lookup(place, name);
      if (!found.has_value()) {
        static_cast<void>(fs().TryCreate(place, name).has_value());
        continue;
      }
      const NodeId id = found.value().id;
      AttributeChange cut;
      cut.size_bytes = random() % 20'000;
      switch (random() % 6) {
        case 0:
          static_cast<void>(fs()->Remove(kRootCaller, place, name, RemoveKind::kAny).has_value());
          break;
        case 1:
          static_cast<void>(fs()->SetAttributes(kRootCaller, id, cut).has_value());
          break;
        case 2:
          static_cast<void>(fs()->SetXattr(kRootCaller, id, "user.x",
                                           ContentOf(seed, 1 + random() % 30'000),
                                           Engine::XattrMode::kCreateOrReplace)
                                .has_value());
          break;
        default:
          static_cast<void>(
              fs().TryWrite(id, random() % 30'000, ContentOf(seed, 1 + random() % 30'000),
                            random() % 2 == 0 ? Stability::kFileSync : Stability::kUnstable)
                  .has_value());
      }
    }
  }
  NodeId directory_, file_;
};

TEST_F(ScrubTest, ReadsAllAndFindsNothingOnASoundVolume) {
  const auto status = Scrub();
  EXPECT_EQ(Text(status), "");
  EXPECT_EQ(status.passes, 1U);
  EXPECT_EQ(status.bytes_verified, 2000 * kBlockBytes);
  EXPECT_GT(status.nodes_verified, 20U);
  EXPECT_EQ(status.failure, "");
  EXPECT_GE(status.finished_ns, status.started_ns);
  EXPECT_GT(status.started_ns, 0);
}

TEST_F(ScrubTest, FindsAFlippedBitInDataThatTheCacheStillHas) {
  EXPECT_EQ(fs().Read(file_, 0, kBlockBytes), ContentOf(1000, kBlockBytes));
  const auto block = BlockWith(*device_, ContentOf(1000, kBlockBytes));
  FlipBit(*device_, block);
  EXPECT_EQ(fs().Read(file_, 0, kBlockBytes), ContentOf(1000, kBlockBytes)) << "from memory";
  std::atomic<bool> stop{false};
  std::thread writer([&] { Work(1, stop); });
  auto status = Scrub();
  stop = true;
  writer.join();
  ASSERT_EQ(status.findings.size(), 1U) << Text(status);
  EXPECT_EQ(status.findings[0].path, "/dir/file1000");
  EXPECT_EQ(status.findings[0].where, "block " + std::to_string(block));
  EXPECT_NE(status.findings[0].what.find("file block 0"), std::string::npos);

  // It is kept over a mount, and goes when a pass does not see it any more.
  fs().Unmount();
  fs().Mount();
  EXPECT_EQ(fs()->GetScrubStatus().findings.size(), 1U);
  FlipBit(*device_, block);
  status = Scrub();
  EXPECT_EQ(Text(status), "");
  EXPECT_EQ(status.passes, 2U);
  fs().Remount();
  EXPECT_EQ(Text(fs()->GetScrubStatus()), "");
}

TEST_F(ScrubTest, FindsAFlippedBitInANodeThatTheCacheStillHas) {
  const auto nodes = NodesTo(*device_, ExtentKey(file_.inode, 0));
  ASSERT_GE(nodes.size(), 2U);
  EXPECT_EQ(fs().Read(file_, 0, kBlockBytes), ContentOf(1000, kBlockBytes));
  FlipBit(*device_, nodes.back());
  std::atomic<bool> stop{false};
  std::thread writer([&] { Work(2, stop); });
  const auto status = Scrub();
  stop = true;
  writer.join();
  ASSERT_EQ(status.findings.size(), 1U) << Text(status);
  EXPECT_EQ(status.findings[0].where, "block " + std::to_string(nodes.back()));
  EXPECT_EQ(status.findings[0].path.substr(0, 9), "/dir/file") << Text(status);
  FlipBit(*device_, nodes.back());
}

// The extents behind a node that cannot be read are verified all the same.
TEST_F(ScrubTest, GoesOnBehindANodeThatCannotBeRead) {
  const auto nodes = NodesTo(*device_, ExtentKey(file_.inode, 0));
  fs().Unmount();
  const auto last = BlockWith(*device_, ContentOf(1999, kBlockBytes));
  FlipBit(*device_, nodes.back());
  FlipBit(*device_, last);
  fs().Mount();
  const auto status = Scrub();
  EXPECT_EQ(status.findings.size(), 2U) << Text(status);
  EXPECT_NE(Text(status).find("/dir/file1999"), std::string::npos) << Text(status);
  EXPECT_EQ(status.failure, "");
  FlipBit(*device_, nodes.back());
  FlipBit(*device_, last);
}

TEST_F(ScrubTest, FindsAPieceOfALongValue) {
  const std::string value = ContentOf(1, 40'000);
  std::uint64_t piece = 0;
  device_->CurrentImage().EachBlock([&](std::uint64_t block, std::span<const std::byte> bytes) {
    if (std::memcmp(bytes.data() + sizeof(NodeHeader), value.data(), 3000) == 0) piece = block;
  });
  ASSERT_NE(piece, 0U);
  FlipBit(*device_, piece);
  const auto status = Scrub();
  ASSERT_EQ(status.findings.size(), 1U) << Text(status);
  EXPECT_EQ(status.findings[0].path, "/dir/file1000");
  FlipBit(*device_, piece);
}

TEST_F(ScrubTest, ReportsNothingUnderARandomWorkload) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (int seed = 1; seed <= 4; ++seed) {
    workers.emplace_back([this, seed, &stop] { Work(seed, stop); });
  }
  const bool is_long = std::getenv("FILER_LONG") != nullptr;
  const auto end = steady_clock::now() + milliseconds(is_long ? 120'000 : 3000);
  std::uint64_t passes = 0;
  for (; passes < 3 || steady_clock::now() < end; ++passes) {
    const auto status = Scrub();
    ASSERT_EQ(Text(status), "");
    ASSERT_EQ(status.failure, "");
    ASSERT_EQ(status.passes, passes + 1);
  }
  stop = true;
  for (auto& worker : workers) worker.join();
}

TEST_F(ScrubTest, GoesOnWhereAnUnmountStoppedIt) {
  auto slow = Fast();
  slow.bytes_per_second = 4 << 20;
  ASSERT_TRUE(fs()->StartScrub(slow).has_value());
  EXPECT_TRUE(fs()->StartScrub(slow).error() == Errc::kBusy);
  const auto deadline = steady_clock::now() + std::chrono::seconds(60);
  while (fs()->GetScrubStatus().nodes_verified < 20 && steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  const auto before = steady_clock::now();
  fs().Unmount();
  EXPECT_LT(steady_clock::now() - before, std::chrono::seconds(2));
  fs().Mount();
  auto status = fs()->GetScrubStatus();
  EXPECT_TRUE(status.is_running);
  EXPECT_GE(status.nodes_verified, 20U);
  ASSERT_TRUE(fs()->StopScrub().has_value());
  EXPECT_TRUE(fs()->StopScrub().error() == Errc::kNotRunning);
  fs().Remount();
  EXPECT_FALSE(fs()->GetScrubStatus().is_running) << "stopped by a person: stays so";
  status = Scrub();
  EXPECT_EQ(status.passes, 1U);
  EXPECT_EQ(status.bytes_verified, 2000 * kBlockBytes) << "none twice, none left out";
}

TEST_F(ScrubTest, StopsWithinATenthOfASecond) {
  auto slow = Fast();
  slow.bytes_per_second = 1 << 20;  // it sleeps most of the time
  ASSERT_TRUE(fs()->StartScrub(slow).has_value());
  std::this_thread::sleep_for(milliseconds(50));
  const auto before = steady_clock::now();
  ASSERT_TRUE(fs()->StopScrub().has_value());
  // Twice the bound, for a machine that is busy with other things.
  EXPECT_LT(steady_clock::now() - before, milliseconds(200));
}

TEST_F(ScrubTest, KeepsBelowItsBound) {
  auto bounded = Fast();
  bounded.bytes_per_second = 16 << 20;
  const auto before = steady_clock::now();
  const auto status = Scrub(bounded);
  const double seconds = std::chrono::duration<double>(steady_clock::now() - before).count();
  // All but the last step's pause.
  const double bytes = static_cast<double>(status.bytes_verified) - (1 << 20);
  EXPECT_GE(seconds, bytes / static_cast<double>(bounded.bytes_per_second));
}

TEST_F(ScrubTest, FindsWhatASnapshotAloneStillHas) {
  ASSERT_TRUE(fs()->AllFilesets().MakeSnapshot(kRootFileset, "before").has_value());
  const auto block = BlockWith(*device_, ContentOf(1000, kBlockBytes));
  fs().Write(file_, 0, std::string(kBlockBytes, 'n'), Stability::kFileSync);
  FlipBit(*device_, block);
  const auto status = Scrub();
  ASSERT_EQ(status.findings.size(), 1U) << Text(status);
  EXPECT_EQ(status.findings[0].where, "block " + std::to_string(block));
  EXPECT_EQ(status.findings[0].what.substr(0, 17), "snapshot before: ");
  EXPECT_LE(status.bytes_verified, 2001 * kBlockBytes) << "what is shared is read once";
  FlipBit(*device_, block);
}

TEST_F(ScrubTest, ADamagedCursorBeginsAgain) {
  Scrub();
  fs().Unmount();
  {
    const auto store = Store::Open(*device_, SystemClock(), false).value();
    Transaction transaction;
    transaction.Put(CounterKey("scrub_cursor"), "nonsense");
    transaction.Put(CounterKey("scrub_finding/0000"), "nonsense");
    ASSERT_TRUE(store->Sync(store->Commit(std::move(transaction)).value()).has_value());
    ASSERT_TRUE(store->Close().has_value());
  }
  fs().Mount();
  EXPECT_EQ(Text(Scrub()), "");
}

TEST_F(ScrubTest, AReadOnlyVolumeIsScrubbedAndLeftAlone) {
  fs().Unmount();
  const auto before = device_->CurrentImage();
  fs().mount_options.read_only = true;
  fs().Mount();
  EXPECT_EQ(Scrub().bytes_verified, 2000 * kBlockBytes);
  fs().Unmount();
  EXPECT_TRUE(device_->CurrentImage().SameContents(before));
  fs().mount_options.read_only = false;
  fs().Mount();
}

}  // namespace
}  // namespace filer::engine
