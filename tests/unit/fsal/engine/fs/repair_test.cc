// Repair of what was changed behind the file system's back, one kind of damage after the other:
// then check has nothing to say, and what was not damaged is as it was.
#include "fsal/engine/filesets.h"
#include "tests/unit/fsal/engine/fs/damage_tools.h"
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

std::string Text(const std::vector<CheckFinding>& findings) {
  CheckReport report;
  report.findings = findings;
  return FindingsText(report);
}

class RepairTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = SimDevice::Create(TestEngine::DefaultOptions()).value();
    TestEngine fs(*device_);
    fs.Format();
    fs.Mount();
    directory_ = fs.Directory(fs.root(), "dir");
    sub_ = fs.Directory(directory_, "sub");
    deep_ = fs.Create(sub_, "deep");
    fs.Write(deep_, 0, "deep content", Stability::kFileSync);
    file_ = fs.Create(directory_, "file");
    fs.Write(file_, 0, content_, Stability::kFileSync);
    other_ = fs.Create(fs.root(), "other");
    fs.Write(other_, 0, std::string(5000, 'y'), Stability::kFileSync);
    fs->Link(kRootCaller, file_, fs.root(), "second").value();
    fs->SetXattr(kRootCaller, file_, "user.a", "v", Engine::XattrMode::kCreate).value();
    fs.Unmount();
  }
  using Damage = std::function<void(const Store&, Transaction&)>;
  void Change(const Damage& damage) {
    const auto store = Store::Open(*device_, SystemClock(), false).value();
    Transaction transaction;
    damage(*store, transaction);
    ASSERT_TRUE(store->Sync(store->Commit(std::move(transaction)).value()).has_value());
    ASSERT_TRUE(store->Close().has_value());
  }
  static InodeRecord RecordOf(const Store& store, NodeId id) {
    return DecodeInode(store.Get(InodeKey(id.inode)).value()).value();
  }
  void ChangeRecord(NodeId id, const std::function<void(InodeRecord&)>& change) {
    Change([&](const Store& store, Transaction& transaction) {
      InodeRecord record = RecordOf(store, id);
      change(record);
      transaction.Put(InodeKey(id.inode), EncodeInode(record));
    });
  }
  static std::vector<std::pair<std::string, std::string>> Pairs(const Store& store, char letter) {
    std::vector<std::pair<std::string, std::string>> pairs;
    EXPECT_TRUE(store
                    .Scan(StartOfLetter(letter), EndOfLetter(letter),
                          [&](std::string_view key, std::string_view value) {
                            pairs.emplace_back(key, value);
                            return true;
                          })
                    .has_value());
    return pairs;
  }
  // Check complains, a dry run changes nothing and says the same, then check is content.
  RepairReport Repair() {
    EXPECT_NE(FindingsText(Engine::Check(*device_, true).value()), "");
    const SimImage before = device_->CurrentImage();
    RepairOptions options;
    options.is_dry_run = true;
    const auto dry = Engine::Repair(*device_, options);
    EXPECT_TRUE(dry.has_value()) << dry.error().message();
    EXPECT_TRUE(device_->CurrentImage().SameContents(before));
    EXPECT_FALSE(dry.value().was_written);
    auto report = Engine::Repair(*device_, {});
    EXPECT_TRUE(report.has_value()) << report.error().message();
    EXPECT_EQ(Text(report.value().mended), Text(dry.value().mended));
    EXPECT_EQ(Text(report.value().damaged), Text(dry.value().damaged));
    EXPECT_TRUE(report.value().was_written);
    EXPECT_EQ(FindingsText(Engine::Check(*device_, true).value()), "");
    const auto again = Engine::Repair(*device_, {});
    EXPECT_EQ(Text(again.value().mended), "");
    EXPECT_FALSE(again.value().was_written);
    return std::move(report).value();
  }
  // `path` from the root holds `content`.
  void ExpectContent(const std::string& path, const std::string& content) {
    TestEngine fs(*device_);
    fs.Mount();
    NodeId at = fs.root();
    for (std::size_t first = 1; first < path.size();) {
      const auto end = std::min(path.find('/', first), path.size());
      const auto found = fs->Lookup(at, path.substr(first, end - first));
      ASSERT_TRUE(found.has_value()) << path;
      at = found.value().id;
      first = end + 1;
    }
    EXPECT_TRUE(fs.Read(at, 0, content.size() + 1) == content) << path;
    fs.Unmount();
  }
  void ExpectAll() {
    ExpectContent("/dir/file", content_);
    ExpectContent("/second", content_);
    ExpectContent("/dir/sub/deep", "deep content");
    ExpectContent("/other", std::string(5000, 'y'));
  }

  const std::string content_ = std::string(100'000, 'x');
  std::unique_ptr<SimDevice> device_;
  NodeId directory_, sub_, deep_, file_, other_;
};

TEST_F(RepairTest, ASoundVolumeIsLeftAlone) {
  const SimImage before = device_->CurrentImage();
  const auto report = Engine::Repair(*device_, {}).value();
  EXPECT_EQ(Text(report.mended) + Text(report.damaged), "");
  EXPECT_FALSE(report.was_written);
  EXPECT_EQ(report.inodes, 6U);
  EXPECT_EQ(report.bytes_verified, (1 + 25 + 2) * kBlockBytes);
  EXPECT_TRUE(device_->CurrentImage().SameContents(before));
}

TEST_F(RepairTest, ALogThatWasNotReplayedIsKept) {
  TestEngine fs(*device_);
  fs.Mount();
  const auto late = fs.Create(fs.root(), "late");
  fs.Write(late, 0, "late content", Stability::kFileSync);
  fs.Kill();
  EXPECT_FALSE(Engine::Repair(*device_, {}).value().was_written);
  ChangeRecord(other_, [](InodeRecord& record) { ++record.links; });
  Repair();
  ExpectContent("/late", "late content");
  ExpectAll();
}

TEST_F(RepairTest, CountsOfInodes) {
  ChangeRecord(file_, [](InodeRecord& record) { ++record.links; });
  EXPECT_NE(Text(Repair().mended).find("links 2 instead of 3 (inode"), std::string::npos);
  ChangeRecord(file_, [](InodeRecord& record) { ++record.blocks; });
  EXPECT_EQ(Text(Repair().damaged), "");
  ChangeRecord(directory_, [](InodeRecord& record) { record.entries = 9; });
  EXPECT_NE(Text(Repair().mended).find("/dir)"), std::string::npos);
  ChangeRecord(directory_, [](InodeRecord& record) { record.links = 7; });
  Repair();
  ChangeRecord(directory_, [](InodeRecord& record) { record.parent = 77; });
  Repair();
  ChangeRecord(directory_, [](InodeRecord& record) { record.next_cookie = 3; });
  EXPECT_EQ(Text(Repair().damaged), "");
  ExpectAll();
}

TEST_F(RepairTest, NameIndexFromEntries) {
  Change([](const Store& store, Transaction& transaction) {
    for (const auto& [key, value] : Pairs(store, 'N')) transaction.Erase(key);
  });
  EXPECT_EQ(Text(Repair().damaged), "");
  ExpectAll();
}

TEST_F(RepairTest, NameIndexThatLies) {
  Change([](const Store& store, Transaction& transaction) {
    for (auto& [key, value] : Pairs(store, 'N')) {
      transaction.Erase(key);
      key[12] = static_cast<char>(key[12] ^ 1);  // of the hash
      transaction.Put(key, value);
    }
    transaction.Put(NameKey(kRootInode, 5, 0), EncodeName({99, {17, NodeKind::kFile, "ghost"}}));
    transaction.Put(NameKey(kRootInode, 6, 0), "nonsense");
  });
  EXPECT_EQ(Text(Repair().damaged), "");
  ExpectAll();
}

TEST_F(RepairTest, EntriesFromNameIndex) {
  Change([](const Store& store, Transaction& transaction) {
    for (const auto& [key, value] : Pairs(store, 'D')) transaction.Erase(key);
  });
  EXPECT_EQ(Text(Repair().damaged), "");
  ExpectAll();
}

TEST_F(RepairTest, ListOfNames) {
  Change([&](const Store& store, Transaction& transaction) {
    for (const auto& [key, value] : Pairs(store, 'P')) transaction.Erase(key);
    transaction.Put(ParentKey(other_.inode, 5, 5), "");
  });
  EXPECT_EQ(Text(Repair().damaged), "");
  ExpectAll();
}

TEST_F(RepairTest, EntryOfAnotherKindOrOfNothing) {
  Change([&](const Store& store, Transaction& transaction) {
    for (const auto& [key, value] : Pairs(store, 'D')) {
      auto entry = DecodeEntry(value).value();
      if (entry.name == "other") entry.kind = NodeKind::kSymlink;
      transaction.Put(key, EncodeEntry(entry));
    }
    const auto cookie = RecordOf(store, directory_).next_cookie;
    transaction.Put(EntryKey(directory_.inode, cookie),
                    EncodeEntry({4711, NodeKind::kFile, "nothing"}));
    transaction.Put(EntryKey(directory_.inode, cookie + 1), "nonsense");
    transaction.Put(EntryKey(file_.inode, cookie),
                    EncodeEntry({other_.inode, NodeKind::kFile, "x"}));
  });
  EXPECT_NE(Text(Repair().damaged).find("/dir/nothing"), std::string::npos);
  ExpectAll();
}

TEST_F(RepairTest, OneNameTwice) {
  Change([&](const Store& store, Transaction& transaction) {
    const auto cookie = RecordOf(store, directory_).next_cookie;
    transaction.Put(EntryKey(directory_.inode, cookie),
                    EncodeEntry({other_.inode, NodeKind::kFile, "file"}));
  });
  EXPECT_NE(Text(Repair().damaged).find("its name was there twice"), std::string::npos);
  ExpectAll();
  ExpectContent("/dir/file~", std::string(5000, 'y'));
}

TEST_F(RepairTest, ALostInodeRecordOfAFile) {
  Change([&](const Store&, Transaction& transaction) { transaction.Erase(InodeKey(deep_.inode)); });
  const auto report = Repair();
  EXPECT_NE(Text(report.damaged).find("/dir/sub/deep"), std::string::npos) << Text(report.damaged);
  std::string block = "deep content";
  block.resize(kBlockBytes);
  ExpectContent("/dir/sub/deep", block);
}

TEST_F(RepairTest, ALostInodeRecordOfADirectory) {
  Change([&](const Store&, Transaction& transaction) { transaction.Erase(InodeKey(sub_.inode)); });
  EXPECT_NE(Text(Repair().damaged).find("/dir/sub)"), std::string::npos);
  ExpectAll();
}

TEST_F(RepairTest, ALostRoot) {
  Change([&](const Store&, Transaction& transaction) {
    transaction.Erase(InodeKey(kRootInode));
    transaction.Erase(CounterKey(kInodeCounter));
  });
  Repair();
  ExpectAll();
}

TEST_F(RepairTest, WhatNothingLeadsToGoesToLostAndFound) {
  Change([&](const Store& store, Transaction& transaction) {
    for (const char letter : {'D', 'N'}) {
      for (const auto& [key, value] : Pairs(store, letter)) {
        const auto name =
            letter == 'D' ? DecodeEntry(value).value().name : DecodeName(value).value().entry.name;
        if (name == "dir" || name == "other") transaction.Erase(key);
      }
    }
  });
  const auto report = Repair();
  const std::string found = "/lost+found/inode-";
  EXPECT_NE(Text(report.damaged).find(found), std::string::npos);
  ExpectContent(found + std::to_string(directory_.inode) + "/sub/deep", "deep content");
  ExpectContent(found + std::to_string(other_.inode), std::string(5000, 'y'));
  ExpectContent("/second", content_);
}

TEST_F(RepairTest, ARingOfDirectories) {
  Change([&](const Store& store, Transaction& transaction) {
    // sub holds dir, and nothing else does.
    for (const char letter : {'D', 'N'}) {
      for (const auto& [key, value] : Pairs(store, letter)) {
        const auto entry =
            letter == 'D' ? DecodeEntry(value).value() : DecodeName(value).value().entry;
        if (entry.child == directory_.inode) transaction.Erase(key);
      }
    }
    InodeRecord record = RecordOf(store, sub_);
    transaction.Put(EntryKey(sub_.inode, record.next_cookie),
                    EncodeEntry({directory_.inode, NodeKind::kDirectory, "dir"}));
    InodeRecord ring = RecordOf(store, directory_);
    ring.parent = sub_.inode;
    ring.parent_cookie = record.next_cookie;
    transaction.Put(InodeKey(directory_.inode), EncodeInode(ring));
  });
  Repair();
  ExpectContent("/second", content_);
}

TEST_F(RepairTest, ADirectoryInTwoPlaces) {
  Change([&](const Store& store, Transaction& transaction) {
    transaction.Put(EntryKey(kRootInode, RecordOf(store, {1, 0, kRootInode}).next_cookie),
                    EncodeEntry({sub_.inode, NodeKind::kDirectory, "again"}));
  });
  EXPECT_EQ(Text(Repair().damaged), "");
  ExpectAll();
}

TEST_F(RepairTest, OrphanMarks) {
  Change([&](const Store& store, Transaction& transaction) {
    transaction.Put(OrphanKey(other_.inode), "");
    transaction.Put(OrphanKey(4711), "");
    transaction.Put(TruncateKey(4711), "");
    InodeRecord dead = RecordOf(store, deep_);
    dead.links = 0;
    dead.blocks = 0;
    transaction.Put(InodeKey(4000), EncodeInode(dead));
    transaction.CountFiles(1);
  });
  EXPECT_EQ(Text(Repair().damaged), "");
  ExpectAll();
  EXPECT_EQ(Engine::Check(*device_, true).value().inodes, 6U) << "the mount freed it";
}

TEST_F(RepairTest, ExtentsOutsideOverlappingOrUndecodable) {
  Change([&](const Store& store, Transaction& transaction) {
    const auto [key, value] = Pairs(store, 'E').front();
    Extent extent = DecodeExtent(key, value).value();
    // other claims deep's block: whose content is there, keeps it.
    extent.file_block = 0;
    transaction.Put(ExtentKey(other_.inode, 0), EncodeExtent(extent));
  });
  auto report = Repair();
  EXPECT_NE((Text(report.damaged).find("/other") == std::string::npos),
            (Text(report.damaged).find("/dir/sub/deep") == std::string::npos))
      << "one of the two";
  Change([&](const Store& store, Transaction& transaction) {
    const std::string key = ExtentKey(file_.inode, 0);
    Extent extent = DecodeExtent(key, store.Get(key).value()).value();
    extent.physical = store.Geometry().data_first_block + store.Geometry().data_block_count - 1;
    transaction.Put(key, EncodeExtent(extent));
  });
  report = Repair();
  EXPECT_NE(Text(report.damaged).find("outside of the data area"), std::string::npos);
  Change([&](const Store&, Transaction& transaction) {
    transaction.Put(ExtentKey(deep_.inode, 3), "nonsense");
  });
  EXPECT_NE(Text(Repair().damaged).find("did not decode"), std::string::npos);
}

TEST_F(RepairTest, OfTwoThatClaimABlockTheOneWhoseDataIsThereKeepsIt) {
  Change([&](const Store& store, Transaction& transaction) {
    const std::string key = ExtentKey(file_.inode, 0);
    const Extent mine = DecodeExtent(key, store.Get(key).value()).value();
    const std::string others = ExtentKey(other_.inode, 0);
    Extent wrong = DecodeExtent(others, store.Get(others).value()).value();
    wrong.physical = mine.physical + 1;
    transaction.Put(others, EncodeExtent(wrong));
  });
  const auto report = Repair();
  EXPECT_NE(Text(report.damaged).find("/other"), std::string::npos);
  EXPECT_EQ(report.damaged.size(), 1U);
  ExpectContent("/dir/file", content_);
}

TEST_F(RepairTest, DataPastTheEndAndSpaceThatNobodyUses) {
  ChangeRecord(other_, [](InodeRecord& record) { record.size = 5; });
  Repair();
  Change([](const Store& store, Transaction& transaction) {
    const auto geometry = store.Geometry();
    transaction.Put(CounterKey("other"), EncodeCounter(1));
    transaction.Use({geometry.data_first_block + geometry.data_block_count - 3, 2});
    transaction.CountFiles(-1);
  });
  EXPECT_EQ(Text(Repair().damaged), "");
  ExpectContent("/dir/file", content_);
}

// Until repair knows more than one tree, it keeps its hands off.
TEST_F(RepairTest, AVolumeWithSnapshotsIsRefusedAndLeftAlone) {
  TestEngine fs(*device_);
  fs.Mount();
  ASSERT_TRUE(fs->AllFilesets().MakeSnapshot(kRootFileset, "one").has_value());
  fs.Unmount();
  const SimImage before = device_->CurrentImage();
  EXPECT_TRUE(Engine::Repair(*device_, {}).error() == Errc::kNotSupported);
  EXPECT_TRUE(device_->CurrentImage().SameContents(before));
}

TEST_F(RepairTest, KeysOfOthersStay) {
  Change([](const Store&, Transaction& transaction) {
    transaction.Put(CounterKey("something"), "of somebody else");
    transaction.Put("Xshort", "nonsense");
  });
  Repair();
  const auto store = Store::Open(*device_, SystemClock(), true).value();
  EXPECT_EQ(store->Get(CounterKey("something")).value(), "of somebody else");
}

// Damaged data stays where it is: reading it fails, which is better than zeroes.
TEST_F(RepairTest, DamagedDataIsListedAndStaysUnreadable) {
  std::string block(kBlockBytes, 'y');
  FlipBit(*device_, BlockWith(*device_, block));
  const auto report = Engine::Repair(*device_, {}).value();
  ASSERT_EQ(report.damaged.size(), 1U);
  EXPECT_EQ(report.damaged[0].path, "/other");
  EXPECT_EQ(Text(report.mended), "");
  EXPECT_FALSE(report.was_written);
  TestEngine fs(*device_);
  fs.Mount();
  EXPECT_TRUE(fs->Read(other_, 0, 100).error() == Errc::kCorrupt);
  fs.Unmount();
}

}  // namespace
}  // namespace filer::engine
