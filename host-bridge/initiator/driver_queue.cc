#include "host-bridge/initiator/driver_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/units.h"
#include "host-bridge/initiator/dma_memory.h"

namespace filer::bridge {

using virtio::Descriptor;
using virtio::LoadAcquire;
using virtio::LoadOnce;
using virtio::StoreOnce;
using virtio::StoreRelease;

namespace {
constexpr std::uint32_t kHeaderAndStatus = 2;
constexpr std::uint8_t kStatusNotWritten = 0xff;
// With EVENT_IDX the used index never comes near this distance, so the device never interrupts.
constexpr std::uint16_t kEventFarAway = 0x8000;
constexpr std::uint16_t kEventRefresh = 0x4000;  // entries after which it is moved on
constexpr std::uint16_t kNoHead = 0xffff;
constexpr std::uint16_t kPrefetchMax = 16;
constexpr std::size_t kCacheLineBytes = 64;

std::uint32_t TypeOf(DiskOperation operation) {
  switch (operation) {
    case DiskOperation::kRead:
      return virtio::kRequestIn;
    case DiskOperation::kWrite:
      return virtio::kRequestOut;
    case DiskOperation::kFlush:
      return virtio::kRequestFlush;
    case DiskOperation::kDiscard:
      return virtio::kRequestDiscard;
    case DiskOperation::kWriteZeroes:
      return virtio::kRequestWriteZeroes;
    case DiskOperation::kGetId:
      return virtio::kRequestGetId;
  }
  return virtio::kRequestFlush;
}

// The device writes into the segments.
bool IsInbound(DiskOperation operation) {
  return operation == DiskOperation::kRead || operation == DiskOperation::kGetId;
}

std::size_t TableBytes(const DriverQueueOptions& options) {
  return std::bit_ceil((options.segments_max + kHeaderAndStatus) * sizeof(Descriptor));
}
}  // namespace

std::uint64_t DriverQueue::MemoryBytes(const DriverQueueOptions& options) {
  const std::uint64_t per_descriptor =
      sizeof(RequestShared) + (options.has_indirect ? TableBytes(options) : 0);
  // Each carved piece is aligned to its size: at worst it doubles.
  const std::uint64_t rings =
      2 * (std::bit_ceil(virtio::DescriptorTableBytes(options.queue_size)) +
           std::bit_ceil(offsetof(LoneAvail, ring) + virtio::AvailRingBytes(options.queue_size)) +
           std::bit_ceil(virtio::UsedRingBytes(options.queue_size)));
  return rings + options.queue_size * per_descriptor + sizeof(RequestShared) + 2 * kBlockBytes;
}

DriverQueue::DriverQueue(const DriverQueueOptions& options, DmaMemory& memory,
                         const AddressMap& map, QueueEvents& events)
    : options_(options),
      map_(map),
      events_(events),
      arena_(memory.arena()),
      mask_(options.queue_size - 1) {
  const std::uint32_t size = options.queue_size;
  FILER_ASSERT(std::has_single_bit(size) && size <= virtio::kQueueSizeMax);
  // Aligned to its own size, so that nothing crosses a page which it could fit into: behind an
  // IOMMU pages of 4 KiB lie apart, and a device may want each ring in one piece.
  const auto carve = [&memory](std::size_t bytes) {
    const std::size_t align = std::max(std::bit_ceil(bytes), kCacheLineBytes);
    return static_cast<void*>(memory.Carve(bytes, align));
  };
  descriptors_ = static_cast<Descriptor*>(carve(virtio::DescriptorTableBytes(size)));
  lone_ = static_cast<LoneAvail*>(carve(offsetof(LoneAvail, ring) + virtio::AvailRingBytes(size)));
  lone_answer_ = static_cast<StatusLine*>(carve(sizeof(StatusLine)));
  lone_address_ = map.Translate(&lone_->line, sizeof(RequestLine)).address;
  lone_status_address_ = map.Translate(&lone_answer_->status, 1).address;
  avail_ = &lone_->ring;
  used_ = static_cast<virtio::UsedRing*>(carve(virtio::UsedRingBytes(size)));
  const GateClosure closure(gate_);
  requests_.resize(size);
  free_.resize(size);
  avail_heads_.assign(size, kNoHead);
  chain_next_.resize(size);
  scratch_.resize(options.segments_max + kHeaderAndStatus);
  finished_.reserve(2 * std::size_t{size});
  for (std::uint32_t i = 0; i < size; ++i) {
    requests_[i].shared = static_cast<RequestShared*>(carve(sizeof(RequestShared)));
    requests_[i].shared_address = map.Translate(requests_[i].shared, sizeof(RequestShared)).address;
    InitShared(requests_[i]);
    GiveFree(static_cast<std::uint16_t>(i));
  }
  for (std::uint32_t i = 0; i < size && options.has_indirect; ++i) {
    tables_.push_back(static_cast<Descriptor*>(carve(TableBytes(options))));
  }
  if (options.is_packed) {
    packed_.emplace(PackedDriverRing::Memory{
        reinterpret_cast<virtio::PackedDescriptor*>(descriptors_),
        reinterpret_cast<virtio::PackedEvent*>(avail_),
        reinterpret_cast<virtio::PackedEvent*>(used_), size, options.has_event_index});
    if (!options.has_indirect) chains_.resize(std::size_t{size} * scratch_.size());
  }
  InitLone();
  QuietInterrupts();
}

DriverQueue::~DriverQueue() = default;

RingAddresses DriverQueue::Addresses() const {
  return {map_.Translate(descriptors_, 1).address, map_.Translate(avail_, 1).address,
          map_.Translate(used_, 1).address};
}

Descriptor DriverQueue::Entry(std::uint64_t address, std::uint32_t length, std::uint16_t flags,
                              std::uint16_t next) const {
  static_assert(offsetof(Descriptor, next) == offsetof(virtio::PackedDescriptor, flags));
  if (!options_.is_packed) return {address, length, flags, next};
  return {address, length, 0, static_cast<std::uint16_t>(flags & ~virtio::kDescriptorNext)};
}

// What stays the same from one small transfer to the next.
void DriverQueue::InitLine(RequestLine& line, std::uint64_t address,
                           std::uint64_t status_address) const {
  line.table[0] = Entry(address + offsetof(RequestLine, header), sizeof(virtio::RequestHeader),
                        virtio::kDescriptorNext, 1);
  line.table[2] = Entry(status_address, 1, virtio::kDescriptorWrite, 0);
  line.header.reserved = 0;
}

void DriverQueue::InitShared(RequestPrivate& own) {
  InitLine(own.shared->line, own.shared_address, own.shared_address + kStatusOffset);
  StoreOnce(own.shared->answer.status, kStatusNotWritten);
}

void DriverQueue::InitLone() {
  InitLine(lone_line_, lone_address_, lone_status_address_);
  InitLine(lone_->line, lone_address_, lone_status_address_);
  StoreOnce(lone_answer_->status, kStatusNotWritten);
}

// In one go with the index behind it: the device polls that line, and would take it away between.
void DriverQueue::WriteLone() {
  lone_->line.table[1] = lone_line_.table[1];
  lone_->line.header = lone_line_.header;
  must_write_lone_ = false;
}

void DriverQueue::QuietInterrupts() {
  quieted_at_ = last_used_;
  if (packed_) return packed_->QuietInterrupts();
  if (options_.has_event_index) {
    StoreOnce(*virtio::UsedEvent(avail_, options_.queue_size),
              static_cast<std::uint16_t>(last_used_ + kEventFarAway));
  } else {
    StoreOnce(avail_->flags, virtio::kAvailNoInterrupt);
  }
}

// Data descriptors of a read or write into `table`; returns their count.
Result<std::uint32_t> DriverQueue::BuildData(const DiskRequest& request,
                                             std::span<Descriptor> table) {
  const std::uint16_t flags = static_cast<std::uint16_t>(
      virtio::kDescriptorNext | (IsInbound(request.operation) ? virtio::kDescriptorWrite : 0));
  std::uint32_t count = 0;
  for (const iovec& segment : request.segments) {
    auto* at = static_cast<std::byte*>(segment.iov_base);
    std::uint64_t left = segment.iov_len;
    if (left == 0 || at < arena_.data() || !map_.Contains(at, left)) return Errc::kBadAddress;
    while (left > 0) {
      if (count == options_.segments_max) return Errc::kInvalidArgument;
      const auto piece =
          map_.Translate(at, std::min<std::uint64_t>(left, options_.segment_bytes_max));
      table[count++] =
          Entry(piece.address, static_cast<std::uint32_t>(piece.length_bytes), flags, 0);
      at += piece.length_bytes;
      left -= piece.length_bytes;
    }
  }
  if (count == 0) return Errc::kInvalidArgument;
  return count;
}

// The whole chain, links not yet set; returns its length.
Result<std::uint32_t> DriverQueue::Build(const DiskRequest& request, std::uint16_t head,
                                         std::span<Descriptor> table) {
  const std::uint64_t shared_address = requests_[head].shared_address;
  RequestShared& shared = *requests_[head].shared;
  std::uint32_t count = 0;
  table[count++] = Entry(shared_address + offsetof(RequestLine, header),
                         sizeof(virtio::RequestHeader), virtio::kDescriptorNext, 0);
  virtio::RequestHeader& header = shared.line.header;
  header.type = TypeOf(request.operation);
  header.reserved = 0;
  const bool is_transfer =
      IsInbound(request.operation) || request.operation == DiskOperation::kWrite;
  header.sector = is_transfer ? request.offset_bytes / kSectorBytes : 0;
  if (is_transfer) {
    count += FILER_TRY(BuildData(request, table.subspan(count)));
  } else if (request.operation != DiskOperation::kFlush) {
    if (request.length_bytes / kSectorBytes > UINT32_MAX) return Errc::kInvalidArgument;
    shared.answer.range.sector = request.offset_bytes / kSectorBytes;
    shared.answer.range.sector_count =
        static_cast<std::uint32_t>(request.length_bytes / kSectorBytes);
    shared.answer.range.flags = 0;
    table[count++] = Entry(shared_address + kRangeOffset, sizeof(virtio::RangeSegment),
                           virtio::kDescriptorNext, 0);
  }
  table[count++] = Entry(shared_address + kStatusOffset, 1, virtio::kDescriptorWrite, 0);
  return count;
}

// A read or write of one piece: one cache line. False: it is something else, nothing was written.
bool DriverQueue::PlaceSmall(const DiskRequest& request, std::uint16_t head) {
  const bool is_read = request.operation == DiskOperation::kRead;
  if (!is_read && request.operation != DiskOperation::kWrite) return false;
  if (request.segments.size() != 1) return false;
  const iovec& segment = request.segments[0];
  const auto* at = static_cast<const std::byte*>(segment.iov_base);
  const std::uint64_t length = segment.iov_len;
  if (length == 0 || length > options_.segment_bytes_max || at < arena_.data() ||
      !map_.Contains(at, length)) {
    return false;
  }
  const auto piece = map_.Translate(at, length);
  if (piece.length_bytes != length) return false;

  RequestPrivate& own = requests_[head];
  const bool is_lone = in_flight_ == 0 && !packed_;
  RequestLine& line = is_lone ? lone_line_ : own.shared->line;
  const auto flags = static_cast<std::uint16_t>(virtio::kDescriptorNext |
                                                (is_read ? virtio::kDescriptorWrite : 0));
  line.table[1] = Entry(piece.address, static_cast<std::uint32_t>(length), flags, 2);
  line.header.type = is_read ? virtio::kRequestIn : virtio::kRequestOut;
  line.header.sector = request.offset_bytes / kSectorBytes;
  must_write_lone_ |= is_lone;
  own.answer = is_lone ? lone_answer_ : &own.shared->answer;
  const std::uint64_t table_address = is_lone ? lone_address_ : own.shared_address;
  PointTo(head, table_address, sizeof(line.table));
  own.chain_length = 1;
  return true;
}

// What is there already is not written again. A packed ring gets its descriptors in Offer.
void DriverQueue::PointTo(std::uint16_t head, std::uint64_t table_address,
                          std::uint32_t table_bytes) {
  RequestPrivate& own = requests_[head];
  const bool is_there = own.table_address == table_address && own.table_bytes == table_bytes;
  own.table_address = table_address;
  own.table_bytes = table_bytes;
  if (packed_ || is_there) return;
  descriptors_[head] = {table_address, table_bytes, virtio::kDescriptorIndirect, 0};
}

// Writes the chain of a request; returns its head. Nothing changes on an error.
Result<std::uint16_t> DriverQueue::Place(const DiskRequest& request) {
  if (FreeCount() == 0) return Errc::kWouldBlock;
  const std::uint16_t head = NextFree();
  if (!options_.has_indirect) return PlaceChain(request, head);
  if (PlaceSmall(request, head)) return TakeFree();
  const std::span table(tables_[head], options_.segments_max + kHeaderAndStatus);
  const std::uint32_t count = FILER_TRY(Build(request, head, table));
  for (std::uint32_t i = 0; i + 1 < count && !packed_; ++i) {
    table[i].next = static_cast<std::uint16_t>(i + 1);
  }
  PointTo(head, map_.Translate(table.data(), 1).address,
          static_cast<std::uint32_t>(count * sizeof(Descriptor)));
  requests_[head].answer = &requests_[head].shared->answer;
  requests_[head].chain_length = 1;
  return TakeFree();
}

// In the main table itself. A packed ring's chain takes as many of the free descriptors, so that
// there is room for it in the ring.
Result<std::uint16_t> DriverQueue::PlaceChain(const DiskRequest& request, std::uint16_t head) {
  const std::uint32_t count = FILER_TRY(Build(request, head, scratch_));
  if (count > options_.queue_size) return Errc::kInvalidArgument;
  if (count > FreeCount()) return Errc::kWouldBlock;
  std::uint16_t at = TakeFree();
  for (std::uint32_t i = 0; i < count; ++i) {
    (packed_ ? chains_[head * scratch_.size() + i] : descriptors_[at]) = scratch_[i];
    if (i + 1 == count) break;
    const std::uint16_t next = TakeFree();
    if (!packed_) descriptors_[at].next = next;
    chain_next_[at] = next;
    at = next;
  }
  requests_[head].table_address = 0;
  requests_[head].answer = &requests_[head].shared->answer;
  requests_[head].chain_length = static_cast<std::uint16_t>(count);
  return head;
}

// Into the next place of the ring, not yet published.
void DriverQueue::Offer(std::uint16_t head) {
  const std::uint32_t place = next_avail_++ & mask_;
  const bool is_there = avail_heads_[place] == head;  // since the last time round
  avail_heads_[place] = head;
  if (!packed_) {
    if (!is_there) StoreOnce(avail_->ring[place], head);
    return;
  }
  const RequestPrivate& own = requests_[head];
  if (own.table_address != 0) {
    return packed_->Offer(own.table_address, own.table_bytes, virtio::kDescriptorIndirect, head);
  }
  for (std::uint32_t i = 0; i < own.chain_length; ++i) {
    const Descriptor& entry = chains_[head * scratch_.size() + i];
    const bool is_last = i + 1 == own.chain_length;
    packed_->Offer(entry.address, entry.length,
                   static_cast<std::uint16_t>(entry.next | (is_last ? 0 : virtio::kDescriptorNext)),
                   head);
  }
}

Result<void> DriverQueue::Prepare(const DiskRequest& request) {
  const GateEntry entry(gate_);
  if (is_broken_) return Errc::kDeviceGone;
  const std::uint16_t head = FILER_TRY(Place(request));
  RequestPrivate& own = requests_[head];
  FILER_ASSERT(!own.is_busy);
  own.data_bytes = 0;
  for (const iovec& segment : request.segments) own.data_bytes += segment.iov_len;
  own.cookie = request.cookie;
  own.sequence = next_sequence_++;
  own.operation = request.operation;
  own.writable_bytes =
      1 + (IsInbound(request.operation) ? static_cast<std::uint32_t>(own.data_bytes) : 0);
  own.is_busy = true;
  ++in_flight_;
  Offer(head);
  return Ok();
}

void DriverQueue::Publish() {
  const GateEntry entry(gate_);
  if (published_ == next_avail_ || is_broken_) return;
  const std::uint16_t before = published_;
  published_ = next_avail_;
  if (!(packed_ ? packed_->Publish() : PublishSplit(before))) return;
  ++counters_.doorbells;
  events_.RingDoorbell(options_.queue_index);
}

// True: the device wants a doorbell.
bool DriverQueue::PublishSplit(std::uint16_t before) {
  if (must_write_lone_) WriteLone();
  StoreRelease(avail_->index, published_);  // pairs with the device's acquire load of avail->idx
  // Before we look whether the device sleeps; it looks at the index once more after it said so.
  virtio::FullFence();
  if (!options_.has_event_index) return (LoadOnce(used_->flags) & virtio::kUsedNoNotify) == 0;
  return virtio::EventPassed(LoadOnce(*virtio::AvailEvent(used_, options_.queue_size)), published_,
                             before);
}

// Of a packed ring: 1 when there is any.
std::optional<Error> DriverQueue::PendingUsed(std::uint16_t& pending) const {
  const auto published_in_flight =
      in_flight_ - static_cast<std::uint16_t>(next_avail_ - published_);
  if (packed_) {
    pending = packed_->IsUsed(packed_->PeekUsed()) ? 1 : 0;
    if (pending <= published_in_flight) return std::nullopt;
    return Error(Errc::kProtocol, "a buffer was returned, and none is with the device");
  }
  const std::uint16_t index = LoadAcquire(used_->index);  // pairs with the device's release store
  pending = static_cast<std::uint16_t>(index - last_used_);
  if (pending <= published_in_flight) return std::nullopt;
  return Error(Errc::kRingIndexJumped,
               fmt::format("used index {} with {} requests in flight after {}", index,
                           published_in_flight, last_used_));
}

std::optional<Error> DriverQueue::CheckUsed(std::uint32_t id, std::uint32_t length) const {
  if (id >= options_.queue_size) {
    return Error(Errc::kDescriptorOutOfRange, fmt::format("used element with head {}", id));
  }
  const RequestPrivate& own = requests_[id];
  if (!own.is_busy) {
    return Error(Errc::kProtocol, fmt::format("head {} completed, which is not in flight", id));
  }
  if (length > own.writable_bytes) {
    return Error(Errc::kProtocol,
                 fmt::format("{} bytes written of {}", length, own.writable_bytes));
  }
  return std::nullopt;
}

std::optional<Error> DriverQueue::TakeUsed(std::uint16_t& head) {
  if (packed_) {
    const virtio::PackedDescriptor used = packed_->PeekUsed();
    if (auto error = CheckUsed(used.id, used.length)) return error;
    head = used.id;
    packed_->TakeUsed(requests_[head].chain_length);
  } else {
    const virtio::UsedElement& element = used_->ring[last_used_ & mask_];
    const std::uint32_t id = LoadOnce(element.id);
    if (auto error = CheckUsed(id, LoadOnce(element.length))) return error;
    head = static_cast<std::uint16_t>(id);
  }
  ++last_used_;
  return std::nullopt;
}

// Most devices complete in order: what was submitted at these places is likely what is done, and
// its status can come while the used ring does.
void DriverQueue::PrefetchStatus(std::uint16_t pending) const {
  for (std::uint16_t i = 0; i < std::min(pending, kPrefetchMax); ++i) {
    const std::uint16_t head = avail_heads_[static_cast<std::uint16_t>(last_used_ + i) & mask_];
    __builtin_prefetch(requests_[head].answer);
  }
}

DiskCompletion DriverQueue::Finish(std::uint16_t head) {
  RequestPrivate& own = requests_[head];
  const std::uint8_t status = LoadOnce(own.answer->status);
  // An OK stays: the device's next one is no new value, and the line stays in both caches.
  if (status != virtio::kStatusOk) StoreOnce(own.answer->status, kStatusNotWritten);
  std::uint16_t at = head;
  for (std::uint16_t i = 0; i < own.chain_length; ++i) {
    GiveFree(at);
    at = chain_next_[at];
  }
  own.is_busy = false;
  --in_flight_;
  ++counters_.requests;
  if (own.operation == DiskOperation::kRead) counters_.read_bytes += own.data_bytes;
  if (own.operation == DiskOperation::kWrite) counters_.write_bytes += own.data_bytes;
  const Errc error = status == virtio::kStatusUnsupported ? Errc::kNotSupported : Errc::kIo;
  return {own.cookie, error, status == virtio::kStatusOk};
}

std::size_t DriverQueue::Poll(std::span<DiskCompletion> completions) {
  const GateEntry entry(gate_);
  std::size_t count = 0;
  std::uint16_t pending = 0;
  if (!is_broken_) {
    if (auto error = PendingUsed(pending)) {
      Fail(*error);
    } else if (pending > 0) {
      PrefetchStatus(pending);
      std::uint16_t head = 0;
      while (pending > 0 && count < completions.size()) {
        if ((error = TakeUsed(head))) break;
        completions[count++] = Finish(head);
        if (--pending == 0 && packed_ && (error = PendingUsed(pending))) break;
      }
      if (error) Fail(*error);
      if (static_cast<std::uint16_t>(last_used_ - quieted_at_) >= kEventRefresh) QuietInterrupts();
    } else if (last_used_ != published_) {
      PrefetchStatus(1);  // so that it comes together with the index
    }
  }
  if (finished_.empty()) [[likely]]
    return count;
  while (count < completions.size() && finished_first_ < finished_.size()) {
    completions[count++] = finished_[finished_first_++];
  }
  if (finished_first_ == finished_.size()) {
    finished_.clear();
    finished_first_ = 0;
  }
  return count;
}

std::uint32_t DriverQueue::InFlight() const {
  const GateClosure closure(gate_);
  return in_flight_ + static_cast<std::uint32_t>(finished_.size() - finished_first_);
}

std::vector<std::uint16_t> DriverQueue::BusyHeadsInOrder() const {
  std::vector<std::uint16_t> heads;
  for (std::uint32_t i = 0; i < options_.queue_size; ++i) {
    if (requests_[i].is_busy) heads.push_back(static_cast<std::uint16_t>(i));
  }
  const auto is_older = [this](std::uint16_t a, std::uint16_t b) FILER_REQUIRES(gate_) {
    return requests_[a].sequence < requests_[b].sequence;
  };
  std::sort(heads.begin(), heads.end(), is_older);
  return heads;
}

void DriverQueue::FailAllInFlight() {
  is_broken_ = true;
  for (const std::uint16_t head : BusyHeadsInOrder()) {
    RequestPrivate& own = requests_[head];
    own.is_busy = false;
    --in_flight_;
    finished_.push_back({own.cookie, Errc::kDeviceGone, false});
  }
}

void DriverQueue::Fail(const Error& error) {
  FailAllInFlight();
  events_.ProtocolBroken(options_.queue_index, error);
}

void DriverQueue::Break() {
  const GateClosure closure(gate_);
  if (!is_broken_) FailAllInFlight();
}

std::uint32_t DriverQueue::Restart() {
  const GateClosure closure(gate_);
  if (is_broken_) return 0;
  std::uint16_t pending = 0;
  if (PendingUsed(pending)) pending = 0;
  std::uint16_t head = 0;
  while (pending > 0) {
    if (TakeUsed(head)) break;  // not to be believed: it is submitted again
    finished_.push_back(Finish(head));
    if (--pending == 0 && packed_ && PendingUsed(pending)) break;
  }
  const auto heads = BusyHeadsInOrder();
  ResetRing();
  for (const std::uint16_t busy : heads) Offer(busy);
  published_ = next_avail_;
  QuietInterrupts();
  if (packed_) {
    packed_->Publish();  // the transport rings its doorbell
  } else {
    WriteLone();
    StoreRelease(avail_->index, published_);
  }
  return static_cast<std::uint32_t>(heads.size());
}

// Nothing that the old device could have scribbled over is taken for granted.
void DriverQueue::ResetRing() {
  if (packed_) {
    packed_->Restart();
  } else {
    StoreOnce(*virtio::AvailEvent(used_, options_.queue_size), std::uint16_t{0});
  }
  StoreOnce(used_->flags, std::uint16_t{0});
  StoreOnce(used_->index, std::uint16_t{0});
  next_avail_ = 0;
  last_used_ = 0;
  std::fill(avail_heads_.begin(), avail_heads_.end(), kNoHead);
  for (RequestPrivate& own : requests_) {
    InitShared(own);
    if (!own.is_busy) own.table_address = 0;
  }
  InitLone();
}

DiskCounters DriverQueue::Counters() const {
  const GateClosure closure(gate_);
  return counters_;
}

}  // namespace filer::bridge
