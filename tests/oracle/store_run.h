// store_run.h: a random life of the key-value core, compared with std::map and RocksDB after every
// step: transactions, reads, checkpoints, closing and opening, kills and power cuts; with few nodes
// in memory, and up to a region for nodes that is full. Everything follows from the seed.
//
// What is compared: every answer of Get, Scan and Last; all there is after each opening; the state
// after a kill or power cut, which must be what the commits up to the LSN that came up had made,
// and hold every one that was synced; after kNoSpace and kTooBig, that nothing changed.
// Threads: one.
#pragma once

#include <cstdint>
#include <string>

namespace filer::engine::oracle {

struct RunCounts {
  std::uint64_t operations = 0;  // puts, erases and reads that were answered
  std::uint64_t transactions = 0;
  std::uint64_t reads = 0;
  std::uint64_t refused_full = 0;  // kNoSpace
  std::uint64_t refused_big = 0;
  std::uint64_t checkpoints = 0;
  std::uint64_t closes = 0;
  std::uint64_t kills = 0;
  std::uint64_t power_cuts = 0;
  std::uint64_t undone = 0;  // transactions that were not synced and did not survive
  std::uint64_t nodes_read = 0;
  std::uint64_t keys_most = 0;
};

struct RunOptions {
  std::uint64_t seed = 1;
  std::uint64_t operations = 100'000;
  bool with_rocks = true;
};

// What is wrong, or nothing. Adds to `counts`.
std::string RunStore(const RunOptions& options, RunCounts& counts);

}  // namespace filer::engine::oracle
