// Every crash state of random runs in which several users and projects use space and inodes, move
// them to each other and get limits: usage and limits are those after what was answered, or after
// that and the operation under way. Usage is held against all nodes, too, by check and by a walk of
// the public interface. FILER_SEED: the first seed (1). FILER_RUNS: how many (6; FILER_LONG: 300).
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "base/units.h"
#include "fsal/engine/engine.h"
#include "tests/sim/crash_states.h"

namespace filer::engine::sim {
namespace {

constexpr std::uint32_t kUsers[] = {0, 11, 12};
constexpr std::uint32_t kProjects[] = {0, 5};
constexpr int kOperations = 60;
using Id = std::pair<QuotaKind, std::uint32_t>;

struct Seen {
  std::uint64_t bytes = 0, inodes = 0;
  QuotaLimits limits;
  friend bool operator==(const Seen&, const Seen&) = default;
};
using Quotas = std::map<Id, Seen>;

std::vector<Id> AllIds() {
  std::vector<Id> ids;
  for (const auto user : kUsers) ids.push_back({QuotaKind::kUser, user});
  for (const auto user : kUsers) ids.push_back({QuotaKind::kGroup, user + 100});
  ids.push_back({QuotaKind::kProject, kProjects[1]});
  return ids;
}

Quotas Told(Engine& engine) {
  Quotas quotas;
  for (const auto& [kind, id] : AllIds()) {
    const Quota quota = engine.GetQuota(kind, id).value();
    quotas[{kind, id}] = {quota.used_bytes, quota.used_inodes, quota.limits};
  }
  return quotas;
}

// By the attributes of all nodes; limits are not among them.
void CountBelow(Engine& engine, const Attributes& node, std::map<std::uint64_t, bool>& counted,
                Quotas& quotas) {
  if (std::exchange(counted[node.id.inode], true)) return;  // by another name
  for (const Id& id : {Id{QuotaKind::kUser, node.uid}, Id{QuotaKind::kGroup, node.gid},
                       Id{QuotaKind::kProject, node.project}}) {
    const auto known = quotas.find(id);
    if (known == quotas.end()) continue;
    known->second.bytes += node.used_bytes;
    known->second.inodes += 1;
  }
  if (node.kind != NodeKind::kDirectory) return;
  ASSERT_TRUE(engine
                  .ReadDirectory(node.id, 0,
                                 [&](const DirectoryEntry& entry) {
                                   CountBelow(engine, engine.GetAttributes(entry.id).value(),
                                              counted, quotas);
                                   return true;
                                 })
                  .value());
}

MountOptions Quiet() {
  MountOptions options;
  options.checkpoint_interval_ms = 3'600'000;
  return options;
}

class QuotaRun {
 public:
  QuotaRun(Engine& engine, std::uint64_t seed) : engine_(engine), random_(seed) {}

  // Durable when it is answered, whatever it is.
  void Do() {
    const Caller caller{kUsers[random_() % 3], 100, {}, true};
    const NodeId directory = random_() % 2 == 0 ? engine_.Root() : directory_;
    const std::string name = "n" + std::to_string(random_() % 8);
    const auto found = engine_.Lookup(directory, name);
    const auto kind = random_() % 10;
    if (kind == 0) return SetLimits();
    if (!found.has_value()) return Make(caller, directory, name);
    const NodeId node = found.value().id;
    if (kind <= 3) return Write(node);
    if (kind == 4) return Ignore(engine_.Remove(caller, directory, name, RemoveKind::kAny));
    if (kind == 5) return Ignore(engine_.SetProject({}, node, kProjects[random_() % 2], false));
    if (kind == 6) return Ignore(engine_.Allocate(caller, node, Offset(), 9000, random_() % 2));
    if (kind == 7) return Ignore(engine_.Deallocate(caller, node, Offset(), 30'000));
    if (kind == 8) {
      const std::string to = "n" + std::to_string(random_() % 8);
      return Ignore(engine_.Rename(caller, directory, name, engine_.Root(), to, kRenameReplace));
    }
    AttributeChange change;
    if (random_() % 2 == 0) change.uid = kUsers[random_() % 3];
    if (random_() % 2 == 0) change.gid = kUsers[random_() % 3] + 100;
    if (random_() % 3 == 0) change.size_bytes = Offset();
    Ignore(engine_.SetAttributes(caller, node, change));
  }
  void MakeDirectory() {
    CreateOptions options;
    options.kind = NodeKind::kDirectory;
    directory_ = engine_.Create({}, engine_.Root(), "tree", options).value().node.id;
    ASSERT_TRUE(engine_.SetProject({}, directory_, kProjects[1], true).has_value());
  }
  int refused() const { return refused_; }

 private:
  template <typename T>
  void Ignore(const Result<T>& result) {
    if (!result.has_value() && result.error() == Errc::kQuotaExceeded) ++refused_;
  }
  std::uint64_t Offset() { return random_() % 60'000; }
  void Make(const Caller& caller, NodeId directory, const std::string& name) {
    CreateOptions options;
    options.attributes.uid = kUsers[random_() % 3];
    options.attributes.gid = kUsers[random_() % 3] + 100;
    Ignore(engine_.Create(caller, directory, name, options));
  }
  void Write(NodeId node) {
    const std::string bytes(random_() % 20'000 + 1, 'q');
    const iovec data{const_cast<char*>(bytes.data()), bytes.size()};
    Ignore(engine_.Write(node, Offset(), {&data, 1}, Stability::kFileSync));
  }
  void SetLimits() {
    QuotaLimits limits;
    if (random_() % 3 != 0) limits.bytes_hard = (random_() % 20 + 1) * kBlockBytes;
    if (random_() % 3 != 0) limits.inodes_hard = random_() % 6 + 2;
    if (random_() % 3 == 0) limits.bytes_soft = kBlockBytes;
    const auto ids = AllIds();
    const auto& [kind, id] = ids[random_() % ids.size()];
    Ignore(engine_.SetQuota({}, kind, id, limits));
  }

  Engine& engine_;
  std::mt19937_64 random_;
  NodeId directory_;
  int refused_ = 0;
};

class QuotaCrash {
 public:
  explicit QuotaCrash(std::uint64_t seed) : seed_(seed) {}

  void Run() {
    SimOptions options;
    options.size_bytes = 64ULL << 20;
    options.pool_bytes = 16ULL << 20;
    options.seed = seed_;
    const auto device = SimDevice::Create(options).value();
    FormatOptions format;
    format.volume_name = "sim";
    format.random_seed = seed_;
    format.clock = &clock_;
    ASSERT_TRUE(Engine::Format(*device, format).has_value());
    auto engine = Engine::Mount(*device, clock_, Quiet()).value();
    QuotaRun run(*engine, seed_);
    run.MakeDirectory();
    device->StartRecord();
    after_ = {Told(*engine)};
    for (int at = 0; at < kOperations; ++at) {
      run.Do();
      device->Mark(static_cast<std::uint64_t>(at) + 1);
      after_.push_back(Told(*engine));
    }
    refused += run.refused();
    engine.reset();  // killed
    const SimRecord record = device->TakeRecord();
    EachEpoch(record, [&](const FlushEpoch& epoch) {
      EachState(epoch, {.seed = seed_, .random_subsets = 16, .torn_random = 1},
                [&](const KeptWrites& kept) {
                  if (!verified_.insert({epoch.Hash(kept), epoch.mark()}).second) return true;
                  Verify(epoch.Image(kept), epoch.mark());
                  return !::testing::Test::HasFailure();
                });
      return !::testing::Test::HasFailure();
    });
    states += verified_.size();
  }

  static inline std::size_t states = 0;
  static inline int refused = 0;

 private:
  void Verify(SimImage image, std::uint64_t done) {
    SCOPED_TRACE("seed " + std::to_string(seed_) + ", " + std::to_string(done) + " answered");
    SimOptions options;
    options.size_bytes = image.size_bytes();
    options.pool_bytes = 16ULL << 20;
    const auto device = SimDevice::Create(options, std::move(image)).value();
    // Written to, so that what the crash interrupted is finished: a removal is two transactions.
    auto engine = Engine::Mount(*device, clock_, Quiet()).value();
    const Quotas told = Told(*engine);
    const bool is_next = done + 1 < after_.size() && told == after_[done + 1];
    EXPECT_TRUE(told == after_[done] || is_next || IsPartOf(told, done)) << TextOf(told, done);
    Quotas counted;
    for (const Id& id : AllIds()) counted[id].limits = told.at(id).limits;
    std::map<std::uint64_t, bool> seen;
    CountBelow(*engine, engine->GetAttributes(engine->Root()).value(), seen, counted);
    EXPECT_EQ(counted, told);
    ASSERT_TRUE(engine->Unmount().has_value());
    engine.reset();
    const auto report = Engine::Check(*device, false).value();
    for (const auto& finding : report.findings) ADD_FAILURE() << finding.what << finding.where;
  }
  // An operation of several transactions: nothing is outside of what it was before and after, and
  // the limits are as they were.
  bool IsPartOf(const Quotas& told, std::uint64_t done) const {
    if (done + 1 >= after_.size()) return false;
    for (const auto& [id, seen] : told) {
      const Seen& before = after_[done].at(id);
      const Seen& then = after_[done + 1].at(id);
      const auto is_between = [](std::uint64_t value, std::uint64_t one, std::uint64_t other) {
        return value >= std::min(one, other) && value <= std::max(one, other);
      };
      if (!is_between(seen.bytes, before.bytes, then.bytes) ||
          !is_between(seen.inodes, before.inodes, then.inodes) || !(seen.limits == before.limits)) {
        return false;
      }
    }
    return true;
  }
  std::string TextOf(const Quotas& told, std::uint64_t done) const {
    std::string text;
    for (const auto& [id, seen] : told) {
      const Seen& before = after_[done].at(id);
      text += std::to_string(static_cast<int>(id.first)) + "/" + std::to_string(id.second) + ": " +
              std::to_string(seen.bytes) + ", " + std::to_string(seen.inodes) + "; answered " +
              std::to_string(before.bytes) + ", " + std::to_string(before.inodes) + "\n";
    }
    return text;
  }

  const std::uint64_t seed_;
  ManualClock clock_;
  std::vector<Quotas> after_;  // so many operations
  std::set<std::pair<std::uint64_t, std::uint64_t>> verified_;
};

std::uint64_t EnvironmentNumber(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(QuotaCrash, UsageAndLimitsAreThoseOfTheAnsweredOperations) {
  const std::uint64_t first = EnvironmentNumber("FILER_SEED", 1);
  const std::uint64_t runs =
      EnvironmentNumber("FILER_RUNS", std::getenv("FILER_LONG") != nullptr ? 300 : 6);
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    QuotaCrash(seed).Run();
    if (HasFailure()) return;
  }
  std::printf("%zu distinct crash states, %d operations refused\n", QuotaCrash::states,
              QuotaCrash::refused);
  EXPECT_GT(QuotaCrash::states, 100 * runs);
  EXPECT_GT(QuotaCrash::refused, 0);
}

}  // namespace
}  // namespace filer::engine::sim
