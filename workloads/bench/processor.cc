#include "workloads/bench/processor.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "base/file.h"

namespace filer::bench {
namespace {

std::int64_t ReadClock(clockid_t clock) {
  timespec at{};
  if (::clock_gettime(clock, &at) != 0) return 0;
  return std::int64_t{at.tv_sec} * 1'000'000'000 + at.tv_nsec;
}

// "0,4" or "0-1": which cores share one physical core with `core`; compared as text.
std::string SiblingsOf(int core) {
  const auto text = ReadWholeFile(
      fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", core));
  return text.has_value() ? text.assume_value() : fmt::format("{}", core);
}

}  // namespace

std::vector<int> AllowedCores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<int> cores;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<std::size_t>(core), &allowed)) cores.push_back(core);
  }
  return cores;
}

Result<CorePair> ChooseCores() {
  const std::vector<int> cores = AllowedCores();
  if (cores.size() < 2) {
    return Error(Errc::kNotSupported,
                 "two processors are needed, one for each end of the bridge; this program may use "
                 "only one");
  }
  const std::string first = SiblingsOf(cores[0]);
  for (std::size_t i = 1; i < cores.size(); ++i) {
    if (SiblingsOf(cores[i]) != first) return CorePair{cores[0], cores[i]};
  }
  return CorePair{cores[0], cores[1]};
}

Result<void> PinThread(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (core >= 0 && core < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(core), &cores);
  const int failed = ::pthread_setaffinity_np(::pthread_self(), sizeof(cores), &cores);
  if (failed != 0) return Error::System(failed, fmt::format("core {}: cannot run there", core));
  return Ok();
}

std::int64_t ThreadCpuNs() { return ReadClock(CLOCK_THREAD_CPUTIME_ID); }

std::int64_t ProcessCpuNs(pid_t pid) {
  clockid_t clock{};
  if (::clock_getcpuclockid(pid, &clock) != 0) return 0;
  return ReadClock(clock);
}

}  // namespace filer::bench
