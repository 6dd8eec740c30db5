// What is on the disk is not what was written: foreign, cut, newer, flipped, stale, lost.
#include <gtest/gtest.h>

#include "fsal/engine/format/label.h"
#include "fsal/engine/format/log_group.h"
#include "fsal/engine/format/uberblock.h"
#include "tests/unit/fsal/engine/tree/store_fixture.h"

namespace filer::engine {
namespace {

struct Volume {
  SimImage image{64 << 20};
  Model model;
  Lsn lsn = 0;
  VolumeLayout layout = PlanVolume(64 << 20).value();

  // Format 1, open 2, checkpoints 3 and 4.
  Uberblock Root() const {
    Uberblock root;
    image.Read(UberblockBlock(layout, 0, 4) * kMetaBlockBytes,
               std::as_writable_bytes(std::span(&root, 1)));
    return root;
  }
};

// Two checkpoints and, behind the second, ten groups in the log: killed, not closed.
Volume MakeVolume() {
  Volume volume;
  auto device = NewDevice();
  EXPECT_TRUE(Store::Format(*device, Named()).has_value());
  auto store = MustOpen(*device);
  std::mt19937_64 random(4);
  for (int at = 0; at < 30; ++at) {
    auto transaction = RandomTransaction(random, 15, 1500);
    ApplyTo(volume.model, transaction);
    volume.lsn = store->Commit(std::move(transaction)).value();
    EXPECT_TRUE(store->Sync(volume.lsn).has_value());
    if (at == 9 || at == 19) {
      EXPECT_TRUE(store->Checkpoint().has_value());
    }
  }
  store.reset();
  volume.image = device->StableImage();
  return volume;
}

enum class Outcome { kSame, kRefused, kLostLastGroup, kWrong };

Outcome OpenAndCompare(const Volume& volume, SimImage image) {
  auto device = DeviceOn(std::move(image));
  const auto opened = Store::Open(*device, SystemClock(), false);
  if (!opened.has_value()) {
    const auto code = opened.error().code();
    EXPECT_TRUE(code == Errc::kCorrupt || code == Errc::kNotOurs) << opened.error().message();
    EXPECT_FALSE(opened.error().message().empty());
    return Outcome::kRefused;
  }
  const auto& store = *opened.value();
  if (store.LastLsn() == volume.lsn && Dump(store) == volume.model) return Outcome::kSame;
  return store.LastLsn() + 1 == volume.lsn ? Outcome::kLostLastGroup : Outcome::kWrong;
}

// Flips one bit at a time in [first, first + count) blocks, about `flips` of them.
std::map<Outcome, int> FlipBits(const Volume& volume, std::uint64_t first_block,
                                std::uint64_t block_count, std::uint64_t flips) {
  std::map<Outcome, int> outcomes;
  const auto bits = block_count * kMetaBlockBytes * 8;
  const auto step = std::max<std::uint64_t>(1, bits / (IsLongRun() ? flips * 50 : flips)) | 1;
  for (std::uint64_t bit = 0; bit < bits; bit += step) {
    auto image = volume.image;
    image.FlipBit(first_block * kMetaBlockBytes + bit / 8, bit % 8);
    const auto outcome = OpenAndCompare(volume, std::move(image));
    EXPECT_NE(outcome, Outcome::kWrong) << "block " << first_block << " bit " << bit;
    ++outcomes[outcome];
  }
  return outcomes;
}

TEST(StoreDamage, ABitInALabelIsMendedByTheOther) {
  const auto volume = MakeVolume();
  for (const auto block : {std::uint64_t{0}, volume.layout.block_count - 1}) {
    const auto outcomes = FlipBits(volume, block, 1, 200);
    EXPECT_EQ(outcomes.size(), 1U);
    EXPECT_TRUE(outcomes.contains(Outcome::kSame));
  }
  auto image = volume.image;
  image.Zero(0, kMetaBlockBytes);
  auto device = DeviceOn(std::move(image));
  EXPECT_NE(MustOpen(*device), nullptr);
  auto mended = device->CurrentImage();
  mended.Zero((volume.layout.block_count - 1) * kMetaBlockBytes, kMetaBlockBytes);
  EXPECT_EQ(OpenAndCompare(volume, std::move(mended)), Outcome::kSame);
}

TEST(StoreDamage, BothLabelsDamagedIsRefused) {
  auto volume = MakeVolume();
  volume.image.FlipBit(100, 1);
  volume.image.FlipBit((volume.layout.block_count - 1) * kMetaBlockBytes + 100, 1);
  auto device = DeviceOn(volume.image);
  const auto opened = Store::Open(*device, SystemClock(), false);
  EXPECT_TRUE(opened.error() == Errc::kCorrupt) << opened.error().message();
  EXPECT_TRUE(Store::Format(*device, Named()).error() == Errc::kExists);
}

TEST(StoreDamage, ABitInAnUberblockIsHarmless) {
  const auto volume = MakeVolume();
  const auto outcomes = FlipBits(volume, volume.layout.uberblock_first_block,
                                 kUberblockRings * kUberblocksPerRing, 300);
  EXPECT_EQ(outcomes.size(), 1U);
  EXPECT_TRUE(outcomes.contains(Outcome::kSame));
  // The newest one, at length: format 1, open 2, checkpoints 3 and 4.
  const auto newest = FlipBits(volume, UberblockBlock(volume.layout, 0, 4), 1, 200);
  EXPECT_EQ(newest.size(), 1U);
  EXPECT_TRUE(newest.contains(Outcome::kSame));
}

TEST(StoreDamage, ABitInTheTableOfTreesIsRefused) {
  const auto volume = MakeVolume();
  const auto root = volume.Root();
  EXPECT_GT(root.node_count, 0U);
  const auto outcomes = FlipBits(volume, root.table[0].block, kNodeBlocks, 300);
  EXPECT_EQ(outcomes.size(), 1U);
  EXPECT_TRUE(outcomes.contains(Outcome::kRefused));
  // Nodes of the checkpoint before are not in use; nothing else is wrong either.
  const auto others = FlipBits(volume, volume.layout.node_first_block, 40 * kNodeBlocks, 300);
  EXPECT_TRUE(others.contains(Outcome::kSame));
  EXPECT_FALSE(others.contains(Outcome::kLostLastGroup));
}

// A mount reads only what it needs: who reads the value finds the damage.
TEST(StoreDamage, ABitInAPieceOfALongValueIsFoundWhenItIsRead) {
  auto device = NewDevice();
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  const std::string value(100'000, 'v');
  auto store = MustOpen(*device);
  PutOne(*store, "long", value);
  PutOne(*store, "short", "1");
  ASSERT_TRUE(store->Close().has_value());
  store.reset();
  const auto layout = PlanVolume(64 << 20).value();
  int found = 0;
  for (std::uint64_t unit = 0; unit < 12; ++unit) {
    auto image = device->CurrentImage();
    image.FlipBit((layout.node_first_block + unit * kNodeBlocks) * kMetaBlockBytes + 9000, 3);
    auto damaged = DeviceOn(std::move(image));
    const auto opened = Store::Open(*damaged, SystemClock(), false);
    if (!opened.has_value()) continue;
    const auto other = opened.value()->Get("short");
    if (!other.has_value()) {  // their common leaf
      EXPECT_TRUE(other.error() == Errc::kCorrupt);
      continue;
    }
    EXPECT_EQ(other.value(), "1");
    const auto got = opened.value()->Get("long");
    if (got.has_value()) {
      EXPECT_EQ(got.value(), value);
      continue;
    }
    ++found;
    EXPECT_TRUE(got.error() == Errc::kCorrupt);
    const auto scanned =
        opened.value()->Scan("", "", [](std::string_view, std::string_view) { return true; });
    EXPECT_TRUE(scanned.error() == Errc::kCorrupt);
    // Writing it anew mends it.
    PutOne(*opened.value(), "long", value);
    EXPECT_EQ(opened.value()->Get("long").value(), value);
  }
  EXPECT_EQ(found, 7);
}

// A flipped bit in the last group cannot be told from a write that the crash tore; in all before it
// can.
TEST(StoreDamage, ABitInTheLogIsRefusedUnlessItIsTheVeryEnd) {
  const auto volume = MakeVolume();
  const auto outcomes = FlipBits(volume, volume.layout.log_first_block, 60, 600);
  EXPECT_TRUE(outcomes.contains(Outcome::kRefused));
  EXPECT_GT(outcomes.at(Outcome::kRefused), 5 * outcomes.at(Outcome::kLostLastGroup));
}

TEST(StoreDamage, SaysWhatIsWrongWithADevice) {
  auto small = NewDevice({.size_bytes = 32 << 20});
  EXPECT_TRUE(Store::Format(*small, Named()).error() == Errc::kTooSmall);
  EXPECT_TRUE(Store::Open(*small, SystemClock(), false).error() == Errc::kTooSmall);
  auto blank = NewDevice();
  EXPECT_TRUE(Store::Open(*blank, SystemClock(), false).error() == Errc::kNotOurs);
  auto options = Named();
  options.volume_name = "a/b";
  EXPECT_TRUE(Store::Format(*blank, options).error() == Errc::kInvalidName);
  ASSERT_TRUE(Store::Format(*blank, Named()).has_value());
  EXPECT_TRUE(Store::Format(*blank, Named()).error() == Errc::kExists);
  auto protected_device = DeviceOn(blank->CurrentImage(), {.is_read_only = true});
  auto overwrite = Named();
  overwrite.overwrite = true;
  EXPECT_TRUE(Store::Format(*protected_device, overwrite).error() == Errc::kReadOnly);
}

TEST(StoreDamage, ADeviceThatWasCutIsTooSmall) {
  auto device = NewDevice({.size_bytes = 128 << 20});
  ASSERT_TRUE(Store::Format(*device, Named()).has_value());
  std::vector<std::byte> head(4096);
  device->CurrentImage().Read(0, head);
  SimImage cut(64 << 20);
  cut.Write(0, head);
  auto shorter = DeviceOn(std::move(cut));
  EXPECT_TRUE(Store::Open(*shorter, SystemClock(), false).error() == Errc::kTooSmall);
}

SimImage WithLabel(const Volume& volume, const std::function<void(Label&)>& change) {
  auto image = volume.image;
  for (const auto block : {std::uint64_t{0}, volume.layout.block_count - 1}) {
    Label label;
    const auto bytes = std::as_writable_bytes(std::span(&label, 1));
    image.Read(block * kMetaBlockBytes, bytes);
    change(label);
    Seal(label);
    image.Write(block * kMetaBlockBytes, bytes);
  }
  return image;
}

TEST(StoreDamage, ANewerReleasesVolumeIsLeftAlone) {
  const auto volume = MakeVolume();
  const auto open = [&](const std::function<void(Label&)>& change, bool read_only) {
    auto device = DeviceOn(WithLabel(volume, change));
    return Store::Open(*device, SystemClock(), read_only).has_value()
               ? Errc::kBusy
               : Store::Open(*device, SystemClock(), read_only).error().code();
  };
  EXPECT_EQ(open([](Label& l) { l.version = kFormatVersion + 1; }, false), Errc::kNewerVersion);
  EXPECT_EQ(open([](Label& l) { l.incompat = 1; }, true), Errc::kNewerVersion);
  EXPECT_EQ(open([](Label& l) { l.ro_compat = 4; }, false), Errc::kNewerVersion);
  EXPECT_EQ(open([](Label& l) { l.ro_compat = 4; }, true), Errc::kBusy);  // opened
  EXPECT_EQ(open([](Label& l) { l.compat = 4; }, false), Errc::kBusy);    // opened
}

// Checksums mended: the decoder itself must hold.
TEST(StoreDamage, HostileGeometryIsRefused) {
  const auto volume = MakeVolume();
  const std::vector<std::function<void(Label&)>> changes = {
      [](Label& l) { l.log_first_block = UINT64_MAX; },
      [](Label& l) { l.log_block_count = UINT64_MAX; },
      [](Label& l) { l.log_block_count = 0; },
      [](Label& l) { l.node_first_block = l.log_first_block; },
      [](Label& l) { l.node_block_count = UINT64_MAX / 4096; },
      [](Label& l) { l.node_block_count = l.node_block_count - 1; },
      [](Label& l) { l.node_block_count = 0; },
      [](Label& l) { l.data_block_count = l.data_block_count + 1; },
      [](Label& l) { l.uberblock_first_block = 0; },
      [](Label& l) { l.block_count = 0; },
      [](Label& l) { l.block_bytes = 512; },
      [](Label& l) { l.reserved[7] = 1; },
      [](Label& l) { l.volume_name[0] = '/'; },
      [](Label& l) { l.volume_name[63] = 'x'; },
  };
  for (std::size_t at = 0; at < changes.size(); ++at) {
    auto device = DeviceOn(WithLabel(volume, changes[at]));
    const auto opened = Store::Open(*device, SystemClock(), false);
    EXPECT_TRUE(opened.error() == Errc::kCorrupt) << at;
  }
}

// A lost or misdirected write of a node leaves an older one there: it must not be taken for the
// newer.
TEST(StoreDamage, ALostOrMisdirectedNodeIsRefused) {
  for (const auto fault : {SimFault::kLose, SimFault::kMisdirect}) {
    auto device = NewDevice();
    ASSERT_TRUE(Store::Format(*device, Named()).has_value());
    const auto layout = PlanVolume(64 << 20).value();
    auto store = MustOpen(*device);
    for (int at = 0; at < 8; ++at) {
      if (at == 7) {
        device->SetFaultHook([&](const BlockRequest& request, std::uint64_t) {
          const auto block = request.offset_bytes / kMetaBlockBytes;
          const bool is_node = request.operation == BlockOperation::kWrite &&
                               block >= layout.node_first_block && block < layout.data_first_block;
          return SimVerdict{is_node ? fault : SimFault::kNone};
        });
      }
      PutOne(*store, "k", std::to_string(at));
      ASSERT_TRUE(store->Checkpoint().has_value());
    }
    store.reset();
    auto after = DeviceOn(device->CurrentImage());
    EXPECT_TRUE(Store::Open(*after, SystemClock(), false).error() == Errc::kCorrupt);
  }
}

TEST(StoreDamage, GroupsOfAnEarlierFormatAreNotReplayed) {
  auto device = NewDevice();
  const ManualClock clock;  // stands still: only what is on the disk makes a difference
  auto options = Named();
  options.overwrite = true;
  std::vector<std::uint8_t> keys[2];
  for (int life = 0; life < 2; ++life) {
    ASSERT_TRUE(Store::Format(*device, options).has_value());
    auto store = Store::Open(*device, clock, false).value();
    EXPECT_EQ(store->LastLsn(), 0U);
    EXPECT_EQ(Dump(*store), Model{});
    keys[life] = store->HandleKey();
    for (int at = 0; at < (life == 0 ? 5 : 1); ++at) {
      ASSERT_TRUE(store->Sync(PutOne(*store, "k" + std::to_string(at), "v")).has_value());
    }
  }
  auto store = Store::Open(*device, clock, false).value();
  EXPECT_EQ(Dump(*store), (Model{{"k0", "v"}}));
  EXPECT_NE(keys[0], keys[1]);
}

}  // namespace
}  // namespace filer::engine
