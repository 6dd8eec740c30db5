// nfs_test.cc: file operations through a real server and a client library that knows nothing of us,
// over NFSv3 and NFSv4.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "tests/integration/nfs/client.h"
#include "tests/integration/nfs/ganesha_server.h"

namespace filer::test {
namespace {

constexpr int kTerminateSeconds = 60;

template <typename T>
T Need(Result<T> result) {
  if (!result.has_value()) {
    ADD_FAILURE() << result.assume_error().message();
    std::abort();  // ctest runs one case per process; the destructors' work is a leftover folder in
                   // /tmp
  }
  return std::move(result).assume_value();
}

// Starts a server on a fresh volume; at the end stops it cleanly and checks the volume.
class Nfs : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    server_ = Need(GaneshaServer::Create());
    const auto started = server_->Start();
    ASSERT_TRUE(started.has_value()) << started.assume_error().message();
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    if (server_->IsRunning()) {
      const auto exit_code = server_->Terminate(kTerminateSeconds);
      ASSERT_TRUE(exit_code.has_value()) << exit_code.assume_error().message();
      EXPECT_EQ(exit_code.assume_value(), 0) << server_->Log();
    }
    const auto report = server_->Check();
    ASSERT_TRUE(report.has_value()) << report.assume_error().message();
    for (const auto& finding : report.assume_value().findings) {
      ADD_FAILURE() << finding.what << " at " << finding.where << " " << finding.path;
    }
    if (HasFailure()) std::cerr << server_->Log();
  }
  std::unique_ptr<Client> Mount(const ClientOptions& options = {}) {
    return Need(Client::Mount(server_->Url(GetParam()), options));
  }

  std::unique_ptr<GaneshaServer> server_;
};

TEST_P(Nfs, WritesAndReadsBack) {
  const auto client = Mount();
  // Lengths and request sizes that are no multiples of anything, and a whole MiB at once.
  for (const auto& [size, chunk] : std::vector<std::pair<std::size_t, std::size_t>>{
           {0, 4096}, {1, 4096}, {4097, 4096}, {100'003, 1001}, {3 << 20, 1 << 20}}) {
    const std::string path = "/file" + std::to_string(size);
    const std::string content = Pattern(size, size);
    ASSERT_EQ(client->WriteFile(path, content, chunk), 0) << client->error();
    EXPECT_EQ(client->Stat(path).nfs_size, size);
    EXPECT_TRUE(Need(client->ReadFile(path, chunk)) == content) << path;
    EXPECT_TRUE(Need(client->ReadFile(path, 7777)) == content) << path;
  }
}

TEST_P(Nfs, ReadsFromAnyOffset) {
  const auto client = Mount();
  const std::string content = Pattern(40'000, 7);
  ASSERT_EQ(client->WriteStable("/f", content), 0);
  nfsfh* file = nullptr;
  ASSERT_EQ(nfs_open(**client, "/f", O_RDONLY, &file), 0);
  for (const std::uint64_t offset : {0, 1, 4093, 4095, 4096, 8191, 39'999, 40'000, 50'000}) {
    for (const std::uint64_t length : {1, 2, 3, 4, 5, 4096, 4099, 12'289}) {
      std::string buffer(length, '\0');
      const int count = nfs_pread(**client, file, offset, length, buffer.data());
      const std::string expected = offset > content.size() ? "" : content.substr(offset, length);
      ASSERT_EQ(count, static_cast<int>(expected.size())) << offset << " + " << length;
      EXPECT_TRUE(buffer.substr(0, expected.size()) == expected) << offset << " + " << length;
    }
  }
  nfs_close(**client, file);
}

TEST_P(Nfs, ReadsWithoutCopies) {
  const auto client = Mount();
  const std::string content = Pattern(4 << 20, 3);
  ASSERT_EQ(client->WriteStable("/f", content), 0);
  EXPECT_TRUE(Need(client->ReadFile("/f", 1 << 20)) == content);
  const Json status = Need(server_->Status());
  EXPECT_TRUE(status["healthy"].get<bool>()) << status.dump();
  EXPECT_GE(status["counters"]["read_bytes"].get<std::uint64_t>(), content.size());
  EXPECT_EQ(status["counters"]["copied_read_bytes"].get<std::uint64_t>(), 0U) << status.dump();
}

TEST_P(Nfs, MakesRenamesLinksAndRemoves) {
  const auto client = Mount();
  nfs_context* nfs = **client;
  ASSERT_EQ(nfs_mkdir2(nfs, "/a", 0750), 0) << client->error();
  ASSERT_EQ(nfs_mkdir2(nfs, "/b", 0755), 0);
  EXPECT_EQ(client->Stat("/a").nfs_mode & 07777, 0750U);
  EXPECT_EQ(nfs_mkdir(nfs, "/a"), -EEXIST);
  ASSERT_EQ(client->WriteFile("/a/one", "one"), 0);
  EXPECT_EQ(nfs_rmdir(nfs, "/a"), -ENOTEMPTY);

  ASSERT_EQ(nfs_rename(nfs, "/a/one", "/b/two"), 0) << client->error();
  EXPECT_EQ(Need(client->ReadFile("/b/two")), "one");
  EXPECT_EQ(client->Stat("/a/one").nfs_ino, 0U);
  ASSERT_EQ(client->WriteFile("/b/three", "three"), 0);
  ASSERT_EQ(nfs_rename(nfs, "/b/two", "/b/three"), 0) << "over an existing file";
  EXPECT_EQ(Need(client->ReadFile("/b/three")), "one");

  ASSERT_EQ(nfs_link(nfs, "/b/three", "/a/hard"), 0) << client->error();
  EXPECT_EQ(client->Stat("/a/hard").nfs_ino, client->Stat("/b/three").nfs_ino);
  EXPECT_EQ(client->Stat("/a/hard").nfs_nlink, 2U);

  ASSERT_EQ(nfs_symlink(nfs, "../b/three", "/a/soft"), 0) << client->error();
  char target[64] = {};
  ASSERT_EQ(nfs_readlink(nfs, "/a/soft", target, sizeof(target)), 0);
  EXPECT_STREQ(target, "../b/three");

  ASSERT_EQ(nfs_unlink(nfs, "/b/three"), 0);
  EXPECT_EQ(client->Stat("/a/hard").nfs_nlink, 1U);
  EXPECT_EQ(Need(client->ReadFile("/a/hard")), "one");
  EXPECT_EQ(nfs_unlink(nfs, "/b/three"), -ENOENT);
  ASSERT_EQ(nfs_unlink(nfs, "/a/hard"), 0);
  ASSERT_EQ(nfs_unlink(nfs, "/a/soft"), 0);
  ASSERT_EQ(nfs_rmdir(nfs, "/a"), 0);
  EXPECT_THAT(Need(client->List("/")), testing::ElementsAre("b"));
}

TEST_P(Nfs, MakesSpecialFiles) {
  const auto client = Mount();
  ASSERT_EQ(nfs_mknod(**client, "/disk", S_IFBLK | 0600, static_cast<int>((8 << 8) | 1)), 0);
  if (GetParam() == 3) {  // libnfs 5.0.2 has no FIFO over NFSv4
    ASSERT_EQ(nfs_mknod(**client, "/fifo", S_IFIFO | 0640, 0), 0) << client->error();
    EXPECT_EQ(client->Stat("/fifo").nfs_mode & S_IFMT, static_cast<std::uint64_t>(S_IFIFO));
    EXPECT_EQ(client->Stat("/fifo").nfs_mode & 07777, 0640U);
  }
  EXPECT_EQ(client->Stat("/disk").nfs_mode & S_IFMT, static_cast<std::uint64_t>(S_IFBLK));
}

TEST_P(Nfs, WritingTakesPrivilegesAway) {
  const auto owner = Mount();
  const auto other = Mount();
  // Over NFSv4 libnfs 5.0.2 asks whether it may write into the folder before it opens a file of it.
  ASSERT_EQ(nfs_mkdir(**owner, "/folder"), 0);
  ASSERT_EQ(nfs_chmod(**owner, "/folder", 0777), 0);
  const char* path = "/folder/f";
  nfs_set_uid(**other, 1000);
  nfs_set_gid(**other, 1000);
  const auto modes_after = [&](mode_t mode, const auto& change) {
    EXPECT_EQ(owner->WriteFile(path, "0123456789"), 0);
    EXPECT_EQ(nfs_chmod(**owner, path, static_cast<int>(mode)), 0) << owner->error();
    change();
    const auto left = owner->Stat(path).nfs_mode & 07777;
    EXPECT_EQ(nfs_unlink(**owner, path), 0);
    return left;
  };
  const auto write = [&](const auto& client) {
    nfsfh* file = nullptr;
    ASSERT_EQ(nfs_open(**client, path, O_WRONLY, &file), 0) << client->error();
    EXPECT_EQ(nfs_pwrite(**client, file, 0, 1, "x"), 1) << client->error();
    EXPECT_EQ(nfs_close(**client, file), 0);
  };
  EXPECT_EQ(modes_after(06777, [&] { write(owner); }), 06777U);
  EXPECT_EQ(modes_after(06777, [&] { write(other); }), 0777U);
  EXPECT_EQ(modes_after(06767, [&] { write(other); }), 02767U);  // no setgid, a mandatory lock
  const auto cut = [&] {
    EXPECT_EQ(nfs_truncate(**other, path, 3), 0) << other->error();
  };
  EXPECT_EQ(modes_after(06777, cut), 0777U);
}

TEST_P(Nfs, SetsAttributes) {
  const auto client = Mount();
  nfs_context* nfs = **client;
  ASSERT_EQ(client->WriteFile("/f", "0123456789"), 0);
  ASSERT_EQ(nfs_chmod(nfs, "/f", 0604), 0) << client->error();
  nfsfh* file =
      nullptr;  // by handle: libnfs 5.0.2 changes the parent folder's owner in nfs_chown over NFSv4
  ASSERT_EQ(nfs_open(nfs, "/f", O_RDWR, &file), 0) << client->error();
  ASSERT_EQ(nfs_fchown(nfs, file, 1234, 4321), 0) << client->error();
  ASSERT_EQ(nfs_close(nfs, file), 0);
  timeval times[2] = {{1'000'000'001, 0}, {1'234'567'890, 123'456}};
  ASSERT_EQ(nfs_utimes(nfs, "/f", times), 0) << client->error();
  const nfs_stat_64 status = client->Stat("/f");
  EXPECT_EQ(status.nfs_mode & 07777, 0604U);
  EXPECT_EQ(status.nfs_uid, 1234U);
  EXPECT_EQ(status.nfs_gid, 4321U);
  EXPECT_EQ(status.nfs_atime, 1'000'000'001U);
  EXPECT_EQ(status.nfs_mtime, 1'234'567'890U);
  EXPECT_EQ(status.nfs_mtime_nsec, 123'456'000U);

  ASSERT_EQ(nfs_truncate(nfs, "/f", 4), 0) << client->error();
  EXPECT_EQ(Need(client->ReadFile("/f")), "0123");
  ASSERT_EQ(nfs_truncate(nfs, "/f", 10'000), 0);
  EXPECT_TRUE(Need(client->ReadFile("/f")) == "0123" + std::string(9996, '\0'));
}

TEST_P(Nfs, TellsTheSpace) {
  const auto client = Mount();
  struct statvfs before = {};
  ASSERT_EQ(nfs_statvfs(**client, "/", &before), 0) << client->error();
  const auto total_bytes = before.f_blocks * before.f_frsize;
  EXPECT_GT(total_bytes, 900ULL << 20);
  EXPECT_LE(total_bytes, 1ULL << 30);
  ASSERT_EQ(client->WriteStable("/big", Pattern(20 << 20, 5)), 0);
  struct statvfs after = {};
  ASSERT_EQ(nfs_statvfs(**client, "/", &after), 0);
  EXPECT_GE((before.f_bfree - after.f_bfree) * before.f_frsize, 20ULL << 20);
}

TEST_P(Nfs, ListsTwoThousandEntriesOnce) {
  const auto client = Mount();
  ASSERT_EQ(nfs_mkdir(**client, "/many"), 0);
  std::set<std::string> expected;
  for (int i = 0; i < 2000; ++i) {
    const std::string name = "entry-" + std::to_string(i);
    nfsfh* file = nullptr;
    ASSERT_EQ(nfs_creat(**client, ("/many/" + name).c_str(), 0644, &file), 0) << client->error();
    nfs_close(**client, file);
    expected.insert(name);
  }
  const auto names = Need(client->List("/many"));
  EXPECT_EQ(names.size(), expected.size());
  EXPECT_TRUE(std::set<std::string>(names.begin(), names.end()) == expected);
  // A second client, when the server has the directory cached and it changed meanwhile.
  for (int i = 0; i < 2000; i += 2) {
    const std::string name = "entry-" + std::to_string(i);
    ASSERT_EQ(nfs_unlink(**client, ("/many/" + name).c_str()), 0);
    expected.erase(name);
  }
  const auto rest = Need(Mount()->List("/many"));
  EXPECT_EQ(rest.size(), expected.size());
  EXPECT_TRUE(std::set<std::string>(rest.begin(), rest.end()) == expected);
}

TEST_P(Nfs, ExclusiveCreateIsExclusive) {
  const auto client = Mount();
  nfsfh* file = nullptr;
  ASSERT_EQ(nfs_open2(**client, "/x", O_CREAT | O_EXCL | O_WRONLY, 0600, &file), 0)
      << client->error();
  nfs_close(**client, file);
  EXPECT_EQ(nfs_open2(**client, "/x", O_CREAT | O_EXCL | O_WRONLY, 0600, &file), -EEXIST);
}

TEST_P(Nfs, ModesBindOthers) {
  const auto root = Mount();
  ASSERT_EQ(nfs_mkdir2(**root, "/open", 0777), 0);
  ASSERT_EQ(nfs_mkdir2(**root, "/closed", 0755), 0);
  ASSERT_EQ(root->WriteFile("/closed/f", "secret"), 0);
  ASSERT_EQ(nfs_chmod(**root, "/closed/f", 0600), 0);

  const auto user = Mount({.uid = 1000, .gid = 1000, .name = "user"});
  ASSERT_EQ(user->WriteFile("/open/mine", "mine"), 0) << user->error();
  EXPECT_EQ(user->Stat("/open/mine").nfs_uid, 1000U);
  EXPECT_EQ(user->WriteFile("/closed/new", "x"), -EACCES);
  EXPECT_EQ(nfs_unlink(**user, "/closed/f"), -EACCES);
  EXPECT_EQ(nfs_rename(**user, "/closed/f", "/open/f"), -EACCES);
  EXPECT_EQ(nfs_mkdir(**user, "/closed/d"), -EACCES);
  EXPECT_FALSE(user->ReadFile("/closed/f").has_value());
  // Truncation is refused before it happens.
  nfsfh* file = nullptr;
  EXPECT_NE(nfs_open(**user, "/closed/f", O_WRONLY | O_TRUNC, &file), 0);
  EXPECT_EQ(Need(root->ReadFile("/closed/f")), "secret");
  // Sticky: one may not remove another's file.
  ASSERT_EQ(nfs_chmod(**root, "/open", 01777), 0);
  const auto other = Mount({.uid = 2000, .gid = 2000, .name = "other"});
  EXPECT_LT(nfs_unlink(**other, "/open/mine"), 0);
  EXPECT_EQ(nfs_unlink(**user, "/open/mine"), 0) << user->error();
}

INSTANTIATE_TEST_SUITE_P(Versions, Nfs, testing::Values(3, 4), [](const auto& information) {
  return "V" + std::to_string(information.param);
});

// What only NFSv4 has.
class Nfs4 : public Nfs {};

TEST_P(Nfs4, LocksExcludeOtherClients) {
  const auto first = Mount({.name = "first"});
  const auto second = Mount({.name = "second"});
  ASSERT_EQ(first->WriteFile("/f", Pattern(1000, 1)), 0);
  nfsfh* first_file = nullptr;
  nfsfh* second_file = nullptr;
  ASSERT_EQ(nfs_open(**first, "/f", O_RDWR, &first_file), 0) << first->error();
  ASSERT_EQ(nfs_open(**second, "/f", O_RDWR, &second_file), 0) << second->error();
  ASSERT_EQ(nfs_lockf(**first, first_file, NFS4_F_TLOCK, 100), 0) << first->error();
  EXPECT_LT(nfs_lockf(**second, second_file, NFS4_F_TLOCK, 100), 0);
  EXPECT_LT(nfs_lockf(**second, second_file, NFS4_F_TEST, 100), 0);
  ASSERT_EQ(nfs_lockf(**first, first_file, NFS4_F_ULOCK, 100), 0) << first->error();
  // A third client: libnfs 5.0.2 reuses the sequence number of a denied LOCK, which makes the next
  // one a replay.
  const auto third = Mount({.name = "third"});
  nfsfh* third_file = nullptr;
  ASSERT_EQ(nfs_open(**third, "/f", O_RDWR, &third_file), 0) << third->error();
  EXPECT_EQ(nfs_lockf(**third, third_file, NFS4_F_TLOCK, 100), 0) << third->error();
  nfs_close(**first, first_file);
  nfs_close(**second, second_file);
  nfs_close(**third, third_file);
}

TEST_P(Nfs4, OpenFileOutlivesItsName) {
  const auto client = Mount({.name = "holder"});
  const auto other = Mount({.name = "remover"});
  const std::string content = Pattern(10'000, 9);
  ASSERT_EQ(client->WriteStable("/f", content), 0);
  nfsfh* file = nullptr;
  ASSERT_EQ(nfs_open(**client, "/f", O_RDONLY, &file), 0);
  ASSERT_EQ(nfs_unlink(**other, "/f"), 0) << other->error();
  std::string buffer(content.size(), '\0');
  EXPECT_EQ(nfs_pread(**client, file, 0, buffer.size(), buffer.data()),
            static_cast<int>(content.size()))
      << client->error();
  EXPECT_TRUE(buffer == content);
  EXPECT_EQ(nfs_close(**client, file), 0);
  EXPECT_TRUE(Need(client->List("/")).empty());
}

INSTANTIATE_TEST_SUITE_P(Versions, Nfs4, testing::Values(4), [](const auto&) { return "V4"; });

}  // namespace
}  // namespace filer::test
