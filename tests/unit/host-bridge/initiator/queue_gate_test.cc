#include "host-bridge/initiator/queue_gate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace filer::bridge {
namespace {

TEST(QueueGate, OneThreadMayBeOnBothSidesInTurns) {
  QueueGate gate;
  for (int i = 0; i < 100; ++i) {
    { GateEntry entry(gate); }
    { GateClosure closure(gate); }
  }
}

// Two counters that only move together: anybody inside with somebody else would see or make them
// differ.
TEST(QueueGate, NobodyIsInsideWithAnybodyElse) {
  QueueGate gate;
  struct {
    std::uint64_t a = 0;
    std::uint64_t b = 0;
  } shared;  // plain on purpose
  std::atomic<bool> must_stop = false;
  std::atomic<std::uint64_t> torn = 0;
  std::vector<std::thread> rare;
  for (int i = 0; i < 2; ++i) {
    rare.emplace_back([&] {
      while (!must_stop.load(std::memory_order_relaxed)) {
        {
          GateClosure closure(gate);
          if (shared.a != shared.b) torn.fetch_add(1);
          ++shared.a;
          std::this_thread::yield();  // gives the other every chance
          ++shared.b;
        }
        std::this_thread::yield();
      }
    });
  }
  std::uint64_t entries = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(500)) {
    for (int i = 0; i < 1000; ++i, ++entries) {
      GateEntry entry(gate);
      if (shared.a != shared.b) torn.fetch_add(1);
      ++shared.a;
      std::atomic_signal_fence(std::memory_order_seq_cst);
      ++shared.b;
    }
  }
  must_stop.store(true);
  for (std::thread& thread : rare) thread.join();
  EXPECT_EQ(torn.load(), 0U);
  EXPECT_EQ(shared.a, shared.b);
  EXPECT_GT(shared.a, entries);  // the rare side was there, too
}

}  // namespace
}  // namespace filer::bridge
