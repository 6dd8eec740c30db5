// node_key.h: the three forms in which Ganesha carries a handle of ours.
//
// wire  = host: the engine's HandleBytes (48 bytes, keyed MAC, export id inside). Sent to clients;
// only wire_to_host compares the
//         export id, because MDCACHE keeps parents' wire handles and may use them under another
//         export of the same node.
// key:    NodeKey, without the export: one cache entry per node, whichever exports it is reached
// through, so they cannot disagree. Without
//         the generation too: inode numbers are never reused, and who reports a change knows the
//         number only.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "base/result.h"
#include "fsal/engine/engine.h"

namespace filer::ganesha {

// Compared and hashed by MDCACHE as bytes: no padding.
struct NodeKey {
  std::uint32_t fileset = 0;
  std::uint32_t snapshot = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const NodeKey&, const NodeKey&) = default;
};
static_assert(sizeof(NodeKey) == 16 && std::is_trivially_copyable_v<NodeKey>);
static_assert(sizeof(NodeKey) <= engine::kHandleBytes);

inline NodeKey ToKey(engine::NodeId node) noexcept {
  return {node.fileset, node.snapshot, node.inode};
}
inline engine::NodeId ToNodeId(const NodeKey& key) noexcept {
  return {key.fileset, key.snapshot, key.inode};
}

struct HostHandle {
  NodeKey key;
  std::uint64_t generation = 0;
};

// The handle that a client gets under an export.
engine::Engine::HandleBytes ToWire(const engine::Engine& engine, const HostHandle& node,
                                   std::uint16_t export_id);
// Verified handle, for any export. Errors: kBadHandle.
Result<HostHandle> FromHost(const engine::Engine& engine, std::span<const std::uint8_t> bytes);
// The same for bytes that a client sent under an export. Errors: kBadHandle; kStaleHandle for a
// handle of another export.
Result<HostHandle> FromWire(const engine::Engine& engine, std::span<const std::uint8_t> bytes,
                            std::uint16_t export_id);

}  // namespace filer::ganesha
