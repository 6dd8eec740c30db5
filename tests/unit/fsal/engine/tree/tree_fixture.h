// tree_fixture.h: a tree on a simulated volume without a log, driven by one thread: transactions,
// checkpoints, and a walk over what the last checkpoint left on the disk.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fsal/engine/device/sim_device.h"
#include "fsal/engine/tree/node_io.h"

namespace filer::engine {

class TreeOnDisk {
 public:
  using Change = std::pair<std::string, std::optional<std::string>>;

  explicit TreeOnDisk(std::size_t cached_pages, std::uint64_t volume_bytes = 256 << 20)
      : device_(SimDevice::Create({.size_bytes = volume_bytes}).value()),
        layout_(PlanVolume(volume_bytes).value()),
        reader_(*device_, layout_, kUuid),
        cache_(cached_pages),
        space_(layout_.node_first_block, layout_.node_block_count / kNodeBlocks),
        tree_(kUuid, cache_, space_, open_),
        buffers_(AllocateRunBuffers(*device_).value()) {
    EXPECT_TRUE(reader_.Start().has_value());
  }

  void Apply(const std::vector<Change>& changes) {
    std::vector<TreeChange> views;
    for (const auto& [key, value] : changes) {
      views.push_back({key, value ? std::optional<std::string_view>(*value) : std::nullopt});
    }
    NodeTree::Needs needs;
    std::vector<PageRef> held;
    for (;;) {
      Misses misses;
      if (tree_.Prepare(views, needs, misses) == NodeTree::Step::kDone) break;
      Load(misses, held);
    }
    const auto free_before = space_.free_count();
    ASSERT_LE(needs.unit_count, free_before);
    tree_.Apply(views);
    // What a transaction takes is never more than what was counted before.
    if (space_.free_count() < free_before) {
      ASSERT_LE(free_before - space_.free_count(), needs.unit_count);
    }
    cache_.Trim();
  }
  void Put(std::string key, std::string value) { Apply({{std::move(key), std::move(value)}}); }
  void Erase(std::string key) { Apply({{std::move(key), std::nullopt}}); }

  std::optional<std::string> Get(std::string_view key) {
    std::string value;
    const auto step = Read([&](Misses& misses) { return tree_.Find(key, value, misses); });
    if (step == NodeTree::Step::kAbsent) return std::nullopt;
    EXPECT_EQ(step, NodeTree::Step::kDone);
    return value;
  }
  std::optional<std::pair<std::string, std::string>> Last(std::string_view from,
                                                          std::string_view to) {
    std::pair<std::string, std::string> found;
    const auto step = Read([&](Misses& misses) { return tree_.Last(from, to, found, misses); });
    if (step == NodeTree::Step::kAbsent) return std::nullopt;
    return found;
  }
  std::map<std::string, std::string> Dump(std::string from = {}, std::string_view to = {}) {
    std::map<std::string, std::string> all;
    Read([&](Misses& misses) {
      const auto visit = [&](std::string_view key, std::string_view value) {
        EXPECT_TRUE(all.emplace(key, value).second) << "a key came twice";
        return true;
      };
      return tree_.Scan(from, to, visit, misses);
    });
    return all;
  }

  // Writes what changed. `meanwhile` runs when the tree is frozen and nothing is written yet.
  template <typename Meanwhile>
  void Checkpoint(Meanwhile meanwhile) {
    root_ = tree_.Root();
    root_.epoch = open_.epoch();
    root_.node_count = space_.used_count();
    const auto pages = open_.Freeze();
    meanwhile();
    written_ += pages.size();
    const auto sealed = WriteNodes(*device_, pages, buffers_).value();
    // The simulator keeps every write that is not flushed.
    EXPECT_TRUE(FlushBlocking(*device_).has_value());
    const auto found = sealed.find(root_.pointer.block);
    if (found != sealed.end()) root_.pointer.crc32c = found->second;
    OpenNodes::SetChecksums(pages, sealed);
    open_.SetOpenChecksums(root_.epoch, sealed);
    tree_.SetRootChecksum(root_.epoch, sealed);
    open_.SetClean(pages);
    space_.Release(root_.epoch);
    cache_.Trim();
  }
  void Checkpoint() {
    Checkpoint([] {});
  }

  // The checkpoint on the disk, read by somebody who knows nothing.
  std::string Walk() {
    PageCache cache(16);
    NodeSpace space(layout_.node_first_block, layout_.node_block_count / kNodeBlocks);
    TreeWalk walk(reader_, cache, space);
    const auto walked = walk.Walk(root_, {});
    if (walked.has_value() && space.used_count() != root_.node_count) return "the counts differ";
    return walked.has_value() ? "" : walked.error().message();
  }

  const NodeTree& tree() const { return tree_; }
  std::size_t dirty_count() const { return open_.count(); }
  const PageCache& cache() const { return cache_; }
  const NodeSpace& space() const { return space_; }
  const TreeRoot& root() const { return root_; }
  std::uint64_t written() const { return written_; }
  std::uint64_t reads() const { return reads_; }
  std::uint64_t waits() const { return waits_; }

 private:
  static constexpr VolumeUuid kUuid{1, 2, 3};

  template <typename Attempt>
  NodeTree::Step Read(Attempt attempt) {
    std::vector<PageRef> held;
    for (;;) {
      Misses misses;
      const auto step = attempt(misses);
      if (step != NodeTree::Step::kMiss) return step;
      Load(misses, held);
    }
  }
  void Load(const Misses& misses, std::vector<PageRef>& held) {
    ++waits_;
    for (const auto& miss : misses) {
      auto page = reader_.Read(miss);
      ASSERT_TRUE(page.has_value()) << page.error().message();
      held.push_back(cache_.AddRead(std::move(page).value()));
      ++reads_;
    }
  }

  std::unique_ptr<SimDevice> device_;
  const VolumeLayout layout_;
  NodeReader reader_;
  PageCache cache_;
  NodeSpace space_;
  OpenNodes open_;
  NodeTree tree_;
  RunBuffers buffers_;
  TreeRoot root_;
  std::uint64_t written_ = 0;
  std::uint64_t reads_ = 0;
  std::uint64_t waits_ = 0;
};

}  // namespace filer::engine
