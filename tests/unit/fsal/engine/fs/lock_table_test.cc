#include "fsal/engine/fs/lock_table.h"

#include <gtest/gtest.h>

namespace filer::engine {
namespace {

const NodeId kNode{1, 0, 7};

class Locks : public ::testing::Test {
 protected:
  bool Lock(const char* owner, std::uint64_t offset, std::uint64_t length,
            LockKind kind = LockKind::kWrite) {
    return !table_.Lock(kNode, owner, {offset, length, kind}).value().has_value();
  }
  bool IsFree(std::uint64_t offset, std::uint64_t length, LockKind kind = LockKind::kRead) {
    return !table_.Test(kNode, "probe", {offset, length, kind}).value().has_value();
  }
  LockTable table_;
};

TEST_F(Locks, ReadersShareAndWritersDoNot) {
  EXPECT_TRUE(Lock("a", 0, 10, LockKind::kRead));
  EXPECT_TRUE(Lock("b", 5, 10, LockKind::kRead));
  const auto conflict = table_.Lock(kNode, "c", {0, 0, LockKind::kWrite}).value();
  ASSERT_TRUE(conflict.has_value());
  EXPECT_EQ(conflict->owner, "a");
  EXPECT_EQ(conflict->range.length_bytes, 10U);
  EXPECT_TRUE(Lock("c", 15, 5));
  EXPECT_FALSE(Lock("a", 0, 16));
}

TEST_F(Locks, UnlockInTheMiddleSplits) {
  EXPECT_TRUE(Lock("a", 0, 100));
  ASSERT_TRUE(table_.Unlock(kNode, "a", 40, 20).has_value());
  EXPECT_FALSE(IsFree(39, 1));
  EXPECT_TRUE(IsFree(40, 20));
  EXPECT_FALSE(IsFree(60, 1));
  EXPECT_TRUE(Lock("b", 40, 20));
}

TEST_F(Locks, OwnLockIsReplacedAndNeighboursMerge) {
  EXPECT_TRUE(Lock("a", 0, 100));
  EXPECT_TRUE(Lock("a", 20, 10, LockKind::kRead));  // downgrade of a part
  EXPECT_TRUE(IsFree(20, 10, LockKind::kRead));
  EXPECT_FALSE(IsFree(20, 10, LockKind::kWrite));
  EXPECT_TRUE(Lock("a", 20, 10));
  const auto conflict = table_.Test(kNode, "probe", {50, 1, LockKind::kWrite}).value();
  EXPECT_EQ(conflict->range.offset_bytes, 0U);
  EXPECT_EQ(conflict->range.length_bytes, 100U);
}

TEST_F(Locks, ToTheEndReachesTheLastByte) {
  EXPECT_TRUE(Lock("a", 1000, 0));
  EXPECT_FALSE(IsFree(UINT64_MAX, 1));
  EXPECT_TRUE(IsFree(0, 1000));
  EXPECT_TRUE(table_.Lock(kNode, "a", {UINT64_MAX, 2, LockKind::kRead}).error() ==
              Errc::kInvalidArgument);
  ASSERT_TRUE(table_.Unlock(kNode, "a", 2000, 0).has_value());
  EXPECT_FALSE(IsFree(1999, 1));
  EXPECT_TRUE(IsFree(2000, 0));
}

TEST_F(Locks, WatchersWakeOnReleaseOfTheirNode) {
  int wakes = 0;
  const auto registration = table_.Watch(kNode, [&] { ++wakes; });
  EXPECT_TRUE(Lock("a", 0, 10));
  table_.UnlockAll({1, 0, 8}, "a");
  EXPECT_EQ(wakes, 0);
  table_.UnlockAll(kNode, "a");
  EXPECT_EQ(wakes, 1);
  table_.UnlockAll(kNode, "a");  // nothing was left
  EXPECT_EQ(wakes, 1);
  table_.CancelWatch(registration);
  EXPECT_TRUE(Lock("a", 0, 10));
  table_.UnlockAll(kNode, "a");
  EXPECT_EQ(wakes, 1);
}

}  // namespace
}  // namespace filer::engine
