#include "filer-guest/agent/guest_boot.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>

#include "base/log.h"
#include "filer-guest/agent/modules.h"
#include "filer-guest/agent/network.h"

namespace filer::agent {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr milliseconds kInterfaceWait{3'000};
constexpr milliseconds kPortWait{5'000};
constexpr milliseconds kDhcpWait{20'000};
constexpr milliseconds kPoll{5};

struct MountSpec {
  const char* type;
  const char* target;
  unsigned long flags;
  const char* data;
};

constexpr MountSpec kMounts[] = {
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
    {"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"hugetlbfs", "/dev/hugepages", MS_NOSUID | MS_NODEV, "pagesize=2M"},
};

Result<void> MountAll() {
  for (const MountSpec& spec : kMounts) {
    ::mkdir(spec.target, 0755);
    if (::mount(spec.type, spec.target, spec.type, spec.flags, spec.data) != 0) {
      // A kernel without 2 MiB pages (no pdpe1gb/pse) has no hugetlbfs to mount; the rest must.
      if (std::string_view(spec.type) == "hugetlbfs") continue;
      return Error::System(errno, std::string("mount ") + spec.target);
    }
  }
  for (const char* folder : {"/run/lock", "/run/samba"}) ::mkdir(folder, 0755);
  return Ok();
}

Result<void> RunDhcp(const std::string& interface, Children& children) {
  ChildSpec dhcp;
  dhcp.name = "dhcp";
  dhcp.arguments = {"/bin/busybox", "udhcpc", "-i", interface, "-n", "-q",
                    "-t",           "8",      "-T", "2",       "-s", "/usr/share/nearmetal/udhcpc"};
  dhcp.log_path = "/run/dhcp.log";
  return children.Run(dhcp, kDhcpWait);
}

Result<void> BringUpNetwork(Children& children) {
  FILER_TRY(BringUpLoopback());
  const std::string command_line = FILER_TRY(ReadWholeFile("/proc/cmdline"));
  const std::optional<NetworkPlan> plan = FILER_TRY(ParseNetworkPlan(command_line));
  if (!plan) return Ok();
  const std::string interface = FILER_TRY(WaitForInterface(kInterfaceWait));
  if (plan->is_dhcp) return RunDhcp(interface, children);
  return BringUpInterface(interface, *plan);
}

// The device node of the port with this name, or empty.
std::string FindPort(const std::string& name) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/sys/class/virtio-ports", error)) {
    auto text = ReadWholeFile((entry.path() / "name").string());
    if (!text) continue;
    std::string found = text.value();
    while (!found.empty() && found.back() == '\n') found.pop_back();
    if (found == name) return "/dev/" + entry.path().filename().string();
  }
  return {};
}

}  // namespace

Result<BootOutcome> BootGuest(const BootOptions& options, Children& children) {
  FILER_TRY(MountAll());
  ::setenv("PATH", "/nearmetal/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  ::setenv("LD_LIBRARY_PATH", "/nearmetal/lib", 1);
  ::setenv("HOME", "/root", 1);
  // Ctrl-Alt-Del arrives as SIGINT instead of a reset that nobody could hold up.
  ::reboot(RB_DISABLE_CAD);
  const KernelModules modules = FILER_TRY(ReadKernelModules());
  for (const std::string& name : options.modules) {
    FILER_TRY(LoadModule(modules.index, modules.folder, name));
  }
  BootOutcome outcome;
  if (auto network = BringUpNetwork(children); !network) {
    outcome.network_error = network.error().message();
    FILER_LOG_ERROR("network: {}", outcome.network_error);
  }
  return outcome;
}

Result<UniqueFd> OpenAgentPort(const std::string& name) {
  const auto deadline = std::chrono::steady_clock::now() + kPortWait;
  while (std::chrono::steady_clock::now() < deadline) {
    const std::string node = FindPort(name);
    if (!node.empty()) {
      UniqueFd port(::open(node.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
      if (port.is_open()) {
        ::mkdir("/dev/virtio-ports", 0755);
        [[maybe_unused]] const int ignored =
            ::symlink(node.c_str(), ("/dev/virtio-ports/" + name).c_str());
        return port;
      }
      if (errno != ENOENT) return Error::System(errno, "open " + node);
    }
    std::this_thread::sleep_for(kPoll);
  }
  return Error(Errc::kTimedOut, "no virtio-serial port " + name);
}

void PowerOff() {
  ::sync();
  ::kill(-1, SIGTERM);
  std::this_thread::sleep_for(milliseconds(50));
  ::kill(-1, SIGKILL);
  ::sync();
  ::reboot(RB_POWER_OFF);
  while (true) ::pause();
}

std::int64_t BootMs() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace filer::agent
