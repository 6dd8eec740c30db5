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
  int cpu = -1;
  std::uint32_t idle_us = 300;
  std::string confine = "on";  // on, off: confine.h
  std::string log_level = "info";
};

// "name=N,backend=file,path=FILE,size=BYTES,socket=PATH,readonly=on,iops=N,bps=BYTES". Numbers may
// end in K, M, G or T. iops and bps: per second; 0, the default: no limit. Errors: kUsage, the
// message naming the word that is wrong.
Result<VolumeSpec> ParseVolumeSpec(std::string_view text);

}  // namespace filer::bridge
