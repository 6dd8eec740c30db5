#include "host-bridge/daemon/allow_list.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

namespace filer::bridge {
namespace {

constexpr int kAllowed[] = {
    // descriptors that are open
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64),
    SCMP_SYS(pwrite64), SCMP_SYS(preadv2), SCMP_SYS(lseek), SCMP_SYS(close), SCMP_SYS(fstat),
    SCMP_SYS(newfstatat), SCMP_SYS(fstatfs), SCMP_SYS(ftruncate), SCMP_SYS(memfd_create),
    // sockets that are open, and who connects to them
    SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(recvfrom),
    SCMP_SYS(sendto), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(shutdown),
    // events and I/O
    SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
    // memory; mmap and mprotect below
    SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mincore), SCMP_SYS(brk),
    // threads and time
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_setaffinity), SCMP_SYS(getcpu),
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday),
    SCMP_SYS(getrusage), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(geteuid), SCMP_SYS(getrandom),
    SCMP_SYS(exit), SCMP_SYS(exit_group),
    // signals; tgkill below
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall)};

constexpr int kControls[] = {F_GETFD,         F_SETFD,     F_GETFL,    F_SETFL,
                             F_DUPFD_CLOEXEC, F_GET_SEALS, F_ADD_SEALS};

// Names by number, found beforehand: a signal handler must not.
constexpr std::size_t kNamesMax = 512;
std::array<const char*, kNamesMax> call_names{};

void OnForbidden(int, siginfo_t* info, void*) {
  const auto number = static_cast<std::size_t>(info->si_syscall);
  const char* name = number < kNamesMax ? call_names[number] : nullptr;
  char line[200];
  std::size_t length = 0;
  const auto add = [&](std::string_view text) {
    length += text.copy(line + length, sizeof(line) - length);
  };
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), number).ptr;
  add("host-bridge: ended: system call ");
  add(name != nullptr ? name : "?");
  add(" (");
  add({digits, static_cast<std::size_t>(end - digits)});
  add(") is not on its allow-list; please report this, --confine off serves without the list\n");
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line, length);
  ::signal(SIGSYS, SIG_DFL);
  ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), SIGSYS);  // SA_NODEFER: now
}

void WatchForbidden() {
  for (std::size_t i = 0; i < kNamesMax; ++i) {
    call_names[i] = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(i));
  }
  struct sigaction action {};
  action.sa_sigaction = OnForbidden;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGSYS, &action, nullptr);
}

// Those that are allowed with some arguments only. The first failure's errno, negative, or 0.
int AddConditional(scmp_filter_ctx filter) {
  int failed = 0;
  const auto add = [&](std::uint32_t action, int call, std::initializer_list<scmp_arg_cmp> checks) {
    const int result = ::seccomp_rule_add_array(
        filter, action, call, static_cast<unsigned>(checks.size()), checks.begin());
    if (failed == 0) failed = result;
  };
  for (const int control : kControls) {
    add(SCMP_ACT_ALLOW, SCMP_SYS(fcntl), {SCMP_A1_32(SCMP_CMP_EQ, static_cast<unsigned>(control))});
  }
  add(SCMP_ACT_ALLOW, SCMP_SYS(ioctl), {SCMP_A1_32(SCMP_CMP_EQ, FIONBIO)});
  // No code comes into being any more.
  add(SCMP_ACT_ALLOW, SCMP_SYS(mmap), {SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  add(SCMP_ACT_ALLOW, SCMP_SYS(mprotect), {SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  add(SCMP_ACT_ALLOW, SCMP_SYS(prctl), {SCMP_A0_32(SCMP_CMP_EQ, PR_SET_NAME)});
  const auto self = static_cast<unsigned>(::getpid());
  add(SCMP_ACT_ALLOW, SCMP_SYS(tgkill), {SCMP_A0_32(SCMP_CMP_EQ, self)});
  // Threads, no processes. What clone3 asks for lies in memory: the C library then takes clone.
  add(SCMP_ACT_ALLOW, SCMP_SYS(clone),
      {SCMP_A0_32(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM)});
  add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), {});
  // At the end the sockets would be removed; they are out of reach, and replaced at the next start.
  add(SCMP_ACT_ERRNO(EACCES), SCMP_SYS(unlink), {});
  return failed;
}

}  // namespace

Result<void> InstallAllowList() {
  WatchForbidden();
  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(::seccomp_init(SCMP_ACT_TRAP),
                                                                ::seccomp_release);
  if (filter == nullptr) return Error(Errc::kSystem, "seccomp: no filter could be made");
  int failed = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);  // all threads
  if (failed == 0) {  // a tree instead of a list; the kernel remembers what is always allowed
    failed = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  }
  for (const int call : kAllowed) {
    if (failed == 0)
      failed = ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, call, 0, nullptr);
  }
  if (failed == 0) failed = AddConditional(filter.get());
  if (failed == 0) failed = ::seccomp_load(filter.get());
  if (failed != 0) {
    return Error::System(-failed,
                         "seccomp: the list of system calls is refused (to serve without: "
                         "--confine off)");
  }
  return Ok();
}

}  // namespace filer::bridge
