// nfs_tree.h: copies a local tree to an NFS server and compares it with what the server has, over
// several connections.
//
// The journal (a local text file, one path per line) receives a name only after the server said
// that the file, its mode and times are stable. After any crash of the server, every name in the
// journal must be there whole: CompareTree with `only` holds it to that. A copy that is given its
// journal again goes on where it stopped.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "workloads/lib/source_tree.h"

namespace filer::workloads {

struct NfsTreeOptions {
  std::string source;  // local folder
  std::string url;     // NfsConnection::Connect
  std::string target;  // folder on the server, "/a"; made when it is missing
  std::uint32_t connections = 4;
  std::string journal_path;  // empty: none
  TreeLimits limits;
};

struct TreeReport {
  std::uint64_t files = 0, folders = 0, symlinks = 0, hard_links = 0, bytes = 0, skipped = 0;
  std::vector<std::string>
      differences;  // CompareTree: path and what differs; at most kDifferencesMax
};
inline constexpr std::size_t kDifferencesMax = 100;

// Errors: the first of any connection; what was journalled before stays true.
Result<TreeReport> CopyTree(const NfsTreeOptions& options);

// Content, mode, kind, modification time, link targets and hard-link identity of everything in the
// source; and that the server's folders hold nothing else. With a journal: only what it names is
// required, other names may be there or not.
Result<TreeReport> CompareTree(const NfsTreeOptions& options);

}  // namespace filer::workloads
