#include "fsal/ganesha/reply_budget.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>

namespace filer::ganesha {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
using Buffers = std::vector<engine::BufferRef>;

// A pool of 128 MiB; 50 may be pinned, and 15 copied.
class Budget : public testing::Test {
 protected:
  Budget() { budget_.SetLimits({.pinned_bytes_max = 50 * kMiB, .copied_bytes_max = 15 * kMiB}); }
  ~Budget() override {
    const auto usage = budget_.GetUsage();
    EXPECT_EQ(usage.pinned_bytes, 0U);
    EXPECT_EQ(usage.copied_bytes, 0U);
  }
  Buffers NewBuffers() {
    Buffers buffers;
    buffers.push_back(pool_.Allocate(kMiB).assume_value());
    return buffers;
  }

  struct FreeMemory {
    void operator()(void* memory) const { std::free(memory); }
  };
  static constexpr std::size_t kPoolBytes = 128 * kMiB;
  std::unique_ptr<void, FreeMemory> memory_{std::aligned_alloc(kMiB, kPoolBytes)};
  engine::BufferPool pool_{{static_cast<std::byte*>(memory_.get()), kPoolBytes}};
  ReplyBudget budget_;
};

// What a client that never takes an answer can make wait.
struct Stalled {
  // Sends READs of 1 MiB until one is refused.
  template <typename NewBuffers>
  void Fill(ReplyBudget& budget, NewBuffers&& new_buffers) {
    while (true) {
      const auto entry = budget.Enter(this, kMiB);
      if (!entry) return;
      Buffers some = new_buffers();
      auto hold = budget.Take(this, some, kMiB, false);
      if (!hold) return;
      (hold.is_copy() ? copies : pins) += 1;
      if (!hold.is_copy()) buffers.push_back(std::move(some));
      holds.push_back(std::move(hold));
    }
  }
  int pins = 0, copies = 0;
  std::vector<Buffers> buffers;
  std::vector<ReplyBudget::Hold> holds;
};

TEST_F(Budget, PinsThenCopiesThenRefuses) {
  Stalled client;
  client.Fill(budget_, [&] { return NewBuffers(); });
  EXPECT_EQ(client.pins, 10) << "a fifth of 50";
  EXPECT_EQ(client.copies, 3) << "a fifth of 15";
  EXPECT_EQ(budget_.GetUsage().pinned_bytes, 10 * kMiB);
  EXPECT_EQ(budget_.GetUsage().copied_bytes, 3 * kMiB);
  EXPECT_EQ(budget_.GetUsage().refused, 1U);
  client.holds.clear();
  EXPECT_TRUE(budget_.Enter(&client, kMiB)) << "it took its answers: all is well again";
}

TEST_F(Budget, ManyStalledConnectionsLeaveRoomToPinForAnother) {
  std::vector<Stalled> clients(8);
  for (Stalled& client : clients) client.Fill(budget_, [&] { return NewBuffers(); });
  EXPECT_LT(budget_.GetUsage().pinned_bytes, 50 * kMiB);
  EXPECT_LT(budget_.GetUsage().copied_bytes, 15 * kMiB);
  const int other = 0;
  ASSERT_TRUE(budget_.Enter(&other, kMiB));
  Buffers buffers = NewBuffers();
  const auto hold = budget_.Take(&other, buffers, kMiB, false);
  ASSERT_TRUE(hold);
  EXPECT_FALSE(hold.is_copy()) << "nobody copies because of somebody else";
  for (Stalled& client : clients) client.holds.clear();
}

TEST_F(Budget, CountsABufferOnceHoweverManyRepliesReferToIt) {
  Buffers buffers = NewBuffers();
  const int one = 1, two = 2;
  std::vector<ReplyBudget::Hold> holds;
  for (int i = 0; i < 1000; ++i) {
    holds.push_back(budget_.Take(i % 2 == 0 ? &one : &two, buffers, 4096, false));
    ASSERT_TRUE(holds.back());
    ASSERT_FALSE(holds.back().is_copy());
  }
  EXPECT_EQ(budget_.GetUsage().pinned_bytes, kMiB);
  holds.resize(1);
  EXPECT_EQ(budget_.GetUsage().pinned_bytes, kMiB);
  holds.clear();
}

TEST_F(Budget, CountsABufferOnceInAReplyOfManyParts) {
  const int client = 0;
  Buffers buffers(100, NewBuffers().front());
  const auto hold = budget_.Take(&client, buffers, kMiB, false);
  ASSERT_TRUE(hold);
  EXPECT_FALSE(hold.is_copy());
  EXPECT_EQ(budget_.GetUsage().pinned_bytes, kMiB);
}

TEST_F(Budget, SmallReadsOfManyLargeBuffersPinTheBuffers) {
  const int client = 0;
  std::vector<Buffers> buffers;
  std::vector<ReplyBudget::Hold> holds;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(budget_.Enter(&client, 4096));
    buffers.push_back(NewBuffers());
    holds.push_back(budget_.Take(&client, buffers.back(), 4096, false));
    ASSERT_TRUE(holds.back());
    EXPECT_EQ(holds.back().is_copy(), i >= 10) << i;
  }
  holds.clear();
}

TEST_F(Budget, WhatIsBeingReadCountsBeforeItIsThere) {
  const int client = 0;
  std::vector<ReplyBudget::Entry> entries;
  while (true) {
    auto entry = budget_.Enter(&client, kMiB);
    if (!entry) break;
    entries.push_back(std::move(entry));
    ASSERT_LT(entries.size(), 100U);
  }
  EXPECT_EQ(entries.size(), 12U) << "a quarter of 50: nothing is pinned yet";
  const int other = 0;
  EXPECT_TRUE(budget_.Enter(&other, kMiB));
}

TEST_F(Budget, MustCopyNeverPins) {
  const int client = 0;
  Buffers buffers = NewBuffers();
  const auto hold = budget_.Take(&client, buffers, kMiB, true);
  ASSERT_TRUE(hold);
  EXPECT_TRUE(hold.is_copy());
  EXPECT_EQ(budget_.GetUsage().pinned_bytes, 0U);
  EXPECT_EQ(budget_.GetUsage().copied_bytes, kMiB);
}

}  // namespace
}  // namespace filer::ganesha
