// Quotas under many threads: no update is lost, and no limit is exceeded.
#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "fsal/engine/fs/quota.h"
#include "tests/unit/fsal/engine/fs/quota_fixture.h"

namespace filer::engine {
namespace {

constexpr int kThreads = 8;

template <typename Body>
void InThreads(const Body& body) {
  std::vector<std::thread> threads;
  for (int at = 0; at < kThreads; ++at) threads.emplace_back([&body, at] { body(at); });
  for (std::thread& thread : threads) thread.join();
}

// Or a commit that counts without an account would end after the account was made without it.
TEST(QuotaGate, LimitsWaitForTheCommitsUnderWay) {
  QuotaTable table(SystemClock());
  auto commit = table.EnterCommit();
  ASSERT_TRUE(commit.owns_lock());
  std::atomic<bool> is_closed{false};
  std::thread administrator([&] {
    const QuotaTable::Closed closed(table);
    is_closed = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(is_closed);
  commit.unlock();
  administrator.join();
  EXPECT_TRUE(is_closed);
  EXPECT_TRUE(table.EnterCommit().owns_lock());
}

TEST_F(QuotaTest, AsManyFilesAsTheLimitSaysWhoeverMakesThem) {
  SetInodes(QuotaKind::kUser, kAnn, 0, 500);
  std::atomic<int> made{0};
  std::atomic<int> failed_otherwise{0};
  InThreads([&](int thread) {
    for (int at = 0; at < 100; ++at) {
      const std::string name = std::to_string(thread) + "." + std::to_string(at);
      const auto created = fs().TryCreate(fs().root(), name, NodeKind::kFile, 0644, ann_);
      if (created.has_value()) ++made;
      if (!created.has_value() && !(created.error() == Errc::kQuotaExceeded)) ++failed_otherwise;
    }
  });
  EXPECT_EQ(made.load(), 500);
  EXPECT_EQ(failed_otherwise.load(), 0);
  EXPECT_EQ(UsedBy(QuotaKind::kUser, kAnn), (Usage{0, 500}));
}

TEST_F(QuotaTest, AsManyBlocksAsTheLimitSaysHoweverTheyAreWritten) {
  SetBlocks(QuotaKind::kGroup, kStaff, 0, 300);
  std::vector<NodeId> files;
  for (int at = 0; at < kThreads; ++at) files.push_back(Make("f" + std::to_string(at)));
  std::atomic<std::uint64_t> written{0};
  InThreads([&](int thread) {
    const NodeId file = files[static_cast<std::size_t>(thread)];
    for (std::uint64_t block = 0; block < 64; ++block) {
      const auto stability = block % 3 == 0 ? Stability::kFileSync : Stability::kUnstable;
      // Each block twice: the second time is no new one, at whatever stage the first is.
      if (!TryWriteAs(file, block, 1, stability).has_value()) continue;
      ++written;
      EXPECT_TRUE(TryWriteAs(file, block, 1, stability).has_value());
    }
  });
  EXPECT_EQ(written.load(), 300U);
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{300, kThreads}));
  ASSERT_TRUE(fs()->SyncAll().has_value());
  EXPECT_EQ(UsedBy(QuotaKind::kGroup, kStaff), (Usage{300, kThreads}));
}

// The moment in which an id gets its first limit: what is made then is counted once, in memory,
// too.
TEST_F(QuotaTest, AFirstLimitAmongCreatesCountsThemAll) {
  constexpr std::uint32_t kIds = 200;
  for (std::uint32_t id = 2000; id < 2000 + kIds; ++id) {
    const Caller caller{id, kStaff, groups_, true};
    std::atomic<std::uint64_t> made{0};
    std::atomic<int> ready{0};
    InThreads([&](int thread) {
      ++ready;
      while (ready < kThreads) std::this_thread::yield();
      if (thread == 0) return SetInodes(QuotaKind::kUser, id, 0, 1000);
      for (int at = 0; at < 3; ++at) {
        const std::string name = std::to_string(id) + "." + std::to_string(thread * 10 + at);
        if (fs().TryCreate(fs().root(), name, NodeKind::kFile, 0644, caller).has_value()) ++made;
      }
    });
    ASSERT_EQ(UsedBy(QuotaKind::kUser, id), (Usage{0, made.load()}));
  }
}

// Everything that changes usage, while limits come and go; the check at the end holds the sums
// against the inodes, and the accounts must agree with the sums.
TEST_F(QuotaTest, NoUpdateIsLostWhileLimitsComeAndGo) {
  const std::uint32_t users[] = {kAnn, kBob, 1003};
  std::atomic<bool> is_over{false};
  std::thread administrator([&] {
    std::mt19937 random(1);
    while (!is_over) {
      QuotaLimits limits;
      if (random() % 2 == 0) limits.bytes_hard = (random() % 200 + 1) * kBlock;
      if (random() % 2 == 0) limits.inodes_soft = random() % 50 + 1;
      const auto kind = static_cast<QuotaKind>(random() % 3);
      const std::uint32_t id = kind == QuotaKind::kUser ? users[random() % 3] : kStaff;
      EXPECT_TRUE(fs()->SetQuota(kRootCaller, kind, id, limits).has_value());
    }
  });
  InThreads([&](int thread) {
    std::mt19937 random(static_cast<unsigned>(thread) + 10);
    for (int at = 0; at < 300; ++at) {
      const std::string name = "f" + std::to_string(random() % 40);
      const Caller caller{users[random() % 3], kStaff, groups_, true};
      const auto found = fs()->Lookup(fs().root(), name);
      if (!found.has_value()) {
        static_cast<void>(fs().TryCreate(fs().root(), name, NodeKind::kFile, 0666, caller));
        continue;
      }
      const NodeId file = found.value().id;
      AttributeChange change;
      switch (random() % 8) {
        case 0:
          static_cast<void>(fs()->Remove(caller, fs().root(), name, RemoveKind::kAny));
          break;
        case 1:
          change.uid = users[random() % 3];
          if (random() % 2 == 0) change.size_bytes = random() % 30000;
          static_cast<void>(fs()->SetAttributes(caller, file, change));
          break;
        case 2:
          static_cast<void>(fs()->SetProject(kRootCaller, file, random() % 2 * kStaff, false));
          break;
        case 3:
          static_cast<void>(fs()->Allocate(caller, file, random() % 60000, 20000, false));
          break;
        case 4:
          static_cast<void>(fs()->Deallocate(caller, file, random() % 60000, 20000));
          break;
        case 5:
          static_cast<void>(fs()->Commit(file, 0, 0));
          break;
        default:
          static_cast<void>(
              TryWriteAs(file, random() % 20, random() % 4 + 1,
                         random() % 4 == 0 ? Stability::kFileSync : Stability::kUnstable));
      }
    }
  });
  is_over = true;
  administrator.join();
  ASSERT_TRUE(fs()->SyncAll().has_value());
  const auto usages = [&] {
    std::vector<Usage> all;
    for (const std::uint32_t user : users) all.push_back(UsedBy(QuotaKind::kUser, user));
    all.push_back(UsedBy(QuotaKind::kGroup, kStaff));
    all.push_back(UsedBy(QuotaKind::kProject, kStaff));
    return all;
  };
  const std::vector<Usage> in_memory = usages();
  Remount();
  EXPECT_EQ(usages(), in_memory);
}

}  // namespace
}  // namespace filer::engine
