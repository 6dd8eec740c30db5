// mount_table.h: what is mounted where, as the kernel's mountinfo (proc(5)) has it: one parser for
// everybody who asks, because its paths are real paths (no symbolic links) with some bytes escaped.
//
// Nothing here looks into a mount: a FUSE mount whose server was killed would answer with an error,
// one whose server hangs not at all.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace filer {

struct MountEntry {
  std::string mount_point;
  std::string file_system;  // "fuse.nearmetal"
  std::string source;
};

// Parses the text of /proc/self/mountinfo; lines that are not understood are left out.
std::vector<MountEntry> ParseMountInfo(std::string_view text);

// All mounts that this process sees, in the order in which they were made. Errors: kSystem.
Result<std::vector<MountEntry>> ReadMountTable();

// `path` as the table has it: symbolic links above its last component are followed, that one is
// not touched. Errors: kInvalidArgument for a relative path and for "/", kSystem.
Result<std::string> RealMountPoint(const std::string& path);

// False also when it cannot be known.
bool IsMountPoint(const std::string& path);

// The mount points below `folder` (itself aside), the latest first: the order in which they come
// off. Errors: kSystem.
Result<std::vector<std::string>> MountPointsBelow(const std::string& folder);

}  // namespace filer
