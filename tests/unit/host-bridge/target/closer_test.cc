#include "host-bridge/target/closer.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <future>
#include <memory>

namespace filer::bridge {
namespace {

// Destroyed only after `gate` opened.
struct Slow {
  explicit Slow(std::shared_future<void> gate_in) : gate(std::move(gate_in)) {}
  Slow(Slow&& other) noexcept : gate(std::exchange(other.gate, {})) {}
  ~Slow() {
    if (gate.valid()) gate.wait();
  }
  std::shared_future<void> gate;
};

bool IsIdleTold(const Closer& closer, int timeout_ms) {
  pollfd wait{closer.idle_fd(), POLLIN, 0};
  return ::poll(&wait, 1, timeout_ms) == 1;
}

TEST(Closer, DestroysInOrderAndTellsWhenItIsIdle) {
  auto closer = Closer::Create().assume_value();
  std::promise<void> gate;
  closer->Give(Slow(gate.get_future().share()));
  const auto last = std::make_shared<int>(0);
  closer->Give(std::shared_ptr<int>(last));
  EXPECT_EQ(closer->backlog(), 2u);
  EXPECT_FALSE(IsIdleTold(*closer, 50));
  EXPECT_EQ(last.use_count(), 2);
  gate.set_value();
  ASSERT_TRUE(IsIdleTold(*closer, 5000));
  EXPECT_EQ(closer->backlog(), 0u);
  EXPECT_EQ(last.use_count(), 1);
  closer->DrainIdle();
  EXPECT_FALSE(IsIdleTold(*closer, 0));
}

TEST(Closer, FinishesWhatIsQuickBeforeItEnds) {
  const auto thing = std::make_shared<int>(0);
  {
    auto closer = Closer::Create().assume_value();
    for (int i = 0; i < 100; ++i) closer->Give(std::shared_ptr<int>(thing));
  }
  EXPECT_EQ(thing.use_count(), 1);
}

TEST(Closer, EndsInTimeWhenAThingDoesNotGo) {
  std::promise<void> gate;
  const auto begin = std::chrono::steady_clock::now();
  {
    auto closer = Closer::Create().assume_value();
    closer->Give(Slow(gate.get_future().share()));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  gate.set_value();
}

}  // namespace
}  // namespace filer::bridge
