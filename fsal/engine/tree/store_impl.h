// store_impl.h: the store of this version: the map in memory (cow_tree.h), every change in the redo
// log, the whole map in a checkpoint.
//
// Life of a commit: encode; under the map's lock check that it fits, append to the log, apply to
// the tree; later the log makes it durable. Checkpoint: under the map's lock seal the open group
// and take a snapshot (both constant time); sync the log up to there; write the
//   snapshot to the area that is not current; FLUSH; uberblock; FLUSH; trim the log. Commits go on
//   meanwhile. It runs on the thread that asked for it: Checkpoint(), a Sync that finds a quarter
//   of the log in use, or a Commit that finds no room.
// Lock order: checkpoint_mutex_ (held across I/O, by checkpoints only), map_mutex_, the log's own.
#pragma once

#include <atomic>
#include <memory>
#include <shared_mutex>

#include "base/thread_annotations.h"
#include "fsal/engine/log/log_writer.h"
#include "fsal/engine/tree/checkpoint.h"
#include "fsal/engine/tree/cow_tree.h"
#include "fsal/engine/tree/store.h"
#include "fsal/engine/tree/volume.h"

namespace filer::engine {

class StoreImpl final : public Store {
 public:
  static Result<std::unique_ptr<Store>> Open(BlockDevice& device, const Clock& clock,
                                             bool read_only);

  Result<void> Close() override;
  StoreGeometry Geometry() const override;
  std::uint64_t MountEpoch() const override { return mount_epoch_; }
  std::string VolumeName() const override { return VolumeNameOf(label_); }
  std::vector<std::uint8_t> HandleKey() const override;
  Result<std::string> Get(std::string_view key) const override;
  void Scan(std::string_view from, std::string_view to,
            const std::function<bool(std::string_view key, std::string_view value)>& visit)
      const override;
  Result<std::pair<std::string, std::string>> Last(std::string_view from,
                                                   std::string_view to) const override;
  Result<Lsn> Commit(Transaction transaction) override;
  Result<void> Sync(Lsn lsn) override;
  Lsn LastLsn() const override;
  Lsn DurableLsn() const override;
  Result<void> Checkpoint() override;
  StoreCounters Counters() const override;
  Result<void> Health() const override;

 private:
  StoreImpl(BlockDevice& device, const Clock& clock, const Label& label);

  Result<void> Recover();
  Result<void> ApplyGroup(const GroupHeader& header, std::string_view payload);
  Result<void> ApplyTransaction(std::string_view& payload);
  Result<void> StartMount();
  Result<void> RunCheckpoint(bool is_clean) FILER_REQUIRES(checkpoint_mutex_);
  Result<void> WriteSnapshot(const CowTree::Snapshot& snapshot, Uberblock& root);
  Result<void> MakeLogRoom(std::size_t record_bytes);

  bool FitsCheckpoint(const Transaction& transaction) const;
  void Apply(std::string_view key, std::optional<std::string_view> value);
  std::uint64_t PairBytesOf(std::string_view key) const;

  BlockDevice& device_;
  const Clock& clock_;
  const Label label_;
  const VolumeLayout layout_;
  const VolumeUuid uuid_;
  const std::uint64_t capacity_bytes_;
  std::uint64_t mount_epoch_ = 0;
  std::uint64_t recovered_groups_ = 0;

  mutable std::shared_mutex map_mutex_;  // tree_, stream_bytes_, commit_count_
  CowTree tree_;
  std::uint64_t stream_bytes_ = 0;  // length of the tree as a checkpoint
  std::uint64_t commit_count_ = 0;

  Mutex checkpoint_mutex_;
  Uberblock root_{};           // newest on the device; checkpoint_mutex_ once open
  CheckpointBuffers buffers_;  // as root_
  std::atomic<std::uint64_t> checkpoint_count_{0};  // statistics, relaxed
  std::atomic<std::uint64_t> checkpoint_ns_{0};     // statistics, relaxed
  Lsn recovered_lsn_ = 0;
  std::unique_ptr<LogWriter> log_;  // none: opened read-only
};

}  // namespace filer::engine
