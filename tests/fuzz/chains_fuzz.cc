// chains_fuzz.cc: descriptor chains over a fake memory map, fed to one queue of a block device:
// rings, indirect tables, headers, inflight table and IOTLB hold whatever the input says.
//
// What must hold, checked by the backend and here: a request lies in the volume and in guest
// memory; nothing is written beyond a region (poisoned for ASan); a queue with a fault takes
// nothing more; all that was taken comes back.
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "base/assert.h"
#include "base/log.h"
#include "host-bridge/target/block_queue.h"
#include "host-bridge/virtio/block.h"
#include "host-bridge/virtio/packed_ring.h"
#include "host-bridge/virtio/ring.h"
#include "tests/fuzz/checking_backend.h"
#include "tests/fuzz/fuzz_target.h"

namespace filer::fuzz {
namespace {

using bridge::BlockQueue;
using virtio::Descriptor;

constexpr std::size_t kFileBytes = 256 << 10;
constexpr std::size_t kSlack = 256;  // of the first and last page of a region: no guest memory
constexpr std::uint64_t kRegionBytes = (32 << 10) - 2 * kSlack;
// The first two regions touch; the last ends where addresses do.
constexpr bridge::RegionSpec kRegions[] = {
    {0x100000, kRegionBytes, 0x7f0000000000, kSlack},
    {0x100000 + kRegionBytes, kRegionBytes, 0x7f1000000000, 0x10000 + kSlack},
    {UINT64_MAX - kRegionBytes, kRegionBytes, UINT64_MAX - kRegionBytes, 0x20000 + kSlack},
};
constexpr std::uint32_t kSizes[] = {1, 2, 8, 64, 256};
constexpr std::size_t kTableAt = 0x4000, kHeadersAt = 0x6000;  // in the first region

// Memory of the fake guest, made once: the mappings are what costs.
struct Guest {
  bridge::AddressSpace space;
  std::byte* bases[std::size(kRegions)];
  std::vector<iovec> memory;

  Guest() {
    UniqueFd fd(::memfd_create("fuzz-guest", MFD_CLOEXEC));
    FILER_ASSERT(::ftruncate(fd.get(), kFileBytes) == 0);
    for (std::size_t i = 0; i < std::size(kRegions); ++i) {
      FILER_ASSERT(space.memory().Add(kRegions[i], UniqueFd(::dup(fd.get()))).has_value());
      bridge::SegmentList list;
      bridge::MemoryMap::Window window;
      FILER_ASSERT(space.memory().TranslateGuest(kRegions[i].guest_address, kRegionBytes, list,
                                                 window) == bridge::TranslateStatus::kOk);
      bases[i] = static_cast<std::byte*>(list.segments[0].iov_base);
      memory.push_back({bases[i], kRegionBytes});
      Poison(bases[i] - kSlack, kSlack);
      Poison(bases[i] + kRegionBytes, kSlack);
    }
  }
  template <typename T>
  T* At(std::size_t offset) {
    return reinterpret_cast<T*>(bases[0] + offset);
  }
};

class ChainsRun {
 public:
  ChainsRun(Guest& guest, FuzzInput& input) : guest_(guest), input_(input), backend_(state_) {
    for (std::size_t i = 0; i < std::size(kRegions); ++i) std::memset(guest.bases[i], 0, 0x7000);
    const std::uint8_t options = input.Take<std::uint8_t>();
    state_.info.size_bytes = 1 << 20;
    state_.info.is_read_only = (options & 1) != 0;
    state_.memory = guest.memory;
    device_.capacity_sectors = state_.info.size_bytes / 512;
    device_.is_read_only = state_.info.is_read_only;
    device_.has_discard = (options & 2) != 0;
    device_.has_write_zeroes = (options & 4) != 0;
    device_.needs_write_through = (options & 8) != 0;
    device_.serial = "fuzz";
    has_indirect_ = (options & 16) == 0;
    has_event_index_ = (options & 32) != 0;
    is_packed_ = (options & 128) != 0;
    guest.space.iotlb().Clear();
    guest.space.UseIotlb((options & 64) != 0);
    Start();
  }
  void Run() {
    for (int step = 0; step < 200 && !input_.is_empty(); ++step) Step();
    Quiet();
    queue_->Stop();
  }

 private:
  void Step() {
    switch (input_.Below(13)) {
      case 0:
        return WriteDescriptor(Slots()[input_.Below(layout_.size)]);
      case 1:
        return WriteDescriptor(guest_.At<Descriptor>(kTableAt)[input_.Below(32)]);
      case 2:
        return WriteHeader(input_.Below(16));
      case 3:
        return Publish(input_.Take<std::uint8_t>());
      case 4:
        Jump(input_.Take<std::uint16_t>());
        return;
      case 5:
        return WholeRequest();
      case 6:
        state_.order = input_.Take<std::uint8_t>();
        state_.capacity = 1 + state_.order % 8;
        state_.is_holding = input_.Flip();
        return Round();
      case 7:
        return WriteAnywhere();
      case 8:
        return ChangeIotlb();
      case 9:
        return Restart();
      case 10:
        queue_->SetAccepting(input_.Flip());
        return;
      case 11:
        queue_->ArmAndCheckIdle();
        return;
      default:
        return Round();
    }
  }

  std::uint64_t TakeAddress() {
    switch (input_.Below(5)) {
      case 0:
        return kRegions[0].guest_address + kHeadersAt + 16 * input_.Below(16);
      case 1:
        return kRegions[input_.Below(3)].guest_address + input_.Take<std::uint16_t>();
      case 2:
        return kRegions[0].guest_address + kTableAt;
      case 3:  // across the border of the first two
        return kRegions[1].guest_address - input_.Take<std::uint8_t>();
      default:
        return TakeNumber(input_);
    }
  }
  // Those of the ring, split or packed: they have the same size.
  Descriptor* Slots() { return guest_.At<Descriptor>(0); }
  void Jump(std::uint16_t to) {
    if (!is_packed_) {
      layout_.avail->index = to;
      return;
    }
    place_ = static_cast<std::uint16_t>((to & virtio::kPackedPlaceMask) % layout_.size);
    wrap_ = (to & virtio::kPackedPlaceWrap) != 0;
  }
  void WriteDescriptor(Descriptor& descriptor) {
    static constexpr std::uint32_t kLengths[] = {1, 16, 17, 32, 512, 513, 4096, 0, UINT32_MAX};
    descriptor.address = TakeAddress();
    descriptor.length =
        input_.Flip() ? input_.Pick(kLengths) : static_cast<std::uint32_t>(TakeNumber(input_));
    descriptor.flags = input_.Take<std::uint8_t>() & 0xf;
    descriptor.next = input_.Flip() ? input_.Take<std::uint8_t>() : input_.Take<std::uint16_t>();
    if (is_packed_) std::swap(descriptor.flags, descriptor.next);  // id and flags
  }
  void WriteHeader(std::uint32_t index) {
    static constexpr std::uint32_t kTypes[] = {0, 1, 4, 8, 11, 13, 2, UINT32_MAX};
    auto* header = guest_.At<virtio::RequestHeader>(kHeadersAt) + index;
    header->type = input_.Pick(kTypes);
    header->sector = TakeNumber(input_);
  }
  // What stands in the next place of a packed ring becomes available, as buffer `head`.
  void PublishPacked(std::uint16_t head) {
    auto& slot = layout_.packed[place_];
    slot.id = head;
    constexpr std::uint16_t kLap = virtio::kPackedAvail | virtio::kPackedUsed;
    virtio::StoreRelease(
        slot.flags,
        static_cast<std::uint16_t>((slot.flags & ~kLap) | virtio::PackedAvailableFlags(wrap_)));
    if (++place_ == layout_.size) {
      place_ = 0;
      wrap_ = !wrap_;
    }
  }
  void Publish(std::uint16_t head) {
    if (is_packed_) return PublishPacked(head);
    layout_.avail->ring[layout_.avail->index % layout_.size] = head;
    virtio::StoreRelease(layout_.avail->index,
                         static_cast<std::uint16_t>(layout_.avail->index + 1));
  }
  // One that is mostly right, in an indirect table of its own, so that much is reached.
  void WholeRequest() {
    static constexpr std::uint32_t kTypes[] = {0, 1, 4, 8, 11, 13};
    const std::uint32_t type = input_.Pick(kTypes);
    const std::uint32_t choice = input_.Take<std::uint8_t>();
    const std::uint32_t slot = choice % 8;
    const bool is_near = (choice & 8) != 0;  // all in one region: goes the short way
    auto* header = guest_.At<virtio::RequestHeader>(kHeadersAt) + slot;
    header->type = type;
    header->sector = input_.Take<std::uint16_t>();
    const bool is_read = type == virtio::kRequestIn || type == virtio::kRequestGetId;
    const bool has_range = type == virtio::kRequestDiscard || type == virtio::kRequestWriteZeroes;
    const std::uint32_t bytes = has_range ? 16 : 512 * input_.Below(9);
    auto* table = guest_.At<Descriptor>(kTableAt + 64 * slot);
    const std::uint64_t base = kRegions[0].guest_address;
    table[0] = {base + kHeadersAt + 16 * slot, 16, virtio::kDescriptorNext,
                static_cast<std::uint16_t>(bytes > 0 ? 1 : 2)};
    table[1] = {is_near ? base + 0x1000 + 16 * slot : kRegions[1].guest_address - 256 + 512 * slot,
                bytes,
                static_cast<std::uint16_t>(virtio::kDescriptorNext |
                                           (is_read ? virtio::kDescriptorWrite : 0)),
                2};
    table[2] = {is_near ? base + 0x7000 + slot : kRegions[2].guest_address + slot, 1,
                virtio::kDescriptorWrite, 0};
    if (is_packed_) {
      for (Descriptor* entry = table; entry < table + 3; ++entry) {
        entry->next = entry->flags & virtio::kDescriptorWrite;
        entry->flags = 0;
      }
    }
    const std::uint32_t head = input_.Below(layout_.size);
    Slots()[is_packed_ ? place_ : head] = {
        base + kTableAt + 64 * slot, 48,
        is_packed_ ? std::uint16_t{0} : virtio::kDescriptorIndirect,
        is_packed_ ? virtio::kDescriptorIndirect : std::uint16_t{0}};
    Publish(static_cast<std::uint16_t>(head));
  }
  void WriteAnywhere() {
    const std::size_t at = input_.Take<std::uint16_t>() % (kRegionBytes - 16);
    input_.Fill(guest_.bases[input_.Below(3)] + at, 16);
  }

  void ChangeIotlb() {
    Quiet();
    bridge::Iotlb& iotlb = guest_.space.iotlb();
    const auto& region = kRegions[input_.Below(3)];
    if (input_.Flip()) {
      iotlb.Invalidate(TakeAddress(), TakeNumber(input_));
    } else if (input_.Flip()) {
      static_cast<void>(
          iotlb.Update(region.guest_address, region.size_bytes, region.user_address, 3)
              .has_value());
    } else {
      static_cast<void>(iotlb
                            .Update(TakeAddress(), TakeNumber(input_),
                                    region.user_address + input_.Take<std::uint16_t>(),
                                    input_.Take<std::uint8_t>() & 3)
                            .has_value());
    }
    queue_->RetryMiss();
  }
  void Restart() {
    Quiet();
    queue_->Stop();
    Start();
  }
  void Start() {
    layout_ = {guest_.At<Descriptor>(0),
               guest_.At<virtio::AvailRing>(0x2000),
               guest_.At<virtio::UsedRing>(0x3000),
               input_.Pick(kSizes),
               has_event_index_,
               has_indirect_};
    std::uint32_t table_size = 0;
    std::uint16_t base = 0;
    if (input_.Flip()) {
      static constexpr std::size_t kAreaBytes = 64 + 16 * 256;
      table_size = layout_.size + input_.Below(3);
      const std::size_t bytes = bridge::InflightTable::BytesPerQueue(table_size);
      FILER_ASSERT(bytes <= kAreaBytes + 64);
      area_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
      std::memset(area_.get(), 0, bytes);
      input_.Fill(area_.get(), std::min<std::size_t>(bytes, input_.Take<std::uint8_t>()));
    }
    base = input_.Take<std::uint16_t>();
    if (is_packed_) {
      layout_.packed = guest_.At<virtio::PackedDescriptor>(0);
      layout_.driver_event = guest_.At<virtio::PackedEvent>(0x2000);
      layout_.device_event = guest_.At<virtio::PackedEvent>(0x3000);
      Jump(base);
      base = static_cast<std::uint16_t>(place_ | (wrap_ ? virtio::kPackedPlaceWrap : 0));
    }
    queue_ = std::make_unique<BlockQueue>(guest_.space, device_, counters_);
    std::byte* area = table_size > 0 ? area_.get() : nullptr;
    FILER_ASSERT(queue_->Start(backend_, layout_, base, area, table_size).has_value());
  }

  void Round() {
    const bool was_faulty = queue_->fault() != bridge::RingFault::kNone;
    const std::uint64_t requests = counters_.requests.Get();
    queue_->Round();
    FILER_ASSERT(queue_->in_flight() <= layout_.size);
    FILER_ASSERT(!was_faulty || counters_.requests.Get() == requests);
  }
  void Quiet() {
    state_.is_holding = false;
    queue_->SetAccepting(false);
    for (int i = 0; i < 10'000 && queue_->in_flight() > 0; ++i) Round();
    FILER_ASSERT(queue_->in_flight() == 0);
    queue_->SetAccepting(true);
  }

  struct Free {
    void operator()(std::byte* area) const { std::free(area); }
  };
  Guest& guest_;
  FuzzInput& input_;
  CheckingState state_;
  CheckingBackend backend_;
  bridge::BlockDevice device_;
  bridge::VolumeCounters counters_;
  bridge::RingLayout layout_;
  bool has_indirect_ = true;
  bool has_event_index_ = false;
  bool is_packed_ = false;
  std::uint16_t place_ = 0;  // of a packed ring: where the driver goes on
  bool wrap_ = true;
  std::unique_ptr<std::byte, Free> area_;
  std::unique_ptr<BlockQueue> queue_;
};

}  // namespace

void FuzzOne(const std::uint8_t* data, std::size_t size) {
  static Guest guest;
  FuzzInput input(data, size);
  ChainsRun(guest, input).Run();
}

}  // namespace filer::fuzz
