#include "fsal/engine/fs/shared_volume.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace filer::engine {
namespace {

thread_local std::uint32_t current_door = 0;

}  // namespace

void SetDoor(std::uint32_t door) noexcept { current_door = door; }
std::uint32_t CurrentDoor() noexcept { return current_door; }

std::uint64_t VolumeFsid(const StoreGeometry& geometry, std::uint32_t fileset,
                         std::uint32_t snapshot) {
  std::uint64_t fsid;
  std::memcpy(&fsid, geometry.volume_uuid, 8);
  return fsid ^ fileset ^ std::uint64_t{snapshot} << 32;
}

SharedVolume::SharedVolume(BlockDevice& device_in, const Clock& clock_in,
                           const MountOptions& options_in, std::unique_ptr<Store> store_in)
    : device(device_in),
      clock(clock_in),
      options(options_in),
      store(std::move(store_in)),
      geometry(store->Geometry()),
      allocator(geometry.data_first_block, geometry.data_block_count) {
  const std::vector<std::uint8_t> secret = store->HandleKey();
  std::copy_n(secret.begin(), std::min(secret.size(), key.size()), key.begin());
}

Result<void> SharedVolume::Sync(Lsn lsn) {
  FILER_TRY(store->Sync(lsn));
  if (allocator.HasPending()) allocator.ReleaseDurable(store->DurableLsn());
  return Ok();
}

Result<void> SharedVolume::FlushDevice() {
  if (!device.Info().has_volatile_cache) return Ok();
  std::unique_lock lock(flush_mutex_);
  const std::uint64_t wanted = flushes_started_ + 1;
  while (flushes_done_ < wanted) {
    if (is_flushing_) {
      flush_done_.wait(lock);
      continue;
    }
    is_flushing_ = true;
    const std::uint64_t number = ++flushes_started_;
    lock.unlock();
    const Result<void> flushed = FlushBlocking(device);
    counters.data_flushes.fetch_add(1, std::memory_order_relaxed);
    lock.lock();
    is_flushing_ = false;
    flushes_done_ = number;
    if (!flushed.has_value()) failed_flush_ = number;
    flush_done_.notify_all();
    if (!flushed.has_value()) return flushed.error();
  }
  if (failed_flush_ >= wanted) return Errc::kIo;
  return Ok();
}

Result<void> SharedVolume::ReserveBlocks(std::uint64_t count, bool is_privileged) {
  auto reserved = allocator.Reserve(count, is_privileged);
  if (reserved.has_value() || !allocator.HasPending()) return reserved;
  FILER_TRY(Sync(store->LastLsn()));
  return allocator.Reserve(count, is_privileged);
}

void SharedVolume::NotifyChange(std::initializer_list<Engine::Change> changes) const {
  if (listener_count.load(std::memory_order_acquire) == 0) return;
  decltype(listeners) called;
  {
    const std::lock_guard lock(listener_mutex);
    called = listeners;
  }
  const std::uint32_t by_door = current_door;
  for (std::uint32_t door = 0; door < called.size(); ++door) {
    if (called[door] == nullptr || door == by_door) continue;
    try {
      for (const Engine::Change& change : changes) {
        if (change.node.inode != 0) (*called[door])(change);
      }
    } catch (const std::exception& exception) {
      // The change is made and stays made, whether or not a cache could be told.
      FILER_LOG_WARN("a change was not announced to door {}: {}", door, exception.what());
    }
  }
  current_door = by_door;  // a listener may have worked for its own
}

void SharedVolume::WakeBackground() {
  if (has_background_work.exchange(true)) return;
  const std::lock_guard lock(background_mutex);
  background_wake.notify_all();
}

WriteVerifier SharedVolume::Verifier() const {
  std::array<std::uint8_t, 16> seed{};
  const std::uint64_t salt = verifier_salt_.load();
  const std::uint64_t epoch = store->MountEpoch();
  std::memcpy(seed.data(), &epoch, 8);
  std::memcpy(seed.data() + 8, &salt, 8);
  const std::uint64_t hash = SipHash24(key, seed);
  WriteVerifier verifier;
  std::memcpy(verifier.data(), &hash, 8);
  return verifier;
}

void SharedVolume::ChangeVerifier() { verifier_salt_.fetch_add(1); }

}  // namespace filer::engine
