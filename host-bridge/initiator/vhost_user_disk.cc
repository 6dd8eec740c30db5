// vhost_user_disk.cc: a Disk over a vhost-user socket. A monitor thread sleeps on the socket; when
// the back end dies it connects again, gives it the same memory, and submits again what had not
// completed. The requests are reads and writes of blocks that nobody else may use before their
// completion: doing one twice does no harm.
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "host-bridge/initiator/vhost_user_session.h"
#include "host-bridge/initiator/virtio_disk.h"

namespace filer::bridge {
namespace {

// A bridge that was killed is back within some ten milliseconds; later, nobody is in a hurry.
constexpr int kReconnectPauseMs = 1;
constexpr int kLateReconnectPauseMs = 20;
constexpr std::int64_t kLateNs = 1'000'000'000;

Result<UniqueFd> MakeEvent() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.is_open()) return Error::System(errno, "eventfd");
  return fd;
}

void Signal(const UniqueFd& event) {
  const std::uint64_t one = 1;
  // EAGAIN: the counter is full, so the other end has not looked yet and will be woken all the
  // same.
  [[maybe_unused]] const ssize_t written = ::write(event.get(), &one, sizeof one);
}

class VhostUserDisk final : public VirtioDisk {
 public:
  VhostUserDisk(std::string socket_path, const DiskOptions& options)
      : socket_path_(std::move(socket_path)), options_(options) {
    info_.transport = "vhost_user";
  }

  ~VhostUserDisk() override {
    if (monitor_.joinable()) {
      must_stop_.store(true, std::memory_order_release);  // pairs with the monitor's loads
      Signal(wake_);
      monitor_.join();
    }
    StopQueues();
  }

  Result<void> Attach() {
    wake_ = FILER_TRY(MakeEvent());
    session_ = FILER_TRY(VhostUserSession::Connect(socket_path_, options_.connect_timeout_ms));
    features_ = FILER_TRY(ChooseFeatures(OfferedWithoutIommu(), options_.ring));
    const virtio::BlockConfig config = FILER_TRY(session_->ReadConfig());
    FILER_TRY(Allocate(features_, config, options_, session_->queue_count_max()));
    map_ = std::make_unique<AddressMap>(AddressMap::Linear(
        memory_->all(), reinterpret_cast<std::uintptr_t>(memory_->all().data())));
    MakeQueues(features_, config);
    for (std::uint32_t i = 0; i < info_.queue_count; ++i) {
      events_.push_back({FILER_TRY(MakeEvent()), FILER_TRY(MakeEvent())});
    }
    FILER_TRY(StartDevice());
    is_connected_.store(true, std::memory_order_release);
    monitor_ = std::thread([this] { Monitor(); });
    return Ok();
  }

  bool IsConnected() const override { return is_connected_.load(std::memory_order_acquire); }

  DiskCounters Counters() const override {
    DiskCounters sum = VirtioDisk::Counters();
    for (const Events& events : events_) {
      std::uint64_t count = 0;
      if (::read(events.call.get(), &count, sizeof count) == sizeof count) {
        interrupts_.fetch_add(count, std::memory_order_relaxed);
      }
    }
    sum.interrupts = interrupts_.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  struct Events {
    UniqueFd kick;
    UniqueFd call;
  };

  void RingDoorbell(std::uint32_t queue_index) override { Signal(events_[queue_index].kick); }

  void ProtocolBroken(std::uint32_t queue_index, const Error& error) override {
    FILER_LOG_ERROR("{}: the bridge broke the protocol on queue {}: {}", socket_path_, queue_index,
                    error.message());
    is_connected_.store(false, std::memory_order_release);
    is_broken_.store(true, std::memory_order_release);  // pairs with the monitor's loads
    Signal(wake_);
  }

  std::uint64_t OfferedWithoutIommu() const {
    return session_->offered_features() & ~virtio::kFeatureAccessPlatform;
  }

  Result<void> StartDevice() {
    FILER_TRY(session_->SetFeatures(features_));
    const auto shared = FILER_TRY(memory_->Share());
    FILER_TRY(session_->ShareMemory(memory_->all(), shared.fd, shared.offset_bytes));
    for (std::uint32_t i = 0; i < info_.queue_count; ++i) {
      FILER_TRY(session_->StartQueue({.index = i,
                                      .size = info_.queue_size,
                                      .addresses = queues_[i]->Addresses(),
                                      .is_packed = (features_ & virtio::kFeatureRingPacked) != 0,
                                      .kick_fd = events_[i].kick.get(),
                                      .call_fd = events_[i].call.get()}));
    }
    return Ok();
  }

  // Afterwards nobody else touches our memory: each queue is answered for, or the other end is
  // gone.
  void StopQueues() {
    if (session_ == nullptr) return;
    for (std::uint32_t i = 0; i < queues_.size(); ++i) {
      auto stopped = session_->StopQueue(i);
      if (stopped.has_error()) {
        FILER_LOG_DEBUG("{}: stop: {}", socket_path_, stopped.error().message());
        break;
      }
    }
    session_.reset();
  }

  bool MustEnd() const {
    return must_stop_.load(std::memory_order_acquire) || is_broken_.load(std::memory_order_acquire);
  }

  void Monitor() {
    while (!MustEnd()) {
      pollfd waits[3] = {{.fd = session_->socket(), .events = POLLIN, .revents = 0},
                         {.fd = wake_.get(), .events = POLLIN, .revents = 0},
                         {.fd = session_->backend_channel(), .events = POLLIN, .revents = 0}};
      if (::poll(waits, 3, -1) < 0 || MustEnd()) continue;
      const bool is_well = waits[2].revents == 0 || HearBackend();
      if (waits[0].revents == 0 && is_well) continue;
      // End of file, an error, or words nobody asked for: this connection is over.
      is_connected_.store(false, std::memory_order_release);
      FILER_LOG_WARN("{}: the bridge went away, {} requests wait for it", socket_path_, Waiting());
      session_.reset();
      if (!Reconnect()) break;
    }
    if (!must_stop_.load(std::memory_order_acquire)) {
      StopQueues();
      BreakAllQueues();
    }
  }

  // False when the connection is over.
  bool HearBackend() {
    const auto has_changed = session_->TakeConfigChanged();
    if (!has_changed.has_value()) return false;
    if (!has_changed.value()) return true;
    const auto config = session_->ReadConfig();
    if (!config.has_value()) return false;
    NoteCapacity(config.value().capacity_sectors);
    FILER_LOG_INFO("{}: the volume has {} bytes now", socket_path_, Info().size_bytes);
    return true;
  }

  std::uint32_t Waiting() const {
    std::uint32_t sum = 0;
    for (const auto& queue : queues_) sum += queue->InFlight();
    return sum;
  }

  // False when told to stop, or when the time is over.
  bool Reconnect() {
    const std::int64_t begin_ns = SystemClock().MonotonicNs();
    std::string last_message;
    while (!MustEnd()) {
      auto done = TryReconnect();
      if (done.has_value()) return true;
      session_.reset();
      if (last_message != done.error().message()) {
        last_message = done.error().message();
        FILER_LOG_DEBUG("{}: {}", socket_path_, last_message);
      }
      const std::int64_t waited_ns = SystemClock().MonotonicNs() - begin_ns;
      if (waited_ns > std::int64_t{options_.reconnect_timeout_ms} * 1'000'000) {
        FILER_LOG_ERROR("{}: the bridge did not come back within {} ms: {}", socket_path_,
                        options_.reconnect_timeout_ms, last_message);
        return false;
      }
      pollfd wait = {.fd = wake_.get(), .events = POLLIN, .revents = 0};
      ::poll(&wait, 1, waited_ns < kLateNs ? kReconnectPauseMs : kLateReconnectPauseMs);
    }
    return false;
  }

  Result<void> TryReconnect() {
    session_ = FILER_TRY(VhostUserSession::Connect(socket_path_, options_.connect_timeout_ms));
    if ((OfferedWithoutIommu() & features_) != features_) {
      return Error(Errc::kNotSupported, "the new bridge lacks features of the old one");
    }
    const virtio::BlockConfig config = FILER_TRY(session_->ReadConfig());
    if (config.capacity_sectors * 512 < Info().size_bytes ||
        session_->queue_count_max() < info_.queue_count) {
      return Error(Errc::kProtocol, "the new bridge serves a smaller volume");
    }
    NoteCapacity(config.capacity_sectors);
    std::uint32_t resubmitted = 0;
    for (const auto& queue : queues_) resubmitted += queue->Restart();
    FILER_TRY(StartDevice());
    is_connected_.store(true, std::memory_order_release);
    // What was published between Restart and now rang a doorbell, or none was asked for: look once
    // in any case.
    for (const Events& events : events_) Signal(events.kick);
    FILER_LOG_INFO("{}: the bridge is back, {} requests submitted again", socket_path_,
                   resubmitted);
    return Ok();
  }

  const std::string socket_path_;
  const DiskOptions options_;
  std::uint64_t features_ = 0;
  std::unique_ptr<VhostUserSession> session_;  // the monitor's while it runs
  std::vector<Events> events_;
  UniqueFd wake_;
  mutable std::atomic<std::uint64_t> interrupts_{0};
  std::atomic<bool> is_connected_{false};
  std::atomic<bool> is_broken_{false};
  std::atomic<bool> must_stop_{false};
  std::thread monitor_;
};

}  // namespace

Result<std::unique_ptr<Disk>> AttachVhostUser(const std::string& socket_path,
                                              const DiskOptions& options) {
  auto disk = std::make_unique<VhostUserDisk>(socket_path, options);
  FILER_TRY(disk->Attach());
  return std::unique_ptr<Disk>(std::move(disk));
}

}  // namespace filer::bridge
