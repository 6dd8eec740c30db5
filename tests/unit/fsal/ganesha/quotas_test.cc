#include "fsal/ganesha/quotas.h"

#include <gtest/gtest.h>
#include <sys/quota.h>

#include <array>

namespace filer::ganesha {
namespace {

TEST(Quotas, AreToldInKibibytesAndSecondsLeft) {
  engine::Quota quota;
  quota.used_bytes = 12 << 10;
  quota.used_inodes = 7;
  quota.limits = {.bytes_soft = 8 << 10, .bytes_hard = 100, .inodes_soft = 3, .inodes_hard = 9};
  quota.bytes_deadline_ns = 65'000'000'000;
  quota.inodes_deadline_ns = 1;  // over
  const fsal_quota_t told = ToFsalQuota(quota, 5'000'000'000);
  EXPECT_EQ(told.bsize, 1024U);
  EXPECT_EQ(told.curblocks, 12U);
  EXPECT_EQ(told.bsoftlimit, 8U);
  EXPECT_EQ(told.bhardlimit, 1U);  // not none
  EXPECT_EQ(told.curfiles, 7U);
  EXPECT_EQ(told.fsoftlimit, 3U);
  EXPECT_EQ(told.fhardlimit, 9U);
  EXPECT_EQ(told.btimeleft, 60U);
  EXPECT_EQ(told.ftimeleft, 1U);
  EXPECT_EQ(ToFsalQuota({}, 5).btimeleft, 0U);
}

TEST(Quotas, LimitsComeBackAsTheyWent) {
  const engine::QuotaLimits limits{
      .bytes_soft = 4096, .bytes_hard = 1 << 20, .inodes_soft = 3, .inodes_hard = 0};
  engine::Quota quota;
  quota.limits = limits;
  EXPECT_EQ(ToQuotaLimits(ToFsalQuota(quota, 0)), limits);
  fsal_quota_t huge{};
  huge.bhardlimit = UINT64_MAX;
  EXPECT_EQ(ToQuotaLimits(huge).bytes_hard, UINT64_MAX);
}

TEST(Quotas, KnowUsersAndGroups) {
  EXPECT_EQ(ToQuotaKind(USRQUOTA), engine::QuotaKind::kUser);
  EXPECT_EQ(ToQuotaKind(GRPQUOTA), engine::QuotaKind::kGroup);
  EXPECT_EQ(ToQuotaKind(2), std::nullopt);
  EXPECT_EQ(ToQuotaKind(-1), std::nullopt);
}

TEST(Quotas, AreTheirOwnersAndRootsBusiness) {
  const std::array<std::uint32_t, 1> groups{50};
  const engine::Caller ann{.uid = 7, .gid = 40, .groups = groups};
  EXPECT_TRUE(MayAskAbout(ann, engine::QuotaKind::kUser, 7));
  EXPECT_FALSE(MayAskAbout(ann, engine::QuotaKind::kUser, 40));
  EXPECT_FALSE(MayAskAbout(ann, engine::QuotaKind::kUser, 0));
  EXPECT_TRUE(MayAskAbout(ann, engine::QuotaKind::kGroup, 40));
  EXPECT_TRUE(MayAskAbout(ann, engine::QuotaKind::kGroup, 50));
  EXPECT_FALSE(MayAskAbout(ann, engine::QuotaKind::kGroup, 7));
  EXPECT_TRUE(MayAskAbout({}, engine::QuotaKind::kUser, 7));
}

}  // namespace
}  // namespace filer::ganesha
