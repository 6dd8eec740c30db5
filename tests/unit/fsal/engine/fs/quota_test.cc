// Quotas of users and groups: what is counted, what is refused and when, and that nothing is lost.
#include <thread>

#include "fsal/engine/filesets.h"
#include "fsal/engine/fs/quota_keys.h"
#include "fsal/engine/tree/store.h"
#include "tests/unit/fsal/engine/fs/quota_fixture.h"

namespace filer::engine {
namespace {

TEST_F(QuotaTest, UsageIsKeptForWhoHasNoLimits) {
  const NodeId file = Make("file");
  WriteAs(file, 0, 3, Stability::kFileSync);
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{3, 1}));
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{3, 1}));
  EXPECT_EQ(UsedBy(QuotaKind::kUser, 0), (Usage{0, 1}));  // the root directory
  WriteAs(file, 1, 2, Stability::kFileSync);              // one more of them new
  WriteAs(file, 9, 1, Stability::kFileSync);
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{4, 1}));
  fs().Remount();
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{4, 1}));
  Remove("file");
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{0, 0}));
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{0, 0}));
}

TEST_F(QuotaTest, ALimitThatComesLaterKnowsTheUsage) {
  WriteAs(Make("old"), 0, 5, Stability::kFileSync);
  SetBlocks(QuotaKind::kUser, kAnn, 0, 6);
  const NodeId file = Make("new");
  EXPECT_TRUE(TryWriteAs(file, 0, 1).has_value());
  EXPECT_TRUE(TryWriteAs(file, 1, 1).error() == Errc::kQuotaExceeded);
  EXPECT_EQ(fs()->Counters().quota_limited_ids, 1U);
  EXPECT_EQ(fs()->Counters().quota_refusals, 1U);
}

TEST_F(QuotaTest, InodesAreRefusedByCreateAndToRootNever) {
  SetInodes(QuotaKind::kGroup, kStaff, 0, 2);
  for (const auto kind : {NodeKind::kDirectory, NodeKind::kSymlink}) {
    fs().TryCreate(fs().root(), kind == NodeKind::kSymlink ? "s" : "d", kind, 0777, ann_).value();
  }
  for (const auto kind :
       {NodeKind::kFile, NodeKind::kDirectory, NodeKind::kSymlink, NodeKind::kFifo}) {
    EXPECT_TRUE(fs().TryCreate(fs().root(), "x", kind, 0777, ann_).error() == Errc::kQuotaExceeded);
    EXPECT_TRUE(fs()->Lookup(fs().root(), "x").error() == Errc::kNotFound);
  }
  CreateOptions as_staff;
  as_staff.attributes.uid = kAnn;
  as_staff.attributes.gid = kStaff;
  fs()->Create(kRootCaller, fs().root(), "by root", as_staff).value();
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{0, 3}));
  Remove("by root");
  Remove("s");
  fs().TryCreate(fs().root(), "again", NodeKind::kFile, 0644, ann_).value();
  // A link is a name more, not an inode more.
  const NodeId again = fs()->Lookup(fs().root(), "again").value().id;
  EXPECT_TRUE(fs()->Link(ann_, again, fs().root(), "link").has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{0, 2}));
}

TEST_F(QuotaTest, UnstableWritesAreRefusedWhenTheyAreMade) {
  SetBlocks(QuotaKind::kUser, kAnn, 0, 4);
  const NodeId file = Make("file");
  EXPECT_TRUE(TryWriteAs(file, 0, 3).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{3, 1}));  // promised
  EXPECT_TRUE(TryWriteAs(file, 2, 2).has_value());           // one of them again
  EXPECT_TRUE(TryWriteAs(file, 4, 1).error() == Errc::kQuotaExceeded);
  EXPECT_TRUE(TryWriteAs(file, 0, 4).has_value());  // nothing new
  EXPECT_TRUE(fs()->Commit(file, 0, 0).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{4, 1}));
  EXPECT_TRUE(TryWriteAs(file, 0, 4).has_value());  // in place, although all is used
  EXPECT_TRUE(TryWriteAs(file, 0, 4, Stability::kFileSync).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{4, 1}));
  EXPECT_TRUE(TryWriteAs(file, 7, 1, Stability::kFileSync).error() == Errc::kQuotaExceeded);
  ASSERT_TRUE(fs()->Deallocate(ann_, file, 0, 2 * kBlock).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{2, 1}));
  EXPECT_TRUE(TryWriteAs(file, 7, 2).has_value());
  EXPECT_TRUE(TryWriteAs(file, 9, 1).error() == Errc::kQuotaExceeded);
  // What was promised and never written back is given back, too.
  AttributeChange empty;
  empty.size_bytes = 0;
  ASSERT_TRUE(fs()->SetAttributes(ann_, file, empty).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{0, 1}));
  const iovec data{block_.data(), block_.size()};
  EXPECT_TRUE(fs()->Write(file, 9 * kBlock, {&data, 1}, Stability::kUnstable, QuotaRule::kExempt)
                  .has_value());
}

TEST_F(QuotaTest, RootWritesPastTheLimitAndIsCounted) {
  SetBlocks(QuotaKind::kUser, kAnn, 0, 1);
  const NodeId file = Make("file");
  const std::string bytes(3 * kBlock, 'r');
  const iovec data{const_cast<char*>(bytes.data()), bytes.size()};
  ASSERT_TRUE(
      fs()->Write(file, 0, {&data, 1}, Stability::kUnstable, QuotaRule::kExempt).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{3, 1}));
  EXPECT_TRUE(TryWriteAs(file, 5, 1).error() == Errc::kQuotaExceeded);
  EXPECT_TRUE(TryWriteAs(file, 0, 3).has_value());
  ASSERT_TRUE(fs()->SyncAll().has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{3, 1}));
}

TEST_F(QuotaTest, AllocateIsRefusedAndTakesOverWhatWasPromised) {
  SetBlocks(QuotaKind::kUser, kAnn, 0, 4);
  const NodeId file = Make("file");
  EXPECT_TRUE(fs()->Allocate(ann_, file, 0, 5 * kBlock, false).error() == Errc::kQuotaExceeded);
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{0, 1}));
  ASSERT_TRUE(TryWriteAs(file, 1, 3).has_value());
  EXPECT_TRUE(fs()->Allocate(ann_, file, 0, 4 * kBlock, false).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{4, 1}));
  ASSERT_TRUE(fs()->Commit(file, 0, 0).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{4, 1}));
  EXPECT_TRUE(fs()->Allocate(kRootCaller, file, 0, 6 * kBlock, true).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{6, 1}));
  AttributeChange longer;  // a hole: nothing is allocated, nothing refused
  longer.size_bytes = 1 << 20;
  EXPECT_TRUE(fs()->SetAttributes(ann_, file, longer).has_value());
}

TEST_F(QuotaTest, ChangeOfOwnerAndGroupMovesUsage) {
  SetBlocks(QuotaKind::kUser, kAnn, 0, 10);
  SetBlocks(QuotaKind::kUser, kBob, 0, 2);
  SetBlocks(QuotaKind::kGroup, kGuests, 0, 2);
  const NodeId file = Make("file");
  WriteAs(file, 0, 2, Stability::kFileSync);
  ASSERT_TRUE(TryWriteAs(file, 2, 1).has_value());  // promised only
  // Root may, and what was promised to the one is the other's.
  AttributeChange to_bob;
  to_bob.uid = kBob;
  ASSERT_TRUE(fs()->SetAttributes(kRootCaller, file, to_bob).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{0, 0}));
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kBob), (Usage{3, 1}));
  AttributeChange to_ann;
  to_ann.uid = kAnn;
  ASSERT_TRUE(fs()->SetAttributes(kRootCaller, file, to_ann).has_value());
  // Others are held to the limits of the new group; together with a new size, too.
  AttributeChange to_guests;
  to_guests.gid = kGuests;
  EXPECT_TRUE(fs()->SetAttributes(ann_, file, to_guests).error() == Errc::kQuotaExceeded);
  AttributeChange both = to_guests;
  both.size_bytes = 4 * kBlock;
  EXPECT_TRUE(fs()->SetAttributes(ann_, file, both).error() == Errc::kQuotaExceeded);
  EXPECT_EQ(fs()->GetAttributes(file).value().gid, kStaff);
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{3, 1}));
  both.size_bytes = 2 * kBlock;
  EXPECT_TRUE(fs()->SetAttributes(ann_, file, both).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{0, 0}));
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kGuests), (Usage{2, 1}));
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{2, 1}));
}

TEST_F(QuotaTest, AnOpenFileCountsUntilItIsLetGo) {
  SetBlocks(QuotaKind::kUser, kAnn, 0, 100);
  const NodeId file = Make("file");
  WriteAs(file, 0, 2, Stability::kFileSync);
  ASSERT_TRUE(fs()->Hold(file).has_value());
  Remove("file");
  WriteAs(file, 2, 1, Stability::kUnstable);
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{3, 1}));
  fs()->Release(file);
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{0, 0}));
}

TEST_F(QuotaTest, SoftLimitsBecomeHardWhenTheGraceTimeIsOver) {
  QuotaGrace grace;
  grace.bytes_seconds = 60;
  grace.inodes_seconds = 30;
  ASSERT_TRUE(fs()->SetQuotaGrace(kRootCaller, QuotaKind::kUser, grace).has_value());
  QuotaLimits limits;
  limits.bytes_soft = 2 * kBlock;
  limits.bytes_hard = 6 * kBlock;
  limits.inodes_soft = 1;
  ASSERT_TRUE(fs()->SetQuota(kRootCaller, QuotaKind::kUser, kAnn, limits).has_value());
  const NodeId file = Make("file");
  const std::int64_t start = clock_.RealtimeNs();
  WriteAs(file, 0, 3, Stability::kFileSync);
  EXPECT_EQ(fs()->GetQuota(QuotaKind::kUser, kAnn).value().bytes_deadline_ns, start + 60 * kSecond);
  EXPECT_EQ(fs()->GetQuota(QuotaKind::kUser, kAnn).value().inodes_deadline_ns, 0);
  Make("second");  // over the soft limit of inodes
  clock_.AdvanceNs(31 * kSecond);
  Remount();  // the deadlines go on, whatever comes between
  EXPECT_EQ(fs()->GetQuotaGrace(QuotaKind::kUser).value().bytes_seconds, 60U);
  EXPECT_EQ(fs()->GetQuota(QuotaKind::kUser, kAnn).value().bytes_deadline_ns, start + 60 * kSecond);
  EXPECT_TRUE(fs().TryCreate(fs().root(), "x", NodeKind::kFile, 0644, ann_).error() ==
              Errc::kQuotaExceeded);
  EXPECT_TRUE(TryWriteAs(file, 3, 1).has_value());
  clock_.AdvanceNs(30 * kSecond);
  EXPECT_TRUE(TryWriteAs(file, 4, 1).error() == Errc::kQuotaExceeded);
  EXPECT_TRUE(TryWriteAs(file, 0, 4).has_value());
  // Below the soft limit once: the next excess has a grace time of its own.
  ASSERT_TRUE(fs()->Deallocate(ann_, file, 0, 3 * kBlock).has_value());
  EXPECT_EQ(fs()->GetQuota(QuotaKind::kUser, kAnn).value().bytes_deadline_ns, 0);
  EXPECT_TRUE(TryWriteAs(file, 0, 3).has_value());
  EXPECT_EQ(fs()->GetQuota(QuotaKind::kUser, kAnn).value().bytes_deadline_ns,
            clock_.RealtimeNs() + 60 * kSecond);
  EXPECT_TRUE(TryWriteAs(file, 4, 3).error() == Errc::kQuotaExceeded);  // hard
}

TEST_F(QuotaTest, LimitsAndADeadlineOutliveAKill) {
  QuotaLimits limits;
  limits.bytes_soft = kBlock;
  limits.bytes_hard = 3 * kBlock;
  ASSERT_TRUE(fs()->SetQuota(kRootCaller, QuotaKind::kUser, kAnn, limits).has_value());
  const NodeId file = Make("file");
  WriteAs(file, 0, 2, Stability::kFileSync);
  const Quota before = fs()->GetQuota(QuotaKind::kUser, kAnn).value();
  EXPECT_NE(before.bytes_deadline_ns, 0);
  WriteAs(file, 2, 1, Stability::kUnstable);  // lost
  fs().Kill();
  Mount();
  const Quota after = fs()->GetQuota(QuotaKind::kUser, kAnn).value();
  EXPECT_EQ(after.limits, limits);
  EXPECT_EQ(after.bytes_deadline_ns, before.bytes_deadline_ns);
  EXPECT_EQ(after.used_bytes, 2 * kBlock);
  EXPECT_EQ(after.used_inodes, 1U);
}

TEST_F(QuotaTest, OnlyThePrivilegedChangeLimits) {
  EXPECT_TRUE(fs()->SetQuota(ann_, QuotaKind::kUser, kAnn, {}).error() == Errc::kNotPermitted);
  EXPECT_TRUE(fs()->SetQuotaGrace(ann_, QuotaKind::kUser, {}).error() == Errc::kNotPermitted);
  QuotaLimits crossed;
  crossed.bytes_soft = 2;
  crossed.bytes_hard = 1;
  EXPECT_TRUE(fs()->SetQuota(kRootCaller, QuotaKind::kUser, kAnn, crossed).error() ==
              Errc::kInvalidArgument);
  EXPECT_TRUE(fs()->SetQuota(kRootCaller, QuotaKind::kProject, 0, {}).error() ==
              Errc::kInvalidArgument);
}

TEST_F(QuotaTest, ListsInOrderAllThatUseAnythingOrHaveLimits) {
  CreateOptions options;
  std::vector<std::uint32_t> expected{0};
  for (std::uint32_t at = 1; at <= 600; ++at) {
    options.attributes.uid = at * 3;
    const std::string name = "f" + std::to_string(at);
    ASSERT_TRUE(fs()->Create(kRootCaller, fs().root(), name, options).has_value());
    if (at % 7 == 0) Remove(name);
    if (at % 7 != 0) expected.push_back(at * 3);
  }
  SetInodes(QuotaKind::kUser, 4, 0, 9);
  SetInodes(QuotaKind::kUser, 4'000'000'000, 0, 9);
  SetInodes(QuotaKind::kUser, 8, 0, 9);
  SetInodes(QuotaKind::kUser, 8, 0, 0);  // none again
  expected.insert(expected.begin() + 2, 4);
  expected.push_back(4'000'000'000);
  std::vector<std::uint32_t> listed;
  ASSERT_TRUE(fs()->ListQuotas(QuotaKind::kUser, 0,
                               [&](const Quota& quota) {
                                 listed.push_back(quota.id);
                                 return true;
                               })
                  .has_value());
  EXPECT_EQ(listed, expected);
  listed.clear();
  ASSERT_TRUE(fs()->ListQuotas(QuotaKind::kUser, 1500,
                               [&](const Quota& quota) {
                                 listed.push_back(quota.id);
                                 return listed.size() < 2;
                               })
                  .has_value());
  EXPECT_EQ(listed, (std::vector<std::uint32_t>{1500, 1503}));
}

TEST_F(QuotaTest, FilledAndEmptiedTwentyTimesNothingIsLost) {
  SetBlocks(QuotaKind::kUser, kAnn, 0, 2000);
  SetInodes(QuotaKind::kGroup, kStaff, 0, 60);
  ASSERT_TRUE(fs()->SyncAll().has_value());
  const FileSystemStatus before = fs()->GetStatus().value();
  for (int round = 0; round < 20; ++round) {
    std::vector<NodeId> files;
    for (int at = 0;; ++at) {
      const auto made =
          fs().TryCreate(fs().root(), "f" + std::to_string(at), NodeKind::kFile, 0644, ann_);
      if (!made.has_value()) {
        ASSERT_TRUE(made.error() == Errc::kQuotaExceeded);
        break;
      }
      files.push_back(made.value().node.id);
    }
    ASSERT_EQ(files.size(), 60U);
    // Stable and unstable, allocated and not, each file of another length.
    bool is_full = false;
    for (std::uint64_t at = 0; !is_full; at += 3) {
      const auto& file = files[at / 3 * 7 % files.size()];
      const auto stability = at % 2 == 0 ? Stability::kUnstable : Stability::kFileSync;
      const std::uint64_t block = at / 180 * 9;
      auto written = Result<void>(Ok());
      if (at % 4 == 1) {
        written = fs()->Allocate(ann_, file, block * kBlock, 5 * kBlock, false);
      } else if (const auto result = TryWriteAs(file, block, 7, stability); !result.has_value()) {
        written = result.error();
      }
      if (written.has_value()) continue;
      ASSERT_TRUE(written.error() == Errc::kQuotaExceeded) << written.error().message();
      is_full = true;
    }
    EXPECT_GT(UsedBy(QuotaKind::kUser, kAnn).blocks, 1990U);
    for (std::size_t at = 0; at < files.size(); ++at) Remove("f" + std::to_string(at));
    ASSERT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{0, 0})) << round;
    ASSERT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{0, 0})) << round;
  }
  ASSERT_TRUE(fs()->SyncAll().has_value());
  EXPECT_EQ(fs()->GetStatus().value().free_bytes, before.free_bytes);
}

TEST_F(QuotaTest, EachFilesetHasItsOwnAndRollBackBringsThemBack) {
  Filesets& filesets = fs()->AllFilesets();
  SetBlocks(QuotaKind::kUser, kAnn, 0, 4);
  const NodeId file = Make("file");
  WriteAs(file, 0, 2, Stability::kFileSync);
  const std::uint32_t snapshot = filesets.MakeSnapshot(kRootFileset, "then").value().id;
  const std::uint32_t clone = filesets.Clone(snapshot, "clone").value().id;
  WriteAs(file, 2, 2, Stability::kUnstable);
  EXPECT_TRUE(TryWriteAs(file, 4, 1).error() == Errc::kQuotaExceeded);
  // What the snapshot alone has does not count; the clone has the same limits, and usage of its
  // own.
  const auto used = [&](std::uint32_t fileset) {
    return fs()->GetQuota(QuotaKind::kUser, kAnn, fileset).value().used_bytes / kBlock;
  };
  EXPECT_EQ(used(kRootFileset), 4U);
  EXPECT_EQ(used(clone), 2U);
  const NodeId twin{clone, 0, file.inode};
  EXPECT_TRUE(TryWriteAs(twin, 2, 2).has_value());
  EXPECT_TRUE(TryWriteAs(twin, 4, 1).error() == Errc::kQuotaExceeded);
  ASSERT_TRUE(fs()->SetQuota(kRootCaller, QuotaKind::kUser, kAnn, {}, clone).has_value());
  EXPECT_TRUE(TryWriteAs(twin, 4, 1).has_value());
  ASSERT_TRUE(filesets.RollBack(kRootFileset).has_value());
  EXPECT_EQ(used(kRootFileset), 2U);
  EXPECT_TRUE(TryWriteAs(file, 2, 2).has_value());
  EXPECT_TRUE(TryWriteAs(file, 4, 1).error() == Errc::kQuotaExceeded);
  const std::uint32_t made = filesets.Create("made").value().id;
  EXPECT_EQ(fs()->GetQuota(QuotaKind::kUser, 0, made).value().used_inodes, 1U);
  EXPECT_TRUE(fs()->GetQuota(QuotaKind::kUser, 0, 999).error() == Errc::kStaleHandle);
}

TEST_F(QuotaTest, CheckFindsUsageThatIsNotSo) {
  WriteAs(Make("file"), 0, 2, Stability::kFileSync);
  SetBlocks(QuotaKind::kUser, kAnn, 0, 9);
  fs().Unmount();
  const auto after = [&](const std::function<void(Transaction&)>& damage) {
    const auto device =
        SimDevice::Create(TestEngine::DefaultOptions(), device_->CurrentImage()).value();
    const auto store = Store::Open(*device, clock_, false).value();
    Transaction transaction;
    damage(transaction);
    EXPECT_TRUE(store->Sync(store->Commit(std::move(transaction)).value()).has_value());
    EXPECT_TRUE(store->Close().has_value());
    return FindingsText(Engine::Check(*device, false).value());
  };
  const QuotaId ann{QuotaKind::kUser, kAnn};
  EXPECT_EQ(after([&](Transaction& transaction) {
              transaction.Add(QuotaKeyOf(QuotaPart::kUsage, ann), {1, 0});
            }),
            "uses 2 blocks and 1 inodes, recorded are 3 blocks and 1 inodes (user 1001, )\n");
  EXPECT_EQ(after([&](Transaction& transaction) {
              transaction.Erase(QuotaKeyOf(QuotaPart::kUsage, ann));
            }),
            "uses 2 blocks and 1 inodes, recorded is nothing (user 1001, )\n");
  EXPECT_EQ(after([&](Transaction& transaction) {
              transaction.Add(QuotaKeyOf(QuotaPart::kUsage, {QuotaKind::kProject, 5}), {0, 1});
            }),
            "uses 0 blocks and 0 inodes, recorded are 0 blocks and 1 inodes (project 5, )\n");
  EXPECT_EQ(after([&](Transaction& transaction) {
              transaction.Put(QuotaKeyOf(QuotaPart::kLimits, ann), "short");
            }),
            "limits or deadlines of user 1001 do not decode (quotas, )\n");
  EXPECT_EQ(after([&](Transaction& transaction) { transaction.Put("QX", "v"); }),
            "a key is malformed (quotas, )\n");
  Mount();
}

}  // namespace
}  // namespace filer::engine
