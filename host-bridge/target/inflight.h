// inflight.h: the table of requests in flight, in memory that the front end keeps while this
// process may be killed (vhost-user, "Inflight I/O tracking", split ring). With it a restarted
// target knows which heads were taken but not returned, though requests complete out of order.
//
// The front end could write to it: every value is checked, and sizes are derived from our own queue
// size, never from the table. Layout is the protocol's, so that other targets could take over.
// Threads: the poller of its session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "host-bridge/target/memory_map.h"

namespace filer::bridge {

// One queue's part of the table.
class InflightTable {
 public:
  static std::size_t BytesPerQueue(std::uint32_t queue_size);

  InflightTable() = default;
  // `area` has BytesPerQueue(queue_size) bytes, aligned to 64.
  InflightTable(std::byte* area, std::uint32_t queue_size) : area_(area), queue_size_(queue_size) {}
  bool is_used() const { return area_ != nullptr; }
  std::uint32_t queue_size() const { return queue_size_; }

  // Brings the table in line with the ring's used index; returns heads to be submitted again, in
  // the order they were taken. A new table is formatted. All heads are below `ring_size`, each
  // once.
  std::vector<std::uint16_t> Recover(std::uint32_t ring_size, std::uint16_t used_index);

  void Take(std::uint16_t head);               // popped
  void AddToBatch(std::uint16_t head);         // pushed, not yet published
  void FinishBatch(std::uint16_t used_index);  // published

 private:
  struct State;
  struct Header;
  Header* header() const;
  State* states() const;

  std::byte* area_ = nullptr;
  std::uint32_t queue_size_ = 0;
  std::uint64_t next_counter_ = 1;
  std::vector<std::uint16_t> batch_;
};

// Size and file of a table for all queues.
std::size_t InflightBytes(std::uint32_t queue_count, std::uint32_t queue_size);
// A new, zeroed, sealed memfd. Errors: kSystem.
Result<UniqueFd> CreateInflightFile(std::size_t size_bytes);

}  // namespace filer::bridge
