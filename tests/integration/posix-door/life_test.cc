// Many files, real trees, and the life of the mount itself: killed, refused, unmounted by others.
#include <dirent.h>

#include <cerrno>
#include <cstdlib>
#include <set>

#include "tests/integration/posix-door/mounted_volume.h"

namespace filer::posix_door {
namespace {

class Life : public MountedVolume {
 protected:
  std::set<std::string> List(const std::string& name) {
    std::set<std::string> names;
    DIR* directory = opendir(At(name).c_str());
    if (directory == nullptr) return names;
    std::size_t count = 0;
    while (const dirent* entry = readdir(directory)) {
      names.insert(entry->d_name);
      ++count;
    }
    closedir(directory);
    EXPECT_EQ(count, names.size()) << "a name was listed twice";
    return names;
  }
  bool Make(const std::string& name, const std::string& text, bool with_sync) {
    const UniqueFd file(open(At(name).c_str(), O_WRONLY | O_CREAT, 0644));
    if (!file.is_open()) return false;
    if (write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      return false;
    }
    return !with_sync || fsync(file.get()) == 0;
  }
};

TEST_F(Life, TwentyThousandFilesInOneFolder) {
  constexpr int kFiles = 20000;
  constexpr int kThreads = 4;
  ASSERT_EQ(mkdir(At("many").c_str(), 0755), 0);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = thread; i < kFiles; i += kThreads) {
        if (!Make("many/file-" + std::to_string(i), std::to_string(i), false)) {
          ADD_FAILURE() << i << ": " << strerror(errno);
          return;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(List("many").size(), kFiles + 2U);

  // Removing while listing: every name that stays is seen.
  DIR* directory = opendir(At("many").c_str());
  ASSERT_NE(directory, nullptr);
  std::set<std::string> seen;
  int removed = 0;
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name;
    EXPECT_TRUE(seen.insert(name).second) << name;
    if (name.back() == '7' && unlink(At("many/" + name).c_str()) == 0) ++removed;
  }
  closedir(directory);
  EXPECT_EQ(seen.size(), kFiles + 2U);
  EXPECT_EQ(removed, kFiles / 10);
  EXPECT_EQ(List("many").size(), kFiles - removed + 2U);
}

TEST_F(Life, ATreeOfTheMachineComesBackEqual) {
  ASSERT_EQ(mkdir(At("tree").c_str(), 0755), 0);
  ASSERT_EQ(std::system(("tar -C /usr/include -cf - . | tar -C " + At("tree") + " -xpf -").c_str()),
            0);
  EXPECT_EQ(std::system(("diff -r --no-dereference /usr/include " + At("tree")).c_str()), 0);
  ASSERT_EQ(Stop(SIGTERM), 0);
  Start();
  EXPECT_EQ(std::system(("diff -r --no-dereference /usr/include " + At("tree")).c_str()), 0);
  EXPECT_EQ(std::system(("rm -rf " + At("tree")).c_str()), 0);
  EXPECT_EQ(List("."), (std::set<std::string>{".", ".."}));
}

TEST_F(Life, WhatWasAcknowledgedSurvivesKill) {
  for (int round = 0; round < 3; ++round) {
    std::vector<std::string> acknowledged;
    std::thread killer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(500 + 200 * round));
      kill(pid_, SIGKILL);
    });
    for (int i = 0;; ++i) {
      const std::string name = "r" + std::to_string(round) + "-" + std::to_string(i);
      if (!Make(name, name + std::string(static_cast<std::size_t>(i % 9000), 'd'), true)) break;
      acknowledged.push_back(name);
    }
    killer.join();
    EXPECT_EQ(Wait(), 128 + SIGKILL);
    EXPECT_GT(acknowledged.size(), 0U);
    EXPECT_EQ(access(At("x").c_str(), F_OK), -1);
    EXPECT_EQ(errno, ENOTCONN);  // the dead mount is still there
    CheckVolume();
    Start();  // clears it away
    if (HasFatalFailure()) return;
    for (std::size_t i = 0; i < acknowledged.size(); ++i) {
      const auto content = ReadWholeFile(At(acknowledged[i]));
      ASSERT_TRUE(content.has_value()) << acknowledged[i] << " is lost";
      ASSERT_EQ(content.value(), acknowledged[i] + std::string(i % 9000, 'd'));
    }
  }
}

TEST_F(Life, ASecondMountIsRefusedAndTheFirstGoesOn) {
  ASSERT_TRUE(Make("f", "x", false));
  const pid_t second = Spawn();
  int status = 0;
  ASSERT_EQ(waitpid(second, &status, 0), second);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  const std::string log = ReadWholeFile(LogPath()).value();
  EXPECT_NE(log.find("filer-mount: "), std::string::npos) << log;
  EXPECT_EQ(ReadWholeFile(At("f")).value(), "x");
}

TEST_F(Life, AnUnmountByAnybodyEndsTheProcessCleanly) {
  ASSERT_TRUE(Make("f", "x", false));
  ASSERT_EQ(umount2(Mount().c_str(), 0), 0) << strerror(errno);
  EXPECT_EQ(Wait(), 0);
  Start();
  EXPECT_EQ(ReadWholeFile(At("f")).value(), "x");
}

TEST_F(Life, OpenFilesDoNotKeepItFromEnding) {
  const UniqueFd file(open(At("f").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(write(file.get(), "x", 1), 1);
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_FALSE(IsMounted());
  char byte = 0;
  EXPECT_EQ(pread(file.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ENOTCONN);
}

TEST_F(Life, ReadOnlyChangesNothing) {
  ASSERT_TRUE(Make("f", "x", false));
  ASSERT_EQ(Stop(SIGTERM), 0);
  Start({"--read-only"});
  EXPECT_EQ(ReadWholeFile(At("f")).value(), "x");
  EXPECT_EQ(open(At("g").c_str(), O_CREAT | O_WRONLY, 0600), -1);
  EXPECT_EQ(errno, EROFS);
}

}  // namespace
}  // namespace filer::posix_door
