// model.h: a file system of std::map and std::string, to hold the engine against; and a driver that
// does the same random things to both.
//
// For crashes it also knows, per block of a file, which contents may be found: the last stable one
// and all later unstable ones.
#pragma once

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/fsal/engine/fs/engine_fixture.h"

namespace filer::engine {

struct ModelNode {
  NodeKind kind = NodeKind::kFile;
  std::uint32_t mode = 0;
  std::string content;                           // files: as read now
  std::map<std::string, std::uint64_t> entries;  // directories: name -> inode
  std::map<std::string, std::string> xattrs;
  // What a crash may leave.
  std::map<std::uint64_t, std::vector<std::string>> block_versions;  // besides the content itself
  std::uint64_t size_min = 0, size_max = 0;
};

struct Model {
  std::map<std::uint64_t, ModelNode> nodes{
      {kRootInode, {NodeKind::kDirectory, 0755, {}, {}, {}, {}, 0, 0}}};

  std::uint32_t LinksOf(std::uint64_t inode) const {
    std::uint32_t links = nodes.at(inode).kind == NodeKind::kDirectory ? 2 : 0;
    for (const auto& [number, node] : nodes) {
      for (const auto& [name, child] : node.entries) {
        if (nodes.at(inode).kind == NodeKind::kDirectory) {
          links += number == inode && nodes.at(child).kind == NodeKind::kDirectory ? 1 : 0;
        } else {
          links += child == inode ? 1 : 0;
        }
      }
    }
    return links;
  }
  bool IsBelow(std::uint64_t inode, std::uint64_t ancestor) const {
    if (inode == ancestor) return true;
    for (const auto& [name, child] : nodes.at(ancestor).entries) {
      if (nodes.at(child).kind == NodeKind::kDirectory && IsBelow(inode, child)) return true;
    }
    return false;
  }
  void DropIfUnlinked(std::uint64_t inode) {
    if (nodes.at(inode).kind == NodeKind::kDirectory || LinksOf(inode) == 0) nodes.erase(inode);
  }
};

// Does random things to engine and model, and compares after each.
class ModelDriver {
 public:
  ModelDriver(TestEngine& fs, std::uint32_t seed) : fs_(fs), random_(seed) {}

  // One operation. False: it failed because the device is gone; `before` and `after` say what may
  // be found.
  bool Step();
  // Everything of the model is in the engine and nothing else; after a crash contents may be older.
  static void Compare(TestEngine& fs, const Model& model, bool is_after_crash);
  // The same as a question, for the two states that an interrupted operation allows.
  static std::string Difference(TestEngine& fs, const Model& model, bool is_after_crash);

  Model model;
  Model before;  // the last operation
  bool was_cut = false;
  std::uint64_t operations = 0;

 private:
  std::uint32_t Pick(std::uint32_t below) { return random_() % below; }
  std::uint64_t PickNode(NodeKind kind);
  std::string PickName() { return "n" + std::to_string(Pick(6)); }
  NodeId Id(std::uint64_t inode) const { return {kRootFileset, 0, inode}; }
  std::string Bytes(std::size_t count);

  template <typename R>
  bool Met(const R& result, std::optional<Errc> expected);
  void Create(NodeKind kind);
  void Link();
  void Remove();
  void Rename();
  void Write();
  void Truncate();
  void Punch();
  void Read();
  void Commit();
  void SetMode();
  void SetXattr();
  // The blocks and the size as they are now may be found after a crash until something newer is
  // stable.
  void Remember(ModelNode& node, std::uint64_t first, std::uint64_t end);
  void Stabilize(ModelNode& node, std::uint64_t first, std::uint64_t end);

  TestEngine& fs_;
  std::mt19937 random_;
};

}  // namespace filer::engine
