// counter.h: one number with one writer (the poller) and any number of readers (the control
// socket): plain loads and stores, no locked instruction on the polled path.
#pragma once

#include <atomic>
#include <cstdint>

namespace filer::bridge {

class Counter {
 public:
  void Add(std::uint64_t by) {
    value_.store(value_.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  std::uint64_t Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

}  // namespace filer::bridge
