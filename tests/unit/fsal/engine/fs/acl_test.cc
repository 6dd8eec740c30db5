// What lists mean, without a volume: decisions, mode and list, inheritance, formats.
#include "fsal/engine/fs/acl.h"

#include <gtest/gtest.h>

#include <random>

#include "fsal/engine/fs/keys.h"

namespace filer::engine {
namespace {

constexpr std::uint32_t kOwner = 100, kOwnerGroup = 1000, kFriend = 200, kTeam = 2000;
constexpr std::uint32_t kRead = kAceReadData, kWrite = kAceWriteData | kAceAppendData;
constexpr std::uint32_t kRun = kAceExecute, kAll = kRead | kWrite | kRun;

Nfs4Ace Allow(AceWho who, std::uint32_t mask, std::uint32_t id = 0, std::uint32_t flags = 0) {
  if (who == AceWho::kNamedGroup) flags |= kAceIdentifierGroup;
  return {AceType::kAllow, who, flags, mask, id};
}
Nfs4Ace Deny(AceWho who, std::uint32_t mask, std::uint32_t id = 0, std::uint32_t flags = 0) {
  Nfs4Ace ace = Allow(who, mask, id, flags);
  ace.type = AceType::kDeny;
  return ace;
}
Acl Nfs4(std::vector<Nfs4Ace> aces) {
  Acl acl;
  acl.kind = AclKind::kNfs4;
  acl.aces = std::move(aces);
  return acl;
}
Acl Posix(std::vector<PosixAce> access, std::vector<PosixAce> default_entries = {}) {
  Acl acl;
  acl.kind = AclKind::kPosix;
  acl.access = std::move(access);
  acl.default_entries = std::move(default_entries);
  return acl;
}
std::vector<PosixAce> Entries(std::uint16_t owner, std::uint16_t friends, std::uint16_t group,
                              std::uint16_t team, std::uint16_t mask, std::uint16_t other) {
  return {{PosixTag::kOwner, owner, 0}, {PosixTag::kNamedUser, friends, kFriend},
          {PosixTag::kGroup, group, 0}, {PosixTag::kNamedGroup, team, kTeam},
          {PosixTag::kMask, mask, 0},   {PosixTag::kOther, other, 0}};
}

struct Person {
  std::uint32_t uid;
  std::vector<std::uint32_t> groups;  // the first is the primary one
  Caller caller() const { return {uid, groups.front(), groups}; }
};
const Person kTheOwner{kOwner, {kOwnerGroup}};
const Person kAFriend{kFriend, {1}};
const Person kMember{300, {kOwnerGroup}};
const Person kTeamMember{301, {1, kTeam}};
const Person kBoth{302, {kTeam, kOwnerGroup}};
const Person kStranger{303, {1}};
const Person kRoot{0, {0}};

bool May(const Person& person, const Acl& acl, std::uint32_t mask, std::uint32_t mode = 0,
         NodeKind kind = NodeKind::kFile) {
  const AclSubject subject{kind, ModeOf(acl, mode), kOwner, kOwnerGroup};
  return IsAllowed(person.caller(), subject, acl, mask);
}

TEST(AclAccess, ByModeEachIsOfOneClassOnly) {
  const Acl none;
  EXPECT_TRUE(May(kTheOwner, none, kRead, 0400));
  EXPECT_FALSE(May(kTheOwner, none, kRead, 0077));  // also if others may
  EXPECT_TRUE(May(kMember, none, kWrite, 0020));
  EXPECT_FALSE(May(kMember, none, kRead, 0704));
  EXPECT_TRUE(May(kStranger, none, kRead | kRun, 0005));
  EXPECT_FALSE(May(kStranger, none, kWrite, 0775));
  EXPECT_TRUE(May(kStranger, none, kAceReadAttributes | kAceReadAcl, 0));
  EXPECT_TRUE(May(kTheOwner, none, kAceWriteAcl | kAceWriteAttributes, 0));
  EXPECT_FALSE(May(kMember, none, kAceWriteAcl, 0777));
  EXPECT_FALSE(May(kTheOwner, none, kAceDelete | kAceWriteOwner, 0777));
}

TEST(AclAccess, RootMayAllButExecuteWhatNobodyMay) {
  EXPECT_TRUE(May(kRoot, Acl{}, kRead | kWrite, 0));
  EXPECT_FALSE(May(kRoot, Acl{}, kRun, 0666));
  EXPECT_TRUE(May(kRoot, Acl{}, kRun, 0001));
  EXPECT_TRUE(May(kRoot, Acl{}, kRun, 0, NodeKind::kDirectory));
  const Acl denied = Nfs4({Deny(AceWho::kEveryone, kAceAllBits)});
  EXPECT_TRUE(May(kRoot, denied, kAceAllBits & ~kRun));
  EXPECT_FALSE(May(kRoot, denied, kRun));
  EXPECT_TRUE(May(kRoot, Nfs4({Allow(AceWho::kNamedUser, kRun, kFriend)}), kRun));
}

TEST(AclAccess, Nfs4IsDecidedByTheFirstEntryThatNamesTheRight) {
  const Acl deny_first =
      Nfs4({Deny(AceWho::kNamedUser, kWrite, kFriend), Allow(AceWho::kEveryone, kRead | kWrite)});
  EXPECT_FALSE(May(kAFriend, deny_first, kWrite));
  EXPECT_TRUE(May(kAFriend, deny_first, kRead));
  EXPECT_FALSE(May(kAFriend, deny_first, kRead | kWrite));
  EXPECT_TRUE(May(kStranger, deny_first, kRead | kWrite));
  const Acl allow_first =
      Nfs4({Allow(AceWho::kEveryone, kRead | kWrite), Deny(AceWho::kNamedUser, kWrite, kFriend)});
  EXPECT_TRUE(May(kAFriend, allow_first, kWrite));
  const Acl parts = Nfs4({Allow(AceWho::kGroup, kRead), Allow(AceWho::kNamedGroup, kWrite, kTeam)});
  EXPECT_TRUE(May(kBoth, parts, kRead | kWrite));  // rights of several entries add up
  EXPECT_FALSE(May(kMember, parts, kWrite));
  EXPECT_FALSE(May(kStranger, parts, kRead));  // what nobody names is refused
}

TEST(AclAccess, Nfs4EntriesThatDecideNothingHere) {
  const Acl acl = Nfs4({Deny(AceWho::kEveryone, kRead, 0, kAceInheritOnly | kAceFileInherit),
                        {AceType::kAudit, AceWho::kEveryone, kAceFailedAccess, kRead, 0},
                        {AceType::kAlarm, AceWho::kEveryone, kAceFailedAccess, kRead, 0},
                        Allow(AceWho::kOwner, kRead)});
  EXPECT_TRUE(May(kTheOwner, acl, kRead));
  EXPECT_FALSE(May(kStranger, acl, kRead));
  // The owner can always help himself.
  EXPECT_TRUE(May(kTheOwner, Nfs4({Deny(AceWho::kOwner, kAceAllBits)}),
                  kAceReadAcl | kAceWriteAcl | kAceReadAttributes | kAceWriteAttributes));
}

TEST(AclAccess, PosixTakesTheClosestEntry) {
  const Acl acl = Posix(Entries(6, 4, 0, 6, 7, 7));
  EXPECT_TRUE(May(kTheOwner, acl, kRead | kWrite));
  EXPECT_FALSE(May(kTheOwner, acl, kRun));
  EXPECT_TRUE(May(kAFriend, acl, kRead));
  EXPECT_FALSE(May(kAFriend, acl, kWrite));
  EXPECT_FALSE(May(kMember, acl, kRead));  // not as others
  EXPECT_TRUE(May(kTeamMember, acl, kRead | kWrite));
  EXPECT_TRUE(May(kBoth, acl, kRead | kWrite));  // any of his groups
  EXPECT_TRUE(May(kStranger, acl, kAll));
  const Acl masked = Posix(Entries(7, 7, 7, 7, 4, 0));
  EXPECT_TRUE(May(kTheOwner, masked, kAll));
  for (const Person* person : {&kAFriend, &kMember, &kTeamMember}) {
    EXPECT_TRUE(May(*person, masked, kRead));
    EXPECT_FALSE(May(*person, masked, kWrite));
  }
  // No group grants both.
  EXPECT_FALSE(May(kBoth, Posix(Entries(7, 0, 4, 2, 7, 0)), kRead | kWrite));
}

TEST(AclMode, OfAnNfs4ListIsWhatTheSpecialEntriesGive) {
  EXPECT_EQ(ModeOf(Nfs4({Allow(AceWho::kOwner, kAll), Allow(AceWho::kGroup, kRead | kRun),
                         Allow(AceWho::kEveryone, kRead)}),
                   07000),
            07754U);
  // Everyone's rights are the owner's and the group's, unless one was refused before.
  EXPECT_EQ(ModeOf(Nfs4({Deny(AceWho::kGroup, kWrite), Allow(AceWho::kEveryone, kAll)}), 0), 0757U);
  EXPECT_EQ(
      ModeOf(Nfs4({Allow(AceWho::kOwner, kAceWriteData), Allow(AceWho::kNamedUser, kAll, 5)}), 0),
      0U);  // writing takes both of its rights; named entries do not count
  EXPECT_EQ(ModeOf(Nfs4({}), 0777), 0U);
  EXPECT_EQ(ModeOf(Posix(Entries(7, 7, 5, 0, 6, 1)), 0), 0761U);
  EXPECT_EQ(ModeOf(Posix({}, Entries(7, 7, 7, 7, 7, 7)), 0640), 0640U);
}

// RFC 7530, 6.4.1.1: the mode read back is the one that was set, and nobody named has more than the
// group's bits; what is inherited or audited stays.
TEST(AclMode, ChmodRewritesAnNfs4List) {
  const Nfs4Ace audit{AceType::kAudit, AceWho::kEveryone, kAceSuccessfulAccess, kAll, 0};
  const Nfs4Ace passed_on = Allow(AceWho::kNamedUser, kAll, 9, kAceFileInherit | kAceInheritOnly);
  const Acl before = Nfs4({audit, passed_on, Deny(AceWho::kNamedUser, kWrite, 7),
                           Allow(AceWho::kNamedUser, kAll | kAceDelete, kFriend),
                           Allow(AceWho::kNamedGroup, kAll, kTeam, kAceDirectoryInherit),
                           Allow(AceWho::kOwner, kAll), Allow(AceWho::kEveryone, kAll)});
  for (std::uint32_t mode = 0; mode <= 0777; ++mode) {
    const Acl after = WithMode(before, mode);
    ASSERT_EQ(ModeOf(after, 0), mode);
    ASSERT_TRUE(ValidateStoredAcl(after).has_value());
    ASSERT_EQ(WithMode(after, mode), after) << "not stable at " << mode;
    for (const auto& [right, bit] : {std::pair{kRead, 4U}, {kWrite, 2U}, {kRun, 1U}}) {
      ASSERT_EQ(May(kTheOwner, after, right), (mode >> 6 & bit) != 0);
      ASSERT_EQ(May({kOwner, {kTeam}}, after, right), (mode >> 6 & bit) != 0);
      ASSERT_EQ(May(kMember, after, right), (mode >> 3 & bit) != 0);
      ASSERT_EQ(May(kStranger, after, right), (mode & bit) != 0);
      if ((mode >> 3 & bit) == 0 && (mode & bit) == 0) {
        ASSERT_FALSE(May(kAFriend, after, right));
        ASSERT_FALSE(May(kTeamMember, after, right));
      }
      if ((mode >> 3 & bit) != 0) {
        ASSERT_TRUE(May(kAFriend, after, right));
      }
    }
    ASSERT_TRUE(May(kAFriend, after, kAceDelete));
    ASSERT_NE(std::find(after.aces.begin(), after.aces.end(), audit), after.aces.end());
    ASSERT_NE(std::find(after.aces.begin(), after.aces.end(), passed_on), after.aces.end());
  }
  // The team's entry goes on to directories as it was.
  const Acl closed = WithMode(before, 0);
  const Acl below = Inherit(closed, NodeKind::kDirectory, std::nullopt, 0).acl;
  EXPECT_TRUE(May(kTeamMember, below, kAll));
}

TEST(AclMode, ChmodOfAPosixListSetsTheMask) {
  const Acl acl = WithMode(Posix(Entries(7, 7, 7, 7, 7, 7)), 0640);
  EXPECT_EQ(acl.access, Entries(6, 7, 7, 7, 4, 0));
  EXPECT_EQ(ModeOf(acl, 0), 0640U);
  EXPECT_FALSE(May(kAFriend, acl, kWrite));
}

TEST(AclMode, WhatSaysNoMoreThanAModeIsNotKept) {
  constexpr std::uint32_t kAlways = kAceReadAttributes | kAceReadAcl;
  for (std::uint32_t mode = 0; mode <= 0777; ++mode) {
    // As servers make one from a mode: for each class a refusal and a grant.
    std::vector<Nfs4Ace> aces;
    for (const auto& [who, shift] :
         {std::pair{AceWho::kOwner, 6}, {AceWho::kGroup, 3}, {AceWho::kEveryone, 0}}) {
      const std::uint32_t rwx = mode >> shift & 7;
      const std::uint32_t rights = ((rwx & 4) != 0 ? kRead : 0) | ((rwx & 2) != 0 ? kWrite : 0) |
                                   ((rwx & 1) != 0 ? kRun : 0);
      aces.push_back(Deny(who, kAll & ~rights));
      aces.push_back(Allow(who, rights | kAlways));
    }
    ASSERT_EQ(Simplified(Nfs4(aces), mode).kind, AclKind::kNone);
    aces.push_back(Allow(AceWho::kNamedUser, kRead, kFriend));
    ASSERT_EQ(Simplified(Nfs4(aces), mode).kind, AclKind::kNfs4);
  }
  // A member who owns the file gets more than the owner's bits say.
  const Acl as_member =
      Nfs4({Allow(AceWho::kOwner, kRead | kAlways), Allow(AceWho::kGroup, kRead | kWrite | kAlways),
            Allow(AceWho::kEveryone, kAlways)});
  EXPECT_EQ(Simplified(as_member, ModeOf(as_member, 0)).kind, AclKind::kNfs4);
  const Acl minimal =
      Posix({{PosixTag::kOwner, 6, 0}, {PosixTag::kGroup, 4, 0}, {PosixTag::kOther, 0, 0}});
  EXPECT_EQ(Simplified(minimal, 0640).kind, AclKind::kNone);
  const Acl with_default = Posix(minimal.access, minimal.access);
  EXPECT_EQ(Simplified(with_default, 0640), Posix({}, minimal.access));
  EXPECT_EQ(Simplified(Posix(Entries(7, 7, 7, 7, 7, 7)), 0777).kind, AclKind::kPosix);
}

TEST(AclInherit, Nfs4ByItsFlags) {
  const Nfs4Ace files = Allow(AceWho::kNamedUser, kRead, 1, kAceFileInherit);
  const Nfs4Ace directories = Allow(AceWho::kNamedUser, kRead, 2, kAceDirectoryInherit);
  const Nfs4Ace once =
      Allow(AceWho::kNamedUser, kRead, 3, kAceFileInherit | kAceDirectoryInherit | kAceNoPropagate);
  const Nfs4Ace below =
      Allow(AceWho::kNamedUser, kRead, 4, kAceFileInherit | kAceDirectoryInherit | kAceInheritOnly);
  const Nfs4Ace here = Allow(AceWho::kNamedUser, kRead, 5);
  const Nfs4Ace files_once = Allow(AceWho::kNamedUser, kRead, 6, kAceFileInherit | kAceNoPropagate);
  const std::vector<Nfs4Ace> directory{files, directories, once, below, here, files_once};
  const auto plain = [](Nfs4Ace ace, std::uint32_t flags) {
    ace.flags = flags;
    return ace;
  };
  EXPECT_EQ(nfs4_acl::Inherit(directory, false),
            (std::vector<Nfs4Ace>{plain(files, 0), plain(once, 0), plain(below, 0),
                                  plain(files_once, 0)}));
  EXPECT_EQ(
      nfs4_acl::Inherit(directory, true),
      (std::vector<Nfs4Ace>{plain(files, kAceFileInherit | kAceInheritOnly), directories,
                            plain(once, 0), plain(below, kAceFileInherit | kAceDirectoryInherit)}));
}

TEST(AclInherit, Nfs4ModeIsAppliedToWhatIsInherited) {
  const Acl directory = Nfs4({Allow(AceWho::kNamedUser, kAll, kFriend, kAceFileInherit),
                              Allow(AceWho::kOwner, kAll, 0, kAceFileInherit)});
  const Inherited asked = Inherit(directory, NodeKind::kFile, 0640, 022);
  EXPECT_EQ(asked.mode, 0640U);
  EXPECT_TRUE(May(kAFriend, asked.acl, kRead));
  EXPECT_FALSE(May(kAFriend, asked.acl, kWrite));
  const Inherited unasked = Inherit(directory, NodeKind::kFile, std::nullopt, 022);
  EXPECT_EQ(unasked.mode, 0700U);
  EXPECT_TRUE(May(kAFriend, unasked.acl, kAll));
  const Inherited nothing =
      Inherit(Nfs4({Allow(AceWho::kOwner, kAll)}), NodeKind::kFile, 0666, 022);
  EXPECT_EQ(nothing.acl.kind, AclKind::kNone);
  EXPECT_EQ(nothing.mode, 0644U);
}

TEST(AclInherit, PosixDefaultsTakeThePlaceOfTheUmask) {
  const auto defaults = Entries(7, 6, 5, 4, 7, 5);
  const Acl directory = Posix({}, defaults);
  const Inherited file = Inherit(directory, NodeKind::kFile, 0666, 077);
  EXPECT_EQ(file.mode, 0664U);
  EXPECT_EQ(file.acl, Posix(Entries(6, 6, 5, 4, 6, 4)));
  const Inherited below = Inherit(directory, NodeKind::kDirectory, 01750, 077);
  EXPECT_EQ(below.mode, 01750U);
  EXPECT_EQ(below.acl, Posix(Entries(7, 6, 5, 4, 5, 0), defaults));
  EXPECT_EQ(Inherit(directory, NodeKind::kSymlink, 0777, 077).mode, 0777U);
  EXPECT_EQ(Inherit(Acl{}, NodeKind::kFile, 0666, 027).mode, 0640U);
}

// Over all lists of small permissions: each single right is answered as the POSIX list does.
TEST(AclToNfs4, AnswersAsThePosixListDoes) {
  std::mt19937 random(3);
  const auto bits = [&] { return static_cast<std::uint16_t>(random() % 8); };
  for (int round = 0; round < 3000; ++round) {
    const Acl posix = Posix(Entries(bits(), bits(), bits(), bits(), bits(), bits()));
    const Acl nfs4 = ToNfs4(posix, ModeOf(posix, 0), false);
    ASSERT_TRUE(ValidateStoredAcl(nfs4).has_value());
    for (const Person* person :
         {&kTheOwner, &kAFriend, &kMember, &kTeamMember, &kBoth, &kStranger}) {
      for (const std::uint32_t right : {kRead, kWrite, kRun, std::uint32_t{kAceWriteAcl}}) {
        ASSERT_EQ(May(*person, nfs4, right), May(*person, posix, right))
            << "round " << round << " uid " << person->uid << " right " << right;
      }
    }
  }
}

TEST(AclRemove, EitherOfTwoRightsOrTheDirectorysWriteRight) {
  const Acl none;
  const Acl delete_child =
      Nfs4({Allow(AceWho::kNamedUser, kAceDeleteChild, kFriend), Allow(AceWho::kEveryone, kRun)});
  const Acl no_delete_child = Nfs4({Deny(AceWho::kNamedUser, kAceDeleteChild, kFriend),
                                    Allow(AceWho::kEveryone, kRun | kWrite)});
  const Acl may_delete = Nfs4({Allow(AceWho::kNamedUser, kAceDelete, kFriend)});
  const auto may = [](const Person& person, const Acl& directory, const Acl& child,
                      std::uint32_t mode) {
    const AclSubject above{NodeKind::kDirectory, mode, kOwner, kOwnerGroup};
    const AclSubject below{NodeKind::kFile, 0, kOwner, kOwnerGroup};
    return MayRemove(person.caller(), {above, directory}, {below, child});
  };
  EXPECT_TRUE(may(kStranger, none, none, 0003));
  EXPECT_FALSE(may(kStranger, none, none, 0002));  // cannot pass
  EXPECT_FALSE(may(kStranger, none, none, 0775));
  EXPECT_TRUE(may(kAFriend, delete_child, none, 0));
  EXPECT_FALSE(may(kStranger, delete_child, none, 0));
  EXPECT_FALSE(may(kAFriend, no_delete_child, none, 0));
  EXPECT_TRUE(may(kStranger, no_delete_child, none, 0));
  EXPECT_TRUE(may(kAFriend, no_delete_child, may_delete, 0));
  EXPECT_TRUE(may(kAFriend, none, may_delete, 0001));
}

TEST(AclFormat, PosixAttributesAreLinuxs) {
  const std::string bytes = EncodePosixXattr(Entries(7, 6, 5, 4, 3, 2));
  ASSERT_EQ(bytes.size(), 4U + 6 * 8);
  EXPECT_EQ(bytes.substr(0, 12), std::string("\2\0\0\0\1\0\7\0\xff\xff\xff\xff", 12));
  EXPECT_EQ(bytes.substr(12, 8), std::string("\2\0\6\0\xc8\0\0\0", 8));
  EXPECT_EQ(DecodePosixXattr(bytes).value(), Entries(7, 6, 5, 4, 3, 2));
  EXPECT_TRUE(DecodePosixXattr(bytes.substr(0, 4)).value().empty());
  EXPECT_FALSE(DecodePosixXattr("").has_value());
  EXPECT_FALSE(DecodePosixXattr(bytes.substr(0, 15)).has_value());
  EXPECT_FALSE(DecodePosixXattr("\3" + bytes.substr(1)).has_value());
}

TEST(AclFormat, ImpossibleListsAreRefused) {
  const auto is_refused = [](const Acl& acl, NodeKind kind = NodeKind::kFile) {
    return !ValidateAcl(acl, kind).has_value();
  };
  const auto sound = Entries(7, 7, 7, 7, 7, 7);
  EXPECT_FALSE(is_refused(Posix(sound)));
  for (std::size_t left_out = 0; left_out < sound.size(); ++left_out) {
    auto entries = sound;
    entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(left_out));
    const bool is_named = left_out == 1 || left_out == 3;
    EXPECT_EQ(is_refused(Posix(entries)), !is_named) << left_out;
    entries = sound;
    entries.insert(entries.begin() + static_cast<std::ptrdiff_t>(left_out), sound[left_out]);
    EXPECT_TRUE(is_refused(Posix(entries))) << left_out;
  }
  auto disordered = sound;
  std::swap(disordered[1], disordered[2]);
  EXPECT_TRUE(is_refused(Posix(disordered)));
  EXPECT_TRUE(is_refused(Posix(sound), NodeKind::kSymlink));
  EXPECT_TRUE(is_refused(Posix({}, sound)));
  EXPECT_FALSE(is_refused(Posix({}, sound), NodeKind::kDirectory));
  EXPECT_TRUE(is_refused(Nfs4({Allow(AceWho::kOwner, kRead, 5)})));  // the owner has no id
  EXPECT_TRUE(is_refused(Nfs4({{AceType::kAllow, AceWho::kNamedGroup, 0, kRead, 5}})));
  EXPECT_TRUE(is_refused(Nfs4({Allow(AceWho::kOwner, 0x200000)})));
  EXPECT_TRUE(is_refused(Nfs4({Allow(AceWho::kOwner, kRead, 0, 0x100)})));
  EXPECT_TRUE(is_refused(Nfs4(std::vector<Nfs4Ace>(kNfs4AcesMax + 1))));
  Acl two = Posix(sound);
  two.aces.push_back(Allow(AceWho::kOwner, kRead));
  EXPECT_TRUE(is_refused(two));
}

// Any change of a byte, any other length: an answer, never a crash, and never a list that could not
// have been set.
TEST(AclFormat, DecodersTakeAnything) {
  std::mt19937 random(1);
  const std::string samples[] = {
      EncodeAcl({3, Posix(Entries(7, 6, 5, 4, 3, 2), Entries(1, 2, 3, 4, 5, 6))}),
      EncodeAcl({4, Nfs4({Allow(AceWho::kOwner, kAll), Deny(AceWho::kNamedGroup, kRead, 5)})})};
  EXPECT_EQ(DecodeAcl(samples[0]).value().acl.access, Entries(7, 6, 5, 4, 3, 2));
  EXPECT_EQ(DecodeAcl(samples[1]).value().references, 4U);
  EXPECT_FALSE(DecodeAcl(EncodeAcl({0, Nfs4({})})).has_value());  // nobody has it
  for (int round = 0; round < 30'000; ++round) {
    std::string bytes = samples[random() % 2];
    for (std::uint32_t flips = random() % 4; flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    bytes.resize(random() % 3 == 0 ? random() % (bytes.size() + 16) : bytes.size());
    const auto decoded = DecodeAcl(bytes);
    if (decoded.has_value()) {
      ASSERT_TRUE(ValidateStoredAcl(decoded.value().acl).has_value());
      static_cast<void>(WithMode(decoded.value().acl, random() & 0777));
    }
    static_cast<void>(DecodePosixXattr(bytes).has_value());
  }
}

}  // namespace
}  // namespace filer::engine
