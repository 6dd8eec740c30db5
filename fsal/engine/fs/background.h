// background.h: the engine's own threads. One does what is due (write-back of old data,
// checkpoints, freeing big files); a few run what a door asked for without waiting. All sleep on
// condition variables: an idle engine costs nothing.
#pragma once

#include <deque>
#include <functional>
#include <thread>

#include "fsal/engine/fs/file_systems.h"
#include "fsal/engine/fs/volume.h"

namespace filer::engine {

class Background {
 public:
  Background(SharedVolume& volume, FileSystems& systems) : volume_(volume), systems_(systems) {}
  ~Background() { Stop(); }

  void Start();
  // Runs what was posted to its end, then joins. Safe to call twice.
  void Stop();
  // Runs `job` soon on one of the workers.
  void Post(std::function<void()> job);

 private:
  void RunDue();
  void ReclaimTrees();
  void RunJobs();

  bool HasQueuedReclaims() const;

  SharedVolume& volume_;
  FileSystems& systems_;
  std::thread thread_;
  bool has_failed_to_reclaim_ = false;  // thread_'s
  bool must_stop_ = false;              // guarded by volume_.background_mutex

  std::mutex jobs_mutex_;
  std::condition_variable jobs_wake_;
  std::deque<std::function<void()>> jobs_;
  bool are_jobs_closed_ = false;
  std::size_t idle_workers_ = 0;
  std::vector<std::thread> workers_;
};

}  // namespace filer::engine
