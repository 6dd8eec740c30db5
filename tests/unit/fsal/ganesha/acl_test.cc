#include "fsal/ganesha/acl.h"

#include <gtest/gtest.h>

namespace filer::ganesha {
namespace {

fsal_ace_t Entry(fsal_acetype_t type, std::uint32_t who, fsal_aceflag_t flag,
                 fsal_aceflag_t iflag) {
  fsal_ace_t ace{};
  ace.type = type;
  ace.perm = FSAL_ACE_PERM_READ_DATA;
  ace.flag = flag;
  ace.iflag = iflag;
  ace.who.uid = who;
  return ace;
}

Result<engine::Acl> Convert(std::vector<fsal_ace_t> aces) {
  fsal_acl_t acl{};
  acl.naces = static_cast<std::uint32_t>(aces.size());
  acl.aces = aces.data();
  return ToEngineAcl(&acl);
}

TEST(ToEngineAcl, TakesEachWhoThereAndBack) {
  const std::vector<fsal_ace_t> aces = {
      Entry(FSAL_ACE_TYPE_DENY, FSAL_ACE_SPECIAL_OWNER, 0, FSAL_ACE_IFLAG_SPECIAL_ID),
      Entry(FSAL_ACE_TYPE_ALLOW, FSAL_ACE_SPECIAL_GROUP, FSAL_ACE_FLAG_FILE_INHERIT,
            FSAL_ACE_IFLAG_SPECIAL_ID),
      Entry(FSAL_ACE_TYPE_ALLOW, FSAL_ACE_SPECIAL_EVERYONE, 0, FSAL_ACE_IFLAG_SPECIAL_ID),
      Entry(FSAL_ACE_TYPE_ALLOW, 1, 0, 0),  // the user 1, not the owner
      Entry(FSAL_ACE_TYPE_ALLOW, 3, FSAL_ACE_FLAG_GROUP_ID, 0)};
  const engine::Acl acl = Convert(aces).value();
  ASSERT_EQ(acl.kind, engine::AclKind::kNfs4);
  ASSERT_EQ(acl.aces.size(), 5U);
  EXPECT_EQ(acl.aces[0].who, engine::AceWho::kOwner);
  EXPECT_EQ(acl.aces[0].type, engine::AceType::kDeny);
  EXPECT_EQ(acl.aces[1].who, engine::AceWho::kGroup);
  EXPECT_EQ(acl.aces[1].flags, engine::kAceFileInherit);
  EXPECT_EQ(acl.aces[2].who, engine::AceWho::kEveryone);
  EXPECT_EQ(acl.aces[3].who, engine::AceWho::kNamedUser);
  EXPECT_EQ(acl.aces[3].id, 1U);
  EXPECT_EQ(acl.aces[4].who, engine::AceWho::kNamedGroup);
  const std::vector<fsal_ace_t> back = ToFsalAces(acl);
  ASSERT_EQ(back.size(), aces.size());
  for (std::size_t index = 0; index < aces.size(); ++index) {
    EXPECT_EQ(back[index].type, aces[index].type) << index;
    EXPECT_EQ(back[index].perm, aces[index].perm) << index;
    EXPECT_EQ(back[index].flag, aces[index].flag) << index;
    EXPECT_EQ(back[index].iflag, aces[index].iflag) << index;
    EXPECT_EQ(back[index].who.uid, aces[index].who.uid) << index;
  }
}

TEST(ToEngineAcl, NoEntriesTakeTheListAway) {
  EXPECT_EQ(ToEngineAcl(nullptr).value().kind, engine::AclKind::kNone);
  EXPECT_EQ(Convert({}).value().kind, engine::AclKind::kNone);
}

TEST(ToEngineAcl, RefusesWhatNobodyWouldObey) {
  const auto is_refused = [](const fsal_ace_t& ace) {
    const auto converted = Convert({ace});
    return !converted.has_value() && converted.error() == Errc::kNotSupported;
  };
  EXPECT_FALSE(is_refused(Entry(FSAL_ACE_TYPE_ALLOW, 5, 0, 0)));
  EXPECT_TRUE(is_refused(Entry(FSAL_ACE_TYPE_AUDIT, 5, 0, 0)));
  EXPECT_TRUE(is_refused(Entry(FSAL_ACE_TYPE_ALARM, 5, 0, 0)));
  EXPECT_TRUE(is_refused(Entry(FSAL_ACE_TYPE_ALLOW, 5, 0x100, 0)));
  EXPECT_TRUE(
      is_refused(Entry(FSAL_ACE_TYPE_ALLOW, FSAL_ACE_SPECIAL_MASK, 0, FSAL_ACE_IFLAG_SPECIAL_ID)));
  fsal_ace_t unknown = Entry(FSAL_ACE_TYPE_ALLOW, 5, 0, 0);
  unknown.perm = 0x80000000;
  EXPECT_TRUE(is_refused(unknown));
}

}  // namespace
}  // namespace filer::ganesha
