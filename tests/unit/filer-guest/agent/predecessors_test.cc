// Servers here are copies of the shell under a server's name.
#include "filer-guest/agent/predecessors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

namespace filer::agent {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr const char* kPolite = "while :; do sleep 0.05; done";
constexpr const char* kStubborn = "trap '' TERM; touch \"$1.deaf\"; while :; do sleep 0.05; done";

class Predecessors : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(run_dir_); }
  void TearDown() override {
    for (const ProcessId& server : started_) {
      if (IsRunning(server)) ::kill(server.pid, SIGKILL);
    }
    fs::remove_all(folder_);
  }

  ProcessId Start(const std::string& name, const char* script, const std::string& argument) {
    fs::copy_file("/bin/sh", folder_ + "/" + name, fs::copy_options::skip_existing);
    const auto server =
        SpawnDetached({.arguments = {folder_ + "/" + name, "-c", script, "sh", argument}});
    EXPECT_TRUE(server.has_value());
    started_.push_back(server.value());
    return server.value();
  }

  const std::string folder_ = testing::TempDir() + "left_" + std::to_string(::getpid());
  const std::string run_dir_ = folder_ + "/run/f";
  std::vector<ProcessId> started_;
};

TEST_F(Predecessors, NoneIsFine) {
  const auto ended = EndPredecessors(run_dir_, milliseconds(100));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended.value().count, 0U);
}

TEST_F(Predecessors, OnlyServersOfThisRunFolderAreEnded) {
  const ProcessId ours = Start("ganesha.nfsd", kPolite, run_dir_ + "/ganesha.conf");
  const ProcessId samba = Start("smbd", kPolite, "--configfile=" + run_dir_ + "/samba/smb.conf");
  const ProcessId sibling = Start("ganesha.nfsd", kPolite, run_dir_ + "2/ganesha.conf");
  const ProcessId jailed = Start("ganesha.nfsd", kPolite, "/jail" + run_dir_ + "/ganesha.conf");
  const ProcessId tool = Start("editor", kPolite, run_dir_ + "/ganesha.conf");
  EXPECT_EQ(FindPredecessors(run_dir_).size(), 2U);
  const auto ended = EndPredecessors(run_dir_, milliseconds(5'000));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended.value().count, 2U);
  EXPECT_EQ(ended.value().killed_count, 0U);
  EXPECT_FALSE(IsRunning(ours));
  EXPECT_FALSE(IsRunning(samba));
  EXPECT_TRUE(IsRunning(sibling));
  EXPECT_TRUE(IsRunning(jailed));
  EXPECT_TRUE(IsRunning(tool));
}

TEST_F(Predecessors, OneThatDoesNotEndIsKilledAndCounted) {
  const std::string argument = run_dir_ + "/ganesha.conf";
  const ProcessId stubborn = Start("ganesha.nfsd", kStubborn, argument);
  while (!fs::exists(argument + ".deaf")) std::this_thread::sleep_for(milliseconds(5));
  const auto ended = EndPredecessors(run_dir_, milliseconds(300));
  ASSERT_TRUE(ended.has_value());
  EXPECT_EQ(ended.value().count, 1U);
  EXPECT_EQ(ended.value().killed_count, 1U);
  EXPECT_FALSE(IsRunning(stubborn));
}

}  // namespace
}  // namespace filer::agent
