#include "fsal/ganesha/change_listener.h"

#include <map>

#include "base/thread_annotations.h"

namespace filer::ganesha {

namespace {

struct UpcallExports {
  Mutex mutex;
  CondVar idle;
  std::map<std::uint16_t, const fsal_up_vector*> by_id FILER_GUARDED_BY(mutex);
  std::map<std::uint16_t, int> running FILER_GUARDED_BY(mutex);
};

UpcallExports& TheExports() noexcept {
  static auto* exports =
      new UpcallExports;  // threads of other doors may outlive static destructors
  return *exports;
}

// An export whose up-calls are open (`up_ready`), marked as in use; 0 if there is none: then
// nothing is cached either.
std::uint16_t Begin(const fsal_up_vector** up_out) {
  UpcallExports& exports = TheExports();
  MutexLock lock(exports.mutex);
  for (const auto& [id, up] : exports.by_id) {
    if (!up->up_ready || up->up_cancel) continue;
    ++exports.running[id];
    *up_out = up;
    return id;
  }
  return 0;
}

void End(std::uint16_t id) {
  UpcallExports& exports = TheExports();
  MutexLock lock(exports.mutex);
  if (--exports.running[id] == 0) exports.running.erase(id);
  exports.idle.NotifyAll();
}

// FSAL_UP_INVALIDATE_PARENT takes the directory's content lock, which an NFS rename holds while its
// own change is announced: only for what has moved.
void Invalidate(const NodeKey& changed, bool has_moved) {
  const fsal_up_vector* up = nullptr;
  const std::uint16_t id = Begin(&up);
  if (id == 0) return;
  NodeKey key = changed;
  gsh_buffdesc bytes{&key, sizeof(key)};
  const fsal_status_t status = up->invalidate(
      up, &bytes,
      has_moved ? FSAL_UP_INVALIDATE_CACHE : FSAL_UP_INVALIDATE_CACHE & ~FSAL_UP_INVALIDATE_PARENT);
  End(id);
  if (IsError(status))
    (void)ToStatus(Error(Errc::kIo, "up-call refused: a client may see old attributes"));
}

}  // namespace

void AddUpcallExport(const Export& exported, const fsal_up_vector* up_operations) {
  UpcallExports& exports = TheExports();
  MutexLock lock(exports.mutex);
  exports.by_id[exported.id] = up_operations;
}

void RemoveUpcallExport(const Export& exported) noexcept {
  UpcallExports& exports = TheExports();
  MutexLock lock(exports.mutex);
  exports.by_id.erase(exported.id);
  while (exports.running.contains(exported.id)) exports.idle.Wait(lock);
}

void ListenForChanges(engine::Engine& engine) {
  engine.SetChangeListener(engine::kDoorNfs, [](const engine::Engine::Change& change) {
    Invalidate(ToKey(change.node), change.has_moved);
  });
}

}  // namespace filer::ganesha
