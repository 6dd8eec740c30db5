// Projects: what has which, what it costs them, and where nothing may be moved to.
#include "tests/unit/fsal/engine/fs/quota_fixture.h"

namespace filer::engine {
namespace {

class ProjectTest : public QuotaTest {
 protected:
  NodeId MakeIn(NodeId directory, const std::string& name, NodeKind kind = NodeKind::kFile) {
    return fs().TryCreate(directory, name, kind, 0777, ann_).value().node.id;
  }
  std::uint32_t ProjectOf(NodeId node) { return fs()->GetAttributes(node).value().project; }
  void SetProject(NodeId node, std::uint32_t project, bool inherits) {
    ASSERT_TRUE(fs()->SetProject(kRootCaller, node, project, inherits).has_value());
  }
};

TEST_F(ProjectTest, WhatIsMadeInATreeHasItsProject) {
  const NodeId top = MakeIn(fs().root(), "top", NodeKind::kDirectory);
  const NodeId before = MakeIn(top, "before");
  SetProject(top, 7, true);
  const NodeId inside = MakeIn(top, "inside", NodeKind::kDirectory);
  const NodeId deep = MakeIn(inside, "deep");
  EXPECT_EQ(ProjectOf(before), 0U);
  EXPECT_EQ(ProjectOf(inside), 7U);
  EXPECT_TRUE(fs()->GetAttributes(inside).value().inherits_project);
  EXPECT_EQ(ProjectOf(deep), 7U);
  EXPECT_FALSE(fs()->GetAttributes(deep).value().inherits_project);
  EXPECT_EQ(UsedBy(QuotaKind::kProject, 7), (Usage{0, 3}));
  SetProject(top, 7, false);
  EXPECT_EQ(ProjectOf(MakeIn(top, "later")), 0U);
  fs().Remount();
  EXPECT_EQ(ProjectOf(deep), 7U);
}

TEST_F(ProjectTest, ItsLimitHoldsForEverybodyButRoot) {
  const NodeId top = MakeIn(fs().root(), "top", NodeKind::kDirectory);
  SetProject(top, 7, true);
  SetBlocks(QuotaKind::kProject, 7, 0, 3);
  SetInodes(QuotaKind::kProject, 7, 0, 3);
  const NodeId file = MakeIn(top, "file");
  EXPECT_TRUE(TryWriteAs(file, 0, 3).has_value());
  EXPECT_TRUE(TryWriteAs(file, 3, 1).error() == Errc::kQuotaExceeded);
  MakeIn(top, "third");
  EXPECT_TRUE(fs().TryCreate(top, "x", NodeKind::kFile, 0644, ann_).error() ==
              Errc::kQuotaExceeded);
  EXPECT_TRUE(fs().TryCreate(top, "x").has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kProject, 7), (Usage{3, 4}));
}

TEST_F(ProjectTest, NothingIsLinkedOrMovedInFromAnother) {
  const NodeId top = MakeIn(fs().root(), "top", NodeKind::kDirectory);
  const NodeId other = MakeIn(fs().root(), "other", NodeKind::kDirectory);
  SetProject(top, 7, true);
  const NodeId mine = MakeIn(top, "mine");
  const NodeId foreign = MakeIn(other, "foreign");
  EXPECT_TRUE(fs()->Link(ann_, foreign, top, "link").error() == Errc::kCrossesFileset);
  EXPECT_TRUE(fs()->Rename(ann_, other, "foreign", top, "moved", kRenameReplace).error() ==
              Errc::kCrossesFileset);
  EXPECT_TRUE(fs()->Rename(ann_, top, "mine", other, "foreign", kRenameExchange).error() ==
              Errc::kCrossesFileset);
  EXPECT_TRUE(fs()->Rename(ann_, other, "foreign", top, "mine", kRenameExchange).error() ==
              Errc::kCrossesFileset);
  // Inside, and out of it, as on Linux: the project goes with the file.
  EXPECT_TRUE(fs()->Rename(ann_, top, "mine", top, "own", kRenameReplace).has_value());
  EXPECT_TRUE(fs()->Link(ann_, mine, top, "link").has_value());
  EXPECT_TRUE(fs()->Rename(ann_, top, "own", other, "out", kRenameReplace).has_value());
  EXPECT_EQ(ProjectOf(mine), 7U);
  EXPECT_EQ(UsedBy(QuotaKind::kProject, 7), (Usage{0, 2}));
}

TEST_F(ProjectTest, ATreeIsAssignedInBoundedSteps) {
  const NodeId top = MakeIn(fs().root(), "top", NodeKind::kDirectory);
  std::vector<NodeId> all{top};
  for (int at = 0; at < 10; ++at) {
    const NodeId directory = MakeIn(top, "d" + std::to_string(at), NodeKind::kDirectory);
    all.push_back(directory);
    const NodeId inner = MakeIn(directory, "inner", NodeKind::kDirectory);
    all.push_back(inner);
    for (int file = 0; file < 5; ++file) {
      all.push_back(MakeIn(inner, "f" + std::to_string(file)));
      WriteAs(all.back(), 0, 1, file % 2 == 0 ? Stability::kUnstable : Stability::kFileSync);
    }
  }
  SetBlocks(QuotaKind::kProject, 9, 0, 1000);
  ProjectWalk walk;
  int calls = 0;
  std::uint64_t visited = 0;
  while (!walk.is_done) {
    ASSERT_TRUE(fs()->SetProjectBelow(kRootCaller, top, 9, 4, walk).has_value());
    ASSERT_LE(walk.visited, visited + 5);  // the top on the way in
    visited = walk.visited;
    ASSERT_LT(++calls, 200);
    if (calls != 3) continue;
    // Made behind the walk, and gone before it comes.
    all.push_back(MakeIn(top, "made", NodeKind::kDirectory));
    all.push_back(MakeIn(all.back(), "file"));
    const NodeId last = fs()->Lookup(fs()->Lookup(top, "d9").value().id, "inner").value().id;
    ASSERT_TRUE(fs()->Remove(kRootCaller, last, "f4", RemoveKind::kAny).has_value());
    std::erase_if(all, [&](NodeId node) { return !fs()->GetAttributes(node).has_value(); });
  }
  EXPECT_GT(calls, 10);
  for (const NodeId node : all) EXPECT_EQ(ProjectOf(node), 9U);
  ASSERT_TRUE(fs()->SyncAll().has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kProject, 9), (Usage{49, all.size()}));
  ProjectWalk refused;
  EXPECT_TRUE(fs()->SetProjectBelow(ann_, top, 9, 4, refused).error() == Errc::kNotPermitted);
}

TEST_F(ProjectTest, StatusOfADirectoryIsItsProjects) {
  const NodeId top = MakeIn(fs().root(), "top", NodeKind::kDirectory);
  SetProject(top, 7, true);
  const FileSystemStatus whole = fs()->GetStatus().value();
  EXPECT_EQ(fs()->GetStatus(top).value().total_bytes, whole.total_bytes);  // no limit
  SetBlocks(QuotaKind::kProject, 7, 10, 20);
  SetInodes(QuotaKind::kProject, 7, 0, 5);
  const NodeId file = MakeIn(top, "file");
  WriteAs(file, 0, 4, Stability::kFileSync);
  const FileSystemStatus status = fs()->GetStatus(top).value();
  EXPECT_EQ(status.total_bytes, 10 * kBlock);
  EXPECT_EQ(status.free_bytes, 6 * kBlock);
  EXPECT_EQ(status.available_bytes, 6 * kBlock);
  EXPECT_EQ(status.total_nodes, 5U);
  EXPECT_EQ(status.free_nodes, 3U);
  EXPECT_EQ(fs()->GetStatus(fs().root()).value().total_bytes, whole.total_bytes);
  WriteAs(file, 0, 12, Stability::kFileSync);
  EXPECT_EQ(fs()->GetStatus(top).value().free_bytes, 0U);
}

TEST_F(ProjectTest, FilesPassNothingOn) {
  const NodeId file = Make("file");
  EXPECT_TRUE(fs()->SetProject(kRootCaller, file, 7, true).error() == Errc::kNotDirectory);
  EXPECT_TRUE(fs()->SetProject(ann_, file, 7, false).error() == Errc::kNotPermitted);
  ASSERT_TRUE(fs()->SetProject(kRootCaller, file, 7, false).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kProject, 7), (Usage{0, 1}));
  ASSERT_TRUE(fs()->SetProject(kRootCaller, file, 0, false).has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kProject, 7), (Usage{0, 0}));
}

}  // namespace
}  // namespace filer::engine
