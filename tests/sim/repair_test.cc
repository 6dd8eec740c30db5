// Any single block of a volume is damaged: zeroed, a bit inverted, or another block in its place.
// Repair mends it; then check has nothing to say, and each file that is not listed as damaged is as
// it was, to the byte.
// FILER_FILES: how many files (10 000), FILER_BLOCKS: how many blocks, half of them of the metadata
// (40; "all": each of them in turn, hours), FILER_SEED.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "base/units.h"
#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/engine.h"
#include "tests/unit/fsal/engine/fs/damage_tools.h"

namespace filer::engine {
namespace {

constexpr std::uint64_t kVolumeBytes = 256ULL << 20;
constexpr std::uint64_t kFilesPerDirectory = 100;

std::uint64_t EnvironmentNumber(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

SimOptions Options() {
  SimOptions options;
  options.size_bytes = kVolumeBytes;
  options.pool_bytes = 32 << 20;
  return options;
}

struct FileState {
  std::uint32_t mode = 0;
  std::uint64_t links = 0;
  std::string content, attribute;
  friend bool operator==(const FileState&, const FileState&) = default;
};
using Files = std::map<std::string, FileState>;

std::string TextOf(const ReadResult& result) {
  std::string text;
  for (const iovec& segment : result.segments) {
    text.append(static_cast<const char*>(segment.iov_base), segment.iov_len);
  }
  return text;
}

// What can be read; a file of which something fails is left out.
void ReadFiles(Engine& engine, NodeId directory, const std::string& path, Files& files) {
  std::vector<DirectoryEntry> entries;
  const auto listed = engine.ReadDirectory(directory, 0, [&](const DirectoryEntry& entry) {
    entries.push_back(entry);
    return true;
  });
  EXPECT_TRUE(listed.has_value()) << path;
  for (const DirectoryEntry& entry : entries) {
    const std::string name = path + "/" + entry.name;
    const auto attributes = engine.Lookup(directory, entry.name);
    if (!attributes.has_value()) continue;
    FileState state;
    state.mode = attributes.value().mode;
    state.links = attributes.value().links;
    if (entry.kind == NodeKind::kDirectory) {
      files[name] = state;
      ReadFiles(engine, entry.id, name, files);
      continue;
    }
    const auto target = entry.kind == NodeKind::kSymlink ? engine.ReadLink(entry.id)
                                                         : Result<std::string>(std::string());
    const auto value = engine.GetXattr(entry.id, "user.x");
    if (value.has_value()) state.attribute = value.value();
    if (entry.kind == NodeKind::kSymlink) {
      if (!target.has_value()) continue;
      state.content = target.value();
    } else {
      const auto read = engine.Read(entry.id, 0, 16 << 20);
      if (!read.has_value()) continue;
      state.content = TextOf(read.value());
    }
    files[name] = std::move(state);
  }
}

class RepairBlocksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto device = SimDevice::Create(Options()).value();
    FormatOptions format;
    format.volume_name = "sim";
    format.random_seed = 5;
    format.clock = &clock_;
    ASSERT_TRUE(Engine::Format(*device, format).has_value());
    auto engine = Engine::Mount(*device, clock_, {}).value();
    std::mt19937_64 random(seed_);
    NodeId directory = engine->Root();
    for (std::uint64_t at = 0; at < file_count_; ++at) {
      CreateOptions options;
      options.attributes.mode = static_cast<std::uint32_t>(at % 512);
      if (at % kFilesPerDirectory == 0) {
        options.kind = NodeKind::kDirectory;
        const NodeId parent = at % 1000 == 0 ? engine->Root() : directory;
        directory = engine->Create({}, parent, "d" + std::to_string(at), options).value().node.id;
        continue;
      }
      if (at % 50 == 1) {
        options.kind = NodeKind::kSymlink;
        options.symlink_target = "somewhere";
      }
      const std::string name = "file" + std::to_string(at);
      const NodeId file = engine->Create({}, directory, name, options).value().node.id;
      if (at % 50 == 1) continue;
      std::string content(random() % 6000, '\0');
      for (auto& byte : content) byte = static_cast<char>(random());
      const iovec data{content.data(), content.size()};
      if (!content.empty()) engine->Write(file, 0, {&data, 1}, Stability::kUnstable).value();
      if (at % 7 == 0) {
        engine
            ->SetXattr({}, file, "user.x", std::string(at % 49 == 0 ? 9000 : 100, 'v'),
                       Engine::XattrMode::kCreate)
            .value();
      }
      if (at % 20 == 0) engine->Link({}, file, engine->Root(), "link" + std::to_string(at)).value();
    }
    ASSERT_TRUE(engine->Unmount().has_value());
    image_ = device->CurrentImage();
    files_ = Read(image_);
    ASSERT_GT(files_.size(), file_count_ / 2);
  }
  Files Read(const SimImage& image) const {
    const auto device = SimDevice::Create(Options(), image).value();
    MountOptions options;
    options.read_only = true;
    const auto engine = Engine::Mount(*device, clock_, options);
    EXPECT_TRUE(engine.has_value()) << engine.error().message();
    Files files;
    if (engine.has_value()) ReadFiles(*engine.value(), engine.value()->Root(), "", files);
    return files;
  }
  // Nothing is wrong but data of files that are listed, and the others are as they were.
  void ExpectMended(SimDevice& device, const RepairReport& report) {
    std::set<std::string> damaged;
    for (const CheckFinding& finding : report.damaged) damaged.insert(finding.path);
    EXPECT_LE(damaged.size(), file_count_ / 5) << "that much cannot hang on one block";
    const auto check = Engine::Check(device, true);
    ASSERT_TRUE(check.has_value()) << check.error().message();
    for (const CheckFinding& finding : check.value().findings) {
      EXPECT_TRUE(finding.what.starts_with("data ") && damaged.contains(finding.path))
          << finding.what << " (" << finding.where << ", " << finding.path << ")";
    }
    const Files now = Read(device.CurrentImage());
    std::uint64_t wrong = 0;
    for (const auto& [path, state] : files_) {
      if (damaged.contains(path) || IsLinkOf(path, damaged)) continue;
      const auto found = now.find(path);
      if (found == now.end() || found->second != state) {
        if (++wrong < 4) ADD_FAILURE() << path << (found == now.end() ? ": gone" : ": changed");
      }
    }
    EXPECT_EQ(wrong, 0U);
  }
  // A file with two names is listed under one of them.
  static bool IsLinkOf(const std::string& path, const std::set<std::string>& damaged) {
    const auto number = path.find_last_not_of("0123456789") + 1;
    const std::string digits = path.substr(number);
    return std::ranges::any_of(damaged, [&](const std::string& other) {
      return other.ends_with("/file" + digits) || other.ends_with("/link" + digits);
    });
  }
  std::optional<RepairReport> Repair(SimDevice& device) {
    auto report = Engine::Repair(device, {});
    EXPECT_TRUE(report.has_value()) << report.error().message();
    if (!report.has_value()) return std::nullopt;
    return std::move(report).value();
  }
  void Damage(SimImage& image, std::uint64_t block, unsigned kind, std::uint64_t other) const {
    std::vector<std::byte> bytes(kBlockBytes);
    if (kind == 0) return image.Zero(block * kBlockBytes, kBlockBytes);
    if (kind == 1) return image.FlipBit(block * kBlockBytes + other % kBlockBytes, other / 7 % 8);
    image.Read(other * kBlockBytes, bytes);
    image.Write(block * kBlockBytes, bytes);
  }
  void TryBlock(std::uint64_t block, unsigned kind, std::uint64_t other) {
    SCOPED_TRACE("seed " + std::to_string(seed_) + " block " + std::to_string(block) + " damage " +
                 std::to_string(kind) + " other " + std::to_string(other));
    SimImage image = image_;
    Damage(image, block, kind, other);
    const auto device = SimDevice::Create(Options(), std::move(image)).value();
    const auto report = Repair(*device);
    if (report) ExpectMended(*device, *report);
    if (report && report->was_written) ++mended_;
  }
  void SortBlocks() {
    const auto device = SimDevice::Create(Options(), image_).value();
    const VolumeLayout layout = LayoutOf(LoadLabel(*device).value().label);
    image_.EachBlock([&](std::uint64_t block, std::span<const std::byte>) {
      (block < layout.data_first_block ? metadata_ : data_).push_back(block);
    });
  }

  const std::uint64_t seed_ = EnvironmentNumber("FILER_SEED", 1);
  const std::uint64_t file_count_ = EnvironmentNumber("FILER_FILES", 10'000);
  ManualClock clock_;
  SimImage image_{kVolumeBytes};
  Files files_;
  std::vector<std::uint64_t> metadata_, data_;
  std::uint64_t mended_ = 0;
};

TEST_F(RepairBlocksTest, AnySingleBlock) {
  SortBlocks();
  std::mt19937_64 random(seed_);
  const char* const text = std::getenv("FILER_BLOCKS");
  if (text != nullptr && std::string(text) == "all") {
    for (const auto* blocks : {&metadata_, &data_}) {
      for (const auto block : *blocks) {
        TryBlock(block, static_cast<unsigned>(random() % 3), (*blocks)[random() % blocks->size()]);
        if (HasFailure()) return;
      }
    }
    return;
  }
  const std::uint64_t count = EnvironmentNumber("FILER_BLOCKS", 40);
  std::fprintf(stderr, "seed %llu, %zu blocks of metadata, %zu of data\n",
               static_cast<unsigned long long>(seed_), metadata_.size(), data_.size());
  for (std::uint64_t at = 0; at < count && !HasFailure(); ++at) {
    const auto& blocks = at % 2 == 0 ? metadata_ : data_;
    TryBlock(blocks[random() % blocks.size()], static_cast<unsigned>(at / 2 % 3),
             blocks[random() % blocks.size()]);
  }
  EXPECT_GT(mended_, 0U);
}

// The nodes from the root down, and the table of trees, each in turn: none takes anything with it.
TEST_F(RepairBlocksTest, InnerNodesAndTheTableAreBuiltAnew) {
  const auto device = SimDevice::Create(Options(), image_).value();
  auto blocks = NodesTo(*device, "E");
  ASSERT_GE(blocks.size(), 2U);
  blocks.pop_back();  // of a leaf, something is lost
  blocks.push_back(NewestRoot(*device).table[0].block);
  for (const auto block : blocks) {
    SCOPED_TRACE("seed " + std::to_string(seed_) + " block " + std::to_string(block));
    SimImage image = image_;
    image.Zero(block * kBlockBytes, kBlockBytes);
    const auto damaged = SimDevice::Create(Options(), std::move(image)).value();
    const auto report = Repair(*damaged);
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->was_written);
    EXPECT_TRUE(report->damaged.empty());
    ExpectMended(*damaged, *report);
  }
}

// The machine loses its power in the middle of a repair: the next one brings it to its end.
TEST_F(RepairBlocksTest, ACrashInTheMiddle) {
  SimImage damaged_image = image_;
  {
    const auto device = SimDevice::Create(Options(), image_).value();
    damaged_image.Zero(FirstTree(*device).root.block * kBlockBytes, kBlockBytes);
  }
  std::uint64_t requests = 0;
  std::vector<std::uint64_t> writes;  // their ordinals
  {
    const auto device = SimDevice::Create(Options(), damaged_image).value();
    device->SetFaultHook([&](const BlockRequest& request, std::uint64_t) {
      ++requests;
      if (request.operation != BlockOperation::kRead) writes.push_back(requests);
      return SimVerdict{};
    });
    ASSERT_TRUE(Repair(*device));
  }
  ASSERT_GT(writes.size(), 5U);
  std::vector<std::uint64_t> cuts;
  for (const auto at : writes) cuts.push_back(at);
  for (std::size_t at = 0; at < cuts.size() && !HasFailure(); ++at) {
    SCOPED_TRACE("seed " + std::to_string(seed_) + ", power cut after request " +
                 std::to_string(cuts[at]) + " of " + std::to_string(requests));
    const auto device = SimDevice::Create(Options(), damaged_image).value();
    device->CutPowerAfter(cuts[at]);
    const auto cut = Engine::Repair(*device, {});
    EXPECT_TRUE(!cut.has_value() || at + 1 == cuts.size());
    const auto after = SimDevice::Create(Options(), device->CrashImage(seed_ + at)).value();
    const auto report = Repair(*after);
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->damaged.empty());
    ExpectMended(*after, *report);
  }
}

// Many blocks at once: whatever it says, it says; it never makes up a volume that check rejects.
TEST_F(RepairBlocksTest, ManyBlocksAtOnce) {
  SortBlocks();
  std::mt19937_64 random(seed_ + 1);
  std::uint64_t mended = 0;
  const int rounds = std::getenv("FILER_LONG") != nullptr ? 1000 : 10;
  for (int round = 0; round < rounds && !HasFailure(); ++round) {
    SCOPED_TRACE("seed " + std::to_string(seed_) + " round " + std::to_string(round));
    SimImage image = image_;
    for (int at = 0; at < 30; ++at) {
      const auto& blocks = random() % 2 == 0 ? metadata_ : data_;
      Damage(image, blocks[random() % blocks.size()], static_cast<unsigned>(random() % 3),
             blocks[random() % blocks.size()]);
    }
    const auto device = SimDevice::Create(Options(), std::move(image)).value();
    const auto report = Engine::Repair(*device, {});
    if (!report.has_value()) continue;
    ++mended;
    const auto check = Engine::Check(*device, false);
    ASSERT_TRUE(check.has_value()) << check.error().message();
    for (const CheckFinding& finding : check.value().findings) ADD_FAILURE() << finding.what;
  }
  EXPECT_GT(mended, 0U);
}

}  // namespace
}  // namespace filer::engine
