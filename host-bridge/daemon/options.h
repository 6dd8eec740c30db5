// options.h: the daemon's command line, checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "host-bridge/target/rate_limit.h"

namespace filer::bridge {

struct VolumeSpec {
  std::string name;
  std::string backend = "file";  // file, memory, null
  std::string path;
  std::string socket;
  std::uint64_t size_bytes = 0;
  bool is_read_only = false;
  VolumeLimits limits;
};

struct DaemonOptions {
  std::string control_socket;
  std::vector<VolumeSpec> volumes;
  std::uint32_t queue_count = 4;
  std::uint32_t poller_count = 0;  // 0: one per core of `cpus`, or one
  std::vector<int> cpus;           // of the pollers, one each; empty: anywhere
  std::uint32_t idle_us = 300;
  std::string confine = "on";  // on, off: confine.h
  std::string log_level = "info";
};

// "name=N,backend=file,path=FILE,size=BYTES,socket=PATH,readonly=on,iops=N,bps=BYTES". Numbers may
// end in K, M, G or T. iops and bps: per second; 0, the default: no limit. Errors: kUsage, the
// message naming the word that is wrong.
Result<VolumeSpec> ParseVolumeSpec(std::string_view text);

// "1" or "1,3": cores, each once. Errors: kUsage, likewise.
Result<std::vector<int>> ParseCpuList(std::string_view text);

// How many pollers the options ask for. Errors: kUsage, when not every poller has a core, or a core
// no poller.
Result<std::uint32_t> PollerCount(const DaemonOptions& options);

}  // namespace filer::bridge
