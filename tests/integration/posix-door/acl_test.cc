// Access control lists through a mount: as setfacl and getfacl see them, and who obeys them.
#include <grp.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstring>
#include <functional>

#include "base/clock.h"
#include "tests/integration/posix-door/mounted_volume.h"

namespace filer::posix_door {
namespace {

constexpr uid_t kFriend = 65534, kStranger = 65533;

class Acls : public MountedVolume {
 protected:
  // What a process of that user, in no other group, gets: 0, or the errno of the first failure.
  static int As(uid_t user, const std::function<bool()>& body) {
    const pid_t child = fork();
    if (child == 0) {
      if (setgroups(0, nullptr) != 0 || setgid(user) != 0 || setuid(user) != 0) _exit(255);
      errno = 0;
      _exit(body() ? 0 : errno);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
  }
  int Opens(uid_t user, const std::string& name, int flags) {
    return As(user, [&] { return open(At(name).c_str(), flags, 0600) >= 0; });
  }
  // Its output, with the lines joined; the command must succeed.
  static std::string Run(const std::string& command) {
    FILE* pipe = popen(command.c_str(), "r");
    std::string text;
    for (int byte = fgetc(pipe); byte != EOF; byte = fgetc(pipe)) {
      text.push_back(byte == '\n' ? ' ' : static_cast<char>(byte));
    }
    EXPECT_EQ(pclose(pipe), 0) << command;
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text;
  }
  std::string List(const std::string& name) {
    return Run("getfacl --numeric --omit-header --absolute-names --no-effective " + At(name));
  }
  void Put(const std::string& name, mode_t mode) {
    const UniqueFd file(open(At(name).c_str(), O_WRONLY | O_CREAT, 0600));
    ASSERT_EQ(write(file.get(), "text", 4), 4);
    ASSERT_EQ(fchmod(file.get(), mode), 0);
  }
  mode_t ModeOf(const std::string& name) {
    struct stat status = {};
    EXPECT_EQ(lstat(At(name).c_str(), &status), 0) << strerror(errno);
    return status.st_mode & 07777;
  }
  // As another door would: through the engine, while nothing is mounted.
  void SetNfs4List(const std::string& name, const std::vector<engine::Nfs4Ace>& aces) {
    ASSERT_EQ(Stop(SIGTERM), 0);
    {
      auto device = engine::OpenFileDevice({.path = ImagePath(), .pool_bytes = 64ULL << 20});
      ASSERT_TRUE(device.has_value());
      const auto engine =
          std::move(engine::Engine::Mount(*device.value(), SystemClock(), {})).value();
      engine::AttributeChange change;
      change.acl = engine::Acl{engine::AclKind::kNfs4, aces, {}, {}};
      const auto node = engine->Lookup(engine->Root(), name).value();
      ASSERT_TRUE(engine->SetAttributes({}, node.id, change).has_value());
      ASSERT_TRUE(engine->Unmount().has_value());
    }
    Start();
  }
};

TEST_F(Acls, SetfaclGivesAndTheKernelObeys) {
  Put("f", 0600);
  EXPECT_EQ(Opens(kFriend, "f", O_RDWR), EACCES);
  Run("setfacl -m u:65534:rw " + At("f"));
  EXPECT_EQ(List("f"), "user::rw- user:65534:rw- group::--- mask::rw- other::---");
  EXPECT_EQ(ModeOf("f"), 0660U);
  EXPECT_EQ(Opens(kFriend, "f", O_RDWR), 0);
  EXPECT_EQ(Opens(kStranger, "f", O_RDONLY), EACCES);
  // chmod of the group's bits is the mask.
  ASSERT_EQ(chmod(At("f").c_str(), 0640), 0);
  EXPECT_EQ(List("f"), "user::rw- user:65534:rw- group::--- mask::r-- other::---");
  EXPECT_EQ(Opens(kFriend, "f", O_RDWR), EACCES);
  EXPECT_EQ(Opens(kFriend, "f", O_RDONLY), 0);
  // Who may not chmod may not set a list.
  EXPECT_EQ(As(kFriend,
               [&] {
                 return setxattr(At("f").c_str(), "system.posix_acl_access", "\2\0\0\0", 4, 0) == 0;
               }),
            EPERM);
  Run("setfacl -b " + At("f"));
  EXPECT_EQ(List("f"), "user::rw- group::--- other::---");
  EXPECT_EQ(getxattr(At("f").c_str(), "system.posix_acl_access", nullptr, 0), -1);
  EXPECT_EQ(errno, ENODATA);
  EXPECT_EQ(Opens(kFriend, "f", O_RDONLY), EACCES);
}

TEST_F(Acls, AListSurvivesTheMount) {
  Put("f", 0600);
  Run("setfacl -m u:65534:r,g:65533:w " + At("f"));
  const std::string list = List("f");
  ASSERT_EQ(Stop(SIGKILL), 128 + SIGKILL);
  umount2(Mount().c_str(), MNT_DETACH);
  Start();
  EXPECT_EQ(List("f"), list);
  EXPECT_EQ(Opens(kFriend, "f", O_RDONLY), 0);
  EXPECT_EQ(Opens(kStranger, "f", O_WRONLY), 0);
  EXPECT_EQ(Opens(kStranger, "f", O_RDONLY), EACCES);
}

TEST_F(Acls, DefaultsTakeThePlaceOfTheUmask) {
  ASSERT_EQ(mkdir(At("d").c_str(), 0755), 0);
  const mode_t before = umask(027);
  Put("d/plain", 0600);
  ASSERT_EQ(unlink(At("d/plain").c_str()), 0);
  UniqueFd(open(At("d/masked").c_str(), O_CREAT | O_WRONLY, 0666)).Reset();
  ASSERT_EQ(mkdir(At("d/masked-dir").c_str(), 0777), 0);
  ASSERT_EQ(mknod(At("d/masked-fifo").c_str(), S_IFIFO | 0666, 0), 0);
  Run("setfacl -d -m u:65534:rwx " + At("d"));
  UniqueFd(open(At("d/f").c_str(), O_CREAT | O_WRONLY, 0666)).Reset();
  ASSERT_EQ(mkdir(At("d/sub").c_str(), 0777), 0);
  ASSERT_EQ(symlink("f", At("d/link").c_str()), 0);
  umask(before);
  EXPECT_EQ(ModeOf("d/masked"), 0640U);
  EXPECT_EQ(ModeOf("d/masked-dir"), 0750U);
  EXPECT_EQ(ModeOf("d/masked-fifo"), 0640U);
  EXPECT_EQ(List("d/f"), "user::rw- user:65534:rwx group::r-x mask::rw- other::r--");
  EXPECT_EQ(Opens(kFriend, "d/f", O_RDWR), 0);
  EXPECT_EQ(Opens(kStranger, "d/f", O_WRONLY), EACCES);
  EXPECT_EQ(List("d/sub"),
            "user::rwx user:65534:rwx group::r-x mask::rwx other::r-x default:user::rwx "
            "default:user:65534:rwx default:group::r-x default:mask::rwx default:other::r-x");
  EXPECT_EQ(Opens(kFriend, "d/sub/own", O_CREAT | O_WRONLY), 0);
  EXPECT_EQ(Opens(kStranger, "d/sub/own2", O_CREAT | O_WRONLY), EACCES);
  // Of a directory to a file: Linux says EACCES.
  std::string list(200, 0);
  const ssize_t size =
      getxattr(At("d").c_str(), "system.posix_acl_default", list.data(), list.size());
  ASSERT_GT(size, 0);
  EXPECT_EQ(setxattr(At("d/f").c_str(), "system.posix_acl_default", list.data(),
                     static_cast<std::size_t>(size), 0),
            -1);
  EXPECT_EQ(errno, EACCES);
}

TEST_F(Acls, WhatAnNfs4ListForbidsIsForbiddenHereToo) {
  Put("f", 0666);
  ASSERT_EQ(mkdir(At("d").c_str(), 0777), 0);
  Put("d/f", 0666);
  using engine::AceType, engine::AceWho;
  constexpr std::uint32_t kWrite = engine::kAceWriteData | engine::kAceAppendData;
  constexpr std::uint32_t kAll = engine::kAceReadData | kWrite | engine::kAceExecute;
  SetNfs4List("f", {{AceType::kDeny, AceWho::kNamedUser, 0, kWrite, kFriend},
                    {AceType::kAllow, AceWho::kEveryone, 0, kAll, 0}});
  EXPECT_EQ(ModeOf("f"), 0777U);
  EXPECT_EQ(Opens(kFriend, "f", O_RDONLY), 0);
  EXPECT_EQ(Opens(kFriend, "f", O_WRONLY), EACCES);
  EXPECT_EQ(As(kFriend, [&] { return truncate(At("f").c_str(), 0) == 0; }), EACCES);
  EXPECT_EQ(As(kFriend, [&] { return setxattr(At("f").c_str(), "user.a", "v", 1, 0) == 0; }),
            EACCES);
  EXPECT_EQ(Opens(kStranger, "f", O_WRONLY), 0);
  EXPECT_EQ(Opens(0, "f", O_RDWR), 0);

  SetNfs4List("d", {{AceType::kDeny, AceWho::kNamedUser, 0, engine::kAceExecute, kFriend},
                    {AceType::kDeny, AceWho::kNamedUser, 0,
                     engine::kAceAppendData | engine::kAceDeleteChild, kStranger},
                    {AceType::kAllow, AceWho::kEveryone, 0, kAll, 0}});
  EXPECT_EQ(Opens(0, "d/f", O_RDONLY), 0);  // names that the kernel has seen
  EXPECT_EQ(Opens(kFriend, "d/f", O_RDONLY), EACCES);
  EXPECT_EQ(Opens(kFriend, "d/new", O_CREAT | O_WRONLY), EACCES);
  EXPECT_EQ(Opens(kStranger, "d/f", O_RDONLY), 0);
  EXPECT_EQ(Opens(kStranger, "d/new", O_CREAT | O_WRONLY), 0);
  EXPECT_EQ(As(kStranger, [&] { return mkdir(At("d/sub").c_str(), 0777) == 0; }), EACCES);
  EXPECT_EQ(As(kStranger, [&] { return unlink(At("d/f").c_str()) == 0; }), EACCES);
  EXPECT_EQ(As(kStranger, [&] { return rename(At("d/f").c_str(), At("d/g").c_str()) == 0; }),
            EACCES);
  // Setting a POSIX list replaces it.
  Run("setfacl -m u:65534:rw " + At("f"));
  EXPECT_EQ(Opens(kFriend, "f", O_RDWR), 0);
}

}  // namespace
}  // namespace filer::posix_door
