// sim_device.h: a volume in memory for tests: completes in seeded order, records what it was asked
// and what is not yet flushed, fails on request.
//
// A crash image is what a disk may hold after power loss: all writes that had completed before the
// last completed flush was submitted, plus any subset of the later ones (those still in flight
// included), each possibly torn at 512 bytes. A new device on that image is the machine after its
// restart.
//
// Threads: as BlockDevice. The hooks are called with the device's lock held by nobody, on the
// thread that polls; a test that uses them drives the device from one thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/result.h"
#include "fsal/engine/device/block_device.h"

namespace filer::engine {

// Contents of a volume: sparse, zero where never written. Copies share their blocks, so that an
// image costs little.
class SimImage {
 public:
  explicit SimImage(std::uint64_t size_bytes) : size_bytes_(size_bytes) {}

  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  void Read(std::uint64_t offset_bytes, std::span<std::byte> bytes) const;
  void Write(std::uint64_t offset_bytes, std::span<const std::byte> bytes);
  void Zero(std::uint64_t offset_bytes, std::uint64_t length_bytes);
  void FlipBit(std::uint64_t offset_bytes, unsigned bit);
  // Bytes held in blocks that were written (for reports).
  std::uint64_t allocated_bytes() const noexcept;
  // Same size and same bytes.
  bool SameContents(const SimImage& other) const;
  // Calls `visit` for each block of 4096 bytes that was written, in order.
  void EachBlock(const std::function<void(std::uint64_t block, std::span<const std::byte> bytes)>&
                     visit) const;

 private:
  using Block = std::array<std::byte, 4096>;
  Block& Mutable(std::uint64_t index);
  std::uint64_t size_bytes_;
  std::map<std::uint64_t, std::shared_ptr<Block>> blocks_;
};

// What a volume was asked to do from some moment on, in the order in which requests were submitted
// and took effect. Made by SimDevice; tests/sim takes crash states from it.
struct SimRecord {
  struct Request {
    BlockOperation operation = BlockOperation::kRead;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    // kWrite: what was stored, or is to be while the request is in flight. Null: zeroes.
    std::shared_ptr<const std::vector<std::byte>> bytes;
    bool is_ok = false;              // took effect and said so
    bool changed_in_flight = false;  // the memory changed between Submit and the transfer
  };
  enum class EventKind : std::uint8_t { kSubmit, kComplete, kMark };
  struct Event {
    EventKind kind = EventKind::kSubmit;
    std::uint64_t value = 0;  // index of the request, or what Mark said
  };
  SimImage before;  // all of it durable
  bool has_volatile_cache = true;
  std::vector<Request> requests;  // reads are left out
  std::vector<Event> events;
};

enum class SimFault : std::uint8_t {
  kNone,
  kFail,       // the request fails with `status` and has no effect
  kFailTorn,   // a write fails with `status` after some of its sectors were stored
  kLose,       // a write is reported as done and never stored (also lost for later reads)
  kMisdirect,  // a write is stored one block (4 KiB) further
};
struct SimVerdict {
  SimFault fault = SimFault::kNone;
  Errc status = Errc::kIo;
};

struct SimOptions {
  std::uint64_t size_bytes = 64ULL << 20;  // multiple of 4096; ignored where an image is given
  std::uint64_t pool_bytes = 16ULL << 20;
  std::uint32_t depth_max = 64;
  std::uint64_t seed = 1;
  bool completes_in_order = false;  // otherwise requests in flight finish in seeded order
  bool has_volatile_cache = true;
  bool is_read_only = false;
};

class SimDevice final : public BlockDevice {
 public:
  static Result<std::unique_ptr<SimDevice>> Create(const SimOptions& options);
  // On the contents of `image`, all of them durable.
  static Result<std::unique_ptr<SimDevice>> Create(const SimOptions& options, SimImage image);
  ~SimDevice() override;

  DeviceInfo Info() const override;
  BufferPool& Pool() override;
  Result<void> Submit(BlockRequest& request) override;
  std::uint32_t Poll(std::uint32_t completions_max) override;
  void Relax() override;

  // Asked before each request takes effect; `ordinal` counts the requests taken from 1.
  using FaultHook = std::function<SimVerdict(const BlockRequest& request, std::uint64_t ordinal)>;
  void SetFaultHook(FaultHook hook);
  // The ordinal-th request from now (1 = the next to take effect) fails; with `is_permanent` all
  // after it, too.
  void FailRequest(std::uint64_t ordinal, Errc status = Errc::kIo, bool is_permanent = false);
  // After the ordinal-th request from now nothing takes effect any more: all requests fail with
  // kDeviceGone, as when the machine lost its power there. CrashImage then tells what is left.
  void CutPowerAfter(std::uint64_t ordinal);
  // Called after each request took effect, before its completion is delivered: the place to take
  // crash images on the way.
  void SetStepHook(std::function<void(SimDevice& device, const BlockRequest& request)> hook);

  // Records from here on. Nothing may be in flight or not flushed.
  void StartRecord();
  // A word of the test's own into the record, e.g. how many operations were acknowledged.
  void Mark(std::uint64_t value);
  // The record so far, with what is still in flight as submitted. The recording ends.
  SimRecord TakeRecord();

  // Requests that took effect since creation.
  std::uint64_t RequestCount() const;
  // Writes that a crash may or may not keep (with those in flight), oldest first.
  std::size_t UnstableCount() const;
  // Only what is guaranteed.
  SimImage StableImage() const;
  // What reads see now.
  SimImage CurrentImage() const;
  // The guaranteed writes and, in order, the unstable ones i with keep[i] (missing entries:
  // dropped).
  SimImage CrashImageKeeping(const std::vector<bool>& keep) const;
  // A crash state drawn by `seed`: a prefix, a prefix with one missing, one alone, or any subset;
  // sometimes with one torn.
  SimImage CrashImage(std::uint64_t seed) const;

 private:
  struct State;
  explicit SimDevice(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace filer::engine
