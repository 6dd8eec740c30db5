// linux_driver.h: a peer that nobody here wrote in front of the targets: the Linux kernel's
// virtio-blk driver, in a guest. The guest's processor is emulated, so its speed says nothing;
// what it does per request does: doorbells rung, interrupts taken.
#pragma once

#include <string>

#include "workloads/bench/results.h"

namespace filer::bench {

struct LinuxDriverOptions {
  SubjectPlace place;
  bool may_build_image = false;  // takes a minute, the first time
};

// Boots one guest with a disk of each target and reads from them. The guest's image and recipe are
// found by FILER_SOURCE_DIR and FILER_CACHE, which the `filer` script sets. Blocks for half a
// minute. Errors: kNotFound, when something that is needed is missing: says what and how to get
// it; those of the guest's and the targets' start; kIo when the guest's script failed.
Result<std::vector<FunctionalRow>> MeasureLinuxDriver(const LinuxDriverOptions& options);

// What the guest's script printed, a line per row:
// "row DISK DEPTH IOS DOORBELLS INTERRUPTS", disks as in `targets`. Errors: kProtocol.
Result<std::vector<FunctionalRow>> ParseFunctionalRows(const std::string& output,
                                                       const std::vector<std::string>& targets);

}  // namespace filer::bench
