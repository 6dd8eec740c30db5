#include "workloads/bench/peer.h"

#include <fmt/format.h>

#include <utility>

namespace filer::bench {
namespace {

constexpr std::uint32_t kQueueSize = 256;

std::vector<std::string> BridgeCommand(const Backing& backing, const SubjectPlace& place,
                                       const std::string& socket, const std::string& control,
                                       bool has_own_core) {
  std::string volume = fmt::format("name=bench,backend={},socket={},size={}",
                                   BackendName(backing.backend), socket, backing.size_bytes);
  if (backing.backend == BackendKind::kFile) volume += ",path=" + backing.file_path;
  std::vector<std::string> words = {place.programs + "/host-bridge",
                                    "--control",
                                    control,
                                    "--volume",
                                    volume,
                                    "--log-level",
                                    "warn"};
  // A poller that was not given a core yields the one that it is on.
  if (has_own_core) words.insert(words.end(), {"--cpu", fmt::format("{}", place.cores.server)});
  return words;
}

std::vector<std::string> RteVhostCommand(const Backing& backing, const SubjectPlace& place,
                                         const std::string& socket) {
  std::vector<std::string> words = {place.programs + "/filer-rte-vhost-target",
                                    "--socket",
                                    socket,
                                    "--backend",
                                    std::string(BackendName(backing.backend)),
                                    "--size",
                                    fmt::format("{}", backing.size_bytes)};
  if (backing.backend == BackendKind::kFile) {
    words.insert(words.end(), {"--path", backing.file_path});
  }
  return words;
}

// It has no memory of its own to serve: a file on tmpfs is the nearest. Polls as it does by default
// in an I/O thread.
std::vector<std::string> StorageDaemonCommand(const Backing& backing, const SubjectPlace& place,
                                              const std::string& socket) {
  std::string node;
  switch (backing.backend) {
    case BackendKind::kNull:
      node = fmt::format("driver=null-co,node-name=n,size={},read-zeroes=off", backing.size_bytes);
      break;
    case BackendKind::kMemory:
      node = fmt::format(
          "driver=file,node-name=n,filename={}/memory,locking=off,aio=io_uring,"
          "cache.direct=off",
          place.memory_folder);
      break;
    case BackendKind::kFile:
      node = fmt::format(
          "driver=file,node-name=n,filename={},locking=off,aio=io_uring,cache.direct=on",
          backing.file_path);
      break;
  }
  return {"qemu-storage-daemon",
          "--object",
          "iothread,id=t",
          "--blockdev",
          node,
          "--export",
          fmt::format("type=vhost-user-blk,id=e,node-name=n,addr.type=unix,addr.path={},"
                      "writable=on,iothread=t",
                      socket)};
}

}  // namespace

Result<Peer> StartPeer(std::string_view name, const Backing& backing, const SubjectPlace& place) {
  const std::string stem =
      fmt::format("{}/{}-{}", place.folder, name, BackendName(backing.backend));
  const std::string socket = stem + ".sock";
  std::string control;
  ServerSpec spec;
  spec.socket_path = socket;
  spec.log_path = stem + ".log";
  spec.core = name == kBridgeSharedCore ? place.cores.load : place.cores.server;
  if (name == kStorageDaemon) {
    spec.arguments = StorageDaemonCommand(backing, place, socket);
  } else if (name == kRteVhost) {
    spec.arguments = RteVhostCommand(backing, place, socket);
  } else {
    control = stem + ".ctl";
    spec.socket_path = control;  // the last one that it opens
    spec.arguments = BridgeCommand(backing, place, socket, control, name != kBridgeSharedCore);
  }
  const auto ring =
      name == kBridgePacked ? bridge::RingFormat::kPacked : bridge::RingFormat::kSplit;
  return Peer{FILER_TRY(Server::Start(spec)), socket, control, ring};
}

Result<std::unique_ptr<bridge::Disk>> AttachPeer(const Peer& peer) {
  bridge::DiskOptions options;
  options.ring = peer.ring;
  options.queue_size = kQueueSize;
  options.arena_bytes = kArenaBytes;
  options.reconnect_timeout_ms = 1000;
  auto disk = bridge::AttachVhostUser(peer.socket, options);
  if (disk.has_value()) return disk;
  return Error(disk.error().code(), fmt::format("{}: {} (its last words: {})", peer.socket,
                                                disk.error().message(), peer.server.LastWords()));
}

}  // namespace filer::bench
