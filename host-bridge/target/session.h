// session.h: one connected vhost-user front end: its features, memory and queues, and the state
// machine of its messages. Nothing blocks: a message that needs the requests in flight to be over
// waits, and no later one is read, while the poller goes on with other sessions.
//
// A peer that breaks the protocol ends its session (IsEnding), and nobody else's; the poller drops
// the session when IsFinished: drained, so that memory can be unmapped. No descriptor that is not
// what its message says, and no socket, is closed here: the closer does that.
// Its queues may be lent to other pollers (desk.h). It calls them back before it executes a message
// and before it ends: while one is away, nothing changes that a queue reads of its session.
// Threads: its poller, where nothing else is said.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "host-bridge/target/block_queue.h"
#include "host-bridge/target/closer.h"
#include "host-bridge/target/desk.h"
#include "host-bridge/target/notifier.h"
#include "host-bridge/target/peer_descriptor.h"
#include "host-bridge/target/peer_log.h"
#include "host-bridge/target/wait_set.h"
#include "host-bridge/virtio/vhost_user.h"

namespace filer::bridge {

struct SessionOptions {
  std::string volume_name;
  std::uint32_t volume_index = 0;
  std::uint32_t queue_count_max = 1;
  RateLimiter* limiter = nullptr;  // outlives the session
  Desk* desk = nullptr;            // of its poller; outlives it, too
};

// What a session's queues at home have to do.
struct SessionLoad {
  std::uint32_t busy_queues = 0;
  std::optional<std::uint32_t> lendable_queue;  // one of them
};

class Session {
 public:
  Session(UniqueFd socket, const SessionOptions& options, Backend& backend,
          VolumeCounters& counters, WaitSet& waits, Closer& closer, PeerLog& log,
          Budget& registrations);
  ~Session();  // only after Leave, on any thread: it uses nothing that is not its own

  // Reads and executes messages, a bounded number; true when there were any.
  bool VisitSocket();
  // One round of all queues, and of a message that waits for quiet; true when it did something.
  bool Round();
  void CountKick(std::uint32_t queue_index);
  bool ArmAndCheckIdle();
  // After ArmAndCheckIdle: until requests that the volume's limits hold back may go on; 0: none.
  std::int64_t HeldBackNs() const;
  // The volume has another size: requests are held to it, and the front end is told.
  void OnResized();
  // Ends it: takes no new request, finishes those in flight. Logs why.
  void End(const Error& reason);
  void CheckMemory();  // ends it when the client truncated its memory
  // Also for the poller that has one of its queues.
  bool HasBrokenMemory() const { return space_.memory().IsBroken() || inflight_file_.IsBroken(); }
  void Leave();  // stops all queues; only when IsFinished
  bool IsFinished() const { return is_ending_ && IsQuiet(); }

  // --- lending, session_lending.cc
  // Adds what its queues did in the last `busy_rounds` rounds in which the poller did anything.
  void NoteLoad(std::uint64_t busy_rounds, SessionLoad& load);
  // Lends a queue that NoteLoad named just now; it counts in `counters` meanwhile.
  void Lend(std::uint32_t queue_index, Desk& borrower, VolumeCounters& counters);
  // Asks for all queues that are away; true when none is.
  bool CallHome();
  void OnReturned(const QueueLoan& loan);
  // Whatever they do. How many went.
  std::uint32_t LendAllForTest(Desk& borrower, VolumeCounters& counters);
  int socket() const { return socket_.get(); }

 private:
  struct Ring {
    std::uint32_t size = 0;
    std::optional<virtio::VhostVringAddress> address;
    std::uint16_t base = 0;
    bool has_kick = false;  // told to start, with a descriptor or without
    bool is_enabled = false;
    bool is_broken = false;  // fault reported
    UniqueFd kick, error;
    Notifier call;
    int wait_fd = -1;                // of the backend, registered
    IotlbMiss asked;                 // last miss sent
    bool needs_translation = false;  // its IOTLB entries changed
    QueueLoan loan;
    bool is_recalled = false;
    bool is_away = false;  // then `queue` and what it uses are the borrower's
    std::unique_ptr<BlockQueue> queue;
  };
  struct Reply {
    bool is_set = false;
    std::uint32_t bytes = 0;
    std::array<std::byte, sizeof(virtio::VhostConfig)> payload;
    UniqueFd fd;
    template <DiskStruct T>
    void Set(const T& value) {
      static_assert(sizeof(T) <= sizeof(payload));
      is_set = true;
      bytes = sizeof(T);
      std::memcpy(payload.data(), &value, sizeof(T));
    }
    void SetU64(std::uint64_t value) {
      virtio::VhostU64 wire;
      wire.value = value;
      Set(wire);
    }
  };
  using Message = virtio::VhostMessage;
  using Handler = Result<void> (Session::*)(Message& message, Reply& reply);
  struct Rule {
    virtio::VhostRequest request;
    std::uint32_t payload_bytes_min, payload_bytes_max;
    std::uint32_t fds_min, fds_max;
    DescriptorKind fd_kind;
    bool needs_quiet;
    std::uint64_t protocol_feature;  // that must be negotiated; 0: none
    Handler handler;
  };
  static std::span<const Rule> Rules();
  static const Rule* FindRule(std::uint32_t request);

  // session.cc
  bool IsQuiet() const;
  bool MayExecute(const Message& message) const;
  Result<void> Check(const Message& message) const;
  void Execute(Message& message);
  Result<void> Answer(const Message& message, const Result<void>& result, Reply& reply);
  void UpdateAccepting();
  void TryStart(std::uint32_t index);
  TranslateStatus FindRing(const Ring& ring, RingLayout& layout, IotlbMiss& miss) const;
  void StopRing(Ring& ring);
  void StopAll();
  void ReportFault(std::uint32_t index);
  void AskForMiss(Ring& ring, const IotlbMiss& miss);
  void MemoryChanged();
  void Retire(MemoryMap::Removed removed);
  Result<void> CheckRetired();
  std::uint32_t closing_channels_ = 0;  // given to the closer since it was last idle
  std::uint64_t retired_bytes_ = 0;     // likewise
  void ShowMemory(BlockQueue& queue);
  void AnnounceConfig();
  bool HasPackedRings() const { return (features_ & virtio::kFeatureRingPacked) != 0; }
  bool HasProtocol(std::uint64_t feature) const { return (protocol_features_ & feature) != 0; }

  // session_lending.cc
  bool MayLend() const;
  bool MayLend(const Ring& ring) const;

  // session_messages.cc
  std::uint64_t OfferedFeatures() const;
  Result<Ring*> RingAt(std::uint32_t index);
  Result<UniqueFd> TakeEventFd(Message& message);
  Result<void> OnGetFeatures(Message&, Reply&);
  Result<void> OnSetFeatures(Message&, Reply&);
  Result<void> OnSetOwner(Message&, Reply&);
  Result<void> OnReset(Message&, Reply&);
  Result<void> OnGetProtocolFeatures(Message&, Reply&);
  Result<void> OnSetProtocolFeatures(Message&, Reply&);
  Result<void> OnGetQueueNum(Message&, Reply&);
  Result<void> OnGetConfig(Message&, Reply&);
  Result<void> OnSetConfig(Message&, Reply&);
  Result<void> OnSetMemTable(Message&, Reply&);
  Result<void> OnGetMaxMemSlots(Message&, Reply&);
  Result<void> OnAddMemReg(Message&, Reply&);
  Result<void> OnRemMemReg(Message&, Reply&);
  Result<void> OnSetVringNum(Message&, Reply&);
  Result<void> OnSetVringAddr(Message&, Reply&);
  Result<void> OnSetVringBase(Message&, Reply&);
  Result<void> OnGetVringBase(Message&, Reply&);
  Result<void> OnSetVringKick(Message&, Reply&);
  Result<void> OnSetVringCall(Message&, Reply&);
  Result<void> OnSetVringErr(Message&, Reply&);
  Result<void> OnSetVringEnable(Message&, Reply&);
  Result<void> OnSetBackendReqFd(Message&, Reply&);
  Result<void> OnIotlb(Message&, Reply&);
  Result<void> OnGetInflightFd(Message&, Reply&);
  Result<void> OnSetInflightFd(Message&, Reply&);

  UniqueFd socket_;
  SessionOptions options_;
  Backend& backend_;
  BackendInfo info_;
  VolumeCounters& counters_;
  WaitSet& waits_;
  Closer& closer_;
  PeerLog& log_;
  Budget& registrations_;
  virtio::VhostReceiver receiver_;
  std::optional<Message> waiting_;  // for quiet, or for queues to come home
  UniqueFd backend_channel_;
  std::uint64_t features_ = 0;
  std::uint64_t protocol_features_ = 0;
  BlockDevice device_;
  AddressSpace space_;
  MappedFile inflight_file_;
  std::uint32_t inflight_queue_count_ = 0;
  std::uint32_t inflight_queue_size_ = 0;
  std::vector<Ring> rings_;
  std::uint32_t first_ring_ = 0;  // of a round
  std::uint32_t away_count_ = 0;  // rings that are lent
  std::uint32_t settle_looks_ = 0;
  bool must_announce_ = false;  // the new configuration
  bool is_ending_ = false;
};

}  // namespace filer::bridge
