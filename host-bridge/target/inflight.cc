#include "host-bridge/target/inflight.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/units.h"
#include "host-bridge/virtio/ring.h"

namespace filer::bridge {

using virtio::LoadOnce;
using virtio::StoreOnce;
using virtio::StoreRelease;

struct InflightTable::State {
  std::uint8_t is_inflight;
  std::uint8_t padding[5];
  std::uint16_t next;  // of the batch
  std::uint64_t counter;
};

struct InflightTable::Header {
  std::uint64_t features;
  std::uint16_t version;  // 0: never used
  std::uint16_t descriptor_count;
  std::uint16_t last_batch_head;
  std::uint16_t used_index;
};

InflightTable::Header* InflightTable::header() const { return reinterpret_cast<Header*>(area_); }
InflightTable::State* InflightTable::states() const {
  static_assert(sizeof(Header) == 16 && sizeof(State) == 16);
  return reinterpret_cast<State*>(area_ + sizeof(Header));
}

std::size_t InflightTable::BytesPerQueue(std::uint32_t queue_size) {
  return RoundUp(sizeof(Header) + sizeof(State) * queue_size, 64);
}

std::vector<std::uint16_t> InflightTable::Recover(std::uint32_t ring_size,
                                                  std::uint16_t used_index) {
  FILER_ASSERT(ring_size <= queue_size_);
  batch_.reserve(queue_size_);
  Header& table = *header();
  if (LoadOnce(table.version) != 1 || LoadOnce(table.descriptor_count) != queue_size_) {
    for (std::uint32_t i = 0; i < queue_size_; ++i) states()[i] = {};
    StoreOnce(table.descriptor_count, static_cast<std::uint16_t>(queue_size_));
    StoreOnce(table.used_index, used_index);
    StoreOnce(table.last_batch_head, std::uint16_t{0});
    StoreRelease(table.version, std::uint16_t{1});
    return {};
  }
  // Killed between publishing a batch and clearing its entries: they are finished.
  const auto unfinished = static_cast<std::uint16_t>(used_index - LoadOnce(table.used_index));
  if (unfinished > 0 && unfinished <= ring_size) {
    std::uint16_t head = LoadOnce(table.last_batch_head);
    for (std::uint16_t i = 0; i < unfinished && head < ring_size; ++i) {
      StoreOnce(states()[head].is_inflight, std::uint8_t{0});
      head = LoadOnce(states()[head].next);
    }
  }
  StoreRelease(table.used_index, used_index);

  struct Taken {
    std::uint64_t counter;
    std::uint16_t head;
  };
  std::vector<Taken> taken;
  for (std::uint32_t i = 0; i < ring_size; ++i) {
    if (LoadOnce(states()[i].is_inflight) == 0) continue;
    taken.push_back({LoadOnce(states()[i].counter), static_cast<std::uint16_t>(i)});
  }
  std::sort(taken.begin(), taken.end(),
            [](const Taken& a, const Taken& b) { return a.counter < b.counter; });
  std::vector<std::uint16_t> heads;
  for (const Taken& entry : taken) heads.push_back(entry.head);
  if (!taken.empty()) next_counter_ = taken.back().counter + 1;
  return heads;
}

void InflightTable::Take(std::uint16_t head) {
  State& state = states()[head];
  StoreOnce(state.counter, next_counter_++);
  StoreRelease(state.is_inflight, std::uint8_t{1});  // after its counter: see Recover
}

void InflightTable::AddToBatch(std::uint16_t head) {
  StoreOnce(states()[head].next, LoadOnce(header()->last_batch_head));
  StoreRelease(header()->last_batch_head, head);
  batch_.push_back(head);
}

void InflightTable::FinishBatch(std::uint16_t used_index) {
  for (const std::uint16_t head : batch_) StoreRelease(states()[head].is_inflight, std::uint8_t{0});
  StoreRelease(header()->used_index, used_index);
  batch_.clear();
}

std::size_t InflightBytes(std::uint32_t queue_count, std::uint32_t queue_size) {
  return InflightTable::BytesPerQueue(queue_size) * queue_count;
}

Result<UniqueFd> CreateInflightFile(std::size_t size_bytes) {
  UniqueFd fd(::memfd_create("nearmetal-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.is_open()) return Error::System(errno, "memfd_create for the inflight table");
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
    return Error::System(errno, "ftruncate of the inflight table");
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return Error::System(errno, "sealing the inflight table");
  }
  return fd;
}

}  // namespace filer::bridge
