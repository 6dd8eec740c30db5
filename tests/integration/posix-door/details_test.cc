// What suites of POSIX conformance look at, and what they leave out on Linux: access times, space,
// extended attributes in their corners, read-only mounts, running programs, groups.
#include <grp.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "base/clock.h"
#include "fsal/engine/filesets.h"
#include "tests/integration/posix-door/mounted_volume.h"

namespace filer::posix_door {
namespace {

constexpr uid_t kUser = 1000;

class Details : public MountedVolume {
 protected:
  void Put(const std::string& name, const std::string& text, mode_t mode = 0644) {
    const UniqueFd file(open(At(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
    ASSERT_TRUE(file.is_open()) << name << ": " << strerror(errno);
    ASSERT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ASSERT_EQ(fchmod(file.get(), mode), 0);
  }
  struct stat Status(const std::string& name) {
    struct stat status = {};
    EXPECT_EQ(lstat(At(name).c_str(), &status), 0) << name << ": " << strerror(errno);
    return status;
  }
  // The access time lies before all others, so that the next access moves it (relatime).
  void AgeAccessTime(const std::string& name) {
    const std::array<timespec, 2> times = {timespec{1, 2}, timespec{3, UTIME_OMIT}};
    ASSERT_EQ(utimensat(AT_FDCWD, At(name).c_str(), times.data(), AT_SYMLINK_NOFOLLOW), 0);
  }
  // A user with these supplementary groups does it: 0 or the errno.
  static int DoAs(uid_t user, const std::vector<gid_t>& groups, const std::function<int()>& body) {
    const pid_t child = fork();
    if (child == 0) {
      const bool is_user =
          setgroups(groups.size(), groups.data()) == 0 && setgid(user) == 0 && setuid(user) == 0;
      _exit(!is_user ? 255 : body() >= 0 ? 0 : errno);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  }
  static int ErrnoOf(std::int64_t result) { return result < 0 ? errno : 0; }
};

TEST_F(Details, AccessTimesFollowReadsUnlessTheProgramDeclines) {
  Put("f", "text");
  const auto read_with = [this](int flags) {
    AgeAccessTime("f");
    const UniqueFd file(open(At("f").c_str(), O_RDONLY | flags));
    char byte = 0;
    EXPECT_EQ(read(file.get(), &byte, 1), 1);
    return Status("f").st_atim;
  };
  const timespec kept = read_with(O_NOATIME);
  EXPECT_EQ(kept.tv_sec, 1);
  EXPECT_EQ(kept.tv_nsec, 2);
  EXPECT_GT(read_with(0).tv_sec, 1000);
  ASSERT_EQ(symlink("f", At("s").c_str()), 0);
  AgeAccessTime("s");
  EXPECT_EQ(Status("s").st_atim.tv_sec, 1);
  std::array<char, 8> target{};
  ASSERT_EQ(readlink(At("s").c_str(), target.data(), target.size()), 1);
  EXPECT_GT(Status("s").st_atim.tv_sec, 1000);
  EXPECT_EQ(Stop(SIGTERM), 0);
  Start();
  EXPECT_GT(Status("s").st_atim.tv_sec, 1000);
}

// The kernel knows files by their numbers alone, which are the same in a snapshot: a program that
// emptied one would empty the live folder.
TEST_F(Details, ASnapshotIsNotReachedByAName) {
  ASSERT_EQ(mkdir(At("d").c_str(), 0755), 0);
  Put("d/f", "text");
  ASSERT_EQ(Stop(SIGTERM), 0);
  {
    auto device = engine::OpenFileDevice({.path = ImagePath(), .pool_bytes = 64ULL << 20});
    ASSERT_TRUE(device.has_value()) << device.error().message();
    const auto mounted = engine::Engine::Mount(*device.value(), SystemClock(), {});
    ASSERT_TRUE(mounted.has_value()) << mounted.error().message();
    ASSERT_TRUE(mounted.value()->AllFilesets().MakeSnapshot(engine::kRootFileset, "s").has_value());
    ASSERT_TRUE(mounted.value()->Unmount().has_value());
  }
  Start();
  struct stat status {};
  for (const char* path : {".snapshot", ".snapshot/s", "d/.snapshot", "d/.snapshot/s/f"}) {
    EXPECT_EQ(stat(At(path).c_str(), &status), -1) << path;
    EXPECT_EQ(errno, ENOENT) << path;
  }
  EXPECT_EQ(mkdir(At(".snapshot").c_str(), 0755), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(stat(At("d/f").c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 4);
}

TEST_F(Details, FallocateMarksTheFileAndZeroesRanges) {
  const std::string text(20000, 'x');
  Put("f", text);
  const UniqueFd file(open(At("f").c_str(), O_RDWR));
  const std::array<timespec, 2> old = {timespec{1, 0}, timespec{1, 0}};
  for (const int mode : {0, FALLOC_FL_KEEP_SIZE}) {
    ASSERT_EQ(futimens(file.get(), old.data()), 0);
    ASSERT_EQ(fallocate(file.get(), mode, 0, 10), 0);
    EXPECT_GT(Status("f").st_mtim.tv_sec, 1000) << mode;
  }
  ASSERT_EQ(fallocate(file.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 100, 100000), 0);
  EXPECT_EQ(Status("f").st_size, 20000);
  ASSERT_EQ(fallocate(file.get(), FALLOC_FL_ZERO_RANGE, 15000, 15000), 0);
  EXPECT_EQ(Status("f").st_size, 30000);
  EXPECT_GE(Status("f").st_blocks, 30000 / 512);
  std::string read(40000, '?');
  ASSERT_EQ(pread(file.get(), read.data(), read.size(), 0), 30000);
  read.resize(30000);
  EXPECT_TRUE(read == std::string(100, 'x') + std::string(29900, '\0'));
  EXPECT_EQ(ErrnoOf(fallocate(file.get(), FALLOC_FL_ZERO_RANGE, 0, off_t{1} << 50)), EFBIG);
  EXPECT_EQ(pread(file.get(), read.data(), 1, 0), 1);
  EXPECT_EQ(read[0], 'x');
  EXPECT_EQ(ErrnoOf(fallocate(file.get(), FALLOC_FL_COLLAPSE_RANGE, 0, 4096)), EOPNOTSUPP);
}

TEST_F(Details, ExtendedAttributesInTheirCorners) {
  Put("f", "x", 0666);
  const std::string f = At("f");
  const auto set = [](const std::string& path, const std::string& name, const std::string& value,
                      int flags = 0) {
    return ErrnoOf(lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), flags));
  };
  const int both = XATTR_CREATE | XATTR_REPLACE;
  EXPECT_EQ(set(f, "user.a", "1", both), ENODATA);
  EXPECT_EQ(set(f, "user.a", "1"), 0);
  EXPECT_EQ(set(f, "user.a", "2", both), EEXIST);
  EXPECT_EQ(set(f, "user.", "1"), EINVAL);
  EXPECT_EQ(set(f, "user.a", std::string(65536, 'v')), 0);
  EXPECT_EQ(set(f, "user.a", std::string(65537, 'v')), E2BIG);
  EXPECT_EQ(getxattr(f.c_str(), "user.a", nullptr, 0), 65536);
  EXPECT_EQ(set(f, "user." + std::string(250, 'n'), ""), 0);
  EXPECT_EQ(set(f, "user." + std::string(251, 'n'), ""), ERANGE);
  EXPECT_EQ(listxattr(f.c_str(), nullptr, 0), 7 + 256);
  std::array<char, 512> names{};
  EXPECT_EQ(ErrnoOf(listxattr(f.c_str(), names.data(), 262)), ERANGE);
  EXPECT_EQ(listxattr(f.c_str(), names.data(), 263), 263);
  // user.* belongs to files and directories; the rest to root alone.
  ASSERT_EQ(mkdir(At("d").c_str(), 0777), 0);
  ASSERT_EQ(symlink("f", At("s").c_str()), 0);
  EXPECT_EQ(set(At("d"), "user.a", "1"), 0);
  EXPECT_EQ(set(At("s"), "user.a", "1"), EPERM);
  EXPECT_EQ(set(At("s"), "trusted.a", "1"), 0);
  EXPECT_EQ(set(f, "trusted.a", "1"), 0);
  EXPECT_EQ(set(f, "security.a", "1"), 0);
  EXPECT_EQ(DoAs(kUser, {}, [&] { return setxattr(f.c_str(), "user.b", "1", 1, 0); }), 0);
  EXPECT_EQ(DoAs(kUser, {}, [&] { return setxattr(f.c_str(), "trusted.b", "1", 1, 0); }), EPERM);
  EXPECT_EQ(DoAs(kUser, {}, [&] { return setxattr(f.c_str(), "security.b", "1", 1, 0); }), EPERM);
  const auto get = [&] { return getxattr(f.c_str(), "trusted.a", nullptr, 0) > 0 ? 0 : -1; };
  EXPECT_EQ(get(), 0);
  EXPECT_EQ(DoAs(kUser, {}, get), ENODATA);
  const ssize_t of_root = listxattr(f.c_str(), nullptr, 0);
  EXPECT_EQ(DoAs(kUser, {},
                 [&] {
                   const auto hidden = static_cast<ssize_t>(sizeof("trusted.a"));
                   return listxattr(f.c_str(), nullptr, 0) == of_root - hidden ? 0 : -1;
                 }),
            0);
}

TEST_F(Details, AReadOnlyMountRefusesEveryChangeAndStillSyncs) {
  Put("f", "x");
  ASSERT_EQ(mkdir(At("d").c_str(), 0755), 0);
  ASSERT_EQ(Stop(SIGTERM), 0);
  Start({"--read-only"});
  const std::string f = At("f"), d = At("d"), n = At("n");
  for (const int flags : {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC}) {
    EXPECT_EQ(ErrnoOf(open(f.c_str(), flags)), EROFS);
  }
  EXPECT_EQ(ErrnoOf(mkdir(n.c_str(), 0700)), EROFS);
  EXPECT_EQ(ErrnoOf(mkdir(d.c_str(), 0700)), EEXIST);
  EXPECT_EQ(ErrnoOf(mknod(n.c_str(), S_IFIFO | 0600, 0)), EROFS);
  EXPECT_EQ(ErrnoOf(symlink("f", n.c_str())), EROFS);
  EXPECT_EQ(ErrnoOf(link(f.c_str(), n.c_str())), EROFS);
  EXPECT_EQ(ErrnoOf(rename(f.c_str(), n.c_str())), EROFS);
  EXPECT_EQ(ErrnoOf(unlink(f.c_str())), EROFS);
  EXPECT_EQ(ErrnoOf(rmdir(d.c_str())), EROFS);
  EXPECT_EQ(ErrnoOf(chmod(f.c_str(), 0600)), EROFS);
  EXPECT_EQ(ErrnoOf(chown(f.c_str(), 1, 1)), EROFS);
  EXPECT_EQ(ErrnoOf(truncate(f.c_str(), 0)), EROFS);
  EXPECT_EQ(ErrnoOf(utimensat(AT_FDCWD, f.c_str(), nullptr, 0)), EROFS);
  EXPECT_EQ(ErrnoOf(setxattr(f.c_str(), "user.a", "1", 1, 0)), EROFS);
  EXPECT_EQ(ErrnoOf(access(f.c_str(), W_OK)), EROFS);
  const UniqueFd file(open(f.c_str(), O_RDONLY));
  EXPECT_EQ(fsync(file.get()), 0) << strerror(errno);
}

TEST_F(Details, ARunningProgramIsNotWrittenTo) {
  ASSERT_EQ(std::system(("cp /bin/sleep " + At("program")).c_str()), 0);
  const std::string program = At("program");
  std::array<int, 2> started{};
  ASSERT_EQ(pipe2(started.data(), O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    execl(program.c_str(), "program", "60", nullptr);
    _exit(127);
  }
  close(started[1]);  // the child's end goes with its execution
  char byte = 0;
  EXPECT_EQ(read(started[0], &byte, 1), 0);
  close(started[0]);
  EXPECT_EQ(ErrnoOf(open(program.c_str(), O_WRONLY)), ETXTBSY);
  EXPECT_EQ(ErrnoOf(open(program.c_str(), O_RDONLY | O_TRUNC)), ETXTBSY);
  EXPECT_EQ(ErrnoOf(truncate(program.c_str(), 0)), ETXTBSY);
  EXPECT_EQ(rename(program.c_str(), At("other").c_str()), 0);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST_F(Details, LongPathsAndLoops) {
  const auto find = [](const std::string& path) {
    struct stat status = {};
    return ErrnoOf(stat(path.c_str(), &status));
  };
  Put("f", "x");
  const std::string start = Mount() + "/";
  std::string path = start;
  while (path.size() + 1 < 4095) path += "./";
  path.resize(4094);
  if (path.back() == '.') path.back() = '/';
  EXPECT_EQ(find(path + "f"), 0);
  EXPECT_EQ(find(path + "/f"), ENAMETOOLONG);
  EXPECT_EQ(find(start + std::string(255, 'n')), ENOENT);
  EXPECT_EQ(find(start + std::string(256, 'n')), ENAMETOOLONG);
  const std::string target(4095, 't');
  ASSERT_EQ(symlink(target.c_str(), At("long").c_str()), 0);
  EXPECT_EQ(Status("long").st_size, 4095);
  std::string read(5000, '\0');
  EXPECT_EQ(readlink(At("long").c_str(), read.data(), read.size()), 4095);
  EXPECT_EQ(ErrnoOf(symlink((target + "t").c_str(), At("longer").c_str())), ENAMETOOLONG);
  ASSERT_EQ(symlink("loop", At("loop").c_str()), 0);
  EXPECT_EQ(find(At("loop")), ELOOP);
  ASSERT_EQ(symlink("f", At("s").c_str()), 0);
  EXPECT_EQ(ErrnoOf(open(At("s").c_str(), O_RDONLY | O_NOFOLLOW)), ELOOP);
  EXPECT_EQ(ErrnoOf(open(At("loop").c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600)), EEXIST);
}

TEST_F(Details, GroupsOfTheCallerCount) {
  constexpr gid_t kTeam = 2000;
  Put("f", "x", 0640);
  ASSERT_EQ(chown(At("f").c_str(), 0, kTeam), 0);
  const auto open_it = [this] { return open(At("f").c_str(), O_RDONLY); };
  EXPECT_EQ(DoAs(kUser, {3000, kTeam}, open_it), 0);
  EXPECT_EQ(DoAs(kUser, {3000}, open_it), EACCES);
  Put("own", "x");
  ASSERT_EQ(chown(At("own").c_str(), kUser, kUser), 0);
  const auto give = [this] { return chown(At("own").c_str(), -1, kTeam); };
  EXPECT_EQ(DoAs(kUser, {}, give), EPERM);
  EXPECT_EQ(DoAs(kUser, {kTeam}, give), 0);
  EXPECT_EQ(Status("own").st_gid, kTeam);
  const auto set_group_id = [this] { return chmod(At("own").c_str(), 02755); };
  EXPECT_EQ(DoAs(kUser, {kTeam}, set_group_id), 0);
  EXPECT_EQ(Status("own").st_mode & 07777, 02755U);
  EXPECT_EQ(DoAs(kUser, {}, set_group_id), 0);
  EXPECT_EQ(Status("own").st_mode & 07777, 0755U);  // not a member: without
}

}  // namespace
}  // namespace filer::posix_door
