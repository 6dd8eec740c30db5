#include "fsal/ganesha/node_key.h"

namespace filer::ganesha {

engine::Engine::HandleBytes ToWire(const engine::Engine& engine, const HostHandle& node,
                                   std::uint16_t export_id) {
  engine::Attributes attributes;
  attributes.id = ToNodeId(node.key);
  attributes.generation = node.generation;
  return engine.EncodeHandle(attributes, export_id);
}

Result<HostHandle> FromHost(const engine::Engine& engine, std::span<const std::uint8_t> bytes) {
  if (bytes.size() != engine::kHandleBytes) return Error(Errc::kBadHandle);
  const auto handle = FILER_TRY(engine.DecodeHandle(bytes));
  return HostHandle{ToKey(handle.node), handle.generation};
}

Result<HostHandle> FromWire(const engine::Engine& engine, std::span<const std::uint8_t> bytes,
                            std::uint16_t export_id) {
  if (bytes.size() != engine::kHandleBytes) return Error(Errc::kBadHandle);
  const auto handle = FILER_TRY(engine.DecodeHandle(bytes));
  if (handle.export_id != export_id) return Error(Errc::kStaleHandle);
  return HostHandle{ToKey(handle.node), handle.generation};
}

}  // namespace filer::ganesha
