// stress.h: what many threads do to one engine at once, and what must be true afterwards.
//
// Each thread has a folder of its own, where it knows every byte, name, link and attribute; a few
// folders, files and ranges it shares with all others, where every error of a lost race is fine and
// only sums are known: names made less names taken away are the names there, and what a lock guards
// was changed by one thread at a time (a plain integer: ThreadSanitizer sees the lock table, too).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "fsal/engine/engine.h"

namespace filer::engine::sim {

inline constexpr std::uint32_t kStressRanges = 8;
inline constexpr std::uint32_t kStressFolders = 3;

// What all threads share.
struct StressShare {
  Engine* engine = nullptr;
  NodeId root;
  std::array<NodeId, kStressFolders> folders;
  NodeId whole;  // a file of blocks of one letter each
  std::atomic<std::int64_t> names{0};
  std::atomic<std::uint64_t> operations{0};
  std::array<std::uint64_t, kStressRanges> guarded{};  // by locks on `whole`, nothing else
  std::array<std::atomic<std::uint64_t>, kStressRanges> expected{};

  // Makes the shared folders and the file. Empty: all is well.
  std::string Prepare();
  // With nobody at work: the sums are right.
  std::string Verify();
};

class StressThread {
 public:
  StressThread(StressShare& share, std::uint32_t number, std::uint64_t seed);

  std::string Prepare();
  // One operation. What went wrong, or nothing.
  std::string Step();
  // All of the own folder, with nobody at work on it.
  std::string Verify();
  // Before a kill: what is unstable becomes durable. Before any end: holds go.
  std::string Settle();
  std::uint64_t own_nodes() const;

 private:
  struct File {
    NodeId id;
    std::string content;
    std::map<std::string, std::string> xattrs;
    std::uint32_t links = 0;
  };
  using FilePtr = std::shared_ptr<File>;

  std::string OwnStep();
  std::string SharedStep();
  std::string OwnNames(std::uint32_t choice);
  std::string WriteOwn(File& file);
  std::string CutOwn(File& file);
  std::string XattrOwn(File& file);
  std::string CompareOwn(const File& file);
  std::string CompareNames();
  std::string SharedNames();
  std::string SharedData();
  std::string SharedLock();

  std::string Drawn(std::uint64_t length);
  std::string OwnName() { return "n" + std::to_string(random_() % 8); }
  std::string SharedName() { return "n" + std::to_string(random_() % 12); }
  NodeId SharedFolder() { return share_.folders[random_() % kStressFolders]; }

  StressShare& share_;
  Engine& engine() { return *share_.engine; }
  const std::uint32_t number_;
  std::mt19937_64 random_;
  NodeId folder_;
  std::map<std::string, FilePtr> names_;
};

}  // namespace filer::engine::sim
