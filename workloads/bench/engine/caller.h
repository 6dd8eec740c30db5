// caller.h: one client of a file system: what it does, one operation after the other. Used by one
// thread; what callers share is only read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "workloads/bench/engine/cell.h"
#include "workloads/bench/engine/file_system.h"
#include "workloads/bench/load.h"

namespace filer::bench {

// A size that fits what is measured.
struct FixtureSizes {
  std::uint32_t names = 10'000;
  std::uint64_t data_bytes = 256ULL << 20;  // of the file that is read and overwritten
};

// What is made once on a file system and then only read or overwritten in place.
class Fixture {
 public:
  // `cells` say what is needed.
  static Result<Fixture> Make(FileSystem& files, const std::vector<FileCell>& cells,
                              const FixtureSizes& sizes);
  FileNode names = 0, data_directory = 0, data = 0;
  FixtureSizes sizes;
  std::vector<std::string> name_list;  // in `names`
  bool has_names = false, has_data = false;
  void Close(FileSystem& files) const;
};

class Caller {
 public:
  Caller(FileSystem& files, const Fixture& fixture, const FileCell& cell, std::uint32_t number,
         std::uint64_t serial);
  ~Caller();
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  // Makes what its operations need, in a directory of its own. `until_ticks`: files for kUnlink are
  // made until then. Errors: the file system's.
  Result<void> Prepare(std::uint64_t until_ticks);
  // One operation. False: there is nothing left to do it on.
  Result<bool> Step();
  // Removes what it made.
  Result<void> CleanUp();

  std::uint64_t bytes() const { return bytes_; }      // payload of all operations so far
  std::uint64_t entries() const { return entries_; }  // of directories read

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  Result<void> Create();
  Result<void> Unlink();
  Result<void> Rename();
  Result<void> Mixed();
  Result<void> Stat();
  Result<void> ReadRandom();
  Result<void> Overwrite();
  Result<void> ReadSequential();
  Result<void> WriteSequential();

  FileSystem& files_;
  const Fixture& fixture_;
  const FileCell cell_;
  const std::uint32_t number_;
  const std::string directory_name_;
  FileNode directory_ = 0, own_file_ = 0;
  bool has_directory_ = false, has_own_file_ = false;
  RandomOffsets blocks_;
  RandomOffsets names_;
  std::unique_ptr<std::byte, Free> buffer_;  // 1 MiB
  std::vector<std::string> made_;            // files in directory_
  std::uint64_t made_count_ = 0, renamed_count_ = 0, turn_ = 0;
  std::uint64_t stream_bytes_ = 0, stream_at_ = 0, uncommitted_bytes_ = 0;
  std::uint64_t bytes_ = 0, entries_ = 0;
};

}  // namespace filer::bench
