#include "fsal/engine/check/repair.h"

#include <fmt/format.h>

#include <algorithm>

#include "fsal/engine/check/repair_state.h"

namespace filer::engine {

void Repairer::ListLosses() {
  for (const Salvage::Mend& mend : salvage_.mends()) Mended(mend.what, mend.where);
  for (const Salvage::Loss& loss : salvage_.losses()) {
    if (loss.is_log) {
      gone_.push_back({loss.what, loss.where, {}});
      gone_directories_.push_back(0);
    } else {
      Mended(loss.what + "; the tree is built anew around it", loss.where);
    }
  }
  for (const auto& [number, inode] : inodes_) {
    if (!inode.stored.empty() && IsLost('X', number)) {
      Damaged("extended attributes of it may have been lost", number);
    }
  }
}

void Repairer::FinishReport() {
  for (auto& [finding, inode] : mended_) {
    finding.path = inode == 0 ? std::string() : PathOf(inode);
    report_.mended.push_back(std::move(finding));
  }
  for (const auto& [number, texts] : damaged_) {
    // What waited to be freed loses nothing.
    const Inode* inode = Known(number);
    if (inode == nullptr || inode->is_orphan) continue;
    std::string what;
    for (const std::string& text : texts) what += (what.empty() ? "" : "; ") + text;
    report_.damaged.push_back({std::move(what), fmt::format("inode {}", number), PathOf(number)});
  }
  for (std::size_t at = 0; at < gone_.size(); ++at) {
    CheckFinding finding = gone_[at];
    if (gone_directories_[at] != 0) {
      const std::string directory = PathOf(gone_directories_[at]);
      finding.path = (directory == "/" ? "" : directory) + "/" + finding.path;
    }
    report_.damaged.push_back(std::move(finding));
  }
  report_.inodes = inodes_.size();
}

Result<RepairReport> Repairer::Run() {
  FILER_TRY(Read());
  RestoreEntries();
  MakeLostInodes();
  CheckEntries();
  SeparateTwins();
  PlaceDirectories();
  CollectNames();
  CheckMarks();
  CheckExtents();
  if (unreadable_) return *unreadable_;
  Reach(kRootInode);
  AttachUnreached();
  CountBlocks();
  DropWithoutInode();
  WriteEntries();
  WriteIndex();
  WriteParents();
  SettleAcls();
  WriteInodes();
  WriteUsage();
  ListLosses();
  if (options_.verify_data) FILER_TRY(VerifyData(false));

  const auto words = UsedWords();
  if (salvage_.mends().empty() && salvage_.losses().empty() && !salvage_.DoesMapSay(words)) {
    Mended("the map of used space does not match the extents", "map of used space");
  }
  const auto recorded = salvage_.recorded_files();
  if (recorded && *recorded != inodes_.size()) {
    Mended(fmt::format("{} inodes instead of {}", inodes_.size(), *recorded), "store");
  }
  FinishReport();
  const bool is_sound = report_.mended.empty() && !salvage_.has_changes() &&
                        salvage_.losses().empty() && salvage_.DoesMapSay(words);
  if (is_sound || options_.is_dry_run) return std::move(report_);
  FILER_TRY(salvage_.Write(words, inodes_.size()));
  report_.was_written = true;
  return std::move(report_);
}

Result<RepairReport> RepairVolume(BlockDevice& device, const Clock& clock,
                                  const RepairOptions& options) {
  const auto salvage = FILER_TRY(Salvage::Open(device, clock));
  return Repairer(device, *salvage, clock.RealtimeNs(), options).Run();
}

}  // namespace filer::engine
