#include "fsal/engine/fs/background.h"

#include "base/log.h"

namespace filer::engine {
namespace {
constexpr std::size_t kWorkersMax = 8;
constexpr std::int64_t kDirtyAgeNs = 3'000'000'000;
constexpr int kReclaimStepsPerRound = 64;
}  // namespace

void Background::Start() {
  if (volume_.options.read_only) return;
  thread_ = std::thread([this] { RunDue(); });
}

void Background::Stop() {
  {
    const std::lock_guard lock(jobs_mutex_);
    are_jobs_closed_ = true;
  }
  jobs_wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
  {
    const std::lock_guard lock(volume_.background_mutex);
    must_stop_ = true;
  }
  volume_.background_wake.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Background::HasQueuedReclaims() const {
  if (!has_failed_to_reclaim_ && volume_.store->AllTrees().HasReclaims()) return true;
  for (FileSystem* const system : systems_.Live()) {
    if (system->data.HasQueuedReclaims()) return true;
  }
  return false;
}

// A part at a time: the rest waits for the next round, behind what else is due.
void Background::ReclaimTrees() {
  if (has_failed_to_reclaim_) return;
  for (int step = 0; step < kReclaimStepsPerRound; ++step) {
    const auto has_more = systems_.ReclaimSome();
    if (has_more.has_value() && has_more.value()) continue;
    if (!has_more.has_value()) {
      FILER_LOG_ERROR(
          "the space of deleted snapshots or filesets is not given back: {}; the next "
          "mount tries again",
          has_more.error().message());
      has_failed_to_reclaim_ = true;
    }
    return;
  }
}

void Background::RunDue() {
  const auto interval = std::chrono::milliseconds(volume_.options.checkpoint_interval_ms);
  Lsn checkpointed = volume_.store->LastLsn();
  std::unique_lock lock(volume_.background_mutex);
  while (!must_stop_) {
    if (!volume_.has_background_work.load() && !HasQueuedReclaims()) {
      volume_.background_wake.wait(
          lock, [&] { return must_stop_ || volume_.has_background_work.load(); });
    }
    if (!HasQueuedReclaims()) {  // the first change after a rest is no more urgent than others
      volume_.background_wake.wait_for(lock, interval, [&] { return must_stop_; });
    }
    if (must_stop_) return;
    volume_.has_background_work.store(false);  // whatever happens from here on sets it again
    lock.unlock();
    for (FileSystem* const system : systems_.Live()) {
      system->data.ReclaimQueued();
      system->data.WriteBackOld(kDirtyAgeNs);
    }
    ReclaimTrees();
    const Lsn last = volume_.store->LastLsn();
    if (last != checkpointed) {
      auto done = volume_.Sync(last);  // lets blocks go that were freed meanwhile
      if (done.has_value()) done = volume_.store->Checkpoint();
      if (!done.has_value()) FILER_LOG_ERROR("checkpoint failed: {}", done.error().message());
      checkpointed = last;
    }
    lock.lock();
    for (FileSystem* const system : systems_.Live()) {
      if (system->volume.HasDirtyNodes()) volume_.has_background_work.store(true);
    }
  }
}

void Background::Post(std::function<void()> job) {
  {
    const std::lock_guard lock(jobs_mutex_);
    if (!are_jobs_closed_) {
      jobs_.push_back(std::move(job));
      job = nullptr;
      if (jobs_.size() > idle_workers_ && workers_.size() < kWorkersMax) {
        workers_.emplace_back([this] { RunJobs(); });
      }
    }
  }
  if (job) {
    job();  // shutting down: nobody else would
    return;
  }
  jobs_wake_.notify_one();
}

void Background::RunJobs() {
  std::unique_lock lock(jobs_mutex_);
  while (true) {
    ++idle_workers_;
    jobs_wake_.wait(lock, [&] { return are_jobs_closed_ || !jobs_.empty(); });
    --idle_workers_;
    if (jobs_.empty()) return;
    const std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    lock.lock();
  }
}

}  // namespace filer::engine
