#include "fsal/ganesha/attributes.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace filer::ganesha {
namespace {

constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

TEST(ToTimespec, IsExactAlsoBeforeTheEpoch) {
  for (const std::int64_t time_ns :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, std::int64_t{999'999'999},
        std::int64_t{-1'000'000'000}, std::int64_t{1'732'302'000'123'456'789}, kMin, kMax}) {
    const timespec time = ToTimespec(time_ns);
    EXPECT_GE(time.tv_nsec, 0);
    EXPECT_LT(time.tv_nsec, 1'000'000'000);
    EXPECT_EQ(static_cast<__int128>(time.tv_sec) * 1'000'000'000 + time.tv_nsec, time_ns);
  }
  EXPECT_EQ(ToTimespec(-1).tv_sec, -1);
  EXPECT_EQ(ToTimespec(-1).tv_nsec, 999'999'999);
}

TEST(ToNanoseconds, ClampsWhatClientsMakeUp) {
  EXPECT_EQ(ToNanoseconds({1, 5}), 1'000'000'005);
  EXPECT_EQ(ToNanoseconds({-1, 999'999'999}), -1);
  EXPECT_EQ(ToNanoseconds({std::numeric_limits<time_t>::max(), 0}), kMax);
  EXPECT_EQ(ToNanoseconds({std::numeric_limits<time_t>::min(), 0}), kMin);
}

TEST(ToFileType, HasAnInverse) {
  for (const auto kind :
       {engine::NodeKind::kFile, engine::NodeKind::kDirectory, engine::NodeKind::kSymlink,
        engine::NodeKind::kBlockDevice, engine::NodeKind::kCharDevice, engine::NodeKind::kFifo,
        engine::NodeKind::kSocket}) {
    EXPECT_EQ(ToNodeKind(ToFileType(kind)), kind);
  }
  EXPECT_FALSE(ToNodeKind(NO_FILE_TYPE).has_value());
}

TEST(FillAttributes, SetsAllThatItPromises) {
  engine::Attributes from;
  from.id.inode = 77;
  from.generation = 3;
  from.kind = engine::NodeKind::kBlockDevice;
  from.mode = 0104755;  // never more than permission bits
  from.uid = 0xFFFFFFFE;
  from.gid = 5;
  from.links = 2;
  from.size_bytes = 1ULL << 43;
  from.used_bytes = 4096;
  from.device_major = 8;
  from.device_minor = 1;
  from.mtime_ns = -1;
  from.change = 99;
  from.fsid = 0xABCDEF;
  fsal_attrlist out;
  fsal_prepare_attrs(&out, ATTR_MODE);
  FillAttributes(from, out);
  EXPECT_EQ(out.request_mask, static_cast<attrmask_t>(ATTR_MODE)) << "the asker's, untouched";
  EXPECT_EQ(out.valid_mask, kSupportedAttributes & ~static_cast<attrmask_t>(ATTR_ACL));
  EXPECT_EQ(out.fileid, 77U);
  EXPECT_EQ(out.type, BLOCK_FILE);
  EXPECT_EQ(out.mode, 04755U);
  EXPECT_EQ(out.owner, 0xFFFFFFFEU);
  EXPECT_EQ(out.numlinks, 2U);
  EXPECT_EQ(out.filesize, 1ULL << 43);
  EXPECT_EQ(out.rawdev.major, 8U);
  EXPECT_EQ(out.mtime.tv_nsec, 999'999'999);
  EXPECT_EQ(out.change, 99U);
  EXPECT_EQ(out.fsid.major, 0xABCDEFU);
}

TEST(ToChange, TakesWhatIsSetAndNothingElse) {
  fsal_attrlist from{};
  from.mode = 0107777;
  from.filesize = 10;
  from.owner = 12;
  from.valid_mask = ATTR_MODE | ATTR_MTIME_SERVER;
  auto change = ToChange(from);
  ASSERT_TRUE(change.has_value());
  EXPECT_EQ(change.assume_value().mode, 07777U);
  EXPECT_FALSE(change.assume_value().size_bytes.has_value());
  EXPECT_FALSE(change.assume_value().uid.has_value());
  EXPECT_TRUE(change.assume_value().mtime_now);
  EXPECT_FALSE(change.assume_value().atime_now);

  from.valid_mask = ATTR_SIZE | ATTR_OWNER;
  change = ToChange(from);
  ASSERT_TRUE(change.has_value());
  EXPECT_EQ(change.assume_value().size_bytes, 10U);
  EXPECT_EQ(change.assume_value().uid, 12U);
}

TEST(ToChange, RefusesWhatTheEngineCannotHold) {
  fsal_attrlist from{};
  from.valid_mask = ATTR_OWNER;
  from.owner = 1ULL << 32;
  EXPECT_TRUE(ToChange(from).assume_error() == Errc::kInvalidArgument);
  from.valid_mask = ATTR_SIZE;
  from.filesize = engine::kFileBytesMax;
  EXPECT_TRUE(ToChange(from).has_value());
  from.filesize = engine::kFileBytesMax + 1;
  EXPECT_TRUE(ToChange(from).assume_error() == Errc::kFileTooBig);
  from.valid_mask = ATTR4_SEC_LABEL;
  EXPECT_TRUE(ToChange(from).assume_error() == Errc::kNotSupported);
  from.valid_mask = ATTR_ACL;  // without entries: takes the list away
  EXPECT_EQ(ToChange(from).assume_value().acl, engine::Acl{});
}

TEST(ToCaller, BorrowsTheGroups) {
  std::array<gid_t, 2> groups{10, 20};
  user_cred credentials{};
  credentials.caller_uid = 1000;
  credentials.caller_gid = 100;
  credentials.caller_glen = groups.size();
  credentials.caller_garray = groups.data();
  const engine::Caller caller = ToCaller(credentials);
  EXPECT_EQ(caller.uid, 1000U);
  EXPECT_EQ(caller.gid, 100U);
  ASSERT_EQ(caller.groups.size(), 2U);
  EXPECT_EQ(caller.groups[1], 20U);
  EXPECT_FALSE(caller.is_trusted);
}

}  // namespace
}  // namespace filer::ganesha
