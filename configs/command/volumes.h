// volumes.h: volume files of the host: making them, and looking at one before it is served, so that
// a wrong file is one clear line and is never touched.
#pragma once

#include <cstdint>
#include <string>

#include "base/json_rpc.h"
#include "base/result.h"
#include "configs/command/commands.h"
#include "configs/command/home.h"
#include "configs/config.h"

namespace filer::command {

// What `list` and `show` say of one volume.
struct VolumeInfo {
  std::string name;
  std::string path;
  std::string state;  // "ok", "missing", "in use", or what is wrong with it
  std::uint64_t size_bytes = 0;
  std::uint64_t allocated_bytes = 0;  // on the host's disk
  std::string uuid;
  std::string label;  // the name that was given at creation
};

Json ToJson(const VolumeInfo& info);

// The configured volume of that name, with what the command line overrides. A volume that is not
// configured needs a --path. Errors: kUsage, kConfigInvalid.
Result<configs::VolumeConfig> FindVolume(const Home& home, const VolumeOptions& options);

// Makes a sparse file and an empty file system on it. `volume.path` is there when that is done and
// durable, or not at all, whenever we are killed. Errors: kExists (never overwritten), kBusy
// (somebody else is making it), kTooSmall, kNoSpace (the host's disk has not even room for the file
// system's own structures), kSystem.
Result<void> CreateVolume(const configs::VolumeConfig& volume);

// Where a volume of that path is made. What is left there is nobody's, unless it is locked.
std::string UnfinishedPath(const std::string& path);

// Only its file: name, path and sizes. Also of a volume in use. Errors: kNotFound, kSystem.
Result<VolumeInfo> MeasureVolume(const configs::VolumeConfig& volume);
// Errors, each with a message that names the file and the remedy: kNotFound, kTooSmall, kNotOurs,
// kNewerVersion, kBusy, kCorrupt.
Result<VolumeInfo> InspectVolume(const configs::VolumeConfig& volume);

}  // namespace filer::command
