// The k-th request of a fixed run fails, for every k: nothing that was acknowledged is lost, the
// error says what it was, and the volume mounts again.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "fsal/engine/device/sim_device.h"
#include "tests/sim/file_run.h"

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kVolumeBytes = 64ULL << 20;

enum class Fault { kOnceAndStop, kOnceAndGoOn, kForEver, kNoSpaceOnce };

SimOptions Options() {
  SimOptions options;
  options.size_bytes = kVolumeBytes;
  return options;
}

class FaultTest : public ::testing::TestWithParam<Fault> {
 protected:
  void SetUp() override {
    KeepFreedMemory();
    const auto device = SimDevice::Create(Options()).value();
    FormatOptions format;
    format.volume_name = "sim";
    format.random_seed = 3;
    format.clock = &clock_;
    ASSERT_TRUE(Engine::Format(*device, format).has_value());
    image_ = device->CurrentImage();
    const auto engine = Engine::Mount(*device, clock_, QuietMountOptions());
    empty_ = ReadModel(*engine.value()).value();
    mount_.dirty_bytes_max = 48 << 10;
    mount_.cache_bytes = 1 << 20;
    const char* seed = std::getenv("FILER_SEED");
    sequence_ = DrawSequence(seed == nullptr ? 3 : std::strtoull(seed, nullptr, 10),
                             std::getenv("FILER_LONG") == nullptr ? 100 : 700, 1);
    // The same run on a device that works: what each operation would have made.
    ManualClock clock = clock_;
    Issued issued;
    const auto reference = SimDevice::Create(Options(), image_).value();
    FileRun run(*reference, clock, mount_, sequence_.seed, empty_, issued);
    ASSERT_EQ(run.Mount(), "");
    for (const Operation& operation : sequence_.lives.front()) ASSERT_EQ(run.Do(operation), "");
    reference_ = run.steps();
  }

  Errc StatusOf() const { return GetParam() == Fault::kNoSpaceOnce ? Errc::kNoSpace : Errc::kIo; }

  void VerifyImage(SimImage image, const std::vector<const FileModel*>& allowed) {
    const auto device = SimDevice::Create(Options(), std::move(image)).value();
    auto engine = Engine::Mount(*device, clock_, QuietMountOptions());
    ASSERT_TRUE(engine.has_value()) << engine.error().message();
    const auto found = ReadModel(*engine.value());
    ASSERT_TRUE(found.has_value()) << found.error().message();
    std::string text;
    bool is_allowed = false;
    for (const FileModel* model : allowed) {
      const std::string difference = Difference(found.value(), *model, false);
      is_allowed = is_allowed || difference.empty();
      text += difference + "; ";
    }
    EXPECT_TRUE(is_allowed) << text;
    engine.value().reset();
    const auto report = Engine::Check(*device, true);
    ASSERT_TRUE(report.has_value()) << report.error().message();
    EXPECT_TRUE(report.value().findings.empty()) << report.value().findings.front().what;
    EXPECT_EQ(report.value().inodes, found.value().nodes.size());
  }

  // The process dies, the machine does not; or the machine dies, too.
  void VerifyDevice(const SimDevice& device, const std::vector<const FileModel*>& allowed,
                    std::uint64_t seed) {
    VerifyImage(device.CurrentImage(), allowed);
    for (int draw = 0; draw < 2; ++draw) VerifyImage(device.CrashImage(seed * 2 + draw), allowed);
  }

  // Before, between and after the operation that failed.
  std::vector<const FileModel*> Around(const FileRun& run) const {
    const std::size_t done = run.steps().size();
    std::vector<const FileModel*> around{done == 0 ? &empty_ : &run.steps().back().after};
    if (done == reference_.size()) return around;
    if (reference_[done].during.has_value()) around.push_back(&*reference_[done].during);
    around.push_back(&reference_[done].after);
    return around;
  }

  // False: the run ended before the request.
  bool RunWith(std::uint64_t ordinal) {
    SimOptions options = Options();
    options.seed = ordinal;
    const auto device = SimDevice::Create(options, image_).value();
    device->FailRequest(ordinal, StatusOf(), GetParam() == Fault::kForEver);
    ManualClock clock = clock_;
    Issued issued;
    FileRun run(*device, clock, mount_, sequence_.seed, empty_, issued);
    run.ExpectFailures();
    if (const std::string wrong = run.Mount(); !wrong.empty()) {
      EXPECT_NE(wrong, "mount: ");
      VerifyDevice(*device, {&empty_}, ordinal);
      return true;
    }
    bool has_failed = false;
    for (const Operation& operation : sequence_.lives.front()) {
      EXPECT_EQ(run.Do(operation), "");
      if (::testing::Test::HasFailure()) return false;
      if (!run.has_failed()) continue;
      if (has_failed) {
        ADD_FAILURE() << "failed again: " << Text(operation) << ErrcText(run.failure());
        return false;
      }
      has_failed = true;
      if (!run.is_mounted()) {  // a remount in between
        VerifyDevice(*device, Around(run), ordinal);
        return true;
      }
      CheckError(run, operation);
      if (!GoesOn(run, operation, *device, ordinal)) return true;
    }
    const std::uint64_t requests = device->RequestCount();
    if (requests < ordinal) return false;
    VerifyDevice(*device, {&run.model()}, ordinal);
    if (GetParam() != Fault::kForEver) Finish(run, *device);
    return true;
  }

  void CheckError(FileRun& run, const Operation& operation) {
    const Errc code = run.failure();
    const bool is_ended = run.engine().Health().has_error();
    const bool is_clear =
        code == Errc::kIo || code == StatusOf() || (is_ended && code == Errc::kReadOnly);
    EXPECT_TRUE(is_clear) << Text(operation) << ": " << ErrcText(code);
    if (!is_ended) return;
    // From here on nothing is promised any more.
    EXPECT_FALSE(run.engine().Health().error().message().empty());
    const auto refused = run.engine().Create(Caller{}, run.engine().Root(), "late", {});
    EXPECT_TRUE(refused.has_error());
  }

  bool GoesOn(FileRun& run, const Operation& operation, const SimDevice& device,
              std::uint64_t ordinal) {
    const auto around = Around(run);
    const bool stops = GetParam() == Fault::kOnceAndStop || GetParam() == Fault::kForEver ||
                       run.engine().Health().has_error() ||
                       operation.kind == OperationKind::kRemount;
    if (stops) {
      run.Kill();
      VerifyDevice(device, around, ordinal);
      return false;
    }
    EXPECT_EQ(run.GoOnAfterFailure(around), "") << Text(operation);
    return !::testing::Test::HasFailure();
  }

  // Once the device works again all can be made durable.
  void Finish(FileRun& run, SimDevice& device) {
    if (run.engine().Health().has_error()) return;
    const auto synced = run.engine().SyncAll();
    ASSERT_TRUE(synced.has_value()) << synced.error().message();
    FileModel settled = run.model();
    for (auto& [inode, node] : settled.nodes) node.SettleAll();
    VerifyDevice(device, {&settled}, 1);
  }

  ManualClock clock_;
  SimImage image_{kVolumeBytes};
  FileModel empty_;
  MountOptions mount_ = QuietMountOptions();
  Sequence sequence_;
  std::vector<RunStep> reference_;
};

TEST_P(FaultTest, OfEveryRequestLosesNothingThatWasAcknowledged) {
  std::uint64_t ordinal = 1;
  for (; !HasFailure(); ++ordinal) {
    SCOPED_TRACE("request " + std::to_string(ordinal) + ", seed " + std::to_string(sequence_.seed) +
                 " (FILER_SEED)");
    if (!RunWith(ordinal)) break;
  }
  EXPECT_GT(ordinal, 50U);
}

std::string NameOf(const ::testing::TestParamInfo<Fault>& way) {
  constexpr const char* kNames[] = {"OnceAndStop", "OnceAndGoOn", "ForEver", "NoSpaceOnce"};
  return kNames[static_cast<int>(way.param)];
}

INSTANTIATE_TEST_SUITE_P(Ways, FaultTest,
                         ::testing::Values(Fault::kOnceAndStop, Fault::kOnceAndGoOn,
                                           Fault::kForEver, Fault::kNoSpaceOnce),
                         NameOf);

}  // namespace
}  // namespace filer::engine::sim
