// guest_record.h: guest.json, by which another run of the command finds the guest again.
#pragma once

#include <string>

#include "filer-guest/launcher/launcher.h"

namespace filer::guest {

Json RecordOf(const RunningGuest& guest);
// Errors: kCorrupt.
Result<RunningGuest> GuestFromRecord(const Json& record, const std::string& run_dir);

}  // namespace filer::guest
