#include "fsal/engine/fs/scrub.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "base/units.h"
#include "fsal/engine/tree/trees.h"

namespace filer::engine {
namespace {

constexpr std::size_t kLeavesPerStep = 32;          // 512 KiB
constexpr std::uint64_t kNodeBytesOfStore = 16384;  // of one node, for pacing
constexpr std::int64_t kSaveIntervalNs = 5'000'000'000;
constexpr std::int64_t kPauseNsMin = 1'000'000;
constexpr std::int64_t kPauseNsMax = 100'000'000;
constexpr std::int64_t kRestFactor = 4;  // rest to work, beside clients
constexpr std::size_t kInodeKeyBytes = 9;
constexpr std::uint64_t kInodesTried = 16;  // for a path, where some may be gone

std::int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Scrubber::~Scrubber() {
  const std::lock_guard lock(control_mutex_);
  Join(Ending::kStay);
}

void Scrubber::Load() {
  const auto value = volume_.store->Get(CounterKey(kScrubCursor));
  if (!value.has_value()) return;  // none yet, or it is to begin again
  auto cursor = DecodeScrubCursor(value.value());
  if (!cursor.has_value()) return;
  cursor_ = std::move(cursor).value();
  const std::string from = CounterKey(kScrubFinding);
  std::string to = from;
  ++to.back();
  const auto scanned =
      volume_.store->Scan(from, to, [&](std::string_view, std::string_view finding_value) {
        auto finding = DecodeScrubFinding(finding_value);
        if (finding.has_value()) findings_.push_back(std::move(finding).value());
        return ++saved_count_ < kScrubFindingsMax;
      });
  if (!scanned.has_value()) FILER_LOG_WARN("scrub: {}", scanned.error().message());
}

void Scrubber::Resume() {
  const std::lock_guard control_lock(control_mutex_);
  {
    const std::lock_guard lock(mutex_);
    Load();
    if (!cursor_.is_running || volume_.options.read_only) return;
  }
  Launch();
}

void Scrubber::Launch() {
  {
    const std::lock_guard lock(mutex_);
    cursor_.is_running = true;
    failure_.clear();
    is_running_ = true;
    must_stop_ = false;
  }
  thread_ = std::thread([this] { Run(); });
}

Result<void> Scrubber::Start(const ScrubOptions& options) {
  const std::lock_guard control_lock(control_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (is_running_) return Error(Errc::kBusy, "a scrub of this volume is running already");
    cursor_.bytes_per_second = options.bytes_per_second;
    cursor_.yields_to_clients = options.yields_to_clients;
    if (options.from_start) cursor_.is_at_start = true;
    if (cursor_.is_at_start) {
      cursor_.is_at_start = false;
      cursor_.phase = ScrubPhase::kNodes;
      cursor_.tree = kListTree;
      cursor_.key.clear();
      cursor_.nodes = cursor_.bytes = 0;
      cursor_.started_ns = volume_.clock.RealtimeNs();
      cursor_.finished_ns = 0;
    }
  }
  if (thread_.joinable()) thread_.join();  // of a pass that came to its end
  Launch();
  return Ok();
}

Result<void> Scrubber::Stop() {
  const std::lock_guard control_lock(control_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (!is_running_) return Error(Errc::kNotRunning, "no scrub of this volume is running");
  }
  Join(Ending::kSaveStopped);
  return Ok();
}

void Scrubber::Unmount() {
  const std::lock_guard control_lock(control_mutex_);
  if (thread_.joinable()) Join(Ending::kSave);
}

// control_mutex_ held.
void Scrubber::Join(Ending ending) {
  {
    const std::lock_guard lock(mutex_);
    must_stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (ending == Ending::kStay) return;
  if (ending == Ending::kSaveStopped) {
    const std::lock_guard lock(mutex_);
    cursor_.is_running = false;
  }
  Save();
}

ScrubStatus Scrubber::Status() const {
  const StoreCounters store = volume_.store->Counters();
  ScrubStatus status;
  status.nodes_total = store.node_units - store.free_node_units;
  status.bytes_total = (volume_.allocator.total() - volume_.allocator.free()) * kBlockBytes;
  const std::lock_guard lock(mutex_);
  status.is_running = is_running_;
  status.passes = cursor_.passes;
  status.nodes_verified = cursor_.nodes;
  status.bytes_verified = cursor_.bytes;
  status.started_ns = cursor_.started_ns;
  status.finished_ns = cursor_.finished_ns;
  for (const ScrubFinding& finding : findings_) status.findings.push_back(finding.finding);
  status.has_more_findings = cursor_.has_more_findings;
  status.failure = failure_;
  return status;
}

bool Scrubber::MustStop() const {
  const std::lock_guard lock(mutex_);
  return must_stop_;
}

std::uint64_t Scrubber::ClientWork() const {
  const VolumeCounters& counters = volume_.counters;
  return counters.reads.load(std::memory_order_relaxed) +
         counters.writes.load(std::memory_order_relaxed) +
         counters.metadata_changes.load(std::memory_order_relaxed);
}

void Scrubber::Pace(std::uint64_t bytes, std::int64_t took_ns) {
  std::unique_lock lock(mutex_);
  std::int64_t pause_ns = 0;
  if (cursor_.bytes_per_second > 0) {
    const double due_ns =
        static_cast<double>(bytes) * 1e9 / static_cast<double>(cursor_.bytes_per_second);
    pause_ns = static_cast<std::int64_t>(due_ns) - took_ns;
  }
  const std::uint64_t work = ClientWork();
  if (cursor_.yields_to_clients && work != client_work_) {
    pause_ns = std::max(pause_ns, std::clamp(kRestFactor * took_ns, kPauseNsMin, kPauseNsMax));
  }
  client_work_ = work;
  if (pause_ns <= 0) return;
  wake_.wait_for(lock, std::chrono::nanoseconds(pause_ns), [&] { return must_stop_; });
}

void Scrubber::Run() {
  client_work_ = ClientWork();
  Save();
  while (!MustStop()) {
    const std::int64_t began_ns = NowNs();
    ScrubPhase phase;
    {
      const std::lock_guard lock(mutex_);
      if (cursor_.is_at_start) break;  // the pass is done
      phase = cursor_.phase;
    }
    if (!EnterTree()) {
      EndPass();
      break;
    }
    const auto read = phase == ScrubPhase::kNodes ? StepNodes() : StepData();
    if (!read.has_value()) {
      if (read.error() == Errc::kCancelled) break;
      FILER_LOG_ERROR("scrub stopped: {}", read.error().message());
      const std::lock_guard lock(mutex_);
      failure_ = read.error().message();
      cursor_.is_running = false;
      break;
    }
    const std::int64_t now_ns = NowNs();
    if (now_ns - saved_ns_ > kSaveIntervalNs) Save();
    Pace(read.value(), now_ns - began_ns);
  }
  const std::lock_guard lock(mutex_);
  is_running_ = false;
}

// A tree that is gone by now is passed over.
bool Scrubber::EnterTree() {
  std::uint32_t wanted;
  {
    const std::lock_guard lock(mutex_);
    wanted = cursor_.tree;
  }
  opened_.reset();
  tree_ = nullptr;
  tree_text_.clear();
  if (wanted == kListTree) return true;
  std::string fileset;
  for (const TreeRecord& record : volume_.store->AllTrees().List()) {
    const bool is_live = record.kind == TreeKind::kLive;
    if (record.id < wanted || (!is_live && record.kind != TreeKind::kSnapshot)) continue;
    auto opened = volume_.store->AllTrees().Open(record.id);
    if (!opened.has_value()) continue;
    opened_ = std::move(opened).value();
    tree_ = opened_.get();
    shared_epoch_ = is_live ? tree_->SharedEpoch() : 0;
    is_served_ = is_live && record.fileset == kFirstTree;
    if (!is_served_) tree_text_ = (is_live ? "fileset " : "snapshot ") + record.name + ": ";
    if (record.id == wanted) return true;
    const std::lock_guard lock(mutex_);
    cursor_.tree = record.id;
    cursor_.phase = ScrubPhase::kNodes;
    cursor_.key.clear();
    return true;
  }
  return false;
}

void Scrubber::LeaveTree() {
  const std::lock_guard lock(mutex_);
  ++cursor_.tree;
  cursor_.phase = ScrubPhase::kNodes;
  cursor_.key.clear();
}

// For another tree than the served one, a path would be somebody else's.
std::string Scrubber::PathOf(std::uint64_t inode) const {
  return is_served_ ? path_of_(inode) : std::string();
}

// What the node holds, as a person may look for it. Separators are cut short.
CheckFinding Scrubber::FindingOf(const DamagedNode& node) const {
  CheckFinding finding{tree_text_ + node.what, fmt::format("block {}", node.block), {}};
  if (node.low.empty() || tree_ == nullptr) return finding;
  std::string low = node.low;
  low.resize(std::max(low.size(), kInodeKeyBytes));
  const std::uint64_t first = KeyInteger(low, 0).value();
  finding.what += fmt::format(", keys from {} of inode {}", low.front(), first);
  if (!node.high.empty()) {
    std::string high = node.high;
    high.resize(std::max(high.size(), kInodeKeyBytes));
    finding.what += fmt::format(" to {} of inode {}", high.front(), KeyInteger(high, 0).value());
  }
  for (std::uint64_t ahead = 0; ahead < kInodesTried && finding.path.empty(); ++ahead) {
    finding.path = PathOf(first + ahead);
  }
  return finding;
}

Result<std::uint64_t> Scrubber::StepNodes() {
  std::string from;
  {
    const std::lock_guard lock(mutex_);
    from = cursor_.key;
  }
  const auto verified =
      FILER_TRY(tree_ == nullptr ? volume_.store->VerifyLists(from, kLeavesPerStep)
                                 : tree_->VerifyNodes(from, kLeavesPerStep));
  for (const DamagedNode& node : verified.damaged) {
    Find(FindingOf(node));
  }
  {
    const std::lock_guard lock(mutex_);
    cursor_.nodes += verified.node_count;
    cursor_.key = verified.is_end ? StartOfLetter('E') : verified.next;
    if (verified.is_end) cursor_.phase = ScrubPhase::kData;
  }
  if (verified.is_end && tree_ == nullptr) LeaveTree();
  return verified.node_count * kNodeBytesOfStore;
}

// A place that is known already only stays known.
void Scrubber::Find(CheckFinding finding) {
  FILER_LOG_ERROR("scrub: {}: {}{}{}", finding.where, finding.what,
                  finding.path.empty() ? "" : ", file ", finding.path);
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t pass = cursor_.passes + 1;
    const auto known = std::find_if(findings_.begin(), findings_.end(), [&](const auto& other) {
      return other.finding.where == finding.where;
    });
    if (known != findings_.end()) {
      *known = {pass, std::move(finding)};
    } else if (findings_.size() < kScrubFindingsMax) {
      findings_.push_back({pass, std::move(finding)});
    } else {
      cursor_.has_more_findings = true;
      return;
    }
  }
  Save();
}

// What this pass has not seen any more, is mended.
void Scrubber::EndPass() {
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t pass = ++cursor_.passes;
    const bool was_full = findings_.size() == kScrubFindingsMax;
    std::erase_if(findings_, [&](const ScrubFinding& finding) { return finding.pass < pass; });
    if (!was_full) cursor_.has_more_findings = false;
    cursor_.is_at_start = true;
    cursor_.is_running = false;
    cursor_.finished_ns = volume_.clock.RealtimeNs();
  }
  Save();
}

// Cursor and findings in one transaction. A volume that takes no changes is scrubbed all the same.
void Scrubber::Save() {
  saved_ns_ = NowNs();
  if (volume_.options.read_only || !volume_.store->Health().has_value()) return;
  Transaction transaction;
  {
    const std::lock_guard lock(mutex_);
    transaction.Put(CounterKey(kScrubCursor), EncodeScrubCursor(cursor_));
    for (std::size_t at = 0; at < findings_.size(); ++at) {
      transaction.Put(ScrubFindingKey(at), EncodeScrubFinding(findings_[at]));
    }
    for (std::size_t at = findings_.size(); at < saved_count_; ++at) {
      transaction.Erase(ScrubFindingKey(at));
    }
    saved_count_ = findings_.size();
  }
  const auto lsn = volume_.store->Commit(std::move(transaction));
  if (!lsn.has_value()) {
    FILER_LOG_WARN("scrub: its cursor was not saved: {}", lsn.error().message());
    return;
  }
  volume_.WakeBackground();
}

}  // namespace filer::engine
