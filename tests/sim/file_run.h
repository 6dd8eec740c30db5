// file_run.h: runs operations on an engine and on the model, one after the other, and holds what
// the engine answers against the model. One thread, simulated volume and clock: the same sequence
// gives the same bytes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "fsal/engine/device/block_device.h"
#include "fsal/engine/engine.h"
#include "tests/sim/file_model.h"
#include "tests/sim/operation.h"

namespace filer::engine::sim {

// What a volume may hold if the power goes during or after an operation.
struct RunStep {
  Operation operation;
  FileModel after;                  // it was answered
  std::optional<FileModel> during;  // not atomic: what may be there besides before and after
};

// What must never come twice, however often the volume crashes in between: also what a crash took
// back was seen by somebody. Each with the number of the operation that showed it.
struct Issued {
  std::uint64_t operation = 0;                    // the current one, over all lives
  std::map<std::uint64_t, std::uint64_t> inodes;  // -> operation
  std::map<std::uint64_t, std::map<std::uint64_t, std::uint64_t>> cookies;  // by directory
  std::map<std::uint64_t, std::map<std::uint64_t, std::uint64_t>> changes;  // by inode

  // False: it was there before.
  bool AddInode(std::uint64_t inode) { return inodes.emplace(inode, operation).second; }
  bool AddCookie(std::uint64_t directory, std::uint64_t cookie) {
    return cookies[directory].emplace(cookie, operation).second;
  }
  // The greatest change attribute that was seen up to that operation.
  std::uint64_t NewestChange(std::uint64_t inode, std::uint64_t up_to) const;
  // What came after that operation never was.
  void Rewind(std::uint64_t to_operation);
};

// Never checkpoints by time: its thread would come in between.
MountOptions QuietMountOptions();

// For programs that mount thousands of times: a mount takes and frees some megabytes; given back to
// the kernel each time, they cost three times as much as the mount itself.
void KeepFreedMemory();

class FileRun {
 public:
  // On a volume that holds `model`. All must outlive the run.
  FileRun(BlockDevice& device, ManualClock& clock, const MountOptions& options, std::uint64_t seed,
          FileModel model, Issued& issued);
  ~FileRun();

  // Each returns what went wrong, or nothing.
  std::string Mount();
  std::string Do(const Operation& operation);  // appends a step
  std::string Compare();                       // all of the engine with all of the model
  // The model becomes what the engine shows: somebody else changed it.
  std::string Adopt();

  const std::vector<RunStep>& steps() const { return steps_; }
  const FileModel& model() const { return model_; }
  Engine& engine() { return *engine_; }
  bool is_mounted() const { return engine_ != nullptr; }
  void Kill() { engine_.reset(); }
  // Called after each operation with the number of those answered in this run.
  void OnAnswered(std::function<void(std::uint64_t)> told) { on_answered_ = std::move(told); }
  // While a device may fail: an operation that answers an error which only that explains adds no
  // step, and has happened or not.
  void ExpectFailures() { may_fail_ = true; }
  bool has_failed() const { return has_failed_; }
  Errc failure() const { return failure_; }
  // After a failure: what the engine shows is one of these, or between them; the run goes on from
  // there.
  std::string GoOnAfterFailure(const std::vector<const FileModel*>& candidates);

 private:
  using NodeIds = std::vector<std::uint64_t>;

  std::string Run(const Operation& operation);
  std::string Create(const Operation& operation);
  std::string Link(const Operation& operation);
  std::string Remove(const Operation& operation);
  std::string Rename(const Operation& operation);
  std::optional<Errc> RenameError(std::uint64_t from, const std::string& from_name,
                                  std::uint64_t to, const std::string& to_name,
                                  std::uint32_t flags) const;
  void ApplyRename(std::uint64_t from, const std::string& from_name, std::uint64_t to,
                   const std::string& to_name, std::uint32_t flags);
  std::string Write(const Operation& operation);
  std::string Read(const Operation& operation);
  std::string Commit(const Operation& operation);
  std::string SetSize(const Operation& operation);
  std::string SetAttributes(const Operation& operation);
  std::string SetXattr(const Operation& operation);
  std::string SetPosixList(const Operation& operation);
  // Mode and list of a node are changed together.
  void SetMode(std::uint64_t inode, std::uint32_t mode);
  std::string Deallocate(const Operation& operation);
  std::string Allocate(const Operation& operation);
  std::string Seek(const Operation& operation);
  std::string ReadDirectory(const Operation& operation);
  std::string Lookup(const Operation& operation);
  std::string Hold(const Operation& operation);
  std::string Release(const Operation& operation);
  std::string SyncAll();
  std::string Remount();

  std::uint64_t DirectoryAt(const Operation::Place& place) const;
  static std::string NameAt(const Operation::Place& place, std::uint64_t draw);
  std::uint64_t FileAt(const Operation& operation) const;  // 0: there is none
  std::uint64_t NodeAt(const Operation& operation) const;
  static NodeId Id(std::uint64_t inode) { return {kRootFileset, 0, inode}; }

  // "" when the outcome is the expected one; is_done_ then says whether it succeeded.
  template <typename R>
  std::string Met(const R& result, std::optional<Errc> expected);
  void AddEntry(std::uint64_t directory, const std::string& name, std::uint64_t child);
  void RemoveEntry(std::uint64_t directory, const std::string& name);
  void TouchDirectory(std::uint64_t directory);
  std::string CheckEntries(std::uint64_t directory);
  std::string CheckChanged(std::uint64_t inode);

  BlockDevice& device_;
  ManualClock& clock_;
  const MountOptions options_;
  const std::uint64_t seed_;
  FileModel model_;
  Issued& issued_;
  std::unique_ptr<Engine> engine_;
  std::vector<RunStep> steps_;
  std::optional<FileModel> during_;
  std::function<void(std::uint64_t)> on_answered_;
  bool is_done_ = false;
  bool may_fail_ = false;
  bool has_failed_ = false;
  Errc failure_ = Errc::kIo;
};

}  // namespace filer::engine::sim
