// repair.h: makes a damaged volume one that check has nothing to say about, and lists what was
// lost. What a person made (entries, attributes, data) is kept wherever it can be read; what
// follows from it is computed anew. Every value is hostile. One thread; nothing else may use the
// volume.
#pragma once

#include "base/clock.h"
#include "fsal/engine/engine.h"

namespace filer::engine {

// Errors: as Engine::Repair.
Result<RepairReport> RepairVolume(BlockDevice& device, const Clock& clock,
                                  const RepairOptions& options);

}  // namespace filer::engine
