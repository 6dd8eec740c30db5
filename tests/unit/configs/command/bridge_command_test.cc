#include "configs/command/bridge_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace filer::command {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsSupersetOf;
using testing::Not;

TEST(BridgeCommand, NamesEveryVolumeAndTheCoreIfThereIsOne) {
  const Home home{.root = "/h"};
  const Installation installation{.programs = "/bin"};
  const auto config = configs::DefaultConfig(home.root);
  EXPECT_THAT(BridgeCommand(home, installation, config, {5}),
              ElementsAre("/bin/bridge-keeper", "--control", "/h/run/keeper.sock", "--ready",
                          "/h/run/bridge.sock", "--", "/bin/host-bridge", "--control",
                          "/h/run/bridge.sock", "--cpu", "5", "--volume",
                          "name=main,backend=file,socket=/h/run/v0.sock,path=/h/volumes/main.img"));
  EXPECT_THAT(BridgeCommand(home, installation, config, {}), Not(Contains("--cpu")));
}

TEST(BridgeCommand, SaysHowManyPollersAndWhere) {
  auto config = configs::DefaultConfig("/h");
  EXPECT_THAT(BridgeCommand({.root = "/h"}, {.programs = "/bin"}, config, {}),
              Not(Contains("--pollers")));
  config.bridge.pollers = 2;
  const auto words = BridgeCommand({.root = "/h"}, {.programs = "/bin"}, config, {3, 2});
  EXPECT_THAT(words, IsSupersetOf({"--pollers", "2", "--cpu", "3,2"}));
}

TEST(BridgeCommand, PassesTheLimitsOfAVolume) {
  auto config = configs::DefaultConfig("/h");
  config.volumes[0].iops_max = 20'000;
  config.volumes[0].bytes_per_s_max = 200 << 20;
  EXPECT_EQ(BridgeCommand({.root = "/h"}, {.programs = "/bin"}, config, {}).back(),
            "name=main,backend=file,socket=/h/run/v0.sock,path=/h/volumes/main.img,iops=20000,"
            "bps=209715200");
}

}  // namespace
}  // namespace filer::command
