// confine.h: what the daemon gives up before it listens to a guest, so that a guest that took it
// over would have next to nothing: no privilege, no file, no network, and only the system calls
// that serving needs.
//
// Started as root, it becomes a user of its own that no account has, without capabilities, in an
// empty root directory and an empty network namespace; whoever started it, it gets no privileges
// back and a seccomp allow-list. The root directory and the namespace are there for io_uring, whose
// operations seccomp does not see. What was opened before stays open: volumes, sockets, the log.
//
// A system call that is not on the list ends the process by SIGSYS, after one line on stderr that
// names it.
//
// Under a sanitizer nothing is given up: its run time opens files, traces threads and runs a
// symboliser whenever it likes.
#pragma once

#include "base/result.h"

namespace filer::bridge {

// First part, before any thread and any file: closes what was inherited beyond stderr, and gives up
// what only later programs or the network would need. Errors: kSystem.
Result<void> BeginConfinement();

// Second part, when all is open that needs privileges, before the first message of a guest is read.
// Applies to all threads there are, and to all that come. Errors: kSystem, with what to do.
Result<void> Confine();

// False where Confine does nothing, under a sanitizer.
bool CanConfine();

}  // namespace filer::bridge
