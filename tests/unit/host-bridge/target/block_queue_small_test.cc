// Requests in the shape of the short way (one indirect table of header, data, status) through a
// whole queue, split and packed: what is no valid read or write of this volume reaches no backend,
// and is answered like any other that is wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "host-bridge/target/block_queue.h"
#include "host-bridge/virtio/block.h"
#include "tests/unit/host-bridge/target/fake_memory.h"

namespace filer::bridge {
namespace {

using virtio::Descriptor;
using virtio::kRequestIn;
using virtio::kRequestOut;
using virtio::PackedDescriptor;
using virtio::StoreRelease;

constexpr std::uint64_t kGuest = 0x100000;
constexpr std::size_t kMemoryBytes = 80 << 20;  // most of it never touched
constexpr std::size_t kAvail = 0x1000, kUsed = 0x2000, kTable = 0x3000, kHeader = 0x3100,
                      kStatus = 0x3200, kData = 0x10000;
constexpr std::uint32_t kSize = 8;
constexpr std::uint64_t kSectors = (1ULL << 30) / 512;
constexpr std::uint8_t kNotAnswered = 0xee;

// Says what reached it, and completes that.
class RecordingQueue final : public BackendQueue {
 public:
  explicit RecordingQueue(std::vector<BackendRequest>& reached) : reached_(reached) {}
  bool Queue(const BackendRequest& request) override {
    reached_.push_back(request);
    ++owed_;
    return true;
  }
  void Kick() override {}
  std::size_t Poll(std::span<BackendCompletion> completions) override {
    if (owed_ == 0 || completions.empty()) return 0;
    --owed_;
    completions[0] = {reached_.back().cookie, true};  // one at a time is all that comes here
    return 1;
  }
  int WaitFd() const override { return -1; }
  void SetMemory(std::span<const iovec>) override {}
  std::uint64_t CopiedBytes() const override { return 0; }

 private:
  std::vector<BackendRequest>& reached_;
  int owed_ = 0;
};

class RecordingBackend final : public Backend {
 public:
  BackendInfo Info() const override { return {}; }
  Result<std::unique_ptr<BackendQueue>> OpenQueue(std::uint32_t) override {
    return std::unique_ptr<BackendQueue>(std::make_unique<RecordingQueue>(reached));
  }
  std::vector<BackendRequest> reached;
};

struct Small {
  const char* what;
  std::uint32_t type;
  std::uint64_t sector;
  std::uint32_t bytes;
  bool is_data_writable;
  bool is_read_only;  // the volume
};
struct Answer {
  bool is_reached;
  std::uint8_t status;
  std::uint32_t used_length;
};

// The parameter: whether the ring is packed.
class BlockQueueSmallTest : public testing::TestWithParam<bool> {
 protected:
  BlockQueueSmallTest() : memory_(kMemoryBytes) {
    const RegionSpec spec{kGuest, kMemoryBytes, 0x7f0000000000, 0};
    EXPECT_TRUE(space_.memory().Add(spec, memory_.DupFd()).has_value());
    device_.capacity_sectors = kSectors;
  }
  ~BlockQueueSmallTest() override { Finish(); }
  // A queue of a volume, that has seen one request: only then the short way knows the memory.
  void Start(bool is_read_only) {
    Finish();
    std::memset(memory_.base(), 0, kTable);
    layout_ = {};
    layout_.size = kSize;
    layout_.has_indirect = true;
    next_ = 0;
    if (GetParam()) {
      layout_.packed = memory_.At<PackedDescriptor>(0);
      layout_.driver_event = memory_.At<virtio::PackedEvent>(kAvail);
      layout_.device_event = memory_.At<virtio::PackedEvent>(kUsed);
    } else {
      layout_.descriptors = memory_.At<Descriptor>(0);
      layout_.avail = memory_.At<virtio::AvailRing>(kAvail);
      layout_.used = memory_.At<virtio::UsedRing>(kUsed);
    }
    device_.is_read_only = is_read_only;
    queue_ = std::make_unique<BlockQueue>(space_, device_, counters_);
    const std::uint16_t base = GetParam() ? virtio::kPackedPlaceWrap : 0;
    ASSERT_TRUE(queue_->Start(backend_, layout_, base, nullptr, 0).has_value());
    Do({"the first", kRequestIn, 0, 512, true, is_read_only});
  }
  Answer Do(const Small& request) {
    *memory_.At<virtio::RequestHeader>(kHeader) = {request.type, 0, request.sector};
    std::uint8_t& status = *memory_.At<std::uint8_t>(kStatus);
    status = kNotAnswered;
    BuildTable(request);
    const std::size_t before = backend_.reached.size();
    ExpectIsSmall(Publish());
    queue_->Round();
    EXPECT_EQ(queue_->fault(), RingFault::kNone);
    EXPECT_EQ(queue_->in_flight(), 0U);
    return {backend_.reached.size() > before, status, TakeUsedLength()};
  }

 private:
  void BuildTable(const Small& request) {
    const std::uint16_t writes = virtio::kDescriptorWrite, next = virtio::kDescriptorNext;
    const std::uint16_t data = request.is_data_writable ? writes : std::uint16_t{0};
    if (GetParam()) {
      auto* table = memory_.At<PackedDescriptor>(kTable);
      table[0] = {kGuest + kHeader, 16, 0, 0};
      table[1] = {kGuest + kData, request.bytes, 0, data};
      table[2] = {kGuest + kStatus, 1, 0, writes};
      return;
    }
    auto* table = memory_.At<Descriptor>(kTable);
    table[0] = {kGuest + kHeader, 16, next, 1};
    table[1] = {kGuest + kData, request.bytes, static_cast<std::uint16_t>(next | data), 2};
    table[2] = {kGuest + kStatus, 1, writes, 0};
  }
  // Returns the head.
  std::uint16_t Publish() {
    if (GetParam()) {
      PackedDescriptor& at = layout_.packed[next_];
      at = {kGuest + kTable, 48, 0, 0};
      StoreRelease(at.flags, static_cast<std::uint16_t>(virtio::kDescriptorIndirect |
                                                        virtio::PackedAvailableFlags(true)));
    } else {
      layout_.descriptors[0] = {kGuest + kTable, 48, virtio::kDescriptorIndirect, 0};
      layout_.avail->ring[next_] = 0;
      StoreRelease(layout_.avail->index, static_cast<std::uint16_t>(next_ + 1));
    }
    ++next_;
    return 0;
  }
  // That the request has the shape which the short way takes: else this test would test the other.
  void ExpectIsSmall(std::uint16_t head) {
    const std::uint32_t place = next_ - 1;
    GetParam() ? ExpectIsSmallOn<PackedDeviceQueue>(
                     head, static_cast<std::uint16_t>(place | virtio::kPackedPlaceWrap))
               : ExpectIsSmallOn<DeviceQueue>(head, static_cast<std::uint16_t>(place));
  }
  template <typename Ring>
  void ExpectIsSmallOn(std::uint16_t head, std::uint16_t base) {
    Ring ring;
    ring.Attach(layout_, base);
    const AddressView view(space_);
    Chain chain;
    IotlbMiss miss;
    SmallChain small;
    RingFault fault = RingFault::kNone;
    ASSERT_EQ(ring.Pop(head, fault), DeviceQueue::PopResult::kHead);
    ASSERT_EQ(ring.ReadChain(head, view, chain, miss, fault), ChainResult::kOk);
    EXPECT_TRUE(ring.ReadSmallChain(head, view, small));
  }
  std::uint32_t TakeUsedLength() const {
    const std::uint32_t place = next_ - 1;
    if (!GetParam()) {
      EXPECT_EQ(layout_.used->index, next_);
      return layout_.used->ring[place].length;
    }
    EXPECT_TRUE(virtio::IsPackedUsed(layout_.packed[place].flags, true));
    return layout_.packed[place].length;
  }
  void Finish() {
    if (queue_ != nullptr) queue_->Stop();
    queue_.reset();
  }

 protected:
  FakeMemory memory_;
  AddressSpace space_;
  RecordingBackend backend_;
  BlockDevice device_;
  VolumeCounters counters_;
  RingLayout layout_;
  std::uint32_t next_ = 0;  // place of the ring
  std::unique_ptr<BlockQueue> queue_;
};

TEST_P(BlockQueueSmallTest, PassesOnWhatIsValid) {
  const Small good[] = {
      {"read", kRequestIn, 8, 4096, true, false},
      {"write", kRequestOut, 8, 4096, false, false},
      {"read of a read-only volume", kRequestIn, 0, 512, true, true},
      {"read of the last sector", kRequestIn, kSectors - 1, 512, true, false},
      {"the longest write", kRequestOut, 0, kRequestBytesMax, false, false},
  };
  for (const Small& request : good) {
    SCOPED_TRACE(request.what);
    ASSERT_NO_FATAL_FAILURE(Start(request.is_read_only));
    const Answer answer = Do(request);
    ASSERT_TRUE(answer.is_reached);
    EXPECT_EQ(answer.status, virtio::kStatusOk);
    EXPECT_EQ(answer.used_length, request.is_data_writable ? request.bytes + 1 : 1);
    EXPECT_EQ(backend_.reached.back().offset_bytes, request.sector * 512);
    EXPECT_EQ(backend_.reached.back().length_bytes, request.bytes);
  }
}

TEST_P(BlockQueueSmallTest, HandsTheBackendNothingThatIsWrong) {
  constexpr std::uint32_t kTooLong = kRequestBytesMax + 512;
  const struct {
    Small request;
    std::uint8_t status;
    std::uint32_t used_length;
  } bad[] = {
      {{"write to a read-only volume", kRequestOut, 0, 512, false, true},
       virtio::kStatusIoError,
       1},
      {{"read of parts of sectors", kRequestIn, 0, 513, true, false}, virtio::kStatusIoError, 514},
      {{"read of less than a sector", kRequestIn, 0, 1, true, false}, virtio::kStatusIoError, 2},
      {{"write of parts of sectors", kRequestOut, 0, 1023, false, false},
       virtio::kStatusIoError,
       1},
      {{"read that is too long", kRequestIn, 0, kTooLong, true, false}, virtio::kStatusIoError, 0},
      {{"write that is too long", kRequestOut, 0, kTooLong, false, false},
       virtio::kStatusIoError,
       1},
      {{"read at the end", kRequestIn, kSectors, 512, true, false}, virtio::kStatusIoError, 513},
      {{"read across the end", kRequestIn, kSectors - 1, 1024, true, false},
       virtio::kStatusIoError,
       1025},
      {{"write whose end wraps", kRequestOut, UINT64_MAX, 512, false, false},
       virtio::kStatusIoError,
       1},
      {{"read into what may only be read", kRequestIn, 0, 512, false, false}, virtio::kStatusOk, 1},
      {{"write from what may be written", kRequestOut, 0, 512, true, false},
       virtio::kStatusOk,
       513},
      {{"of no type", 2, 0, 512, true, false}, virtio::kStatusUnsupported, 513},
      {{"of a type beyond all", UINT32_MAX, 0, 512, false, false}, virtio::kStatusUnsupported, 1},
  };
  for (const auto& [request, status, used_length] : bad) {
    SCOPED_TRACE(request.what);
    ASSERT_NO_FATAL_FAILURE(Start(request.is_read_only));
    const Answer answer = Do(request);
    EXPECT_FALSE(answer.is_reached);
    EXPECT_EQ(answer.status, status);
    EXPECT_EQ(answer.used_length, used_length);
  }
}

INSTANTIATE_TEST_SUITE_P(Rings, BlockQueueSmallTest, testing::Bool(),
                         [](const auto& ring) { return ring.param ? "Packed" : "Split"; });

}  // namespace
}  // namespace filer::bridge
