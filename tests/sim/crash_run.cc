#include "tests/sim/crash_run.h"

#include <fmt/format.h>

#include <random>
#include <unordered_set>

#include "base/assert.h"
#include "fsal/engine/format/label.h"

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
    life_start_ = issued_.operation;
    std::string wrong;
    if (options_.wraps_log) {
      wrong = run.Mount();
      if (wrong.empty()) wrong = FillLog(run, *device);
      model_ = run.model();
      device->StartRecord();
    } else {
      device->StartRecord();
      wrong = run.Mount();
    }
    for (const Operation& operation : operations) {
      if (!wrong.empty()) return wrong;
      wrong = run.Do(operation);
      ++counts_.operations;
    }
    if (wrong.empty()) wrong = run.Compare();
    run.Kill();
    record_.emplace(device->TakeRecord());
    counts_.wraps += WrapsIn(*record_);
    steps_ = run.steps();
    for (const SimRecord::Request& request : record_->requests) {
      if (request.changed_in_flight) return "a buffer changed while it was being written";
    }
    return wrong;
  }

  // Large values until the end of the ring is near. They leave nothing but their place in the log.
  std::string FillLog(FileRun& run, SimDevice& device) {
    constexpr const char* kName = "user.fill";
    const auto layout = PlanVolume(kVolumeBytes).value();
    const NodeId root = run.engine().Root();
    const std::uint64_t margin = 3 + random_() % 12;  // blocks
    std::uint64_t end = 0;                            // of the newest group, in the ring
    device.SetStepHook([&](SimDevice&, const BlockRequest& request) {
      const std::uint64_t block = request.offset_bytes / kBlockBytes;
      const bool is_log = request.operation == BlockOperation::kWrite &&
                          block >= layout.log_first_block && block < layout.node_first_block;
      if (is_log) end = block - layout.log_first_block + request.length_bytes / kBlockBytes;
    });
    std::string wrong;
    while (wrong.empty() && end + margin < layout.log_block_count) {
      const bool is_near = end + margin + 40 >= layout.log_block_count;
      const std::string value(is_near ? 10 : 60'000, 'f');
      const auto set =
          run.engine().SetXattr(Caller{}, root, kName, value, Engine::XattrMode::kCreateOrReplace);
      if (!set.has_value()) wrong = "filling the log: " + set.error().message();
    }
    device.SetStepHook(nullptr);
    if (!wrong.empty()) return wrong;
    const auto removed = run.engine().RemoveXattr(Caller{}, root, kName);
    if (!removed.has_value()) return "filling the log: " + removed.error().message();
    const auto synced = run.engine().SyncAll();
    if (!synced.has_value()) return "filling the log: " + synced.error().message();
    return run.Adopt();
  }

  // How often the record's log reaches the end of its ring.
  static std::uint64_t WrapsIn(const SimRecord& record) {
    const auto layout = PlanVolume(kVolumeBytes).value();
    std::uint64_t count = 0;
    for (const SimRecord::Request& request : record.requests) {
      count += request.operation == BlockOperation::kWrite &&
                       request.offset_bytes >= layout.log_first_block * kBlockBytes &&
                       request.offset_bytes + request.length_bytes ==
                           layout.node_first_block * kBlockBytes
                   ? 1
                   : 0;
    }
    return count;
  }

  // After `done` operations were answered.
  Allowed AllowedAt(std::uint64_t done) const {
    return AllowedOf(model_, steps_, life_start_, done);
  }

  static Allowed AllowedOf(const FileModel& start, const std::vector<RunStep>& steps,
                           std::uint64_t operations_before, std::uint64_t done) {
    Allowed allowed;
    allowed.seen = operations_before + done;
    allowed.models.push_back(done == 0 ? &start : &steps[done - 1].after);
    if (done == steps.size()) return allowed;
    const RunStep& next = steps[done];
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
    if (wrong.empty() && options_.go_on_stride != 0 && ordinal % options_.go_on_stride == 1) {
      wrong = VerifySecondLife(image, found.value(), allowed, ordinal);
    }
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

  // The volume is served on from this state, until the power goes again: what the second life was
  // acknowledged is there, whatever the first had left in the log and in free blocks.
  std::string VerifySecondLife(const SimImage& image, const FileModel& found,
                               const Allowed& allowed, std::uint64_t ordinal) {
    const std::uint64_t seed = sequence_.seed * 1'000'033 + ordinal;
    SimOptions device_options = DeviceOptionsOf(sequence_.seed);
    device_options.seed = seed;
    const auto device = DeviceOn(image, device_options);
    const Sequence life = DrawSequence(seed, options_.go_on_operations, 1);
    ManualClock clock = clock_;
    Issued issued = issued_;
    issued.Rewind(allowed.seen);
    FileRun run(*device, clock, MountOptionsOf(sequence_.seed), seed, found, issued);
    run.OnAnswered([&device](std::uint64_t count) { device->Mark(count); });
    device->StartRecord();
    std::string wrong = run.Mount();
    for (const Operation& operation : life.lives.front()) {
      if (wrong.empty()) wrong = run.Do(operation);
    }
    if (wrong.empty()) wrong = run.Compare();
    run.Kill();
    const SimRecord record = device->TakeRecord();
    std::mt19937_64 random(seed);
    std::uint64_t epochs = 0;
    EachEpoch(record, [&](const FlushEpoch&) { return ++epochs != 0; });
    for (std::uint32_t at = 0; wrong.empty() && at < options_.go_on_states; ++at) {
      const std::uint64_t chosen = random() % epochs;
      EachEpoch(record, [&](const FlushEpoch& epoch) {
        if (epoch.index() != chosen) return true;
        const KeptWrites kept = RandomState(epoch, random);
        ++counts_.second_states;
        const Allowed now = AllowedOf(found, run.steps(), allowed.seen, epoch.mark());
        wrong = VerifyOnce(epoch.Image(kept), now);
        if (!wrong.empty()) wrong += "\n  at " + epoch.Text(kept);
        return false;
      });
    }
    return wrong.empty() ? "" : fmt::format("in a second life (seed {}): {}", seed, wrong);
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
  second_states += other.second_states;
  wraps += other.wraps;
  record_hash = record_hash * 31 + other.record_hash;
}

std::string RunCrashes(const Sequence& sequence, const CrashRunOptions& options,
                       CrashRunCounts& counts) {
  KeepFreedMemory();
  return CrashRun(sequence, options, counts).Run();
}

}  // namespace filer::engine::sim
