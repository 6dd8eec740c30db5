// acl_test.cc: access control lists over NFS, beside the POSIX door of the same process: NFSv4
// lists as a client sets and reads them (COMPOUNDs of our own: libnfs has no call for them), and
// POSIX lists that were set on the mount, obeyed by both.
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <nfsc/libnfs-raw-nfs4.h>
#include <nfsc/libnfs-raw.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/integration/nfs/client.h"
#include "tests/integration/nfs/ganesha_server.h"

namespace filer::test {
namespace {

constexpr int kFriend = 1000, kStranger = 1001;
constexpr std::uint32_t kAllow = 0, kDeny = 1, kAudit = 2;
constexpr std::uint32_t kRead = 1, kWrite = 2 | 4, kExecute = 0x20;
constexpr std::uint32_t kDoNotKnow = 0xffffffff;  // no answer came

struct Entry {
  std::uint32_t type, flags, mask;
  std::string who;
};

void Append32(std::string& bytes, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift));
}

// As fattr4_acl on the wire.
std::string Wire(const std::vector<Entry>& entries) {
  std::string bytes;
  Append32(bytes, static_cast<std::uint32_t>(entries.size()));
  for (const Entry& entry : entries) {
    Append32(bytes, entry.type);
    Append32(bytes, entry.flags);
    Append32(bytes, entry.mask);
    Append32(bytes, static_cast<std::uint32_t>(entry.who.size()));
    bytes += entry.who;
    bytes.resize((bytes.size() + 3) / 4 * 4);
  }
  return bytes;
}

struct Answer {
  std::uint32_t status = kDoNotKnow;
  std::string list;  // GETATTR's
  bool has_come = false;
};

void Receive(rpc_context* /*rpc*/, int status, void* data, void* answer_out) {
  auto& answer = *static_cast<Answer*>(answer_out);
  answer.has_come = true;
  if (status != RPC_STATUS_SUCCESS) return;
  const auto& result = *static_cast<COMPOUND4res*>(data);
  answer.status = result.status;
  for (u_int at = 0; at < result.resarray.resarray_len; ++at) {
    const nfs_resop4& op = result.resarray.resarray_val[at];
    if (op.resop != OP_GETATTR || op.nfs_resop4_u.opgetattr.status != NFS4_OK) continue;
    const attrlist4& values =
        op.nfs_resop4_u.opgetattr.GETATTR4res_u.resok4.obj_attributes.attr_vals;
    answer.list.assign(values.attrlist4_val, values.attrlist4_len);
  }
}

class Lists : public testing::Test {
 protected:
  void SetUp() override {
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/fuse";
    server_ = std::move(GaneshaServer::Create()).value();
    door_ = server_->folder() + "/door";
    ASSERT_EQ(::mkdir(door_.c_str(), 0755), 0);
    ASSERT_EQ(::chmod(server_->folder().c_str(), 0755), 0);
    server_->SetModuleOptions("  Posix_Door = \"" + door_ + "\";\n");
    const auto started = server_->Start();
    ASSERT_TRUE(started.has_value()) << started.assume_error().message();
    root_ = Connect(4, 0);
    // libnfs asks for the right to write the folder of what it opens for writing.
    ASSERT_EQ(nfs_chmod(**root_, "/", 0777), 0) << root_->error();
  }
  void TearDown() override {
    root_.reset();
    if (server_ == nullptr || !server_->IsRunning()) return;
    EXPECT_EQ(server_->Terminate(60).value(), 0) << server_->Log();
    const auto report = server_->Check();
    ASSERT_TRUE(report.has_value()) << report.assume_error().message();
    for (const auto& finding : report.assume_value().findings) {
      ADD_FAILURE() << finding.what << ", " << finding.where << ", " << finding.path;
    }
  }

  std::unique_ptr<Client> Connect(int version, int uid) {
    auto client = Client::Mount(server_->Url(version), {.uid = uid, .gid = uid, .name = {}});
    EXPECT_TRUE(client.has_value()) << client.assume_error().message();
    return std::move(client).assume_value();
  }
  // 0, or the negative errno of the open.
  int Opens(int version, int uid, const std::string& path, int flags) {
    const auto client = Connect(version, uid);
    nfsfh* file = nullptr;
    const int result = nfs_open(**client, path.c_str(), flags, &file);
    if (result == 0) nfs_close(**client, file);
    return result;
  }
  // The same on the mount: 0 or an errno.
  int OpensOnMount(int uid, const std::string& path, int flags) {
    const pid_t child = ::fork();
    if (child == 0) {
      const auto id = static_cast<uid_t>(uid);
      if (::setgroups(0, nullptr) != 0 || ::setgid(id) != 0 || ::setuid(id) != 0) ::_exit(255);
      ::_exit(::open((door_ + path).c_str(), flags) >= 0 ? 0 : errno);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
  }

  // PUTROOTFH, LOOKUP of share and name, then SETATTR of the list if there is one, and GETATTR.
  Answer Ask(const std::string& name, const std::string* list) {
    static char share[] = "share";
    std::string last = name;
    std::string value = list == nullptr ? std::string() : *list;
    std::uint32_t bitmap = 1U << FATTR4_ACL;
    nfs_argop4 ops[5] = {};
    u_int count = 0;
    ops[count++].argop = OP_PUTROOTFH;
    for (const std::string_view step : {std::string_view(share), std::string_view(last)}) {
      nfs_argop4& op = ops[count++];
      op.argop = OP_LOOKUP;
      op.nfs_argop4_u.oplookup.objname.utf8string_val = const_cast<char*>(step.data());
      op.nfs_argop4_u.oplookup.objname.utf8string_len = static_cast<u_int>(step.size());
    }
    if (list != nullptr) {
      nfs_argop4& op = ops[count++];
      op.argop = OP_SETATTR;
      fattr4& attributes = op.nfs_argop4_u.opsetattr.obj_attributes;
      attributes.attrmask.bitmap4_len = 1;
      attributes.attrmask.bitmap4_val = &bitmap;
      attributes.attr_vals.attrlist4_len = static_cast<u_int>(value.size());
      attributes.attr_vals.attrlist4_val = value.data();
    }
    nfs_argop4& get = ops[count++];
    get.argop = OP_GETATTR;
    get.nfs_argop4_u.opgetattr.attr_request.bitmap4_len = 1;
    get.nfs_argop4_u.opgetattr.attr_request.bitmap4_val = &bitmap;
    COMPOUND4args arguments = {};
    arguments.argarray.argarray_len = count;
    arguments.argarray.argarray_val = ops;
    Answer answer;
    rpc_context* rpc = nfs_get_rpc_context(**root_);
    EXPECT_EQ(rpc_nfs4_compound_async(rpc, Receive, &arguments, &answer), 0);
    while (!answer.has_come) {
      pollfd waiting = {rpc_get_fd(rpc), static_cast<short>(rpc_which_events(rpc)), 0};
      if (::poll(&waiting, 1, 30'000) <= 0) break;
      if (rpc_service(rpc, waiting.revents) < 0) break;
    }
    return answer;
  }
  std::uint32_t SetList(const std::string& name, const std::vector<Entry>& entries) {
    const std::string wire = Wire(entries);
    return Ask(name, &wire).status;
  }
  std::string GetList(const std::string& name) { return Ask(name, nullptr).list; }
  void Run(const std::string& command) { EXPECT_EQ(::system(command.c_str()), 0) << command; }

  std::unique_ptr<GaneshaServer> server_;
  std::unique_ptr<Client> root_;
  std::string door_;
};

TEST_F(Lists, AnNfs4ListIsKeptAndObeyedByEveryDoor) {
  ASSERT_EQ(root_->WriteStable("/f", "text"), 0) << root_->error();
  ASSERT_EQ(Opens(4, kFriend, "/f", O_WRONLY), -EACCES);
  const std::vector<Entry> list = {{kDeny, 0, kWrite, "1000"},
                                   {kAllow, 0, kRead | kWrite, "OWNER@"},
                                   {kAllow, 0x40, kRead, "77"},
                                   {kAllow, 0, kRead | kWrite, "EVERYONE@"}};
  ASSERT_EQ(SetList("f", list), static_cast<std::uint32_t>(NFS4_OK));
  EXPECT_EQ(GetList("f"), Wire(list));
  EXPECT_EQ(root_->Stat("/f").nfs_mode & 07777, 0666U);
  for (const int version : {3, 4}) {
    EXPECT_EQ(Opens(version, kFriend, "/f", O_RDONLY), 0) << version;
    EXPECT_EQ(Opens(version, kStranger, "/f", O_WRONLY), 0) << version;
  }
  EXPECT_EQ(Opens(4, kFriend, "/f", O_WRONLY), -EACCES);
  EXPECT_EQ(OpensOnMount(kFriend, "/f", O_RDONLY), 0);
  EXPECT_EQ(OpensOnMount(kFriend, "/f", O_WRONLY), EACCES);
  EXPECT_EQ(OpensOnMount(kStranger, "/f", O_WRONLY), 0);
  // chmod on the mount rewrites it, and NFS knows at once.
  ASSERT_EQ(::chmod((door_ + "/f").c_str(), 0604), 0);
  EXPECT_NE(GetList("f"), Wire(list));
  EXPECT_EQ(Opens(4, kStranger, "/f", O_WRONLY), -EACCES);
  EXPECT_EQ(Opens(4, kStranger, "/f", O_RDONLY), 0);
  // It survives the server.
  const std::string kept = GetList("f");
  root_.reset();
  server_->KillHard();
  ASSERT_TRUE(server_->Start().has_value());
  root_ = Connect(4, 0);
  EXPECT_EQ(GetList("f"), kept);
}

TEST_F(Lists, NewFilesInheritAnNfs4List) {
  ASSERT_EQ(nfs_mkdir2(**root_, "/d", 0777), 0) << root_->error();
  constexpr std::uint32_t kAll = kRead | kWrite | kExecute | 0x40;
  ASSERT_EQ(SetList("d", {{kDeny, 1, kWrite, "1000"}, {kAllow, 3, kAll, "EVERYONE@"}}),
            static_cast<std::uint32_t>(NFS4_OK));
  // Over NFSv3: an NFSv4 create of libnfs is an exclusive one, for which the server takes mode
  // 0600.
  const auto third = Connect(3, 0);
  nfsfh* file = nullptr;
  ASSERT_EQ(nfs_open2(**third, "/d/f", O_CREAT | O_WRONLY, 0666, &file), 0) << third->error();
  nfs_close(**third, file);
  EXPECT_EQ(root_->Stat("/d/f").nfs_mode & 0777, 0666U);
  EXPECT_EQ(Opens(4, kFriend, "/d/f", O_WRONLY), -EACCES);
  EXPECT_EQ(Opens(4, kFriend, "/d/f", O_RDONLY), 0);
  EXPECT_EQ(Opens(4, kStranger, "/d/f", O_WRONLY), 0);
}

TEST_F(Lists, WhatNobodyWouldObeyIsRefused) {
  ASSERT_EQ(root_->WriteStable("/f", "text"), 0) << root_->error();
  const std::string before = GetList("f");
  EXPECT_NE(SetList("f", {{kAudit, 0x10, kRead, "EVERYONE@"}}),
            static_cast<std::uint32_t>(NFS4_OK));
  EXPECT_EQ(GetList("f"), before);
  EXPECT_FALSE(before.empty());  // made of the mode
}

TEST_F(Lists, APosixListIsObeyedOverNfs) {
  ASSERT_EQ(root_->WriteStable("/f", "text"), 0) << root_->error();
  ASSERT_EQ(nfs_chmod(**root_, "/f", 0600), 0);
  EXPECT_EQ(Opens(4, kFriend, "/f", O_WRONLY), -EACCES);
  Run("setfacl -m u:1000:rw " + door_ + "/f");
  EXPECT_EQ(OpensOnMount(kFriend, "/f", O_WRONLY), 0);
  EXPECT_EQ(Opens(4, kFriend, "/f", O_WRONLY), 0);
  EXPECT_EQ(Opens(4, kStranger, "/f", O_RDONLY), -EACCES);
  EXPECT_EQ(root_->Stat("/f").nfs_mode & 0777, 0660U);
  // The mask of the list is what an NFS client's chmod sets.
  ASSERT_EQ(nfs_chmod(**root_, "/f", 0640), 0);
  EXPECT_EQ(Opens(4, kFriend, "/f", O_WRONLY), -EACCES);
  EXPECT_EQ(Opens(4, kFriend, "/f", O_RDONLY), 0);
  EXPECT_EQ(OpensOnMount(kFriend, "/f", O_WRONLY), EACCES);
  // What is gone is not obeyed any more, and what NFS has cached of it neither.
  Run("setfacl -b " + door_ + "/f");
  EXPECT_EQ(Opens(4, kFriend, "/f", O_RDONLY), -EACCES);
}

}  // namespace
}  // namespace filer::test
