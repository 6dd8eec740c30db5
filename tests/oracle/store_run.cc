#include "tests/oracle/store_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/tree/store.h"
#include "tests/oracle/draw.h"
#include "tests/oracle/rocks.h"

namespace filer::engine::oracle {
namespace {

constexpr std::uint64_t kStepsBetweenEvents = 2000;
constexpr std::uint64_t kStepsPerMood = 5000;
constexpr std::size_t kScannedMost = 40;

std::string Shown(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes.substr(0, 24)) {
    text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  return fmt::format("{} ({} bytes)", text, bytes.size());
}

struct Kept {
  std::string key;
  std::optional<std::string> value;
};

// What a transaction that is not known to be durable had found.
struct Undo {
  Lsn lsn = 0;
  std::vector<Kept> before;  // in the order of its changes
};

class Run {
 public:
  Run(const RunOptions& options, RunCounts& counts)
      : options_(options), counts_(counts), random_(options.seed), values_(options.seed) {
    if (options.with_rocks) rocks_ = std::make_unique<Rocks>();
    spread_ = std::uint64_t{200} << random_() % 8;  // small trees, and more than the cache holds
    // From the fewest nodes that a store keeps in memory to half of the region.
    open_options_.cache_bytes = random_() % 2 == 0 ? 0 : std::uint64_t{1} << (20 + random_() % 5);
    sim_.seed = options.seed;
    sim_.has_volatile_cache = random_() % 4 != 0;
  }

  std::string Go() {
    device_ = SimDevice::Create(sim_).value();
    StoreFormatOptions format;
    format.volume_name = "oracle";
    format.random_seed = options_.seed | 1;
    if (const auto formatted = Store::Format(*device_, format); !formatted.has_value()) {
      return "format: " + formatted.error().message();
    }
    Open();
    const auto end = counts_.operations + options_.operations;
    for (step_ = 0; wrong_.empty() && counts_.operations < end; ++step_) Step();
    if (wrong_.empty()) CloseAndOpen();
    counts_.keys_most = std::max<std::uint64_t>(counts_.keys_most, model_.size());
    return wrong_;
  }

 private:
  void Fail(std::string what) {
    if (!wrong_.empty()) return;
    wrong_ = fmt::format("seed {}, step {}, {} keys of {}: {}", options_.seed, step_, model_.size(),
                         spread_, what);
  }

  void Step() {
    if (step_ % kStepsPerMood == 0) TakeMood();
    if (random_() % kStepsBetweenEvents == 0) return Event();
    if (random_() % 64 == 0) return Sync();
    switch (random_() % 8) {
      case 0:
      case 1:
        return CompareGet();
      case 2:
        return CompareScan();
      case 3:
        return CompareLast();
      default:
        return Commit();
    }
  }

  // Grow, shrink, or stay; until the region is full at times.
  void TakeMood() {
    counts_.keys_most = std::max<std::uint64_t>(counts_.keys_most, model_.size());
    switch (random_() % 4) {
      case 0:
        erase_percent_ = 80;
        big_percent_ = 1;
        break;
      case 1:
        erase_percent_ = 10;
        big_percent_ = 60;
        break;
      default:
        erase_percent_ = 33;
        big_percent_ = 3;
        break;
    }
  }

  void Event() {
    switch (random_() % 4) {
      case 0:
        ++counts_.checkpoints;
        if (const auto done = store_->Checkpoint(); !done.has_value()) {
          return Fail("checkpoint: " + done.error().message());
        }
        return CompareAll();
      case 1:
        return CloseAndOpen();
      default:
        return Die();
    }
  }

  // An existing key more often than not.
  std::string SomeKey() {
    auto key = DrawKey(random_, spread_);
    if (random_() % 4 == 0 || model_.empty()) return key;
    const auto at = model_.lower_bound(key);
    return at == model_.end() ? model_.rbegin()->first : at->first;
  }

  Transaction DrawTransaction() {
    Transaction transaction;
    auto changes = 1 + random_() % 4;
    if (random_() % 100 == 0) changes += random_() % 60;
    for (std::uint64_t at = 0; at < changes; ++at) {
      if (random_() % 100 < erase_percent_) {
        transaction.Erase(SomeKey());
      } else {
        transaction.Put(DrawKey(random_, spread_), values_.Draw(random_, big_percent_));
      }
    }
    return transaction;
  }

  static bool OnlyErases(const Transaction& transaction) {
    return std::none_of(transaction.changes().begin(), transaction.changes().end(),
                        [](const auto& change) { return change.value.has_value(); });
  }

  void Commit() {
    const auto transaction = DrawTransaction();
    const auto last = store_->LastLsn();
    const auto before = store_->Counters();
    const auto committed = store_->Commit(transaction);
    if (committed.has_value()) {
      if (committed.value() != last + 1) return Fail("commit: an LSN is missing or came twice");
      Apply(transaction, committed.value());
      return CompareCounters();
    }
    const bool is_full = committed.error() == Errc::kNoSpace;
    if (!is_full && committed.error() != Errc::kTooBig) {
      return Fail("commit: " + committed.error().message());
    }
    if (is_full && OnlyErases(transaction)) return Fail("a full volume does not let go of keys");
    ++(is_full ? counts_.refused_full : counts_.refused_big);
    const auto after = store_->Counters();
    if (store_->LastLsn() != last || after.keys != before.keys ||
        after.key_bytes != before.key_bytes || after.commits != before.commits) {
      return Fail("a refused transaction was counted: " + committed.error().message());
    }
    for (const auto& change : transaction.changes()) CompareOne(change.key);
  }

  void Apply(const Transaction& transaction, Lsn lsn) {
    ++counts_.transactions;
    Undo undo;
    undo.lsn = lsn;
    for (const auto& change : transaction.changes()) {
      const auto found = model_.find(change.key);
      undo.before.push_back({change.key, found == model_.end()
                                             ? std::nullopt
                                             : std::optional<std::string>(found->second)});
      SetModel(change.key, change.value);
    }
    if (rocks_) rocks_->Write();
    counts_.operations += transaction.changes().size();
    undo_.push_back(std::move(undo));
    ForgetDurable();
  }

  void SetModel(const std::string& key, const std::optional<std::string>& value) {
    if (const auto found = model_.find(key); found != model_.end()) {
      model_bytes_ -= key.size() + found->second.size();
      if (!value) model_.erase(found);
    }
    if (value) {
      model_bytes_ += key.size() + value->size();
      model_[key] = *value;
    }
    if (!rocks_) return;
    if (value) {
      rocks_->Put(key, *value);
    } else {
      rocks_->Erase(key);
    }
  }

  void ForgetDurable() {
    const auto durable = store_->DurableLsn();
    while (!undo_.empty() && undo_.front().lsn <= durable) undo_.pop_front();
  }

  void CompareCounters() {
    const auto counters = store_->Counters();
    if (counters.keys != model_.size() || counters.key_bytes != model_bytes_) {
      Fail(fmt::format("counts {} keys of {} bytes, there are {} of {}", counters.keys,
                       counters.key_bytes, model_.size(), model_bytes_));
    }
  }

  void Sync() {
    const auto lsn = store_->LastLsn();
    const auto synced = store_->Sync(lsn);
    if (!synced.has_value()) return Fail("sync: " + synced.error().message());
    synced_lsn_ = lsn;
    ForgetDurable();
  }

  void CompareOne(std::string_view key) {
    const auto found = model_.find(std::string(key));
    const auto got = store_->Get(key);
    if (!got.has_value() && got.error() != Errc::kNotFound) {
      return Fail("get: " + got.error().message());
    }
    if (got.has_value() != (found != model_.end()) ||
        (got.has_value() && got.value() != found->second)) {
      return Fail("get of " + Shown(key) + ": another answer than std::map's");
    }
    if (!rocks_) return;
    const auto theirs = rocks_->Get(key);
    if (theirs.has_value() != got.has_value() || (theirs && *theirs != got.value())) {
      Fail("get of " + Shown(key) + ": another answer than RocksDB's");
    }
  }

  void CountRead() {
    ++counts_.operations;
    ++counts_.reads;
  }

  void CompareGet() {
    CountRead();
    CompareOne(SomeKey());
  }

  // Two keys in order; either may be the empty one, which stands for no limit.
  std::pair<std::string, std::string> DrawRange() {
    std::string from = random_() % 16 == 0 ? std::string() : SomeKey();
    std::string to = random_() % 4 == 0 ? std::string() : SomeKey();
    if (!to.empty() && to < from) std::swap(from, to);
    return {std::move(from), std::move(to)};
  }

  void CompareScan() {
    CountRead();
    const auto [from, to] = DrawRange();
    ScanBoth(from, to, 1 + random_() % kScannedMost);
  }

  void ScanBoth(const std::string& from, const std::string& to, std::size_t count_max) {
    std::vector<std::pair<std::string, std::string>> found;
    auto expected = model_.lower_bound(from);
    std::string_view wrong;
    std::size_t count = 0;
    const auto is_at_end = [&] {
      return expected == model_.end() || (!to.empty() && expected->first >= to);
    };
    const auto scanned = store_->Scan(from, to, [&](std::string_view key, std::string_view value) {
      if (is_at_end()) {
        wrong = "gives more than std::map";
      } else if (expected->first != key || expected->second != value) {
        wrong = "gives something else than std::map";
      }
      if (!wrong.empty()) return false;
      ++expected;
      if (rocks_) found.emplace_back(key, value);
      return ++count < count_max;
    });
    if (!scanned.has_value()) return Fail("scan: " + scanned.error().message());
    if (wrong.empty() && count < count_max && !is_at_end()) wrong = "gives less than std::map";
    if (wrong.empty() && rocks_) wrong = CompareWithRocks(from, to, count_max, found);
    if (!wrong.empty()) {
      Fail(fmt::format("scan from {} to {}: {}", Shown(from), Shown(to), wrong));
    }
  }

  std::string_view CompareWithRocks(const std::string& from, const std::string& to,
                                    std::size_t count_max,
                                    const std::vector<std::pair<std::string, std::string>>& found) {
    std::string_view wrong;
    std::size_t count = 0;
    rocks_->Scan(from, [&](std::string_view key, std::string_view value) {
      if (count == count_max || (!to.empty() && key >= to)) return false;
      if (count == found.size()) {
        wrong = "gives less than RocksDB";
      } else if (found[count].first != key || found[count].second != value) {
        wrong = "gives something else than RocksDB";
      }
      ++count;
      return wrong.empty();
    });
    if (wrong.empty() && count < found.size()) wrong = "gives more than RocksDB";
    return wrong;
  }

  void CompareLast() {
    CountRead();
    const auto [from, to] = DrawRange();
    const auto got = store_->Last(from, to);
    if (!got.has_value() && got.error() != Errc::kNotFound) {
      return Fail("last: " + got.error().message());
    }
    auto at = to.empty() ? model_.end() : model_.lower_bound(to);
    const bool is_there = at != model_.begin() && (--at)->first >= from;
    const auto text = [&] { return "last from " + Shown(from) + " to " + Shown(to); };
    if (is_there != got.has_value() ||
        (is_there && (got.value().first != at->first || got.value().second != at->second))) {
      return Fail(text() + ": another answer than std::map's");
    }
    if (!rocks_) return;
    auto theirs = rocks_->Last(to);
    if (theirs && theirs->first < from) theirs.reset();
    if (theirs.has_value() != got.has_value() || (theirs && *theirs != got.value())) {
      Fail(text() + ": another answer than RocksDB's");
    }
  }

  void CompareAll() {
    ScanBoth("", "", SIZE_MAX);
    CompareCounters();
  }

  void Open() {
    auto opened = Store::Open(*device_, SystemClock(), open_options_);
    if (!opened.has_value()) return Fail("open: " + opened.error().message());
    store_ = std::move(opened).value();
  }

  void Stop() {
    counts_.nodes_read += store_->Counters().nodes_read;
    store_.reset();
  }

  void CloseAndOpen() {
    ++counts_.closes;
    const auto last = store_->LastLsn();
    if (const auto closed = store_->Close(); !closed.has_value()) {
      return Fail("close: " + closed.error().message());
    }
    Stop();
    Open();
    if (!wrong_.empty()) return;
    if (store_->LastLsn() != last) return Fail("a closed store came up with another LSN");
    undo_.clear();
    synced_lsn_ = last;
    CompareAll();
  }

  // The process goes, or all of the machine, in the midst of what is not synced.
  void Die() {
    const bool is_power_cut = random_() % 2 == 0;
    ++(is_power_cut ? counts_.power_cuts : counts_.kills);
    if (random_() % 2 == 0) Sync();
    if (!wrong_.empty()) return;
    const auto last = store_->LastLsn();
    if (is_power_cut) {
      auto image = device_->CrashImage(random_());
      Stop();
      device_ = SimDevice::Create(sim_, std::move(image)).value();
    } else {
      Stop();
    }
    Open();
    if (!wrong_.empty()) return;
    const auto found = store_->LastLsn();
    if (found < synced_lsn_ || found > last) {
      return Fail(fmt::format("came up with LSN {}; synced was {}, committed {}", found,
                              synced_lsn_, last));
    }
    for (; !undo_.empty() && undo_.back().lsn > found; undo_.pop_back()) {
      auto& before = undo_.back().before;
      for (auto at = before.rbegin(); at != before.rend(); ++at) SetModel(at->key, at->value);
      ++counts_.undone;
    }
    if (rocks_) rocks_->Write();
    undo_.clear();
    synced_lsn_ = found;
    CompareAll();
  }

  const RunOptions options_;
  RunCounts& counts_;
  Random random_;
  Values values_;
  std::uint64_t spread_ = 0;
  SimOptions sim_;
  StoreOpenOptions open_options_;
  std::unique_ptr<SimDevice> device_;
  std::unique_ptr<Store> store_;
  std::map<std::string, std::string> model_;
  std::uint64_t model_bytes_ = 0;
  std::unique_ptr<Rocks> rocks_;
  std::deque<Undo> undo_;
  Lsn synced_lsn_ = 0;
  std::uint64_t step_ = 0;
  std::uint32_t erase_percent_ = 33;
  std::uint32_t big_percent_ = 3;
  std::string wrong_;
};

}  // namespace

std::string RunStore(const RunOptions& options, RunCounts& counts) {
  return Run(options, counts).Go();
}

}  // namespace filer::engine::oracle
