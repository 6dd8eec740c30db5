#include "tests/sim/crash_run.h"

#include <fmt/format.h>

#include <random>
#include <unordered_set>

#include "base/assert.h"

namespace filer::engine::sim {
namespace {

constexpr std::uint64_t kVolumeBytes = 64ULL << 20;  // the smallest there is
constexpr std::uint64_t kPoolBytes = 16ULL << 20;

std::unique_ptr<SimDevice> DeviceOn(SimImage image, SimOptions options) {
  options.size_bytes = image.size_bytes();
  options.pool_bytes = kPoolBytes;
  return SimDevice::Create(options, std::move(image)).value();
}

// What varies from seed to seed besides the operations.
SimOptions DeviceOptionsOf(std::uint64_t seed) {
  SimOptions options;
  options.size_bytes = kVolumeBytes;
  options.pool_bytes = kPoolBytes;
  options.seed = seed;
  options.completes_in_order = seed % 4 == 0;
  options.has_volatile_cache = seed % 7 != 0;
  return options;
}

MountOptions MountOptionsOf(std::uint64_t seed) {
  MountOptions options = QuietMountOptions();
  if (seed % 3 == 0) options.dirty_bytes_max = 48 << 10;
  if (seed % 2 == 0) options.cache_bytes = 1 << 20;
  return options;
}

std::string FindingsText(const CheckReport& report) {
  std::string text;
  for (const CheckFinding& finding : report.findings) {
    text += fmt::format("\n    {} ({}, {})", finding.what, finding.where, finding.path);
  }
  return text;
}

// Models that a crash state may hold: any one of them. `exact`: the first, without anything older.
struct Allowed {
  std::vector<const FileModel*> models;
  bool is_exact = false;
  std::uint64_t seen = 0;  // the last operation that was answered, over all lives
};

std::string DifferenceFromAll(const FileModel& found, const Allowed& allowed) {
  std::string text;
  for (const FileModel* model : allowed.models) {
    const std::string difference = Difference(found, *model, allowed.is_exact);
    if (difference.empty()) return {};
    text += (text.empty() ? "" : "; nor ") + difference;
  }
  return "not what may be there: " + text;
}

class CrashRun {
 public:
  CrashRun(const Sequence& sequence, const CrashRunOptions& options, CrashRunCounts& counts)
      : sequence_(sequence), options_(options), counts_(counts), random_(sequence.seed) {}

  std::string Run() {
    SimImage image(kVolumeBytes);
    std::string wrong = Format(image);
    for (std::size_t life = 0; wrong.empty() && life < sequence_.lives.size(); ++life) {
      if (life > 0) wrong = PickCrash(image);
      if (wrong.empty()) wrong = Live(sequence_.lives[life], image);
      if (wrong.empty()) wrong = VerifyAll();
      if (!wrong.empty()) wrong = fmt::format("life {}: {}", life, wrong);
    }
    return wrong;
  }

 private:
  std::string Format(SimImage& image) {
    auto device = DeviceOn(image, DeviceOptionsOf(sequence_.seed));
    FormatOptions options;
    options.volume_name = "sim";
    options.random_seed = sequence_.seed + 1;
    options.clock = &clock_;
    const auto formatted = Engine::Format(*device, options);
    if (!formatted.has_value()) return "format: " + formatted.error().message();
    image = device->CurrentImage();
    return Adopt(image, {});
  }

  // The model becomes what an engine finds in `image`.
  std::string Adopt(const SimImage& image, const Allowed& allowed) {
    auto device = DeviceOn(image, {});
    auto engine = Engine::Mount(*device, clock_, QuietMountOptions());
    if (!engine.has_value()) return "mount: " + engine.error().message();
    auto found = ReadModel(*engine.value());
    if (!found.has_value()) return "reading all: " + found.error().message();
    if (!allowed.models.empty()) {
      const std::string difference = DifferenceFromAll(found.value(), allowed);
      if (!difference.empty()) return difference;
    }
    model_ = std::move(found).value();
    return {};
  }

  // Runs one life on `image`, recorded.
  std::string Live(const std::vector<Operation>& operations, const SimImage& image) {
    SimOptions device_options = DeviceOptionsOf(sequence_.seed);
    device_options.seed += 1000 * ++lives_;
    const auto device = DeviceOn(image, device_options);
    FileRun run(*device, clock_, MountOptionsOf(sequence_.seed), sequence_.seed, model_, issued_);
    run.OnAnswered([&device](std::uint64_t count) { device->Mark(count); });
    device->StartRecord();
    life_start_ = issued_.operation;
    std::string wrong = run.Mount();
    for (const Operation& operation : operations) {
      if (!wrong.empty()) return wrong;
      wrong = run.Do(operation);
      ++counts_.operations;
    }
    if (wrong.empty()) wrong = run.Compare();
    run.Kill();
    record_.emplace(device->TakeRecord());
    steps_ = run.steps();
    for (const SimRecord::Request& request : record_->requests) {
      if (request.changed_in_flight) return "a buffer changed while it was being written";
    }
    return wrong;
  }

  // After `done` operations were answered.
  Allowed AllowedAt(std::uint64_t done) const {
    Allowed allowed;
    allowed.seen = life_start_ + done;
    allowed.models.push_back(done == 0 ? &model_ : &steps_[done - 1].after);
    if (done == steps_.size()) return allowed;
    const RunStep& next = steps_[done];
    if (next.during.has_value()) allowed.models.push_back(&*next.during);
    allowed.models.push_back(&next.after);
    return allowed;
  }

  std::string VerifyAll() {
    std::string wrong;
    CrashStateOptions states = options_.states;
    states.seed = sequence_.seed + lives_;
    // A long life is there for checkpoints; torn writes are the business of the many short ones.
    states.has_torn = states.has_torn && sequence_.operations_per_life <= 500;
    EachEpoch(*record_, [&](const FlushEpoch& epoch) {
      ++counts_.epochs;
      const Allowed allowed = AllowedAt(epoch.mark());
      EachState(epoch, states, [&](const KeptWrites& kept) {
        ++counts_.states;
        const std::uint64_t hash = epoch.Hash(kept);
        counts_.record_hash = counts_.record_hash * 31 + hash;
        // The same bytes with more acknowledged operations are another question.
        if (!verified_.insert(hash ^ (epoch.mark() + lives_ * 100'000) * 0x9E3779B97F4A7C15ULL)
                 .second) {
          return true;
        }
        wrong = Verify(epoch.Image(kept), allowed, ++counts_.distinct);
        if (!wrong.empty()) {
          wrong += fmt::format("\n  at {}; {} of {} operations answered", epoch.Text(kept),
                               epoch.mark(), steps_.size());
          if (epoch.mark() < steps_.size()) {
            wrong += "\n  during: " + Text(steps_[epoch.mark()].operation);
          }
        }
        return wrong.empty();
      });
      return wrong.empty();
    });
    return wrong;
  }

  std::string Verify(const SimImage& image, const Allowed& allowed, std::uint64_t ordinal) {
    const bool is_writable = ordinal % options_.writable_stride == 0;
    const bool recovers_twice = is_writable && ordinal % options_.recovery_stride == 0;
    const auto device = DeviceOn(image, {.seed = ordinal});
    if (recovers_twice) device->StartRecord();
    MountOptions mount = QuietMountOptions();
    mount.read_only = !is_writable;
    auto mounted = Engine::Mount(*device, clock_, mount);
    if (!mounted.has_value()) return "mount: " + mounted.error().message();
    if (recovers_twice) device->Mark(1);
    const auto found = ReadModel(*mounted.value());
    if (!found.has_value()) return "reading all: " + found.error().message();
    std::string wrong = DifferenceFromAll(found.value(), allowed);
    if (!wrong.empty()) return wrong;
    const std::optional<SimRecord> record =
        recovers_twice ? std::optional(device->TakeRecord()) : std::nullopt;
    std::uint64_t made = 0;
    if (is_writable && ordinal % options_.probe_stride == 0) {
      wrong = Probe(*mounted.value(), allowed.seen);
      made = 1;
    }
    mounted.value().reset();
    // What a mount would still free is there when nothing was written.
    const std::uint64_t inodes = found.value().nodes.size() + made;
    if (wrong.empty()) wrong = Check(*device, is_writable ? std::optional(inodes) : std::nullopt);
    if (wrong.empty() && record) wrong = VerifyRecovery(*record, found.value(), allowed, ordinal);
    return wrong;
  }

  static std::string Check(SimDevice& device, std::optional<std::uint64_t> inodes) {
    const auto report = Engine::Check(device, true);
    if (!report.has_value()) return "check: " + report.error().message();
    if (!report.value().findings.empty()) return "check: " + FindingsText(report.value());
    if (!inodes.has_value() || report.value().inodes == *inodes) return {};
    return fmt::format("check: {} inodes on the volume, {} can be reached", report.value().inodes,
                       *inodes);
  }

  // Goes on with what was recovered: nothing that was seen up to operation `seen` may be issued
  // again.
  std::string Probe(Engine& engine, std::uint64_t seen) const {
    CreateOptions options;
    const NodeId root = engine.Root();
    const auto created = engine.Create(Caller{}, root, "probe", options);
    if (!created.has_value()) return "create after recovery: " + created.error().message();
    const std::uint64_t inode = created.value().node.id.inode;
    const auto known = issued_.inodes.find(inode);
    if (known != issued_.inodes.end() && known->second <= seen) {
      return fmt::format("the inode number {} was issued again after the crash", inode);
    }
    if (created.value().directory.change <= issued_.NewestChange(root.inode, seen)) {
      return "the change attribute of the root was seen before the crash";
    }
    std::string wrong;
    const auto cookies = issued_.cookies.find(root.inode);
    const auto read = engine.ReadDirectory(root, 0, [&](const DirectoryEntry& entry) {
      if (entry.name != "probe" || cookies == issued_.cookies.end()) return true;
      const auto issued = cookies->second.find(entry.cookie);
      if (issued != cookies->second.end() && issued->second <= seen) {
        wrong = "a cookie was issued again after the crash";
      }
      return true;
    });
    if (!read.has_value()) return "read directory: " + read.error().message();
    if (!wrong.empty()) return wrong;
    const std::string bytes = ContentOf(sequence_.seed, inode, 100, 9000);
    const iovec data{const_cast<char*>(bytes.data()), bytes.size()};
    const auto written =
        engine.Write(created.value().node.id, 100, {&data, 1}, Stability::kUnstable);
    if (!written.has_value()) return "write after recovery: " + written.error().message();
    const auto unmounted = engine.Unmount();
    return unmounted.has_value() ? "" : "unmount: " + unmounted.error().message();
  }

  // The power goes again, during or right after the mount.
  std::string VerifyRecovery(const SimRecord& record, const FileModel& found,
                             const Allowed& allowed, std::uint64_t ordinal) {
    std::mt19937_64 random(sequence_.seed * 1'000'003 + ordinal);
    std::uint64_t epochs = 0;
    EachEpoch(record, [&](const FlushEpoch&) { return ++epochs != 0; });
    std::string wrong;
    for (std::uint32_t at = 0; wrong.empty() && at < options_.recovery_states; ++at) {
      const std::uint64_t chosen = random() % epochs;
      EachEpoch(record, [&](const FlushEpoch& epoch) {
        if (epoch.index() != chosen) return true;
        const KeptWrites kept = RandomState(epoch, random);
        ++counts_.recovery_states;
        // What a mount has shown stays.
        const Allowed now = epoch.mark() == 0 ? allowed : Allowed{{&found}, true, 0};
        wrong = VerifyOnce(epoch.Image(kept), now);
        if (!wrong.empty()) {
          wrong += "\n  after a second crash, of its recovery, at " + epoch.Text(kept);
        }
        return false;
      });
    }
    return wrong;
  }

  std::string VerifyOnce(SimImage image, const Allowed& allowed) {
    const auto device = DeviceOn(std::move(image), {});
    auto mounted = Engine::Mount(*device, clock_, QuietMountOptions());
    if (!mounted.has_value()) return "mount: " + mounted.error().message();
    const auto found = ReadModel(*mounted.value());
    if (!found.has_value()) return "reading all: " + found.error().message();
    const std::string wrong = DifferenceFromAll(found.value(), allowed);
    if (!wrong.empty()) return wrong;
    mounted.value().reset();
    return Check(*device, found.value().nodes.size());
  }

  // The next life begins at a state of this one.
  std::string PickCrash(SimImage& image) {
    std::uint64_t epochs = 0;
    EachEpoch(*record_, [&](const FlushEpoch&) { return ++epochs != 0; });
    // Rather late than early: there is more to lose.
    const std::uint64_t chosen = std::max(random_() % epochs, random_() % epochs);
    std::string wrong;
    EachEpoch(*record_, [&](const FlushEpoch& epoch) {
      if (epoch.index() != chosen) return true;
      image = epoch.Image(RandomState(epoch, random_));
      wrong = Adopt(image, AllowedAt(epoch.mark()));
      issued_.Rewind(life_start_ + epoch.mark());
      return false;
    });
    return wrong;
  }

  const Sequence& sequence_;
  const CrashRunOptions& options_;
  CrashRunCounts& counts_;
  std::mt19937_64 random_;
  ManualClock clock_;
  Issued issued_;
  FileModel model_;  // at the start of the life
  std::uint64_t lives_ = 0;
  std::uint64_t life_start_ = 0;  // operations of the lives before
  std::optional<SimRecord> record_;
  std::vector<RunStep> steps_;
  std::unordered_set<std::uint64_t> verified_;
};

}  // namespace

void CrashRunCounts::Add(const CrashRunCounts& other) {
  operations += other.operations;
  epochs += other.epochs;
  states += other.states;
  distinct += other.distinct;
  recovery_states += other.recovery_states;
  record_hash = record_hash * 31 + other.record_hash;
}

std::string RunCrashes(const Sequence& sequence, const CrashRunOptions& options,
                       CrashRunCounts& counts) {
  KeepFreedMemory();
  return CrashRun(sequence, options, counts).Run();
}

std::vector<std::uint32_t> Shrink(
    std::vector<std::uint32_t> indexes, std::uint32_t tries_max,
    const std::function<bool(const std::vector<std::uint32_t>&)>& fails) {
  std::uint32_t tries = 0;
  for (std::size_t part = std::max<std::size_t>(1, indexes.size() / 2); part > 0;) {
    bool is_shorter = false;
    // From the end: what comes after the failure goes at once.
    for (std::size_t end = indexes.size(); end > 0 && tries < tries_max;) {
      const std::size_t begin = end > part ? end - part : 0;
      std::vector<std::uint32_t> without(indexes.begin(),
                                         indexes.begin() + static_cast<std::ptrdiff_t>(begin));
      without.insert(without.end(), indexes.begin() + static_cast<std::ptrdiff_t>(end),
                     indexes.end());
      ++tries;
      if (fails(without)) {
        indexes = std::move(without);
        is_shorter = true;
      }
      end = begin;
    }
    if (tries >= tries_max) break;
    if (part > 1) {
      part /= 2;
    } else if (!is_shorter) {
      break;
    }
  }
  return indexes;
}

std::string RunCrashesAndShrink(const Sequence& sequence, const CrashRunOptions& options,
                                CrashRunCounts& counts) {
  constexpr std::uint32_t kTriesMax = 2000;
  const std::string wrong = RunCrashes(sequence, options, counts);
  if (wrong.empty()) return {};
  // At once: whoever loses patience with the shortening still has the seed.
  fmt::print(stderr, "seed {}: {}\nagain: engine_sim crash --seed {}; shortening...\n",
             sequence.seed, wrong, sequence.seed);
  std::string wrong_now = wrong;
  const auto shortest = Shrink(IndexesOf(sequence), kTriesMax, [&](const auto& indexes) {
    CrashRunCounts unused;
    std::string found = RunCrashes(Subset(sequence, indexes), options, unused);
    if (found.empty()) return false;
    wrong_now = std::move(found);
    return true;
  });
  std::string text = fmt::format("seed {}: {}\nshortened to {} operations: {}\n", sequence.seed,
                                 wrong, shortest.size(), wrong_now);
  for (const auto& life : Subset(sequence, shortest).lives) {
    for (const Operation& operation : life) text += "  " + Text(operation) + "\n";
    text += "  -- the power goes\n";
  }
  return text + fmt::format("again: engine_sim crash --seed {} --only {}\n", sequence.seed,
                            shortest.empty() ? "none" : IndexesText(shortest));
}

Sequence CampaignSequence(std::uint64_t seed) {
  // One in ten is long enough for checkpoints that a filling log asks for.
  return seed % 10 == 9 ? DrawSequence(seed, 1500, 1) : DrawSequence(seed, 60, 3);
}

}  // namespace filer::engine::sim
