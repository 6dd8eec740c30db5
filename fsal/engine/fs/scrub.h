// scrub.h: reads all metadata and all data from the device again while the volume is served, and
// verifies them. First the nodes of the tree, in the order of their keys, then the data, in the
// order of the extents' keys.
//
// It goes round every cache: what it reads is what the device holds. A place whose content does not
// verify counts as damaged only if the store refers to it before and after it was read once more:
// a block that was freed and written anew meanwhile is no finding. No lock is held across I/O.
// Cursor and findings live in the store (scrub_record.h); a volume that is mounted read-only is
// scrubbed, too, but nothing of it is kept.
// Threads: any; the work is done by one of its own, which never waits longer than a step takes.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "fsal/engine/fs/extents.h"
#include "fsal/engine/fs/scrub_record.h"
#include "fsal/engine/fs/shared_volume.h"

namespace filer::engine {

class Scrubber {
 public:
  // `path_of`: a path of an inode for a person, or empty; called without locks.
  Scrubber(SharedVolume& volume, std::function<std::string(std::uint64_t inode)> path_of)
      : volume_(volume), path_of_(std::move(path_of)) {}
  ~Scrubber();  // as if killed: nothing is written

  // At mount: reads what the store holds, and goes on with a pass that an unmount or a crash ended.
  void Resume();
  // Errors: kBusy.
  Result<void> Start(const ScrubOptions& options);
  // Errors: kNotRunning.
  Result<void> Stop();
  // Stops; the next mount goes on.
  void Unmount();
  ScrubStatus Status() const;

 private:
  struct Piece;
  enum class Ending { kStay, kSave, kSaveStopped };

  void Join(Ending ending);
  void Load();
  void Launch();
  void Run();
  bool MustStop() const;
  void Pace(std::uint64_t bytes, std::int64_t took_ns);
  std::uint64_t ClientWork() const;

  // The tree that the cursor is in; none: the pass is done.
  bool EnterTree();
  std::string PathOf(std::uint64_t inode) const;
  void LeaveTree();
  // Bytes read. Errors: what ends the pass.
  Result<std::uint64_t> StepNodes();
  Result<std::uint64_t> StepData();
  Result<std::vector<Piece>> NextPieces(std::string& next);
  Result<void> PassDamagedNodes();
  Result<BufferRef> AwaitBuffer(std::uint32_t bytes);
  Result<void> VerifyBlocks(const Piece& piece, const BufferRef& buffer, std::uint64_t at,
                            std::uint64_t count);
  Result<std::uint64_t> VerifyPiece(const Piece& piece);
  bool IsCurrent(const Piece& piece) const;
  CheckFinding FindingOf(const DamagedNode& node) const;

  void Find(CheckFinding finding);
  void EndPass();
  void Save();

  SharedVolume& volume_;
  const std::function<std::string(std::uint64_t inode)> path_of_;

  std::mutex control_mutex_;  // Start, Stop and Unmount take turns; held while they wait
  std::thread thread_;        // guarded by control_mutex_

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  ScrubCursor cursor_;
  std::vector<ScrubFinding> findings_;
  std::size_t saved_count_ = 0;  // findings with a key in the store, at most
  std::string failure_;
  bool is_running_ = false;
  bool must_stop_ = false;
  // Of the working thread alone.
  std::unique_ptr<Store> opened_;  // unless it is the volume's own
  const Store* tree_ = nullptr;    // none: the lists
  std::uint64_t shared_epoch_ = 0;
  bool is_served_ = false;
  std::string tree_text_;  // for findings
  std::uint64_t client_work_ = 0;
  std::int64_t saved_ns_ = 0;
};

}  // namespace filer::engine
