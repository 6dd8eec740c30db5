// image_fuzz.cc: a whole small volume of which some metadata is wrong though every checksum is
// right (image_volume.h). Check, a read-only mount with a walk and reads, a writable mount that
// changes and removes what it finds; one of them, which is quick, or all, one after the other. Any
// answer is good; no answer is not.
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/assert.h"
#include "fsal/engine/engine.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/image_volume.h"

namespace filer::fuzz {
namespace {

using namespace filer::engine;  // NOLINT

constexpr std::size_t kVisitsMax = 120;
constexpr std::size_t kEntriesMax = 300;  // of one directory
constexpr std::uint64_t kReadBytes = 32 * 1024;

struct Found {
  NodeId directory;
  std::string name;
  NodeId node;
};

class Walker {
 public:
  explicit Walker(Engine& engine) : engine_(engine) {}

  std::vector<Found> Walk() {
    std::deque<NodeId> open{engine_.Root()};
    std::set<std::uint64_t> seen;
    while (!open.empty() && seen.size() < kVisitsMax) {
      const auto node = open.front();
      open.pop_front();
      if (!seen.insert(node.inode).second) continue;
      Look(node);
      for (auto& entry : List(node)) {
        open.push_back(entry.node);
        found_.push_back(std::move(entry));
      }
    }
    return std::move(found_);
  }

 private:
  std::vector<Found> List(NodeId directory) {
    std::vector<Found> entries;
    static_cast<void>(engine_.ReadDirectory(directory, 0, [&](const DirectoryEntry& entry) {
      FILER_ASSERT(!entry.name.empty() && entry.name.size() <= kNameBytesMax);
      entries.push_back({directory, entry.name, entry.id});
      return entries.size() < kEntriesMax;
    }));
    for (std::size_t at = 0; at < entries.size(); at += 7) {
      static_cast<void>(engine_.Lookup(directory, entries[at].name));
    }
    if (!entries.empty()) static_cast<void>(engine_.LookupParent(directory));
    return entries;
  }

  void Look(NodeId node) {
    static_cast<void>(engine_.PathOf(node));
    const auto attributes = engine_.GetAttributes(node);
    if (!attributes.has_value()) return;
    const auto names = engine_.ListXattrs(node);
    for (const auto& name : names.has_value() ? names.value() : std::vector<std::string>()) {
      static_cast<void>(engine_.GetXattr(node, name));
    }
    static_cast<void>(engine_.ReadLink(node));
    const auto size = attributes.value().size_bytes;
    for (const auto offset : {std::uint64_t{0}, size / 2, size - std::min(size, kReadBytes)}) {
      Read(node, offset);
      static_cast<void>(engine_.Seek(node, offset, true));
      static_cast<void>(engine_.Seek(node, offset, false));
    }
  }

  void Read(NodeId node, std::uint64_t offset) {
    const auto read = engine_.Read(node, offset, kReadBytes);
    if (!read.has_value()) return;
    std::uint64_t bytes = 0;
    for (const auto& segment : read.value().segments) {
      const std::string copy(static_cast<const char*>(segment.iov_base), segment.iov_len);
      bytes += copy.size();
    }
    FILER_ASSERT(bytes == read.value().length_bytes && bytes <= kReadBytes);
  }

  Engine& engine_;
  std::vector<Found> found_;
};

// What users do to such a volume before anybody notices.
void ChangeAll(Engine& engine, const std::vector<Found>& found) {
  AttributeChange shorter;
  shorter.size_bytes = 100;
  std::string bytes(10'000, 'n');
  const iovec data{bytes.data(), bytes.size()};
  std::size_t at = 0;
  for (const auto& [directory, name, node] : found) {
    switch (at++ % 6) {
      case 0:
        static_cast<void>(engine.Write(node, 3000, {&data, 1}, Stability::kUnstable));
        break;
      case 1:
        static_cast<void>(engine.SetAttributes(Caller{}, node, shorter));
        break;
      case 2:
        static_cast<void>(
            engine.Rename(Caller{}, directory, name, engine.Root(), "moved", kRenameReplace));
        break;
      case 3:
        static_cast<void>(engine.Deallocate(Caller{}, node, 4096, 8192));
        break;
      case 4:
        static_cast<void>(engine.Create(Caller{}, directory, name + "2", {}));
        break;
      default:
        static_cast<void>(engine.Remove(Caller{}, directory, name, RemoveKind::kAny));
    }
  }
  static_cast<void>(engine.SyncAll());
  for (const auto& [directory, name, node] : found) {
    static_cast<void>(engine.Remove(Caller{}, directory, name, RemoveKind::kAny));
  }
  static_cast<void>(engine.Unmount());
}

enum class Part : std::uint32_t { kCheck, kWalk, kChange, kAll };

Result<std::unique_ptr<Engine>> Mount(BlockDevice& device, const Clock& clock, bool read_only) {
  MountOptions options;
  options.checkpoint_interval_ms = UINT32_MAX;
  options.read_only = read_only;
  return Engine::Mount(device, clock, options);
}

void RunImage(SimImage image, Part part) {
  SimOptions options;
  options.pool_bytes = 16 << 20;
  options.completes_in_order = true;
  const auto device = SimDevice::Create(options, std::move(image)).value();
  const ManualClock clock;
  if (part == Part::kCheck || part == Part::kAll) {
    static_cast<void>(Engine::Check(*device, true));
  }
  std::vector<Found> found;
  if (part != Part::kCheck) {
    const auto engine = Mount(*device, clock, part != Part::kChange);
    if (!engine.has_value()) return;
    found = Walker(*engine.value()).Walk();
    if (part == Part::kChange) ChangeAll(*engine.value(), found);
  }
  if (part != Part::kAll) return;
  {
    const auto engine = Mount(*device, clock, false);
    if (!engine.has_value()) return;
    ChangeAll(*engine.value(), found);
  }
  static_cast<void>(Engine::Check(*device, true));
}

}  // namespace

void FuzzOne(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(data, size);
  const auto part = static_cast<Part>(input.Below(4));
  auto image = Prepared().image;
  ChangeImage(input, image);
  RunImage(std::move(image), part);
}

}  // namespace filer::fuzz
