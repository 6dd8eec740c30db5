// A small volume is filled with everything at once until nothing fits, and emptied, again and
// again, also by mounts that die: the same space is free as at the start, the same keys are there.
// FILER_SEED: of the draws (1). 20 rounds; with FILER_LONG 1000.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/engine.h"
#include "fsal/engine/tree/store.h"
#include "tests/sim/file_run.h"

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kVolumeBytes = 64ULL << 20;
const Caller kRoot{};

struct Space {
  std::uint64_t inodes = 0, used_blocks = 0, free_blocks = 0, keys = 0, node_units = 0;
  friend bool operator==(const Space&, const Space&) = default;
};

std::ostream& operator<<(std::ostream& out, const Space& space) {
  return out << space.inodes << " inodes, " << space.used_blocks << " blocks used, "
             << space.free_blocks << " free, " << space.keys << " keys, " << space.node_units
             << " nodes";
}

class SpaceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    KeepFreedMemory();
    SimOptions options;
    options.size_bytes = kVolumeBytes;
    device_ = SimDevice::Create(options).value();
    FormatOptions format;
    format.volume_name = "space";
    format.random_seed = seed_;
    ASSERT_TRUE(Engine::Format(*device_, format).has_value());
  }

  void Mount() {
    MountOptions options = QuietMountOptions();
    options.dirty_bytes_max = 2 << 20;
    auto mounted = Engine::Mount(*device_, SystemClock(), options);
    ASSERT_TRUE(mounted.has_value()) << mounted.error().message();
    engine_ = std::move(mounted).value();
  }
  void Unmount() {
    const auto unmounted = engine_->Unmount();
    ASSERT_TRUE(unmounted.has_value()) << unmounted.error().message();
    engine_.reset();
  }
  void Kill() { engine_.reset(); }

  // Of a volume that nobody serves, and that is sound.
  Space Measure() {
    Space space;
    const auto report = Engine::Check(*device_, true);
    EXPECT_TRUE(report.has_value()) << report.error().message();
    if (!report.has_value()) return space;
    for (const auto& finding : report.value().findings) ADD_FAILURE() << finding.what;
    space.inodes = report.value().inodes;
    space.used_blocks = report.value().used_blocks;
    const auto store = Store::Open(*device_, SystemClock(), true);
    space.keys = store.value()->Counters().keys;
    space.node_units = store.value()->Counters().node_units;
    Mount();
    space.free_blocks = engine_->Counters().free_blocks;
    Unmount();
    return space;
  }

  // True: it was done. False: there was no room; anything else is wrong.
  template <typename R>
  bool Fits(const R& result) {
    if (result.has_value()) return true;
    EXPECT_TRUE(result.error() == Errc::kNoSpace) << result.error().message();
    return false;
  }

  bool MakeOne(NodeId folder, const std::string& name) {
    CreateOptions options;
    const std::string target(1 + random_() % kSymlinkBytesMax, 't');
    const auto kind = random_() % 4;
    if (kind == 0) {
      options.kind = NodeKind::kSymlink;
      options.symlink_target = target;
    }
    const auto made = engine_->Create(kRoot, folder, name, options);
    if (!Fits(made)) return false;
    const NodeId node = made.value().node.id;
    if (kind == 0) return true;
    if (kind == 1) {
      const std::string value(1 + random_() % 60'000, 'x');
      return Fits(
          engine_->SetXattr(kRoot, node, "user.x", value, Engine::XattrMode::kCreateOrReplace));
    }
    const std::uint64_t offset = random_() % 3 == 0 ? random_() % (1 << 20) : 0;
    if (kind == 2 && random_() % 4 == 0) {
      return Fits(engine_->Allocate(kRoot, node, offset, 1 + random_() % 300'000, false));
    }
    const std::string text(1 + random_() % 200'000, 'd');
    const iovec data{const_cast<char*>(text.data()), text.size()};
    const auto stability = random_() % 3 == 0 ? Stability::kFileSync : Stability::kUnstable;
    const bool is_written = Fits(engine_->Write(node, offset, {&data, 1}, stability));
    if (random_() % 5 == 0) {
      const auto punched = engine_->Deallocate(kRoot, node, offset + 5000, 20000);
      EXPECT_TRUE(punched.has_value()) << punched.error().message();
    }
    return is_written;
  }

  void Fill(NodeId folder) {
    int refused = 0;
    for (int at = 0; refused < 12 && at < 20'000; ++at) {
      if (!MakeOne(folder, "f" + std::to_string(at))) ++refused;
      if (HasFailure()) return;
    }
    EXPECT_EQ(refused, 12) << "it never was full";
  }

  void Empty(NodeId folder, bool cuts_first) {
    std::vector<DirectoryEntry> entries;
    const auto read = engine_->ReadDirectory(folder, 0, [&](const DirectoryEntry& entry) {
      entries.push_back(entry);
      return true;
    });
    ASSERT_TRUE(read.has_value()) << read.error().message();
    for (const DirectoryEntry& entry : entries) {
      if (cuts_first && entry.kind == NodeKind::kFile) {
        AttributeChange change;
        change.size_bytes = 100;
        const auto cut = engine_->SetAttributes(kRoot, entry.id, change);
        ASSERT_TRUE(cut.has_value()) << cut.error().message();
      }
      const auto removed = engine_->Remove(kRoot, folder, entry.name, RemoveKind::kAny);
      ASSERT_TRUE(removed.has_value()) << entry.name << ": " << removed.error().message();
    }
  }

  const std::uint64_t seed_ = std::getenv("FILER_SEED") == nullptr
                                  ? 1
                                  : std::strtoull(std::getenv("FILER_SEED"), nullptr, 10);
  std::mt19937_64 random_{seed_};
  std::unique_ptr<SimDevice> device_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(SpaceTest, AVolumeFilledAndEmptiedTwentyTimesLeaksNothing) {
  SCOPED_TRACE("FILER_SEED=" + std::to_string(seed_));
  Mount();
  Unmount();
  const Space start = Measure();
  EXPECT_EQ(start.inodes, 1U);
  const int rounds = std::getenv("FILER_LONG") == nullptr ? 20 : 1000;
  for (int round = 0; round < rounds && !HasFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    Mount();
    const NodeId root = engine_->Root();
    CreateOptions options;
    options.kind = NodeKind::kDirectory;
    const auto made = engine_->Create(kRoot, root, "d", options);
    ASSERT_TRUE(made.has_value()) << made.error().message();
    const NodeId folder = made.value().node.id;
    // One that loses its name while it is held: it goes when it is let go, or with a kill.
    const auto held = engine_->Create(kRoot, root, "held", {});
    ASSERT_TRUE(held.has_value());
    const std::string text(50'000, 'h');
    const iovec data{const_cast<char*>(text.data()), text.size()};
    const NodeId orphan = held.value().node.id;
    ASSERT_TRUE(engine_->Write(orphan, 0, {&data, 1}, Stability::kFileSync).has_value());
    ASSERT_TRUE(engine_->Hold(orphan).has_value());
    ASSERT_TRUE(engine_->Remove(kRoot, root, "held", RemoveKind::kAny).has_value());
    Fill(folder);
    if (round % 4 == 1) {  // the process dies while all is full
      Kill();
      Mount();
    } else {
      engine_->Release(orphan);
    }
    if (round % 5 == 4) {
      ASSERT_TRUE(engine_->SyncAll().has_value());
    }
    Empty(folder, round % 3 == 0);
    if (HasFatalFailure()) return;
    ASSERT_TRUE(engine_->Remove(kRoot, root, "d", RemoveKind::kDirectory).has_value());
    if (round % 4 == 2) {
      Kill();
      Mount();
    }
    Unmount();
    EXPECT_EQ(Measure(), start);
  }
}

}  // namespace
}  // namespace filer::engine::sim
