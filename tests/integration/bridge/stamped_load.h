// stamped_load.h: reads, writes and flushes of random blocks of 4 KiB, many in flight, where every
// write puts a new stamp all over its block. At any time a block must hold the stamp that was
// acknowledged last, or the one that is in flight; a block has one request in flight at a time.
// Threads: Run on one; MarkDead, TakeFirstAfterDeath, completed by another.
#pragma once

#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "host-bridge/initiator/initiator.h"

namespace filer::bridge {

class StampedLoad {
 public:
  static constexpr std::uint64_t kBlockBytes = 4096;
  StampedLoad(Disk& disk, std::uint32_t block_count, std::uint32_t depth, std::uint64_t seed);

  // Until Stop, and until all that is in flight is completed. Returns the first thing that was
  // wrong; empty if nothing was.
  std::string Run();
  void Stop() { must_stop_.store(true, std::memory_order_relaxed); }
  std::uint64_t completed() const { return completed_.load(std::memory_order_relaxed); }

  // The target is gone since now: what its ring still holds is not counted as an answer.
  void MarkDead() { is_dead_.store(true, std::memory_order_release); }
  // When the first request after that completed, CLOCK_MONOTONIC; 0: none yet.
  std::int64_t TakeFirstAfterDeath() { return first_ns_.exchange(0, std::memory_order_acquire); }
  // Longest time without a completion since the last call, ms.
  double TakeLongestGapMs();

  // Reads every block, through the disk or in the file itself, and holds it to what was
  // acknowledged. After Run.
  std::string VerifyDisk();
  std::string VerifyFile(const std::string& path) const;

 private:
  struct Slot {
    DiskOperation operation = DiskOperation::kFlush;
    std::uint32_t block = 0;
    std::uint64_t stamp = 0;
    std::byte* buffer = nullptr;
    bool is_busy = false;
  };
  void Choose(Slot& slot);
  bool Submit(std::uint32_t index);
  std::string Finish(const DiskCompletion& completion);
  void NoteProgress(std::size_t count, bool was_dead, std::int64_t now_ns);
  std::string Check(std::uint32_t block, const std::byte* data) const;

  Disk& disk_;
  DiskQueue& queue_;
  std::mt19937_64 random_;
  std::vector<Slot> slots_;
  std::vector<std::uint64_t> acknowledged_;  // stamp by block; 0: never written
  std::vector<bool> is_block_busy_;
  std::uint64_t next_stamp_ = 1;
  std::int64_t last_ns_ = 0;
  bool is_drained_ = false;
  std::atomic<bool> must_stop_ = false, is_dead_ = false;
  std::atomic<std::uint64_t> completed_ = 0;
  std::atomic<std::int64_t> first_ns_ = 0, longest_gap_ns_ = 0;
};

}  // namespace filer::bridge
