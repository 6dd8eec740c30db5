// init.cc: first program of the guest, alone in the initrd: loads the modules that the root file
// system needs, mounts the squashfs under an overlay of memory, and becomes /nearmetal/init there.
//
// Static, no heap, no exceptions: whatever goes wrong is printed on the console, and the machine is
// powered off, so that the launcher sees the end instead of a hang.
#include <dirent.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace {

constexpr const char* kModuleList = "/modules/order";  // one file name per line, in load order
constexpr const char* kNextInit = "/nearmetal/init";
constexpr int kRootWaitMs = 15'000;
constexpr int kRootPollMs = 2;
constexpr std::size_t kModuleListBytesMax = 16 * 1024;

[[noreturn]] void Die(const char* what) {
  std::printf("nearmetal-init: %s: %s\n", what, std::strerror(errno));
  std::fflush(stdout);
  ::sync();
  ::reboot(RB_POWER_OFF);
  ::_exit(1);
}

void Mount(const char* source, const char* target, const char* type, unsigned long flags,
           const char* data) {
  ::mkdir(target, 0755);
  if (::mount(source, target, type, flags, data) != 0) Die(target);
}

void LoadModule(const char* name) {
  char path[256];
  std::snprintf(path, sizeof(path), "/modules/%s", name);
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) Die(path);
  if (::syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST) Die(path);
  ::close(fd);
}

void LoadModules() {
  static char list[kModuleListBytesMax];
  const int fd = ::open(kModuleList, O_RDONLY | O_CLOEXEC);
  if (fd < 0) Die(kModuleList);
  const ssize_t got = ::read(fd, list, sizeof(list) - 1);
  ::close(fd);
  if (got < 0) Die(kModuleList);
  char* rest = nullptr;
  for (char* name = ::strtok_r(list, "\n", &rest); name != nullptr;
       name = ::strtok_r(nullptr, "\n", &rest)) {
    LoadModule(name);
  }
}

// The root disk is the only SCSI disk of the machine. It appears some milliseconds after its
// driver.
void MountSquashfs() {
  for (int waited_ms = 0; waited_ms < kRootWaitMs; waited_ms += kRootPollMs) {
    if (::mount("/dev/sda", "/lower", "squashfs", MS_RDONLY, nullptr) == 0) return;
    if (errno != ENOENT && errno != ENXIO && errno != ENODEV) break;
    const timespec pause{0, kRootPollMs * 1'000'000L};
    ::nanosleep(&pause, nullptr);
  }
  Die("mount the root image /dev/sda");
}

void MoveMount(const char* name) {
  char from[64];
  char to[64];
  std::snprintf(from, sizeof(from), "/%s", name);
  std::snprintf(to, sizeof(to), "/root/%s", name);
  if (::mount(from, to, nullptr, MS_MOVE, nullptr) != 0) Die(to);
}

}  // namespace

int main() {
  ::mkdir("/lower", 0755);
  ::mkdir("/root", 0755);
  Mount("dev", "/dev", "devtmpfs", MS_NOSUID, nullptr);
  Mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
  Mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
  LoadModules();
  MountSquashfs();
  Mount("overlay", "/overlay", "tmpfs", 0, "mode=0755");
  ::mkdir("/overlay/upper", 0755);
  ::mkdir("/overlay/work", 0755);
  Mount("root", "/root", "overlay", 0,
        "lowerdir=/lower,upperdir=/overlay/upper,workdir=/overlay/work");
  MoveMount("dev");
  MoveMount("proc");
  MoveMount("sys");
  if (::chdir("/root") != 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 ||
      ::chroot(".") != 0 || ::chdir("/") != 0) {
    Die("switch to the root image");
  }
  const char* const arguments[] = {kNextInit, "--init", nullptr};
  ::execv(kNextInit, const_cast<char* const*>(arguments));
  Die(kNextInit);
}
