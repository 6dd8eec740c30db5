#include "tests/integration/bridge/stamped_load.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

#include "base/clock.h"

namespace filer::bridge {
namespace {

constexpr std::size_t kWords = StampedLoad::kBlockBytes / 8;

std::uint64_t WordAt(std::uint32_t block, std::uint64_t stamp, std::size_t index) {
  if (stamp == 0) return 0;
  std::uint64_t x = stamp * 0x9e3779b97f4a7c15ULL + block * 0xbf58476d1ce4e5b9ULL + index;
  x = (x ^ (x >> 30)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

void Fill(std::byte* data, std::uint32_t block, std::uint64_t stamp) {
  std::memcpy(data, &stamp, 8);
  for (std::size_t i = 1; i < kWords; ++i) {
    const std::uint64_t word = WordAt(block, stamp, i);
    std::memcpy(data + 8 * i, &word, 8);
  }
}

}  // namespace

StampedLoad::StampedLoad(Disk& disk, std::uint32_t block_count, std::uint32_t depth,
                         std::uint64_t seed)
    : disk_(disk),
      queue_(disk.Queue(0)),
      random_(seed),
      slots_(depth),
      acknowledged_(block_count),
      is_block_busy_(block_count) {
  std::byte* at = disk_.Arena().data();
  for (Slot& slot : slots_) {
    slot.buffer = at;
    at += kBlockBytes;
  }
}

void StampedLoad::Choose(Slot& slot) {
  const std::uint64_t draw = random_() % 100;
  slot.operation = draw < 65   ? DiskOperation::kWrite
                   : draw < 97 ? DiskOperation::kRead
                               : DiskOperation::kFlush;
  if (slot.operation == DiskOperation::kFlush) return;
  do {
    slot.block = static_cast<std::uint32_t>(random_() % acknowledged_.size());
  } while (is_block_busy_[slot.block]);
  is_block_busy_[slot.block] = true;
  if (slot.operation != DiskOperation::kWrite) return;
  slot.stamp = next_stamp_++;
  Fill(slot.buffer, slot.block, slot.stamp);
}

bool StampedLoad::Submit(std::uint32_t index) {
  Slot& slot = slots_[index];
  const bool is_flush = slot.operation == DiskOperation::kFlush;
  const iovec segment{slot.buffer, kBlockBytes};
  DiskRequest request{};
  request.operation = slot.operation;
  request.offset_bytes = is_flush ? 0 : slot.block * kBlockBytes;
  if (!is_flush) request.segments = {&segment, 1};
  request.cookie = index;
  slot.is_busy = queue_.Prepare(request).has_value();
  return slot.is_busy;
}

std::string StampedLoad::Check(std::uint32_t block, const std::byte* data) const {
  std::array<std::byte, kBlockBytes> expected;
  Fill(expected.data(), block, acknowledged_[block]);
  if (std::memcmp(expected.data(), data, kBlockBytes) == 0) return "";
  std::uint64_t stamp = 0;
  std::memcpy(&stamp, data, 8);
  Fill(expected.data(), block, stamp);
  const bool is_whole = std::memcmp(expected.data(), data, kBlockBytes) == 0;
  return fmt::format("block {}: holds {} {}, acknowledged was {}", block,
                     is_whole ? "the whole of stamp" : "a mixture, at its start", stamp,
                     acknowledged_[block]);
}

std::string StampedLoad::Finish(const DiskCompletion& completion) {
  Slot& slot = slots_[completion.cookie];
  if (!slot.is_busy) return "a request completed twice";
  slot.is_busy = false;
  if (!completion.is_ok) {
    return fmt::format("a request for block {} failed: {}", slot.block,
                       ErrcText(completion.status));
  }
  if (slot.operation == DiskOperation::kFlush) return "";
  is_block_busy_[slot.block] = false;
  if (slot.operation == DiskOperation::kRead) return Check(slot.block, slot.buffer);
  acknowledged_[slot.block] = slot.stamp;
  return "";
}

void StampedLoad::NoteProgress(std::size_t count, bool was_dead, std::int64_t now_ns) {
  if (count > 0) {
    const std::int64_t gap_ns = last_ns_ == 0 ? 0 : now_ns - last_ns_;
    last_ns_ = now_ns;
    if (gap_ns > longest_gap_ns_.load(std::memory_order_relaxed)) {
      longest_gap_ns_.store(gap_ns, std::memory_order_relaxed);
    }
    completed_.fetch_add(count, std::memory_order_relaxed);
  }
  if (!was_dead) return;
  if (!is_drained_) {
    is_drained_ = count == 0;
  } else if (count > 0) {
    is_drained_ = false;
    is_dead_.store(false, std::memory_order_relaxed);
    first_ns_.store(now_ns, std::memory_order_release);  // pairs with TakeFirstAfterDeath
  }
}

double StampedLoad::TakeLongestGapMs() {
  return static_cast<double>(longest_gap_ns_.exchange(0, std::memory_order_relaxed)) / 1e6;
}

std::string StampedLoad::Run() {
  std::array<DiskCompletion, 64> completions;
  std::uint32_t in_flight = 0;
  last_ns_ = SystemClock().MonotonicNs();
  while (in_flight > 0 || !must_stop_.load(std::memory_order_relaxed)) {
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].is_busy || must_stop_.load(std::memory_order_relaxed)) continue;
      Choose(slots_[i]);
      if (!Submit(i)) return "a request is not taken";
      ++in_flight;
    }
    queue_.Publish();
    const bool was_dead = is_dead_.load(std::memory_order_acquire);  // pairs with MarkDead
    const std::size_t count = queue_.Poll(completions);
    NoteProgress(count, was_dead, SystemClock().MonotonicNs());
    for (std::size_t i = 0; i < count; ++i) {
      const std::string wrong = Finish(completions[i]);
      if (!wrong.empty()) return wrong;
    }
    in_flight -= static_cast<std::uint32_t>(count);
    if (count == 0) ::sched_yield();
  }
  return "";
}

std::string StampedLoad::VerifyDisk() {
  std::array<DiskCompletion, 64> completions;
  std::uint32_t next = 0, in_flight = 0;
  while (next < acknowledged_.size() || in_flight > 0) {
    for (std::uint32_t i = 0; i < slots_.size() && next < acknowledged_.size(); ++i) {
      if (slots_[i].is_busy) continue;
      slots_[i].operation = DiskOperation::kRead;
      slots_[i].block = next++;
      if (!Submit(i)) return "a request is not taken";
      ++in_flight;
    }
    queue_.Publish();
    const std::size_t count = queue_.Poll(completions);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string wrong = Finish(completions[i]);
      if (!wrong.empty()) return wrong;
    }
    in_flight -= static_cast<std::uint32_t>(count);
    if (count == 0) ::sched_yield();
  }
  return "";
}

std::string StampedLoad::VerifyFile(const std::string& path) const {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> data(kBlockBytes);
  for (std::uint32_t block = 0; block < acknowledged_.size(); ++block) {
    if (!file.read(data.data(), kBlockBytes)) return "the file is short";
    const std::string wrong = Check(block, reinterpret_cast<const std::byte*>(data.data()));
    if (!wrong.empty()) return wrong;
  }
  return "";
}

}  // namespace filer::bridge
