// initiator.h: the driver end of the bridge: a polled virtio-blk driver (VIRTIO 1.2) over a
// vhost-user socket (host mode) or a PCI function (inside the guest: UIO or VFIO), on DPDK's EAL
// for memory.
//
// - InitEal is called once per process, before anything else here, from any thread.
// - A Disk owns its queues. A Queue is used by one thread at a time (the engine's bridge device
// holds a lock per queue).
// - Buffers handed to a queue must lie in the Disk's DMA arena (Arena()).
// - Completion by polling only; the device is told that it need not interrupt.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace filer::bridge {

struct EalOptions {
  std::uint64_t memory_bytes = 512ULL << 20;  // DMA-able arena of the process, allocated at once
  bool use_huge_pages = false;  // required by the pci transport over UIO; memfd otherwise
  std::string process_name = "nearmetal";
};
// Starts DPDK's EAL without probing any PCI device of the machine. Second call: kExists. Errors:
// kNoMemory, kSystem with what to do.
Result<void> InitEal(const EalOptions& options);

// Of the device's queues (VIRTIO 1.2, 2.7 and 2.8).
enum class RingFormat : std::uint8_t { kSplit, kPacked };

struct DiskOptions {
  RingFormat ring = RingFormat::kSplit;  // the faster one (workloads/results/bridge.md)
  std::uint32_t queue_count = 1;         // at most what the device has
  std::uint32_t queue_size = 256;        // power of two, at most what the device allows
  std::uint64_t arena_bytes = 256ULL << 20;
  int connect_timeout_ms = 5000;      // vhost-user only
  int reconnect_timeout_ms = 60'000;  // vhost-user only: how long requests wait for a bridge that
                                      // went away before kDeviceGone
};

struct DiskInfo {
  std::uint64_t size_bytes = 0;
  std::uint32_t logical_block_bytes = 512;
  bool is_read_only = false;
  bool has_flush = false;  // VIRTIO_BLK_F_FLUSH: writes are volatile until a flush
  bool can_discard = false;
  bool can_write_zeroes = false;
  std::uint64_t discard_bytes_max = 0;       // per request
  std::uint64_t write_zeroes_bytes_max = 0;  // per request
  std::uint32_t segments_max = 1;            // per request
  std::uint32_t queue_count = 0;
  std::uint32_t queue_size = 0;
  std::string transport;  // "vhost_user", "pci/uio", "pci/vfio"
};

// kGetId: the disk's serial into one segment of 20 bytes.
enum class DiskOperation : std::uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes, kGetId };

struct DiskRequest {
  DiskOperation operation;
  std::uint64_t offset_bytes;       // multiple of 512
  std::uint64_t length_bytes;       // kDiscard and kWriteZeroes; else the sum of segments
  std::span<const iovec> segments;  // in the arena; read before Submit returns
  std::uint64_t cookie;             // the caller's
};

struct DiskCompletion {
  std::uint64_t cookie;
  Errc status;  // valid if !is_ok: kIo, kNotSupported, kDeviceGone
  bool is_ok;
};

struct DiskCounters {
  std::uint64_t requests = 0, read_bytes = 0, write_bytes = 0;
  std::uint64_t doorbells = 0;   // notifications that this driver sent
  std::uint64_t interrupts = 0;  // notifications that it took
};

class DiskQueue {
 public:
  virtual ~DiskQueue() = default;
  // Writes descriptors, does not publish. Errors: kWouldBlock (ring full), kBadAddress (not in the
  // arena), kDeviceGone.
  virtual Result<void> Prepare(const DiskRequest& request) = 0;
  // Publishes all prepared requests (one release store) and rings the doorbell only if the device
  // asked for it.
  virtual void Publish() = 0;
  // Completed requests. A device that breaks the protocol ends the disk: all in flight complete
  // with kDeviceGone.
  virtual std::size_t Poll(std::span<DiskCompletion> completions) = 0;
  virtual std::uint32_t InFlight() const = 0;
};

class Disk {
 public:
  virtual ~Disk() = default;  // resets the device; requests in flight are abandoned
  // size_bytes grows when the volume does. Any thread.
  virtual DiskInfo Info() const = 0;
  virtual std::span<std::byte> Arena() = 0;
  virtual DiskQueue& Queue(std::uint32_t index) = 0;
  virtual DiskCounters Counters() const = 0;
  // False once the other end is gone (socket closed, device needs reset). Reconnects by itself
  // where it can: in-flight requests are submitted again and nothing is lost.
  virtual bool IsConnected() const = 0;
};

// Attaches to a vhost-user-blk socket as its front end. Errors: kNotRunning (nobody listens),
// kProtocol, kTimedOut, kNotSupported.
Result<std::unique_ptr<Disk>> AttachVhostUser(const std::string& socket_path,
                                              const DiskOptions& options);

// Takes over the virtio-blk function at `address` ("0000:00:05.0"), or the first whose serial is
// "serial=NAME". Finds out whether it is bound to vfio-pci (vIOMMU) or can be mapped through sysfs
// (UIO). Errors: kNotFound, kBusy (a kernel driver holds it), kNotSupported.
Result<std::unique_ptr<Disk>> AttachPci(const std::string& address, const DiskOptions& options);

}  // namespace filer::bridge
