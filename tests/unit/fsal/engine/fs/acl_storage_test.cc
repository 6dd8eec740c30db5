// Lists on a volume: set and read back, kept with the mode, inherited, stored once, counted.
#include <map>

#include "fsal/engine/fs/acl.h"
#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kRead = kAceReadData, kWrite = kAceWriteData | kAceAppendData;
constexpr std::uint32_t kAll = kRead | kWrite | kAceExecute;
constexpr std::string_view kAccess = "system.posix_acl_access";
constexpr std::string_view kDefault = "system.posix_acl_default";

Acl Nfs4For(std::uint32_t uid, std::uint32_t flags = 0) {
  Acl acl;
  acl.kind = AclKind::kNfs4;
  acl.aces = {{AceType::kDeny, AceWho::kNamedUser, flags, kWrite, uid},
              {AceType::kAllow, AceWho::kOwner, flags, kAll, 0},
              {AceType::kAllow, AceWho::kEveryone, flags, kRead | kWrite, 0}};
  return acl;
}
std::vector<PosixAce> EntriesFor(std::uint32_t uid, std::uint16_t permissions = 7) {
  return {{PosixTag::kOwner, 7, 0},
          {PosixTag::kNamedUser, permissions, uid},
          {PosixTag::kGroup, 5, 0},
          {PosixTag::kMask, 7, 0},
          {PosixTag::kOther, 4, 0}};
}

class AclTest : public EngineTest {
 protected:
  void SetAcl(NodeId node, const Acl& acl) {
    AttributeChange change;
    change.acl = acl;
    fs()->SetAttributes(kRootCaller, node, change).value();
  }
  void Chmod(NodeId node, std::uint32_t mode) {
    AttributeChange change;
    change.mode = mode;
    fs()->SetAttributes(kRootCaller, node, change).value();
  }
  Result<void> TrySetPosix(NodeId node, std::string_view name, const std::vector<PosixAce>& entries,
                           const Caller& caller = kRootCaller) {
    return fs()->SetXattr(caller, node, name, EncodePosixXattr(entries),
                          Engine::XattrMode::kCreateOrReplace);
  }
  std::vector<PosixAce> Posix(NodeId node, std::string_view name) {
    return DecodePosixXattr(fs()->GetXattr(node, name).value()).value();
  }
  std::uint32_t Mode(NodeId node) { return fs()->GetAttributes(node).value().mode; }
  AclKind Kind(NodeId node) { return fs()->GetAttributes(node).value().acl; }
  bool May(std::uint32_t uid, NodeId node, std::uint32_t mask) {
    return fs()->Access({uid, uid, {}}, node, mask).has_value();
  }
  // How many inodes have each list, as stored; checks the volume, too.
  std::vector<std::uint64_t> References() {
    fs().Unmount();
    fs().CheckIsSound();
    std::vector<std::uint64_t> counts;
    {
      const auto store = Store::Open(*device_, SystemClock(), true).value();
      EXPECT_TRUE(store
                      ->Scan(StartOfLetter('A'), EndOfLetter('A'),
                             [&](std::string_view, std::string_view value) {
                               counts.push_back(DecodeAcl(value).value().references);
                               return true;
                             })
                      .has_value());
    }
    fs().Mount();
    std::sort(counts.begin(), counts.end());
    return counts;
  }
  using Counts = std::vector<std::uint64_t>;
};

TEST_F(AclTest, AnNfs4ListIsKeptAsGiven) {
  const NodeId file = fs().Create(fs().root(), "file", NodeKind::kFile, 04600);
  EXPECT_EQ(fs()->GetAcl(file).value().kind, AclKind::kNone);
  const Acl acl = Nfs4For(7);
  const std::uint64_t change_before = fs()->GetAttributes(file).value().change;
  SetAcl(file, acl);
  EXPECT_EQ(fs()->GetAcl(file).value(), acl);
  EXPECT_EQ(Kind(file), AclKind::kNfs4);
  EXPECT_EQ(Mode(file), 04766U);
  EXPECT_GT(fs()->GetAttributes(file).value().change, change_before);
  EXPECT_FALSE(May(7, file, kWrite));
  EXPECT_TRUE(May(8, file, kWrite));
  fs().Remount();
  EXPECT_EQ(fs()->GetAcl(file).value(), acl);
  EXPECT_FALSE(May(7, file, kWrite));
  SetAcl(file, Acl{});
  EXPECT_EQ(Kind(file), AclKind::kNone);
  EXPECT_EQ(Mode(file), 04766U);
  EXPECT_TRUE(May(7, file, kWrite));
}

TEST_F(AclTest, APosixListIsAnAttributeWithTwoHalves) {
  const NodeId directory = fs().Directory(fs().root(), "dir");
  EXPECT_TRUE(fs()->GetXattr(directory, kAccess).error() == Errc::kNoAttribute);
  TrySetPosix(directory, kDefault, EntriesFor(5)).value();
  EXPECT_EQ(Mode(directory), 0755U);
  TrySetPosix(directory, kAccess, EntriesFor(6)).value();
  EXPECT_EQ(Mode(directory), 0774U);
  EXPECT_EQ(Posix(directory, kAccess), EntriesFor(6));
  EXPECT_EQ(Posix(directory, kDefault), EntriesFor(5));
  EXPECT_EQ(fs()->ListXattrs(directory).value().size(), 2U);
  EXPECT_TRUE(May(6, directory, kWrite));
  EXPECT_FALSE(May(5, directory, kWrite));
  fs()->RemoveXattr(kRootCaller, directory, kAccess).value();
  EXPECT_EQ(Mode(directory), 0774U);
  EXPECT_FALSE(May(6, directory, kWrite));
  EXPECT_EQ(Posix(directory, kDefault), EntriesFor(5));
  EXPECT_TRUE(fs()->RemoveXattr(kRootCaller, directory, kAccess).error() == Errc::kNoAttribute);
  fs()->SetXattr(kRootCaller, directory, kDefault, std::string("\2\0\0\0", 4),
                 Engine::XattrMode::kReplace)
      .value();
  EXPECT_EQ(Kind(directory), AclKind::kNone);
  EXPECT_TRUE(fs()->ListXattrs(directory).value().empty());
}

TEST_F(AclTest, WhatCannotBeIsRefusedAndChangesNothing) {
  const NodeId file = fs().Create(fs().root(), "file");
  EXPECT_TRUE(TrySetPosix(file, kDefault, EntriesFor(5)).error() == Errc::kAccessDenied);
  EXPECT_TRUE(TrySetPosix(file, kAccess, EntriesFor(5), {5, 5, {}}).error() == Errc::kNotPermitted);
  EXPECT_TRUE(TrySetPosix(file, kAccess, {{PosixTag::kOwner, 7, 0}}).error() ==
              Errc::kInvalidArgument);
  const NodeId link = fs().Create(fs().root(), "link", NodeKind::kSymlink, 0777);
  EXPECT_TRUE(TrySetPosix(link, kAccess, EntriesFor(5)).error() == Errc::kNotSupported);
  EXPECT_EQ(Kind(file), AclKind::kNone);
  EXPECT_EQ(Mode(file), 0644U);
  const auto set = [&](Engine::XattrMode mode) {
    return fs()->SetXattr(kRootCaller, file, kAccess, EncodePosixXattr(EntriesFor(5)), mode);
  };
  EXPECT_TRUE(set(Engine::XattrMode::kReplace).error() == Errc::kNoAttribute);
  set(Engine::XattrMode::kCreate).value();
  EXPECT_TRUE(set(Engine::XattrMode::kCreate).error() == Errc::kExists);
}

TEST_F(AclTest, AnInodeHasOneKindAtATime) {
  const NodeId directory = fs().Directory(fs().root(), "dir");
  TrySetPosix(directory, kDefault, EntriesFor(5)).value();
  SetAcl(directory, Nfs4For(5));
  EXPECT_TRUE(fs()->GetXattr(directory, kDefault).error() == Errc::kNoAttribute);
  TrySetPosix(directory, kAccess, EntriesFor(6)).value();
  EXPECT_EQ(Kind(directory), AclKind::kPosix);
  EXPECT_TRUE(fs()->GetAcl(directory).value().aces.empty());
  EXPECT_EQ(References(), Counts{1});
}

TEST_F(AclTest, ChmodKeepsListAndModeTogether) {
  const NodeId posix = fs().Create(fs().root(), "posix");
  TrySetPosix(posix, kAccess, EntriesFor(5)).value();
  Chmod(posix, 0640);
  EXPECT_EQ(Posix(posix, kAccess)[3].permissions, 4);  // the mask
  EXPECT_FALSE(May(5, posix, kWrite));
  EXPECT_TRUE(May(5, posix, kRead));
  const NodeId nfs4 = fs().Create(fs().root(), "nfs4");
  SetAcl(nfs4, Nfs4For(7));
  Chmod(nfs4, 0604);
  EXPECT_EQ(Mode(nfs4), 0604U);
  EXPECT_FALSE(May(8, nfs4, kWrite));
  EXPECT_EQ(fs()->GetAcl(nfs4).value(), WithMode(Nfs4For(7), 0604));
  // Together with a size.
  AttributeChange both;
  both.size_bytes = 10;
  both.mode = 0606;
  EXPECT_EQ(fs()->SetAttributes(kRootCaller, nfs4, both).value().size_bytes, 10U);
  EXPECT_EQ(fs()->GetAcl(nfs4).value(), WithMode(WithMode(Nfs4For(7), 0604), 0606));
  // A mode set with a list is only the list's frame.
  AttributeChange list;
  list.mode = 01000;
  list.acl = Nfs4For(9);
  EXPECT_EQ(fs()->SetAttributes(kRootCaller, nfs4, list).value().mode, 01766U);
}

TEST_F(AclTest, RightsToChangeComeFromTheList) {
  const NodeId file = fs().Create(fs().root(), "file");
  const Caller helper{7, 7, {}};
  AttributeChange chmod, times, take;
  chmod.mode = 0600;
  times.mtime_ns = 5;
  take.uid = 7;
  const auto is_refused = [&](const AttributeChange& change) {
    return !fs()->SetAttributes(helper, file, change).has_value();
  };
  EXPECT_TRUE(is_refused(chmod) && is_refused(times) && is_refused(take));
  Acl acl = Nfs4For(8);
  acl.aces.push_back({AceType::kAllow, AceWho::kNamedUser, 0,
                      kAceWriteAcl | kAceWriteAttributes | kAceWriteOwner, 7});
  SetAcl(file, acl);
  EXPECT_FALSE(is_refused(times));
  EXPECT_FALSE(is_refused(chmod));
  AttributeChange give;
  give.uid = 9;
  EXPECT_TRUE(is_refused(give));
  EXPECT_FALSE(is_refused(take));
  EXPECT_EQ(fs()->GetAttributes(file).value().uid, 7U);
  // user.* attributes go with writing.
  const auto set = [&](std::uint32_t uid) {
    return fs()->SetXattr({uid, uid, {}}, file, "user.a", "v", Engine::XattrMode::kCreateOrReplace);
  };
  EXPECT_TRUE(set(5).error() == Errc::kNotPermitted);
  TrySetPosix(file, kAccess, EntriesFor(5)).value();
  EXPECT_TRUE(set(5).has_value());
}

TEST_F(AclTest, NewNodesInherit) {
  const NodeId posix = fs().Directory(fs().root(), "posix");
  TrySetPosix(posix, kDefault, EntriesFor(5, 6)).value();
  CreateOptions options;
  options.attributes.mode = 0666;
  options.umask = 077;
  const NodeId file = fs()->Create(kRootCaller, posix, "file", options).value().node.id;
  EXPECT_EQ(Mode(file), 0664U);
  EXPECT_TRUE(May(5, file, kWrite));
  const NodeId below = fs().Directory(posix, "below");
  EXPECT_EQ(Posix(below, kDefault), EntriesFor(5, 6));
  EXPECT_EQ(fs().TryCreate(posix, "link", NodeKind::kSymlink, 0777).value().node.acl,
            AclKind::kNone);
  EXPECT_EQ(fs()->Create(kRootCaller, fs().root(), "plain", options).value().node.mode, 0600U);

  const NodeId nfs4 = fs().Directory(fs().root(), "nfs4");
  SetAcl(nfs4, Nfs4For(7, kAceFileInherit | kAceDirectoryInherit));
  const NodeId child = fs().Directory(nfs4, "child");  // asks for 0755
  EXPECT_EQ(Mode(child), 0755U);
  options.attributes.mode = 0606;
  const auto made = fs()->Create(kRootCaller, child, "file", options).value().node;
  EXPECT_EQ(made.acl, AclKind::kNfs4);
  EXPECT_EQ(made.mode, 0606U);
  EXPECT_FALSE(May(7, made.id, kWrite));
  EXPECT_TRUE(May(8, made.id, kWrite));
  options.attributes.acl = Nfs4For(8);  // given: nothing is inherited
  const auto given = fs()->Create(kRootCaller, child, "given", options).value().node;
  EXPECT_EQ(fs()->GetAcl(given.id).value(), Nfs4For(8));
  EXPECT_EQ(given.mode, 0766U);
}

TEST_F(AclTest, EachListIsStoredOnceAndCounted) {
  std::vector<NodeId> files;
  for (int index = 0; index < 5; ++index) {
    files.push_back(fs().Create(fs().root(), std::to_string(index)));
    SetAcl(files.back(), Nfs4For(7));
  }
  EXPECT_EQ(References(), Counts{5});
  SetAcl(files[0], Nfs4For(7));  // the same again
  EXPECT_EQ(References(), Counts{5});
  SetAcl(files[0], Nfs4For(8));
  EXPECT_EQ(References(), (Counts{1, 4}));
  TrySetPosix(files[1], kAccess, EntriesFor(5)).value();
  EXPECT_EQ(References(), (Counts{1, 1, 3}));
  Chmod(files[2], 0);
  Chmod(files[3], 0);
  EXPECT_EQ(References(), (Counts{1, 1, 1, 2}));
  fs()->Link(kRootCaller, files[4], fs().root(), "second").value();
  fs()->Remove(kRootCaller, fs().root(), "4", RemoveKind::kAny).value();
  EXPECT_EQ(References(), (Counts{1, 1, 1, 2}));
  fs()->Remove(kRootCaller, fs().root(), "second", RemoveKind::kAny).value();
  fs()->Remove(kRootCaller, fs().root(), "3", RemoveKind::kAny).value();
  EXPECT_EQ(References(), (Counts{1, 1, 1}));
  fs()->Rename(kRootCaller, fs().root(), "0", fs().root(), "1", kRenameReplace).value();
  EXPECT_EQ(References(), (Counts{1, 1}));
  fs()->Hold(files[2]).value();
  fs()->Remove(kRootCaller, fs().root(), "2", RemoveKind::kAny).value();
  EXPECT_FALSE(May(5, files[2], kRead));  // still there, with its list
  EXPECT_EQ(Kind(files[2]), AclKind::kNfs4);
  fs()->Release(files[2]);
  SetAcl(files[0], Acl{});
  EXPECT_EQ(References(), Counts{});
}

TEST_F(AclTest, AnOrphansListGoesWithIt) {
  const NodeId file = fs().Create(fs().root(), "file");
  SetAcl(file, Nfs4For(7));
  fs()->Hold(file).value();
  fs()->Remove(kRootCaller, fs().root(), "file", RemoveKind::kAny).value();
  fs().Kill();
  fs().Mount();
  EXPECT_EQ(References(), Counts{});
}

// What check must find. A change behind the file system's back, then the findings.
TEST_F(AclTest, CheckHoldsListsAgainstInodes) {
  const NodeId file = fs().Create(fs().root(), "file");
  SetAcl(file, Nfs4For(7));
  fs().Unmount();
  const auto after = [&](const std::function<void(std::string, AclRecord, Transaction&)>& damage) {
    const auto device =
        SimDevice::Create(TestEngine::DefaultOptions(), device_->CurrentImage()).value();
    {
      const auto store = Store::Open(*device, SystemClock(), false).value();
      std::string key;
      AclRecord record;
      static_cast<void>(store->Scan(StartOfLetter('A'), EndOfLetter('A'),
                                    [&](std::string_view at, std::string_view value) {
                                      key = at;
                                      record = DecodeAcl(value).value();
                                      return true;
                                    }));
      Transaction transaction;
      damage(key, record, transaction);
      EXPECT_TRUE(store->Sync(store->Commit(std::move(transaction)).value()).has_value());
      EXPECT_TRUE(store->Close().has_value());
    }
    return FindingsText(Engine::Check(*device, false).value());
  };
  const auto says = [](const std::string& findings, const char* what) {
    return findings.find(what) != std::string::npos;
  };
  EXPECT_TRUE(says(after([](const std::string& key, AclRecord record, Transaction& transaction) {
                     ++record.references;
                     transaction.Put(key, EncodeAcl(record));
                   }),
                   "1 inodes have an ACL, recorded are 2"));
  EXPECT_TRUE(says(after([](const std::string& key, AclRecord, Transaction& transaction) {
                     transaction.Erase(key);
                   }),
                   "the ACL of an inode is missing (inode 16, /file)"));
  EXPECT_TRUE(says(after([](const std::string& key, AclRecord, Transaction& transaction) {
                     transaction.Put(key, "x");
                   }),
                   "an ACL does not decode"));
  const std::string other =
      after([](const std::string& key, AclRecord record, Transaction& transaction) {
        record.acl.aces.clear();
        transaction.Put(key, EncodeAcl(record));
      });
  EXPECT_TRUE(says(other, "filed under a wrong hash"));
  EXPECT_TRUE(says(other, "mode and ACL do not say the same"));
  EXPECT_TRUE(says(after([](const std::string&, AclRecord, Transaction& transaction) {
                     transaction.Put("Ashort", "");
                   }),
                   "a key is malformed (letter A"));
  fs().Mount();
}

// A list that is damaged grants nothing, and does not keep its file from being removed.
TEST_F(AclTest, ADamagedListIsAnErrorNotAGrant) {
  const NodeId file = fs().Create(fs().root(), "file", NodeKind::kFile, 0777);
  SetAcl(file, Nfs4For(7));
  fs().Unmount();
  {
    const auto store = Store::Open(*device_, SystemClock(), false).value();
    std::string key;
    static_cast<void>(store->Scan(StartOfLetter('A'), EndOfLetter('A'),
                                  [&](std::string_view at, std::string_view) {
                                    key = at;
                                    return true;
                                  }));
    Transaction transaction;
    transaction.Erase(key);
    EXPECT_TRUE(store->Sync(store->Commit(std::move(transaction)).value()).has_value());
    EXPECT_TRUE(store->Close().has_value());
  }
  fs().Mount();
  EXPECT_TRUE(fs()->Access({8, 8, {}}, file, kRead).error() == Errc::kCorrupt);
  EXPECT_TRUE(fs()->GetAcl(file).error() == Errc::kCorrupt);
  AttributeChange chmod;
  chmod.mode = 0600;
  EXPECT_FALSE(fs()->SetAttributes(kRootCaller, file, chmod).has_value());
  EXPECT_TRUE(fs()->Remove(kRootCaller, fs().root(), "file", RemoveKind::kAny).has_value());
}

}  // namespace
}  // namespace filer::engine
