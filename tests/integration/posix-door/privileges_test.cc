// What a change of content takes away: setuid, setgid and file capabilities. The kernel itself does
// it for a truncation, and leaves it to the door for direct writes.
#include <linux/capability.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstring>
#include <functional>

#include "tests/integration/posix-door/mounted_volume.h"

namespace filer::posix_door {
namespace {

constexpr uid_t kNobody = 65534;
constexpr const char* kCapabilities = "security.capability";

class Privileges : public MountedVolume {
 protected:
  mode_t ModeOf(const std::string& name) {
    struct stat status = {};
    EXPECT_EQ(stat(At(name).c_str(), &status), 0) << strerror(errno);
    return status.st_mode & 07777;
  }
  void Put(const std::string& name, mode_t mode) {
    const UniqueFd file(open(At(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
    ASSERT_EQ(write(file.get(), "text", 4), 4);
    ASSERT_EQ(fchmod(file.get(), mode), 0);
  }
  // A process of that user opens the file and does it. True if it worked.
  bool DoAs(uid_t user, const std::string& name, int flags, const std::function<bool(int)>& body) {
    const pid_t child = fork();
    if (child == 0) {
      if (user != 0 && (setgid(user) != 0 || setuid(user) != 0)) _exit(2);
      const int file = open(At(name).c_str(), flags);
      _exit(file >= 0 && body(file) ? 0 : 1);
    }
    int status = 0;
    return waitpid(child, &status, 0) == child && status == 0;
  }
  void GiveCapabilities(const std::string& name) {
    const vfs_cap_data data = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
                               .data = {{1U << CAP_NET_BIND_SERVICE, 0}, {0, 0}}};
    ASSERT_EQ(setxattr(At(name).c_str(), kCapabilities, &data, sizeof(data), 0), 0)
        << strerror(errno);
  }
  bool HasCapabilities(const std::string& name) {
    return getxattr(At(name).c_str(), kCapabilities, nullptr, 0) > 0;
  }
};

bool WriteByte(int file) { return write(file, "x", 1) == 1; }

TEST_F(Privileges, AnybodyButRootTakesThemByWriting) {
  struct Case {
    mode_t before, after;
  };
  // Setgid that nobody may execute with says something else, and stays.
  for (const Case& one : {Case{06777, 0777}, Case{04777, 0777}, Case{02777, 0777},
                          Case{06766, 02766}, Case{0777, 0777}}) {
    Put("f", one.before);
    EXPECT_TRUE(DoAs(kNobody, "f", O_WRONLY, WriteByte));
    EXPECT_EQ(ModeOf("f"), one.after);
  }
  Put("f", 06777);
  EXPECT_TRUE(DoAs(kNobody, "f", O_WRONLY | O_APPEND, WriteByte));
  EXPECT_EQ(ModeOf("f"), 0777U);
  Put("f", 06777);
  EXPECT_TRUE(DoAs(kNobody, "f", O_RDWR, [](int file) {
    const iovec pieces[] = {{const_cast<char*>("a"), 1}, {const_cast<char*>("b"), 1}};
    return pwritev(file, pieces, 2, 1) == 2;
  }));
  EXPECT_EQ(ModeOf("f"), 0777U);
}

TEST_F(Privileges, AnybodyButRootTakesThemByEveryOtherChangeOfContent) {
  Put("f", 06777);
  EXPECT_TRUE(DoAs(kNobody, "f", O_WRONLY, [](int file) { return ftruncate(file, 1) == 0; }));
  EXPECT_EQ(ModeOf("f"), 0777U);
  Put("f", 06777);
  EXPECT_TRUE(DoAs(kNobody, "f", O_WRONLY | O_TRUNC, [](int) { return true; }));
  EXPECT_EQ(ModeOf("f"), 0777U);
  Put("f", 06777);
  EXPECT_TRUE(
      DoAs(kNobody, "f", O_WRONLY, [](int file) { return posix_fallocate(file, 0, 100) == 0; }));
  EXPECT_EQ(ModeOf("f"), 0777U);
}

TEST_F(Privileges, RootKeepsThemAndReadingToo) {
  Put("f", 06777);
  EXPECT_TRUE(DoAs(0, "f", O_WRONLY, WriteByte));
  EXPECT_EQ(ModeOf("f"), 06777U);
  EXPECT_TRUE(DoAs(kNobody, "f", O_RDWR, [](int file) {
    char byte = 0;
    return read(file, &byte, 1) == 1;
  }));
  EXPECT_EQ(ModeOf("f"), 06777U);
}

TEST_F(Privileges, CapabilitiesGoWithAnyWrite) {
  for (const uid_t user : {uid_t{0}, kNobody}) {
    Put("f", 0777);
    GiveCapabilities("f");
    ASSERT_TRUE(HasCapabilities("f"));
    EXPECT_TRUE(DoAs(user, "f", O_WRONLY, WriteByte));
    EXPECT_FALSE(HasCapabilities("f")) << user;
  }
  Put("f", 0777);
  GiveCapabilities("f");
  ASSERT_EQ(chmod(At("f").c_str(), 0755), 0);
  EXPECT_TRUE(HasCapabilities("f"));
  ASSERT_EQ(truncate(At("f").c_str(), 1), 0);
  EXPECT_FALSE(HasCapabilities("f"));
}

TEST_F(Privileges, TheyStayGone) {
  Put("f", 06777);
  GiveCapabilities("f");
  EXPECT_TRUE(DoAs(kNobody, "f", O_WRONLY, WriteByte));
  EXPECT_EQ(Stop(SIGKILL), 128 + SIGKILL);
  Start();
  EXPECT_EQ(ModeOf("f"), 0777U);
  EXPECT_FALSE(HasCapabilities("f"));
}

}  // namespace
}  // namespace filer::posix_door
