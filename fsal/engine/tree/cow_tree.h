// cow_tree.h: ordered map of byte strings in memory, a copy-on-write B+tree. A snapshot costs
// nothing when it is taken; afterwards the writer copies each node it changes once. Invariants:
// child i of an inner node holds keys >= separators[i - 1] and < separators[i]; no node but an
// empty root leaf is empty;
//   a node is changed in place only if it was made after the newest snapshot (its epoch is the
//   tree's).
// Threads: one writer or many readers (the owner's lock). A snapshot is immutable: any thread, no
// lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace filer::engine {

// Key and value in one piece of memory, shared between versions of the tree. Immutable.
class RecordRef {
 public:
  RecordRef(std::string_view key, std::string_view value);
  RecordRef(const RecordRef& other) noexcept;
  RecordRef(RecordRef&& other) noexcept : body_(std::exchange(other.body_, nullptr)) {}
  RecordRef& operator=(RecordRef other) noexcept {
    std::swap(body_, other.body_);
    return *this;
  }
  ~RecordRef();

  std::string_view key() const noexcept;
  std::string_view value() const noexcept;

 private:
  struct Body;
  Body* body_;
};

struct CowNode {
  std::uint64_t epoch = 0;
  std::vector<RecordRef> records;                  // leaf
  std::vector<std::string> separators;             // inner: one fewer than children
  std::vector<std::shared_ptr<CowNode>> children;  // inner
  bool is_leaf() const noexcept { return children.empty(); }
};

class CowTree {
 public:
  using Visit = std::function<bool(std::string_view key, std::string_view value)>;

  // An immutable version.
  class Snapshot {
   public:
    // Calls `visit` in key order until it returns false.
    void ForEach(const Visit& visit) const;

   private:
    friend class CowTree;
    explicit Snapshot(std::shared_ptr<const CowNode> root) : root_(std::move(root)) {}
    std::shared_ptr<const CowNode> root_;
  };

  CowTree();

  // Valid until the next change.
  std::optional<std::string_view> Find(std::string_view key) const;
  void Put(std::string_view key, std::string_view value);
  bool Erase(std::string_view key);  // false: was not there

  // [from, to) in order until `visit` returns false; `to` empty: no end.
  void Scan(std::string_view from, std::string_view to, const Visit& visit) const;
  // The greatest in [from, to).
  std::optional<std::pair<std::string_view, std::string_view>> Last(std::string_view from,
                                                                    std::string_view to) const;
  Snapshot TakeSnapshot();

  std::uint64_t size() const noexcept { return size_; }
  // Walks all nodes and checks the invariants above; empty: they hold.
  std::string CheckForTest() const;

 private:
  using NodeRef = std::shared_ptr<CowNode>;
  struct Split {
    std::string separator;
    NodeRef right;
  };

  CowNode& Own(NodeRef& node);
  std::optional<Split> PutInto(NodeRef& node, RecordRef record);
  std::optional<Split> SplitIfFull(CowNode& node);
  void EraseFrom(NodeRef& node, std::string_view key);
  void MergeAround(CowNode& parent, std::size_t index);

  NodeRef root_;
  std::uint64_t epoch_ = 1;
  std::uint64_t size_ = 0;
};

}  // namespace filer::engine
