#include "filer-guest/launcher/launcher.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "base/file.h"
#include "base/log.h"
#include "filer-guest/launcher/cores.h"
#include "filer-guest/launcher/guest_record.h"
#include "filer-guest/launcher/preflight.h"
#include "filer-guest/launcher/qemu_arguments.h"
#include "filer-guest/launcher/qmp.h"

namespace filer::guest {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kHelloTimeout{1'000};
constexpr milliseconds kShutdownCallTimeout{3'000};
constexpr milliseconds kQmpTimeout{2'000};
constexpr milliseconds kQuitGrace{3'000};
constexpr milliseconds kTermGrace{2'000};
constexpr milliseconds kPoll{20};
constexpr std::size_t kShownLogBytes = 300;
// QEMU 10.0 can abort when firmware moves PCI regions while another processor runs under TCG
// ("iotlb_to_section: Assertion ... failed"), once in some dozens of boots on a busy machine.
constexpr int kBootAttempts = 3;

std::string LastLine(const std::string& path) {
  auto text = ReadWholeFile(path, 64 << 20);
  if (!text) return {};
  std::string lines = text.value();
  while (!lines.empty() && (lines.back() == '\n' || lines.back() == '\r')) lines.pop_back();
  const std::size_t start = lines.rfind('\n');
  std::string last = start == std::string::npos ? lines : lines.substr(start + 1);
  if (last.size() > kShownLogBytes) last.resize(kShownLogBytes);
  return last;
}

void RemoveSockets(const GuestPaths& paths) {
  for (const std::string* path : {&paths.qmp_socket, &paths.agent_socket, &paths.record}) {
    ::unlink(path->c_str());
  }
}

// QEMU itself gave up by one of its own assertions: nothing that we asked for was wrong.
bool HasQemuAborted(const RunningGuest& guest) {
  const std::string last = LastLine(guest.qemu_log);
  return !IsRunning(guest.process) && last.find("Assertion `") != std::string::npos &&
         last.find("' failed") != std::string::npos;
}

// The logs of the last run are kept beside.
void KeepOldLogs(const GuestPaths& paths) {
  for (const std::string* path : {&paths.console_log, &paths.qemu_log}) {
    ::rename(path->c_str(), (*path + ".old").c_str());
  }
}

bool WaitForEnd(const ProcessId& process, milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  while (IsRunning(process)) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPoll);
  }
  return true;
}

void Progress(const GuestOptions& options, const std::string& line) {
  FILER_LOG_DEBUG("{}", line);
  if (options.on_progress) options.on_progress(line);
}

// Until the agent answers. Errors: kDeviceGone when QEMU ends, kTimedOut.
Result<void> WaitForAgent(const RunningGuest& guest, milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  while (Clock::now() < deadline) {
    if (!IsRunning(guest.process)) {
      std::string why = LastLine(guest.qemu_log);
      if (why.empty()) why = LastLine(guest.console_log);
      return Error(Errc::kDeviceGone, "the guest ended while booting: " + why + " (see " +
                                          guest.console_log + " and " + guest.qemu_log + ")");
    }
    if (CallAgent(guest.agent_socket, "hello", Json::object(), kHelloTimeout)) return Ok();
    std::this_thread::sleep_for(kPoll);
  }
  return Error(Errc::kTimedOut,
               "the guest did not boot within " + std::to_string(timeout.count() / 1000) +
                   " s under " + AcceleratorName(guest.accelerator) + ": see " + guest.console_log);
}

Result<void> PinCpus(const RunningGuest& guest, std::uint32_t poller_count) {
  const std::vector<int> cores = UsableCores();
  if (!PlanCores(cores, 1, poller_count)) return Ok();  // not even for one: QEMU need not be asked
  const auto client = FILER_TRY(QmpClient::Connect(guest.qmp_socket, kQmpTimeout));
  const std::vector<int> threads = FILER_TRY(CpuThreads(*client, kQmpTimeout));
  const auto plan = PlanCores(cores, threads.size(), poller_count);
  if (!plan) return Ok();
  for (std::size_t index = 0; index < threads.size(); ++index) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(plan->guest_cpus[index]), &set);
    if (::sched_setaffinity(threads[index], sizeof(set), &set) != 0) {
      return Error::System(errno, "pin a guest processor");
    }
  }
  return Ok();
}

Result<AcceleratorVerdict> ChooseAccelerator(const GuestOptions& options) {
  if (options.accelerator != Accelerator::kAuto) {
    return AcceleratorVerdict{options.accelerator, "as configured", false};
  }
  ProbeOptions probe;
  probe.qemu_program = options.qemu_program;
  probe.image_dir = options.image_dir;
  probe.cache_dir = options.cache_dir;
  return ProbeAccelerator(probe);
}

// From QEMU's start to the agent's first answer.
Result<void> Boot(const GuestOptions& options, const RunningGuest& guest) {
  // Before anything else: should we be killed meanwhile, others find the guest and can stop it.
  FILER_TRY(
      WriteFileAtomically(PathsIn(options.run_dir).record, RecordOf(guest).dump(2) + "\n", 0600));
  FILER_TRY(WaitForAgent(guest, options.boot_deadline));
  if (options.pin_cpus) {
    if (auto pinned = PinCpus(guest, options.poller_count); !pinned)
      FILER_LOG_WARN("{}", pinned.error().message());
  }
  return Ok();
}

}  // namespace

Result<RunningGuest> StartGuest(const GuestOptions& options) {
  if (FindGuest(options.run_dir)) {
    return Error(Errc::kBusy, options.run_dir + ": a guest runs here already; filer down stops it");
  }
  FILER_TRY(CheckBeforeStart(options));
  const AcceleratorVerdict verdict = FILER_TRY(ChooseAccelerator(options));
  const GuestPaths paths = PathsIn(options.run_dir);
  MachineFacts facts;
  facts.accelerator = verdict.accelerator;
  facts.has_huge_pages = options.use_huge_pages && HasFreeHugePages(options.memory_mb);
  RemoveSockets(paths);
  KeepOldLogs(paths);

  RunningGuest guest;
  guest.accelerator = verdict.accelerator;
  guest.accelerator_reason = verdict.reason;
  guest.run_dir = options.run_dir;
  guest.qmp_socket = paths.qmp_socket;
  guest.agent_socket = paths.agent_socket;
  guest.console_log = paths.console_log;
  guest.qemu_log = paths.qemu_log;
  guest.has_viommu = options.has_viommu;
  guest.has_huge_pages = facts.has_huge_pages;
  Progress(options, std::string("booting the guest under ") + AcceleratorName(guest.accelerator) +
                        " (" + verdict.reason + ")");
  SpawnOptions spawn;
  spawn.arguments = QemuArguments(options, facts, paths);
  spawn.log_path = paths.qemu_log;
  for (int attempt = 1;; ++attempt) {
    guest.process = FILER_TRY(SpawnDetached(spawn));
    const auto booted = Boot(options, guest);
    if (booted) return guest;
    const bool is_worth_another = attempt < kBootAttempts && HasQemuAborted(guest);
    [[maybe_unused]] const auto stopped = StopProcess(guest.process, milliseconds(500));
    RemoveSockets(paths);
    if (!is_worth_another) return booted.error();
    FILER_LOG_WARN("QEMU aborted, another attempt: {}", LastLine(guest.qemu_log));
    Progress(options, "QEMU aborted by an assertion of its own; booting again");
    KeepOldLogs(paths);
  }
}

Result<RunningGuest> FindGuest(const std::string& run_dir) {
  const Error none(Errc::kNotRunning, run_dir + ": no guest runs here");
  auto text = ReadWholeFile(PathsIn(run_dir).record);
  if (!text) return none;
  RunningGuest guest =
      FILER_TRY(GuestFromRecord(Json::parse(text.value(), nullptr, false), run_dir));
  if (!IsRunning(guest.process)) return none;
  return guest;
}

Result<StopOutcome> StopGuest(const RunningGuest& guest, milliseconds grace) {
  const GuestPaths paths = PathsIn(guest.run_dir);
  StopOutcome outcome;
  if (!IsRunning(guest.process)) {
    outcome.note = "the guest was not running any more";
    RemoveSockets(paths);
    return outcome;
  }
  const auto asked =
      CallAgent(guest.agent_socket, "shutdown", Json::object(), kShutdownCallTimeout);
  if (asked && WaitForEnd(guest.process, grace)) {
    outcome.is_clean = true;
    RemoveSockets(paths);
    return outcome;
  }
  outcome.note = asked ? "the guest did not shut down in time and was ended"
                       : "the agent did not answer (" + asked.error().message() + ")";
  if (auto client = QmpClient::Connect(guest.qmp_socket, kQmpTimeout)) {
    [[maybe_unused]] const auto quit = client.value()->Execute("quit", Json::object(), kQmpTimeout);
    WaitForEnd(guest.process, kQuitGrace);
  }
  FILER_TRY(StopProcess(guest.process, kTermGrace));
  RemoveSockets(paths);
  return outcome;
}

}  // namespace filer::guest
