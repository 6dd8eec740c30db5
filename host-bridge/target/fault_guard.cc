#include "host-bridge/target/fault_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <mutex>

#include "host-bridge/target/limits.h"

namespace filer::bridge {
namespace {

// What all volumes can have, inflight tables included: none takes another's.
constexpr std::size_t kSlotCount = kVolumeCountMax * (kMemoryRegionsMax + 1);

struct Slot {
  std::atomic<std::uintptr_t> base = 0;  // 0: free
  std::atomic<std::size_t> length = 0;   // 0: not (yet, or any more) valid
  std::atomic<bool> is_broken = false;
};

// Constant-initialised and never destroyed: the handler may run at any time.
constinit std::array<Slot, kSlotCount> slots;

void OnBusError(int signal_number, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (Slot& slot : slots) {
    const std::size_t length = slot.length.load(std::memory_order_acquire);  // pairs with Add
    const std::uintptr_t base = slot.base.load(std::memory_order_acquire);
    // The slot may have been given to another region in between: then base and length may not
    // match.
    if (slot.length.load(std::memory_order_acquire) != length) continue;
    if (length == 0 || address < base || address - base >= length) continue;
    void* replaced = ::mmap(reinterpret_cast<void*>(base), length, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    if (replaced == MAP_FAILED) break;
    slot.is_broken.store(true, std::memory_order_release);  // pairs with IsBroken
    return;
  }
  ::signal(signal_number, SIG_DFL);  // the access is repeated and now ends the process
}

}  // namespace

void FaultGuard::Install() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = OnBusError;
    action.sa_flags = SA_SIGINFO;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, nullptr);
  });
}

Result<std::size_t> FaultGuard::Add(void* base, std::size_t length_bytes) {
  for (std::size_t i = 0; i < slots.size(); ++i) {
    std::uintptr_t free_base = 0;
    const auto wanted = reinterpret_cast<std::uintptr_t>(base);
    if (!slots[i].base.compare_exchange_strong(free_base, wanted, std::memory_order_relaxed)) {
      continue;
    }
    slots[i].is_broken.store(false, std::memory_order_relaxed);
    slots[i].length.store(length_bytes, std::memory_order_release);  // pairs with the handler
    return i;
  }
  return Error(Errc::kTooBig, "too many guest memory regions are mapped");
}

void FaultGuard::Remove(std::size_t slot) {
  slots[slot].length.store(0, std::memory_order_release);
  slots[slot].base.store(0, std::memory_order_release);
}

bool FaultGuard::IsBroken(std::size_t slot) {
  return slots[slot].is_broken.load(std::memory_order_acquire);  // pairs with the handler
}

}  // namespace filer::bridge
