#include "host-bridge/target/inflight.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <cstring>

#include "base/assert.h"

namespace filer::bridge {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint32_t kSize = 8;

// A table with the layout of the protocol, as a hostile front end sees it.
class InflightTest : public testing::Test {
 protected:
  struct Header {
    std::uint64_t features;
    std::uint16_t version, descriptor_count, last_batch_head, used_index;
  };
  struct State {
    std::uint8_t is_inflight, padding[5];
    std::uint16_t next;
    std::uint64_t counter;
  };
  InflightTest()
      : bytes_(InflightTable::BytesPerQueue(kSize)),
        area_(static_cast<std::byte*>(std::aligned_alloc(64, bytes_)), &std::free) {
    std::memset(area_.get(), 0, bytes_);
    header()->version = 1;
    header()->descriptor_count = kSize;
  }
  Header* header() { return reinterpret_cast<Header*>(area_.get()); }
  State* states() { return reinterpret_cast<State*>(area_.get() + sizeof(Header)); }
  std::vector<std::uint16_t> Recover(std::uint16_t used_index, std::uint32_t ring_size = kSize) {
    table_ = InflightTable(area_.get(), kSize);
    return table_.Recover(ring_size, used_index);
  }

  std::size_t bytes_;
  std::unique_ptr<std::byte, void (*)(void*)> area_;
  InflightTable table_;
};

TEST_F(InflightTest, GivesBackWhatWasTakenInTheOrderItWas) {
  states()[5] = {1, {}, 0, 10};
  states()[1] = {1, {}, 0, 12};
  states()[7] = {1, {}, 0, 11};
  EXPECT_THAT(Recover(0), ElementsAre(5, 7, 1));
}

TEST_F(InflightTest, FormatsATableOfAnotherVersionOrSize) {
  states()[5] = {1, {}, 0, 10};
  header()->version = 2;
  EXPECT_THAT(Recover(3), IsEmpty());
  EXPECT_EQ(header()->version, 1);
  EXPECT_EQ(header()->used_index, 3);
  states()[5] = {1, {}, 0, 10};
  header()->descriptor_count = UINT16_MAX;
  EXPECT_THAT(Recover(3), IsEmpty());
  EXPECT_EQ(header()->descriptor_count, kSize);
}

TEST_F(InflightTest, FinishesTheBatchThatWasPublishedWhenItWasKilled) {
  states()[2] = {1, {}, 4, 1};
  states()[4] = {1, {}, 0, 2};
  states()[6] = {1, {}, 0, 3};
  header()->last_batch_head = 2;
  header()->used_index = 10;
  EXPECT_THAT(Recover(12), ElementsAre(6));
}

TEST_F(InflightTest, FollowsNoBatchBeyondTheRing) {
  for (std::uint32_t i = 0; i < kSize; ++i) states()[i] = {1, {}, 0xffff, i};
  header()->last_batch_head = 0xffff;
  header()->used_index = 10;
  EXPECT_EQ(Recover(12).size(), kSize);
  header()->last_batch_head = 1;  // then next is beyond
  header()->used_index = 10;
  EXPECT_EQ(Recover(12).size(), kSize - 1);
}

TEST_F(InflightTest, WalksABatchThatLoopsOnce) {
  for (std::uint32_t i = 0; i < kSize; ++i) states()[i] = {1, {}, 3, i};
  header()->last_batch_head = 3;
  header()->used_index = 0;
  EXPECT_EQ(Recover(kSize).size(), kSize - 1);
}

TEST_F(InflightTest, BelievesNoUsedIndexThatJumped) {
  states()[2] = {1, {}, 0, 1};
  header()->last_batch_head = 2;
  header()->used_index = 10;
  EXPECT_THAT(Recover(9), ElementsAre(2));
  header()->used_index = 10;
  EXPECT_THAT(Recover(10 + kSize + 1), ElementsAre(2));
}

TEST_F(InflightTest, LooksAtNothingBeyondASmallerRing) {
  for (std::uint32_t i = 0; i < kSize; ++i) states()[i] = {0xff, {}, 7, UINT64_MAX};
  header()->last_batch_head = 7;
  header()->used_index = 0;
  EXPECT_THAT(Recover(2, 4), ElementsAre(0, 1, 2, 3));
}

}  // namespace
}  // namespace filer::bridge
