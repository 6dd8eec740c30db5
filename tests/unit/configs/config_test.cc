#include "configs/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"

namespace filer::configs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kHome = "/var/lib/nearmetal";

std::vector<std::string> ErrorsOf(std::string_view text) {
  return ParseConfig(text, "x.toml", kHome).errors;
}

TEST(ParseConfig, TheShippedFileIsTheDefault) {
  const std::string text = ReadWholeFile(FILER_CONFIGS_DIR "/default.toml").value();
  const ParsedConfig parsed = ParseConfig(text, "default.toml", kHome);
  EXPECT_THAT(parsed.errors, ElementsAre());
  EXPECT_EQ(parsed.config, DefaultConfig(kHome));
}

TEST(ParseConfig, AnEmptyFileIsTheDefault) {
  EXPECT_THAT(ErrorsOf(""), ElementsAre());
  EXPECT_EQ(ParseConfig("", "x", kHome).config, DefaultConfig(kHome));
  EXPECT_EQ(DefaultConfig(kHome).volumes.at(0).path, "/var/lib/nearmetal/volumes/main.img");
}

TEST(ParseConfig, AGuestOnATapOrAVfHasItsOwnAddress) {
  for (const auto& [nic, kind, device] :
       {std::tuple{"tap:nm0", Nic::kTap, "nm0"}, {"vf:0000:03:10.2", Nic::kVf, "0000:03:10.2"}}) {
    const ParsedConfig parsed =
        ParseConfig(std::string("[guest]\nnic = \"") + nic +
                        "\"\naddress = \"192.0.2.5/24\"\ngateway = \"192.0.2.1\"\n",
                    "x.toml", kHome);
    ASSERT_THAT(parsed.errors, ElementsAre());
    EXPECT_EQ(parsed.config.guest.nic, kind);
    EXPECT_EQ(parsed.config.guest.nic_device, device);
    EXPECT_EQ(parsed.config.guest.address, "192.0.2.5/24");
    EXPECT_EQ(parsed.config.guest.gateway, "192.0.2.1");
    EXPECT_EQ(parsed.config.nfs.address, "192.0.2.5");
    EXPECT_EQ(parsed.config.smb.address, "192.0.2.5");
  }
}

TEST(ParseConfig, ReadsEveryKey) {
  const ParsedConfig parsed = ParseConfig(R"(
[appliance]
name = "box-7"
[guest]
memory_mb = 2048
cpus = 4
accel = "tcg"
[bridge]
pollers = 3
[nfs]
port = 12049
mount_port = 12050
address = "0.0.0.0"
[smb]
port = 1445
address = "::1"
user = "office"
[[volume]]
name = "data"
path = "/srv/data.img"
size = "64M"
backend = "memory"
[[export]]
name = "one"
path = "/x/one"
volume = "data"
protocols = ["nfs"]
read_only = true
squash = "all"
anonymous_uid = 1000
anonymous_gid = 1001
clients = ["10.0.0.0/8", "192.168.1.7"]
mode = 0o750
[[export]]
name = "two"
)",
                                          "x.toml", kHome);
  ASSERT_THAT(parsed.errors, ElementsAre());
  const ApplianceConfig& config = parsed.config;
  EXPECT_EQ(config.name, "box-7");
  EXPECT_EQ(config.guest, (GuestConfig{2048, 4, Accelerator::kTcg}));
  EXPECT_EQ(config.bridge.pollers, 3U);
  EXPECT_EQ(config.nfs, (NfsConfig{12049, 12050, "0.0.0.0"}));
  EXPECT_EQ(config.smb, (SmbConfig{1445, "::1", "office"}));
  EXPECT_THAT(config.volumes, ElementsAre(VolumeConfig{"data", "/srv/data.img", 64ULL << 20,
                                                       VolumeBackend::kMemory}));
  ASSERT_EQ(config.exports.size(), 2U);
  EXPECT_EQ(config.exports[0], (ExportConfig{"one",
                                             "/x/one",
                                             "data",
                                             true,
                                             false,
                                             true,
                                             Squash::kAll,
                                             1000,
                                             1001,
                                             {"10.0.0.0/8", "192.168.1.7"},
                                             0750}));
  EXPECT_EQ(config.exports[1].path, "/two");
  EXPECT_EQ(config.exports[1].volume, "data");
  EXPECT_TRUE(config.exports[1].smb);
}

TEST(ParseConfig, DerivedDefaultsFollowWhatIsGiven) {
  const ParsedConfig parsed = ParseConfig(
      "[nfs]\nport = 3000\naddress = \"10.0.0.1\"\n[[volume]]\nname = \"v\"\n", "x", "/h");
  ASSERT_THAT(parsed.errors, ElementsAre());
  EXPECT_EQ(parsed.config.nfs.mount_port, 3001);
  EXPECT_EQ(parsed.config.smb.address, "10.0.0.1");
  EXPECT_EQ(parsed.config.volumes[0].path, "/h/volumes/v.img");
  EXPECT_EQ(parsed.config.exports.at(0).volume, "v");
}

TEST(ParseConfig, AVolumeHasNoLimitsUnlessTheyAreGiven) {
  EXPECT_EQ(ParseConfig("[[volume]]\nname = \"v\"\n", "x", "/h").config.volumes[0].iops_max, 0U);
  const ParsedConfig parsed =
      ParseConfig("[[volume]]\niops_max = 5000\nbandwidth_max = \"200M\"\n", "x", "/h");
  ASSERT_THAT(parsed.errors, ElementsAre());
  EXPECT_EQ(parsed.config.volumes[0].iops_max, 5000U);
  EXPECT_EQ(parsed.config.volumes[0].bytes_per_s_max, 200ULL << 20);
}

TEST(ParseConfig, SaysEverythingAtOnceWithPlaces) {
  EXPECT_THAT(
      ErrorsOf("[guest]\n"
               "memory = 5\n"
               "cpus = \"two\"\n"
               "[nsf]\n"
               "[smb]\n"
               "port = 70000\n"),
      ElementsAre("x.toml:2:1: unknown key \"memory\" in [guest]; did you mean \"memory_mb\"?",
                  "x.toml:3:8: cpus in [guest]: is a string; write a whole number from 1 to "
                  "256",
                  "x.toml:4:2: unknown key \"nsf\" in the file; did you mean \"nfs\"?",
                  "x.toml:6:8: port in [smb]: 70000 is out of range; write 1 to 65535"));
}

TEST(ParseConfig, SaysWhereTomlIsBroken) {
  const auto errors = ErrorsOf("[nfs]\nport = = 1\n");
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_THAT(errors[0], StartsWith("x.toml:2:"));
  EXPECT_THAT(errors[0], HasSubstr("not valid TOML"));
}

TEST(ParseConfig, PortsMustDiffer) {
  EXPECT_THAT(ErrorsOf("[nfs]\nport = 444\n"),
              ElementsAre("x.toml:1:1: port in [smb]: port 445 is that of nfs.mount_port already; "
                          "choose another for smb.port"));
  EXPECT_EQ(ErrorsOf("[nfs]\nport = 9\nmount_port = 9\n[smb]\nport = 9\n").size(), 2U);
}

TEST(ParseConfig, RefusesASecondVolumeForNow) {
  const auto errors = ErrorsOf("[[volume]]\nname = \"a\"\n[[volume]]\nname = \"b\"\n");
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_THAT(errors[0], StartsWith("x.toml:3:"));
  EXPECT_THAT(errors[0], HasSubstr("not supported yet"));
}

struct BadCase {
  const char* text;
  const char* message;
};
class RefusesEach : public testing::TestWithParam<BadCase> {};

TEST_P(RefusesEach, WithOneClearLine) {
  const auto errors = ErrorsOf(GetParam().text);
  ASSERT_EQ(errors.size(), 1U) << GetParam().text << testing::PrintToString(errors);
  EXPECT_THAT(errors[0], HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    ParseConfig, RefusesEach,
    testing::Values(
        BadCase{"appliance = 1", "write a table, [appliance]"},
        BadCase{"[appliance]\nname = \"a b\"", "write 1 to 63"},
        BadCase{"[guest]\nmemory_mb = 1", "write 256 to"},
        BadCase{"[guest]\nnic = \"tap\"", "write \"user\", \"tap:NAME\""},
        BadCase{"[guest]\nnic = \"tap:a/b\"\naddress = \"192.0.2.5/24\"", "tap:NAME"},
        BadCase{"[guest]\nnic = \"vf:03:10.2\"\naddress = \"192.0.2.5/24\"", "vf:0000"},
        BadCase{"[guest]\nnic = \"tap:t0\"", "needs the guest's address"},
        BadCase{"[guest]\nnic = \"tap:t0\"\naddress = \"192.0.2.5\"", "with its prefix"},
        BadCase{"[guest]\nnic = \"tap:t0\"\naddress = \"192.0.2.5/32\"", "with its prefix"},
        BadCase{"[guest]\nnic = \"tap:t0\"\naddress = \"192.0.2.5/24\"\ngateway = \"x\"",
                "gateway"},
        BadCase{"[guest]\naddress = \"192.0.2.5/24\"", "remove it"},
        BadCase{"[guest]\nnic = \"tap:t0\"\naddress = \"192.0.2.5/24\"\n[nfs]\naddress = "
                "\"127.0.0.1\"",
                "is that of [guest]"},
        BadCase{"[guest]\naccel = \"kmv\"", "write one of auto, kvm, tcg (\"kvm\"?)"},
        BadCase{"[nfs]\naddress = \"localhost\"", "write an address such as"},
        BadCase{"[nfs]\nport = 0", "write 1 to 65535"},
        BadCase{"[nfs]\nport = 1.5", "number with a point"},
        BadCase{"[smb]\nuser = \"Root!\"", "small letters"},
        BadCase{"[volume]\nname = \"a\"", "write it with two brackets"},
        BadCase{"volume = [1]", "write tables"},
        BadCase{"[[volume]]\nsize = \"63M\"", "write 64M to 64T"},
        BadCase{"[[volume]]\nsize = \"lots\"", "write a number with K, M, G or T"},
        BadCase{"[[volume]]\nsize = 100000001", "multiple of 4096"},
        BadCase{"[[volume]]\nsize = -1", "negative"},
        BadCase{"[[volume]]\npath = \"main.img\"", "absolute path"},
        BadCase{"[[volume]]\niops_max = 0", "1 to 1000000000"},
        BadCase{"[[volume]]\nbandwidth_max = \"fast\"", "bytes per second"},
        BadCase{"[[volume]]\nbandwidth_max = 1000", "from 64K up"},
        BadCase{"[[volume]]\npath = \"/a/../b\"", "the part '..'"},
        BadCase{"[[volume]]\npath = \"/x/a,readonly=on\"",
                "x.toml:2:8: path in [[volume]]: it holds ',', which would end it among the "
                "bridge's options; write an absolute path such as"},
        BadCase{"[[volume]]\nbackend = \"memory\"\npath = \"/,\"", "it holds ','"},
        BadCase{"[[volume]]\nbackend = \"null\"", "write one of file, memory"},
        BadCase{"[[export]]\nvolume = \"other\"", "no [[volume]] of that name"},
        BadCase{"[[export]]\nname = \"Global\"", "choose another name"},
        BadCase{"[[export]]\nname = \"a\"\n[[export]]\nname = \"A\"", "is taken"},
        BadCase{"[[export]]\nprotocols = [\"ftp\", \"nfs\"]", "\"nfs\" and/or \"smb\""},
        BadCase{"[[export]]\nprotocols = []", "is empty"},
        BadCase{"[[export]]\nprotocols = \"nfs\"", "write a list"},
        BadCase{"[[export]]\nread_only = 1", "write true or false"},
        BadCase{"[[export]]\nsquash = \"rot\"", "(\"root\"?)"},
        BadCase{"[[export]]\nanonymous_uid = 4294967295", "out of range"},
        BadCase{"[[export]]\nclients = [\"10.1.1.1/8\"]", "\"10.0.0.0/8\" for the network"},
        BadCase{"[[export]]\nclients = [\"10.1.1.1\", \"10.1.1.1/32\"]", "there twice"},
        BadCase{"[[export]]\nclients = [7]", "write strings"},
        BadCase{"[[export]]\nmode = \"0999\"", "octal digits"},
        BadCase{"[[export]]\nmode = 0o10000", "octal digits"},
        BadCase{"[[export]]\nexports = 1979-05-27", "unknown key \"exports\""}));

TEST(ParseConfig, ControlCharactersOfTheFileDoNotReachTheTerminal) {
  const auto errors = ErrorsOf("\"a\\u001b[2J\" = 1\n");
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].find('\x1b'), std::string::npos);
}

TEST(LoadConfig, JoinsTheErrorsAndNamesTheMissingFile) {
  const std::string path = testing::TempDir() + "load_config_" + std::to_string(::getpid());
  ASSERT_TRUE(WriteFileAtomically(path, "a = 1\nb = 2\n").has_value());
  const auto bad = LoadConfig(path, kHome);
  ::unlink(path.c_str());
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error(), Errc::kConfigInvalid);
  EXPECT_THAT(bad.error().message(), HasSubstr(path + ":1:1: "));
  EXPECT_THAT(bad.error().message(), HasSubstr("\n" + path + ":2:1: "));
  const auto missing = LoadConfig(path, kHome);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error(), Errc::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr(path));
}

}  // namespace
}  // namespace filer::configs
