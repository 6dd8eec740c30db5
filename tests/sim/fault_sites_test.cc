// The k-th request fails, once or for ever, for every k of the calls that come before and after the
// operations of fault_test.cc: Format, Mount with a log to replay, Mount with a map of used space
// to make anew, Unmount, Check. None of them takes a failed read for the contents, says that a
// volume is sound which it could not read, or leaves a volume that the next mount refuses.
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <optional>

#include "base/units.h"
#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/format/label.h"
#include "tests/sim/file_run.h"

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kVolumeBytes = 64ULL << 20;
constexpr std::uint64_t kRequestsMost = 5000;

SimOptions Options(std::uint64_t seed = 1) {
  SimOptions options;
  options.size_bytes = kVolumeBytes;
  options.seed = seed;
  return options;
}

std::unique_ptr<SimDevice> DeviceOn(const SimImage& image, std::uint64_t seed = 1) {
  return SimDevice::Create(Options(seed), image).value();
}

class FaultSites : public ::testing::TestWithParam<bool> {  // for ever
 protected:
  void SetUp() override {
    KeepFreedMemory();
    const auto device = SimDevice::Create(Options()).value();
    FormatOptions format;
    format.volume_name = "sites";
    format.random_seed = 3;
    format.clock = &clock_;
    ASSERT_TRUE(Engine::Format(*device, format).has_value());
    Issued issued;
    FileModel empty;
    {
      const auto engine = Engine::Mount(*device, clock_, QuietMountOptions());
      empty = ReadModel(*engine.value()).value();
    }
    const Sequence sequence = DrawSequence(12, 300, 1);
    FileRun run(*device, clock_, QuietMountOptions(), sequence.seed, empty, issued);
    ASSERT_EQ(run.Mount(), "");
    for (const Operation& operation : sequence.lives.front()) {
      if (operation.kind == OperationKind::kRemount) continue;
      ASSERT_EQ(run.Do(operation), "");
    }
    // All is stable from here on: any later state has all of it.
    ASSERT_TRUE(run.engine().SyncAll().has_value());
    killed_ = device->CurrentImage();
    const auto end = DeviceOn(killed_);
    auto engine = Engine::Mount(*end, clock_, QuietMountOptions());
    model_ = ReadModel(*engine.value()).value();
    ASSERT_GT(model_.nodes.size(), 8U);
    ASSERT_TRUE(engine.value()->Unmount().has_value());
    unmounted_ = end->CurrentImage();
  }

  // The device works again, the machine perhaps started anew.
  void VerifyDevice(const SimDevice& device, std::uint64_t seed) {
    for (const SimImage& image :
         {device.CurrentImage(), device.CrashImage(seed), device.CrashImage(seed + 1)}) {
      const auto after = DeviceOn(image);
      auto engine = Engine::Mount(*after, clock_, QuietMountOptions());
      ASSERT_TRUE(engine.has_value()) << engine.error().message();
      const auto found = ReadModel(*engine.value());
      ASSERT_TRUE(found.has_value()) << found.error().message();
      EXPECT_EQ(Difference(found.value(), model_, true), "");
      engine.value().reset();
      const auto report = Engine::Check(*after, true);
      ASSERT_TRUE(report.has_value()) << report.error().message();
      EXPECT_TRUE(report.value().findings.empty()) << report.value().findings.front().what;
    }
  }

  // A call that meets the fault; `run` says whether it ended well.
  void EachRequest(const SimImage& image,
                   const std::function<void(SimDevice& device, std::uint64_t ordinal)>& run) {
    std::uint64_t ordinal = 1;
    for (bool is_met = true; is_met && !HasFailure(); ++ordinal) {
      ASSERT_LT(ordinal, kRequestsMost);
      SCOPED_TRACE("request " + std::to_string(ordinal));
      const auto device = DeviceOn(image, ordinal);
      run(*device, ordinal);
      is_met = IsMet();
    }
    EXPECT_GT(ordinal, 3U);
    RecordProperty("requests", static_cast<int>(ordinal - 1));
  }
  void Fail(SimDevice& device, std::uint64_t ordinal) {
    failed_.reset();
    device.SetFaultHook([this, ordinal, count = std::uint64_t{0}](const BlockRequest& request,
                                                                  std::uint64_t) mutable {
      SimVerdict verdict;
      ++count;
      if (count < ordinal || (count > ordinal && !GetParam())) return verdict;
      if (!failed_.has_value()) failed_ = {request.operation, request.offset_bytes / kBlockBytes};
      verdict.fault = SimFault::kFail;
      return verdict;
    });
  }
  bool IsMet() const { return failed_.has_value(); }
  // A read of what is there twice, label or uberblocks, that failed once.
  bool HasACopy() const {
    const auto layout = PlanVolume(kVolumeBytes).value();
    return !GetParam() && failed_.has_value() && failed_->operation == BlockOperation::kRead &&
           (failed_->block < layout.log_first_block || failed_->block == layout.block_count - 1);
  }
  // A failed read is no damage.
  static void ExpectNoDamageIsSaid(const Error& error) {
    EXPECT_FALSE(error == Errc::kCorrupt) << error.message();
    EXPECT_FALSE(error == Errc::kNotOurs) << error.message();
    EXPECT_FALSE(error.message().empty());
  }

  void MountEach(const SimImage& image) {
    EachRequest(image, [&](SimDevice& device, std::uint64_t ordinal) {
      Fail(device, ordinal);
      auto engine = Engine::Mount(device, clock_, QuietMountOptions());
      if (!engine.has_value()) {
        ExpectNoDamageIsSaid(engine.error());
      } else if (!GetParam()) {
        // The failure was survived, or comes later: what is shown is right, or the error is said.
        const auto found = ReadModel(*engine.value());
        EXPECT_EQ(found.has_value() ? Difference(found.value(), model_, true) : "", "");
      }
      if (engine.has_value()) engine.value().reset();
      VerifyDevice(device, ordinal);
    });
  }

  ManualClock clock_;
  SimImage killed_{kVolumeBytes}, unmounted_{kVolumeBytes};
  FileModel model_;
  struct Failed {
    BlockOperation operation;
    std::uint64_t block;
  };
  std::optional<Failed> failed_;  // the first
};

TEST_P(FaultSites, OfAMountThatReplaysALog) { MountEach(killed_); }

TEST_P(FaultSites, OfAMountAfterAnUnmount) { MountEach(unmounted_); }

TEST_P(FaultSites, OfAMountThatMakesTheMapAnew) {
  const auto layout = PlanVolume(kVolumeBytes).value();
  SimImage image = killed_;
  for (std::uint64_t at = 0; at < layout.map_block_count; ++at) {
    image.FlipBit((layout.map_first_block + at) * kBlockBytes + 100, 1);
  }
  MountEach(image);
}

TEST_P(FaultSites, OfAnUnmount) {
  EachRequest(killed_, [&](SimDevice& device, std::uint64_t ordinal) {
    auto engine = Engine::Mount(device, clock_, QuietMountOptions());
    ASSERT_TRUE(engine.has_value());
    Fail(device, ordinal);
    const auto unmounted = engine.value()->Unmount();
    EXPECT_EQ(unmounted.has_error(), IsMet());
    engine.value().reset();
    VerifyDevice(device, ordinal);
  });
}

TEST_P(FaultSites, OfACheckAreSaid) {
  EachRequest(killed_, [&](SimDevice& device, std::uint64_t ordinal) {
    Fail(device, ordinal);
    const auto report = Engine::Check(device, true);
    const bool is_sound = report.has_value() && report.value().findings.empty();
    EXPECT_EQ(is_sound, !IsMet() || HasACopy());
    if (report.has_error()) ExpectNoDamageIsSaid(report.error());
    EXPECT_TRUE(device.CurrentImage().SameContents(killed_));
  });
}

// What was there, none, or the new one; never one that mounts and is not right.
TEST_P(FaultSites, OfAFormat) {
  for (const bool is_over_a_volume : {false, true}) {
    const SimImage image = is_over_a_volume ? killed_ : SimImage(kVolumeBytes);
    EachRequest(image, [&](SimDevice& device, std::uint64_t ordinal) {
      Fail(device, ordinal);
      FormatOptions format;
      format.volume_name = "again";
      format.random_seed = 4;
      format.overwrite = true;
      format.clock = &clock_;
      const auto formatted = Engine::Format(device, format);
      // One failed read may be made up for: label, uberblocks, the map of used space.
      const bool may_end_well =
          !IsMet() || (!GetParam() && failed_->operation == BlockOperation::kRead);
      EXPECT_TRUE(may_end_well || formatted.has_error());
      EXPECT_TRUE(IsMet() || formatted.has_value());
      for (const SimImage& after : {device.CurrentImage(), device.CrashImage(ordinal)}) {
        const auto again = DeviceOn(after);
        auto engine = Engine::Mount(*again, clock_, QuietMountOptions());
        if (!engine.has_value()) {
          EXPECT_TRUE(IsMet()) << engine.error().message();
          continue;
        }
        const auto found = ReadModel(*engine.value());
        ASSERT_TRUE(found.has_value()) << found.error().message();
        if (engine.value()->VolumeName() == "again") {
          EXPECT_EQ(found.value().nodes.size(), 1U);
        } else {
          EXPECT_EQ(Difference(found.value(), model_, true), "");
        }
      }
    });
  }
}

// More leaves than one, all in a checkpoint, and files that lost their names while they were held:
// a mount has to read what it frees.
class FaultSitesOfALargerTree : public FaultSites {
 protected:
  void SetUp() override {
    FaultSites::SetUp();
    const auto device = DeviceOn(unmounted_);
    MountOptions options = QuietMountOptions();
    options.checkpoint_interval_ms = 5;
    auto engine = Engine::Mount(*device, clock_, options).value();
    const NodeId root = engine->Root();
    for (int at = 0; at < 1200; ++at) {
      const std::string name = "orphan" + std::to_string(at);
      const NodeId node = engine->Create(Caller{}, root, name, {}).value().node.id;
      if (at % 300 != 7) continue;
      ASSERT_TRUE(engine->Hold(node).has_value());
      ASSERT_TRUE(engine->Remove(Caller{}, root, name, RemoveKind::kAny).has_value());
    }
    const auto checkpoints = engine->Counters().checkpoints;
    ASSERT_TRUE(engine->Create(Caller{}, root, "last", {}).has_value());
    while (engine->Counters().checkpoints == checkpoints) ::usleep(1000);
    engine.reset();
    killed_ = device->CurrentImage();
    const auto after = DeviceOn(killed_);
    model_ = ReadModel(*Engine::Mount(*after, clock_, QuietMountOptions()).value()).value();
  }
};

TEST_P(FaultSitesOfALargerTree, OfAMountThatFreesWhatHasNoNames) { MountEach(killed_); }

TEST_P(FaultSitesOfALargerTree, OfTheFirstCreationAfterAMount) {
  EachRequest(killed_, [&](SimDevice& device, std::uint64_t ordinal) {
    auto engine = Engine::Mount(device, clock_, QuietMountOptions());
    ASSERT_TRUE(engine.has_value());
    Fail(device, ordinal);
    const auto made = engine.value()->Create(Caller{}, engine.value()->Root(), "fresh", {});
    EXPECT_EQ(made.has_value(), !IsMet());
    if (made.has_error()) ExpectNoDamageIsSaid(made.error());
  });
}

INSTANTIATE_TEST_SUITE_P(Ways, FaultSitesOfALargerTree, ::testing::Values(false, true),
                         [](const auto& way) { return way.param ? "ForEver" : "Once"; });
INSTANTIATE_TEST_SUITE_P(Ways, FaultSites, ::testing::Values(false, true),
                         [](const auto& way) { return way.param ? "ForEver" : "Once"; });

}  // namespace
}  // namespace filer::engine::sim
