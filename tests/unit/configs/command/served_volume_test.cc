// Commands on a volume that is served: this process is the filer, and an RpcServer its engine.
#include "configs/command/served_volume.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <span>

#include "base/crc32c.h"
#include "configs/command/console.h"
#include "configs/command/volumes.h"

namespace filer::command {
namespace {

namespace fs = std::filesystem;

std::uint32_t DigestOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> piece(1 << 20);
  std::uint32_t digest = 0;
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())), file.gcount() > 0) {
    const std::span<const char> got(piece.data(), static_cast<std::size_t>(file.gcount()));
    digest = digest * 31 + Crc32c(std::as_bytes(got));
  }
  return digest;
}

class ServedVolumeTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(home_.FilerFolder());
    fs::create_directories(home_.Volumes());
    options_.name = "main";
    state_.mode = "host";
    state_.filer = IdentifyProcess(::getpid()).value();
    state_.config_text = "[[volume]]\nname = \"main\"\nsize = \"128M\"\n[[export]]\nname = \"s\"\n";
    ASSERT_TRUE(WriteFileAtomically(home_.ConfigFile(), state_.config_text, 0600).has_value());
  }
  void TearDown() override {
    engine_.reset();
    fs::remove_all(home_.root);
  }
  // What the engine answers to a method; the last one for ever.
  void Answer(const std::string& method, std::deque<Json> answers) {
    methods_[method] = [this, answers = std::move(answers),
                        method](const Json& params) mutable -> Result<Json> {
      asked_.push_back({{"method", method}, {"params", params}});
      Json answer = answers.front();
      if (answers.size() > 1) answers.pop_front();
      return answer;
    };
  }
  void Refuse(const std::string& method, Errc code) {
    methods_[method] = [code](const Json&) -> Result<Json> { return Error(code, "the reason"); };
  }
  void Serve() {
    ASSERT_TRUE(SaveState(home_, state_).has_value());
    engine_ = RpcServer::Listen(home_.EngineSocket(), std::move(methods_)).value();
  }
  ScrubOptions Scrub() const {
    ScrubOptions scrub;
    scrub.volume = options_;
    return scrub;
  }
  static Json Pass(const std::string& state, const Json& findings = Json::array()) {
    return {{"state", state},    {"percent", 12.5},      {"seconds", 3},
            {"remaining_s", 20}, {"findings", findings}, {"bytes_verified", 1u << 20}};
  }
  // Runs a command: its exit code, and in `out_` and `err_` what it said.
  template <typename Command>
  int Run(Command command) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = command();
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return code;
  }

  const Home home_{.root = testing::TempDir() + "served_" + std::to_string(::getpid())};
  VolumeOptions options_;
  RunningState state_;
  RpcMethods methods_;
  std::vector<Json> asked_;
  std::unique_ptr<RpcServer> engine_;
  std::string out_, err_;
};

TEST_F(ServedVolumeTest, IsTheFirstOneOfWhatRuns) {
  EXPECT_FALSE(FindServed(home_, options_).value().has_value());
  ASSERT_TRUE(SaveState(home_, state_).has_value());
  EXPECT_TRUE(FindServed(home_, options_).value().has_value());
  options_.path = "/another/main.img";
  EXPECT_FALSE(FindServed(home_, options_).value().has_value());
  options_.path.clear();
  options_.name = "other";
  EXPECT_FALSE(FindServed(home_, options_).value().has_value());
  EXPECT_EQ(RequireServed(home_, options_).error(), Errc::kNotRunning);
  options_.name = "main";
  state_.filer.start_ticks += 1;  // somebody else's pid by now
  ASSERT_TRUE(SaveState(home_, state_).has_value());
  EXPECT_FALSE(FindServed(home_, options_).value().has_value());
}

TEST_F(ServedVolumeTest, IsShownAsItsEngineSays) {
  ASSERT_TRUE(CreateVolume(FindVolume(home_, options_).value()).has_value());
  Answer("volume.show", {{{"name", "main"},
                          {"uuid", "00112233445566778899aabbccddeeff"},
                          {"files", 17},
                          {"log", {{"bytes", 4096}, {"used_bytes", 1024}}}}});
  Serve();
  options_.as_json = true;
  ASSERT_EQ(Run([this] { return VolumeShow(home_, options_); }), kExitOk) << err_;
  const Json shown = Json::parse(out_);
  EXPECT_EQ(shown["served"], true);
  EXPECT_EQ(shown["state"], "served");
  EXPECT_EQ(shown["uuid"], "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_EQ(shown["size_bytes"], FindVolume(home_, options_).value().size_bytes);
  EXPECT_EQ(shown["engine"]["files"], 17);
  options_.as_json = false;
  ASSERT_EQ(Run([this] { return VolumeShow(home_, options_); }), kExitOk) << err_;
  EXPECT_NE(out_.find("1.0 KiB of 4.0 KiB"), std::string::npos) << out_;
}

TEST_F(ServedVolumeTest, IsShownAlsoWhenItsEngineTalksNonsense) {
  ASSERT_TRUE(CreateVolume(FindVolume(home_, options_).value()).has_value());
  Answer("volume.show", {{{"name", 3}, {"log", "x"}, {"space", {1, 2}}, {"data_cache", nullptr}}});
  Serve();
  EXPECT_EQ(Run([this] { return VolumeShow(home_, options_); }), kExitOk) << err_;
}

TEST_F(ServedVolumeTest, SaysWhyItsEngineDoesNotTell) {
  ASSERT_TRUE(CreateVolume(FindVolume(home_, options_).value()).has_value());
  Refuse("volume.show", Errc::kNotRunning);
  Serve();
  EXPECT_EQ(Run([this] { return VolumeShow(home_, options_); }), kExitNotRunning);
  EXPECT_NE(err_.find("the reason"), std::string::npos) << err_;
}

TEST_F(ServedVolumeTest, IsShownFromItsFileWhenNobodyServesIt) {
  const auto volume = FindVolume(home_, options_).value();
  ASSERT_TRUE(CreateVolume(volume).has_value());
  options_.as_json = true;
  const std::uint32_t before = DigestOf(volume.path);
  ASSERT_EQ(Run([this] { return VolumeShow(home_, options_); }), kExitOk) << err_;
  const Json shown = Json::parse(out_);
  EXPECT_EQ(shown["served"], false);
  EXPECT_EQ(shown["state"], "ok");
  EXPECT_EQ(shown["engine"]["files"], 1);
  EXPECT_EQ(shown["engine"]["mount"]["read_only"], true);
  EXPECT_GT(shown["engine"]["space"]["free_bytes"].get<std::uint64_t>(), 0u);
  EXPECT_EQ(DigestOf(volume.path), before);  // a look changes nothing
  options_.as_json = false;
  ASSERT_EQ(Run([this] { return VolumeShow(home_, options_); }), kExitOk) << err_;
  EXPECT_NE(out_.find("0 log groups to recover"), std::string::npos) << out_;
  EXPECT_EQ(out_.find("commits"), std::string::npos) << out_;  // those of a look are none
}

TEST_F(ServedVolumeTest, IsNotCheckedBesideItsEngine) {
  Refuse("scrub.status", Errc::kNotSupported);
  Serve();
  EXPECT_EQ(Run([this] { return VolumeCheck(home_, options_); }), kExitRefused);
  EXPECT_NE(err_.find("filer down"), std::string::npos) << err_;
  EXPECT_EQ(err_.find("scrub"), std::string::npos) << err_;  // it has none
  engine_.reset();
  Answer("scrub.status", {Pass("never")});
  Serve();
  EXPECT_EQ(Run([this] { return VolumeCheck(home_, options_); }), kExitRefused);
  EXPECT_NE(err_.find("filer volume scrub main"), std::string::npos) << err_;
}

TEST_F(ServedVolumeTest, ScrubIsFollowedToItsEnd) {
  Answer("scrub.start", {Json::object()});
  Answer("scrub.status", {Pass("running"), Pass("running"), Pass("finished")});
  Serve();
  ScrubOptions scrub = Scrub();
  scrub.rate = "64M";
  EXPECT_EQ(Run([&] { return VolumeScrub(home_, scrub); }), kExitOk) << err_;
  EXPECT_NE(out_.find("scrub finished"), std::string::npos) << out_;
  ASSERT_EQ(asked_.size(), 4u);
  EXPECT_EQ(asked_[0]["params"], Json({{"bytes_per_second", 64u << 20}}));
}

TEST_F(ServedVolumeTest, ScrubThatRunsAlreadyIsFollowed) {
  Refuse("scrub.start", Errc::kBusy);
  Answer("scrub.status", {Pass("running"), Pass("finished")});
  Serve();
  EXPECT_EQ(Run([this] { return VolumeScrub(home_, Scrub()); }), kExitOk) << err_;
}

TEST_F(ServedVolumeTest, ScrubTellsWhatItFoundByItsExitCode) {
  const Json finding = {{"what", "checksum"}, {"where", "block 7"}, {"path", "/a/b"}};
  Answer("scrub.status", {Pass("finished", Json::array({finding})), Pass("failed")});
  Serve();
  ScrubOptions scrub = Scrub();
  scrub.is_status = true;
  EXPECT_EQ(Run([&] { return VolumeScrub(home_, scrub); }), kExitFailed);
  EXPECT_NE(out_.find("block 7: checksum, file /a/b"), std::string::npos) << out_;
  scrub.volume.as_json = true;
  EXPECT_EQ(Run([&] { return VolumeScrub(home_, scrub); }), kExitFailed);
  EXPECT_EQ(Json::parse(out_)["schema"], "filer.scrub/1");
}

TEST_F(ServedVolumeTest, ScrubStopsAndStartsInTheBackground) {
  Answer("scrub.start", {Json::object()});
  Answer("scrub.stop", {Json::object()});
  Answer("scrub.status", {Pass("running"), Pass("stopped")});
  Serve();
  ScrubOptions scrub = Scrub();
  scrub.is_background = true;
  EXPECT_EQ(Run([&] { return VolumeScrub(home_, scrub); }), kExitOk) << err_;
  EXPECT_NE(out_.find("12.5%, 3 s, about 20 s left"), std::string::npos) << out_;
  scrub.is_background = false;
  scrub.is_stopping = true;
  EXPECT_EQ(Run([&] { return VolumeScrub(home_, scrub); }), kExitOk) << err_;
  EXPECT_NE(out_.find("scrub stopped"), std::string::npos) << out_;
}

TEST_F(ServedVolumeTest, ScrubNeedsAnEngineThatHasIt) {
  EXPECT_EQ(Run([this] { return VolumeScrub(home_, Scrub()); }), kExitNotRunning);
  Refuse("scrub.start", Errc::kNotSupported);
  Serve();
  EXPECT_EQ(Run([this] { return VolumeScrub(home_, Scrub()); }), kExitFailed);
  EXPECT_NE(err_.find("the reason"), std::string::npos) << err_;
  ScrubOptions scrub = Scrub();
  scrub.rate = "fast";
  EXPECT_EQ(Run([&] { return VolumeScrub(home_, scrub); }), kExitUsage);
}

}  // namespace
}  // namespace filer::command
