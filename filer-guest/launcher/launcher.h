// launcher.h: starts, finds and stops the filer's guest: a QEMU machine that outlives this process.
//
// - All that belongs to one guest lies in its run folder: agent.sock, qmp.sock, guest.json (what
//   StartGuest returned; FindGuest reads it), console.log, qemu.log. Stopping removes the sockets
//   and guest.json and keeps the logs.
// - The vhost-user-blk disks sit at 0000:00:10.0, 11.0, ... in the order given (DiskAddress).
// - Errors are one line for a person: what, where, how to mend it.
// Threads: every function blocks and may be called from any thread, for one run folder by one
// thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "base/process.h"
#include "base/result.h"

namespace filer::guest {

inline constexpr std::size_t kGuestDisksMax = 8;
inline constexpr std::uint32_t kGuestMemoryMbMin = 384;
inline constexpr std::uint32_t kGuestCpusMax = 64;

enum class Accelerator : std::uint8_t { kAuto, kKvm, kTcg };
// "auto", "kvm", "tcg". Errors of the parser: kUsage.
const char* AcceleratorName(Accelerator accelerator);
Result<Accelerator> ParseAccelerator(const std::string& text);

struct GuestDisk {
  std::string socket_path;        // the bridge's vhost-user-blk socket for this volume
  std::uint32_t queue_count = 1;  // at most what the bridge offers
  std::uint32_t queue_size = 512;
  bool offers_packed_rings = false;  // VIRTIO_F_RING_PACKED, where the bridge has it
};
// Where the agent finds the disk: "0000:00:10.0" for index 0. index < kGuestDisksMax.
std::string DiskAddress(std::size_t index);

struct PortForward {
  std::string host_address = "127.0.0.1";
  std::uint16_t host_port = 0;
  std::uint16_t guest_port = 0;
};

enum class NetworkKind : std::uint8_t {
  kUser,  // QEMU's own network with port forwarding; the guest is 10.0.2.15
  kTap,   // an existing tap device
  kVf,    // an SR-IOV virtual function bound to vfio-pci
};

struct GuestNetwork {
  NetworkKind kind = NetworkKind::kUser;
  std::vector<PortForward> forwards;  // kUser
  std::string tap_device;             // kTap
  std::string vf_address;             // kVf: "0000:03:10.2"
  std::string mac;                    // empty: a fixed local one
  // Address inside the guest, "192.0.2.5/24", and its gateway. Empty: kUser has its fixed one,
  // kTap and kVf ask by DHCP.
  std::string guest_address;
  std::string guest_gateway;
};

struct GuestOptions {
  std::string qemu_program = "qemu-system-x86_64";
  std::string image_dir;  // kernel, initrd, root.squashfs, manifest.json
  std::string run_dir;    // exists; short, since sockets go into it
  std::string cache_dir;  // accelerator verdicts
  std::uint32_t memory_mb = 1024;
  std::uint32_t cpus = 1;
  Accelerator accelerator = Accelerator::kAuto;
  bool has_viommu = false;         // vfio-pci in the guest instead of UIO
  bool prefault_memory = true;     // all guest memory is touched at start
  bool use_huge_pages = true;      // when the host has enough free ones; else ordinary pages
  bool pin_cpus = true;            // as PlanCores says (cores.h)
  std::uint32_t poller_count = 1;  // of the bridge, for PlanCores
  std::vector<GuestDisk> disks;
  GuestNetwork network;
  std::string kernel_arguments;  // added to ours
  std::chrono::milliseconds boot_deadline{60'000};
  // Called with one line per step ("booting the guest under TCG"). May be empty.
  std::function<void(const std::string& line)> on_progress;
};

struct RunningGuest {
  ProcessId process;
  Accelerator accelerator = Accelerator::kTcg;
  std::string accelerator_reason;  // plain words, one line
  std::string run_dir;
  std::string qmp_socket;
  std::string agent_socket;
  std::string console_log;
  std::string qemu_log;
  bool has_viommu = false;
  bool has_huge_pages = false;
};

// Starts QEMU and returns when the agent has answered `hello` (no service is started yet). On any
// error nothing is left running. Errors: kBusy (a guest runs in this run folder; a port is in use),
// kNotFound (no QEMU, no image: says how to get it), kNoMemory, kInvalidArgument, kNotRunning (a
// disk's socket does not answer), kTimedOut and kDeviceGone (did not boot: names the console log).
Result<RunningGuest> StartGuest(const GuestOptions& options);

// The guest that StartGuest left in `run_dir`. Errors: kNotRunning.
Result<RunningGuest> FindGuest(const std::string& run_dir);

// Ordered stop: the agent's `shutdown` (services, engine, power off) within `grace`, then QMP quit,
// SIGTERM, SIGKILL. Returns ok when QEMU is gone, and removes its sockets and guest.json. The
// second member says whether the guest stopped by itself (clean) or had to be ended.
struct StopOutcome {
  bool is_clean = false;
  std::string note;  // why not clean; empty if clean
};
Result<StopOutcome> StopGuest(const RunningGuest& guest, std::chrono::milliseconds grace);

// One call to the agent (guest or host mode), over a connection of its own: the channel to a guest
// takes one client at a time, so callers come and go. Errors: kNotRunning, kTimedOut, kRefused with
// the agent's message, kProtocol, kDeviceGone.
Result<Json> CallAgent(const std::string& agent_socket, const std::string& method,
                       const Json& params, std::chrono::milliseconds timeout);

// Sends an NFS NULL call (program 100003, the given version) and checks the answer. QEMU's user
// network accepts connections before the guest listens, so only an answer proves anything.
// Errors: kTimedOut, kNotRunning, kProtocol.
Result<void> ProbeNfs(const std::string& address, std::uint16_t port, std::uint32_t version,
                      std::chrono::milliseconds timeout);

// Waits until the agent's health says "ready" and, if nfs_port is not 0, NFS answers there.
// Returns the last health. Errors: kTimedOut; kRefused with the agent's error when it says
// "failed"; kDeviceGone when `is_alive` (may be empty) says no.
struct ReadinessOptions {
  std::string agent_socket;
  std::string nfs_address = "127.0.0.1";
  std::uint16_t nfs_port = 0;
  std::chrono::milliseconds deadline{60'000};
  std::function<bool()> is_alive;
};
Result<Json> WaitUntilReady(const ReadinessOptions& options);

// Which accelerator to use, and why in one line. With kAuto: boots the guest's own kernel under KVM
// and waits a short time for its first line on the console; the verdict is remembered per host
// kernel and QEMU in cache_dir/accelerator.json, TCG for a day only. Never an error for kAuto: the
// answer is then TCG.
struct AcceleratorVerdict {
  Accelerator accelerator = Accelerator::kTcg;
  std::string reason;
  bool is_remembered = false;
};
struct ProbeOptions {
  std::string qemu_program = "qemu-system-x86_64";
  std::string image_dir;
  std::string cache_dir;
  std::string kvm_device = "/dev/kvm";
  std::chrono::milliseconds deadline{4'000};
  bool ignore_remembered = false;  // `filer doctor --probe`
};
Result<AcceleratorVerdict> ProbeAccelerator(const ProbeOptions& options);

}  // namespace filer::guest
