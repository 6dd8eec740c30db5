// source_tree.h: a list of what lies in a local folder, in the order in which it can be made
// elsewhere, for copying and comparing through a file protocol. Sockets and devices are passed
// over. Hard links inside the tree are recognised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace filer::workloads {

enum class EntryKind : std::uint8_t { kDirectory, kFile, kSymlink, kHardLink };

struct TreeEntry {
  EntryKind kind = EntryKind::kFile;
  std::string path;         // relative to the root, without a leading '/'
  std::string link_target;  // kSymlink: its text; kHardLink: path of the first name
  std::uint32_t mode = 0;   // permission bits
  std::uint64_t size_bytes = 0;
  std::int64_t mtime_us = 0;  // microseconds since the epoch
};

struct TreeLimits {
  std::uint64_t files_max = UINT64_MAX;       // stop after so many files
  std::uint64_t bytes_max = UINT64_MAX;       // or bytes
  std::uint64_t file_bytes_max = UINT64_MAX;  // larger files are passed over
};

// Folders before what they hold. The order is that of the names, so it is the same in every run.
// Errors: kSystem.
Result<std::vector<TreeEntry>> ListTree(const std::string& root, const TreeLimits& limits);

}  // namespace filer::workloads
