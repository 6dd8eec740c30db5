#include "workloads/bench/linux_driver.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <thread>

#include "base/process.h"
#include "filer-guest/launcher/launcher.h"
#include "workloads/bench/peer.h"

namespace filer::bench {
namespace {

constexpr auto kCall = std::chrono::seconds(60);
constexpr auto kStop = std::chrono::seconds(20);
constexpr auto kLook = std::chrono::milliseconds(200);
constexpr auto kPatience = std::chrono::minutes(2);

// Counts what the driver does. A doorbell is a call of vp_notify for a queue of virtio_blk: the
// probe takes the queue's name, the third word of struct virtqueue. Tools are run once before, so
// that nothing is loaded meanwhile.
// clang-format off
constexpr const char* kScript = R"script(
set -euo pipefail
insmod /lib/modules/*/kernel/drivers/block/virtio_blk.ko
for disk in $disks; do
  for try in $(seq 100); do [[ -b /dev/$disk ]] && break; sleep 0.1; done
done
trace=/sys/kernel/tracing
mountpoint -q $trace || mount -t tracefs none $trace
echo 'p:doorbell vp_notify name=+0(+24(%di)):string' >$trace/kprobe_events
echo 'name ~ "req.*"' >$trace/events/kprobes/doorbell/filter
echo 1 >$trace/events/kprobes/doorbell/enable

ios() { awk '{ print $1 + $5 }' /sys/block/$1/stat; }
interrupts() {
  awk -v name="$(basename "$(readlink -f /sys/block/$1/device)")-req" '
    index($NF, name) { for (i = 2; i < NF; i++) if ($i ~ /^[0-9]+$/) sum += $i }
    END { print sum + 0 }' /proc/interrupts
}
doorbells() { grep -c ' doorbell: ' $trace/trace || true; }
load() {
  local disk=$1 depth=$2 each=$3 job jobs=()
  for ((job = 0; job < depth; job++)); do
    dd if=/dev/$disk of=/dev/null bs=4k count=$each skip=$((job * each)) iflag=direct status=none &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job"; done
}
for disk in $disks; do load $disk 2 10; ios $disk; interrupts $disk; doorbells; done >/dev/null
for depth in 1 8; do
  for disk in $disks; do
    echo >$trace/trace
    i=$(ios $disk) n=$(interrupts $disk)
    load $disk $depth $((800 / depth))
    echo "row $disk $depth $(($(ios $disk) - i)) $(doorbells) $(($(interrupts $disk) - n))"
  done
done
)script";
// clang-format on

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The folder of the image of the Linux client.
Result<std::string> FindImage(const LinuxDriverOptions& options) {
  const std::string source = Environment("FILER_SOURCE_DIR");
  const std::string cache = Environment("FILER_CACHE");
  if (source.empty() || cache.empty()) {
    return Error(Errc::kNotFound, "needs the image recipe: run it as ./filer bench");
  }
  if (!options.may_build_image) {
    const std::string image = cache + "/images/client";
    std::error_code error;
    if (std::filesystem::exists(image + "/manifest.json", error)) {
      return std::filesystem::canonical(image, error).string();
    }
    return Error(Errc::kNotFound,
                 "there is no image of a Linux client yet; without --quick it is built");
  }
  const std::string log = options.place.folder + "/image.log";
  const ProgramOutput built =
      FILER_TRY(RunProgram({source + "/filer-guest/image/build-image", "--bin",
                            options.place.programs, "--flavor", "client"},
                           log));
  std::string text = built.standard_output;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (built.exit_code != 0 || text.empty()) {
    return Error(Errc::kNotFound,
                 "the image of a Linux client cannot be built: filer-guest/image/build-image "
                 "--flavor client says why");
  }
  return text.substr(text.rfind('\n') + 1);  // npos + 1: all of it
}

// Stops the guest, whatever happens.
class GuestGuard {
 public:
  explicit GuestGuard(guest::RunningGuest machine) : machine_(std::move(machine)) {}
  GuestGuard(const GuestGuard&) = delete;
  ~GuestGuard() { (void)guest::StopGuest(machine_, kStop); }
  const guest::RunningGuest& machine() const { return machine_; }

 private:
  guest::RunningGuest machine_;
};

Result<std::string> RunScript(const guest::RunningGuest& machine, std::size_t disk_count,
                              const std::atomic<bool>* stop) {
  std::string disks;
  for (std::size_t i = 0; i < disk_count; ++i) {
    disks += fmt::format(" vd{}", static_cast<char>('a' + i));
  }
  const std::string script = fmt::format("disks='{}'\n{}", disks, kScript);
  FILER_TRY(guest::CallAgent(machine.agent_socket, "run", {{"script", script}}, kCall));
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    if (IsStopped(stop)) return StoppedError();
    const Json outcome =
        FILER_TRY(guest::CallAgent(machine.agent_socket, "outcome", Json::object(), kCall));
    if (outcome.value("done", false)) {
      std::string output = outcome.value("output", "");
      if (outcome.value("exit", "") == "exit code 0") return output;
      while (!output.empty() && output.back() == '\n') output.pop_back();
      return Error(Errc::kIo, fmt::format("the guest's script failed: {}",
                                          output.substr(output.rfind('\n') + 1)));
    }
    std::this_thread::sleep_for(kLook);
  }
  return Error(Errc::kTimedOut, "the guest's script does not end");
}

}  // namespace

Result<std::vector<FunctionalRow>> ParseFunctionalRows(const std::string& output,
                                                       const std::vector<std::string>& targets) {
  std::vector<FunctionalRow> rows;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string mark, disk;
    FunctionalRow row;
    words >> mark;
    if (mark != "row") continue;
    words >> disk >> row.depth >> row.ios >> row.doorbells >> row.interrupts;
    const std::size_t index = disk.size() == 3 && disk.starts_with("vd")
                                  ? static_cast<std::size_t>(disk[2] - 'a')
                                  : targets.size();
    if (words.fail() || row.ios == 0 || index >= targets.size()) {
      return Error(Errc::kProtocol, "the guest says: " + line);
    }
    row.target = targets[index];
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return Error(Errc::kProtocol, "the guest counted nothing");
  return rows;
}

Result<std::vector<FunctionalRow>> MeasureLinuxDriver(const LinuxDriverOptions& options) {
  guest::GuestOptions machine;
  machine.image_dir = FILER_TRY(FindImage(options));
  Backing backing;
  backing.backend = BackendKind::kNull;
  backing.size_bytes = 64 << 20;
  std::vector<Peer> peers;
  std::vector<std::string> targets;
  for (const std::string_view name : {kBridge, kStorageDaemon}) {
    SubjectPlace place = options.place;
    place.folder = options.place.folder + "/driver-" + std::string(name);
    std::filesystem::create_directory(place.folder);
    auto peer = StartPeer(name, backing, place);
    if (peer.has_error() && name == kBridge) return peer.error();
    if (peer.has_error()) continue;  // said with its other rows
    machine.disks.push_back({.socket_path = peer.value().socket});
    peers.push_back(std::move(peer).value());
    targets.emplace_back(name);
  }
  machine.run_dir = options.place.folder + "/guest";
  std::filesystem::create_directory(machine.run_dir);
  machine.cache_dir = machine.run_dir;
  machine.accelerator = guest::Accelerator::kTcg;
  machine.memory_mb = 512;
  machine.pin_cpus = false;
  const GuestGuard guard(FILER_TRY(guest::StartGuest(machine)));
  return ParseFunctionalRows(
      FILER_TRY(RunScript(guard.machine(), targets.size(), options.place.stop)), targets);
}

}  // namespace filer::bench
