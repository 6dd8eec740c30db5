// Traps into which engines of this kind have fallen (ENGINE, section 5), as far as they are the
// file system's; those of the core are tested beside it.
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

using Traps = EngineTest;

// Extents smaller than a block: two files would share one, and each write of the one would have to
// keep the other's bytes.
TEST_F(Traps, NoTwoFilesShareABlockHoweverSmallTheyAre) {
  std::vector<NodeId> files;
  for (int at = 0; at < 50; ++at) {
    files.push_back(fs().Create(fs().root(), "f" + std::to_string(at)));
    fs().Write(files.back(), 0, std::string(1 + at * 3, 'a'), Stability::kFileSync);
    fs().Write(files.back(), 4095, "bc", Stability::kFileSync);  // across a block's end
  }
  for (const NodeId file : files) {
    EXPECT_EQ(fs()->GetAttributes(file).value().used_bytes, 2 * 4096U);
  }
  fs().Unmount();
  {
    const auto store = Store::Open(*device_, SystemClock(), true).value();
    const auto geometry = store->Geometry();
    std::set<std::uint64_t> blocks;
    std::size_t count = 0;
    const auto scanned = store->Scan("E", "F", [&](std::string_view key, std::string_view value) {
      const auto extent = DecodeExtent(key, value).value();
      EXPECT_GE(extent.physical, geometry.data_first_block);
      for (std::uint64_t at = 0; at < extent.length; ++at) {
        blocks.insert(extent.physical + at);
        ++count;
      }
      return true;
    });
    ASSERT_TRUE(scanned.has_value());
    EXPECT_EQ(count, 2 * files.size());
    EXPECT_EQ(blocks.size(), count);
  }
  fs().Mount();
}

// A reader that goes round the cache of blocks: what is written and not yet stored must be seen,
// also beside blocks that come from the volume.
TEST_F(Traps, AReadSeesUnstableBlocksBetweenStoredOnes) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, std::string(64 * 4096, 's'), Stability::kFileSync);
  fs().Remount();  // nothing is cached
  fs().Write(file, 10 * 4096, std::string(4096, 'u'));
  fs().Write(file, 30 * 4096 + 7, "u");
  std::string expected(64 * 4096, 's');
  expected.replace(10 * 4096, 4096, 4096, 'u');
  expected[30 * 4096 + 7] = 'u';
  EXPECT_TRUE(fs().Read(file, 0, expected.size()) == expected);
}

// A cache pool full of pinned buffers: readers hold on to what they got. Whoever needs no such
// buffer goes on; who does waits, and gets one when they let go.
TEST_F(Traps, PinnedBuffersStopNeitherNamesNorSmallCommits) {
  constexpr std::size_t kPart = 1 << 20;
  const NodeId file = fs().Create(fs().root(), "big");
  for (std::size_t at = 0; at < 40; ++at) {
    fs().Write(file, at * kPart, std::string(kPart, static_cast<char>('a' + at % 26)));
  }
  fs().Remount();
  const BufferPool& pool = device_->Pool();
  std::vector<ReadResult> held;
  while (pool.free_bytes() > pool.size_bytes() / 8 + 2 * kPart) {
    ASSERT_LT(held.size(), 33U);
    held.push_back(fs()->Read(file, held.size() * kPart, kPart).value());
  }
  const NodeId small = fs().Create(fs().root(), "small");
  fs().Write(small, 0, "stable", Stability::kFileSync);
  EXPECT_EQ(fs().Read(small, 0, 10), "stable");
  std::thread waiting([&] {
    std::vector<ReadResult> more;
    for (std::size_t at = 33; at < 39; ++at) {
      auto read = fs()->Read(file, at * kPart, kPart);
      ASSERT_TRUE(read.has_value()) << at;
      more.push_back(std::move(read).value());
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_TRUE(fs()->Lookup(fs().root(), "small").has_value());
  held.clear();
  waiting.join();
}

// Recursion in READDIR: who is told of an entry may ask and change the engine, also this directory.
TEST_F(Traps, AVisitorOfADirectoryMayListItAndRemoveFromIt) {
  constexpr int kEntries = 400;
  const NodeId directory = fs().Directory(fs().root(), "dir");
  for (int at = 0; at < kEntries; ++at) fs().Create(directory, "f" + std::to_string(at));
  int seen = 0;
  const auto read = fs()->ReadDirectory(directory, 0, [&](const DirectoryEntry& entry) {
    ++seen;
    if (seen % 100 == 1) {
      EXPECT_EQ(fs().List(directory).size(), static_cast<std::size_t>(kEntries - seen + 1));
    }
    EXPECT_TRUE(fs()->Remove(kRootCaller, directory, entry.name, RemoveKind::kAny).has_value());
    return true;
  });
  EXPECT_TRUE(read.has_value());
  EXPECT_EQ(seen, kEntries);
  EXPECT_TRUE(fs().List(directory).empty());
}

// Nor does anything go as deep as the directories do. TearDown checks the volume.
TEST_F(Traps, DirectoriesMayLieDeeperThanAStackIsHigh) {
  constexpr int kDepth = 3000;
  NodeId directory = fs().root();
  for (int depth = 0; depth < kDepth; ++depth) directory = fs().Directory(directory, "d");
  EXPECT_EQ(fs()->PathOf(directory).value().size(), 2U * kDepth);
  EXPECT_TRUE(fs()->Rename(kRootCaller, fs().root(), "d", directory, "d", kRenameReplace).error() ==
              Errc::kLoop);  // below itself
}

// Generation numbers issued again after a crash: what anybody saw of a file that the crash then
// took back, its number, generation and handle, must not come to mean another one.
TEST_F(Traps, AHandleFromBeforeACrashNeverMeansAnotherFile) {
  int lost = 0;
  for (std::uint64_t requests = 1; requests < 40; ++requests) {
    const auto device = SimDevice::Create(TestEngine::DefaultOptions(64 << 20)).value();
    TestEngine before(*device);
    before.Format();
    before.Mount();
    device->CutPowerAfter(requests);
    std::map<std::uint64_t, std::pair<std::string, Attributes>> seen;
    for (int at = 0; at < 30; ++at) {
      const std::string name = "f" + std::to_string(at);
      const bool is_made = before.TryCreate(before.root(), name).has_value();
      // In memory it may be, though its creation failed.
      const auto found = before->Lookup(before.root(), name);
      if (found.has_value()) seen[found.value().id.inode] = {name, found.value()};
      if (!is_made) break;
    }
    const auto rest = SimDevice::Create({.pool_bytes = 32ULL << 20}, device->CrashImage(requests));
    before.Kill();
    TestEngine after(*rest.value());
    after.Mount();
    for (const auto& [inode, file] : seen) {
      const auto survived = after->GetAttributes(file.second.id);
      if (!survived.has_value()) ++lost;
    }
    for (int at = 0; at < 100; ++at) {
      const auto made = after.TryCreate(after.root(), "g" + std::to_string(at)).value().node;
      EXPECT_FALSE(seen.contains(made.id.inode)) << made.id.inode;
      for (const auto& [inode, file] : seen) {
        EXPECT_GT(made.generation, file.second.generation);
        EXPECT_NE(after->EncodeHandle(made, 1), after->EncodeHandle(file.second, 1));
      }
    }
    after.Unmount();
    after.CheckIsSound();
  }
  EXPECT_GT(lost, 0);  // or nothing was tried
}

// Errors of write-back lost between two COMMITs: the data of a write went nowhere, at the hands of
// somebody else than the client that commits; that client must see another verifier than its
// write's.
TEST_F(Traps, AWriteBackThatFailsBetweenTwoCommitsShowsInTheVerifier) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs().Write(file, 0, "first");
  const WriteVerifier first = fs()->Commit(file, 0, 0).value();
  const WriteVerifier written = fs().Write(file, 0, "precious").verifier;
  EXPECT_EQ(written, first);
  device_->SetFaultHook([](const BlockRequest& request, std::uint64_t) {
    SimVerdict verdict;
    if (request.operation == BlockOperation::kWrite &&
        std::memcmp(request.segments.front().iov_base, "precious", 8) == 0) {
      verdict.fault = SimFault::kFail;
    }
    return verdict;
  });
  EXPECT_FALSE(fs()->SyncAll().has_value());  // another client's, or the background's
  device_->SetFaultHook(nullptr);
  const auto second = fs()->Commit(file, 0, 0);
  ASSERT_TRUE(second.has_value());
  EXPECT_NE(second.value(), written);
}

}  // namespace
}  // namespace filer::engine
