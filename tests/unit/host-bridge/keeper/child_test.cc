#include "host-bridge/keeper/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/process.h"

namespace filer::bridge {
namespace {

using namespace std::chrono_literals;

Result<Child> StartShell(const std::string& script) {
  const UniqueFd shell = FILER_TRY(OpenProgram("/bin/sh"));
  return Child::Start(shell, {"/bin/sh", "-c", script});
}

TEST(OpenProgram, TakesNothingButPrograms) {
  EXPECT_EQ(OpenProgram("sh").error(), Errc::kInvalidArgument);
  EXPECT_EQ(OpenProgram("/no/such/program").error(), Errc::kNotFound);
  EXPECT_EQ(OpenProgram("/etc/passwd").error(), Errc::kInvalidArgument);
  EXPECT_EQ(OpenProgram("/dev/null").error(), Errc::kInvalidArgument);
}

TEST(Child, TellsHowItEnded) {
  Child child = StartShell("exit 7").value();
  EXPECT_TRUE(child.WaitEnd(5s));
  EXPECT_FALSE(child.is_running());
  EXPECT_FALSE(child.was_killed());
  EXPECT_EQ(child.exit_status(), 7);
  EXPECT_EQ(child.EndText(), "ended with status 7");

  Child killed = StartShell("kill -ABRT $$").value();
  EXPECT_TRUE(killed.WaitEnd(5s));
  EXPECT_TRUE(killed.was_killed());
  EXPECT_EQ(killed.EndText(), "was killed by signal 6 (Aborted)");
}

TEST(Child, WaitsNoLongerThanAsked) {
  Child child = StartShell("exec sleep 100").value();
  EXPECT_FALSE(child.WaitEnd(10ms));
  EXPECT_TRUE(child.is_running());
  child.Signal(SIGTERM);
  EXPECT_TRUE(child.WaitEnd(5s));
}

TEST(Child, TheProgramOutlivesItsPath) {
  std::string folder = "/tmp/filer-child-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/sleep";
  ASSERT_EQ(RunProgram({"cp", "/bin/sleep", path}, "").value().exit_code, 0);
  const UniqueFd program = OpenProgram(path).value();
  ::unlink(path.c_str());
  ::rmdir(folder.c_str());
  Child child = Child::Start(program, {"sleep", "0"}).value();
  EXPECT_TRUE(child.WaitEnd(5s));
  EXPECT_EQ(child.EndText(), "ended with status 0");
}

// However its parent ends: here without a word.
TEST(Child, EndsWithItsParent) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    auto child = StartShell("exec sleep 100");
    const pid_t pid = child.has_value() ? child.value().pid() : 0;
    [[maybe_unused]] const ssize_t written = ::write(pipe_fds[1], &pid, sizeof(pid));
    ::kill(::getpid(), SIGKILL);
  }
  pid_t pid = 0;
  ASSERT_EQ(::read(pipe_fds[0], &pid, sizeof(pid)), ssize_t{sizeof(pid)});
  ASSERT_GT(pid, 0);
  ::waitpid(parent, nullptr, 0);
  for (int i = 0; i < 500 && !HasEnded(pid); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_TRUE(HasEnded(pid));
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

}  // namespace
}  // namespace filer::bridge
