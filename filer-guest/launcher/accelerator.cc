// Which accelerator works here. /dev/kvm alone proves nothing: where KVM is itself emulated by page
// tables, QEMU starts and a stock kernel never prints its first line. So the guest's own kernel is
// booted for a moment.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "base/log.h"
#include "filer-guest/launcher/launcher.h"
#include "filer-guest/launcher/preflight.h"
#include "filer-guest/launcher/qemu_arguments.h"

namespace filer::guest {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr const char* kSchema = "filer.accelerator/1";
constexpr milliseconds kPoll{20};
// A machine that was too busy to boot in time must not stay under emulation for good.
constexpr std::chrono::hours kTcgVerdictAge{24};
constexpr int kInitFactor = 3;  // from the first line to init, against the first line's deadline

AcceleratorVerdict Tcg(const std::string& reason) { return {Accelerator::kTcg, reason, false}; }

// Same host kernel, same QEMU, same guest kernel: same verdict.
std::string VerdictKey(const ProbeOptions& options, const std::string& qemu) {
  utsname names{};
  ::uname(&names);
  struct stat program {};
  ::stat(qemu.c_str(), &program);
  struct stat kernel {};
  ::stat((options.image_dir + "/kernel").c_str(), &kernel);
  return std::string(names.release) + "|" + names.version + "|" + qemu + "|" +
         std::to_string(program.st_size) + "|" + std::to_string(program.st_mtime) + "|" +
         std::to_string(kernel.st_size);
}

std::string VerdictFile(const std::string& cache_dir) { return cache_dir + "/accelerator.json"; }

std::int64_t NowSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::optional<AcceleratorVerdict> Remembered(const ProbeOptions& options, const std::string& key) {
  auto text = ReadWholeFile(VerdictFile(options.cache_dir));
  if (!text) return std::nullopt;
  const Json record = Json::parse(text.value(), nullptr, false);
  if (!record.is_object() || record.value("schema", Json()) != Json(kSchema) ||
      record.value("key", Json()) != Json(key)) {
    return std::nullopt;
  }
  const Json name = record.value("accelerator", Json());
  const Json reason = record.value("reason", Json());
  if (!name.is_string() || !reason.is_string()) return std::nullopt;
  const auto accelerator = ParseAccelerator(name.get<std::string>());
  if (!accelerator || accelerator.value() == Accelerator::kAuto) return std::nullopt;
  if (accelerator.value() == Accelerator::kTcg) {
    const Json time = record.value("time", Json());
    const auto age = NowSeconds() - (time.is_number_integer() ? time.get<std::int64_t>() : 0);
    if (age < 0 || age > std::chrono::seconds(kTcgVerdictAge).count()) return std::nullopt;
  }
  return AcceleratorVerdict{accelerator.value(), reason.get<std::string>(), true};
}

void Remember(const ProbeOptions& options, const std::string& key,
              const AcceleratorVerdict& verdict) {
  std::error_code error;
  fs::create_directories(options.cache_dir, error);
  const Json record{{"schema", kSchema},
                    {"key", key},
                    {"time", NowSeconds()},
                    {"accelerator", AcceleratorName(verdict.accelerator)},
                    {"reason", verdict.reason}};
  if (auto written = WriteFileAtomically(VerdictFile(options.cache_dir), record.dump(2) + "\n");
      !written) {
    FILER_LOG_WARN("{}", written.error().message());
  }
}

// Until the console's file holds `text`, QEMU ends, or the time is over.
bool WaitForText(const std::string& console, const std::string& text, const ProcessId& qemu,
                 milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  while (Clock::now() < deadline) {
    const bool was_running = IsRunning(qemu);
    auto content = ReadWholeFile(console);
    if (content && content.value().find(text) != std::string::npos) return true;
    if (!was_running) return false;
    std::this_thread::sleep_for(kPoll);
  }
  return false;
}

// Boots the kernel under KVM. The process ends with `timeout`, should we be killed meanwhile.
Result<AcceleratorVerdict> BootUnderKvm(const ProbeOptions& options, const std::string& folder) {
  const std::string console = folder + "/console";
  SpawnOptions spawn;
  spawn.log_path = folder + "/log";
  spawn.arguments = {"timeout",
                     "-k",
                     "1",
                     "60",
                     options.qemu_program,
                     "-nodefaults",
                     "-no-user-config",
                     "-no-reboot",
                     "-display",
                     "none",
                     "-machine",
                     "q35",
                     "-accel",
                     "kvm",
                     "-cpu",
                     "host",
                     "-m",
                     "384M",
                     "-kernel",
                     options.image_dir + "/kernel",
                     "-initrd",
                     options.image_dir + "/initrd",
                     "-append",
                     "console=ttyS0 earlyprintk=serial,ttyS0,115200 panic=-1",
                     "-chardev",
                     "file,id=console,path=" + Escaped(console),
                     "-serial",
                     "chardev:console"};
  const ProcessId qemu = FILER_TRY(SpawnDetached(spawn));
  const bool has_life = WaitForText(console, "Linux version", qemu, options.deadline);
  const bool has_init =
      has_life && WaitForText(console, "Run /init", qemu, options.deadline * kInitFactor);
  const bool has_ended = !IsRunning(qemu);
  FILER_TRY(StopProcess(qemu, milliseconds(2'000)));
  if (has_init) return AcceleratorVerdict{Accelerator::kKvm, "KVM boots the guest's kernel", false};
  auto log = ReadWholeFile(spawn.log_path);
  std::string said = log ? log.value().substr(0, log.value().find('\n')) : std::string();
  if (has_ended && !has_life) {
    return Tcg("QEMU cannot use KVM here" + (said.empty() ? "" : ": " + said));
  }
  return Tcg(has_life ? "under KVM the guest's kernel starts but does not reach its first program"
                      : "KVM starts but the guest's kernel never prints a line under it (nested "
                        "or page-table based KVM)");
}

}  // namespace

Result<AcceleratorVerdict> ProbeAccelerator(const ProbeOptions& options) {
  const std::string qemu = FILER_TRY(FindQemu(options.qemu_program));
  const std::string& device = options.kvm_device;
  if (::access(device.c_str(), F_OK) != 0) return Tcg("this machine has no " + device);
  const UniqueFd opened(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  if (!opened.is_open()) return Tcg(device + " may not be opened by this user");
  const std::string key = VerdictKey(options, qemu);
  if (!options.ignore_remembered) {
    if (auto remembered = Remembered(options, key)) return *remembered;
  }
  std::string folder = (fs::temp_directory_path() / "filer-kvm.XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return Tcg("no temporary folder for the KVM trial");
  auto tried = BootUnderKvm(options, folder);
  std::error_code error;
  fs::remove_all(folder, error);
  if (!tried) return Tcg("the KVM trial failed: " + tried.error().message());
  Remember(options, key, tried.value());
  return tried;
}

}  // namespace filer::guest
