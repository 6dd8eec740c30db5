#include "host-bridge/daemon/confine.h"

#include <dirent.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>

#include "host-bridge/daemon/allow_list.h"

namespace filer::bridge {
namespace {

// Numbers that are set aside for users without an account (as systemd's DynamicUser uses them).
constexpr uid_t kFirstUser = 61184;
constexpr uid_t kUserCount = 65519 - kFirstUser + 1;

Error Failed(int code, const char* what) {
  return Error::System(code, fmt::format("cannot give up privileges: {} (to serve without: "
                                         "--confine off)",
                                         what));
}

Result<void> DropCapabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (::syscall(SYS_capset, &header, none) != 0) return Failed(errno, "capset");
  return Ok();
}

// No program started later could have capabilities. Without the privilege to say so it has none.
void EmptyBoundingSet() {
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    ::prctl(PR_CAPBSET_DROP, capability);
  }
}

// One per process, so that two daemons cannot signal each other either.
Result<uid_t> FindUser() {
  const auto first = static_cast<uid_t>(::getpid()) % kUserCount;
  for (uid_t i = 0; i < kUserCount; ++i) {
    const uid_t user = kFirstUser + (first + i) % kUserCount;
    if (::getpwuid(user) == nullptr) return user;
  }
  return Failed(EAGAIN, "every user number from 61184 to 65519 has an account");
}

// The directory is gone when this returns: nothing is in it, and nothing can be made in it.
Result<void> EnterEmptyRoot() {
  char name[] = "/tmp/host-bridge-XXXXXX";
  if (::mkdtemp(name) == nullptr) return Failed(errno, "a folder in /tmp");
  const bool is_inside = ::chdir(name) == 0;
  const int error = errno;
  ::rmdir(name);
  if (!is_inside) return Failed(error, "chdir");
  if (::chroot(".") != 0) return Failed(errno, "chroot");
  return Ok();
}

// The C library sets user and groups of all threads. With the user go the capabilities.
Result<void> BecomeNobody() {
  const uid_t user = FILER_TRY(FindUser());
  // The kernel forgets it with the user: whoever keeps us running wants us to end with him.
  int parent_death_signal = 0;
  const pid_t parent = ::getppid();
  ::prctl(PR_GET_PDEATHSIG, &parent_death_signal);
  FILER_TRY(EnterEmptyRoot());
  if (::setgroups(0, nullptr) != 0) return Failed(errno, "setgroups");
  if (::setresgid(user, user, user) != 0) return Failed(errno, "setresgid");
  if (::setresuid(user, user, user) != 0) return Failed(errno, "setresuid");
  ::prctl(PR_SET_PDEATHSIG, parent_death_signal);
  if (parent_death_signal != 0 && ::getppid() != parent) ::raise(parent_death_signal);
  return Ok();
}

}  // namespace

bool CanConfine() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // clang has no such names
  return false;
#else
  return true;
#endif
}

Result<void> BeginConfinement() {
  ::close_range(3, ~0U, 0);
  if (!CanConfine()) return Ok();
  if (::geteuid() == 0) {
    // Registering guest memory with io_uring counts as locking it; root may without limit.
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    ::setrlimit(RLIMIT_MEMLOCK, &unlimited);
    ::unshare(CLONE_NEWNET);  // where the machine allows it; sockets of the file system need none
    EmptyBoundingSet();
  } else {
    FILER_TRY(DropCapabilities());
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return Failed(errno, "no_new_privs");
  return Ok();
}

Result<void> Confine() {
  if (!CanConfine()) return Ok();
  ::tzset();  // the log's local time: reads a file, once
  if (::geteuid() == 0) FILER_TRY(BecomeNobody());
  FILER_TRY(DropCapabilities());
  return InstallAllowList();
}

}  // namespace filer::bridge
