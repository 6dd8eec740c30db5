// The POSIX exercise: what programs rely on, through the kernel, on a real mount.
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>

#include "fsal/posix-door/answered_nodes.h"
#include "tests/integration/posix-door/mounted_volume.h"

namespace filer::posix_door {
namespace {

class Posix : public MountedVolume {
 protected:
  void Put(const std::string& name, const std::string& text, mode_t mode = 0644) {
    const UniqueFd file(open(At(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, mode));
    ASSERT_TRUE(file.is_open()) << name << ": " << strerror(errno);
    ASSERT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  std::string Get(const std::string& name) { return ReadWholeFile(At(name)).value(); }
  struct stat Status(const std::string& name) {
    struct stat status = {};
    EXPECT_EQ(lstat(At(name).c_str(), &status), 0) << name << ": " << strerror(errno);
    return status;
  }
};

TEST_F(Posix, NamesLinksAndKinds) {
  Put("a", "alpha");
  EXPECT_EQ(open(At("a").c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600), -1);
  EXPECT_EQ(errno, EEXIST);
  ASSERT_EQ(link(At("a").c_str(), At("b").c_str()), 0);
  EXPECT_EQ(Status("a").st_nlink, 2U);
  EXPECT_EQ(Status("a").st_ino, Status("b").st_ino);
  ASSERT_EQ(symlink("a/../b", At("s").c_str()), 0);
  std::array<char, 64> target{};
  EXPECT_EQ(readlink(At("s").c_str(), target.data(), target.size()), 6);
  EXPECT_STREQ(target.data(), "a/../b");
  ASSERT_EQ(mknod(At("p").c_str(), S_IFIFO | 0600, 0), 0);
  ASSERT_EQ(mknod(At("c").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
  EXPECT_EQ(Status("c").st_rdev, makedev(1, 3));
  EXPECT_TRUE(S_ISFIFO(Status("p").st_mode));
  ASSERT_EQ(mkdir(At("d").c_str(), 0750), 0);
  EXPECT_EQ(Status("d").st_nlink, 2U);
  Put("d/x", "x");
  EXPECT_EQ(rmdir(At("d").c_str()), -1);
  EXPECT_EQ(errno, ENOTEMPTY);
  EXPECT_EQ(unlink(At("d").c_str()), -1);
  EXPECT_EQ(errno, EISDIR);
  EXPECT_EQ(open(At("a/x").c_str(), O_RDONLY), -1);
  EXPECT_EQ(errno, ENOTDIR);
  EXPECT_EQ(open(At(std::string(256, 'n')).c_str(), O_CREAT | O_WRONLY, 0600), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
  Put(std::string(255, 'n'), "long");
  ASSERT_EQ(unlink(At("a").c_str()), 0);
  EXPECT_EQ(Get("b"), "alpha");
  EXPECT_EQ(Status("b").st_nlink, 1U);
}

TEST_F(Posix, RenameInAllItsForms) {
  Put("a", "alpha");
  Put("b", "beta");
  EXPECT_EQ(renameat2(AT_FDCWD, At("a").c_str(), AT_FDCWD, At("b").c_str(), RENAME_NOREPLACE), -1);
  EXPECT_EQ(errno, EEXIST);
  ASSERT_EQ(renameat2(AT_FDCWD, At("a").c_str(), AT_FDCWD, At("b").c_str(), RENAME_EXCHANGE), 0);
  EXPECT_EQ(Get("a"), "beta");
  EXPECT_EQ(Get("b"), "alpha");
  ASSERT_EQ(rename(At("a").c_str(), At("b").c_str()), 0);
  EXPECT_EQ(Get("b"), "beta");
  EXPECT_EQ(access(At("a").c_str(), F_OK), -1);
  ASSERT_EQ(mkdir(At("d").c_str(), 0755), 0);
  ASSERT_EQ(mkdir(At("d/e").c_str(), 0755), 0);
  EXPECT_EQ(rename(At("d").c_str(), At("d/e/f").c_str()), -1);
  EXPECT_EQ(errno, EINVAL);
  ASSERT_EQ(rename(At("d/e").c_str(), At("e").c_str()), 0);
  EXPECT_EQ(Status("d").st_nlink, 2U);
}

TEST_F(Posix, AnUnlinkedOpenFileLivesOn) {
  const UniqueFd file(open(At("gone").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(write(file.get(), "still", 5), 5);
  ASSERT_EQ(unlink(At("gone").c_str()), 0);
  struct stat status = {};
  ASSERT_EQ(fstat(file.get(), &status), 0);
  EXPECT_EQ(status.st_nlink, 0U);
  ASSERT_EQ(pwrite(file.get(), " here", 5, 5), 5);
  ASSERT_EQ(ftruncate(file.get(), 9), 0);
  std::array<char, 16> data{};
  EXPECT_EQ(pread(file.get(), data.data(), data.size(), 0), 9);
  EXPECT_STREQ(data.data(), "still her");
}

TEST_F(Posix, SparseFilesHolesAndTruncation) {
  const UniqueFd file(open(At("sparse").c_str(), O_RDWR | O_CREAT, 0600));
  constexpr off_t kFar = 1LL << 30;
  ASSERT_EQ(pwrite(file.get(), "end", 3, kFar), 3);
  ASSERT_EQ(pwrite(file.get(), "start", 5, 0), 5);
  ASSERT_EQ(fsync(file.get()), 0);
  EXPECT_LT(Status("sparse").st_blocks, 2048);
  std::array<char, 4096> data{};
  ASSERT_EQ(pread(file.get(), data.data(), data.size(), kFar / 2), 4096);
  EXPECT_EQ(std::string(data.data(), data.size()), std::string(4096, '\0'));
  EXPECT_EQ(lseek(file.get(), 4096, SEEK_DATA), kFar);
  const off_t hole = lseek(file.get(), 0, SEEK_HOLE);
  EXPECT_GE(hole, 5);
  EXPECT_LE(hole, 1 << 20);
  EXPECT_EQ(lseek(file.get(), kFar + 3, SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);

  const std::string block(65536, 'x');
  ASSERT_EQ(pwrite(file.get(), block.data(), block.size(), 1 << 20), 65536);
  ASSERT_EQ(
      fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (1 << 20) + 100, 8192), 0);
  ASSERT_EQ(pread(file.get(), data.data(), 300, (1 << 20) + 50), 300);
  EXPECT_EQ(std::string(data.data(), 300), std::string(50, 'x') + std::string(250, '\0'));

  // What was cut off does not come back.
  ASSERT_EQ(ftruncate(file.get(), (1 << 20) + 20), 0);
  ASSERT_EQ(ftruncate(file.get(), (1 << 20) + 60), 0);
  ASSERT_EQ(pread(file.get(), data.data(), 100, 1 << 20), 60);
  EXPECT_EQ(std::string(data.data(), 60), std::string(20, 'x') + std::string(40, '\0'));

  ASSERT_EQ(fallocate(file.get(), 0, 2 << 20, 1 << 20), 0);
  EXPECT_EQ(Status("sparse").st_size, 3 << 20);
}

TEST_F(Posix, AppendsOfManyProcessesAllArrive) {
  constexpr int kWriters = 4;
  constexpr int kLines = 200;
  for (int writer = 0; writer < kWriters; ++writer) {
    if (fork() != 0) continue;
    const int file = open(At("journal").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    for (int line = 0; line < kLines; ++line) {
      const std::string text = std::to_string(writer * 1000 + line + 100000) + "\n";
      if (write(file, text.data(), text.size()) != 7) _exit(1);
    }
    _exit(0);
  }
  for (int writer = 0; writer < kWriters; ++writer) {
    int status = 0;
    ASSERT_GT(wait(&status), 0);
    EXPECT_EQ(status, 0);
  }
  const std::string text = Get("journal");
  ASSERT_EQ(text.size(), static_cast<std::size_t>(kWriters * kLines * 7));
  std::set<std::string> lines;
  for (std::size_t at = 0; at < text.size(); at += 7) lines.insert(text.substr(at, 7));
  EXPECT_EQ(lines.size(), static_cast<std::size_t>(kWriters * kLines));
}

TEST_F(Posix, AttributesAndTimes) {
  Put("f", "x");
  ASSERT_EQ(chmod(At("f").c_str(), 04751), 0);
  EXPECT_EQ(Status("f").st_mode & 07777, 04751U);
  ASSERT_EQ(chown(At("f").c_str(), 1234, 5678), 0);
  EXPECT_EQ(Status("f").st_uid, 1234U);
  EXPECT_EQ(Status("f").st_gid, 5678U);
  const std::array<timespec, 2> times = {timespec{1, 123456789}, timespec{-5, 999999999}};
  ASSERT_EQ(utimensat(AT_FDCWD, At("f").c_str(), times.data(), 0), 0);
  EXPECT_EQ(Status("f").st_atim.tv_nsec, 123456789);
  EXPECT_EQ(Status("f").st_mtim.tv_sec, -5);
  EXPECT_EQ(Status("f").st_mtim.tv_nsec, 999999999);
  struct statvfs volume = {};
  ASSERT_EQ(statvfs(Mount().c_str(), &volume), 0);
  EXPECT_GT(volume.f_blocks, 0U);
  EXPECT_LE(volume.f_bavail, volume.f_blocks);
  EXPECT_EQ(volume.f_namemax, 255U);
}

TEST_F(Posix, PermissionsHoldForOtherUsers) {
  Put("private", "x", 0600);
  ASSERT_EQ(mkdir(At("sticky").c_str(), 0), 0);
  ASSERT_EQ(chmod(At("sticky").c_str(), 01777), 0);
  Put("sticky/roots", "x", 0666);
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(9);
    if (open(At("private").c_str(), O_RDONLY) != -1 || errno != EACCES) _exit(1);
    if (unlink(At("private").c_str()) != -1 || errno != EACCES) _exit(2);
    if (chmod(At("private").c_str(), 0777) != -1 || errno != EPERM) _exit(3);
    if (unlink(At("sticky/roots").c_str()) != -1 || errno != EPERM) _exit(4);
    const int own = open(At("sticky/own").c_str(), O_CREAT | O_WRONLY, 0644);
    struct stat status = {};
    if (own < 0 || fstat(own, &status) != 0 || status.st_uid != 65534) _exit(5);
    if (unlink(At("sticky/own").c_str()) != 0) _exit(6);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(Posix, ExtendedAttributes) {
  Put("f", "x");
  const std::string path = At("f");
  const std::string big(60000, 'v');
  ASSERT_EQ(setxattr(path.c_str(), "user.one", "1", 1, XATTR_CREATE), 0);
  EXPECT_EQ(setxattr(path.c_str(), "user.one", "2", 1, XATTR_CREATE), -1);
  EXPECT_EQ(errno, EEXIST);
  EXPECT_EQ(setxattr(path.c_str(), "user.two", "2", 1, XATTR_REPLACE), -1);
  EXPECT_EQ(errno, ENODATA);
  ASSERT_EQ(setxattr(path.c_str(), "user.big", big.data(), big.size(), 0), 0) << strerror(errno);
  ASSERT_EQ(setxattr(path.c_str(), "security.NTACL", "acl", 3, 0), 0);
  std::string value(65536, '\0');
  EXPECT_EQ(getxattr(path.c_str(), "user.big", nullptr, 0), 60000);
  EXPECT_EQ(getxattr(path.c_str(), "user.big", value.data(), 10), -1);
  EXPECT_EQ(errno, ERANGE);
  ASSERT_EQ(getxattr(path.c_str(), "user.big", value.data(), value.size()), 60000);
  EXPECT_EQ(value.substr(0, 60000), big);
  const ssize_t listed = listxattr(path.c_str(), value.data(), value.size());
  ASSERT_GT(listed, 0);
  std::set<std::string> names;
  for (ssize_t at = 0; at < listed;) {
    names.insert(value.c_str() + at);
    at += static_cast<ssize_t>(strlen(value.c_str() + at)) + 1;
  }
  EXPECT_EQ(names, (std::set<std::string>{"security.NTACL", "user.big", "user.one"}));
  ASSERT_EQ(removexattr(path.c_str(), "user.big"), 0);
  EXPECT_EQ(getxattr(path.c_str(), "user.big", nullptr, 0), -1);
  EXPECT_EQ(errno, ENODATA);
  EXPECT_EQ(setxattr(path.c_str(), "system.unknown", "v", 1, 0), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_F(Posix, RenameIsAtomicForReaders) {
  Put("target", "old");
  std::atomic<bool> must_end{false};
  std::atomic<int> missing{0};
  std::atomic<int> failure{0};
  std::atomic<int> opened{0};
  std::thread reader([&] {
    while (!must_end) {
      const UniqueFd file(open(At("target").c_str(), O_RDONLY));
      if (file.is_open()) {
        ++opened;
      } else {
        ++missing;
        failure = errno;
      }
    }
  });
  for (int i = 0; i < 300; ++i) {
    Put("new" + std::to_string(i % 2), std::to_string(i));
    ASSERT_EQ(rename(At("new" + std::to_string(i % 2)).c_str(), At("target").c_str()), 0);
  }
  must_end = true;
  reader.join();
  EXPECT_EQ(missing, 0) << std::strerror(failure);
  EXPECT_GT(opened, 0);
  EXPECT_EQ(Get("target"), "299");
}

// What open(2) does between its lookup and its open, held still.
TEST_F(Posix, AFileThatWasLookedUpOutlivesItsName) {
  Put("target", "old");
  const UniqueFd looked_up(open(At("target").c_str(), O_PATH));
  ASSERT_TRUE(looked_up.is_open());
  Put("new", "new");
  ASSERT_EQ(rename(At("new").c_str(), At("target").c_str()), 0);
  const std::string path = "/proc/self/fd/" + std::to_string(looked_up.get());
  const auto read = ReadWholeFile(path);
  ASSERT_TRUE(read.has_value()) << read.error().message();
  EXPECT_EQ(read.value(), "old");
  EXPECT_EQ(Get("target"), "new");
}

TEST_F(Posix, ALookupDoesNotKeepTheSpaceOfWhatIsRemoved) {
  const auto free_blocks = [this] {
    struct statvfs status = {};
    EXPECT_EQ(statvfs(Mount().c_str(), &status), 0);
    return status.f_bfree;
  };
  const fsblkcnt_t before = free_blocks();
  Put("big", std::string(8 << 20, 'x'));
  Status("big");
  const fsblkcnt_t full = free_blocks();
  ASSERT_LT(full + 1024, before);
  ASSERT_EQ(unlink(At("big").c_str()), 0);
  const auto end = std::chrono::steady_clock::now() + AnsweredNodes::kHoldTime / 2;
  while (free_blocks() < full + 1024 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GE(free_blocks(), full + 1024);
}

TEST_F(Posix, MappedPrivatelyForPrograms) {
  ASSERT_EQ(std::system(("cp /bin/true " + At("program")).c_str()), 0);
  EXPECT_EQ(std::system(At("program").c_str()), 0);
}

}  // namespace
}  // namespace filer::posix_door
