// Names: every operation with its errors, sticky and setgid rules, orphans, big directories.
#include <cstdio>
#include <cstdlib>
#include <set>

#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

using Names = EngineTest;

TEST_F(Names, LookupTellsWhatIsWrong) {
  const NodeId file = fs().Create(fs().root(), "file");
  EXPECT_EQ(fs()->Lookup(fs().root(), "file").value().id, file);
  EXPECT_TRUE(fs()->Lookup(fs().root(), "none").error() == Errc::kNotFound);
  EXPECT_TRUE(fs()->Lookup(file, "x").error() == Errc::kNotDirectory);
  for (const std::string name : {"", ".", "..", "a/b"}) {
    EXPECT_TRUE(fs()->Lookup(fs().root(), name).error() == Errc::kInvalidName) << name;
    EXPECT_TRUE(fs().TryCreate(fs().root(), name).error() == Errc::kInvalidName) << name;
  }
  EXPECT_TRUE(fs()->Lookup(fs().root(), std::string(256, 'x')).error() == Errc::kNameTooLong);
  fs().Create(fs().root(), std::string(255, 'x'));
  EXPECT_TRUE(fs()->GetAttributes({1, 0, 12345}).error() == Errc::kStaleHandle);
  EXPECT_TRUE(fs()->GetAttributes({2, 0, 2}).error() == Errc::kStaleHandle);
  EXPECT_TRUE(fs()->GetAttributes({1, 1, 2}).error() == Errc::kStaleHandle);
}

TEST_F(Names, CreateMakesEveryKind) {
  CreateOptions options;
  options.kind = NodeKind::kCharDevice;
  options.device_major = 5;
  options.device_minor = 77;
  const auto device = fs()->Create(kRootCaller, fs().root(), "tty", options).value();
  EXPECT_EQ(device.node.device_major, 5U);
  EXPECT_EQ(device.node.device_minor, 77U);
  options = {};
  options.kind = NodeKind::kSymlink;
  options.symlink_target = "some/where";
  const NodeId link = fs()->Create(kRootCaller, fs().root(), "link", options).value().node.id;
  EXPECT_EQ(fs()->ReadLink(link).value(), "some/where");
  const NodeId directory = fs().Directory(fs().root(), "dir");
  fs().Create(fs().root(), "fifo", NodeKind::kFifo);
  fs().Create(fs().root(), "socket", NodeKind::kSocket);
  EXPECT_TRUE(fs().TryCreate(fs().root(), "fifo").error() == Errc::kExists);
  EXPECT_EQ(fs()->GetAttributes(fs().root()).value().links, 3U);
  EXPECT_EQ(fs()->LookupParent(directory).value().id, fs().root());
  EXPECT_EQ(fs()->LookupParent(fs().root()).value().id, fs().root());
  EXPECT_TRUE(fs()->ReadLink(directory).error() == Errc::kInvalidArgument);
  EXPECT_TRUE(fs()->Read(directory, 0, 1).error() == Errc::kIsDirectory);
  EXPECT_TRUE(fs()->Read(link, 0, 1).error() == Errc::kInvalidArgument);
  const std::vector<std::string> before = fs().List(fs().root());
  fs().Remount();
  EXPECT_EQ(fs().List(fs().root()), before);
  EXPECT_EQ(fs()->ReadLink(link).value(), "some/where");
}

TEST_F(Names, ExclusiveCreateIsIdempotent) {
  CreateOptions options;
  options.exclusive_verifier = {1, 2, 3, 4, 5, 6, 7, 8};
  const auto first = fs()->Create(kRootCaller, fs().root(), "x", options).value();
  const auto again = fs()->Create(kRootCaller, fs().root(), "x", options).value();
  EXPECT_FALSE(first.existed);
  EXPECT_TRUE(again.existed);
  EXPECT_EQ(first.node.id, again.node.id);
  options.exclusive_verifier = {9, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_TRUE(fs()->Create(kRootCaller, fs().root(), "x", options).error() == Errc::kExists);
}

TEST_F(Names, HardLinksCountAndMoveWithTheLastName) {
  const NodeId file = fs().Create(fs().root(), "a");
  const NodeId directory = fs().Directory(fs().root(), "d");
  EXPECT_EQ(fs()->Link(kRootCaller, file, directory, "b").value().links, 2U);
  EXPECT_TRUE(fs()->Link(kRootCaller, file, directory, "b").error() == Errc::kExists);
  EXPECT_TRUE(fs()->Link(kRootCaller, directory, fs().root(), "e").error() == Errc::kNotPermitted);
  fs().Remount();
  EXPECT_FALSE(fs()->Remove(kRootCaller, fs().root(), "a", RemoveKind::kAny).value().last_link);
  EXPECT_EQ(fs()->PathOf(file).value(), "/d/b");
  EXPECT_EQ(fs()->GetAttributes(file).value().links, 1U);
  EXPECT_TRUE(fs()->Remove(kRootCaller, directory, "b", RemoveKind::kAny).value().last_link);
  EXPECT_TRUE(fs()->GetAttributes(file).error() == Errc::kStaleHandle);
}

TEST_F(Names, LinksEndAtTheirMaximum) {
  const NodeId file = fs().Create(fs().root(), "0");
  const NodeId directory = fs().Directory(fs().root(), "d");
  for (std::uint32_t links = 1; links < kLinksMax; ++links) {
    ASSERT_TRUE(fs()->Link(kRootCaller, file, directory, std::to_string(links)).has_value());
  }
  EXPECT_TRUE(fs()->Link(kRootCaller, file, directory, "x").error() == Errc::kTooManyLinks);
  EXPECT_EQ(fs()->GetAttributes(file).value().links, kLinksMax);
  EXPECT_TRUE(fs()->Remove(kRootCaller, directory, "1", RemoveKind::kAny).has_value());
  EXPECT_EQ(fs()->Link(kRootCaller, file, directory, "x").value().links, kLinksMax);
}

// Long links fill the metadata soonest. Nothing of a refused name is left.
TEST_F(Names, AVolumeFullOfNamesSaysSoAndCanBeEmptied) {
  const NodeId directory = fs().Directory(fs().root(), "d");
  const std::string target(kSymlinkBytesMax, 't');
  CreateOptions link;
  link.kind = NodeKind::kSymlink;
  link.symlink_target = target;
  int count = 0;
  while (true) {
    const auto created = fs()->Create(kRootCaller, directory, std::to_string(count), link);
    if (!created.has_value()) {
      EXPECT_TRUE(created.error() == Errc::kNoSpace) << created.error().message();
      break;
    }
    ++count;
  }
  EXPECT_GT(count, 1000);
  EXPECT_EQ(fs().List(directory).size(), static_cast<std::size_t>(count));
  EXPECT_TRUE(fs()->Create(kRootCaller, fs().root(), "x", link).error() == Errc::kNoSpace);
  EXPECT_TRUE(fs()->Lookup(fs().root(), "x").error() == Errc::kNotFound);
  fs().Remount();
  EXPECT_EQ(fs().List(directory).size(), static_cast<std::size_t>(count));
  for (int index = 0; index < count; ++index) {
    const auto removed =
        fs()->Remove(kRootCaller, directory, std::to_string(index), RemoveKind::kAny);
    ASSERT_TRUE(removed.has_value()) << index << ": " << removed.error().message();
  }
  fs().Remount();
  EXPECT_TRUE(fs()->Create(kRootCaller, directory, "x", link).has_value());
}

TEST_F(Names, RemoveTellsKindsApart) {
  const NodeId directory = fs().Directory(fs().root(), "d");
  fs().Create(directory, "f");
  const auto remove = [&](NodeId in, const char* name, RemoveKind kind) {
    return fs()->Remove(kRootCaller, in, name, kind);
  };
  EXPECT_TRUE(remove(fs().root(), "d", RemoveKind::kNotDirectory).error() == Errc::kIsDirectory);
  EXPECT_TRUE(remove(fs().root(), "d", RemoveKind::kDirectory).error() == Errc::kNotEmpty);
  EXPECT_TRUE(remove(directory, "f", RemoveKind::kDirectory).error() == Errc::kNotDirectory);
  EXPECT_TRUE(remove(directory, "g", RemoveKind::kAny).error() == Errc::kNotFound);
  EXPECT_TRUE(remove(directory, "f", RemoveKind::kNotDirectory).has_value());
  EXPECT_TRUE(remove(fs().root(), "d", RemoveKind::kDirectory).has_value());
  EXPECT_TRUE(fs().TryCreate(directory, "late").error() == Errc::kStaleHandle);
  EXPECT_EQ(fs()->GetAttributes(fs().root()).value().links, 2U);
}

TEST_F(Names, HeldFileLivesUntilReleaseAndOrphansDieAtMount) {
  const NodeId file = fs().Create(fs().root(), "f");
  fs().Write(file, 0, "still here", Stability::kFileSync);
  ASSERT_TRUE(fs()->Hold(file).has_value());
  const std::uint64_t free_before = fs()->Counters().free_blocks;
  fs()->Remove(kRootCaller, fs().root(), "f", RemoveKind::kAny).value();
  EXPECT_EQ(fs().Read(file, 0, 100), "still here");
  EXPECT_EQ(fs()->GetAttributes(file).value().links, 0U);
  fs()->Release(file);
  EXPECT_TRUE(fs()->GetAttributes(file).error() == Errc::kStaleHandle);
  const NodeId other = fs().Create(fs().root(), "g");
  fs().Write(other, 0, std::string(100'000, 'x'), Stability::kFileSync);
  ASSERT_TRUE(fs()->Hold(other).has_value());
  fs()->Remove(kRootCaller, fs().root(), "g", RemoveKind::kAny).value();
  fs().Kill();
  fs().CheckIsSound();
  fs().Mount();
  EXPECT_TRUE(fs()->GetAttributes(other).error() == Errc::kStaleHandle);
  EXPECT_EQ(fs()->Counters().free_blocks, free_before + 1);
  EXPECT_EQ(fs()->Counters().inodes, 1U);
}

TEST_F(Names, RenameFollowsPosix) {
  const NodeId a = fs().Directory(fs().root(), "a");
  const NodeId b = fs().Directory(a, "b");
  const NodeId file = fs().Create(fs().root(), "file");
  const NodeId other = fs().Create(b, "other");
  const auto rename = [&](NodeId from, const char* name, NodeId to, const char* to_name,
                          std::uint32_t flags = 0) {
    const auto renamed = fs()->Rename(kRootCaller, from, name, to, to_name, flags);
    return renamed.has_value() ? Errc{} : renamed.error().code();
  };
  const NodeId root = fs().root();
  EXPECT_EQ(rename(root, "a", b, "x"), Errc::kLoop);
  EXPECT_EQ(rename(root, "a", a, "x"), Errc::kLoop);
  EXPECT_EQ(rename(root, "file", root, "a"), Errc::kIsDirectory);
  EXPECT_EQ(rename(root, "a", root, "file"), Errc::kNotDirectory);
  EXPECT_EQ(rename(root, "file", b, "other", kRenameNoReplace), Errc::kExists);
  EXPECT_EQ(rename(a, "b", root, "a"), Errc::kNotEmpty);
  EXPECT_EQ(rename(root, "no", root, "a"), Errc::kNotFound);
  EXPECT_EQ(rename(root, "file", root, "file"), Errc{});
  EXPECT_EQ(rename(root, "file", b, "other"), Errc{});
  EXPECT_TRUE(fs()->GetAttributes(other).error() == Errc::kStaleHandle);
  EXPECT_EQ(fs()->PathOf(file).value(), "/a/b/other");
  EXPECT_EQ(rename(a, "b", root, "c"), Errc{});
  EXPECT_EQ(fs()->LookupParent(b).value().id, root);
  EXPECT_EQ(fs()->GetAttributes(a).value().links, 2U);
  const NodeId plain = fs().Create(root, "plain");
  EXPECT_EQ(rename(root, "c", a, "none", kRenameExchange), Errc::kNotFound);
  EXPECT_EQ(rename(root, "a", root, "plain", kRenameExchange), Errc{});
  EXPECT_EQ(fs()->Lookup(root, "a").value().id, plain);
  EXPECT_EQ(fs()->Lookup(root, "plain").value().id, a);
  EXPECT_EQ(rename(root, "plain", root, "p", 3), Errc::kInvalidArgument);
  fs().Remount();
  EXPECT_EQ(fs()->PathOf(file).value(), "/c/other");
}

TEST_F(Names, RenameOfTwoNamesOfOneFileDoesNothing) {
  const NodeId file = fs().Create(fs().root(), "a");
  fs()->Link(kRootCaller, file, fs().root(), "b").value();
  ASSERT_TRUE(fs()->Rename(kRootCaller, fs().root(), "a", fs().root(), "b", 0).has_value());
  EXPECT_EQ(fs().List(fs().root()).size(), 2U);
}

TEST_F(Names, StickyAndSetgidDirectories) {
  const Caller alice{1000, 100, {}, false};
  const Caller bob{1001, 100, {}, false};
  const NodeId shared = fs().Create(fs().root(), "tmp", NodeKind::kDirectory, 01777);
  fs().TryCreate(shared, "hers", NodeKind::kFile, 0666, alice).value();
  EXPECT_TRUE(fs()->Remove(bob, shared, "hers", RemoveKind::kAny).error() == Errc::kNotPermitted);
  EXPECT_TRUE(fs()->Rename(bob, shared, "hers", shared, "his", 0).error() == Errc::kNotPermitted);
  EXPECT_TRUE(fs()->Remove(alice, shared, "hers", RemoveKind::kAny).has_value());
  CreateOptions options;
  options.kind = NodeKind::kDirectory;
  options.attributes.mode = 02777;
  options.attributes.gid = 500;
  const NodeId group = fs()->Create(kRootCaller, fs().root(), "group", options).value().node.id;
  const auto file = fs().TryCreate(group, "f", NodeKind::kFile, 0644, alice).value();
  EXPECT_EQ(file.node.gid, 500U);
  const auto directory = fs().TryCreate(group, "d", NodeKind::kDirectory, 0755, alice).value();
  EXPECT_EQ(directory.node.mode, 02755U);
}

TEST_F(Names, OwnershipRules) {
  const Caller alice{1000, 100, {}, false};
  const NodeId mine =
      fs().TryCreate(fs().root(), "f", NodeKind::kFile, 06755, alice).value().node.id;
  AttributeChange change;
  change.uid = 0;
  EXPECT_TRUE(fs()->SetAttributes(alice, mine, change).error() == Errc::kNotPermitted);
  change = {};
  change.gid = 999;
  EXPECT_TRUE(fs()->SetAttributes(alice, mine, change).error() == Errc::kNotPermitted);
  const std::uint32_t groups[] = {999};
  const Caller member{1000, 100, groups, false};
  const auto changed = fs()->SetAttributes(member, mine, change).value();
  EXPECT_EQ(changed.gid, 999U);
  EXPECT_EQ(changed.mode, 0755U);  // set-user-ID and set-group-ID are gone
  const Caller bob{1001, 101, {}, false};
  change = {};
  change.mode = 0777;
  EXPECT_TRUE(fs()->SetAttributes(bob, mine, change).error() == Errc::kNotPermitted);
  change = {};
  change.mtime_now = true;
  EXPECT_TRUE(fs()->SetAttributes(bob, mine, change).error() == Errc::kAccessDenied);
  change.mtime_now = false;
  change.mtime_ns = 5;
  EXPECT_TRUE(fs()->SetAttributes(bob, mine, change).error() == Errc::kNotPermitted);
  EXPECT_EQ(fs()->SetAttributes(alice, mine, change).value().mtime_ns, 5);
}

TEST_F(Names, PrivilegesAreDroppedOnceAndOnlyWhatIsThere) {
  const Caller alice{1000, 100, {}, true};  // a door's caller: trusted, and not root
  const NodeId file = fs().Create(fs().root(), "f", NodeKind::kFile, 06755);
  ASSERT_TRUE(fs()->DropPrivileges(kRootCaller, file).has_value());
  EXPECT_EQ(fs()->GetAttributes(file).value().mode, 06755U);
  ASSERT_TRUE(fs()->DropPrivileges(alice, file).has_value());
  const Attributes dropped = fs()->GetAttributes(file).value();
  EXPECT_EQ(dropped.mode, 0755U);
  ASSERT_TRUE(fs()->DropPrivileges(alice, file).has_value());
  EXPECT_EQ(fs()->GetAttributes(file).value().change, dropped.change);
  const std::string capabilities = "security.capability";
  const auto set =
      fs()->SetXattr(kRootCaller, file, capabilities, "x", Engine::XattrMode::kCreateOrReplace);
  ASSERT_TRUE(set.has_value());
  ASSERT_TRUE(fs()->DropPrivileges(kRootCaller, file).has_value());
  EXPECT_TRUE(fs()->GetXattr(file, capabilities).error() == Errc::kNoAttribute);
  const NodeId directory = fs().Create(fs().root(), "d", NodeKind::kDirectory, 02775);
  ASSERT_TRUE(fs()->DropPrivileges(alice, directory).has_value());
  EXPECT_EQ(fs()->GetAttributes(directory).value().mode, 02775U);
  EXPECT_TRUE(fs()->DropPrivileges(alice, {1, 0, 12345}).error() == Errc::kStaleHandle);
  fs().Remount();
  EXPECT_EQ(fs()->GetAttributes(file).value().mode, 0755U);
}

TEST_F(Names, XattrsOfEverySize) {
  const NodeId file = fs().Create(fs().root(), "f");
  const std::string big(kXattrValueBytesMax, 'v');
  using Mode = Engine::XattrMode;
  const auto set = [&](const std::string& name, const std::string& value, Mode mode) {
    const auto done = fs()->SetXattr(kRootCaller, file, name, value, mode);
    return done.has_value() ? Errc{} : done.error().code();
  };
  EXPECT_EQ(set("user.a", big, Mode::kCreate), Errc{});
  EXPECT_EQ(set("user.a", "", Mode::kCreate), Errc::kExists);
  EXPECT_EQ(set("user.b", "", Mode::kReplace), Errc::kNoAttribute);
  EXPECT_EQ(set("user.b", "", Mode::kCreateOrReplace), Errc{});
  EXPECT_EQ(set("user.c", big + "x", Mode::kCreate), Errc::kTooBig);
  EXPECT_EQ(set(std::string(256, 'n'), "", Mode::kCreate), Errc::kNameTooLong);
  fs().Remount();
  EXPECT_EQ(fs()->GetXattr(file, "user.a").value(), big);
  EXPECT_EQ(fs()->GetXattr(file, "user.b").value(), "");
  EXPECT_TRUE(fs()->GetXattr(file, "user.z").error() == Errc::kNoAttribute);
  EXPECT_EQ(fs()->ListXattrs(file).value(), (std::vector<std::string>{"user.a", "user.b"}));
  EXPECT_TRUE(fs()->RemoveXattr(kRootCaller, file, "user.a").has_value());
  EXPECT_TRUE(fs()->RemoveXattr(kRootCaller, file, "user.a").error() == Errc::kNoAttribute);
}

TEST_F(Names, CookiesStayWhereTheyWereAndAreNotReused) {
  for (int index = 0; index < 300; ++index) fs().Create(fs().root(), "f" + std::to_string(index));
  std::vector<DirectoryEntry> seen;
  const auto collect = [&](const DirectoryEntry& entry) {
    seen.push_back(entry);
    return seen.size() < 100;
  };
  EXPECT_FALSE(fs()->ReadDirectory(fs().root(), 0, collect).value());
  const std::uint64_t middle = seen.back().cookie;
  EXPECT_GT(seen.front().cookie, 2U);
  for (const DirectoryEntry& entry : seen) {
    fs()->Remove(kRootCaller, fs().root(), entry.name, RemoveKind::kAny).value();
  }
  fs().Remount();
  fs().Create(fs().root(), "late");
  std::set<std::string> rest;
  std::uint64_t last = 0;
  fs()->ReadDirectory(fs().root(), middle,
                      [&](const DirectoryEntry& entry) {
                        EXPECT_GT(entry.cookie, last);
                        last = entry.cookie;
                        rest.insert(entry.name);
                        return true;
                      })
      .value();
  EXPECT_EQ(rest.size(), 201U);
  EXPECT_TRUE(rest.contains("late"));
}

TEST_F(Names, ChangeAttributeAndInodeNumbersNeverRepeatOverACrash) {
  const NodeId first = fs().Create(fs().root(), "a");
  const std::uint64_t change = fs()->GetAttributes(fs().root()).value().change;
  fs().Write(first, 0, "unstable");
  const std::uint64_t unstable = fs()->GetAttributes(first).value().change;
  fs().Kill();
  fs().Mount();
  const NodeId second = fs().Create(fs().root(), "b");
  EXPECT_GT(second.inode, first.inode);
  EXPECT_GT(fs()->GetAttributes(fs().root()).value().change, change);
  fs().Write(first, 0, "other");
  EXPECT_GT(fs()->GetAttributes(first).value().change, unstable);
}

// 100 000 with FILER_LONG; the time per operation is printed, not judged.
TEST(BigDirectory, EveryOperationStaysQuick) {
  const auto device = SimDevice::Create(TestEngine::DefaultOptions(2ULL << 30)).value();
  TestEngine fs(*device);
  fs.Format();
  fs.Mount();
  const int count = std::getenv("FILER_LONG") != nullptr ? 100'000 : 5'000;
  const auto now = [] { return SystemClock().MonotonicNs(); };
  std::int64_t start = now();
  for (int index = 0; index < count; ++index) fs.Create(fs.root(), std::to_string(index));
  const std::int64_t create_ns = (now() - start) / count;
  start = now();
  for (int index = 0; index < count; ++index) {
    ASSERT_TRUE(fs->Lookup(fs.root(), std::to_string(index)).has_value());
  }
  const std::int64_t lookup_ns = (now() - start) / count;
  start = now();
  EXPECT_EQ(fs.List(fs.root()).size(), static_cast<std::size_t>(count));
  const std::int64_t list_ns = (now() - start) / count;
  start = now();
  for (int index = 0; index < count; ++index) {
    ASSERT_TRUE(
        fs->Remove(kRootCaller, fs.root(), std::to_string(index), RemoveKind::kAny).has_value());
  }
  std::printf("%d entries, ns each: create %ld, lookup %ld, list %ld, remove %ld\n", count,
              create_ns, lookup_ns, list_ns, (now() - start) / count);
  fs.Unmount();
  fs.CheckIsSound();
}

TEST_F(Names, ADoorHearsWhatOthersChange) {
  std::vector<std::string> heard;
  const auto listen = [&](const std::string& who) {
    return [&heard, who](const Engine::Change& change) {
      heard.push_back(who + " " + std::to_string(change.node.inode) + "/" +
                      std::string(change.name));
    };
  };
  fs()->SetChangeListener(kDoorNfs, listen("nfs"));
  fs()->SetChangeListener(kDoorPosix, listen("posix"));
  const std::string root = std::to_string(kRootInode) + "/";
  SetDoor(kDoorPosix);
  const NodeId file = fs().Create(fs().root(), "f");
  fs().Write(file, 0, "x");
  const std::string id = std::to_string(file.inode) + "/";
  EXPECT_EQ(heard, (std::vector<std::string>{"nfs " + root + "f", "nfs " + id}));
  heard.clear();
  SetDoor(kDoorNfs);
  ASSERT_TRUE(
      fs()->Rename(kRootCaller, fs().root(), "f", fs().root(), "g", kRenameReplace).has_value());
  EXPECT_EQ(heard, (std::vector<std::string>{"posix " + root + "f", "posix " + root + "g",
                                             "posix " + id}));
  heard.clear();
  fs()->SetChangeListener(kDoorPosix, nullptr);
  SetDoor(0);
  ASSERT_TRUE(fs()->Remove(kRootCaller, fs().root(), "g", RemoveKind::kAny).has_value());
  EXPECT_EQ(heard, (std::vector<std::string>{"nfs " + root + "g", "nfs " + id}));
}

TEST_F(Names, HandlesAreBoundToVolumeAndKey) {
  const auto created = fs().TryCreate(fs().root(), "f").value();
  auto handle = fs()->EncodeHandle(created.node, 17);
  const auto decoded = fs()->DecodeHandle(handle).value();
  EXPECT_EQ(decoded.node, created.node.id);
  EXPECT_EQ(decoded.generation, created.node.generation);
  EXPECT_EQ(decoded.export_id, 17);
  for (std::size_t at = 0; at < handle.size(); ++at) {
    auto forged = handle;
    forged[at] ^= 1;
    EXPECT_TRUE(fs()->DecodeHandle(forged).error() == Errc::kBadHandle) << at;
  }
  EXPECT_TRUE(fs()->DecodeHandle({handle.data(), 47}).error() == Errc::kBadHandle);
  fs().Remount();
  EXPECT_TRUE(fs()->DecodeHandle(handle).has_value());
}

TEST_F(Names, ReadOnlyMountRefusesChanges) {
  const NodeId file = fs().Create(fs().root(), "f");
  fs().Write(file, 0, "text", Stability::kFileSync);
  fs().Unmount();
  fs().mount_options.read_only = true;
  fs().Mount();
  EXPECT_EQ(fs().Read(file, 0, 10), "text");
  EXPECT_TRUE(fs().TryCreate(fs().root(), "g").error() == Errc::kReadOnly);
  EXPECT_TRUE(fs().TryWrite(file, 0, "x").error() == Errc::kReadOnly);
}

}  // namespace
}  // namespace filer::engine
