// Each case in a process of its own, which gives everything up and then tries something.
#include "host-bridge/daemon/confine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "base/file.h"
#include "host-bridge/target/peer_descriptor.h"

namespace filer::bridge {
namespace {

constexpr int kConfineFailed = 99;

class ConfineTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!CanConfine()) GTEST_SKIP() << "nothing is given up under a sanitizer";
  }
  struct End {
    int status = 0;
    std::string said;  // on stderr
  };
  // `deed` runs confined, in a child; its result is the exit code.
  static End Run(const std::function<int()>& deed) {
    int pipe_fds[2];
    EXPECT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
    const UniqueFd from(pipe_fds[0]);
    UniqueFd to(pipe_fds[1]);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(to.get(), STDERR_FILENO);
      if (!BeginConfinement().has_value() || !Confine().has_value()) ::_exit(kConfineFailed);
      ::_exit(deed());
    }
    to.Reset();
    End end;
    char buffer[512];
    ssize_t got = 0;
    while ((got = ::read(from.get(), buffer, sizeof(buffer))) > 0) {
      end.said.append(buffer, static_cast<std::size_t>(got));
    }
    ::waitpid(child, &end.status, 0);
    return end;
  }
  static void ExpectKilled(const char* call, const std::function<int()>& deed) {
    const End end = Run(deed);
    ASSERT_TRUE(WIFSIGNALED(end.status)) << call << ": status " << end.status << ": " << end.said;
    EXPECT_EQ(WTERMSIG(end.status), SIGSYS) << call;
    EXPECT_NE(end.said.find(std::string("system call ") + call + " ("), std::string::npos)
        << end.said;
    EXPECT_EQ(std::count(end.said.begin(), end.said.end(), '\n'), 1) << end.said;
  }
};

TEST_F(ConfineTest, EndsAtACallThatIsNotOnTheListAndSaysWhich) {
  ExpectKilled("openat", [] { return ::open("/etc/passwd", O_RDONLY); });
  ExpectKilled("socket", [] { return ::socket(AF_INET, SOCK_STREAM, 0); });
  ExpectKilled("connect", [] { return ::connect(0, nullptr, 0); });
  ExpectKilled("execve", [] { return ::execl("/bin/true", "true", nullptr); });
  ExpectKilled("kill", [] { return ::kill(1, 0); });
  ExpectKilled("ptrace", [] { return static_cast<int>(::ptrace(PTRACE_TRACEME, 0, 0, 0)); });
  ExpectKilled("setresuid", [] { return ::setresuid(0, 0, 0); });
  ExpectKilled("unshare", [] { return ::unshare(CLONE_NEWUSER); });
  ExpectKilled("bpf", [] { return static_cast<int>(::syscall(SYS_bpf, 0, nullptr, 0)); });
}

TEST_F(ConfineTest, AllowsNoNewCodeAndNoNewProcess) {
  ExpectKilled("mmap", [] {
    return ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
           MAP_FAILED;
  });
  ExpectKilled("clone", [] { return static_cast<int>(::fork()); });
  ExpectKilled("tgkill", [] { return static_cast<int>(::syscall(SYS_tgkill, 1, 1, 0)); });
  ExpectKilled("fcntl", [] { return ::fcntl(0, F_SETOWN, 1); });
}

TEST_F(ConfineTest, HoldsForThreadsThatWereThereBefore) {
  std::atomic<bool> is_confined = false;
  int pipe_fds[2];
  ASSERT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe_fds[1], STDERR_FILENO);
    if (!BeginConfinement().has_value()) ::_exit(kConfineFailed);
    std::thread earlier([&] {
      while (!is_confined) ::sched_yield();
      if (::geteuid() == 0) ::_exit(kConfineFailed);
      ::open("/etc/passwd", O_RDONLY);
      ::_exit(0);
    });
    if (!Confine().has_value()) ::_exit(kConfineFailed);
    is_confined = true;
    earlier.join();
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_EQ(WTERMSIG(status), SIGSYS);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

TEST_F(ConfineTest, AllowsWhatServingNeeds) {
  const End end = Run([] {
    std::atomic<bool> has_run = false;
    std::thread([&] { has_run = true; }).join();
    if (!has_run) return 1;
    const UniqueFd memory(::memfd_create("table", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!IsOfKind(memory.get(), DescriptorKind::kMemory)) return 2;
    const std::string text(1 << 20, 'x');  // memory of its own from the allocator
    return text.size() == 1 << 20 && ::unlink("/x") != 0 ? 0 : 3;
  });
  EXPECT_EQ(end.status, 0) << end.said;
}

// seccomp does not see what a ring is asked to do: there must be nothing to get at.
TEST_F(ConfineTest, FindsNoFileAndNoNetworkThroughIoUring) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can enter an empty root and network";
  const auto ask = [](io_uring& ring, const std::function<void(io_uring_sqe*)>& prepare) {
    prepare(io_uring_get_sqe(&ring));
    io_uring_cqe* entry = nullptr;
    if (io_uring_submit_and_wait(&ring, 1) != 1 || io_uring_peek_cqe(&ring, &entry) != 0) return 1;
    const int result = entry->res;
    io_uring_cqe_seen(&ring, entry);
    return result;
  };
  const auto open = [&ask](const char* path, int flags) {
    io_uring ring;
    if (io_uring_queue_init(1, &ring, 0) != 0) return -ENOSYS;
    const int result = ask(
        ring, [&](io_uring_sqe* sqe) { io_uring_prep_openat(sqe, AT_FDCWD, path, flags, 0600); });
    io_uring_queue_exit(&ring);
    return result;
  };
  const UniqueFd unconfined(open("/etc/passwd", O_RDONLY));
  EXPECT_TRUE(unconfined.is_open());
  const End end = Run([&] {
    if (open("/etc/passwd", O_RDONLY) >= 0) return 1;
    if (open("../../../../etc/passwd", O_RDONLY) >= 0) return 2;
    if (open("/new", O_CREAT | O_WRONLY) >= 0) return 3;
    io_uring ring;
    if (io_uring_queue_init(4, &ring, 0) != 0) return 4;
    const int socket =
        ask(ring, [](io_uring_sqe* sqe) { io_uring_prep_socket(sqe, AF_INET, SOCK_STREAM, 0, 0); });
    if (socket < 0) return 0;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(22);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int connected = ask(ring, [&](io_uring_sqe* sqe) {
      io_uring_prep_connect(sqe, socket, reinterpret_cast<const sockaddr*>(&address),
                            sizeof(address));
    });
    return connected == -ENETUNREACH ? 0 : 5;
  });
  EXPECT_EQ(end.status, 0) << WEXITSTATUS(end.status) << " " << end.said;
}

}  // namespace
}  // namespace filer::bridge
