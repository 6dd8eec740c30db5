#include "base/process.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/file.h"

namespace filer {
namespace {

using namespace std::chrono_literals;

TEST(Process, StartsAndStopsADetachedProgram) {
  const auto process = SpawnDetached({.arguments = {"sleep", "100"}});
  ASSERT_TRUE(process.has_value());
  EXPECT_TRUE(IsRunning(process.value()));
  ASSERT_TRUE(StopProcess(process.value(), 2s).has_value());
  EXPECT_FALSE(IsRunning(process.value()));
  EXPECT_TRUE(StopProcess(process.value(), 2s).has_value());
}

TEST(Process, KillsWhatIgnoresSigterm) {
  const auto process =
      SpawnDetached({.arguments = {"sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"}});
  ASSERT_TRUE(process.has_value());
  std::this_thread::sleep_for(100ms);
  EXPECT_TRUE(StopProcess(process.value(), 200ms).has_value());
  EXPECT_FALSE(IsRunning(process.value()));
}

TEST(Process, SaysThatAProgramDoesNotExist) {
  const auto process = SpawnDetached({.arguments = {"/no/such/program"}});
  ASSERT_FALSE(process.has_value());
  EXPECT_EQ(process.error(), Errc::kNotFound);
}

TEST(Process, KnowsAProgramThatEndsAtOnce) {
  for (int i = 0; i < 100; ++i) {
    const auto process = SpawnDetached({.arguments = {"true"}});
    ASSERT_TRUE(process.has_value()) << process.error().message();
    EXPECT_GT(process.value().start_ticks, 0u);
  }
}

TEST(Process, RunsAProgramToItsEnd) {
  const auto output = RunProgram({"sh", "-c", "echo a; echo b; exit 3"}, "");
  ASSERT_TRUE(output.has_value());
  EXPECT_EQ(output.value().exit_code, 3);
  EXPECT_EQ(output.value().standard_output, "a\nb\n");
  EXPECT_EQ(RunProgram({"/no/such/program"}, "").error(), Errc::kNotFound);
}

TEST(Process, StopsAProgramThatItRuns) {
  // One that ends when it is asked, one that does not, and one that writes without end.
  for (const char* script : {"exec sleep 100", "trap '' TERM; while :; do sleep 0.1; done",
                             "while :; do echo a; sleep 0.1; done"}) {
    std::atomic<bool> stop = false;
    const auto begin = std::chrono::steady_clock::now();
    std::thread stopping([&] {
      std::this_thread::sleep_for(300ms);
      stop = true;
    });
    const auto output = RunProgram({"bash", "-c", script}, "", &stop);
    stopping.join();
    ASSERT_TRUE(output.has_error()) << script;
    EXPECT_EQ(output.error(), Errc::kCancelled) << script;
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s) << script;
  }
  const std::atomic<bool> never = false;
  EXPECT_EQ(RunProgram({"echo", "a"}, "", &never).value().standard_output, "a\n");
}

TEST(Process, TellsAReusedPidFromTheProcess) {
  ProcessId self = IdentifyProcess(::getpid()).value();
  EXPECT_TRUE(IsRunning(self));
  self.start_ticks += 1;
  EXPECT_FALSE(IsRunning(self));
}

TEST(Process, SeesThatAZombieHasEnded) {
  EXPECT_FALSE(HasEnded(::getpid()));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  for (int attempt = 0; attempt < 500 && !HasEnded(child); ++attempt) {
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_TRUE(HasEnded(child));
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(HasEnded(child));
}

TEST(Process, PassesEnvironmentAndWritesTheLog) {
  const std::string log = testing::TempDir() + "process_log_" + std::to_string(::getpid());
  std::filesystem::remove(log);
  const auto process = SpawnDetached({.arguments = {"sh", "-c", "echo $FILER_X; sleep 5"},
                                      .log_path = log,
                                      .environment = {{"FILER_X", "seven"}}});
  ASSERT_TRUE(process.has_value());
  for (int attempt = 0; attempt < 200 && ReadWholeFile(log).value() != "seven\n"; ++attempt) {
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_EQ(ReadWholeFile(log).value(), "seven\n");
  EXPECT_TRUE(StopProcess(process.value(), 2s).has_value());
  std::filesystem::remove(log);
}

}  // namespace
}  // namespace filer
