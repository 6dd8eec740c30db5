// The check finds what is wrong, says where, and takes any value.
#include <chrono>
#include <random>

#include "fsal/engine/fs/keys.h"
#include "fsal/engine/tree/store.h"
#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {
namespace {

class CheckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = SimDevice::Create(TestEngine::DefaultOptions()).value();
    TestEngine fs(*device_);
    fs.Format();
    fs.Mount();
    directory_ = fs.Directory(fs.root(), "dir");
    file_ = fs.Create(directory_, "file");
    fs.Write(file_, 0, std::string(100'000, 'x'), Stability::kFileSync);
    fs->Link(kRootCaller, file_, fs.root(), "second").value();
    fs->SetXattr(kRootCaller, file_, "user.a", "v", Engine::XattrMode::kCreate).value();
    fs.Unmount();
  }
  // Changes the store behind the file system's back; returns what check says.
  std::string After(const std::function<void(const Store&, Transaction&)>& damage) {
    const auto device =
        SimDevice::Create(TestEngine::DefaultOptions(), device_->CurrentImage()).value();
    {
      const auto store = Store::Open(*device, SystemClock(), false).value();
      Transaction transaction;
      damage(*store, transaction);
      EXPECT_TRUE(store->Sync(store->Commit(std::move(transaction)).value()).has_value());
      EXPECT_TRUE(store->Close().has_value());
    }
    const auto report = Engine::Check(*device, true);
    EXPECT_TRUE(report.has_value());
    return FindingsText(report.value());
  }
  std::string AfterRecord(std::uint64_t inode, const std::function<void(InodeRecord&)>& change) {
    return After([&](const Store& store, Transaction& transaction) {
      InodeRecord record = DecodeInode(store.Get(InodeKey(inode)).value()).value();
      change(record);
      transaction.Put(InodeKey(inode), EncodeInode(record));
    });
  }
  std::unique_ptr<SimDevice> device_;
  NodeId directory_, file_;
};

TEST_F(CheckTest, SoundVolumeHasNoFindings) {
  EXPECT_EQ(After([](const Store&, Transaction& transaction) {
              transaction.Put(CounterKey("other"), EncodeCounter(1));
            }),
            "");
}

TEST_F(CheckTest, FindsWhatTheMapOfUsedSpaceHasWrong) {
  const auto last = [](const Store& store) {
    const auto geometry = store.Geometry();
    return BlockRun{geometry.data_first_block + geometry.data_block_count - 3, 2};
  };
  EXPECT_NE(After([&](const Store& store, Transaction& transaction) {
              transaction.Put(CounterKey("other"), EncodeCounter(1));
              transaction.Use(last(store));
            }).find("2 blocks are marked as in use and are not"),
            std::string::npos);
  EXPECT_NE(After([&](const Store& store, Transaction& transaction) {
              transaction.Put(CounterKey("other"), EncodeCounter(1));
              store
                  .Scan(StartOfLetter('E'), EndOfLetter('E'),
                        [&](std::string_view key, std::string_view value) {
                          const auto extent = DecodeExtent(key, value).value();
                          transaction.Drop({extent.physical + 1, 1});
                          return false;
                        })
                  .value();
            }).find("a block is in use and not marked so"),
            std::string::npos);
  EXPECT_NE(After([&](const Store&, Transaction& transaction) {
              transaction.Put(CounterKey("other"), EncodeCounter(1));
              transaction.CountFiles(-1);
            }).find("recorded are 2"),
            std::string::npos);
}

// Two files that claim one block: the first may give it up, the second is refused.
TEST_F(CheckTest, ABlockIsNeverFreedTwice) {
  const auto device =
      SimDevice::Create(TestEngine::DefaultOptions(), device_->CurrentImage()).value();
  {
    const auto store = Store::Open(*device, SystemClock(), false).value();
    Transaction transaction;
    store
        ->Scan(StartOfLetter('E'), EndOfLetter('E'),
               [&](std::string_view key, std::string_view value) {
                 const auto extent = DecodeExtent(key, value).value();
                 transaction.Put(ExtentKey(file_.inode, 1000), std::string(value));
                 return extent.length == 0;
               })
        .value();
    ASSERT_TRUE(store->Sync(store->Commit(std::move(transaction)).value()).has_value());
    ASSERT_TRUE(store->Close().has_value());
  }
  auto engine = Engine::Mount(*device, SystemClock(), {}).value();
  AttributeChange empty;
  empty.size_bytes = 0;
  EXPECT_TRUE(engine->SetAttributes(kRootCaller, file_, empty).error() == Errc::kCorrupt);
  EXPECT_TRUE(engine->Health().has_value()) << "others go on";
  EXPECT_TRUE(engine->Create(kRootCaller, engine->Root(), "new", {}).has_value());
}

TEST_F(CheckTest, FindsWrongCounts) {
  EXPECT_NE(AfterRecord(file_.inode, [](InodeRecord& r) { ++r.links; }), "");
  EXPECT_NE(AfterRecord(file_.inode, [](InodeRecord& r) { ++r.blocks; }), "");
  EXPECT_NE(AfterRecord(file_.inode, [](InodeRecord& r) { r.size = 5; }), "");
  EXPECT_NE(AfterRecord(directory_.inode, [](InodeRecord& r) { ++r.entries; }), "");
  EXPECT_NE(AfterRecord(directory_.inode, [](InodeRecord& r) { ++r.links; }), "");
  EXPECT_NE(AfterRecord(directory_.inode, [](InodeRecord& r) { r.parent = 77; }), "");
  EXPECT_NE(AfterRecord(directory_.inode, [](InodeRecord& r) { r.next_cookie = 3; }), "");
  const std::string text = AfterRecord(directory_.inode, [](InodeRecord& r) { ++r.entries; });
  EXPECT_NE(text.find("/dir"), std::string::npos) << text;
}

TEST_F(CheckTest, FindsLostKeys) {
  for (const char letter : {'I', 'D', 'N', 'P', 'E', 'C'}) {
    const std::string text = After([&](const Store& store, Transaction& transaction) {
      std::string last;
      const auto scanned = store.Scan(StartOfLetter(letter), EndOfLetter(letter),
                                      [&](std::string_view key, std::string_view) {
                                        last = std::string(key);
                                        return true;
                                      });
      EXPECT_TRUE(scanned.has_value());
      transaction.Erase(last);
    });
    EXPECT_NE(text, "") << letter;
  }
}

TEST_F(CheckTest, FindsOverlapAndOutside) {
  const auto moved = [&](std::uint64_t physical) {
    return After([&](const Store& store, Transaction& transaction) {
      const std::string key = ExtentKey(file_.inode, 0);
      Extent extent = DecodeExtent(key, store.Get(key).value()).value();
      if (physical == 0) {
        extent.file_block = 100;
        extent.is_unwritten = true;
        extent.checksums.clear();
        transaction.Put(ExtentKey(file_.inode, 100), EncodeExtent(extent));
      } else {
        extent.physical = physical;
        transaction.Put(key, EncodeExtent(extent));
      }
    });
  };
  EXPECT_NE(moved(0).find("two extents"), std::string::npos);
  EXPECT_NE(moved(1).find("outside"), std::string::npos);
  EXPECT_NE(moved(UINT64_MAX - 100).find("outside"), std::string::npos);
}

TEST_F(CheckTest, FindsRings) {
  const std::string text = After([&](const Store&, Transaction& transaction) {
    // The directory becomes its own child, and its entry in the root goes.
    transaction.Put(EntryKey(directory_.inode, 99),
                    EncodeEntry({directory_.inode, NodeKind::kDirectory, "me"}));
  });
  EXPECT_NE(text, "");
}

// Each finding asks for a path, and in a ring there is none however long one looks.
TEST_F(CheckTest, ManyFindingsInARingOfLongNamesAreToldInTime) {
  const std::string name(kNameBytesMax, 'n');
  const auto start = std::chrono::steady_clock::now();
  const std::string text = After([&](const Store& store, Transaction& transaction) {
    const EntryValue itself{directory_.inode, NodeKind::kDirectory, name};
    for (std::uint64_t cookie = 0; cookie < 1000; ++cookie) {
      transaction.Put(EntryKey(directory_.inode, UINT64_MAX - cookie), EncodeEntry(itself));
    }
    const auto scanned = store.Scan(EntryKey(kRootInode, 0), EndOfInode('D', kRootInode),
                                    [&](std::string_view key, std::string_view) {
                                      transaction.Erase(std::string(key));
                                      return true;
                                    });
    EXPECT_TRUE(scanned.has_value());
  });
  EXPECT_NE(text.find("a cookie that was never issued"), std::string::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

// Random bytes in random values: check answers and mount does not crash.
TEST_F(CheckTest, TakesHostileValues) {
  std::mt19937 random(3);
  for (int round = 0; round < 60; ++round) {
    const auto device =
        SimDevice::Create(TestEngine::DefaultOptions(), device_->CurrentImage()).value();
    {
      const auto store = Store::Open(*device, SystemClock(), false).value();
      std::vector<std::pair<std::string, std::string>> all;
      const auto scanned = store->Scan("", "", [&](std::string_view key, std::string_view value) {
        all.emplace_back(key, value);
        return true;
      });
      ASSERT_TRUE(scanned.has_value());
      Transaction transaction;
      for (int damage = 0; damage < 3; ++damage) {
        auto [key, value] = all[random() % all.size()];
        if (random() % 3 == 0) {
          transaction.Erase(key);
          key[random() % key.size()] = static_cast<char>(random());
        }
        for (int flips = 0; flips < 2 && !value.empty(); ++flips) {
          value[random() % value.size()] ^= static_cast<char>(1 << random() % 8);
        }
        if (random() % 4 == 0) value.resize(random() % (value.size() + 20));
        transaction.Put(key, value);
      }
      ASSERT_TRUE(store->Commit(std::move(transaction)).has_value());
      ASSERT_TRUE(store->Close().has_value());
    }
    ASSERT_TRUE(Engine::Check(*device, true).has_value());
    auto mounted = Engine::Mount(*device, SystemClock(), {});
    if (!mounted.has_value()) continue;
    Engine& engine = *mounted.value();
    for (const NodeId id : {engine.Root(), directory_, file_}) {
      static_cast<void>(engine.GetAttributes(id).has_value());
      static_cast<void>(engine.PathOf(id).has_value());
      static_cast<void>(engine.Read(id, 0, 200'000).has_value());
      static_cast<void>(
          engine.ReadDirectory(id, 0, [](const DirectoryEntry&) { return true; }).has_value());
      static_cast<void>(engine.Lookup(id, "file").has_value());
      static_cast<void>(engine.Remove(kRootCaller, id, "file", RemoveKind::kAny).has_value());
    }
    static_cast<void>(engine.Unmount().has_value());
  }
}

}  // namespace
}  // namespace filer::engine
