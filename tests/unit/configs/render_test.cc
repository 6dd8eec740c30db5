// Golden files: what the renderers write for one small and one full configuration. After a
// deliberate change run configs_test with FILER_UPDATE_GOLDEN=1 and read the difference.
#include "configs/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"

namespace filer::configs {
namespace {

using testing::HasSubstr;
using testing::Not;

RunPaths Paths() {
  return {.run_dir = "/run/nearmetal",
          .plugins_dir = "/usr/lib/nearmetal/ganesha",
          .device = "pci:0000:00:10.0",
          .status_socket = "/run/nearmetal/nfs.sock",
          .posix_door = "/run/nearmetal/mnt"};
}

ApplianceConfig FullConfig() {
  const ParsedConfig parsed = ParseConfig(R"(
[appliance]
name = "office_filer.example-7"
[nfs]
port = 12049
address = "0.0.0.0"
[smb]
port = 1445
address = "10.0.0.1"
[[volume]]
name = "data"
[[export]]
name = "all"
path = "/"
squash = "none"
clients = ["10.0.0.0/8", "fd00::/8", "192.168.1.7"]
[[export]]
name = "pub.ro"
path = "/with blank/pub"
read_only = true
squash = "all"
anonymous_uid = 1000
anonymous_gid = 1001
[[export]]
name = "nobody"
clients = []
[[export]]
name = "nfs-only"
protocols = ["nfs"]
[[export]]
name = "smb-only"
protocols = ["smb"]
)",
                                          "full.toml", "/h");
  EXPECT_TRUE(parsed.is_valid()) << testing::PrintToString(parsed.errors);
  return parsed.config;
}

void ExpectGolden(const std::string& name, const std::string& text) {
  const std::string path = std::string(FILER_GOLDEN_DIR "/") + name;
  if (std::getenv("FILER_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(WriteFileAtomically(path, text).has_value());
  }
  EXPECT_EQ(text, ReadWholeFile(path).value());
}

TEST(RenderGanesha, Golden) {
  ExpectGolden("default.ganesha.conf", RenderGanesha(DefaultConfig("/h"), Paths()).value());
  ExpectGolden("full.ganesha.conf", RenderGanesha(FullConfig(), Paths()).value());
}

TEST(RenderSamba, Golden) {
  ExpectGolden("default.smb.conf", RenderSamba(DefaultConfig("/h"), Paths()).value());
  ExpectGolden("full.smb.conf", RenderSamba(FullConfig(), Paths()).value());
}

TEST(RenderGanesha, AnExportWithoutRulesLetsNobodyIn) {
  ApplianceConfig config = DefaultConfig("/h");
  config.exports[0].clients.clear();
  const std::string text = RenderGanesha(config, Paths()).value();
  EXPECT_THAT(text, Not(HasSubstr("CLIENT {")));
  EXPECT_THAT(text, HasSubstr("Access_Type = None;"));
}

TEST(RenderSamba, WithoutADoorThereAreNoShares) {
  RunPaths paths = Paths();
  paths.posix_door.clear();
  EXPECT_THAT(RenderSamba(DefaultConfig("/h"), paths).value(), Not(HasSubstr("[share]")));
  EXPECT_THAT(RenderGanesha(DefaultConfig("/h"), paths).value(), Not(HasSubstr("Posix_Door")));
}

TEST(Render, RefusesValuesThatWouldBecomeSettings) {
  for (const char* evil : {"/a\"; Squash = None; #", "/a\nguest ok = yes", "/a\\", "/a\r"}) {
    ApplianceConfig config = DefaultConfig("/h");
    config.exports[0].path = evil;
    EXPECT_EQ(RenderGanesha(config, Paths()).error(), Errc::kInvalidArgument) << evil;
    EXPECT_EQ(RenderSamba(config, Paths()).error(), Errc::kInvalidArgument) << evil;
    RunPaths paths = Paths();
    paths.run_dir = evil;
    EXPECT_EQ(RenderGanesha(DefaultConfig("/h"), paths).error(), Errc::kInvalidArgument) << evil;
    EXPECT_EQ(RenderSamba(DefaultConfig("/h"), paths).error(), Errc::kInvalidArgument) << evil;
  }
  ApplianceConfig config = DefaultConfig("/h");
  config.exports[0].clients = {"*; Squash = None"};
  EXPECT_FALSE(RenderGanesha(config, Paths()).has_value());
  EXPECT_FALSE(RenderSamba(config, Paths()).has_value());
  config = DefaultConfig("/h");
  config.exports[0].name = "x]\nguest ok = yes";
  EXPECT_FALSE(RenderGanesha(config, Paths()).has_value());
  EXPECT_FALSE(RenderSamba(config, Paths()).has_value());
  config = DefaultConfig("/h");
  config.nfs.address = config.smb.address = "0.0.0.0; x";
  EXPECT_FALSE(RenderGanesha(config, Paths()).has_value());
  EXPECT_FALSE(RenderSamba(config, Paths()).has_value());
  RunPaths paths = Paths();
  paths.posix_door = "/mnt/%U";
  EXPECT_FALSE(RenderSamba(DefaultConfig("/h"), paths).has_value());
}

TEST(ExportIds, DependOnTheNameNotOnTheOrder) {
  std::vector<ExportConfig> exports(3);
  exports[0].name = "a";
  exports[1].name = "b";
  exports[2].name = "c";
  const auto before = ExportIds(exports);
  exports.erase(exports.begin());
  const auto after = ExportIds(exports);
  EXPECT_EQ(before[1], after[0]);
  EXPECT_EQ(before[2], after[1]);
}

TEST(ExportIds, AreDistinctAndNeverZero) {
  std::vector<ExportConfig> exports(2000);
  for (std::size_t i = 0; i < exports.size(); ++i) exports[i].name = "e" + std::to_string(i);
  auto ids = ExportIds(exports);
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(std::adjacent_find(ids.begin(), ids.end()), ids.end());
  EXPECT_GT(ids.front(), 0);
}

TEST(PrepareSamba, KeepsEverythingBelowTheRunFolder) {
  const SambaSetup setup = PrepareSamba("conf", "filer", "secret", "/run/x").value();
  for (const auto& directory : setup.directories) {
    EXPECT_EQ(directory.path.rfind("/run/x/samba", 0), 0U);
  }
  EXPECT_EQ(setup.files.at(1).content, "!nobody = filer\n");
  EXPECT_EQ(setup.add_user_input, "secret\nsecret\n");
}

TEST(PrepareSamba, RefusesWhatTheToolsCannotTake) {
  EXPECT_FALSE(PrepareSamba("", "filer", "", "/run/x").has_value());
  EXPECT_FALSE(PrepareSamba("", "filer", "a\nb", "/run/x").has_value());
  EXPECT_FALSE(PrepareSamba("", "a b", "secret", "/run/x").has_value());
  EXPECT_FALSE(PrepareSamba("", "filer", "secret", "run").has_value());
}

// Samba's own parser must find nothing to complain about, and every share.
TEST(RenderSamba, TestparmAcceptsIt) {
  if (std::system("command -v testparm >/dev/null") != 0) GTEST_SKIP() << "no testparm here";
  const std::string folder = testing::TempDir() + "testparm_" + std::to_string(::getpid());
  std::filesystem::create_directories(folder);
  RunPaths paths = Paths();
  paths.run_dir = folder;
  const SambaSetup setup =
      PrepareSamba(RenderSamba(FullConfig(), paths).value(), "filer", "secret", folder).value();
  for (const auto& directory : setup.directories) {
    std::filesystem::create_directories(directory.path);
    ASSERT_EQ(::chmod(directory.path.c_str(), directory.mode), 0);
  }
  for (const auto& file : setup.files) {
    ASSERT_TRUE(
        WriteFileAtomically(file.path, file.content, static_cast<int>(file.mode)).has_value());
  }
  const int status = std::system(
      ("testparm -s " + folder + "/samba/smb.conf >" + folder + "/out 2>" + folder + "/err")
          .c_str());
  const std::string out = ReadWholeFile(folder + "/out").value();
  const std::string err = ReadWholeFile(folder + "/err").value();
  std::filesystem::remove_all(folder);
  EXPECT_EQ(status, 0) << err;
  for (const char* bad : {"Unknown", "Ignoring", "ERROR", "WARNING", "invalid", "found in"}) {
    EXPECT_THAT(err, Not(HasSubstr(bad)));
  }
  for (const char* share : {"[all]", "[pub.ro]", "[nobody]", "[smb-only]"}) {
    EXPECT_THAT(out, HasSubstr(share));
  }
  EXPECT_THAT(out, HasSubstr(paths.posix_door + "/with blank/pub"));
}

}  // namespace
}  // namespace filer::configs
