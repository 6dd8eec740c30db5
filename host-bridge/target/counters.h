// counters.h: what a volume did. One writer (the poller), any number of readers (the control
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

struct VolumeCounters {
  Counter requests, reads, writes, flushes, errors;
  Counter read_bytes, write_bytes;
  Counter kicks;       // notifications received
  Counter interrupts;  // notifications sent
  Counter copied_bytes, transferred_bytes;
  Counter protocol_errors;  // sessions and queues ended because the peer broke the protocol
  Counter sessions;         // clients served so far
};

}  // namespace filer::bridge
