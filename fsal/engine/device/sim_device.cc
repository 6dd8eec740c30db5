#include "fsal/engine/device/sim_device.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <random>

#include "base/assert.h"
#include "base/thread_annotations.h"
#include "base/units.h"
#include "fsal/engine/device/arena.h"
#include "fsal/engine/device/buffer_pool.h"

namespace filer::engine {

// ---- SimImage ----------------------------------------------------------------------------------

SimImage::Block& SimImage::Mutable(std::uint64_t index) {
  auto& block = blocks_[index];
  if (block == nullptr) {
    block = std::make_shared<Block>();
    block->fill(std::byte{0});
  } else if (block.use_count() != 1) {
    block = std::make_shared<Block>(*block);
  }
  return *block;
}

void SimImage::Read(std::uint64_t offset_bytes, std::span<std::byte> bytes) const {
  FILER_ASSERT(offset_bytes + bytes.size() <= size_bytes_);
  for (std::size_t done = 0; done < bytes.size();) {
    const std::uint64_t at = offset_bytes + done;
    const std::size_t within = at % kBlockBytes;
    const std::size_t now = std::min<std::size_t>(kBlockBytes - within, bytes.size() - done);
    const auto found = blocks_.find(at / kBlockBytes);
    if (found == blocks_.end()) {
      std::memset(bytes.data() + done, 0, now);
    } else {
      std::memcpy(bytes.data() + done, found->second->data() + within, now);
    }
    done += now;
  }
}

void SimImage::Write(std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  FILER_ASSERT(offset_bytes + bytes.size() <= size_bytes_);
  for (std::size_t done = 0; done < bytes.size();) {
    const std::uint64_t at = offset_bytes + done;
    const std::size_t within = at % kBlockBytes;
    const std::size_t now = std::min<std::size_t>(kBlockBytes - within, bytes.size() - done);
    std::memcpy(Mutable(at / kBlockBytes).data() + within, bytes.data() + done, now);
    done += now;
  }
}

void SimImage::Zero(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  FILER_ASSERT(offset_bytes + length_bytes <= size_bytes_);
  const std::uint64_t end = offset_bytes + length_bytes;
  // Only blocks that exist need work.
  auto at = blocks_.lower_bound(offset_bytes / kBlockBytes);
  while (at != blocks_.end() && at->first * kBlockBytes < end) {
    const std::uint64_t start = at->first * kBlockBytes;
    const std::uint64_t from = std::max(start, offset_bytes);
    const std::uint64_t to = std::min(start + kBlockBytes, end);
    if (to - from == kBlockBytes) {
      at = blocks_.erase(at);
    } else {
      std::memset(Mutable(at->first).data() + (from - start), 0, to - from);
      ++at;
    }
  }
}

void SimImage::FlipBit(std::uint64_t offset_bytes, unsigned bit) {
  FILER_ASSERT(offset_bytes < size_bytes_ && bit < 8);
  Mutable(offset_bytes / kBlockBytes)[offset_bytes % kBlockBytes] ^= std::byte{1} << bit;
}

std::uint64_t SimImage::allocated_bytes() const noexcept { return blocks_.size() * kBlockBytes; }

void SimImage::EachBlock(
    const std::function<void(std::uint64_t block, std::span<const std::byte> bytes)>& visit) const {
  for (const auto& [index, block] : blocks_) visit(index, *block);
}

bool SimImage::SameContents(const SimImage& other) const {
  if (size_bytes_ != other.size_bytes_) return false;
  const Block zero{};
  const auto covers = [&zero](const SimImage& a, const SimImage& b) {
    return std::all_of(a.blocks_.begin(), a.blocks_.end(), [&](const auto& entry) {
      const auto found = b.blocks_.find(entry.first);
      const Block& there = found == b.blocks_.end() ? zero : *found->second;
      return &there == entry.second.get() || there == *entry.second;
    });
  };
  return covers(*this, other) && covers(other, *this);
}

// ---- SimDevice ---------------------------------------------------------------------------------

namespace {
// One change of the volume that a crash may lose. Empty `bytes`: zeroes.
struct UnstableWrite {
  std::uint64_t offset_bytes = 0;
  std::uint64_t length_bytes = 0;
  std::shared_ptr<const std::vector<std::byte>> bytes;
};

void Apply(SimImage& image, const UnstableWrite& write, std::uint64_t length_bytes) {
  if (write.bytes == nullptr) {
    image.Zero(write.offset_bytes, length_bytes);
  } else {
    image.Write(write.offset_bytes, std::span(*write.bytes).first(length_bytes));
  }
}

bool ChangesData(BlockOperation operation) {
  return operation != BlockOperation::kRead && operation != BlockOperation::kFlush;
}

UnstableWrite RecordOf(const BlockRequest& request) {
  UnstableWrite write{request.offset_bytes, request.length_bytes, nullptr};
  if (request.operation != BlockOperation::kWrite) return write;
  auto bytes = std::make_shared<std::vector<std::byte>>();
  bytes->reserve(request.length_bytes);
  for (const iovec& segment : request.segments) {
    const auto* first = static_cast<const std::byte*>(segment.iov_base);
    bytes->insert(bytes->end(), first, first + segment.iov_len);
  }
  write.bytes = std::move(bytes);
  return write;
}
}  // namespace

struct SimDevice::State {
  struct Pending {
    BlockRequest* request;
    std::uint64_t flush_barrier;  // kFlush: sequence of the first write it does not cover
    std::uint64_t record_index;   // valid while `record` is there and the request is no read
  };

  State(const SimOptions& options_in, SimImage image, Arena arena_in)
      : options(options_in),
        arena(std::move(arena_in)),
        pool(arena.bytes()),
        random(options_in.seed),
        current(image),
        stable(std::move(image)) {}

  const SimOptions options;
  Arena arena;
  BufferPool pool;
  mutable Mutex mutex;
  std::mt19937_64 random FILER_GUARDED_BY(mutex);
  SimImage current FILER_GUARDED_BY(mutex);
  SimImage stable FILER_GUARDED_BY(mutex);
  std::deque<UnstableWrite> unstable FILER_GUARDED_BY(mutex);
  std::uint64_t unstable_first FILER_GUARDED_BY(mutex) = 0;  // sequence of unstable.front()
  std::vector<Pending> pending FILER_GUARDED_BY(mutex);
  std::uint64_t request_count FILER_GUARDED_BY(mutex) = 0;
  std::uint64_t fail_at FILER_GUARDED_BY(mutex) = 0;  // 0: never
  Errc fail_status FILER_GUARDED_BY(mutex) = Errc::kIo;
  bool is_fail_permanent FILER_GUARDED_BY(mutex) = false;
  std::optional<std::uint64_t> power_ends_after FILER_GUARDED_BY(mutex);
  FaultHook fault_hook FILER_GUARDED_BY(mutex);
  std::function<void(SimDevice&, const BlockRequest&)> step_hook FILER_GUARDED_BY(mutex);
  std::optional<SimRecord> record FILER_GUARDED_BY(mutex);

  std::uint64_t RecordSubmit(const BlockRequest& request) FILER_REQUIRES(mutex) {
    if (!record.has_value() || request.operation == BlockOperation::kRead) return 0;
    const std::uint64_t index = record->requests.size();
    const UnstableWrite write = RecordOf(request);
    record->requests.push_back(
        {request.operation, write.offset_bytes, write.length_bytes, write.bytes});
    record->events.push_back({SimRecord::EventKind::kSubmit, index});
    return index;
  }

  // Before it takes effect. What a fault makes of a write is entered by RecordStored.
  void RecordComplete(const Pending& taken, const SimVerdict& verdict) FILER_REQUIRES(mutex) {
    if (!record.has_value() || taken.request->operation == BlockOperation::kRead) return;
    SimRecord::Request& entry = record->requests[taken.record_index];
    entry.is_ok = verdict.fault == SimFault::kNone;
    if (entry.bytes != nullptr) {
      entry.changed_in_flight = *RecordOf(*taken.request).bytes != *entry.bytes;
    }
    // Unless RecordStored says more.
    if (!entry.is_ok && ChangesData(entry.operation)) entry.length_bytes = 0;
    record->events.push_back({SimRecord::EventKind::kComplete, taken.record_index});
  }

  void RecordStored(std::uint64_t index, const UnstableWrite& write) FILER_REQUIRES(mutex) {
    if (!record.has_value()) return;
    SimRecord::Request& entry = record->requests[index];
    entry.offset_bytes = write.offset_bytes;
    entry.length_bytes = write.length_bytes;
    entry.bytes = write.bytes;
  }

  std::optional<Pending> TakeOne() FILER_REQUIRES(mutex) {
    if (pending.empty()) return std::nullopt;
    const std::size_t index = options.completes_in_order ? 0 : random() % pending.size();
    const Pending taken = pending[index];
    pending.erase(pending.begin() + static_cast<std::ptrdiff_t>(index));
    return taken;
  }

  bool HasPower() const FILER_REQUIRES(mutex) {
    return !power_ends_after.has_value() || request_count <= *power_ends_after;
  }

  SimVerdict Judge(const BlockRequest& request) FILER_REQUIRES(mutex) {
    if (!HasPower()) return {SimFault::kFail, Errc::kDeviceGone};
    if (fail_at != 0 &&
        (request_count == fail_at || (is_fail_permanent && request_count > fail_at))) {
      return {SimFault::kFail, fail_status};
    }
    return fault_hook ? fault_hook(request, request_count) : SimVerdict{};
  }

  void Store(UnstableWrite write) FILER_REQUIRES(mutex) {
    Apply(current, write, write.length_bytes);
    if (options.has_volatile_cache) {
      unstable.push_back(std::move(write));
    } else {
      Apply(stable, write, write.length_bytes);
    }
  }

  void StoreWrite(const Pending& taken, SimFault fault) FILER_REQUIRES(mutex) {
    UnstableWrite write = RecordOf(*taken.request);
    if (fault == SimFault::kLose) return;
    if (fault == SimFault::kFailTorn) {
      write.length_bytes = random() % (write.length_bytes / kSectorBytes) * kSectorBytes;
      if (write.length_bytes == 0) return;
    }
    if (fault == SimFault::kMisdirect) {
      write.offset_bytes =
          std::min(write.offset_bytes + kBlockBytes, current.size_bytes() - write.length_bytes);
    }
    RecordStored(taken.record_index, write);
    Store(std::move(write));
  }

  void Flush(std::uint64_t barrier) FILER_REQUIRES(mutex) {
    while (!unstable.empty() && unstable_first < barrier) {
      Apply(stable, unstable.front(), unstable.front().length_bytes);
      unstable.pop_front();
      ++unstable_first;
    }
  }

  void ReadInto(const BlockRequest& request) FILER_REQUIRES(mutex) {
    std::uint64_t at = request.offset_bytes;
    for (const iovec& segment : request.segments) {
      current.Read(at, {static_cast<std::byte*>(segment.iov_base), segment.iov_len});
      at += segment.iov_len;
    }
  }

  // Returns the request's outcome.
  SimVerdict Execute(const Pending& taken) FILER_REQUIRES(mutex) {
    ++request_count;
    const BlockRequest& request = *taken.request;
    const SimVerdict verdict = Judge(request);
    RecordComplete(taken, verdict);
    if (verdict.fault == SimFault::kFail) return verdict;
    if (ChangesData(request.operation)) {
      StoreWrite(taken, verdict.fault);
    } else if (request.operation == BlockOperation::kFlush) {
      Flush(taken.flush_barrier);
    } else {
      ReadInto(request);
    }
    return verdict;
  }

  // The unstable writes, those in flight last (a device may have stored them already).
  std::vector<UnstableWrite> AllUnstable() const FILER_REQUIRES(mutex) {
    std::vector<UnstableWrite> all(unstable.begin(), unstable.end());
    if (!HasPowerNow()) return all;
    for (const Pending& one : pending) {
      if (ChangesData(one.request->operation)) all.push_back(RecordOf(*one.request));
    }
    return all;
  }

  // After a power cut nothing that was submitted later can have reached the disk.
  bool HasPowerNow() const FILER_REQUIRES(mutex) {
    return !power_ends_after.has_value() || request_count < *power_ends_after;
  }
};

SimDevice::SimDevice(std::unique_ptr<State> state) : state_(std::move(state)) {}
SimDevice::~SimDevice() = default;

Result<std::unique_ptr<SimDevice>> SimDevice::Create(const SimOptions& options) {
  return Create(options, SimImage(options.size_bytes));
}

Result<std::unique_ptr<SimDevice>> SimDevice::Create(const SimOptions& options, SimImage image) {
  if (image.size_bytes() == 0 || image.size_bytes() % kBlockBytes != 0 || options.depth_max == 0) {
    return Error(Errc::kInvalidArgument, "a simulated volume needs a multiple of 4096 bytes");
  }
  Arena arena = FILER_TRY(Arena::Map(options.pool_bytes));
  auto state = std::make_unique<State>(options, std::move(image), std::move(arena));
  return std::unique_ptr<SimDevice>(new SimDevice(std::move(state)));
}

DeviceInfo SimDevice::Info() const {
  MutexLock lock(state_->mutex);
  return {.size_bytes = state_->current.size_bytes(),
          .is_read_only = state_->options.is_read_only,
          .has_volatile_cache = state_->options.has_volatile_cache,
          .can_discard = true,
          .depth_max = state_->options.depth_max};
}

BufferPool& SimDevice::Pool() { return state_->pool; }

Result<void> SimDevice::Submit(BlockRequest& request) {
  FILER_TRY(CheckRequest(request, Info(), state_->pool));
  MutexLock lock(state_->mutex);
  if (state_->pending.size() >= state_->options.depth_max) return Errc::kWouldBlock;
  const std::uint64_t barrier = state_->unstable_first + state_->unstable.size();
  state_->pending.push_back({&request, barrier, state_->RecordSubmit(request)});
  return Ok();
}

std::uint32_t SimDevice::Poll(std::uint32_t completions_max) {
  std::uint32_t count = 0;
  for (; count < completions_max; ++count) {
    BlockRequest* request;
    SimVerdict verdict;
    std::function<void(SimDevice&, const BlockRequest&)> step_hook;
    {
      MutexLock lock(state_->mutex);
      const auto taken = state_->TakeOne();
      if (!taken.has_value()) break;
      request = taken->request;
      verdict = state_->Execute(*taken);
      step_hook = state_->step_hook;
    }
    if (step_hook) step_hook(*this, *request);
    const bool is_failed = verdict.fault == SimFault::kFail || verdict.fault == SimFault::kFailTorn;
    FinishRequest(*request, !is_failed, verdict.status);
  }
  return count;
}

void SimDevice::Relax() { ::sched_yield(); }

void SimDevice::SetFaultHook(FaultHook hook) {
  MutexLock lock(state_->mutex);
  state_->fault_hook = std::move(hook);
}

void SimDevice::FailRequest(std::uint64_t ordinal, Errc status, bool is_permanent) {
  MutexLock lock(state_->mutex);
  state_->fail_at = state_->request_count + ordinal;
  state_->fail_status = status;
  state_->is_fail_permanent = is_permanent;
}

void SimDevice::CutPowerAfter(std::uint64_t ordinal) {
  MutexLock lock(state_->mutex);
  state_->power_ends_after = state_->request_count + ordinal;
}

void SimDevice::SetStepHook(std::function<void(SimDevice&, const BlockRequest&)> hook) {
  MutexLock lock(state_->mutex);
  state_->step_hook = std::move(hook);
}

void SimDevice::StartRecord() {
  MutexLock lock(state_->mutex);
  FILER_ASSERT(state_->pending.empty());
  FILER_ASSERT(state_->unstable.empty());
  state_->record = SimRecord{.before = state_->current,
                             .has_volatile_cache = state_->options.has_volatile_cache};
}

void SimDevice::Mark(std::uint64_t value) {
  MutexLock lock(state_->mutex);
  if (state_->record.has_value()) {
    state_->record->events.push_back({SimRecord::EventKind::kMark, value});
  }
}

SimRecord SimDevice::TakeRecord() {
  MutexLock lock(state_->mutex);
  FILER_ASSERT(state_->record.has_value());
  SimRecord record = std::move(*state_->record);
  state_->record.reset();
  return record;
}

std::uint64_t SimDevice::RequestCount() const {
  MutexLock lock(state_->mutex);
  return state_->request_count;
}

std::size_t SimDevice::UnstableCount() const {
  MutexLock lock(state_->mutex);
  return state_->AllUnstable().size();
}

SimImage SimDevice::StableImage() const {
  MutexLock lock(state_->mutex);
  return state_->stable;
}

SimImage SimDevice::CurrentImage() const {
  MutexLock lock(state_->mutex);
  return state_->current;
}

SimImage SimDevice::CrashImageKeeping(const std::vector<bool>& keep) const {
  MutexLock lock(state_->mutex);
  SimImage image = state_->stable;
  const auto writes = state_->AllUnstable();
  for (std::size_t i = 0; i < std::min(writes.size(), keep.size()); ++i) {
    if (keep[i]) Apply(image, writes[i], writes[i].length_bytes);
  }
  return image;
}

SimImage SimDevice::CrashImage(std::uint64_t seed) const {
  MutexLock lock(state_->mutex);
  std::mt19937_64 random(seed);
  SimImage image = state_->stable;
  const auto writes = state_->AllUnstable();
  const std::size_t count = writes.size();
  if (count == 0) return image;
  const unsigned shape = random() % 4;
  const std::size_t chosen = random() % (count + 1);
  const std::size_t torn = random() % 2 == 0 ? random() % count : count;
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_kept = shape == 0   ? i < chosen
                         : shape == 1 ? i != chosen
                         : shape == 2 ? i == chosen
                                      : random() % 2 == 0;
    if (!is_kept) continue;
    if (i == torn) {
      // Any subset of its sectors.
      for (std::uint64_t at = 0; at < writes[i].length_bytes; at += kSectorBytes) {
        if (random() % 2 == 0) continue;
        UnstableWrite sector{writes[i].offset_bytes + at, kSectorBytes, nullptr};
        if (writes[i].bytes != nullptr) {
          const auto first = writes[i].bytes->begin() + static_cast<std::ptrdiff_t>(at);
          sector.bytes = std::make_shared<std::vector<std::byte>>(
              first, first + static_cast<std::ptrdiff_t>(kSectorBytes));
        }
        Apply(image, sector, kSectorBytes);
      }
    } else {
      Apply(image, writes[i], writes[i].length_bytes);
    }
  }
  return image;
}

}  // namespace filer::engine
