// peer.h: the targets of the benchmark as processes that serve one volume each on a vhost-user
// socket. Blocking; one thread.
#pragma once

#include <memory>
#include <string>

#include "host-bridge/initiator/initiator.h"
#include "workloads/bench/server.h"
#include "workloads/bench/subject.h"

namespace filer::bench {

struct Peer {
  Server server;
  std::string socket;   // vhost-user
  std::string control;  // the bridge's; else empty
  bridge::RingFormat ring = bridge::RingFormat::kSplit;
};

// `name` is that of a subject with a target. Errors: those of Server::Start.
Result<Peer> StartPeer(std::string_view name, const Backing& backing, const SubjectPlace& place);

// Bytes for the requests of one disk that AttachPeer returns.
inline constexpr std::uint64_t kArenaBytes = 32 << 20;
// Errors: those of AttachVhostUser, with the target's last words.
Result<std::unique_ptr<bridge::Disk>> AttachPeer(const Peer& peer);

}  // namespace filer::bench
