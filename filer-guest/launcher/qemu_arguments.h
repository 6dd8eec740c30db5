// qemu_arguments.h: the QEMU command line of a guest. Pure.
#pragma once

#include <string>
#include <vector>

#include "filer-guest/launcher/launcher.h"

namespace filer::guest {

// What StartGuest found out about the machine.
struct MachineFacts {
  Accelerator accelerator = Accelerator::kTcg;  // kKvm or kTcg
  bool has_huge_pages = false;                  // enough free 2 MiB pages for the guest
};

// Files of a guest in its run folder.
struct GuestPaths {
  std::string qmp_socket;
  std::string agent_socket;
  std::string console_log;
  std::string qemu_log;
  std::string record;  // guest.json
};
GuestPaths PathsIn(const std::string& run_dir);

// Program and arguments.
std::vector<std::string> QemuArguments(const GuestOptions& options, const MachineFacts& facts,
                                       const GuestPaths& paths);

// The kernel's command line.
std::string KernelArguments(const GuestOptions& options);

// A value inside a QEMU option: a comma is doubled.
std::string Escaped(const std::string& value);

}  // namespace filer::guest
