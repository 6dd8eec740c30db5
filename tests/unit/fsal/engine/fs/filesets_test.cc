// Filesets, snapshots, clones and roll-back through the engine's public interface.
#include "fsal/engine/filesets.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/units.h"

#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

class FilesetsTest : public EngineTest {
 protected:
  Filesets& filesets() { return fs()->AllFilesets(); }
  NodeId MustLookup(NodeId directory, std::string_view name) {
    const auto found = fs()->Lookup(directory, name);
    EXPECT_TRUE(found.has_value()) << name << ": " << found.error().message();
    return found.has_value() ? found.value().id : NodeId{};
  }
  // The path below the root, name by name.
  NodeId At(NodeId from, std::initializer_list<std::string_view> names) {
    for (const auto name : names) from = MustLookup(from, name);
    return from;
  }
  SnapshotInfo Snapshot(const std::string& name, std::uint32_t fileset = kRootFileset) {
    const auto made = filesets().MakeSnapshot(fileset, name);
    EXPECT_TRUE(made.has_value()) << made.error().message();
    return made.value();
  }
  std::uint64_t FreeBytes() { return fs()->GetStatus().value().free_bytes; }
  // What deleted trees held comes back in the background; a mount goes on with it.
  void AwaitReclaim(std::uint64_t free_bytes) {
    for (int attempt = 0; attempt < 300 && FreeBytes() < free_bytes; ++attempt) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    EXPECT_GE(FreeBytes(), free_bytes);
  }
};

TEST_F(FilesetsTest, ASnapshotShowsTheFilesAsTheyWere) {
  const NodeId directory = fs().Directory(fs().root(), "d");
  const NodeId file = fs().Create(directory, "file");
  fs().Write(file, 0, std::string(10'000, 'a'));  // nobody asked for it to be stable
  fs().Create(directory, "gone");
  const auto snapshot = Snapshot("monday");
  fs().Write(file, 5'000, std::string(10'000, 'b'), Stability::kFileSync);
  ASSERT_TRUE(fs()->Remove(kRootCaller, directory, "gone", RemoveKind::kAny).has_value());
  fs().Create(directory, "new");

  const NodeId old = At(fs().root(), {".snapshot", "monday", "d"});
  EXPECT_EQ(old.snapshot, snapshot.id);
  EXPECT_EQ(fs().List(old), (std::vector<std::string>{"file", "gone"}));
  const NodeId old_file = MustLookup(old, "file");
  EXPECT_EQ(fs().Read(old_file, 0, 20'000), std::string(10'000, 'a'));
  EXPECT_EQ(fs().Read(file, 0, 20'000), std::string(5'000, 'a') + std::string(10'000, 'b'));
  EXPECT_NE(fs()->GetAttributes(old_file).value().fsid, fs()->GetAttributes(file).value().fsid);
  EXPECT_EQ(fs()->PathOf(old_file).value(), "/.snapshot/monday/d/file");

  fs().Remount();
  EXPECT_EQ(fs().Read(At(fs().root(), {".snapshot", "monday", "d", "file"}), 0, 20'000),
            std::string(10'000, 'a'));
  const auto handle = fs()->EncodeHandle(fs()->GetAttributes(old_file).value(), 1);
  EXPECT_EQ(fs()->DecodeHandle(handle).value().node, old_file);
}

TEST_F(FilesetsTest, NothingInASnapshotCanBeChanged) {
  const NodeId file = fs().Create(fs().root(), "file");
  fs().Write(file, 0, "x", Stability::kFileSync);
  Snapshot("s");
  const NodeId root = At(fs().root(), {".snapshot", "s"});
  const NodeId old = MustLookup(root, "file");
  EXPECT_TRUE(fs().TryCreate(root, "new").error() == Errc::kReadOnly);
  EXPECT_TRUE(fs().TryWrite(old, 0, "y").error() == Errc::kReadOnly);
  EXPECT_TRUE(fs()->Remove(kRootCaller, root, "file", RemoveKind::kAny).error() == Errc::kReadOnly);
  AttributeChange mode;
  mode.mode = 0600;
  EXPECT_TRUE(fs()->SetAttributes(kRootCaller, old, mode).error() == Errc::kReadOnly);
  AttributeChange size;
  size.size_bytes = 0;
  EXPECT_TRUE(fs()->SetAttributes(kRootCaller, old, size).error() == Errc::kReadOnly);
  EXPECT_TRUE(fs()->SetXattr(kRootCaller, old, "user.x", "1", Engine::XattrMode::kCreateOrReplace)
                  .error() == Errc::kReadOnly);
  EXPECT_TRUE(fs()->Deallocate(kRootCaller, old, 0, 1).error() == Errc::kReadOnly);
  EXPECT_TRUE(fs()->Allocate(kRootCaller, old, 0, 1, false).error() == Errc::kReadOnly);
  EXPECT_TRUE(fs()->Rename(kRootCaller, root, "file", root, "f", 0).error() == Errc::kReadOnly);
  EXPECT_TRUE(fs()->Rename(kRootCaller, root, "file", fs().root(), "f", 0).error() ==
              Errc::kCrossesFileset);
  EXPECT_TRUE(fs()->Link(kRootCaller, old, fs().root(), "f").error() == Errc::kCrossesFileset);
  EXPECT_TRUE(fs()->Commit(old, 0, 0).has_value()) << "all of it is durable";
  EXPECT_EQ(fs().Read(old, 0, 10), "x");
}

TEST_F(FilesetsTest, TheFolderOfSnapshotsIsThereAndIsNotAnEntry) {
  EXPECT_TRUE(fs().List(fs().root()).empty());
  const NodeId folder = MustLookup(fs().root(), ".snapshot");
  const Attributes before = fs()->GetAttributes(folder).value();
  EXPECT_EQ(before.kind, NodeKind::kDirectory);
  EXPECT_TRUE(fs().List(folder).empty());
  const auto first = Snapshot("a");
  Snapshot("b");
  EXPECT_EQ(fs().List(folder), (std::vector<std::string>{"a", "b"}));
  EXPECT_NE(fs()->GetAttributes(folder).value().change, before.change);
  EXPECT_EQ(fs()->LookupParent(folder).value().id, fs().root());
  EXPECT_EQ(fs()->LookupParent(MustLookup(folder, "a")).value().id, folder);
  ASSERT_TRUE(filesets().RenameSnapshot(first.id, "c").has_value());
  EXPECT_TRUE(fs()->Lookup(folder, "a").error() == Errc::kNotFound);
  EXPECT_TRUE(fs()->Lookup(folder, "c").has_value());
  EXPECT_TRUE(fs().TryCreate(fs().root(), ".snapshot").error() == Errc::kExists);
  EXPECT_TRUE(fs().TryCreate(folder, "x").error() == Errc::kReadOnly);
  EXPECT_TRUE(fs()->Remove(kRootCaller, fs().root(), ".snapshot", RemoveKind::kAny).error() ==
              Errc::kNotPermitted);
  EXPECT_TRUE(fs()->Remove(kRootCaller, folder, "c", RemoveKind::kAny).error() == Errc::kReadOnly);
  // Every directory has one: exports begin anywhere. It shows the directory as it was.
  const NodeId directory = fs().Directory(fs().root(), "d");
  fs().Create(directory, "then");
  EXPECT_TRUE(fs().TryCreate(directory, ".snapshot").error() == Errc::kExists);
  EXPECT_TRUE(fs().List(MustLookup(directory, ".snapshot")).empty()) << "it was not there then";
  const auto third = Snapshot("third");
  ASSERT_TRUE(fs()->Remove(kRootCaller, directory, "then", RemoveKind::kAny).has_value());
  const NodeId inner = MustLookup(directory, ".snapshot");
  EXPECT_EQ(fs().List(inner), std::vector<std::string>{"third"});
  EXPECT_EQ(fs().List(MustLookup(inner, "third")), std::vector<std::string>{"then"});
  EXPECT_TRUE(fs()->Lookup(inner, "b").error() == Errc::kNotFound);
  EXPECT_EQ(fs()->PathOf(inner).value(), "/d/.snapshot");
  EXPECT_EQ(fs()->LookupParent(inner).value().id, directory);
  EXPECT_NE(fs()->GetAttributes(inner).value().fsid, fs()->GetAttributes(directory).value().fsid);
  EXPECT_TRUE(fs()->Lookup(MustLookup(inner, "third"), ".snapshot").error() == Errc::kNotFound);
  EXPECT_TRUE(fs()->GetAttributes(SnapshotsFolderOf(fs().Create(directory, "file"))).error() ==
              Errc::kNotDirectory);
  ASSERT_TRUE(filesets().DeleteSnapshot(third.id).has_value());
  // From the middle on.
  std::vector<std::string> names;
  EXPECT_FALSE(
      fs()->ReadDirectory(folder, 0, [&](const DirectoryEntry&) { return false; }).value());
  EXPECT_TRUE(fs()->ReadDirectory(folder, std::uint64_t{first.id} + 2,
                                  [&](const DirectoryEntry& entry) {
                                    names.push_back(entry.name);
                                    return true;
                                  })
                  .value());
  EXPECT_EQ(names, std::vector<std::string>{"b"});
}

TEST_F(FilesetsTest, DeletedSnapshotsGiveTheirSpaceBack) {
  const NodeId file = fs().Create(fs().root(), "file");
  const std::string bytes(4 << 20, 'x');
  fs().Write(file, 0, bytes, Stability::kFileSync);
  const std::uint64_t before = FreeBytes();
  for (int round = 0; round < 4; ++round) {
    Snapshot("s" + std::to_string(round));
    fs().Write(file, 0, bytes, Stability::kFileSync);
  }
  EXPECT_LE(FreeBytes() + 4 * bytes.size(), before);
  const auto snapshots = filesets().ListSnapshots(kRootFileset).value();
  ASSERT_EQ(snapshots.size(), 4U);
  for (const auto& snapshot : snapshots) {
    EXPECT_GE(snapshot.unique_bytes, bytes.size()) << snapshot.name;
    EXPECT_LE(snapshot.unique_bytes, bytes.size() + (1 << 20)) << snapshot.name;
    EXPECT_EQ(snapshot.files, 2U);
  }
  // In an order that merges lists forth and back.
  for (const int at : {1, 3, 0, 2}) {
    ASSERT_TRUE(filesets().DeleteSnapshot(snapshots[at].id).has_value());
  }
  AwaitReclaim(before);
  EXPECT_TRUE(fs()->GetAttributes({kRootFileset, snapshots[0].id, kRootInode}).error() ==
              Errc::kStaleHandle);
}

TEST_F(FilesetsTest, AHeldSnapshotStays) {
  const auto snapshot = Snapshot("s");
  ASSERT_TRUE(filesets().HoldSnapshot(snapshot.id, true).has_value());
  EXPECT_TRUE(filesets().DeleteSnapshot(snapshot.id).error() == Errc::kBusy);
  EXPECT_EQ(filesets().ListSnapshots(kRootFileset).value()[0].holds, 1U);
  ASSERT_TRUE(filesets().HoldSnapshot(snapshot.id, false).has_value());
  ASSERT_TRUE(filesets().DeleteSnapshot(snapshot.id).has_value());
  EXPECT_TRUE(filesets().DeleteSnapshot(snapshot.id).error() == Errc::kNotFound);
  EXPECT_TRUE(filesets().DeleteSnapshot(kRootFileset).error() == Errc::kNotFound);
}

TEST_F(FilesetsTest, RollingBackBringsTheFilesBackAndNeverAnOldNumber) {
  const NodeId file = fs().Create(fs().root(), "file");
  fs().Write(file, 0, "before", Stability::kFileSync);
  const std::uint64_t files = fs()->Counters().inodes;
  Snapshot("s");
  fs().Write(file, 0, "after!", Stability::kFileSync);
  const std::uint64_t late_change = fs()->GetAttributes(file).value().change;
  const NodeId later = fs().Create(fs().root(), "later");
  fs().Write(later, 0, "unstable");
  const WriteVerifier verifier = fs()->Verifier();
  ASSERT_TRUE(filesets().RollBack(kRootFileset).has_value());
  EXPECT_NE(fs()->Verifier(), verifier);
  EXPECT_EQ(fs().Read(file, 0, 100), "before");
  EXPECT_EQ(fs().List(fs().root()), std::vector<std::string>{"file"});
  EXPECT_TRUE(fs()->GetAttributes(later).error() == Errc::kStaleHandle);
  EXPECT_EQ(fs()->Counters().inodes, files);
  fs().Write(file, 0, "anew", Stability::kFileSync);
  EXPECT_GT(fs()->GetAttributes(file).value().change, late_change);
  EXPECT_GT(fs().Create(fs().root(), "other").inode, later.inode);
  EXPECT_EQ(fs().Read(At(fs().root(), {".snapshot", "s", "file"}), 0, 100), "before");
  fs().Remount();
  EXPECT_EQ(fs().Read(file, 0, 100), "anewre");
  EXPECT_GT(fs().Create(fs().root(), "more").inode, later.inode);
}

TEST_F(FilesetsTest, FilesetsAreApart) {
  const auto made = filesets().Create("home").value();
  EXPECT_TRUE(filesets().Create("home").error() == Errc::kExists);
  EXPECT_TRUE(filesets().Create("a/b").error() == Errc::kInvalidName);
  const NodeId root = Filesets::Root(made.id);
  const NodeId file = fs().Create(root, "file");
  fs().Write(file, 0, "home", Stability::kFileSync);
  EXPECT_TRUE(fs()->Lookup(fs().root(), "file").error() == Errc::kNotFound);
  EXPECT_NE(fs()->GetAttributes(root).value().fsid, fs()->GetAttributes(fs().root()).value().fsid);
  EXPECT_TRUE(fs()->Rename(kRootCaller, root, "file", fs().root(), "file", 0).error() ==
              Errc::kCrossesFileset);
  EXPECT_TRUE(fs()->Link(kRootCaller, file, fs().root(), "file").error() == Errc::kCrossesFileset);
  EXPECT_EQ(fs()->LookupParent(root).value().id, root);
  fs().Remount();
  EXPECT_EQ(fs().Read(file, 0, 10), "home");
  EXPECT_EQ(filesets().List().size(), 2U);
  EXPECT_EQ(filesets().List()[1].files, 2U);
  const auto snapshot = Snapshot("s", made.id);
  EXPECT_TRUE(filesets().Delete(made.id).error() == Errc::kBusy);
  EXPECT_TRUE(filesets().Delete(kRootFileset).error() == Errc::kInvalidArgument);
  ASSERT_TRUE(filesets().DeleteSnapshot(snapshot.id).has_value());
  ASSERT_TRUE(filesets().Delete(made.id).has_value());
  EXPECT_TRUE(fs()->GetAttributes(file).error() == Errc::kStaleHandle);
  EXPECT_EQ(filesets().List().size(), 1U);
}

TEST_F(FilesetsTest, ADeletedFilesetGivesItsSpaceBack) {
  fs().Write(fs().Create(fs().root(), "x"), 0, "x", Stability::kFileSync);
  const std::uint64_t before = FreeBytes();
  const std::uint64_t files = fs()->Counters().inodes;
  const auto made = filesets().Create("big").value();
  const std::string bytes(100'000, 'x');
  for (int at = 0; at < 200; ++at) {
    const NodeId file = fs().Create(Filesets::Root(made.id), "file" + std::to_string(at));
    fs().Write(file, 0, bytes);
  }
  ASSERT_TRUE(fs()->SyncAll().has_value());
  EXPECT_LT(FreeBytes(), before - 200 * bytes.size());
  ASSERT_TRUE(filesets().Delete(made.id).has_value());
  AwaitReclaim(before);
  EXPECT_EQ(fs()->Counters().inodes, files);
}

TEST_F(FilesetsTest, ACloneIsWrittenToWithoutTouchingItsOrigin) {
  const NodeId file = fs().Create(fs().root(), "file");
  fs().Write(file, 0, std::string(50'000, 'o'), Stability::kFileSync);
  const auto snapshot = Snapshot("s");
  const auto clone = filesets().Clone(snapshot.id, "copy").value();
  EXPECT_EQ(clone.origin_snapshot, snapshot.id);
  EXPECT_EQ(clone.origin_fileset, kRootFileset);
  const NodeId copy = MustLookup(Filesets::Root(clone.id), "file");
  EXPECT_EQ(copy.inode, file.inode);
  fs().Write(copy, 0, std::string(20'000, 'c'), Stability::kFileSync);
  fs().Create(Filesets::Root(clone.id), "more");
  EXPECT_EQ(fs().Read(file, 0, 50'000), std::string(50'000, 'o'));
  EXPECT_EQ(fs().Read(copy, 0, 50'000), std::string(20'000, 'c') + std::string(30'000, 'o'));
  EXPECT_TRUE(filesets().DeleteSnapshot(snapshot.id).error() == Errc::kBusy);
  ASSERT_TRUE(fs()->Remove(kRootCaller, fs().root(), "file", RemoveKind::kAny).has_value());
  Snapshot("of-copy", clone.id);
  fs().Write(copy, 0, std::string(50'000, 'd'), Stability::kFileSync);
  fs().Remount();
  EXPECT_EQ(fs().Read(At(Filesets::Root(clone.id), {".snapshot", "of-copy", "file"}), 0, 50'000),
            std::string(20'000, 'c') + std::string(30'000, 'o'));
}

TEST_F(FilesetsTest, SnapshotsUnderLoadHoldAFileAsItWasAtOneMoment) {
  const NodeId file = fs().Create(fs().root(), "file");
  std::atomic<bool> must_stop = false;
  std::thread writer([&] {
    // Each pass makes all blocks the same letter, from the front: at any one moment there is at
    // most one step from a later letter to the one before.
    for (int round = 0; !must_stop; ++round) {
      const char letter = static_cast<char>('a' + round % 26);
      for (int at = 0; at < 32; ++at) {
        fs().Write(file, static_cast<std::uint64_t>(at) * kBlockBytes,
                   std::string(kBlockBytes, letter), Stability::kFileSync);
      }
    }
  });
  for (int count = 0; count < 10; ++count) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    Snapshot("s" + std::to_string(count));
  }
  must_stop = true;
  writer.join();
  for (int count = 0; count < 10; ++count) {
    const auto text = fs().Read(At(fs().root(), {".snapshot", "s" + std::to_string(count), "file"}),
                                0, 32 * kBlockBytes);
    int steps = 0;
    for (std::size_t at = kBlockBytes; at < text.size(); at += kBlockBytes) {
      if (text[at] == text[at - 1]) continue;
      ++steps;
      EXPECT_EQ((text[at] - 'a' + 1) % 26, text[at - 1] - 'a');
    }
    EXPECT_LE(steps, 1) << count;
  }
}

}  // namespace
}  // namespace filer::engine
