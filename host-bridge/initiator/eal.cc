#include "host-bridge/initiator/eal.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "base/thread_annotations.h"
#include "host-bridge/initiator/dpdk.h"
#include "host-bridge/initiator/initiator.h"

namespace filer::bridge {
namespace {

enum class State { kNone, kRunning, kFailed };

Mutex& StateMutex() {  // function-local: usable from another library's constructors
  static Mutex mutex;
  return mutex;
}
std::atomic<State> eal_state{State::kNone};   // written under StateMutex, release / acquire
std::atomic<bool> eal_has_huge_pages{false};  // written before eal_state

int FirstAllowedCpu() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) return cpu;
  }
  return 0;
}

std::vector<std::string> Arguments(const EalOptions& options) {
  std::vector<std::string> arguments = {
      options.process_name,
      "--no-pci",  // never probe the machine's own devices
      "--no-telemetry",
      "--no-shconf",
      "--log-level=*:error",
      fmt::format("--lcores=0@{}", FirstAllowedCpu()),
      "-m",
      std::to_string((options.memory_bytes + (1 << 20) - 1) >> 20),
  };
  if (options.use_huge_pages) {
    arguments.insert(arguments.end(), {"--in-memory", "--single-file-segments"});
  } else {
    arguments.insert(arguments.end(), {"--no-huge", "--iova-mode=va"});
  }
  return arguments;
}

// EAL pins the thread that starts it and keeps pointers to its arguments: a thread of its own, and
// arguments that stay.
Result<void> StartOnOwnThread(const EalOptions& options) {
  static std::vector<std::string> arguments;
  static std::vector<char*> pointers;
  arguments = Arguments(options);
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  int result = 0;
  int error = 0;
  // EAL's service threads inherit this mask: signals belong to the program.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  std::thread starter([&] {
    result = ::rte_eal_init(static_cast<int>(pointers.size()), pointers.data());
    error = rte_errno;
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  starter.join();
  if (result >= 0) return Ok();
  const std::uint64_t mebibytes = options.memory_bytes >> 20;
  if (options.use_huge_pages) {
    return Error(Errc::kNoMemory,
                 fmt::format("cannot get {} MiB of huge pages: reserve them "
                             "(sysctl vm.nr_hugepages={}) or set Huge_Pages = false",
                             mebibytes, mebibytes / 2));
  }
  if (error == ENOMEM) {
    return Error(Errc::kNoMemory, fmt::format("cannot get {} MiB of DMA memory", mebibytes));
  }
  return Error::System(error, "DPDK's environment does not start");
}

}  // namespace

bool IsEalRunning() noexcept {
  return eal_state.load(std::memory_order_acquire) == State::kRunning;
}
bool HasHugePages() noexcept {
  return IsEalRunning() && eal_has_huge_pages.load(std::memory_order_relaxed);
}

Result<void> InitEal(const EalOptions& options) {
  MutexLock lock(StateMutex());
  switch (eal_state.load(std::memory_order_relaxed)) {
    case State::kRunning:
      return Errc::kExists;
    case State::kFailed:
      return Error(Errc::kNotSupported,
                   "DPDK's environment failed to start before in this process: restart it");
    case State::kNone:
      break;
  }
  auto started = StartOnOwnThread(options);
  eal_has_huge_pages.store(options.use_huge_pages, std::memory_order_relaxed);
  eal_state.store(started.has_value() ? State::kRunning : State::kFailed,
                  std::memory_order_release);  // pairs with IsEalRunning
  return started;
}

}  // namespace filer::bridge
