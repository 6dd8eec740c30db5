// allow_list.h: the system calls that serving needs, and a seccomp filter that ends the process at
// any other one, after a line on stderr.
#pragma once

#include "base/result.h"

namespace filer::bridge {

// For all threads, for good. Needs no_new_privs. Errors: kSystem.
Result<void> InstallAllowList();

}  // namespace filer::bridge
