// handle.h: wire handles. They name a node of one volume for one export and carry a keyed MAC, so
// that a client cannot make one up.
#pragma once

#include "fsal/engine/engine.h"
#include "fsal/engine/fs/siphash.h"

namespace filer::engine {

class HandleCodec {
 public:
  HandleCodec(const SipKey& key, std::span<const std::uint8_t, 16> volume_uuid);

  Engine::HandleBytes Encode(const Attributes& node, std::uint16_t export_id) const;
  // Errors: kBadHandle.
  Result<Engine::DecodedHandle> Decode(std::span<const std::uint8_t> bytes) const;

 private:
  SipKey key_;
  std::array<std::uint8_t, 12> volume_{};  // the first bytes of its uuid
};

}  // namespace filer::engine
