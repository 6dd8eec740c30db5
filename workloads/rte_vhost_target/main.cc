// main.cc: filer-rte-vhost-target, the peer of `filer bench bridge`: a block target on DPDK's
// librte_vhost. The library speaks the protocol and maps the memory; one thread polls one queue of
// one client. It is no product: it trusts its driver. Ends on SIGTERM or SIGINT.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "base/units.h"
#include "host-bridge/initiator/dpdk.h"
#include "host-bridge/virtio/block.h"
#include "host-bridge/virtio/vhost_user.h"
#include "workloads/rte_vhost_target/ring_server.h"
#include "workloads/rte_vhost_target/rte_vhost.h"

namespace filer::bench {
namespace {

constexpr std::uint64_t kFeatures =
    virtio::kFeatureVersion1 | virtio::kFeatureRingIndirect | virtio::kFeatureRingEventIndex |
    virtio::kBlockFlush | virtio::kBlockSegmentsMax | virtio::kFeatureVhostProtocolFeatures;

// The one device of this process. The library's thread calls Begin and End, the poller is ours.
class Device {
 public:
  static Device& Get() {
    static Device device;
    return device;
  }

  void Open(std::unique_ptr<bridge::Backend> backend) {
    backend_ = std::move(backend);
    std::thread([this] { Poll(); }).detach();  // ends with the process
  }
  const bridge::Backend& backend() const { return *backend_; }

  void Begin(int vid) {
    const std::lock_guard lock(mutex_);
    vid_ = vid;
    must_run_.store(true, std::memory_order_release);
    changed_.notify_all();
  }
  // Returns when the poller touches the client's memory no longer.
  void End() {
    std::unique_lock lock(mutex_);
    must_run_.store(false, std::memory_order_release);
    changed_.wait(lock, [this] { return !is_running_; });
  }

 private:
  void Poll() {
    while (true) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return must_run_.load(std::memory_order_acquire); });
        is_running_ = true;
      }
      const auto served = ServeClient();
      if (served.has_error()) FILER_LOG_ERROR("client: {}", served.error().message());
      std::unique_lock lock(mutex_);
      is_running_ = false;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !must_run_.load(std::memory_order_acquire); });
    }
  }

  Result<void> ServeClient() {
    rte_vhost_memory* table = nullptr;
    rte_vhost_vring ring{};
    std::uint64_t features = 0;
    RingPlace place;
    if (::rte_vhost_get_mem_table(vid_, &table) != 0 ||
        ::rte_vhost_get_vhost_vring(vid_, 0, &ring) != 0 ||
        ::rte_vhost_get_negotiated_features(vid_, &features) != 0 ||
        ::rte_vhost_get_vring_base(vid_, 0, &place.next_avail, &place.next_used) != 0) {
      std::free(table);
      return Error(Errc::kProtocol, "the client has no memory or no queue");
    }
    const std::unique_ptr<rte_vhost_memory, decltype(&std::free)> memory(table, &std::free);
    place.descriptors = reinterpret_cast<virtio::Descriptor*>(ring.desc);
    place.avail = reinterpret_cast<virtio::AvailRing*>(ring.avail);
    place.used = reinterpret_cast<virtio::UsedRing*>(ring.used);
    place.size = ring.size;
    place.has_event_index = (features & virtio::kFeatureRingEventIndex) != 0;
    const auto translate = [table](std::uint64_t address, std::uint64_t length) {
      std::uint64_t found = length;
      const std::uint64_t host = ::rte_vhost_va_from_guest_pa(table, address, &found);
      return found == length ? reinterpret_cast<std::byte*>(host) : nullptr;
    };
    auto server = FILER_TRY(RingServer::Create(place, translate, *backend_, ring.callfd));
    std::vector<iovec> regions;
    for (std::uint32_t i = 0; i < memory->nregions; ++i) {
      const rte_vhost_mem_region& region = memory->regions[i];
      regions.push_back({reinterpret_cast<void*>(region.host_user_addr), region.size});
    }
    server->SetMemory(regions);
    while (must_run_.load(std::memory_order_acquire) || server->in_flight() > 0) {
      if (!FILER_TRY(server->Round())) __builtin_ia32_pause();  // its core is its own
    }
    ::rte_vhost_set_vring_base(vid_, 0, server->next_avail(), server->next_used());
    return Ok();
  }

  std::unique_ptr<bridge::Backend> backend_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int vid_ = -1;
  bool is_running_ = false;
  std::atomic<bool> must_run_ = false;  // written under mutex_; pairs with the poller's loads
};

// The start of the library's own message, which it hands out untyped.
struct Message {
  le32 request;
  le32 flags;
  le32 payload_bytes;
  virtio::VhostConfig config;
};
static_assert(alignof(Message) == 1 && offsetof(Message, config) == 12);

// The library knows no configuration space: this answers in its place.
rte_vhost_msg_result OnMessage(int, void* untyped) {
  auto* message = static_cast<Message*>(untyped);
  if (message->request != static_cast<std::uint32_t>(virtio::VhostRequest::kGetConfig)) {
    return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
  }
  virtio::BlockConfig config{};
  config.capacity_sectors = Device::Get().backend().Info().size_bytes / kSectorBytes;
  config.segments_max = 126;
  config.block_bytes = 512;
  config.queue_count = 1;
  const std::uint32_t offset = message->config.offset;
  const std::uint32_t bytes = message->config.size_bytes;
  if (offset > sizeof(config) || bytes > sizeof(message->config.data)) {
    return RTE_VHOST_MSG_RESULT_ERR;
  }
  std::memset(message->config.data, 0, bytes);
  std::memcpy(message->config.data, reinterpret_cast<const std::byte*>(&config) + offset,
              std::min<std::size_t>(bytes, sizeof(config) - offset));
  return RTE_VHOST_MSG_RESULT_REPLY;
}

int OnNewConnection(int vid) {
  static const rte_vhost_user_extern_ops ops = {&OnMessage, nullptr};
  return ::rte_vhost_extern_callback_register(vid, &ops, nullptr);
}
int OnNewDevice(int vid) {
  Device::Get().Begin(vid);
  return 0;
}
void OnDestroyDevice(int) { Device::Get().End(); }

Result<void> StartEal() {
  static char words[][24] = {"filer-rte-vhost", "--no-huge",           "--no-shconf", "--no-pci",
                             "--no-telemetry",  "--log-level=*:error", "-m",          "16"};
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word);
  if (::rte_eal_init(static_cast<int>(pointers.size()), pointers.data()) < 0) {
    return Error::System(rte_errno, "DPDK's environment does not start");
  }
  return Ok();
}

Result<void> StartDriver(const std::string& socket) {
  const char* path = socket.c_str();
  static rte_vhost_device_ops ops{};
  ops.new_device = &OnNewDevice;
  ops.destroy_device = &OnDestroyDevice;
  ops.new_connection = &OnNewConnection;
  std::uint64_t protocol = 0;
  const bool is_started =
      ::rte_vhost_driver_register(path, 0) == 0 &&
      ::rte_vhost_driver_set_features(path, kFeatures) == 0 &&
      ::rte_vhost_driver_get_protocol_features(path, &protocol) == 0 &&
      ::rte_vhost_driver_set_protocol_features(path, protocol | virtio::kProtocolConfig) == 0 &&
      ::rte_vhost_driver_callback_register(path, &ops) == 0 && ::rte_vhost_driver_start(path) == 0;
  if (!is_started) return Error(Errc::kSystem, socket + ": librte_vhost cannot listen here");
  return Ok();
}

Result<std::unique_ptr<bridge::Backend>> OpenBackend(const std::string& kind, std::uint64_t size,
                                                     const std::string& path) {
  if (kind == "null") return bridge::OpenNullBackend(size);
  if (kind == "memory") return bridge::OpenMemoryBackend(size);
  return bridge::OpenFileBackend({.path = path, .is_read_only = false});
}

int Fail(const Error& error) {
  fmt::print(stderr, "filer-rte-vhost-target: {}\n", error.message());
  return 1;
}

int Main(int count, char** words) {
  std::string socket, kind, path;
  std::uint64_t size_bytes = 0;
  CLI::App app("Serves one volume over vhost-user-blk by DPDK's librte_vhost, for comparison");
  app.add_option("--socket", socket, "where to listen")->required();
  app.add_option("--backend", kind, "null, memory or file")
      ->required()
      ->check(CLI::IsMember({"null", "memory", "file"}));
  app.add_option("--size", size_bytes, "bytes, of null and memory");
  app.add_option("--path", path, "of a file");
  try {
    app.parse(count, words);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    fmt::print(stderr, "filer-rte-vhost-target: {}\n", error.what());
    return 2;
  }
  InitLog("filer-rte-vhost-target", "warn");
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  auto backend = OpenBackend(kind, size_bytes, path);
  if (backend.has_error()) return Fail(backend.error());
  if (auto started = StartEal(); started.has_error()) return Fail(started.error());
  Device::Get().Open(std::move(backend).value());
  if (auto started = StartDriver(socket); started.has_error()) return Fail(started.error());
  int number = 0;
  ::sigwait(&signals, &number);
  ::rte_vhost_driver_unregister(socket.c_str());
  std::fflush(nullptr);
  ::_exit(0);  // the poller is still there: nothing of it is worth taking down
}

}  // namespace
}  // namespace filer::bench

int main(int count, char** words) { return filer::bench::Main(count, words); }
