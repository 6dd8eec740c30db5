// volume.h: one volume offered on one vhost-user socket, to one client at a time. A second client
// waits in the socket's backlog until the first has left, and what it gave is closed: a client
// whose descriptors cannot be closed holds up this volume only.
//
// Threads: made before the poller starts; then its poller's, where nothing else is said.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "host-bridge/backend/backend.h"
#include "host-bridge/target/closer.h"
#include "host-bridge/target/counters.h"
#include "host-bridge/target/desk.h"
#include "host-bridge/target/session.h"
#include "host-bridge/target/wait_set.h"

namespace filer::bridge {

struct VolumeOptions {
  std::string name;         // at most 20 bytes reach the guest as the serial number
  std::string socket_path;  // a stale socket file is replaced
  std::uint32_t queue_count_max = 1;
  VolumeLimits limits;
};

class Volume {
 public:
  // Listens. Errors: kNameTooLong (socket path), kBusy (somebody listens there), kSystem.
  static Result<std::unique_ptr<Volume>> Create(const VolumeOptions& options,
                                                std::unique_ptr<Backend> backend);
  ~Volume();  // removes the socket file, where it still may (daemon/confine.h)

  const VolumeOptions& options() const { return options_; }
  BackendInfo info() const { return backend_->Info(); }
  // What all pollers counted. Any thread.
  VolumeCounters counters() const;
  // Any thread.
  void SetLimits(const VolumeLimits& limits) { limiter_.Set(limits); }
  VolumeLimits limits() const { return limiter_.Get(); }
  // The file was grown: finds its size, returns it. The poller has to be woken then. Any thread.
  // Errors: kNotSupported (no file), kTooSmall (it is smaller than it was), kSystem.
  Result<std::uint64_t> Remeasure();
  // Any thread.
  bool is_connected() const { return is_connected_.load(std::memory_order_relaxed); }

  // The rest is the poller's.
  // `index`: of the volume, in tags. One of `poller_count` pollers may run a queue of it.
  Result<void> Join(WaitSet& waits, Desk& desk, std::uint32_t index, std::uint32_t poller_count);
  void Accept();
  Session* session() { return session_.get(); }
  // Serves sockets of the session and drops it when it is over. True when it did something.
  bool Visit();
  // What a session left is closed: takes the next client.
  void OnClosed();
  // Where a poller counts what it does for this volume. Any thread asks, that poller writes.
  VolumeCounters& CountersOf(std::uint32_t poller_index) { return counters_[poller_index]; }
  bool Round() { return session_ != nullptr && session_->Round(); }
  // Makes all that was written durable. Blocking. Any thread.
  Result<void> Flush();

 private:
  Volume(const VolumeOptions& options, std::unique_ptr<Backend> backend, UniqueFd listener,
         std::unique_ptr<Closer> closer)
      : options_(options),
        log_(options.name),
        backend_(std::move(backend)),
        listener_(std::move(listener)),
        closer_(std::move(closer)) {
    limiter_.Set(options_.limits);
  }
  void DropFinished();
  Result<void> ListenAgain();

  VolumeOptions options_;
  PeerLog log_;
  Budget registrations_{kRegistrations, kRegistrationNs};
  std::unique_ptr<Backend> backend_;
  UniqueFd listener_;
  std::unique_ptr<Closer> closer_;
  std::vector<VolumeCounters> counters_{1};  // by poller
  RateLimiter limiter_;
  WaitSet* waits_ = nullptr;
  Desk* desk_ = nullptr;
  std::uint32_t index_ = 0;
  std::unique_ptr<Session> session_;
  bool is_listening_ = false;
  std::atomic<bool> is_connected_ = false;
  std::atomic<bool> is_resized_ = false;  // set by Remeasure, taken by Visit
};

}  // namespace filer::bridge
