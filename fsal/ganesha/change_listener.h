// change_listener.h: what another door changed is thrown out of MDCACHE before that door's
// operation returns.
#pragma once

#include "fsal/engine/engine.h"
#include "fsal/ganesha/object.h"

namespace filer::ganesha {

// Exports through which up-calls can go. An up-call reaches a node's cache entry through any of
// them, because the key names no export. `up_operations` must stay valid until RemoveUpcallExport
// has returned, which waits for up-calls in progress.
void AddUpcallExport(const Export& exported, const fsal_up_vector* up_operations);
void RemoveUpcallExport(const Export& exported) noexcept;

// From now on changes by other doors than NFS are sent up.
void ListenForChanges(engine::Engine& engine);

}  // namespace filer::ganesha
