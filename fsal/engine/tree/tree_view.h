// tree_view.h: one tree as a Store. Shares all but its keys with the store that it was opened from.
#pragma once

#include "fsal/engine/tree/store_impl.h"

namespace filer::engine {

class TreeView final : public Store {
 public:
  TreeView(StoreImpl& all, TreePtr tree) : all_(all), tree_(std::move(tree)) {}

  Result<void> Close() override { return Ok(); }  // the store's
  StoreGeometry Geometry() const override { return all_.Geometry(); }
  std::uint64_t MountEpoch() const override { return all_.MountEpoch(); }
  std::string VolumeName() const override { return all_.VolumeName(); }
  std::vector<std::uint8_t> HandleKey() const override { return all_.HandleKey(); }
  Result<std::string> Get(std::string_view key) const override { return all_.GetFrom(*tree_, key); }
  Result<void> Scan(std::string_view from, std::string_view to, const Visit& visit) const override {
    return all_.ScanIn(*tree_, from, to, visit);
  }
  Result<std::pair<std::string, std::string>> Last(std::string_view from,
                                                   std::string_view to) const override {
    return all_.LastIn(*tree_, from, to);
  }
  using Store::Commit;
  Result<Lsn> Commit(Transaction transaction, std::vector<BlockRun>* freed) override {
    return all_.CommitTo(*tree_, std::move(transaction), freed);
  }
  std::uint64_t OpenEpoch() const override { return all_.OpenEpoch(); }
  std::uint64_t SharedEpoch() const override { return tree_->shared_epoch.load(); }
  Trees& AllTrees() override { return all_; }
  Result<void> Sync(Lsn lsn) override { return all_.Sync(lsn); }
  Lsn LastLsn() const override { return all_.LastLsn(); }
  Lsn DurableLsn() const override { return all_.DurableLsn(); }
  Result<void> Checkpoint() override { return all_.Checkpoint(); }
  Result<VerifiedNodes> VerifyNodes(std::string_view from, std::size_t count_max) const override {
    return all_.VerifyNodesOf(*tree_, from, count_max);
  }
  Result<VerifiedNodes> VerifyLists(std::string_view from, std::size_t count_max) const override {
    return all_.VerifyLists(from, count_max);
  }
  StoreCounters Counters() const override { return all_.CountersOf(*tree_); }
  SpaceReport Space() const override { return all_.Space(); }
  std::vector<std::uint64_t> UsedBlocks() const override { return all_.UsedBlocks(); }
  Result<void> Health() const override { return all_.Health(); }

 private:
  StoreImpl& all_;
  const TreePtr tree_;
};

}  // namespace filer::engine
