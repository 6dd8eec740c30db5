// object.h: our fsal_obj_handle, fsal_export and state_t, and how the operations get from Ganesha's
// pointers to them.
//
// Each struct starts with Ganesha's, so the pointers are interchangeable. Object handles are owned
// by MDCACHE (one per cache entry, or freed at once when a second one was made for the same node),
// exports and states by Ganesha's core.
#pragma once

#include <string>
#include <type_traits>

#include "fsal/engine/engine.h"
#include "fsal/ganesha/engine_host.h"
#include "fsal/ganesha/errors.h"
#include "fsal/ganesha/ganesha_headers.h"
#include "fsal/ganesha/node_key.h"

namespace filer::ganesha {

struct NodeHandle {
  fsal_obj_handle object;
  NodeKey key;
  std::uint64_t generation;
  fsal_share share;  // share reservations; guarded by object.obj_lock
};
static_assert(std::is_standard_layout_v<NodeHandle>);

struct Export {
  fsal_export base;
  std::uint16_t id;
  NodeKey root;
  std::string path;
};
static_assert(std::is_standard_layout_v<Export>);

// An NFSv4 open or lock. The node is held in the engine while it is open, so that it survives its
// last unlink.
struct OpenState {
  state_t state;
  fsal_openflags_t open_flags;
  bool is_held;
};
static_assert(std::is_standard_layout_v<OpenState>);

inline NodeHandle& ToHandle(fsal_obj_handle* object) noexcept {
  return *reinterpret_cast<NodeHandle*>(object);
}
inline const NodeHandle& ToHandle(const fsal_obj_handle* object) noexcept {
  return *reinterpret_cast<const NodeHandle*>(object);
}
inline Export& ToExport(fsal_export* base) noexcept { return *reinterpret_cast<Export*>(base); }
inline OpenState& ToOpenState(state_t* state) noexcept {
  return *reinterpret_cast<OpenState*>(state);
}
inline engine::NodeId NodeOf(const fsal_obj_handle* object) noexcept {
  return ToNodeId(ToHandle(object).key);
}
// Only while an export of ours exists.
inline engine::Engine& TheEngine() noexcept { return *EngineHost::Instance().engine(); }

// Holds a handle's lock (which guards its share reservations).
class ObjectLock {
 public:
  explicit ObjectLock(fsal_obj_handle* object) noexcept : object_(object) {
    PTHREAD_RWLOCK_wrlock(&object_->obj_lock);
  }
  ~ObjectLock() { PTHREAD_RWLOCK_unlock(&object_->obj_lock); }
  ObjectLock(const ObjectLock&) = delete;
  ObjectLock& operator=(const ObjectLock&) = delete;

 private:
  fsal_obj_handle* object_;
};

fsal_obj_handle* MakeHandle(const engine::Attributes& node);
// A new handle as an out-parameter of an operation that makes or finds a node; fills
// `attributes_out` if asked for.
fsal_status_t ReturnHandle(const engine::Attributes& node, fsal_obj_handle** handle_out,
                           fsal_attrlist* attributes_out);

// FillAttributes, and the list if `out` asks for one. Errors: as Engine::GetAcl.
Result<void> FillAll(const engine::Attributes& node, fsal_attrlist& out);

// May the caller of this request do that here? By list or mode, as the engine decides; superusers
// are those whom squashing left uid 0. kAdd: names, of directories with kAddDirectory.
enum class Access { kRead, kWrite, kAdd, kAddDirectory };
fsal_status_t CheckAccess(fsal_obj_handle* object, Access access, bool is_owner_allowed = false);
// May he take this name out of the directory? Sticky bits are the engine's own question. What is
// not there is answered by the operation itself.
fsal_status_t CheckRemoval(fsal_obj_handle* directory, const char* name);

// Each file of operations puts its own into the table.
void InstallHandleOperations(fsal_obj_ops& operations) noexcept;     // object.cc
void InstallDirectoryOperations(fsal_obj_ops& operations) noexcept;  // directory_operations.cc
void InstallAttributeOperations(fsal_obj_ops& operations) noexcept;  // attribute_operations.cc
void InstallOpenOperations(fsal_obj_ops& operations) noexcept;       // open_operations.cc
void InstallDataOperations(fsal_obj_ops& operations) noexcept;       // data_operations.cc
void InstallLockOperations(fsal_obj_ops& operations) noexcept;       // lock_operations.cc
void InstallExportOperations(export_ops& operations) noexcept;       // export.cc
state_t* AllocateState(fsal_export* base, state_type type,
                       state_t* related) noexcept;  // open_operations.cc

// The table that all handles share; filled by the module's init.
fsal_obj_ops& HandleOperations() noexcept;

// The module's create_export.
fsal_status_t CreateExport(fsal_module* module, void* parse_node, config_error_type* errors,
                           const fsal_up_vector* up_operations) noexcept;

}  // namespace filer::ganesha
