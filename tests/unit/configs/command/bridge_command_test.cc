#include "configs/command/bridge_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace filer::command {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;

TEST(BridgeCommand, NamesEveryVolumeAndTheCoreIfThereIsOne) {
  const Home home{.root = "/h"};
  const Installation installation{.programs = "/bin"};
  const auto config = configs::DefaultConfig(home.root);
  EXPECT_THAT(BridgeCommand(home, installation, config, 5),
              ElementsAre("/bin/bridge-keeper", "--control", "/h/run/keeper.sock", "--ready",
                          "/h/run/bridge.sock", "--", "/bin/host-bridge", "--control",
                          "/h/run/bridge.sock", "--cpu", "5", "--volume",
                          "name=main,backend=file,socket=/h/run/v0.sock,path=/h/volumes/main.img"));
  EXPECT_THAT(BridgeCommand(home, installation, config, std::nullopt), Not(Contains("--cpu")));
}

}  // namespace
}  // namespace filer::command
