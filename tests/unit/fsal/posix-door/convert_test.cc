#include "fsal/posix-door/convert.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <cerrno>

namespace filer::posix_door {
namespace {

TEST(ToErrno, SaysWhatProgramsBranchOn) {
  EXPECT_EQ(ToErrno(Errc::kNotFound), ENOENT);
  EXPECT_EQ(ToErrno(Errc::kExists), EEXIST);
  EXPECT_EQ(ToErrno(Errc::kNotEmpty), ENOTEMPTY);
  EXPECT_EQ(ToErrno(Errc::kLoop), EINVAL);  // rename(2): a directory below itself
  EXPECT_EQ(ToErrno(Errc::kNoSpace), ENOSPC);
  EXPECT_EQ(ToErrno(Errc::kNoAttribute), ENODATA);
  EXPECT_EQ(ToErrno(Errc::kOutOfRange), ENXIO);  // lseek(2): past the last data
  EXPECT_EQ(ToErrno(Errc::kStaleHandle), ESTALE);
  EXPECT_EQ(ToErrno(Error::System(ENOMEM, "x")), ENOMEM);
  EXPECT_EQ(ToErrno(Errc::kCorrupt), EIO);
}

TEST(ToErrno, IsNeverZero) {
  for (int code = 1; code <= static_cast<int>(Errc::kSystem); ++code) {
    EXPECT_GT(ToErrno(static_cast<Errc>(code)), 0) << code;
  }
}

TEST(Inodes, OnlyTheRootChangesItsNumber) {
  constexpr std::uint64_t kRoot = engine::kRootInode;
  EXPECT_EQ(ToFuseInode(kRoot, kRoot), 1U);
  EXPECT_EQ(ToEngineInode(1, kRoot), kRoot);
  for (const std::uint64_t inode : std::initializer_list<std::uint64_t>{3, 4096, UINT64_MAX}) {
    EXPECT_EQ(ToEngineInode(ToFuseInode(inode, kRoot), kRoot), inode);
  }
}

TEST(ToStat, CarriesEveryAttribute) {
  engine::Attributes attributes;
  attributes.id.inode = 77;
  attributes.kind = engine::NodeKind::kCharDevice;
  attributes.mode = 04755;
  attributes.uid = 1;
  attributes.gid = 2;
  attributes.links = 3;
  attributes.size_bytes = 5000;
  attributes.used_bytes = 4097;
  attributes.device_major = 259;
  attributes.device_minor = 1048575;
  attributes.atime_ns = 1'000'000'001;
  attributes.mtime_ns = -1;
  attributes.ctime_ns = 5;
  const struct stat status = ToStat(attributes);
  EXPECT_EQ(status.st_ino, 77U);
  EXPECT_EQ(status.st_mode, static_cast<mode_t>(S_IFCHR | 04755));
  EXPECT_EQ(status.st_uid, 1U);
  EXPECT_EQ(status.st_gid, 2U);
  EXPECT_EQ(status.st_nlink, 3U);
  EXPECT_EQ(status.st_size, 5000);
  EXPECT_EQ(status.st_blocks, 9);  // 512-byte units, rounded up
  EXPECT_EQ(major(status.st_rdev), 259U);
  EXPECT_EQ(minor(status.st_rdev), 1048575U);
  EXPECT_EQ(status.st_atim.tv_sec, 1);
  EXPECT_EQ(status.st_atim.tv_nsec, 1);
  EXPECT_EQ(status.st_mtim.tv_sec, -1);
  EXPECT_EQ(status.st_mtim.tv_nsec, 999'999'999);
}

TEST(NodeKinds, MapBothWays) {
  for (const auto kind :
       {engine::NodeKind::kFile, engine::NodeKind::kDirectory, engine::NodeKind::kSymlink,
        engine::NodeKind::kBlockDevice, engine::NodeKind::kCharDevice, engine::NodeKind::kFifo,
        engine::NodeKind::kSocket}) {
    EXPECT_EQ(ToNodeKind(ToFileType(kind) | 0644), kind);
  }
  EXPECT_EQ(ToNodeKind(0644), engine::NodeKind::kFile);
  EXPECT_EQ(ToNodeKind(0170000), std::nullopt);
}

TEST(Times, RoundTripAndSaturate) {
  for (const std::int64_t ns : std::initializer_list<std::int64_t>{
           0, 1, -1, 999'999'999, -1'000'000'000, 1'700'000'000'123'456'789, INT64_MAX}) {
    EXPECT_EQ(ToNanoseconds(ToTimespec(ns)), ns);
  }
  EXPECT_EQ(ToNanoseconds({.tv_sec = INT64_MAX, .tv_nsec = 0}), INT64_MAX);
  EXPECT_EQ(ToNanoseconds({.tv_sec = INT64_MIN, .tv_nsec = 0}), INT64_MIN);
}

struct flock Lock(short type, off_t start, off_t length) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

TEST(LockRanges, MapBothWays) {
  const auto range = ToLockRange(Lock(F_WRLCK, 10, 20)).value();
  EXPECT_EQ(range.offset_bytes, 10U);
  EXPECT_EQ(range.length_bytes, 20U);
  EXPECT_EQ(range.kind, engine::LockKind::kWrite);
  const struct flock back = ToFlock(range, 7);
  EXPECT_EQ(back.l_type, F_WRLCK);
  EXPECT_EQ(back.l_start, 10);
  EXPECT_EQ(back.l_len, 20);
  EXPECT_EQ(back.l_pid, 7);
}

TEST(LockRanges, WhatOffTCannotSayIsToTheEnd) {
  EXPECT_EQ(ToFlock({.offset_bytes = 5, .length_bytes = 0}, 0).l_len, 0);
  EXPECT_EQ(ToFlock({.offset_bytes = 5, .length_bytes = UINT64_MAX - 5}, 0).l_len, 0);
  EXPECT_EQ(ToFlock({.offset_bytes = UINT64_MAX - 1, .length_bytes = 1}, 0).l_start, INT64_MAX);
}

TEST(LockRanges, RefuseNonsense) {
  EXPECT_FALSE(ToLockRange(Lock(F_WRLCK, -1, 0)).has_value());
  EXPECT_FALSE(ToLockRange(Lock(F_RDLCK, 0, -1)).has_value());
  EXPECT_FALSE(ToLockRange(Lock(77, 0, 0)).has_value());
  struct flock relative = Lock(F_RDLCK, 0, 0);
  relative.l_whence = SEEK_CUR;
  EXPECT_FALSE(ToLockRange(relative).has_value());
}

TEST(Xattrs, PosixListsAreKeptAndTrustedIsForRoot) {
  EXPECT_TRUE(IsStoredXattr("user.DOSATTRIB"));
  EXPECT_TRUE(IsStoredXattr("security.capability"));
  EXPECT_TRUE(IsStoredXattr("system.posix_acl_access"));
  EXPECT_TRUE(IsStoredXattr("system.posix_acl_default"));
  EXPECT_FALSE(IsStoredXattr("system.posix_acl_other"));
  EXPECT_TRUE(IsListedXattr("trusted.x", 0));
  EXPECT_FALSE(IsListedXattr("trusted.x", 1000));
  EXPECT_TRUE(IsListedXattr("user.x", 1000));
}

TEST(Xattrs, RefusalsSayWhy) {
  EXPECT_EQ(RefusalOfXattr("user.x"), 0);
  EXPECT_EQ(RefusalOfXattr("trusted.x"), 0);
  for (const char* space : {"user.", "security.", "trusted."}) {
    EXPECT_EQ(RefusalOfXattr(space), EINVAL) << space;
  }
  for (const char* name : {"", "user", "users.x", "system.nfs4_acl", "os2.x"}) {
    EXPECT_EQ(RefusalOfXattr(name), EOPNOTSUPP) << name;
  }
}

}  // namespace
}  // namespace filer::posix_door
