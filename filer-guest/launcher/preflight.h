// preflight.h: what can be known to fail before QEMU is started, said in one line each.
#pragma once

#include <string>

#include "filer-guest/launcher/launcher.h"

namespace filer::guest {

// Memory, processors, disks, image files, QEMU, ports (by binding them for a moment), sockets.
// Errors: as StartGuest.
Result<void> CheckBeforeStart(const GuestOptions& options);

// The program's path. Errors: kNotFound, saying how to install it.
Result<std::string> FindQemu(const std::string& program);

// Errors: kBusy with address and port when somebody listens there, kInvalidArgument.
Result<void> CheckPortIsFree(const std::string& address, std::uint16_t port);

// Megabytes that /proc/meminfo's text calls available. Errors: kCorrupt.
Result<std::uint64_t> AvailableMb(const std::string& meminfo);

// True if that many megabytes of 2 MiB pages are free now.
bool HasFreeHugePages(std::uint32_t megabytes, const std::string& sysfs = "/sys");

}  // namespace filer::guest
