#include "configs/command/applied.h"

#include <gtest/gtest.h>

namespace filer::command {
namespace {

std::string Refusal(const RunningState& running, bool has_viommu, const UpOptions& options) {
  const auto same = CheckAsRunning(running, has_viommu, options);
  if (same) return "";
  EXPECT_EQ(same.error(), Errc::kRefused);
  return same.error().message();
}

TEST(CheckAsRunning, WhatIsNotNamedIsLeftAsItIs) {
  const RunningState guest{.mode = "guest", .accel = "tcg"};
  EXPECT_EQ(Refusal(guest, true, {}), "");
  EXPECT_EQ(Refusal(guest, false, {.accelerator = "auto"}), "");
  EXPECT_EQ(Refusal(guest, false, {.accelerator = "tcg"}), "");
  EXPECT_EQ(Refusal(guest, true, {.has_viommu = true}), "");
  EXPECT_EQ(Refusal({.mode = "host", .accel = "none"}, false, {}), "");
}

TEST(CheckAsRunning, SaysWhatRunsInstead) {
  const RunningState guest{.mode = "guest", .accel = "tcg"};
  EXPECT_EQ(Refusal(guest, false, {.accelerator = "kvm"}),
            "the running filer uses accelerator tcg; run `filer down` first");
  EXPECT_EQ(Refusal(guest, false, {.has_viommu = true}),
            "the running filer uses a guest without an IOMMU; run `filer down` first");
  const RunningState host{.mode = "host", .accel = "none"};
  const std::string no_guest =
      "the running filer uses no guest (mode host); run `filer down` first";
  EXPECT_EQ(Refusal(host, false, {.accelerator = "tcg"}), no_guest);
  EXPECT_EQ(Refusal(host, false, {.has_viommu = true}), no_guest);
}

TEST(SmbMountLine, SurvivesAnOddHome) {
  const auto config = configs::DefaultConfig("/var/lib/nearmetal");
  const auto line = [&](const std::string& root) {
    return SmbMountLine(Home{.root = root}, config, config.exports.front());
  };
  EXPECT_NE(line("/var/lib/nearmetal").find("$(cat /var/lib/nearmetal/smb.password) "),
            std::string::npos);
  EXPECT_NE(line("/a b").find("$(cat '/a b/smb.password') "), std::string::npos);
  EXPECT_NE(line("/it's").find("$(cat '/it'\\''s/smb.password') "), std::string::npos);
}

}  // namespace
}  // namespace filer::command
