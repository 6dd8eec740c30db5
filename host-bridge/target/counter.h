// counter.h: one number with one writer (a poller) and any number of readers (the control
// socket): plain loads and stores, no locked instruction on the polled path.
#pragma once

#include <atomic>
#include <cstdint>

namespace filer::bridge {

class Counter {
 public:
  Counter() = default;
  Counter(const Counter& other) : value_(other.Get()) {}  // what it was just now

  void Add(std::uint64_t by) {
    value_.store(value_.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  std::uint64_t Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

}  // namespace filer::bridge
