// engine_files.h: our file system, called in this process. Blocking; one thread mounts and
// unmounts.
#pragma once

#include <memory>

#include "fsal/engine/engine.h"
#include "workloads/bench/engine/file_system.h"

namespace filer::bench {

class EngineFiles : public FileSystem {
 public:
  // So that sequential and random reads of the measured file come from the volume.
  static engine::MountOptions DefaultOptions();
  // Makes a file system on `device`, which must outlive this, and mounts it. Errors: those of
  // Format and Mount.
  static Result<std::unique_ptr<EngineFiles>> Make(engine::BlockDevice& device);

  // Nodes stay valid. Nothing else may be running.
  virtual Result<void> Remount(const engine::MountOptions& options) = 0;
  // As Remount after kill -9: nothing is written at the end; returns what the mount took.
  virtual Result<double> RemountKilled(const engine::MountOptions& options) = 0;
  virtual Result<void> Unmount() = 0;
  virtual engine::EngineCounters Counters() const = 0;
};

}  // namespace filer::bench
