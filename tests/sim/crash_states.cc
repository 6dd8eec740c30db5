#include "tests/sim/crash_states.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "base/assert.h"

namespace filer::engine::sim {
namespace {

constexpr std::uint32_t kTornUnits[] = {512, 4096};
constexpr std::size_t kCutsMax = 16;  // of one write: longer ones are cut at some units only

// 0 for a block of zeroes: one that was never written is the same.
std::uint64_t HashOf(std::uint64_t block, std::span<const std::byte, kBlockBytes> bytes) {
  constexpr std::uint64_t kFactor = 0x9E3779B97F4A7C15ULL;
  std::uint64_t lanes[4] = {1, 2, 3, 4};
  std::uint64_t any = 0;
  for (std::size_t at = 0; at < kBlockBytes; at += sizeof(lanes)) {
    std::uint64_t words[4];
    std::memcpy(words, bytes.data() + at, sizeof(words));
    for (std::size_t lane = 0; lane < 4; ++lane) {
      any |= words[lane];
      lanes[lane] = (lanes[lane] ^ words[lane]) * kFactor;
      lanes[lane] ^= lanes[lane] >> 29;
    }
  }
  if (any == 0) return 0;
  std::uint64_t hash = (block + 1) * kFactor;
  for (const std::uint64_t lane : lanes) {
    hash = (hash ^ lane) * kFactor;
    hash ^= hash >> 32;
  }
  return hash == 0 ? 1 : hash;
}

std::size_t UnitCount(const SimRecord::Request& write, std::uint32_t unit_bytes) {
  return (write.length_bytes + unit_bytes - 1) / unit_bytes;
}

// Calls `put(offset in the write, length)` for each part of the write that is there.
template <typename Put>
void EachPart(const SimRecord::Request& write, const KeptWrite& kept, const Put& put) {
  if (kept.is_whole) {
    put(std::uint64_t{0}, write.length_bytes);
    return;
  }
  for (std::size_t unit = 0; unit < kept.units.size(); ++unit) {
    if (!kept.units[unit]) continue;
    const std::uint64_t from = unit * kept.unit_bytes;
    put(from, std::min<std::uint64_t>(kept.unit_bytes, write.length_bytes - from));
  }
}

void Apply(SimImage& image, const SimRecord::Request& write, std::uint64_t from,
           std::uint64_t length) {
  if (write.bytes == nullptr) {
    image.Zero(write.offset_bytes + from, length);
  } else {
    image.Write(write.offset_bytes + from, std::span(*write.bytes).subspan(from, length));
  }
}

KeptWrites Whole(std::size_t count, const std::function<bool(std::size_t)>& is_kept) {
  KeptWrites kept(count);
  for (std::size_t at = 0; at < count; ++at) kept[at].is_whole = is_kept(at);
  return kept;
}

}  // namespace

FlushEpoch::FlushEpoch(const SimImage& image) : stable_(image) {
  image.EachBlock([this](std::uint64_t block, std::span<const std::byte> bytes) {
    const std::uint64_t hash = HashOf(block, bytes.first<kBlockBytes>());
    if (hash != 0) block_hashes_[block] = hash;
    stable_sum_ += hash;
  });
}

std::uint64_t FlushEpoch::StableHash(std::uint64_t block) const {
  const auto found = block_hashes_.find(block);
  return found == block_hashes_.end() ? 0 : found->second;
}

FlushEpoch::Overlay FlushEpoch::OverlayOf(const KeptWrites& kept) const {
  FILER_ASSERT(kept.size() == pending_.size());
  Overlay overlay;
  for (std::size_t index = 0; index < kept.size(); ++index) {
    const SimRecord::Request& write = *pending_[index];
    EachPart(write, kept[index], [&](std::uint64_t from, std::uint64_t length) {
      for (std::uint64_t done = 0; done < length;) {
        const std::uint64_t at = write.offset_bytes + from + done;
        const std::uint64_t within = at % kBlockBytes;
        const std::uint64_t some = std::min(length - done, kBlockBytes - within);
        const auto [block, is_new] = overlay.try_emplace(at / kBlockBytes);
        if (is_new && some < kBlockBytes) stable_.Read(at - within, block->second);
        if (write.bytes == nullptr) {
          std::memset(block->second.data() + within, 0, some);
        } else {
          std::memcpy(block->second.data() + within, write.bytes->data() + from + done, some);
        }
        done += some;
      }
    });
  }
  return overlay;
}

SimImage FlushEpoch::Image(const KeptWrites& kept) const {
  SimImage image = stable_;
  for (const auto& [block, bytes] : OverlayOf(kept)) image.Write(block * kBlockBytes, bytes);
  return image;
}

std::uint64_t FlushEpoch::Hash(const KeptWrites& kept) const {
  std::uint64_t sum = stable_sum_;
  for (const auto& [block, bytes] : OverlayOf(kept)) {
    sum += HashOf(block, bytes) - StableHash(block);
  }
  return sum;
}

std::string FlushEpoch::Text(const KeptWrites& kept) const {
  std::string text = fmt::format("epoch {}, {} pending writes:", index_, pending_.size());
  for (std::size_t at = 0; at < kept.size(); ++at) {
    const SimRecord::Request& write = *pending_[at];
    text += fmt::format(" [{:#x}+{}", write.offset_bytes, write.length_bytes);
    if (kept[at].is_whole) {
      text += " there]";
    } else if (std::find(kept[at].units.begin(), kept[at].units.end(), true) ==
               kept[at].units.end()) {
      text += " missing]";
    } else {
      text += fmt::format(" torn, {} byte units ", kept[at].unit_bytes);
      for (const bool unit : kept[at].units) text += unit ? '1' : '0';
      text += ']';
    }
  }
  return text;
}

void FlushEpoch::MakeStable(const SimRecord::Request& write) {
  if (write.length_bytes == 0) return;
  const std::uint64_t first = write.offset_bytes / kBlockBytes;
  const std::uint64_t end =
      (write.offset_bytes + write.length_bytes + kBlockBytes - 1) / kBlockBytes;
  Apply(stable_, write, 0, write.length_bytes);
  for (std::uint64_t block = first; block < end; ++block) {
    Block bytes;
    stable_.Read(block * kBlockBytes, bytes);
    const std::uint64_t hash = HashOf(block, bytes);
    stable_sum_ += hash - StableHash(block);
    if (hash == 0) {
      block_hashes_.erase(block);
    } else {
      block_hashes_[block] = hash;
    }
  }
}

// Goes through the events and keeps what is pending.
class EpochWalk {
 public:
  explicit EpochWalk(const SimRecord& record) : record_(record), epoch_(record.before) {}

  void Run(const std::function<bool(const FlushEpoch&)>& visit) {
    for (const SimRecord::Event& event : record_.events) {
      if (event.kind == SimRecord::EventKind::kMark) {
        epoch_.mark_ = event.value;
        continue;
      }
      const SimRecord::Request& request = record_.requests[event.value];
      if (event.kind == SimRecord::EventKind::kSubmit) {
        Submit(request);
        continue;
      }
      const bool is_flush = request.operation == BlockOperation::kFlush;
      const bool ends_epoch = is_flush ? request.is_ok : !record_.has_volatile_cache;
      if (ends_epoch && !Show(visit)) return;
      if (is_flush) {
        if (request.is_ok) Settle(flush_barriers_.at(&request));
      } else {
        Complete(request);
      }
    }
    Show(visit);
  }

 private:
  void Submit(const SimRecord::Request& request) {
    if (request.operation == BlockOperation::kFlush) {
      flush_barriers_[&request] = settled_ + completed_.size();
    } else {
      in_flight_.push_back(&request);
    }
  }

  void Complete(const SimRecord::Request& request) {
    in_flight_.erase(std::find(in_flight_.begin(), in_flight_.end(), &request));
    completed_.push_back(&request);
    if (!record_.has_volatile_cache) Settle(settled_ + completed_.size());
  }

  // Writes that completed as the first `barrier` ones of the run are durable.
  void Settle(std::uint64_t barrier) {
    while (settled_ < barrier) {
      epoch_.MakeStable(*completed_.front());
      completed_.pop_front();
      ++settled_;
    }
  }

  bool Show(const std::function<bool(const FlushEpoch&)>& visit) {
    epoch_.pending_.assign(completed_.begin(), completed_.end());
    epoch_.pending_.insert(epoch_.pending_.end(), in_flight_.begin(), in_flight_.end());
    std::erase_if(epoch_.pending_, [](const auto* write) { return write->length_bytes == 0; });
    const bool goes_on = visit(epoch_);
    ++epoch_.index_;
    return goes_on;
  }

  const SimRecord& record_;
  FlushEpoch epoch_;
  std::vector<const SimRecord::Request*> in_flight_;
  std::deque<const SimRecord::Request*> completed_;  // and not durable
  std::uint64_t settled_ = 0;                        // writes that are durable
  std::unordered_map<const SimRecord::Request*, std::uint64_t> flush_barriers_;
};

void EachEpoch(const SimRecord& record, const std::function<bool(const FlushEpoch&)>& visit) {
  EpochWalk(record).Run(visit);
}

namespace {

// What may be there of a torn write, over its units.
std::vector<std::vector<bool>> TornPatterns(std::size_t units, std::uint32_t random_count,
                                            std::mt19937_64& random) {
  std::vector<std::vector<bool>> patterns;
  std::vector<std::size_t> chosen;  // units to cut at, to drop, and to keep
  if (units <= kCutsMax) {
    for (std::size_t at = 0; at < units; ++at) chosen.push_back(at);
  } else {
    chosen = {0, 1, units / 2, units - 1};
    while (chosen.size() < kCutsMax) chosen.push_back(random() % units);
  }
  for (const std::size_t at : chosen) {
    std::vector<bool> cut(units, false);
    std::fill(cut.begin(), cut.begin() + static_cast<std::ptrdiff_t>(at), true);
    if (at > 0) patterns.push_back(std::move(cut));
    std::vector<bool> dropped(units, true);
    dropped[at] = false;
    patterns.push_back(std::move(dropped));
    std::vector<bool> alone(units, false);
    alone[at] = true;
    patterns.push_back(std::move(alone));
  }
  for (std::uint32_t count = 0; count < random_count; ++count) {
    std::vector<bool> any(units);
    for (std::size_t unit = 0; unit < units; ++unit) any[unit] = random() % 2 == 0;
    patterns.push_back(std::move(any));
  }
  return patterns;
}

// False: stop.
bool EachWholeState(const FlushEpoch& epoch, const CrashStateOptions& options,
                    std::mt19937_64& random, const std::function<bool(const KeptWrites&)>& visit) {
  const std::size_t count = epoch.pending_count();
  if (count <= options.all_subsets_writes_max) {
    for (std::uint64_t subset = 0; subset < (1ULL << count); ++subset) {
      const auto kept = [&](std::size_t at) { return (subset >> at & 1) != 0; };
      if (!visit(Whole(count, kept))) return false;
    }
    return true;
  }
  for (std::size_t chosen = 0; chosen <= count; ++chosen) {
    if (!visit(Whole(count, [&](std::size_t at) { return at < chosen; }))) return false;
    if (!visit(Whole(count, [&](std::size_t at) { return at != chosen; }))) return false;
    if (!visit(Whole(count, [&](std::size_t at) { return at == chosen; }))) return false;
  }
  for (std::uint32_t draw = 0; draw < options.random_subsets; ++draw) {
    if (!visit(Whole(count, [&](std::size_t) { return random() % 2 == 0; }))) return false;
  }
  return true;
}

}  // namespace

void EachState(const FlushEpoch& epoch, const CrashStateOptions& options,
               const std::function<bool(const KeptWrites&)>& visit) {
  std::mt19937_64 random(options.seed ^ (epoch.index() * 0x9E3779B97F4A7C15ULL));
  if (!EachWholeState(epoch, options, random, visit)) return;
  const std::size_t count = epoch.pending_count();
  for (std::size_t torn = 0; options.has_torn && torn < count; ++torn) {
    for (const std::uint32_t unit_bytes : kTornUnits) {
      const std::size_t units = UnitCount(epoch.pending(torn), unit_bytes);
      if (units < 2) continue;
      for (const auto& pattern : TornPatterns(units, options.torn_random, random)) {
        // The others: there up to it, all there, none there. Alone, these are the same.
        for (int others = 0; others < (count == 1 ? 1 : 3); ++others) {
          KeptWrites kept = Whole(
              count, [&](std::size_t at) { return others == 1 || (others == 0 && at < torn); });
          kept[torn] = {false, unit_bytes, pattern};
          if (!visit(kept)) return;
        }
      }
    }
  }
}

KeptWrites RandomState(const FlushEpoch& epoch, std::mt19937_64& random) {
  const std::size_t count = epoch.pending_count();
  const std::size_t prefix = random() % (count + 1);
  const bool is_prefix = random() % 2 == 0;
  KeptWrites kept =
      Whole(count, [&](std::size_t at) { return is_prefix ? at < prefix : random() % 2 == 0; });
  if (count == 0 || random() % 2 == 0) return kept;
  const std::size_t torn = random() % count;
  const std::uint32_t unit_bytes = kTornUnits[random() % 2];
  std::vector<bool> units(UnitCount(epoch.pending(torn), unit_bytes));
  for (std::size_t unit = 0; unit < units.size(); ++unit) units[unit] = random() % 2 == 0;
  kept[torn] = {false, unit_bytes, std::move(units)};
  return kept;
}

}  // namespace filer::engine::sim
