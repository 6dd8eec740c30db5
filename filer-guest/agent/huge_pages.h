// huge_pages.h: 2 MiB pages for the driver's memory: without an IOMMU it must know where its memory
// lies, and that stays true for huge pages only. One thread at a time.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace filer::agent {

// Reserves at least `megabytes` of free 2 MiB pages. `sysfs` is "/sys" but for tests. Errors:
// kNoMemory saying how many there are, kNotSupported.
Result<void> ReserveHugePages(std::uint32_t megabytes, const std::string& sysfs = "/sys");

}  // namespace filer::agent
